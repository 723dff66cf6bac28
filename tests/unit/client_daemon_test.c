/* client_daemon_test.c - the agent's control service (src/client/daemon*.c, profiles.c) over a real gRPC
 * connection in memory, with a machinery, files and a clock that the test plays. */
#include "client/daemon.h"

#include "base/err.h"
#include "crypto/crypto.h"
#include "proto/rpc_status.pb-c.h"
#include "proto/unpack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define CALLS 8
#define FILES 16
#define URL "http://mgmt.example:8080"

struct answer {
	struct grpc_call *call;
	bool ended;
	int status;
	char message[1024];
	uint8_t body[65536];
	size_t n;
	unsigned messages;
	uint8_t details[4096];
	size_t n_details;
};

static struct {
	struct client_daemon *d;
	struct grpc_conn *client, *server;
	struct nb_time now;
	struct client_caller caller;
	char log[1024];			/* what the ops were asked, ";" after each */
	bool down_at_once, no_write;
	uint32_t ticket;
	struct { char path[256]; char *text; size_t n; } files[FILES];
	struct answer a[CALLS];
} w;

static void note(const char *what)
{
	strcat(w.log, what);
	strcat(w.log, ";");
}

static void op_login(void *arg, const struct client_config *cfg, const char *key, const char *host)
{
	char t[300];

	(void)arg;
	snprintf(t, sizeof t, "login %s %s %s", cfg->management_url.host, key, host);
	note(t);
}

static void op_login_cancel(void *arg)
{
	(void)arg;
	note("cancel");
}

static void op_up(void *arg, const struct client_config *cfg, const char *host)
{
	char t[300];

	(void)arg;
	snprintf(t, sizeof t, "up %s %s", cfg->management_url.host, host);
	note(t);
}

static void op_down(void *arg)
{
	(void)arg;
	note("down");
	if (w.down_at_once)
		client_daemon_is_down(w.d);
}

static void op_logout(void *arg, const struct client_config *cfg)
{
	char t[300];

	(void)arg;
	snprintf(t, sizeof t, "logout %s", cfg->management_url.host);
	note(t);
}

static void op_status(void *arg, uint32_t ticket, bool probes)
{
	(void)arg;
	w.ticket = ticket;
	note(probes ? "status probes" : "status");
}

static int op_paths(void *arg, const char *peer, struct nb_arena *a, Nestbox__PeerPaths **out)
{
	(void)arg;
	note(peer);
	if (!strcmp(peer, "stranger"))
		return NB_E_NOTFOUND;
	if (!strcmp(peer, "down"))
		return NB_E_STATE;
	*out = nb_arena_alloc(a, sizeof **out);
	assert_non_null(*out);
	nestbox__peer_paths__init(*out);
	(*out)->sentence = nb_arena_strndup(a, "because", 7);
	return 0;
}

static int find_file(const char *path)
{
	for (int i = 0; i < FILES; i++)
		if (w.files[i].text && !strcmp(w.files[i].path, path))
			return i;
	return -1;
}

static int op_read(void *arg, const char *path, struct nb_buf *out)
{
	int i = find_file(path);

	(void)arg;
	return i < 0 ? NB_E_NOTFOUND : nb_buf_put(out, w.files[i].text, w.files[i].n);
}

static int op_write(void *arg, const char *path, struct nb_bytes content)
{
	int i = find_file(path);

	(void)arg;
	if (w.no_write)
		return NB_E_PERM;
	for (int k = 0; i < 0 && k < FILES; k++)
		if (!w.files[k].text)
			i = k;
	assert_true(i >= 0);
	free(w.files[i].text);
	w.files[i].text = malloc(content.n + 1);
	memcpy(w.files[i].text, content.p, content.n);
	w.files[i].text[content.n] = '\0';
	w.files[i].n = content.n;
	snprintf(w.files[i].path, sizeof w.files[i].path, "%s", path);
	return 0;
}

static int op_remove(void *arg, const char *path)
{
	int i = find_file(path);

	(void)arg;
	if (i < 0)
		return NB_E_NOTFOUND;
	free(w.files[i].text);
	w.files[i].text = NULL;
	return 0;
}

static int op_list(void *arg, const char *dir, void (*each)(void *ctx, const char *name), void *ctx)
{
	size_t n = strlen(dir);
	bool any = false;

	(void)arg;
	for (int i = 0; i < FILES; i++) {
		if (!w.files[i].text || strncmp(w.files[i].path, dir, n) || w.files[i].path[n] != '/' ||
		    strchr(w.files[i].path + n + 1, '/'))
			continue;
		any = true;
		each(ctx, w.files[i].path + n + 1);
	}
	return any ? 0 : NB_E_NOTFOUND;
}

static struct client_caller op_caller(void *arg, struct grpc_call *call)
{
	(void)arg, (void)call;
	return w.caller;
}

static struct nb_time op_now(void *arg)
{
	(void)arg;
	return w.now;
}

