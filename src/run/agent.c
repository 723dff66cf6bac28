/* agent.c - see agent.h. A session is everything between up (or login, or logout) and its end: one
 * management machine and, for up, signal, engine, tunnel and interface. It is built by session_start and
 * torn down by session_stop, whole, so that no state leaks from one to the next. */

#include "run/agent_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "run/sysinfo.h"

#define LOGIN_LIMIT_NS (30 * NB_SEC)	/* `login` gives up on an unreachable server after this */
#define META_BYTES 65536

void run_agent_schedule(struct run_agent *a)
{
	run_timer_set(&a->mgmt_timer, a->mgmt ? client_mgmt_deadline(a->mgmt) : NB_TIME_NEVER);
	run_timer_set(&a->signal_timer, a->signal ? client_signal_deadline(a->signal) : NB_TIME_NEVER);
	run_timer_set(&a->engine_timer, a->engine ? client_engine_deadline(a->engine) : NB_TIME_NEVER);
	run_agent_expect(a, a->engine_timer.at);
}

void run_agent_later(struct run_agent *a)
{
	run_defer_call(a->cfg.loop, &a->later);
}

const char *run_agent_trust(struct run_agent *a)
{
	static char why[NBC_TLS_WHY];

	if (a->trust || !run_trust_load(&a->trust, a->ca_file, why))
		return NULL;
	return why;
}

void run_agent_restart(struct run_agent *a, const char *why)
{
	nb_info("restarting: %s", why);
	a->later_restart = true;
	run_agent_later(a);
}

static void session_stop(struct run_agent *a)
{
	if (a->purpose == NOTHING)
		return;
	run_agent_stop_up(a);
	client_mgmt_free(a->mgmt);
	a->mgmt = NULL;
	/* A dial under way is not the client's yet. */
	run_agent_mgmt_hang_up(a);
	a->mgmt_up = false;
	run_timer_stop(&a->limit);
	run_agent_schedule(a);
	nb_arena_fini(&a->meta_arena);
	a->meta = NULL;
	nbc_trust_unref(a->trust);
	a->trust = NULL;
	client_config_fini(&a->profile);
	nb_wipe(a->private_key, sizeof a->private_key);
	if (a->setup_key)
		nb_wipe(a->setup_key, strlen(a->setup_key));
	free(a->setup_key);
	a->setup_key = NULL;
	a->purpose = NOTHING;
	a->later_restart = a->later_stop = a->refused = a->login_ok = a->logged_out = false;
	run_agent_answer_tickets(a);
}

/* The engine cannot go on: say so once the stack is empty. */
void run_agent_give_up(struct run_agent *a, enum client_engine_event word, const char *why)
{
	a->last_word = word;
	snprintf(a->why, sizeof a->why, "%s", why);
	a->later_stop = true;
	run_agent_later(a);
}

/* A deep copy by way of the file format. */
static int copy_profile(struct client_config *to, const struct client_config *from)
{
	char why[200];
	struct nb_buf b;
	int err;

	nb_buf_init(&b, CLIENT_FILE_MAX);
	err = client_config_encode(from, &b);
	if (!err)
		err = client_config_parse(to, nb_buf_view(&b), why, sizeof why);
	nb_buf_fini(&b);
	return err;
}

/* Begin a session; on failure nothing is left of it. */
static int session_start(struct run_agent *a, enum run_agent_purpose purpose, const struct client_config *profile,
			 const char *setup_key, const char *hostname)
{
	struct client_mgmt_config cfg = { .ops = &run_agent_mgmt_ops, .arg = a, .setup_key = setup_key, .random = nbc_random };
	struct client_config copy;
	int err = copy_profile(&copy, profile);

	if (err)
		return err;
	session_stop(a);
	a->purpose = purpose;
	a->profile = copy;
	nb_wipe(&copy, sizeof copy);	/* what it points at has moved */
	snprintf(a->hostname, sizeof a->hostname, "%s", hostname ? hostname : "");
	a->setup_key = setup_key && *setup_key ? strdup(setup_key) : NULL;
	a->mgmt_error[0] = a->why[0] = 0;
	nb_arena_init(&a->meta_arena, META_BYTES);
	a->meta = run_sysinfo(&a->meta_arena, &a->profile, hostname, a->profile.iface);
	err = a->meta ? nbc_key_parse(a->private_key, nb_bytes_str(a->profile.private_key)) : NB_E_NOMEM;
	if (!err) {
		cfg.meta = a->meta;
		cfg.dns_labels = a->profile.dns_labels.v;
		cfg.n_dns_labels = a->profile.dns_labels.n;
		memcpy(cfg.private_key, a->private_key, NB_KEY_LEN);
		a->mgmt = client_mgmt_new(&cfg);
		nb_wipe(cfg.private_key, sizeof cfg.private_key);
		err = a->mgmt ? 0 : NB_E_NOMEM;
	}
	if (err) {
		session_stop(a);
		return err;
	}
	client_mgmt_start(a->mgmt, os_now());
	run_agent_schedule(a);
	return 0;
}

