/* daemon.c - see daemon.h: the lifecycle (Login, Up, Down, Status, Logout) and the calls that wait for
 * the machinery. Every state change goes through set_state; every waiting call is a struct waiter that
 * is either answered here or freed by client_call_end when its caller has gone. */
#include "client/daemon.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "client/daemon_int.h"
#include "proto/unpack.h"

#define UP_WAIT_NS (50 * NB_SEC)
#define DOWN_WAIT_NS (5 * NB_SEC)
#define LOGIN_WAIT_NS (150 * NB_SEC)	/* the machinery gives up after two minutes */
#define LOGOUT_WAIT_NS (15 * NB_SEC)
#define STATUS_WAIT_NS (10 * NB_SEC)
#define ARENA_MAX (8u << 20)

#define NO_URL "no management URL is known: give one with netbird up --management-url https://HOST"

static const char *text(const char *s)
{
	return s ? s : "";
}

const char *client_state_name(enum client_state s)
{
	static const char *const names[] = { "Idle", "Connecting", "Connected", "NeedsLogin", "LoginFailed",
					     "SessionExpired" };

	return names[s];
}

static void set_state(struct client_daemon *d, enum client_state s)
{
	if (d->state != s)
		nb_info("the agent is now %s", client_state_name(s));
	d->state = s;
}

/* --- answering */

void client_fail(struct grpc_call *call, int status, const char *fmt, ...)
{
	char message[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof message, fmt, ap);
	va_end(ap);
	nb_debug("%s: %s: %s", grpc_call_path(call), grpc_status_name(status), message);
	grpc_call_finish(call, status, message);
}

void client_reply(struct grpc_call *call, const void *message)
{
	struct nb_buf b;

	nb_buf_init(&b, ARENA_MAX);
	if (proto_pack(&b, message))
		client_fail(call, GRPC_RESOURCE_EXHAUSTED, "the answer does not fit into memory");
	else
		grpc_call_reply(call, nb_buf_view(&b));
	nb_buf_fini(&b);
}

void *client_request(struct grpc_call *call, const ProtobufCMessageDescriptor *desc, struct nb_bytes in,
		     struct nb_arena *arena)
{
	void *m;

	nb_arena_init(arena, ARENA_MAX);
	if (proto_unpack_any(&m, desc, in, arena) == 0)
		return m;
	nb_arena_fini(arena);
	client_fail(call, GRPC_INTERNAL, "grpc: error unmarshalling request: malformed %s", desc->short_name);
	return NULL;
}

struct waiter *client_wait(struct client_daemon *d, struct grpc_call *call, enum waiter_kind kind, int64_t ns)
{
	struct waiter *w = d->n_waiters < CLIENT_WAITERS_MAX ? calloc(1, sizeof *w) : NULL;

	if (!w) {
		client_fail(call, GRPC_RESOURCE_EXHAUSTED, "too many requests are waiting already");
		return NULL;
	}
	w->d = d;
	w->call = call;
	w->kind = kind;
	w->deadline = nb_time_add(d->cfg.ops->now(d->cfg.arg), ns);
	nb_list_push(&d->waiters, &w->node);
	d->n_waiters++;
	grpc_call_set_user(call, w);
	d->cfg.ops->wake(d->cfg.arg);
	return w;
}

struct grpc_call *client_unwait(struct waiter *w)
{
	struct client_daemon *d = w->d;
	struct grpc_call *call = w->call;

	if (d->login == w)
		d->login = NULL;
	if (d->logout == w)
		d->logout = NULL;
	nb_list_del(&w->node);
	d->n_waiters--;
	grpc_call_set_user(call, NULL);
	free(w);
	return call;
}

static void forget_key(struct client_daemon *d)
{
	if (d->login_key)
		nb_wipe(d->login_key, strlen(d->login_key));
	free(d->login_key);
	d->login_key = NULL;
}

/* The login under way is not wanted any more; its caller, if any, is told why. */
static void drop_login(struct client_daemon *d, const char *why)
{
	bool running = d->login_running;

	d->login_running = false;
	forget_key(d);
	if (d->login)
		client_fail(client_unwait(d->login), GRPC_CANCELLED, "%s", why);
	if (running) {
		d->cfg.ops->login_cancel(d->cfg.arg);
		if (d->state == CLIENT_CONNECTING && !d->engine_on)
			set_state(d, CLIENT_IDLE);
	}
}