static struct nb_wall op_wall(void *arg)
{
	(void)arg;
	return (struct nb_wall){ 1700000000 * NB_SEC + w.now.ns };
}

static void op_wake(void *arg)
{
	(void)arg;
}

static const struct client_daemon_ops ops = {
	.login = op_login, .login_cancel = op_login_cancel, .up = op_up, .down = op_down, .logout = op_logout,
	.status = op_status, .paths = op_paths, .read = op_read, .write = op_write, .remove = op_remove, .list = op_list,
	.caller = op_caller, .now = op_now, .wall = op_wall, .wake = op_wake,
};

static struct client_daemon_config config(void)
{
	return (struct client_daemon_config){ .ops = &ops, .random = nbc_random, .state_dir = "/state/" };
}

static void connect_daemon(struct client_daemon_config cfg)
{
	struct grpc_config s, c;

	w.d = client_daemon_new(&cfg);
	assert_non_null(w.d);
	grpc_config_default(&s);
	grpc_config_default(&c);
	s.services = client_daemon_service(w.d);
	s.n_services = 1;
	c.authority = "localhost";
	assert_int_equal(grpc_server_new(&w.server, &s, w.now), 0);
	assert_int_equal(grpc_client_new(&w.client, &c, w.now), 0);
}

static int setup(void **state)
{
	(void)state;
	memset(&w, 0, sizeof w);
	w.now.ns = 1000 * NB_SEC;
	w.caller = (struct client_caller){ true, 0 };
	connect_daemon(config());
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	client_daemon_free(w.d);
	grpc_conn_free(w.client);
	grpc_conn_free(w.server);
	for (int i = 0; i < FILES; i++)
		free(w.files[i].text);
	return 0;
}

static bool move(struct grpc_conn *from, struct grpc_conn *to)
{
	uint8_t buf[8192];
	size_t n = grpc_conn_output(from, buf, sizeof buf, w.now);

	if (n)
		assert_int_equal(grpc_conn_input(to, nb_bytes(buf, n), w.now), 0);
	return n > 0;
}

static void pump(void)
{
	bool moved = true;

	while (moved) {
		moved = move(w.client, w.server);
		moved = move(w.server, w.client) || moved;
	}
}

static void pass(int64_t ns)
{
	w.now = nb_time_add(w.now, ns);
	if (nb_time_due(client_daemon_deadline(w.d), w.now))
		client_daemon_timer(w.d, w.now);
	pump();
}

static void got_message(struct grpc_call *call, void *user, struct nb_bytes m)
{
	struct answer *a = user;

	(void)call;
	assert_true(m.n <= sizeof a->body);
	if (m.n)
		memcpy(a->body, m.p, m.n);
	a->n = m.n;
	a->messages++;
}

static void got_end(struct grpc_call *call, void *user, const struct grpc_result *r)
{
	struct answer *a = user;
	struct nb_bytes d;

	a->ended = true;
	a->call = NULL;
	a->status = r->status;
	snprintf(a->message, sizeof a->message, "%s", r->message);
	if (grpc_call_trailer(call, "grpc-status-details-bin", &d) && d.n <= sizeof a->details) {
		memcpy(a->details, d.p, d.n);
		a->n_details = d.n;
	}
}

static const struct grpc_call_ops call_ops = { .on_message = got_message, .on_end = got_end };

/* Start a call in a slot and let it run as far as it goes. */
static struct answer *start(int slot, const char *method, const void *message)
{
	char path[64];
	struct grpc_request q = { .path = path, .kind = GRPC_UNARY, .ops = &call_ops, .deadline = NB_TIME_NEVER };
	struct answer *a = &w.a[slot];
	struct nb_buf b;

	memset(a, 0, sizeof *a);
	q.user = a;
	snprintf(path, sizeof path, "/daemon.DaemonService/%s", method);
	if (!strcmp(method, "SubscribeEvents"))
		q.kind = GRPC_SERVER_STREAM;
	nb_buf_init(&b, 65536);
	assert_int_equal(proto_pack(&b, message), 0);
	if (q.kind == GRPC_UNARY) {
		assert_int_equal(grpc_call_unary(&a->call, w.client, &q, nb_buf_view(&b), w.now), 0);
	} else {
		assert_int_equal(grpc_call_start(&a->call, w.client, &q, w.now), 0);
		assert_int_equal(grpc_call_send(a->call, nb_buf_view(&b)), 0);
		grpc_call_half_close(a->call);
	}
	nb_buf_fini(&b);
	pump();
	return a;
}

static struct answer *done(int slot, const char *method, const void *message)
{
	struct answer *a = start(slot, method, message);

	assert_true(a->ended);
	return a;
}

static struct nb_arena arena;

static void *body(const struct answer *a, const ProtobufCMessageDescriptor *desc)
{
	void *m;

	nb_arena_fini(&arena);
	nb_arena_init(&arena, 1 << 22);
	assert_int_equal(proto_unpack_any(&m, desc, nb_bytes(a->body, a->n), &arena), 0);
	return m;
}