static void restart(struct run_agent *a)
{
	struct client_config profile;
	char hostname[sizeof a->hostname];
	int err = copy_profile(&profile, &a->profile);

	if (!err) {
		memcpy(hostname, a->hostname, sizeof hostname);
		a->cfg.engine(a->cfg.arg, CLIENT_ENGINE_CONNECTING, NULL);
		err = session_start(a, UP, &profile, NULL, hostname);
		client_config_fini(&profile);
	}
	if (err) {
		session_stop(a);
		a->cfg.engine(a->cfg.arg, CLIENT_ENGINE_FAILED, nb_strerror(err));
	}
}

static void login_refused(struct run_agent *a)
{
	enum client_login_end how = CLIENT_LOGIN_ERROR;
	char message[sizeof a->refused_message];
	int status = a->refused_status;

	if (status == GRPC_PERMISSION_DENIED)
		how = a->setup_key ? CLIENT_LOGIN_DENIED : CLIENT_LOGIN_NEEDED;
	memcpy(message, a->refused_message, sizeof message);
	session_stop(a);
	a->cfg.login_done(a->cfg.arg, how, status, message);
}

/* Runs with an empty stack: sessions end here, never inside a callback of one of their parts. */
static void on_later(void *ctx)
{
	struct run_agent *a = ctx;
	char message[sizeof a->why];
	enum client_engine_event word = a->last_word;
	int status = a->logout_status;

	if (a->purpose == LOGIN && a->login_ok) {
		session_stop(a);
		a->cfg.login_done(a->cfg.arg, CLIENT_LOGIN_OK, GRPC_OK, "");
	} else if (a->purpose == LOGIN && a->refused) {
		login_refused(a);
	} else if (a->purpose == LOGOUT && (a->logged_out || a->refused)) {
		/* A peer management does not know is logged out already. */
		if (!a->logged_out)
			status = a->refused_status == GRPC_PERMISSION_DENIED ? GRPC_NOT_FOUND : a->refused_status;
		snprintf(message, sizeof message, "%s", a->logged_out ? a->why : a->refused_message);
		session_stop(a);
		a->cfg.logout_done(a->cfg.arg, status, message);
	} else if (a->purpose == LOGOUT && a->login_ok) {
		a->login_ok = false;
		if (client_mgmt_logout(a->mgmt, os_now()))
			run_timer_set(&a->limit, os_now());
	} else if (a->purpose == UP && a->refused) {
		snprintf(message, sizeof message, "management does not accept this peer, it was removed or its login has "
			 "expired (%.120s): run netbird up, with --setup-key to join anew", a->refused_message);
		session_stop(a);
		nb_warn("%s", message);
		a->cfg.engine(a->cfg.arg, CLIENT_ENGINE_NEEDS_LOGIN, message);
	} else if (a->purpose == UP && a->later_stop) {
		memcpy(message, a->why, sizeof message);
		session_stop(a);
		a->cfg.engine(a->cfg.arg, word, message);
	} else if (a->purpose == UP && a->later_restart) {
		restart(a);
	}
	run_agent_schedule(a);
}

static void on_limit(void *ctx, struct nb_time now)
{
	struct run_agent *a = ctx;
	enum run_agent_purpose purpose = a->purpose;
	char message[sizeof a->mgmt_error];

	(void)now;
	snprintf(message, sizeof message, "%s", a->mgmt_error[0] ? a->mgmt_error : "management does not answer");
	session_stop(a);
	if (purpose == LOGIN)
		a->cfg.login_done(a->cfg.arg, CLIENT_LOGIN_ERROR, GRPC_UNAVAILABLE, message);
	else if (purpose == LOGOUT)
		a->cfg.logout_done(a->cfg.arg, GRPC_UNAVAILABLE, message);
}