/* on_end of every call: the caller went away when a waiter is still there. */
void client_call_end(struct grpc_call *call, void *user, const struct grpc_result *r)
{
	struct waiter *w = user;
	struct client_daemon *d;
	bool login;

	(void)call, (void)r;
	if (!w)
		return;
	d = w->d;
	login = d->login == w;
	if (login)
		d->login = NULL;
	if (d->logout == w)
		d->logout = NULL;
	nb_list_del(&w->node);
	d->n_waiters--;
	free(w);
	if (login)
		drop_login(d, "");
}

/* --- Up */

static void finish_ups(struct client_daemon *d, int status, const char *message)
{
	Daemon__UpResponse r = DAEMON__UP_RESPONSE__INIT;

	nb_list_each_safe(n, &d->waiters) {
		struct waiter *w = nb_container(n, struct waiter, node);

		if (w->kind != WAIT_UP)
			continue;
		if (status)
			client_fail(client_unwait(w), status, "%s", message);
		else
			client_reply(client_unwait(w), &r);
	}
}

static void answer_status(struct client_daemon *d, struct grpc_call *call, bool full, bool probes);

/* Status calls that waited for the attempt to end one way or the other. */
static void finish_ready(struct client_daemon *d)
{
	struct nb_list due;

	nb_list_init(&due);
	nb_list_each_safe(n, &d->waiters) {
		struct waiter *w = nb_container(n, struct waiter, node);

		if (w->kind == WAIT_READY) {
			nb_list_del(n);
			nb_list_push(&due, n);
		}
	}
	while (!nb_list_empty(&due)) {
		struct waiter *w = nb_container(due.next, struct waiter, node);
		bool full = w->full, probes = w->probes;

		answer_status(d, client_unwait(w), full, probes);
	}
}

static void start_engine(struct client_daemon *d)
{
	d->up_wanted = false;
	d->engine_on = true;
	d->was_connected = false;
	d->engine_error[0] = '\0';
	d->state_after_down = CLIENT_IDLE;
	set_state(d, CLIENT_CONNECTING);
	d->cfg.ops->up(d->cfg.arg, &d->conf, d->hostname);
}

static void config_changed(struct client_daemon *d, const char *source)
{
	const char *const meta[][2] = { { "source", source }, { "type", "config_changed" } };
	char message[80];

	snprintf(message, sizeof message, "daemon config changed (source=%s)", source);
	client_daemon_event(d, DAEMON__SYSTEM_EVENT__SEVERITY__INFO, DAEMON__SYSTEM_EVENT__CATEGORY__SYSTEM, message, "",
			    meta, 2);
}

/* Returns a gRPC status; the engine is running or going to when it is OK. */
static int up(struct client_daemon *d, const Daemon__UpRequest *m, char *why)
{
	int status = GRPC_OK;

	if (d->state == CLIENT_NEEDS_LOGIN)
		set_state(d, CLIENT_IDLE);
	if (d->state != CLIENT_IDLE && !d->stopping) {
		snprintf(why, WHY_MAX, "up already in progress: current status %s", client_state_name(d->state));
		return GRPC_UNKNOWN;
	}
	if (m->profilename)
		status = client_switch_profile(d, m->profilename, m->username, why);
	if (!status && client_load_active(d, NULL, why))
		status = GRPC_UNKNOWN;
	if (status)
		return status;
	if (!d->conf.management_url.scheme[0]) {
		set_state(d, CLIENT_NEEDS_LOGIN);
		snprintf(why, WHY_MAX, NO_URL);
		return GRPC_INVALID_ARGUMENT;
	}
	config_changed(d, "up_rpc");
	return GRPC_OK;
}

