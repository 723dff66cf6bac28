/* clock.h - the two clocks. Only src/run and the applets read them; cores get the time as an
 * argument. */
#ifndef NB_OS_CLOCK_H
#define NB_OS_CLOCK_H

#include <stdbool.h>

#include "base/time.h"

/* CLOCK_BOOTTIME: monotonic, counts while the machine sleeps. */
struct nb_time os_now(void);
/* Wall-clock time; may jump. For tokens, certificates, TAI64N and output only. */
struct nb_wall os_wall(void);
/* How long the machine has slept since it was started: a larger value than before means it did again. */
int64_t os_suspended(void);
/* A descriptor that becomes readable when the wall clock is set, which waking from sleep does, too; nonblocking, the caller
 * closes it. Negative NB_E_SYS on failure. */
int os_clock_watch(void);
/* It is readable: was the clock set? The watch goes on. */
bool os_clock_was_set(int fd);

#endif
