/* version.h - who we are and whom we are compatible with. */
#ifndef NB_BASE_VERSION_H
#define NB_BASE_VERSION_H

#include <stdint.h>

/* The NetBird version we are compatible with: sent on the wire, shown by `status` and by
 * `netbird version`. */
#define NB_COMPAT "0.77.1"

/* Our own version, shown by `nestbox --version` only. */
extern const char nb_version[];
/* Seconds since 1970 of the commit (or SOURCE_DATE_EPOCH) this was built from. No honest clock is
 * earlier, so it is the floor for certificate checks on machines without one. */
extern const int64_t nb_build_epoch;

#endif
