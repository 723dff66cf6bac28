/* server.c - see signal.h. Registration table, routing, and the watch over recipients that stopped
 * reading. signal-protocol.md section 5. Tests: tests/unit/signal_server_test.c */
#include "signal/signal.h"

#include "base/buf.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "proto/envelope.h"

#include <stdlib.h>

#define HEADER_ID "x-wiretrustee-peer-id"
#define HEADER_REGISTERED "x-wiretrustee-peer-registered"
/* Looks at a waiting recipient before it counts as stalled. */
#define LOOKS 5

struct peer {
	struct nb_list node;		/* server->peers */
	struct nb_list busy;		/* server->busy while bytes wait for it */
	struct grpc_call *call;
	struct nb_time mark;		/* last time it was seen to make progress */
	uint64_t queued_total;		/* bytes ever queued */
	uint64_t sent_mark;		/* of these, gone at mark */
	size_t id_n;
	uint8_t id[];
};

struct signal_server {
	struct nb_map by_id;
	struct nb_list peers, busy;
	int64_t stall_ns;
	struct nb_time look_at;		/* next look at the busy ones */
	struct signal_stats st;
};

static struct nb_bytes id_of(const struct peer *p)
{
	return nb_bytes(p->id, p->id_n);
}

/* Forget a peer. A newer registration of the same id stays. */
static void deregister(struct signal_server *s, struct peer *p)
{
	if (nb_map_get(&s->by_id, id_of(p)) == p)
		nb_map_del(&s->by_id, id_of(p));
	nb_list_del(&p->node);
	nb_list_del(&p->busy);
	s->st.active--;
	s->st.deregistrations++;
	free(p);
}

static struct peer *new_peer(struct signal_server *s, struct grpc_call *call, struct nb_bytes id)
{
	struct peer *p = calloc(1, sizeof *p + id.n);

	if (!p)
		return NULL;
	memcpy(p->id, id.p, id.n);
	p->id_n = id.n;
	p->call = call;
	nb_list_init(&p->busy);
	nb_list_push(&s->peers, &p->node);
	s->st.active++;
	s->st.registrations++;
	grpc_call_set_user(call, p);
	return p;
}

static bool read_id(struct signal_server *s, struct grpc_call *call, struct nb_bytes *id)
{
	if (!grpc_call_metadata(call, HEADER_ID, id) || !id->n) {
		s->st.missing_id++;
		grpc_call_finish(call, GRPC_FAILED_PRECONDITION, "missing connection header: " HEADER_ID);
		return false;
	}
	if (id->n > SIGNAL_ID_MAX) {
		s->st.bad_id++;
		grpc_call_finish(call, GRPC_INVALID_ARGUMENT, "the peer id is too long");
		return false;
	}
	return true;
}

