/* grpc.h - gRPC over one HTTP/2 connection, both roles, without I/O (nghttp2 does HTTP/2).
 * The driver feeds bytes and time in and pulls bytes and deadlines out; programs see calls through
 * callbacks. What must stay out: sockets, TLS, clocks, names, retries, protobuf.
 * Specs: gRPC "PROTOCOL-HTTP2", management-protocol.md section 1. Tests: tests/unit/grpc_*_test.c,
 * tests/fuzz/grpc_fuzz.c, tests/net/test_grpc_interop.py.
 *
 * Contract
 * - One connection belongs to one thread. Any grpc_call_* function may be called at any time by that
 *   thread: inside a callback of this connection, of another one, or outside all of them.
 * - Callbacks of a connection run only inside its grpc_conn_input, _output, _timer and _free.
 *   on_end comes exactly once per call, is the last one, and the call pointer dies when it returns;
 *   after grpc_call_cancel there is none at all and the pointer is dead at once.
 * - No callback may call grpc_conn_free, _input, _output or _timer.
 * - Driver loop: after every input, timer or wake, pull output until it returns 0 or the socket is
 *   full, read grpc_conn_deadline again, and close the transport once grpc_conn_done.
 * - Slices given to callbacks live until the callback returns. Slices given to functions are copied.
 * - Errors: NB_E_* from functions; what a call ended with is a grpc_result. */
#ifndef NB_GRPC_GRPC_H
#define NB_GRPC_GRPC_H

#include "base/addr.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/time.h"

struct grpc_conn;
struct grpc_call;

/* gRPC status codes. */
enum grpc_status {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_ALREADY_EXISTS = 6,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_ABORTED = 10,
	GRPC_OUT_OF_RANGE = 11,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_DATA_LOSS = 15,
	GRPC_UNAUTHENTICATED = 16,
};

/* "PermissionDenied" and so on, Go's spelling; "Code(N)" texts become "Unknown". */
const char *grpc_status_name(int status);

enum grpc_kind { GRPC_UNARY, GRPC_SERVER_STREAM, GRPC_CLIENT_STREAM, GRPC_BIDI };

/* One metadata entry. Names are lower case. Values of names ending in "-bin" are raw bytes here and
 * base64 on the wire. */
struct grpc_meta {
	struct nb_bytes name;
	struct nb_bytes value;
};
#define GRPC_META(n, v) ((struct grpc_meta){ nb_bytes_str(n), nb_bytes_str(v) })

/* How a call ended. message is never NULL; both stay valid until the callback returns. */
struct grpc_result {
	int status;		/* enum grpc_status, or a number the peer invented */
	const char *message;	/* percent-decoded, NUL-terminated, for people */
};

/* Callbacks of one call; any may be NULL. user is what grpc_call_set_user set (server: NULL at first). */
struct grpc_call_ops {
	/* Server: request headers are in. Set the user pointer, send early headers, refuse. For UNARY and
	 * SERVER_STREAM a method without per-call state needs no on_start. */
	void (*on_start)(struct grpc_call *call, void *user);
	/* Client: the server's initial headers (gRPC ones) are in; read grpc_call_metadata. Not called when the
	 * answer is trailers only. */
	void (*on_headers)(struct grpc_call *call, void *user);
	/* A complete message. Server UNARY and SERVER_STREAM: exactly once, after the client half-closed
	 * (zero or two messages are refused before). Client UNARY and CLIENT_STREAM: once, before on_end. */
	void (*on_message)(struct grpc_call *call, void *user, struct nb_bytes message);
	/* Server: the client half-closed; CLIENT_STREAM and BIDI only. */
	void (*on_half_close)(struct grpc_call *call, void *user);
	/* Asked for with grpc_call_want_write: the stream can take a message now. */
	void (*on_writable)(struct grpc_call *call, void *user);
	/* The call is over: finished and sent, failed, cancelled by the peer, past its deadline, connection
	 * gone. Client: the status received. Server: the status sent, or CANCELLED when the peer gave up.
	 * grpc_call_trailer still works. */
	void (*on_end)(struct grpc_call *call, void *user, const struct grpc_result *result);
};

/* One row of a server's method table. */
struct grpc_method {
	const char *path;	/* "/package.Service/Method" */
	enum grpc_kind kind;
	const struct grpc_call_ops *ops;
	size_t max_message;	/* bytes per request message; 0: the connection's limit */
};

/* A service: a constant table and the program's own pointer (grpc_call_service_arg). */
struct grpc_service {
	const struct grpc_method *methods;
	size_t n_methods;
	void *arg;
};

/* A request over HTTP/2 that is not gRPC, complete with its body. */
struct grpc_raw_request {
	struct nb_bytes method, scheme, authority, path;	/* path with its query */
	const struct grpc_meta *headers;	/* without pseudo headers */
	size_t n_headers;
	struct nb_bytes body;
};

/* Who answers them. request must lead to one grpc_raw_respond, now or later; end tells that the
 * stream is over (answered or gone) and the call pointer dies. Without a handler: 404. */