static void h_up(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Daemon__UpResponse r = DAEMON__UP_RESPONSE__INIT;
	bool running = d->engine_on && !d->stopping, async;
	Daemon__UpRequest *m;
	int status = GRPC_OK;
	char why[WHY_MAX];
	struct nb_arena a;

	(void)user;
	m = client_request(call, &daemon__up_request__descriptor, in, &a);
	if (!m)
		return;
	async = m->async;
	if (!running)
		status = up(d, m, why);
	nb_arena_fini(&a);
	if (status)
		client_fail(call, status, "%s", why);
	else if (async || (running && d->was_connected))
		client_reply(call, &r);
	else if (!client_wait(d, call, WAIT_UP, UP_WAIT_NS))
		return;
	if (status || running)
		return;
	if (d->stopping)
		d->up_wanted = true;
	else
		start_engine(d);
}

/* --- Login */

static void start_login(struct client_daemon *d)
{
	char key[256];

	snprintf(key, sizeof key, "%s", text(d->login_key));
	forget_key(d);
	d->login_running = true;
	if (key[0])
		set_state(d, CLIENT_CONNECTING);
	d->cfg.ops->login(d->cfg.arg, &d->conf, key, d->hostname);
	nb_wipe(key, sizeof key);
}

/* Management URL and preshared key are kept from a login; the other settings of the request came with
 * SetConfig before. */
static int keep_overrides(struct client_daemon *d, const Daemon__LoginRequest *m, char *why)
{
	Daemon__SetConfigRequest set = DAEMON__SET_CONFIG_REQUEST__INIT;
	char detail[WHY_MAX - 40];

	if (*text(m->managementurl))
		set.managementurl = m->managementurl;
	if (*text(m->optionalpresharedkey))
		set.optionalpresharedkey = m->optionalpresharedkey;
	if (!set.managementurl && !set.optionalpresharedkey)
		return GRPC_OK;
	if (client_config_apply(&d->conf, &set, detail, sizeof detail)) {
		snprintf(why, WHY_MAX, "persist login overrides: %s", detail);
		return GRPC_INVALID_ARGUMENT;
	}
	return client_profile_save(d, &d->active, &d->conf, why) ? GRPC_UNKNOWN : GRPC_OK;
}

static bool login_has_settings(const Daemon__LoginRequest *m)
{
	return *text(m->managementurl) || *text(m->adminurl) || *text(m->presharedkey) || m->optionalpresharedkey ||
	       m->customdnsaddress.len || m->n_natexternalips || m->cleannatexternalips || m->has_rosenpassenabled ||
	       m->interfacename || m->has_wireguardport || m->has_disableautoconnect || m->has_serversshallowed ||
	       m->has_rosenpasspermissive || m->n_extraifaceblacklist || m->has_networkmonitor || m->dnsrouteinterval ||
	       m->has_disable_client_routes || m->has_disable_server_routes || m->has_disable_dns ||
	       m->has_disable_firewall || m->has_block_lan_access || m->has_disable_notifications || m->n_dns_labels ||
	       m->cleandnslabels || m->has_block_inbound;
}

/* May this caller change what the request changes, judged by the profile it is for? False: answered. */
static bool login_allowed(struct client_daemon *d, struct grpc_call *call, const Daemon__LoginRequest *m)
{
	const struct client_change change = {
		m->managementurl, m->has_serversshallowed, m->serversshallowed, m->has_enablesshroot, m->enablesshroot,
		m->has_disablesshauth, m->disablesshauth,
	};
	struct profile p = d->active;
	struct client_config c;
	char why[WHY_MAX];
	int status = GRPC_OK;
	bool stored, ok;

	if (d->cfg.disable_update_settings && login_has_settings(m)) {
		client_fail(call, GRPC_UNAVAILABLE, "update settings are disabled, you cannot use this feature without "
			    "update settings enabled");
		return false;
	}
	if (m->profilename)
		status = client_profile_resolve(d, m->profilename,
						strcmp(m->profilename, CLIENT_DEFAULT_PROFILE) ? text(m->username) : "",
						&p, why);
	if (status) {
		client_fail(call, status, "%s", why);
		return false;
	}
	stored = client_profile_load(d, &p, &c, why) == 0;
	ok = client_may_change(d, call, stored ? &c : NULL, &change);
	if (stored)
		client_config_fini(&c);
	return ok;
}