static void connect_start(struct grpc_call *call, void *user)
{
	struct signal_server *s = grpc_call_service_arg(call);
	struct grpc_meta marker = GRPC_META(HEADER_REGISTERED, "1");
	struct nb_bytes id;
	void *old = NULL;
	struct peer *p;

	(void)user;
	if (!read_id(s, call, &id))
		return;
	/* The marker is queued before the peer can be found, so that no message comes ahead of it. */
	if (grpc_call_send_headers(call, &marker, 1) || !(p = new_peer(s, call, id))) {
		grpc_call_finish(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	if (nb_map_put(&s->by_id, id_of(p), p, &old)) {
		s->st.full++;
		grpc_call_finish(call, GRPC_RESOURCE_EXHAUSTED, "too many peers are registered");
		return;
	}
	if (old) {
		s->st.displaced++;
		grpc_call_finish(((struct peer *)old)->call, GRPC_UNKNOWN, "registered again");
	}
	nb_debug("signal: peer %.*s registered", (int)id.n, (const char *)id.p);
}

static void connect_end(struct grpc_call *call, void *user, const struct grpc_result *result)
{
	(void)result;
	if (user)
		deregister(grpc_call_service_arg(call), user);
}

static uint64_t sent(const struct peer *p)
{
	return p->queued_total - grpc_call_queued(p->call);
}

/* Everything queued has left. */
static void connect_writable(struct grpc_call *call, void *user)
{
	struct peer *p = user;

	(void)call;
	nb_list_del(&p->busy);
}

static void forward(struct signal_server *s, struct peer *p, struct nb_bytes message, struct nb_time now)
{
	if (grpc_call_queued(p->call) + message.n > SIGNAL_QUEUE_MAX ||
	    grpc_call_send(p->call, message)) {
		s->st.overflow++;
		return;
	}
	s->st.forwarded++;
	s->st.bytes += message.n;
	p->queued_total += message.n + 5;	/* gRPC's prefix counts in grpc_call_queued */
	if (nb_list_empty(&p->busy)) {
		if (nb_list_empty(&s->busy))
			s->look_at = nb_time_add(now, s->stall_ns / LOOKS);
		p->mark = now;
		p->sent_mark = sent(p);
		nb_list_push(&s->busy, &p->busy);
		grpc_call_want_write(p->call);
	}
}

static void send_message(struct grpc_call *call, void *user, struct nb_bytes message)
{
	struct signal_server *s = grpc_call_service_arg(call);
	struct proto_envelope e;
	struct peer *p;

	(void)user;
	if (proto_signal_envelope_decode(&e, message)) {
		grpc_call_finish(call, GRPC_INTERNAL, "grpc: error unmarshalling request: malformed message");
		return;
	}
	/* "dummy" is old clients' health probe; nobody can register a peer that would get it. */
	if (!nb_bytes_eq_str(e.remote, "dummy")) {
		p = nb_map_get(&s->by_id, e.remote);
		if (p)
			forward(s, p, message, grpc_conn_now(grpc_call_conn(call)));
		else
			s->st.absent++;
	}
	grpc_call_reply(call, nb_bytes(NULL, 0));
}

static const struct grpc_call_ops send_ops = { .on_message = send_message };
/* Messages from the client on this stream are lost, as in stock: there is no on_message. */
static const struct grpc_call_ops connect_ops = {
	.on_start = connect_start, .on_writable = connect_writable, .on_end = connect_end,
};

static const struct grpc_method methods[] = {
	{ "/signalexchange.SignalExchange/Send", GRPC_UNARY, &send_ops, SIGNAL_MESSAGE_MAX },
	{ "/signalexchange.SignalExchange/ConnectStream", GRPC_BIDI, &connect_ops, SIGNAL_MESSAGE_MAX },
};

int signal_server_new(struct signal_server **out, const uint8_t seed[16], int64_t stall_ns)
{
	struct signal_server *s = calloc(1, sizeof *s);

	*out = s;
	if (!s)
		return NB_E_NOMEM;
	nb_map_init(&s->by_id, seed, SIGNAL_PEERS_MAX);
	nb_list_init(&s->peers);
	nb_list_init(&s->busy);
	s->stall_ns = stall_ns ? stall_ns : SIGNAL_STALL_NS;
	return 0;
}

void signal_server_free(struct signal_server *s)
{
	if (!s)
		return;
	nb_map_fini(&s->by_id);
	free(s);
}

struct grpc_service signal_service(struct signal_server *s)
{
	return (struct grpc_service){ methods, sizeof methods / sizeof *methods, s };
}

void signal_server_stop(struct signal_server *s)
{
	/* The peers leave the list in their on_end, which never runs inside this. */
	nb_list_each(it, &s->peers)
		grpc_call_finish(nb_container(it, struct peer, node)->call, GRPC_UNAVAILABLE,
				 "the signal server is shutting down");
}

struct nb_time signal_deadline(const struct signal_server *s)
{
	return nb_list_empty(&s->busy) ? NB_TIME_NEVER : s->look_at;
}

static void cut_off(struct signal_server *s, struct peer *p)
{
	nb_info("signal: peer %.*s reads nothing, its stream is cut", (int)p->id_n, (const char *)p->id);
	s->st.stalled++;
	grpc_call_cancel(p->call);
	deregister(s, p);
}

static void look(struct signal_server *s, struct peer *p, struct nb_time now)
{
	if (!grpc_call_queued(p->call)) {
		nb_list_del(&p->busy);
	} else if (sent(p) != p->sent_mark) {
		p->sent_mark = sent(p);
		p->mark = now;
	} else if (nb_time_due(nb_time_add(p->mark, s->stall_ns), now)) {
		cut_off(s, p);
	}
}

void signal_timer(struct signal_server *s, struct nb_time now)
{
	if (!nb_time_due(signal_deadline(s), now))
		return;
	nb_list_each_safe(it, &s->busy)
		look(s, nb_container(it, struct peer, busy), now);
	s->look_at = nb_time_add(now, s->stall_ns / LOOKS);
}

struct signal_stats signal_server_stats(const struct signal_server *s)
{
	return s->st;
}

static void metric(struct nb_buf *b, const char *prefix, const char *name, const char *labels, uint64_t v)
{
	nb_buf_printf(b, "%s%s%s %llu\n", prefix, name, labels, (unsigned long long)v);
}

int signal_metrics(const struct signal_server *s, struct nb_buf *b, const char *prefix)
{
	const struct signal_stats *st = &s->st;

	nb_buf_printf(b, "# TYPE %sactive_peers gauge\n", prefix);
	metric(b, prefix, "active_peers", "", st->active);
	nb_buf_printf(b, "# TYPE %sregistrations_total counter\n", prefix);
	metric(b, prefix, "registrations_total", "", st->registrations);
	nb_buf_printf(b, "# TYPE %sderegistrations_total counter\n", prefix);
	metric(b, prefix, "deregistrations_total", "", st->deregistrations);
	nb_buf_printf(b, "# TYPE %sregistration_failures_total counter\n", prefix);
	metric(b, prefix, "registration_failures_total", "{error=\"missing_id\"}", st->missing_id);
	metric(b, prefix, "registration_failures_total", "{error=\"failed_registration\"}", st->bad_id + st->full);
	nb_buf_printf(b, "# TYPE %smessages_forwarded_total counter\n", prefix);
	metric(b, prefix, "messages_forwarded_total", "", st->forwarded);
	nb_buf_printf(b, "# TYPE %smessage_forward_failures_total counter\n", prefix);
	metric(b, prefix, "message_forward_failures_total", "{type=\"error\"}", st->overflow);
	metric(b, prefix, "message_forward_failures_total", "{type=\"timeout\"}", st->stalled);
	return b->err;
}