static void expect(const struct answer *a, int status, const char *message)
{
	assert_true(a->ended);
	assert_string_equal(a->message, message);
	assert_int_equal(a->status, status);
}

static const char *word(void)
{
	Daemon__StatusRequest q = DAEMON__STATUS_REQUEST__INIT;
	Daemon__StatusResponse *r = body(done(7, "Status", &q), &daemon__status_response__descriptor);

	return r->status;
}

static void expect_log(const char *want)
{
	assert_string_equal(w.log, want);
	w.log[0] = '\0';
}

static void boot(void)
{
	char why[256] = "";

	assert_int_equal(client_daemon_start(w.d, why, sizeof why), 0);
}

static struct answer *do_login(int slot, const char *key)
{
	Daemon__LoginRequest q = DAEMON__LOGIN_REQUEST__INIT;

	q.setupkey = (char *)(uintptr_t)key;
	q.managementurl = URL;
	q.hostname = "box";
	q.profilename = "default";
	q.username = "root";
	return start(slot, "Login", &q);
}

static struct answer *do_up(int slot)
{
	Daemon__UpRequest q = DAEMON__UP_REQUEST__INIT;

	q.profilename = "default";
	q.username = "root";
	return start(slot, "Up", &q);
}

static struct answer *do_down(int slot)
{
	Daemon__DownRequest q = DAEMON__DOWN_REQUEST__INIT;

	return start(slot, "Down", &q);
}

/* From nothing to connected, as `netbird up` does it. */
static void join(void)
{
	struct answer *a;

	boot();
	a = do_login(0, "KEY");
	client_daemon_login_done(w.d, CLIENT_LOGIN_OK, 0, "");
	pump();
	expect(a, 0, "");
	a = do_up(0);
	client_daemon_engine(w.d, CLIENT_ENGINE_CONNECTED, NULL);
	pump();
	expect(a, 0, "");
	w.log[0] = '\0';
}

static void first_up(void **state)
{
	struct answer *a;

	(void)state;
	boot();
	assert_string_equal(word(), "NeedsLogin");
	assert_true(find_file("/state/default.json") >= 0);
	assert_string_equal(w.files[find_file("/state/active_profile.json")].text,
			    "{\n    \"name\": \"default\",\n    \"username\": \"\"\n}");
	a = do_login(0, "KEY");
	assert_false(a->ended);
	assert_string_equal(word(), "Connecting");
	expect_log("login mgmt.example:8080 KEY box;");
	client_daemon_login_done(w.d, CLIENT_LOGIN_OK, 0, "");
	pump();
	expect(a, 0, "");
	assert_string_equal(word(), "Idle");
	assert_non_null(strstr(w.files[find_file("/state/default.json")].text, "mgmt.example:8080"));
	a = do_up(0);
	expect_log("up mgmt.example:8080 box;");
	client_daemon_engine(w.d, CLIENT_ENGINE_CONNECTING, "");
	pump();
	assert_false(a->ended);
	client_daemon_engine(w.d, CLIENT_ENGINE_CONNECTED, NULL);
	pump();
	expect(a, 0, "");
	assert_string_equal(word(), "Connected");
	expect(do_up(1), 0, "");	/* again: at once */
	client_daemon_engine(w.d, CLIENT_ENGINE_CONNECTING, "connection lost");
	assert_string_equal(word(), "Connecting");
	expect(do_up(1), 0, "");	/* it has been up: nothing to wait for */
	a = do_down(1);
	assert_false(a->ended);
	expect_log("down;");
	client_daemon_is_down(w.d);
	pump();
	expect(a, 0, "");
	assert_string_equal(word(), "Idle");
	expect(do_down(1), 0, "");
	expect_log("");
}

static void start_again(void **state)
{
	(void)state;
	join();
	client_daemon_free(w.d);
	grpc_conn_free(w.client);
	grpc_conn_free(w.server);
	connect_daemon(config());
	boot();
	expect_log("up mgmt.example:8080 ;");
	assert_string_equal(word(), "Connecting");
}

static void no_url(void **state)
{
	Daemon__LoginRequest q = DAEMON__LOGIN_REQUEST__INIT;

	(void)state;
	boot();
	expect(done(0, "Login", &q), GRPC_INVALID_ARGUMENT,
	       "no management URL is known: give one with netbird up --management-url https://HOST");
	expect(do_up(0), GRPC_INVALID_ARGUMENT,
	       "no management URL is known: give one with netbird up --management-url https://HOST");
	q.managementurl = "ftp://x";
	assert_int_equal(done(0, "Login", &q)->status, GRPC_INVALID_ARGUMENT);
	expect_log("");
	assert_string_equal(word(), "NeedsLogin");
}

