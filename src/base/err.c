/* err.c - see err.h */
#include "base/err.h"

const char *nb_strerror(int err)
{
	switch (err) {
	case NB_OK: return "no error";
	case NB_E_ARG: return "argument out of range";
	case NB_E_STATE: return "not possible in this state";
	case NB_E_NOTFOUND: return "not found";
	case NB_E_EXISTS: return "already exists";
	case NB_E_DENIED: return "not permitted";
	case NB_E_CONFIG: return "configuration is wrong";
	case NB_E_SHORT: return "input ends early";
	case NB_E_BAD: return "malformed input";
	case NB_E_AUTH: return "authentication failed";
	case NB_E_REPLAY: return "replayed or too old";
	case NB_E_PROTO: return "protocol violation";
	case NB_E_CLOSED: return "closed by the other side";
	case NB_E_TIMEOUT: return "no answer in time";
	case NB_E_UNSUPPORTED: return "not supported";
	case NB_E_NOMEM: return "out of memory";
	case NB_E_FULL: return "limit reached";
	case NB_E_AGAIN: return "not ready yet";
	case NB_E_SYS: return "system call failed";
	case NB_E_IO: return "input or output failed";
	case NB_E_PERM: return "the system refused permission";
	case NB_E_BUSY: return "in use by another process";
	case NB_E_INTERNAL: return "internal error";
	}
	return "unknown error";
}
