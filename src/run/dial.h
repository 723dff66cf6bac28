/* dial.h - an outgoing connection: name, addresses in turn, TCP, TLS. What comes out is an open stream
 * or one line of text that says why not. Tests: tests/unit/run_dial_test.c */
#ifndef NB_RUN_DIAL_H
#define NB_RUN_DIAL_H

#include "os/socket.h"
#include "run/resolve.h"
#include "run/stream.h"

struct run_dial;

struct run_dial_config {
	struct run_loop *loop;
	struct run_resolver *resolver;
	const char *host;		/* name or literal, no brackets; copied */
	struct nb_addr addr;		/* connect here, whatever host says; family 0: look host up */
	uint16_t port;
	struct nbc_trust *trust;	/* TLS when set; a reference is kept while dialling */
	const char *alpn[NBC_TLS_ALPN_MAX]; /* static strings; the server must choose one when given */
	struct os_sockopt sockopt;	/* fwmark and so on; strings are borrowed */
	int64_t timeout_ns;		/* for everything; 0: 30 s */
	/* Comes once, from the loop. s: open, still without a protocol: attach one (run_stream_attach) before
	 * returning, or it is closed. Or s is NULL, err an NB_E_* and why a line. The dial is gone afterwards. */
	void (*done)(void *ctx, struct run_stream *s, int err, const char *why);
	void *ctx;
};

/* Returns 0 or NB_E_NOMEM, NB_E_SYS. */
int run_dial_start(struct run_dial **out, const struct run_dial_config *cfg);
/* done will not come. NULL is allowed; not after done came. */
void run_dial_cancel(struct run_dial *d);

#endif