static void refused_logins(void **state)
{
	struct answer *a;

	(void)state;
	boot();
	a = do_login(0, "BAD");
	client_daemon_login_done(w.d, CLIENT_LOGIN_ERROR, GRPC_NOT_FOUND, "couldn't add peer: setup key is invalid");
	pump();
	expect(a, GRPC_NOT_FOUND, "couldn't add peer: setup key is invalid");
	assert_string_equal(word(), "LoginFailed");
	expect(do_up(0), GRPC_UNKNOWN, "up already in progress: current status LoginFailed");
	a = do_login(0, "OLD");
	client_daemon_login_done(w.d, CLIENT_LOGIN_DENIED, GRPC_PERMISSION_DENIED, "peer login has expired");
	pump();
	expect(a, GRPC_PERMISSION_DENIED, "peer login has expired");
	assert_string_equal(word(), "NeedsLogin");
	a = do_login(0, "");
	client_daemon_login_done(w.d, CLIENT_LOGIN_NEEDED, 0, NULL);
	pump();
	assert_int_equal(a->status, GRPC_UNIMPLEMENTED);
	assert_non_null(strstr(a->message, "--setup-key KEY"));
	assert_string_equal(word(), "NeedsLogin");
}

static void login_while_running(void **state)
{
	struct answer *a;

	(void)state;
	join();
	a = do_login(0, "KEY");
	expect_log("down;");
	client_daemon_is_down(w.d);
	expect_log("login mgmt.example:8080 KEY box;");
	client_daemon_login_done(w.d, CLIENT_LOGIN_OK, 0, NULL);
	pump();
	expect(a, 0, "");
	assert_string_equal(word(), "Idle");
}

