/* daemon_events.c - the event history of the agent and who listens to it; the log level, whose changes
 * are events too. Source: spec/client.md 2.3, 2.5. Tests: tests/unit/client_daemon_test.c. */
#include "client/daemon_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "crypto/crypto.h"
#include "proto/unpack.h"

static const struct {
	const char *word;
	enum nb_log_level level;
} levels[] = {
	[DAEMON__LOG_LEVEL__UNKNOWN] = { "info", NB_LOG_INFO },
	[DAEMON__LOG_LEVEL__PANIC] = { "panic", NB_LOG_ERROR },
	[DAEMON__LOG_LEVEL__FATAL] = { "fatal", NB_LOG_ERROR },
	[DAEMON__LOG_LEVEL__LOG_ERROR] = { "error", NB_LOG_ERROR },
	[DAEMON__LOG_LEVEL__WARN] = { "warning", NB_LOG_WARN },
	[DAEMON__LOG_LEVEL__LOG_INFO] = { "info", NB_LOG_INFO },
	[DAEMON__LOG_LEVEL__DEBUG] = { "debug", NB_LOG_DEBUG },
	[DAEMON__LOG_LEVEL__TRACE] = { "trace", NB_LOG_TRACE },
};

static void event_fini(struct event *e)
{
	free(e->message);
	free(e->user_message);
	for (size_t i = 0; i < e->n_meta; i++) {
		free(e->meta[i][0]);
		free(e->meta[i][1]);
	}
	memset(e, 0, sizeof *e);
}

void client_events_fini(struct client_daemon *d)
{
	for (size_t i = 0; i < d->n_events; i++)
		event_fini(&d->events[i]);
	d->n_events = 0;
}

static Daemon__SystemEvent *event_message(const struct event *e, struct nb_arena *a)
{
	Daemon__SystemEvent *m = nb_arena_alloc(a, sizeof *m);
	Google__Protobuf__Timestamp *t = nb_arena_alloc(a, sizeof *t);
	Daemon__SystemEvent__MetadataEntry **meta = nb_arena_alloc(a, (e->n_meta + 1) * sizeof *meta);

	if (!m || !t || !meta)
		return NULL;
	daemon__system_event__init(m);
	google__protobuf__timestamp__init(t);
	m->id = (char *)(uintptr_t)e->id;
	m->message = e->message;
	if (*e->user_message)
		m->usermessage = e->user_message;
	m->has_severity = e->severity != 0;
	m->severity = e->severity;
	m->has_category = e->category != 0;
	m->category = e->category;
	t->has_seconds = true;
	t->seconds = e->at.ns / NB_SEC;
	t->nanos = (int32_t)(e->at.ns % NB_SEC);
	t->has_nanos = t->nanos != 0;
	m->timestamp = t;
	for (size_t i = 0; i < e->n_meta; i++) {
		meta[i] = nb_arena_alloc(a, sizeof **meta);
		if (!meta[i])
			return NULL;
		daemon__system_event__metadata_entry__init(meta[i]);
		meta[i]->key = e->meta[i][0];
		meta[i]->value = e->meta[i][1];
	}
	m->metadata = meta;
	m->n_metadata = e->n_meta;
	return m;
}

Daemon__SystemEvent **client_event_messages(const struct client_daemon *d, struct nb_arena *a, size_t *n)
{
	Daemon__SystemEvent **v = nb_arena_alloc(a, (d->n_events + 1) * sizeof *v);

	*n = 0;
	for (size_t i = 0; v && i < d->n_events; i++) {
		v[*n] = event_message(&d->events[i], a);
		*n += v[*n] != NULL;
	}
	return v;
}

static void send_event(struct subscriber *s, const struct event *e)
{
	struct nb_arena a;
	struct nb_buf b;
	Daemon__SystemEvent *m;

	nb_arena_init(&a, 65536);
	nb_buf_init(&b, 65536);
	m = event_message(e, &a);
	/* a listener that does not keep up loses events, as in stock */
	if (m && proto_pack(&b, m) == 0)
		grpc_call_send(s->call, nb_buf_view(&b));
	nb_buf_fini(&b);
	nb_arena_fini(&a);
}

static bool event_init(struct client_daemon *d, struct event *e, const char *message, const char *user_message)
{
	memset(e, 0, sizeof *e);
	nbc_uuid4(e->id, d->cfg.random, d->cfg.random_ctx);
	e->at = d->cfg.ops->wall(d->cfg.arg);
	e->message = strdup(message);
	e->user_message = strdup(user_message ? user_message : "");
	return e->message && e->user_message;
}

static void event_meta(struct event *e, const char *key, const char *value)
{
	char *k = strdup(key), *v = strdup(value);

	if (!k || !v || e->n_meta == sizeof e->meta / sizeof *e->meta) {
		free(k);
		free(v);
		return;
	}
	e->meta[e->n_meta][0] = k;
	e->meta[e->n_meta++][1] = v;
}