static void on_engine_timer(void *ctx, struct nb_time now)
{
	struct run_agent *a = ctx;

	run_agent_check_awake(a, now);
	client_engine_timer(a->engine, now);
	run_agent_schedule(a);
}

/* --- the face --- */

int run_agent_new(struct run_agent **out, const struct run_agent_config *cfg)
{
	struct run_agent *a = calloc(1, sizeof *a);

	if (!a || nbc_init() || run_resolver_new(&a->resolver, cfg->loop)) {
		free(a);
		return NB_E_NOMEM;
	}
	a->cfg = *cfg;
	if (run_agent_links_new(a)) {
		run_resolver_free(a->resolver);
		free(a);
		return NB_E_NOMEM;
	}
	a->ca_file = cfg->ca_file ? strdup(cfg->ca_file) : NULL;
	a->tai_path = cfg->tai_path ? strdup(cfg->tai_path) : NULL;
	a->monitor = a->clock_fd = -1;
	a->settle_by = NB_TIME_NEVER;
	run_timer_init(&a->mgmt_timer, cfg->loop, run_agent_on_mgmt_timer, a);
	run_timer_init(&a->signal_timer, cfg->loop, run_agent_on_signal_timer, a);
	run_timer_init(&a->engine_timer, cfg->loop, on_engine_timer, a);
	run_timer_init(&a->settle, cfg->loop, run_agent_on_settled, a);
	run_timer_init(&a->limit, cfg->loop, on_limit, a);
	run_io_init(&a->tunnel_io, cfg->loop, run_agent_on_tunnel, a);
	run_io_init(&a->monitor_io, cfg->loop, run_agent_on_monitor, a);
	run_defer_init(&a->later, on_later, a);
	run_defer_init(&a->delivered, run_agent_on_delivered, a);
	*out = a;
	return 0;
}

void run_agent_free(struct run_agent *a)
{
	if (!a)
		return;
	run_agent_free(a->aside);
	a->ntickets = 0;
	session_stop(a);
	run_link_dials_free(a->links);
	run_defer_cancel(&a->later);
	run_defer_cancel(&a->delivered);
	run_resolver_free(a->resolver);
	free(a->ca_file);
	free(a->tai_path);
	free(a);
}

void run_agent_login(struct run_agent *a, const struct client_config *cfg, const char *setup_key, const char *hostname)
{
	int err = session_start(a, LOGIN, cfg, setup_key, hostname);

	if (err)
		a->cfg.login_done(a->cfg.arg, CLIENT_LOGIN_ERROR, GRPC_INTERNAL, nb_strerror(err));
	else
		run_timer_set(&a->limit, nb_time_add(os_now(), LOGIN_LIMIT_NS));
}

void run_agent_login_cancel(struct run_agent *a)
{
	if (a->purpose == LOGIN)
		session_stop(a);
}

void run_agent_up(struct run_agent *a, const struct client_config *cfg, const char *hostname)
{
	int err = session_start(a, UP, cfg, NULL, hostname);

	if (err)
		a->cfg.engine(a->cfg.arg, CLIENT_ENGINE_FAILED, nb_strerror(err));
	else
		a->cfg.engine(a->cfg.arg, CLIENT_ENGINE_CONNECTING, NULL);
}

void run_agent_down(struct run_agent *a)
{
	session_stop(a);
	a->cfg.down(a->cfg.arg);
}

static void aside_done(void *arg, int status, const char *message)
{
	struct run_agent *a = arg;

	a->cfg.logout_done(a->cfg.arg, status, message);
}

/* Deregistering may concern another profile, and may fail: the session that runs is not to notice. */
static int aside_get(struct run_agent *a)
{
	struct run_agent_config cfg = { .loop = a->cfg.loop, .arg = a, .logout_done = aside_done, .ca_file = a->ca_file };
	int err = a->aside ? 0 : run_agent_new(&a->aside, &cfg);

	if (!err)
		a->aside->is_aside = true;
	return err;
}

void run_agent_logout(struct run_agent *a, const struct client_config *cfg)
{
	int err = a->is_aside ? 0 : aside_get(a);

	if (!err && !a->is_aside) {
		run_agent_logout(a->aside, cfg);
		return;
	}
	if (!err)
		err = session_start(a, LOGOUT, cfg, NULL, NULL);
	if (err)
		a->cfg.logout_done(a->cfg.arg, GRPC_INTERNAL, nb_strerror(err));
	else
		run_timer_set(&a->limit, nb_time_add(os_now(), LOGIN_LIMIT_NS));
}