static int prepare_login(struct client_daemon *d, const Daemon__LoginRequest *m, char *why)
{
	int status = GRPC_OK;
	char detail[WHY_MAX];

	if (m->profilename) {
		status = client_switch_profile(d, m->profilename, m->username, detail);
		if (status)
			snprintf(why, WHY_MAX, "switch profile: %.300s", detail);
	}
	if (!status && client_load_active(d, NULL, why))
		status = GRPC_UNKNOWN;
	if (!status)
		status = keep_overrides(d, m, why);
	if (!status && !d->conf.management_url.scheme[0]) {
		set_state(d, CLIENT_NEEDS_LOGIN);
		snprintf(why, WHY_MAX, NO_URL);
		status = GRPC_INVALID_ARGUMENT;
	}
	return status;
}

static void login(struct client_daemon *d, struct grpc_call *call, const Daemon__LoginRequest *m)
{
	char why[WHY_MAX];
	int status;

	if (!login_allowed(d, call, m))
		return;
	drop_login(d, "another login was started");
	status = prepare_login(d, m, why);
	if (status) {
		client_fail(call, status, "%s", why);
		return;
	}
	if (*text(m->hostname))
		snprintf(d->hostname, sizeof d->hostname, "%s", m->hostname);
	d->login_key = strdup(text(m->setupkey));
	d->login = client_wait(d, call, WAIT_LOGIN, LOGIN_WAIT_NS);
	if (!d->login) {
		forget_key(d);
		return;
	}
	/* Logging in ends a running session, as in stock; it begins when that is down. */
	if (d->engine_on)
		client_stop_engine(d, CLIENT_IDLE);
	else
		start_login(d);
}

static void h_login(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Daemon__LoginRequest *m;
	struct nb_arena a;

	(void)user;
	m = client_request(call, &daemon__login_request__descriptor, in, &a);
	if (!m)
		return;
	login(d, call, m);
	nb_arena_fini(&a);
}

static void h_wait_sso(struct grpc_call *call, void *user, struct nb_bytes in)
{
	(void)user, (void)in;
	client_fail(call, GRPC_UNIMPLEMENTED, "single sign-on is not supported by nestbox: use netbird up --setup-key KEY");
}

void client_daemon_login_done(struct client_daemon *d, enum client_login_end how, int status, const char *message)
{
	Daemon__LoginResponse r = DAEMON__LOGIN_RESPONSE__INIT;
	struct grpc_call *call;

	if (!d->login_running)
		return;
	d->login_running = false;
	set_state(d, how == CLIENT_LOGIN_OK ? CLIENT_IDLE : how == CLIENT_LOGIN_ERROR ? CLIENT_LOGIN_FAILED :
		  CLIENT_NEEDS_LOGIN);
	snprintf(d->engine_error, sizeof d->engine_error, "%s", how == CLIENT_LOGIN_ERROR ? text(message) : "");
	if (!d->login)
		return;
	call = client_unwait(d->login);
	if (how == CLIENT_LOGIN_OK)
		client_reply(call, &r);
	else if (how == CLIENT_LOGIN_NEEDED)
		client_fail(call, GRPC_UNIMPLEMENTED, "this peer is not registered and single sign-on is not supported by "
			    "nestbox: use netbird up --setup-key KEY");
	else
		client_fail(call, status ? status : GRPC_UNKNOWN, "%s", text(message));
}

/* --- Down */

void client_stop_engine(struct client_daemon *d, enum client_state afterwards)
{
	d->state_after_down = afterwards;
	if (!d->engine_on || d->stopping)
		return;
	d->stopping = true;
	d->cfg.ops->down(d->cfg.arg);
}

static void finish_downs(struct client_daemon *d)
{
	Daemon__DownResponse down = DAEMON__DOWN_RESPONSE__INIT;
	Daemon__LogoutResponse out = DAEMON__LOGOUT_RESPONSE__INIT;

	nb_list_each_safe(n, &d->waiters) {
		struct waiter *w = nb_container(n, struct waiter, node);

		if (w->kind == WAIT_DOWN)
			client_reply(client_unwait(w), &down);
		else if (w->kind == WAIT_LOGOUT && w != d->logout)
			client_reply(client_unwait(w), &out);
	}
}

