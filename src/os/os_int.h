/* os_int.h - what the files of src/os share: keeping errno for os_why(), control messages. */
#ifndef NB_OS_OS_INT_H
#define NB_OS_OS_INT_H

#include <stddef.h>

/* Remember e (an errno) for os_why and turn it into NB_E_*. */
int os_fail(int e);

struct msghdr;
/* Append a control message of n bytes to m's, which are or will be in room: aligned, and large enough for all. */
void os_put_control(struct msghdr *m, void *room, int level, int type, const void *data, size_t n);

#endif
