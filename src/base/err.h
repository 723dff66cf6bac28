/* err.h - the error numbers every nestbox function returns.
 * A function returns 0 or a negative NB_E_*; the band tells whose fault it is:
 *   -1..-19 caller (bad argument, bad state), -20..-39 peer (bytes we were sent),
 *   -40..-59 resource (memory, caps, system), -60..-79 internal.
 * errno never leaves src/os: it is turned into one of these there. */
#ifndef NB_BASE_ERR_H
#define NB_BASE_ERR_H

enum {
	NB_OK = 0,
	NB_E_ARG = -1,		/* argument out of range */
	NB_E_STATE = -2,	/* not possible in this state */
	NB_E_NOTFOUND = -3,	/* no such key, peer, record */
	NB_E_EXISTS = -4,	/* already there */
	NB_E_DENIED = -5,	/* not permitted */
	NB_E_CONFIG = -6,	/* configuration is wrong */

	NB_E_SHORT = -20,	/* input ends early */
	NB_E_BAD = -21,		/* malformed input */
	NB_E_AUTH = -22,	/* authentication failed */
	NB_E_REPLAY = -23,	/* seen before or too old */
	NB_E_PROTO = -24,	/* protocol violation */
	NB_E_CLOSED = -25,	/* the other side closed */
	NB_E_TIMEOUT = -26,	/* no answer in time */
	NB_E_UNSUPPORTED = -27, /* valid, but not supported here */

	NB_E_NOMEM = -40,	/* allocation failed */
	NB_E_FULL = -41,	/* a cap or quota is reached */
	NB_E_AGAIN = -42,	/* would block: try later */
	NB_E_SYS = -43,		/* system call failed */
	NB_E_IO = -44,		/* read or write failed */
	NB_E_PERM = -45,	/* the system refused permission */
	NB_E_BUSY = -46,	/* held by somebody else */

	NB_E_INTERNAL = -60,	/* a bug */
};

/* Short English words for an NB_E_* value ("malformed input"); never NULL. */
const char *nb_strerror(int err);

#endif
