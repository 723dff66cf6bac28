/* os_int.h - what the files of src/os share: keeping errno for os_why(). */
#ifndef NB_OS_OS_INT_H
#define NB_OS_OS_INT_H

/* Remember e (an errno) for os_why and turn it into NB_E_*. */
int os_fail(int e);

#endif
