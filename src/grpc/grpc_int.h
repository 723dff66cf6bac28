/* grpc_int.h - what the files of this folder share: the connection, the call, metadata sets and
 * nghttp2 header lists. Nothing outside src/grpc may include this. Tests: see grpc.h. */
#ifndef NB_GRPC_GRPC_INT_H
#define NB_GRPC_GRPC_INT_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/list.h"
#include "grpc/grpc.h"

#include <nghttp2/nghttp2.h>

/* Received header block as records in one buffer: be16 name length, be32 value length, name, value. */
struct grpc_meta_set {
	struct nb_buf text;
	size_t count;
	size_t bytes;		/* as SETTINGS_MAX_HEADER_LIST_SIZE counts */
	bool overflow;		/* over the cap or out of memory: content incomplete */
};

/* One queued message, 5-byte prefix included. */
struct grpc_tx {
	struct grpc_tx *next;
	size_t n, off;
	uint8_t data[];
};

enum grpc_role { GRPC_ROLE_SERVER, GRPC_ROLE_CLIENT, GRPC_ROLE_RAW };

#define GRPC_PREFIX 5

struct grpc_call {
	struct nb_list node;	/* conn->calls or conn->dead */
	struct nb_list want;	/* conn->wanting while on_writable is asked for */
	struct nb_list work;	/* conn->working while received bytes wait for delivery */
	struct grpc_conn *conn;
	int32_t id;
	enum grpc_role role;
	enum grpc_kind kind;
	const struct grpc_call_ops *ops;	/* NULL: the program does not know this call */
	void *user;
	void *service_arg;
	char *path;
	struct grpc_meta_set head, trail;
	struct nb_time deadline;
	struct nb_time request_by;	/* server: END_STREAM must have come; NEVER once it has */
	size_t max_message;

	/* receiving */
	uint8_t prefix[GRPC_PREFIX];
	unsigned prefix_n;
	size_t body_len;	/* of the message being read, once prefix_n is full */
	struct nb_buf body;	/* that message so far; raw: the request body */
	struct nb_buf held;	/* stream bytes that arrived while paused */
	bool single;		/* exactly one message allowed, delivered at the end */
	bool have_single;	/* it is complete in body */
	bool head_done;		/* first final header block is in */
	bool remote_end;	/* END_STREAM received */
	bool end_told;		/* and acted on */
	bool paused;
	bool discard;		/* drop what still arrives */

	/* sending */
	struct grpc_tx *tx_head, *tx_tail;
	size_t tx_bytes;
	struct grpc_meta_set trail_out;
	bool head_out;		/* initial headers submitted */
	bool finished;		/* half-close or finish asked for */
	bool trail_out_done;	/* trailers submitted */
	bool local_end;		/* END_STREAM went out */
	bool deferred;		/* nghttp2 waits for nghttp2_session_resume_data */
	bool raw_no_body;	/* HEAD */

	/* ending */
	int status;
	char *message;
	bool failed;		/* ended by our reset: status and message say why */
	bool gone;		/* nghttp2 has closed the stream; the end waits for a resume */
	uint64_t asked_round;	/* output round in which on_writable last ran */
	bool dead;
};

struct grpc_conn {
	nghttp2_session *session;
	bool server;
	struct grpc_config cfg;
	char *authority, *user_agent;
	struct nb_list calls, dead, wanting, working;
	size_t n_calls;
	size_t buffered;
	struct nb_time now;
	uint64_t round;			/* calls of output so far */
	int depth;			/* inside input, output, timer, lost, free */

	const uint8_t *out;		/* what nghttp2 gave and the driver has not taken */
	size_t out_n;

	/* Server: where input stands between frames (conn.c, feed_session). */
	struct {
		size_t skip;		/* bytes of payload, or of the preface, still to come */
		uint8_t head[9], n_head;
		uint8_t n_last;		/* bytes of a GOAWAY's last-stream-id still to come */
	} frame;

	bool ready, goaway_in, goaway_out;
	bool lost;			/* no more input; what is queued (a GOAWAY) may still go out */
	bool cut;			/* and not even that */
	char why[96];