struct grpc_raw_handler {
	void (*request)(void *arg, struct grpc_call *call, const struct grpc_raw_request *req);
	void (*end)(void *arg, struct grpc_call *call, void *user);	/* may be NULL */
	void *arg;
	size_t max_body;	/* bytes; beyond: 413 without calling request */
};

/* Callbacks of a connection; any may be NULL. */
struct grpc_conn_ops {
	/* Output or an earlier deadline appeared outside this connection's own input/output/timer (a call of it
	 * was used from elsewhere): the driver must pull output soon. May come many times. */
	void (*on_wake)(struct grpc_conn *c, void *user);
	/* The peer's SETTINGS arrived: HTTP/2 is up (a client dial is complete). */
	void (*on_ready)(struct grpc_conn *c, void *user);
	/* The peer sent GOAWAY: new client calls fail with NB_E_CLOSED, running ones go on. */
	void (*on_goaway)(struct grpc_conn *c, void *user);
};

/* What many connections of one thread may hold together, so that many peers cannot do what one may
 * not. Set max, zero the rest. */
struct grpc_budget {
	size_t max, used;	/* bytes */
};

/* Settings of a connection; grpc_config_default fills in everything but the pointers. Times in
 * nanoseconds, 0 = off. */
struct grpc_config {
	const struct grpc_conn_ops *ops;
	void *user;
	/* server */
	const struct grpc_service *services;	/* borrowed while the connection lives */
	size_t n_services;
	const struct grpc_raw_handler *raw;	/* borrowed; may be NULL */
	struct nb_endpoint peer;		/* for grpc_call_peer */
	/* client */
	const char *authority;			/* copied; "host:port" */
	const char *user_agent;			/* copied; NULL: "nestbox" */
	bool tls;				/* :scheme https */
	/* both */
	uint32_t max_streams;		/* calls the peer may have open (server); default 250 */
	size_t max_message;		/* bytes of a received message; default 4 MiB (stock's server) */
	size_t max_header_bytes;	/* names and values plus 32 each, one block; default 16 KiB */
	size_t max_send_queue;		/* unsent bytes queued per call before grpc_call_send says NB_E_FULL;
					 * one message always fits an empty queue; default 1 MiB */
	size_t max_buffered;		/* received and unsent bytes of the whole connection; default 24 MiB */
	struct grpc_budget *budget;	/* and of all that share this one; borrowed, may be NULL */
	uint32_t window;		/* receive window per stream; the connection's is 4 times that; default 256 KiB */
	int64_t keepalive_ns;		/* PING after this long without reads; default 0 */
	int64_t keepalive_timeout_ns;	/* no bytes at all this long after the PING: dead; default 10 s */
	bool keepalive_idle;		/* PING also without calls */
	int64_t request_ns;		/* server: a raw request, or one of a single message, must have
					 * arrived within; default 60 s */
	int64_t idle_ns;		/* server: no call this long: graceful close; default 0 */
	int64_t handshake_ns;		/* the peer's preface and SETTINGS must come within; default 10 s */
};

void grpc_config_default(struct grpc_config *cfg);

/* A new connection of either role; the preface and SETTINGS are ready to be pulled. Returns 0,
 * NB_E_NOMEM or NB_E_ARG. */
int grpc_server_new(struct grpc_conn **out, const struct grpc_config *cfg, struct nb_time now);
int grpc_client_new(struct grpc_conn **out, const struct grpc_config *cfg, struct nb_time now);
/* End every call (on_end, UNAVAILABLE) and free. The transport is the driver's. NULL is allowed. */
void grpc_conn_free(struct grpc_conn *c);

/* Bytes from the peer, all consumed. Returns 0, or the error that ended the connection: pull what
 * output still gives (a GOAWAY) and close.. */
int grpc_conn_input(struct grpc_conn *c, struct nb_bytes in, struct nb_time now);
/* Up to cap bytes for the peer into out; producers are asked for messages in here (on_writable).
 * Returns bytes written, 0 when there is nothing to send now. */
size_t grpc_conn_output(struct grpc_conn *c, void *out, size_t cap, struct nb_time now);
/* When grpc_conn_timer is due next; NB_TIME_NEVER for never. */
struct nb_time grpc_conn_deadline(const struct grpc_conn *c);
/* Run what is due: deadlines, keepalive, idle and shutdown timers. */
void grpc_conn_timer(struct grpc_conn *c, struct nb_time now);
/* The transport is gone or must be given up: every call ends now (UNAVAILABLE, why). why: short text,
 * copied. */
void grpc_conn_lost(struct grpc_conn *c, const char *why, struct nb_time now);
/* Graceful end: GOAWAY, no new calls, running ones may finish within grace_ns, then everything is cut.
 * A client's calls go on as well. May be called again with a shorter grace. */