void client_daemon_is_down(struct client_daemon *d)
{
	if (!d->engine_on && !d->stopping)
		return;
	d->engine_on = d->stopping = d->was_connected = false;
	d->engine_error[0] = '\0';
	if (d->login && !d->login_running) {
		finish_downs(d);
		start_login(d);
	} else if (d->up_wanted) {
		finish_downs(d);
		start_engine(d);
	} else {
		set_state(d, d->state_after_down);
		finish_ups(d, GRPC_UNKNOWN, "client gave up to connect");
		finish_ready(d);
		finish_downs(d);
	}
}

static void h_down(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Daemon__DownResponse r = DAEMON__DOWN_RESPONSE__INIT;

	(void)user, (void)in;
	drop_login(d, "the agent was told to disconnect");
	d->up_wanted = false;
	finish_ups(d, GRPC_UNKNOWN, "client gave up to connect");
	if (!d->engine_on) {
		set_state(d, CLIENT_IDLE);
		client_reply(call, &r);
	} else if (client_wait(d, call, WAIT_DOWN, DOWN_WAIT_NS)) {
		client_stop_engine(d, CLIENT_IDLE);
	}
}

/* --- what the engine says */

static void ended_by_itself(struct client_daemon *d, enum client_state s, const char *why)
{
	char message[WHY_MAX + 32];

	d->was_connected = false;
	if (!d->stopping)
		d->engine_on = false;
	set_state(d, s);
	snprintf(message, sizeof message, "client gave up to connect%s%s", *why ? ": " : "", why);
	if (!d->up_wanted)
		finish_ups(d, GRPC_UNKNOWN, message);
	finish_ready(d);
}

void client_daemon_engine(struct client_daemon *d, enum client_engine_event e, const char *why)
{
	if (!d->engine_on)
		return;
	snprintf(d->engine_error, sizeof d->engine_error, "%s", text(why));
	switch (e) {
	case CLIENT_ENGINE_CONNECTING:
		if (!d->stopping)
			set_state(d, CLIENT_CONNECTING);
		break;
	case CLIENT_ENGINE_CONNECTED:
		if (d->stopping)
			break;
		d->was_connected = true;
		d->session_active = true;
		set_state(d, CLIENT_CONNECTED);
		finish_ups(d, GRPC_OK, "");
		finish_ready(d);
		break;
	case CLIENT_ENGINE_NEEDS_LOGIN:
		ended_by_itself(d, CLIENT_NEEDS_LOGIN, text(why));
		break;
	case CLIENT_ENGINE_FAILED:
		ended_by_itself(d, CLIENT_IDLE, text(why));
		break;
	}
}

/* --- Logout */

static void logout(struct client_daemon *d, struct grpc_call *call, const struct profile *p)
{
	struct client_config c;
	char why[WHY_MAX];

	if (d->logout) {
		client_fail(call, GRPC_ABORTED, "another deregistration is under way");
		return;
	}
	if (client_profile_load(d, p, &c, why)) {
		client_fail(call, GRPC_FAILED_PRECONDITION, "not logged in");
		return;
	}
	if (client_may_deregister(d, call, &c)) {
		if (!c.management_url.scheme[0]) {
			client_fail(call, GRPC_FAILED_PRECONDITION, "not logged in");
		} else {
			d->logout = client_wait(d, call, WAIT_LOGOUT, LOGOUT_WAIT_NS);
			if (d->logout) {
				d->logout_profile = *p;
				d->logout_removes = false;
				d->cfg.ops->logout(d->cfg.arg, &c);
			}
		}
	}
	client_config_fini(&c);
}

static void h_logout(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	struct profile p = d->active;
	Daemon__LogoutRequest *m;
	int status = GRPC_OK;
	char why[WHY_MAX];
	struct nb_arena a;

	(void)user;
	m = client_request(call, &daemon__logout_request__descriptor, in, &a);
	if (!m)
		return;
	if (*text(m->profilename)) {
		if (!*text(m->username)) {
			status = GRPC_INVALID_ARGUMENT;
			snprintf(why, sizeof why, "username must be provided when profile name is specified");
		} else {
			status = client_profile_resolve(d, m->profilename, m->username, &p, why);
		}
		if (!status && d->cfg.disable_profiles) {
			status = GRPC_UNAVAILABLE;
			snprintf(why, sizeof why,
				 "profiles are disabled, you cannot use this feature without profiles enabled");
		}
	}
	nb_arena_fini(&a);
	if (status)
		client_fail(call, status, "%s", why);
	else
		logout(d, call, &p);
}

