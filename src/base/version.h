/* version.h - the NetBird version we are compatible with: sent on the wire and shown by
 * `status` and `netbird version`. Our own version comes from the Makefile (NB_VERSION). */
#ifndef NB_BASE_VERSION_H
#define NB_BASE_VERSION_H

#define NB_COMPAT "0.77.1"

#endif