	struct nb_time call_deadline;	/* lower bound over all calls */
	struct nb_time last_read;
	struct nb_time ping_at;		/* NEVER: no PING under way */
	struct nb_time handshake_by;
	struct nb_time idle_since;	/* NEVER: there are calls */
	struct nb_time goaway_final;	/* second GOAWAY of a graceful shutdown */
	struct nb_time cut_at;		/* end of the grace */
};

/* conn.c: count bytes that are held for the peer; false when a cap is reached. */
bool grpc_take(struct grpc_conn *c, size_t n);
void grpc_give(struct grpc_conn *c, size_t n);

/* meta.c */
void grpc_meta_init(struct grpc_meta_set *s, size_t max_bytes);
void grpc_meta_fini(struct grpc_meta_set *s);
/* Add one received entry ("-bin" values are decoded; undecodable ones are dropped). */
void grpc_meta_add(struct grpc_meta_set *s, struct nb_bytes name, struct nb_bytes value);
/* Add without decoding. Returns 0, NB_E_FULL or NB_E_NOMEM. */
int grpc_meta_put(struct grpc_meta_set *s, struct nb_bytes name, struct nb_bytes value);
bool grpc_meta_get(const struct grpc_meta_set *s, const char *name, struct nb_bytes *value);
/* Walk: *pos starts at 0. */
bool grpc_meta_each(const struct grpc_meta_set *s, size_t *pos, struct grpc_meta *entry);
/* A name and value a program may send: lower case, printable, not reserved. */
bool grpc_meta_valid(const struct grpc_meta *m);
/* grpc-timeout: up to 8 digits and a unit. *ns is capped at a century. Returns 0 or NB_E_BAD. */
int grpc_timeout_parse(int64_t *ns, struct nb_bytes text);
/* Text of at most 10 characters, rounded up. */
void grpc_timeout_format(char out[16], int64_t ns);
/* grpc-message. encode appends; decode always succeeds (bad escapes stay) and allocates, NULL without memory. */
void grpc_percent_encode(struct nb_buf *out, const char *text);
char *grpc_percent_decode(struct nb_bytes in);

/* Header list for nghttp2, in an arena. */
struct grpc_nv {
	struct nb_arena arena;
	nghttp2_nv *nv;
	size_t n, cap;
	int err;
};
void grpc_nv_init(struct grpc_nv *l, size_t cap);
void grpc_nv_fini(struct grpc_nv *l);
void grpc_nv_add(struct grpc_nv *l, const char *name, const char *value);
void grpc_nv_add_bytes(struct grpc_nv *l, struct nb_bytes name, struct nb_bytes value);
/* A metadata entry: "-bin" values are encoded. */
void grpc_nv_meta(struct grpc_nv *l, const struct grpc_meta *m);

/* status.c */
int grpc_status_of_http(int http);
int grpc_status_of_reset(uint32_t h2_error);

/* call.c */
struct grpc_call *grpc_call_new(struct grpc_conn *c, enum grpc_role role);
/* Unlink from connection and stream; freed when the outermost connection function returns. */
void grpc_call_bury(struct grpc_call *call);
void grpc_call_free(struct grpc_call *call);
/* Tell on_end (or raw end) and bury. message may be NULL. */
void grpc_call_end(struct grpc_call *call, int status, const char *message);
/* Something of ours is wrong with the call: server answers with this status, client resets and ends. */
void grpc_call_fail(struct grpc_call *call, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void grpc_call_wake(struct grpc_call *call);
ssize_t grpc_call_read(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length,
		       uint32_t *flags, nghttp2_data_source *source, void *user);

/* recv.c */
/* Stream bytes; takes care of the receive windows. */
void grpc_recv_data(struct grpc_call *call, struct nb_bytes in);
/* END_STREAM was seen: delivers what waits and the end itself, unless paused. */
void grpc_recv_end(struct grpc_call *call);
/* After resume. */
void grpc_recv_work(struct grpc_call *call);

/* server.c */
/* From now on the request has its time to arrive. */
void grpc_server_hurry(struct grpc_call *call);
void grpc_server_headers(struct grpc_call *call);
void grpc_server_end(struct grpc_call *call);
/* client.c */
void grpc_client_headers(struct grpc_call *call, bool end);
void grpc_client_end(struct grpc_call *call);
/* raw.c */
void grpc_raw_headers(struct grpc_call *call);
void grpc_raw_data(struct grpc_call *call, struct nb_bytes in);
void grpc_raw_end(struct grpc_call *call);

#endif