void client_daemon_logout_done(struct client_daemon *d, int status, const char *message)
{
	Daemon__LogoutResponse r = DAEMON__LOGOUT_RESPONSE__INIT;
	struct waiter *w = d->logout;
	bool active = !strcmp(d->logout_profile.id, d->active.id);
	bool ok = status == GRPC_OK || status == GRPC_NOT_FOUND;

	d->logout = NULL;
	if (d->logout_removes) {
		if (!ok)
			nb_warn("the profile %s is removed without deregistering its peer: %s", d->logout_profile.id,
				text(message));
		if (w)
			client_remove_profile_now(d, client_unwait(w), &d->logout_profile);
		return;
	}
	if (!ok) {
		if (w)
			client_fail(client_unwait(w), status, "%s", text(message));
		return;
	}
	if (active && d->engine_on) {
		d->session_active = false;
		client_stop_engine(d, CLIENT_NEEDS_LOGIN);	/* answers w when it is down */
		return;
	}
	if (active) {
		d->session_active = false;
		set_state(d, CLIENT_NEEDS_LOGIN);
	}
	if (w)
		client_reply(client_unwait(w), &r);
}

/* --- Status */

static void fill_missing(const struct client_daemon *d, Daemon__FullStatus *s, Daemon__ManagementState *m, char *url,
			 size_t cap)
{
	/* Go's zero time: what stock sends for "never". */
	static Google__Protobuf__Timestamp never = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	if (!s->managementstate)
		s->managementstate = m;
	if (d->have_conf && d->conf.management_url.scheme[0] && !*text(s->managementstate->url)) {
		client_url_format(url, cap, &d->conf.management_url);
		s->managementstate->url = url;
	}
	if (!s->managementstate->connected && !*text(s->managementstate->error) && d->engine_error[0])
		s->managementstate->error = (char *)(uintptr_t)d->engine_error;
	never.has_seconds = true;
	never.seconds = -62135596800;
	for (size_t i = 0; i < s->n_peers; i++) {
		if (!s->peers[i]->connstatusupdate)
			s->peers[i]->connstatusupdate = &never;
		if (!s->peers[i]->lastwireguardhandshake)
			s->peers[i]->lastwireguardhandshake = &never;
	}
}

static void send_status(struct client_daemon *d, struct grpc_call *call, Daemon__FullStatus *full)
{
	Daemon__StatusResponse r = DAEMON__STATUS_RESPONSE__INIT;
	Daemon__ManagementState management = DAEMON__MANAGEMENT_STATE__INIT;
	Daemon__SignalState sig = DAEMON__SIGNAL_STATE__INIT;
	Daemon__LocalPeerState local = DAEMON__LOCAL_PEER_STATE__INIT;
	char url[CLIENT_HOST_MAX + 160];
	enum client_state s = d->state;
	struct nb_arena a;

	if (s == CLIENT_NEEDS_LOGIN && d->session_active) {
		s = CLIENT_SESSION_EXPIRED;
		d->session_active = false;
	}
	r.status = (char *)(uintptr_t)client_state_name(s);
	r.daemonversion = NB_COMPAT;
	nb_arena_init(&a, CLIENT_FILE_MAX);
	if (full) {
		fill_missing(d, full, &management, url, sizeof url);
		if (!full->signalstate)
			full->signalstate = &sig;
		if (!full->localpeerstate)
			full->localpeerstate = &local;
		full->events = client_event_messages(d, &a, &full->n_events);
		r.fullstatus = full;
	}
	client_reply(call, &r);
	nb_arena_fini(&a);
}

static void answer_status(struct client_daemon *d, struct grpc_call *call, bool full, bool probes)
{
	struct waiter *w;

	if (!full) {
		send_status(d, call, NULL);
		return;
	}
	w = client_wait(d, call, WAIT_STATUS, STATUS_WAIT_NS);
	if (!w)
		return;
	w->ticket = ++d->next_ticket;
	d->cfg.ops->status(d->cfg.arg, w->ticket, probes);
}

