/* clock.h - the two clocks. Only src/run and the applets read them; cores get the time as an
 * argument. */
#ifndef NB_OS_CLOCK_H
#define NB_OS_CLOCK_H

#include "base/time.h"

/* CLOCK_BOOTTIME: monotonic, counts while the machine sleeps. */
struct nb_time os_now(void);
/* Wall-clock time; may jump. For tokens, certificates, TAI64N and output only. */
struct nb_wall os_wall(void);

#endif