void client_daemon_event(struct client_daemon *d, Daemon__SystemEvent__Severity severity,
			 Daemon__SystemEvent__Category category, const char *message, const char *user_message,
			 const char *const (*meta)[2], size_t n_meta)
{
	struct event e;

	if (!event_init(d, &e, message, user_message)) {
		event_fini(&e);
		return;
	}
	e.severity = severity;
	e.category = category;
	for (size_t i = 0; i < n_meta; i++)
		event_meta(&e, meta[i][0], meta[i][1]);
	if (d->n_events == CLIENT_EVENTS_MAX) {
		event_fini(&d->events[0]);
		memmove(d->events, d->events + 1, (CLIENT_EVENTS_MAX - 1) * sizeof *d->events);
		d->n_events--;
	}
	d->events[d->n_events++] = e;
	nb_list_each_safe(n, &d->subscribers)
		send_event(nb_container(n, struct subscriber, node), &e);
}

void client_profile_list_changed(struct client_daemon *d, const char *name)
{
	const char *const meta[][2] = { { "kind", "profile-list-changed" }, { "profile", name } };

	client_daemon_event(d, DAEMON__SYSTEM_EVENT__SEVERITY__INFO, DAEMON__SYSTEM_EVENT__CATEGORY__SYSTEM,
			    "Profile list changed", "", meta, 2);
}

static void get_events(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Daemon__GetEventsResponse r = DAEMON__GET_EVENTS_RESPONSE__INIT;
	struct nb_arena a;

	(void)user, (void)in;
	nb_arena_init(&a, CLIENT_FILE_MAX);
	r.events = client_event_messages(d, &a, &r.n_events);
	client_reply(call, &r);
	nb_arena_fini(&a);
}

static void subscribe(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	struct subscriber *s;
	struct event e;

	(void)user, (void)in;
	s = d->n_subscribers < CLIENT_SUBSCRIBERS_MAX ? calloc(1, sizeof *s) : NULL;
	if (!s) {
		client_fail(call, GRPC_RESOURCE_EXHAUSTED, "too many listeners to events");
		return;
	}
	s->d = d;
	s->call = call;
	nb_list_push(&d->subscribers, &s->node);
	d->n_subscribers++;
	grpc_call_set_user(call, s);
	/* A user interface that comes late learns the level the daemon was started with. */
	if (event_init(d, &e, "Log level changed", "")) {
		e.category = DAEMON__SYSTEM_EVENT__CATEGORY__SYSTEM;
		event_meta(&e, "kind", "log-level-changed");
		event_meta(&e, "level", levels[d->log_level].word);
		send_event(s, &e);
	}
	event_fini(&e);
}

static void subscriber_end(struct grpc_call *call, void *user, const struct grpc_result *r)
{
	struct subscriber *s = user;

	(void)call, (void)r;
	if (!s)
		return;
	nb_list_del(&s->node);
	s->d->n_subscribers--;
	free(s);
}

static void get_log_level(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Daemon__GetLogLevelResponse r = DAEMON__GET_LOG_LEVEL_RESPONSE__INIT;

	(void)user, (void)in;
	r.has_level = true;
	r.level = d->log_level;
	client_reply(call, &r);
}

static void set_log_level(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Daemon__SetLogLevelResponse r = DAEMON__SET_LOG_LEVEL_RESPONSE__INIT;
	Daemon__SetLogLevelRequest *m;
	struct nb_arena a;

	(void)user;
	m = client_request(call, &daemon__set_log_level_request__descriptor, in, &a);
	if (!m)
		return;
	if (m->level <= DAEMON__LOG_LEVEL__UNKNOWN || m->level > DAEMON__LOG_LEVEL__TRACE) {
		client_fail(call, GRPC_UNKNOWN, "unknown log level %d", (int)m->level);
	} else {
		const char *const meta[][2] = { { "kind", "log-level-changed" }, { "level", levels[m->level].word } };

		d->log_level = m->level;
		nb_log_set_level(levels[m->level].level);
		client_daemon_event(d, DAEMON__SYSTEM_EVENT__SEVERITY__INFO, DAEMON__SYSTEM_EVENT__CATEGORY__SYSTEM,
				    "Log level changed", "", meta, 2);
		client_reply(call, &r);
	}
	nb_arena_fini(&a);
}

const struct grpc_call_ops client_get_events_ops = { .on_message = get_events };
const struct grpc_call_ops client_subscribe_ops = { .on_message = subscribe, .on_end = subscriber_end };
const struct grpc_call_ops client_get_log_level_ops = { .on_message = get_log_level };
const struct grpc_call_ops client_set_log_level_ops = { .on_message = set_log_level };