void client_daemon_status_ready(struct client_daemon *d, uint32_t ticket, Daemon__FullStatus *s)
{
	Daemon__FullStatus none = DAEMON__FULL_STATUS__INIT;

	nb_list_each(n, &d->waiters) {
		struct waiter *w = nb_container(n, struct waiter, node);

		if (w->kind == WAIT_STATUS && w->ticket == ticket) {
			send_status(d, client_unwait(w), s ? s : &none);
			return;
		}
	}
}

static void h_status(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Daemon__StatusRequest *m;
	bool wait, full, probes;
	struct waiter *w;
	struct nb_arena a;

	(void)user;
	m = client_request(call, &daemon__status_request__descriptor, in, &a);
	if (!m)
		return;
	wait = m->waitforready;
	full = m->getfullpeerstatus;
	probes = m->shouldrunprobes;
	nb_arena_fini(&a);
	if (!wait || !d->engine_on || d->was_connected) {
		answer_status(d, call, full, probes);
		return;
	}
	w = client_wait(d, call, WAIT_READY, UP_WAIT_NS);
	if (w) {
		w->full = full;
		w->probes = probes;
	}
}

/* --- time */

struct nb_time client_daemon_deadline(const struct client_daemon *d)
{
	struct nb_time t = NB_TIME_NEVER;

	nb_list_each(n, &d->waiters)
		t = nb_time_min(t, nb_container(n, struct waiter, node)->deadline);
	return t;
}