void grpc_conn_shutdown(struct grpc_conn *c, int64_t grace_ns, struct nb_time now);
/* Nothing more to read or write: close the transport (after the output was pulled). */
bool grpc_conn_done(const struct grpc_conn *c);
/* The peer's SETTINGS have arrived. */
bool grpc_conn_ready(const struct grpc_conn *c);
/* Client: a call started now could still go out (no GOAWAY either way, not lost). */
bool grpc_conn_usable(const struct grpc_conn *c);
/* Calls (raw ones too) that have not ended. */
size_t grpc_conn_calls(const struct grpc_conn *c);
/* Why the connection ended, for a log line; "" while it lives. */
const char *grpc_conn_why(const struct grpc_conn *c);
void *grpc_conn_user(const struct grpc_conn *c);
/* The time of the driver's last call; inside a callback, the present. */
struct nb_time grpc_conn_now(const struct grpc_conn *c);

/* What a client call starts with. Everything is copied except ops. */
struct grpc_request {
	const char *path;
	enum grpc_kind kind;
	const struct grpc_call_ops *ops;
	void *user;
	const struct grpc_meta *meta;
	size_t n_meta;
	struct nb_time deadline;	/* NB_TIME_NEVER for none; sent as grpc-timeout */
	size_t max_message;		/* of the answer; 0: the connection's limit */
};

/* Client: start a call; headers go out with the next output. Beyond the server's stream limit it
 * waits its turn (the deadline still counts). Returns 0, NB_E_CLOSED (connection unusable), NB_E_NOMEM,
 * NB_E_ARG. */
int grpc_call_start(struct grpc_call **out, struct grpc_conn *c, const struct grpc_request *req,
		    struct nb_time now);
/* Client: start a unary call with its only message and the half-close. */
int grpc_call_unary(struct grpc_call **out, struct grpc_conn *c, const struct grpc_request *req,
		    struct nb_bytes message, struct nb_time now);

/* Send initial headers now (server), with more metadata. Otherwise they go with the first message or
 * the end. Returns 0 or NB_E_STATE when they are out already, NB_E_NOMEM, NB_E_ARG (bad name or value). */
int grpc_call_send_headers(struct grpc_call *call, const struct grpc_meta *meta, size_t n);
/* Queue one message. Returns 0, NB_E_FULL (queue cap: wait for on_writable), NB_E_STATE (finished or
 * half-closed), NB_E_NOMEM. */
int grpc_call_send(struct grpc_call *call, struct nb_bytes message);
/* Nothing is queued and both flow-control windows are open: a message built now leaves at once. */
bool grpc_call_writable(const struct grpc_call *call);
/* Ask for one on_writable at the moment the above holds and the driver pulls output. Cheap; idempotent. */
void grpc_call_want_write(struct grpc_call *call);
/* Bytes queued and not yet handed to output. */
size_t grpc_call_queued(const struct grpc_call *call);
/* Client: no more messages from us. Server answers go through grpc_call_finish. */
int grpc_call_half_close(struct grpc_call *call);
/* Server: trailers after what is queued; on_end follows when they are out. message may be NULL. Later
 * sends and finishes return NB_E_STATE. Requests still arriving are read and dropped. */
int grpc_call_finish(struct grpc_call *call, int status, const char *message);
int grpc_call_finish_meta(struct grpc_call *call, int status, const char *message,
			  const struct grpc_meta *meta, size_t n);
/* Server: answer a unary call: headers, message, OK. Without room or memory for the message the call is
 * finished with RESOURCE_EXHAUSTED and the error returned: nothing is left to do. */
int grpc_call_reply(struct grpc_call *call, struct nb_bytes message);
/* Either side: RST_STREAM(CANCEL), unsent messages dropped, no more callbacks; call is dead on return. */
void grpc_call_cancel(struct grpc_call *call);
/* Stop and go on receiving: while paused no on_message comes and the peer's window is not refilled. */
void grpc_call_pause(struct grpc_call *call);
void grpc_call_resume(struct grpc_call *call);

void grpc_call_set_user(struct grpc_call *call, void *user);
void *grpc_call_user(const struct grpc_call *call);
/* Server: the service's arg. */
void *grpc_call_service_arg(const struct grpc_call *call);
struct grpc_conn *grpc_call_conn(const struct grpc_call *call);
/* Received initial metadata (server: the request's; client: the answer's), first entry of that lower-case
 * name; false when absent. Valid while the call lives. */
bool grpc_call_metadata(const struct grpc_call *call, const char *name, struct nb_bytes *value);
/* Client, in on_end: trailing metadata. */
bool grpc_call_trailer(const struct grpc_call *call, const char *name, struct nb_bytes *value);
/* NB_TIME_NEVER without one. */
struct nb_time grpc_call_deadline(const struct grpc_call *call);
const char *grpc_call_path(const struct grpc_call *call);
/* Server: the TCP peer given in the configuration. */
struct nb_endpoint grpc_call_peer(const struct grpc_call *call);

/* Answer a raw request: status 200..599, headers (lower-case names; content-length is added), body. */
int grpc_raw_respond(struct grpc_call *call, int status, const struct grpc_meta *headers, size_t n,
		     struct nb_bytes body);

#endif