static void login_replaced_and_left(void **state)
{
	struct answer *a, *b;

	(void)state;
	boot();
	a = do_login(0, "ONE");
	b = do_login(1, "TWO");
	expect(a, GRPC_CANCELLED, "another login was started");
	expect_log("login mgmt.example:8080 ONE box;cancel;login mgmt.example:8080 TWO box;");
	grpc_call_cancel(b->call);
	pump();
	expect_log("cancel;");
	client_daemon_login_done(w.d, CLIENT_LOGIN_OK, 0, NULL);	/* late: ignored */
	assert_string_equal(word(), "Idle");
	a = do_login(0, "THREE");
	w.log[0] = '\0';
	pass(151 * NB_SEC);
	expect(a, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
	expect_log("cancel;");
	assert_string_equal(word(), "LoginFailed");
}

static void up_waits(void **state)
{
	Daemon__UpRequest async = DAEMON__UP_REQUEST__INIT;
	Daemon__StatusRequest ready = DAEMON__STATUS_REQUEST__INIT;
	struct answer *a, *s;

	(void)state;
	join();
	w.down_at_once = true;
	do_down(0);
	a = do_up(0);
	ready.has_waitforready = ready.waitforready = true;
	s = start(1, "Status", &ready);
	assert_false(s->ended);
	pass(49 * NB_SEC);
	assert_false(a->ended);
	pass(2 * NB_SEC);
	expect(a, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
	expect(s, 0, "");
	a = do_up(0);
	s = start(1, "Status", &ready);
	client_daemon_engine(w.d, CLIENT_ENGINE_FAILED, "cannot create wt0: run as root");
	pump();
	expect(a, GRPC_UNKNOWN, "client gave up to connect: cannot create wt0: run as root");
	expect(s, 0, "");
	assert_string_equal(word(), "Idle");
	async.has_async = async.async = true;
	expect(start(0, "Up", &async), 0, "");
	assert_string_equal(word(), "Connecting");
	a = do_up(0);
	do_down(1);
	expect(a, GRPC_UNKNOWN, "client gave up to connect");
}

static void up_while_going_down(void **state)
{
	struct answer *a, *b;

	(void)state;
	join();
	b = do_down(0);
	a = do_up(1);
	expect_log("down;");
	assert_false(a->ended);
	client_daemon_is_down(w.d);
	pump();
	expect_log("up mgmt.example:8080 box;");
	expect(b, 0, "");
	client_daemon_engine(w.d, CLIENT_ENGINE_CONNECTED, NULL);
	pump();
	expect(a, 0, "");
	b = do_down(0);
	pass(6 * NB_SEC);	/* it hangs: the caller is let go */
	expect(b, 0, "");
	client_daemon_is_down(w.d);
	assert_string_equal(word(), "Idle");
}

static void expired(void **state)
{
	(void)state;
	join();
	client_daemon_engine(w.d, CLIENT_ENGINE_NEEDS_LOGIN, "peer was deleted");
	assert_string_equal(word(), "SessionExpired");
	assert_string_equal(word(), "NeedsLogin");
	w.log[0] = '\0';
	do_up(0);		/* counts as idle */
	expect_log("up mgmt.example:8080 box;");
}

/* A call of ours: the ways to one peer. */
static void paths_of_a_peer(void **state)
{
	Nestbox__PathsRequest q = NESTBOX__PATHS_REQUEST__INIT;
	Nestbox__PeerPaths *p;

	(void)state;
	boot();
	w.log[0] = '\0';
	q.peer = (char *)(uintptr_t)"alpha";
	p = body(done(0, "NestboxPaths", &q), &nestbox__peer_paths__descriptor);
	assert_string_equal(p->sentence, "because");
	expect_log("alpha;");
	q.peer = (char *)(uintptr_t)"stranger";
	expect(done(1, "NestboxPaths", &q), GRPC_NOT_FOUND,
	       "no peer has the name or address stranger: `netbird status -d` lists them");
	q.peer = (char *)(uintptr_t)"down";
	expect(done(2, "NestboxPaths", &q), GRPC_FAILED_PRECONDITION, "the agent is not connected: run `netbird up`");
	q.peer = NULL;
	assert_int_equal(done(3, "NestboxPaths", &q)->status, GRPC_OK);
	expect_log("stranger;down;;");
}

static void full_status(void **state)
{
	Daemon__StatusRequest q = DAEMON__STATUS_REQUEST__INIT;
	Daemon__FullStatus s = DAEMON__FULL_STATUS__INIT;
	Daemon__PeerState p = DAEMON__PEER_STATE__INIT, *pp = &p;
	Daemon__StatusResponse *r;
	struct answer *a, *b;

	(void)state;
	join();
	q.has_getfullpeerstatus = q.getfullpeerstatus = true;
	a = start(0, "Status", &q);
	expect_log("status;");
	p.connstatus = "Idle";
	s.peers = &pp;
	s.n_peers = 1;
	client_daemon_status_ready(w.d, w.ticket + 1, &s);	/* not ours */
	pump();
	assert_false(a->ended);
	client_daemon_status_ready(w.d, w.ticket, &s);
	pump();
	r = body(a, &daemon__status_response__descriptor);
	assert_string_equal(r->status, "Connected");
	assert_string_equal(r->daemonversion, "0.77.1");
	assert_string_equal(r->fullstatus->managementstate->url, URL);
	assert_int_equal(r->fullstatus->peers[0]->lastwireguardhandshake->seconds, -62135596800);
	assert_int_equal(r->fullstatus->n_events, 1);
	assert_string_equal(r->fullstatus->events[0]->message, "daemon config changed (source=up_rpc)");
	assert_int_equal(r->fullstatus->events[0]->timestamp->seconds, 1700001000);
	client_daemon_engine(w.d, CLIENT_ENGINE_CONNECTING, "no answer");
	b = start(0, "Status", &q);
	pass(11 * NB_SEC);	/* the machinery says nothing */
	r = body(b, &daemon__status_response__descriptor);
	assert_string_equal(r->status, "Connecting");
	assert_string_equal(r->fullstatus->managementstate->error, "no answer");
}

static void events(void **state)
{
	Daemon__SubscribeRequest q = DAEMON__SUBSCRIBE_REQUEST__INIT;
	Daemon__GetEventsRequest g = DAEMON__GET_EVENTS_REQUEST__INIT;
	Daemon__SetLogLevelRequest l = DAEMON__SET_LOG_LEVEL_REQUEST__INIT;
	Daemon__GetLogLevelRequest gl = DAEMON__GET_LOG_LEVEL_REQUEST__INIT;
	Daemon__GetLogLevelResponse *glr;
	Daemon__GetEventsResponse *r;
	Daemon__SystemEvent *e;
	struct answer *s;

	(void)state;
	boot();
	s = start(0, "SubscribeEvents", &q);
	assert_int_equal(s->messages, 1);
	e = body(s, &daemon__system_event__descriptor);
	assert_string_equal(e->message, "Log level changed");
	l.has_level = true;
	l.level = DAEMON__LOG_LEVEL__DEBUG;
	expect(done(1, "SetLogLevel", &l), 0, "");
	assert_int_equal(s->messages, 2);
	e = body(s, &daemon__system_event__descriptor);
	assert_string_equal(e->metadata[1]->value, "debug");
	glr = body(done(1, "GetLogLevel", &gl), &daemon__get_log_level_response__descriptor);
	assert_int_equal(glr->level, DAEMON__LOG_LEVEL__DEBUG);
	l.level = 77;
	assert_int_equal(done(1, "SetLogLevel", &l)->status, GRPC_UNKNOWN);
	for (int i = 0; i < 15; i++) {
		char t[16];

		snprintf(t, sizeof t, "n%d", i);
		client_daemon_event(w.d, DAEMON__SYSTEM_EVENT__SEVERITY__WARNING,
				    DAEMON__SYSTEM_EVENT__CATEGORY__NETWORK, t, NULL, NULL, 0);
	}
	pump();
	assert_int_equal(s->messages, 17);
	r = body(done(1, "GetEvents", &g), &daemon__get_events_response__descriptor);
	assert_int_equal(r->n_events, CLIENT_EVENTS_MAX);
	assert_string_equal(r->events[0]->message, "n5");
	assert_string_equal(r->events[9]->message, "n14");
	assert_int_equal(strlen(r->events[9]->id), 36);
	grpc_call_cancel(s->call);
	pump();
	client_daemon_event(w.d, 0, 0, "nobody listens", NULL, NULL, 0);
	pump();
	assert_int_equal(s->messages, 17);
	l.level = DAEMON__LOG_LEVEL__WARN;
	done(1, "SetLogLevel", &l);
}

static void logouts(void **state)
{
	Daemon__LogoutRequest q = DAEMON__LOGOUT_REQUEST__INIT;
	struct answer *a;

	(void)state;
	boot();
	expect(done(0, "Logout", &q), GRPC_FAILED_PRECONDITION, "not logged in");
	join();
	a = start(0, "Logout", &q);
	expect_log("logout mgmt.example:8080;");
	client_daemon_logout_done(w.d, GRPC_UNAVAILABLE, "no route");
	pump();
	expect(a, GRPC_UNAVAILABLE, "no route");
	assert_string_equal(word(), "Connected");
	a = start(0, "Logout", &q);
	client_daemon_logout_done(w.d, GRPC_NOT_FOUND, "peer not found");	/* gone already */
	pump();
	assert_false(a->ended);
	expect_log("logout mgmt.example:8080;down;");
	client_daemon_is_down(w.d);
	pump();
	expect(a, 0, "");
	assert_string_equal(word(), "NeedsLogin");
}

static void settings(void **state)
{
	Daemon__SetConfigRequest q = DAEMON__SET_CONFIG_REQUEST__INIT;
	Daemon__GetConfigRequest g = DAEMON__GET_CONFIG_REQUEST__INIT;
	Daemon__GetConfigResponse *r;
	struct answer *a;

	(void)state;
	boot();
	q.profilename = g.profilename = "default";
	q.username = g.username = "root";
	q.has_mtu = true;
	q.mtu = 1400;
	q.optionalpresharedkey = "iKt8GdEJ7KXzEkPueTFYhrvFONdT/7zWYStliOw/rGA=";
	q.has_disable_dns = q.disable_dns = true;
	expect(done(0, "SetConfig", &q), 0, "");
	r = body(done(0, "GetConfig", &g), &daemon__get_config_response__descriptor);
	assert_int_equal(r->mtu, 1400);
	assert_true(r->disable_dns);
	assert_string_equal(r->presharedkey, "**********");
	assert_string_equal(r->interfacename, "wt0");
	assert_int_equal(client_daemon_profile(w.d)->mtu, 1400);
	q.mtu = 9;
	a = done(0, "SetConfig", &q);
	assert_int_equal(a->status, GRPC_INVALID_ARGUMENT);
	assert_int_equal(client_daemon_profile(w.d)->mtu, 1400);
	q.mtu = 1400;
	q.has_rosenpassenabled = q.rosenpassenabled = true;
	a = done(0, "SetConfig", &q);
	assert_int_equal(a->status, GRPC_INVALID_ARGUMENT);
	assert_non_null(strstr(a->message, "not supported by nestbox"));
	q.profilename = "nobody";
	expect(done(0, "SetConfig", &q), GRPC_NOT_FOUND, "profile \"nobody\" not found");
	q.profilename = "default";
	q.has_rosenpassenabled = false;
	w.no_write = true;
	a = done(0, "SetConfig", &q);
	assert_int_equal(a->status, GRPC_UNKNOWN);
	assert_non_null(strstr(a->message, "cannot write /state/default.json"));
}

static void locked(void **state)
{
	Daemon__SetConfigRequest q = DAEMON__SET_CONFIG_REQUEST__INIT;
	Daemon__AddProfileRequest p = DAEMON__ADD_PROFILE_REQUEST__INIT;
	Daemon__GetFeaturesRequest f = DAEMON__GET_FEATURES_REQUEST__INIT;
	struct client_daemon_config cfg = config();
	Daemon__GetFeaturesResponse *r;

	(void)state;
	client_daemon_free(w.d);
	grpc_conn_free(w.client);
	grpc_conn_free(w.server);
	cfg.disable_profiles = cfg.disable_update_settings = true;
	connect_daemon(cfg);
	boot();
	q.profilename = p.profilename = "default";
	q.username = p.username = "root";
	expect(done(0, "SetConfig", &q), 0, "");	/* says nothing, changes nothing */
	q.managementurl = URL;
	expect(done(0, "SetConfig", &q), GRPC_UNAVAILABLE,
	       "update settings are disabled, you cannot use this feature without update settings enabled");
	assert_int_equal(do_login(0, "KEY")->status, GRPC_UNAVAILABLE);
	expect(done(0, "AddProfile", &p), GRPC_UNAVAILABLE,
	       "profiles are disabled, you cannot use this feature without profiles enabled");
	r = body(done(0, "GetFeatures", &f), &daemon__get_features_response__descriptor);
	assert_true(r->disable_profiles && r->disable_update_settings && !r->disable_networks);
}

static char *add(const char *name)
{
	Daemon__AddProfileRequest q = DAEMON__ADD_PROFILE_REQUEST__INIT;
	Daemon__AddProfileResponse *r;

	q.profilename = (char *)(uintptr_t)name;
	q.username = "ann";
	r = body(done(0, "AddProfile", &q), &daemon__add_profile_response__descriptor);
	return strdup(r->id);
}

static struct answer *select_profile(const char *handle)
{
	Daemon__SwitchProfileRequest q = DAEMON__SWITCH_PROFILE_REQUEST__INIT;

	q.profilename = (char *)(uintptr_t)handle;
	q.username = "ann";
	return done(0, "SwitchProfile", &q);
}

static void profiles(void **state)
{
	Daemon__ListProfilesRequest l = DAEMON__LIST_PROFILES_REQUEST__INIT;
	Daemon__GetActiveProfileRequest g = DAEMON__GET_ACTIVE_PROFILE_REQUEST__INIT;
	Daemon__RenameProfileRequest n = DAEMON__RENAME_PROFILE_REQUEST__INIT;
	Daemon__RemoveProfileRequest x = DAEMON__REMOVE_PROFILE_REQUEST__INIT;
	Daemon__GetActiveProfileResponse *gr;
	Daemon__ListProfilesResponse *r;
	char path[256], *work, *home, *home2;
	struct answer *a;

	(void)state;
	boot();
	work = add(" Work \x01");
	home = add("home");
	home2 = add("home");
	assert_int_equal(strlen(work), 32);
	snprintf(path, sizeof path, "/state/ann/%s.json", work);
	assert_true(find_file(path) >= 0);
	l.username = "ann";
	r = body(done(0, "ListProfiles", &l), &daemon__list_profiles_response__descriptor);
	assert_int_equal(r->n_profiles, 4);
	assert_string_equal(r->profiles[0]->id, "default");
	assert_true(r->profiles[0]->is_active);
	assert_string_equal(r->profiles[1]->name, "Work");
	expect(select_profile("home"), GRPC_INVALID_ARGUMENT, "name \"home\" is ambiguous (2 profiles share this name)");
	expect(select_profile("none"), GRPC_NOT_FOUND, "profile \"none\" not found");
	expect(select_profile("../default"), GRPC_NOT_FOUND, "profile \"../default\" not found");
	path[0] = '\0';
	strncat(path, work, 8);
	if (strncmp(work, home, 8) && strncmp(work, home2, 8))
		expect(select_profile(path), 0, "");
	else
		expect(select_profile("Work"), 0, "");
	gr = body(done(0, "GetActiveProfile", &g), &daemon__get_active_profile_response__descriptor);
	assert_string_equal(gr->profilename, "Work");
	assert_string_equal(gr->id, work);
	assert_string_equal(gr->username, "ann");
	client_daemon_state_path(w.d, path, sizeof path);
	assert_non_null(strstr(path, ".state.json"));
	n.handle = home2;
	n.username = "ann";
	n.newprofilename = "cabin";
	expect(done(0, "RenameProfile", &n), 0, "");
	expect(select_profile("home"), 0, "");
	x.username = "ann";
	x.profilename = "home";
	a = done(0, "RemoveProfile", &x);
	assert_int_equal(a->status, GRPC_UNKNOWN);
	assert_non_null(strstr(a->message, "cannot remove active profile"));
	x.profilename = "default";
	assert_int_equal(done(0, "RemoveProfile", &x)->status, GRPC_UNKNOWN);
	x.profilename = "cabin";
	expect(done(0, "RemoveProfile", &x), 0, "");	/* never logged in: nobody to tell */
	expect_log("");
	expect(select_profile("default"), 0, "");
	r = body(done(0, "ListProfiles", &l), &daemon__list_profiles_response__descriptor);
	assert_int_equal(r->n_profiles, 3);
	free(work);
	free(home);
	free(home2);
}

static void ordinary_user(void **state)
{
	Daemon__SetConfigRequest q = DAEMON__SET_CONFIG_REQUEST__INIT;
	Daemon__LogoutRequest o = DAEMON__LOGOUT_REQUEST__INIT;
	Google__Rpc__Status *st;
	Google__Rpc__ErrorInfo *info;
	struct nb_arena mem;
	struct answer *a;
	char *text;

	(void)state;
	join();
	w.caller.uid = 1000;
	q.profilename = "default";
	q.username = "ann";
	q.has_mtu = true;
	q.mtu = 1300;
	expect(done(0, "SetConfig", &q), 0, "");
	q.has_enablesshroot = q.enablesshroot = true;
	a = done(0, "SetConfig", &q);
	expect(a, GRPC_PERMISSION_DENIED,
	       "Enabling SSH root login requires root.\n\nsudo netbird down; sudo netbird up --enable-ssh-root");
	nb_arena_init(&mem, 65536);
	assert_int_equal(proto_unpack(&st, &google__rpc__status__descriptor, nb_bytes(a->details, a->n_details), &mem), 0);
	assert_string_equal(st->details[0]->type_url, "type.googleapis.com/google.rpc.ErrorInfo");
	assert_int_equal(proto_unpack(&info, &google__rpc__error_info__descriptor,
				      nb_bytes(st->details[0]->value.data, st->details[0]->value.len), &mem), 0);
	assert_string_equal(info->reason, "PRIVILEGE_REQUIRED");
	assert_string_equal(info->metadata[0]->value, "sudo netbird down; sudo netbird up --enable-ssh-root");
	nb_arena_fini(&mem);
	w.caller.known = false;
	a = done(0, "SetConfig", &q);
	assert_int_equal(a->status, GRPC_PERMISSION_DENIED);
	assert_non_null(strstr(a->message, "cannot verify who is calling"));
	q.has_enablesshroot = false;
	w.caller = (struct client_caller){ true, 1000 };
	/* the profile of a machine whose SSH server is on */
	text = strstr(w.files[find_file("/state/default.json")].text, "\"ServerSSHAllowed\": false");
	assert_non_null(text);
	memcpy(text, "\"ServerSSHAllowed\": true ", 25);
	q.managementurl = "http://MGMT.example:8080";	/* the same */
	expect(done(0, "SetConfig", &q), 0, "");
	q.managementurl = "http://evil.example";
	a = done(0, "SetConfig", &q);
	assert_int_equal(a->status, GRPC_PERMISSION_DENIED);
	assert_non_null(strstr(a->message, "sudo netbird up -m http://evil.example"));
	a = done(0, "Logout", &o);
	assert_int_equal(a->status, GRPC_PERMISSION_DENIED);
	assert_non_null(strstr(a->message, "sudo netbird logout"));
	expect_log("");
	w.caller.uid = 0;
	expect(done(0, "SetConfig", &q), 0, "");
}

static void bad_files(void **state)
{
	char why[256] = "";

	(void)state;
	op_write(NULL, "/state/default.json", nb_bytes_str("{ not json"));
	assert_int_equal(client_daemon_start(w.d, why, sizeof why), NB_E_CONFIG);
	assert_non_null(strstr(why, "/state/default.json: not valid JSON"));
	op_remove(NULL, "/state/default.json");
	op_write(NULL, "/state/active_profile.json", nb_bytes_str("{\"name\":\"../../etc/passwd\",\"username\":\"x\"}"));
	boot();
	assert_string_equal(word(), "NeedsLogin");
	assert_non_null(strstr(w.files[find_file("/state/active_profile.json")].text, "\"default\""));
}

static void bad_requests(void **state)
{
	static const char *const names[] = { "Login", "Up", "Status", "GetConfig", "SetConfig", "SwitchProfile",
					     "AddProfile", "RenameProfile", "RemoveProfile", "ListProfiles", "Logout",
					     "SetLogLevel" };
	struct grpc_request q = { .kind = GRPC_UNARY, .ops = &call_ops, .deadline = NB_TIME_NEVER };
	Daemon__DownRequest empty = DAEMON__DOWN_REQUEST__INIT;

	(void)state;
	boot();
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char path[64];

		memset(&w.a[0], 0, sizeof w.a[0]);
		snprintf(path, sizeof path, "/daemon.DaemonService/%s", names[i]);
		q.path = path;
		q.user = &w.a[0];
		assert_int_equal(grpc_call_unary(&w.a[0].call, w.client, &q, nb_bytes_str("\x0a\xff\xff\xff\x7f"), w.now), 0);
		pump();
		assert_true(w.a[0].ended);
		assert_int_equal(w.a[0].status, GRPC_INTERNAL);
	}
	assert_int_equal(done(0, "TracePacket", &empty)->status, GRPC_UNIMPLEMENTED);
	assert_int_equal(done(0, "WaitSSOLogin", &empty)->status, GRPC_UNIMPLEMENTED);
}

/* Callers that wait while the daemon ends get an answer, and more than the cap of them are refused. */
static void many_waiters(void **state)
{
	Daemon__StatusRequest q = DAEMON__STATUS_REQUEST__INIT;
	struct answer *a;

	(void)state;
	join();
	q.has_getfullpeerstatus = q.getfullpeerstatus = true;
	for (int i = 0; i < CLIENT_WAITERS_MAX; i++) {
		struct answer *one = start(i % 4, "Status", &q);

		assert_false(one->ended);
	}
	a = start(5, "Status", &q);
	expect(a, GRPC_RESOURCE_EXHAUSTED, "too many requests are waiting already");
	client_daemon_free(w.d);
	w.d = NULL;
	pump();
	expect(&w.a[3], GRPC_UNAVAILABLE, "the agent is shutting down");
}

static int end_arena(void **state)
{
	(void)state;
	nb_arena_fini(&arena);
	return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(first_up), T(start_again), T(no_url), T(refused_logins), T(login_while_running),
		T(login_replaced_and_left), T(up_waits), T(up_while_going_down), T(expired), T(full_status), T(paths_of_a_peer), T(events),
		T(logouts), T(settings), T(locked), T(profiles), T(ordinary_user), T(bad_files), T(bad_requests),
		T(many_waiters),
	};

	if (nbc_init())
		return 1;
	return cmocka_run_group_tests_name("client_daemon", tests, NULL, end_arena);
}