static void overdue(struct client_daemon *d, struct waiter *w)
{
	Daemon__DownResponse down = DAEMON__DOWN_RESPONSE__INIT;
	Daemon__FullStatus none = DAEMON__FULL_STATUS__INIT;
	enum waiter_kind kind = w->kind;
	bool full = w->full, probes = w->probes;
	struct grpc_call *call;

	if (w == d->login) {
		d->login_running = false;
		forget_key(d);
		d->cfg.ops->login_cancel(d->cfg.arg);
		set_state(d, CLIENT_LOGIN_FAILED);
	}
	call = client_unwait(w);
	switch (kind) {
	case WAIT_DOWN:
		nb_warn("the tunnel takes long to go down; not waiting for it");
		client_reply(call, &down);
		break;
	case WAIT_READY:
		answer_status(d, call, full, probes);
		break;
	case WAIT_STATUS:
		send_status(d, call, &none);
		break;
	case WAIT_LOGIN:
	case WAIT_UP:
	case WAIT_LOGOUT:
		client_fail(call, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
		break;
	}
}

void client_daemon_timer(struct client_daemon *d, struct nb_time now)
{
	for (;;) {
		struct waiter *late = NULL;

		nb_list_each(n, &d->waiters) {
			struct waiter *w = nb_container(n, struct waiter, node);

			if (nb_time_due(w->deadline, now)) {
				late = w;
				break;
			}
		}
		if (!late)
			return;
		overdue(d, late);
	}
}

/* --- life */

static const struct grpc_call_ops login_ops = { .on_message = h_login, .on_end = client_call_end };
static const struct grpc_call_ops wait_sso_ops = { .on_message = h_wait_sso };
static const struct grpc_call_ops up_ops = { .on_message = h_up, .on_end = client_call_end };
static const struct grpc_call_ops down_ops = { .on_message = h_down, .on_end = client_call_end };
static const struct grpc_call_ops status_ops = { .on_message = h_status, .on_end = client_call_end };
static const struct grpc_call_ops logout_ops = { .on_message = h_logout, .on_end = client_call_end };

#define REQUEST_MAX 65536
#define METHOD(name, ops) { "/daemon.DaemonService/" name, GRPC_UNARY, ops, REQUEST_MAX }

static const struct grpc_method methods[] = {
	METHOD("Login", &login_ops),
	METHOD("WaitSSOLogin", &wait_sso_ops),
	METHOD("Up", &up_ops),
	METHOD("Status", &status_ops),
	METHOD("Down", &down_ops),
	METHOD("GetConfig", &client_get_config_ops),
	METHOD("SetConfig", &client_set_config_ops),
	METHOD("SwitchProfile", &client_switch_profile_ops),
	METHOD("AddProfile", &client_add_profile_ops),
	METHOD("RenameProfile", &client_rename_profile_ops),
	METHOD("RemoveProfile", &client_remove_profile_ops),
	METHOD("ListProfiles", &client_list_profiles_ops),
	METHOD("GetActiveProfile", &client_get_active_profile_ops),
	METHOD("Logout", &logout_ops),
	METHOD("GetLogLevel", &client_get_log_level_ops),
	METHOD("SetLogLevel", &client_set_log_level_ops),
	METHOD("GetEvents", &client_get_events_ops),
	METHOD("GetFeatures", &client_get_features_ops),
	METHOD("NestboxPaths", &client_paths_ops),
	{ "/daemon.DaemonService/SubscribeEvents", GRPC_SERVER_STREAM, &client_subscribe_ops, REQUEST_MAX },
};

struct client_daemon *client_daemon_new(const struct client_daemon_config *cfg)
{
	struct client_daemon *d = calloc(1, sizeof *d);
	size_t n;

	if (!d)
		return NULL;
	d->cfg = *cfg;
	snprintf(d->state_dir, sizeof d->state_dir, "%s", cfg->state_dir);
	for (n = strlen(d->state_dir); n > 1 && d->state_dir[n - 1] == '/';)
		d->state_dir[--n] = '\0';
	if (cfg->default_profile && *cfg->default_profile)
		snprintf(d->default_profile, sizeof d->default_profile, "%s", cfg->default_profile);
	else
		snprintf(d->default_profile, sizeof d->default_profile, "%s/default.json", d->state_dir);
	snprintf(d->log_file, sizeof d->log_file, "%s", text(cfg->log_file));
	snprintf(d->active.id, sizeof d->active.id, CLIENT_DEFAULT_PROFILE);
	d->log_level = nb_log_level() >= NB_LOG_TRACE ? DAEMON__LOG_LEVEL__TRACE :
		       nb_log_level() == NB_LOG_DEBUG ? DAEMON__LOG_LEVEL__DEBUG :
		       nb_log_level() == NB_LOG_INFO ? DAEMON__LOG_LEVEL__LOG_INFO :
		       nb_log_level() == NB_LOG_WARN ? DAEMON__LOG_LEVEL__WARN : DAEMON__LOG_LEVEL__LOG_ERROR;
	nb_list_init(&d->waiters);
	nb_list_init(&d->subscribers);
	d->service = (struct grpc_service){ methods, sizeof methods / sizeof *methods, d };
	return d;
}

void client_daemon_free(struct client_daemon *d)
{
	if (!d)
		return;
	nb_list_each_safe(n, &d->waiters)
		client_fail(client_unwait(nb_container(n, struct waiter, node)), GRPC_UNAVAILABLE,
			    "the agent is shutting down");
	nb_list_each_safe(n, &d->subscribers) {
		struct subscriber *s = nb_container(n, struct subscriber, node);

		grpc_call_set_user(s->call, NULL);
		client_fail(s->call, GRPC_UNAVAILABLE, "the agent is shutting down");
		free(s);
	}
	client_events_fini(d);
	forget_key(d);
	if (d->have_conf)
		client_config_fini(&d->conf);
	free(d);
}

int client_daemon_start(struct client_daemon *d, char *why, size_t why_cap)
{
	char detail[WHY_MAX];
	bool created = false;
	int err;

	client_active_read(d);
	err = client_load_active(d, &created, detail);
	if (err) {
		if (why)
			snprintf(why, why_cap, "%s", detail);
		return err;
	}
	if (created || !d->conf.management_url.scheme[0])
		set_state(d, CLIENT_NEEDS_LOGIN);
	else if (d->conf.disable_auto_connect == CLIENT_YES || d->cfg.wait_for_up)
		set_state(d, CLIENT_IDLE);
	else
		start_engine(d);
	return 0;
}

const struct grpc_service *client_daemon_service(struct client_daemon *d)
{
	return &d->service;
}

enum client_state client_daemon_state(const struct client_daemon *d)
{
	return d->state;
}

const struct client_config *client_daemon_profile(const struct client_daemon *d)
{
	return &d->conf;
}

void client_daemon_state_path(const struct client_daemon *d, char *out, size_t cap)
{
	if (client_profile_path(d, &d->active, ".state.json", out, cap))
		snprintf(out, cap, "%s/state.json", d->state_dir);
}
