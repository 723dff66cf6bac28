/* stream.h - one connected descriptor, with or without TLS, driving one sans-IO protocol: bytes read
 * go to the protocol's input, its output is pulled when the socket takes more, its deadline is a timer.
 * A protocol that produces output outside its callbacks wakes the stream. Everything runs in the
 * loop's thread. Limits: a handshake time, and a time without progress for a peer that does not read.
 * Tests: tests/unit/run_stream_test.c, tests/net/test_listener.py */
#ifndef NB_RUN_STREAM_H
#define NB_RUN_STREAM_H

#include "base/addr.h"
#include "base/time.h"
#include "crypto/tls.h"
#include "run/loop.h"

struct run_stream;

/* What speaks over a stream. p is what run_stream_attach was given. No callback may free the stream;
 * input, opened and turned may attach another protocol. */
struct run_proto {
	/* The transport is ready: at once, or when the TLS handshake is complete. May be NULL. */
	void (*opened)(void *p, struct run_stream *s, struct nb_time now);
	/* Bytes from the peer, all consumed. */
	void (*input)(void *p, struct nb_bytes in, struct nb_time now);
	/* False: leave bytes in the socket. NULL: always true. */
	bool (*wants_input)(void *p);
	/* Up to cap bytes for the peer, 0 for nothing now. May be NULL. */
	size_t (*output)(void *p, void *out, size_t cap, struct nb_time now);
	/* NULL, or when timer is due. */
	struct nb_time (*deadline)(void *p);
	void (*timer)(void *p, struct nb_time now);
	/* Close in good order once everything is sent. May be NULL. */
	bool (*done)(void *p);
	/* After output ran dry: the chance to attach another protocol; true when it did. May be NULL. */
	bool (*turned)(void *p, struct run_stream *s, struct nb_time now);
	/* The stream is over and its pointer dies: free p. why: one line, "" after an orderly end by us. */
	void (*closed)(void *p, const char *why, struct nb_time now);
};

struct run_stream_config {
	struct run_loop *loop;
	int fd;				/* connected, non-blocking; the stream owns it */
	struct nbc_tls *tls;		/* the stream owns it; NULL: plain */
	int64_t handshake_ns;		/* for TLS; 0: 10 s */
	int64_t stall_ns;		/* unsent bytes without progress; 0: 30 s */
};

/* A new stream with its protocol. Callbacks come from the loop, none from within this call.
 * Returns 0, or NB_E_NOMEM: fd and tls then stay the caller's. */
int run_stream_new(struct run_stream **out, const struct run_stream_config *cfg,
		   const struct run_proto *ops, void *p);
/* Replace the protocol; the old one's p is the caller's business, its closed does not come. */
void run_stream_attach(struct run_stream *s, const struct run_proto *ops, void *p);
/* The protocol goes without another one: unless run_stream_attach follows before the loop runs on, the stream
 * closes in good order. */
void run_stream_detach(struct run_stream *s);
/* The protocol has output, or an earlier deadline, or changed its mind about input. */
void run_stream_wake(struct run_stream *s);
/* Give up: closed(why) comes from the loop. */
void run_stream_abort(struct run_stream *s, const char *why);
/* Give up at once, closed(why) included; not from within a callback of this stream. */
void run_stream_close_now(struct run_stream *s, const char *why);
/* The same without closed. NULL is allowed. */
void run_stream_free(struct run_stream *s);

/* Take descriptor and TLS (NULL when plain) out and free the stream; no callback comes any more. Not from within a callback
 * of this stream. Returns 0, or NB_E_STATE when bytes are under way here: the stream then stays as it is. */
int run_stream_release(struct run_stream *s, int *fd, struct nbc_tls **tls);

/* Move to another loop, which may be another thread's. leave: in the old thread, not from within a callback of this
 * stream; nothing comes any more. join: in the new thread; hand only the pointer over in between. */
void run_stream_leave(struct run_stream *s);
void run_stream_join(struct run_stream *s, struct run_loop *loop);

/* Begin TLS on a stream that was plain so far. first: ciphertext read already. The stream owns tls. */
void run_stream_start_tls(struct run_stream *s, struct nbc_tls *tls, struct nb_bytes first);
/* NULL when plain. */
const struct nbc_tls *run_stream_tls(const struct run_stream *s);
int run_stream_fd(const struct run_stream *s);

#endif
