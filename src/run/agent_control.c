/* agent_control.c - the agent's two control connections: dials management and signal, and passes on what
 * they say. What follows for the session is decided in agent.c, what follows for peers in the engine. */
#include "run/agent_int.h"

#include <stdio.h>

#include "base/log.h"

/* --- dialling --- */

static void mgmt_ready(void *ctx, struct grpc_conn *c, struct nb_time now)
{
	struct run_agent *a = ctx;

	client_mgmt_attach(a->mgmt, c, now);
	run_agent_schedule(a);
}

static void mgmt_tick(void *ctx, struct nb_time now)
{
	struct run_agent *a = ctx;

	if (a->mgmt)
		client_mgmt_timer(a->mgmt, now);
	/* What the call about to run changes is picked up when the loop comes round. */
	run_agent_later(a);
}

static void mgmt_lost(void *ctx, const char *why, struct nb_time now)
{
	struct run_agent *a = ctx;

	a->mgmt_link = NULL;
	if (!a->mgmt)
		return;
	client_mgmt_dial_failed(a->mgmt, why, now);
	client_mgmt_lost(a->mgmt, why, now);
	run_agent_schedule(a);
}

static void signal_ready(void *ctx, struct grpc_conn *c, struct nb_time now)
{
	struct run_agent *a = ctx;

	client_signal_attach(a->signal, c, now);
	run_agent_schedule(a);
}

static void signal_tick(void *ctx, struct nb_time now)
{
	struct run_agent *a = ctx;

	if (a->signal)
		client_signal_timer(a->signal, now);
	run_agent_later(a);
}

static void signal_lost(void *ctx, const char *why, struct nb_time now)
{
	struct run_agent *a = ctx;

	a->signal_link = NULL;
	if (!a->signal)
		return;
	client_signal_dial_failed(a->signal, why, now);
	client_signal_lost(a->signal, why, now);
	run_agent_schedule(a);
}

/* NULL, or one line that says why not even a try was possible. */
static const char *dial(struct run_agent *a, struct run_grpc **link, const char *host, uint16_t port, bool tls,
			struct run_grpc_config *cfg)
{
	const char *why = tls ? run_agent_trust(a) : NULL;
	int err;

	if (why)
		return why;
	cfg->loop = a->cfg.loop;
	cfg->resolver = a->resolver;
	cfg->host = host;
	cfg->port = port;
	cfg->trust = tls ? a->trust : NULL;
	cfg->max_message = 16u << 20;
	cfg->ctx = a;
	if (a->purpose == UP)
		cfg->sockopt.mark = RUN_AGENT_FWMARK;
	err = run_grpc_start(link, cfg);
	return err ? nb_strerror(err) : NULL;
}

static void mgmt_op_dial(void *arg)
{
	struct run_agent *a = arg;
	struct run_grpc_config cfg = { .ready = mgmt_ready, .tick = mgmt_tick, .lost = mgmt_lost };
	char host[CLIENT_HOST_MAX];
	const char *why;
	uint16_t port;

	if (run_host_port(a->profile.management_url.host, host, sizeof host, &port))
		why = "the management URL has no usable host and port";
	else
		why = dial(a, &a->mgmt_link, host, port, !strcmp(a->profile.management_url.scheme, "https"), &cfg);
	if (why)
		client_mgmt_dial_failed(a->mgmt, why, os_now());
}

void run_agent_mgmt_hang_up(void *arg)
{
	struct run_agent *a = arg;

	run_grpc_close(a->mgmt_link);
	a->mgmt_link = NULL;
}

static void signal_op_dial(void *arg)
{
	struct run_agent *a = arg;
	struct run_grpc_config cfg = { .ready = signal_ready, .tick = signal_tick, .lost = signal_lost };
	const char *why = dial(a, &a->signal_link, a->signal_host, a->signal_port, a->signal_tls, &cfg);

	if (why)
		client_signal_dial_failed(a->signal, why, os_now());
}

void run_agent_signal_hang_up(void *arg)
{
	struct run_agent *a = arg;

	run_grpc_close(a->signal_link);
	a->signal_link = NULL;
}

void run_agent_on_mgmt_timer(void *ctx, struct nb_time now)
{
	struct run_agent *a = ctx;

	client_mgmt_timer(a->mgmt, now);
	run_agent_schedule(a);
}

void run_agent_on_signal_timer(void *ctx, struct nb_time now)
{
	struct run_agent *a = ctx;

	client_signal_timer(a->signal, now);
	run_agent_schedule(a);
}

/* --- signal --- */

static void signal_state(void *arg, bool connected, const char *error)
{
	struct run_agent *a = arg;
	struct nb_time now = os_now();

	a->signal_up = connected;
	snprintf(a->signal_error, sizeof a->signal_error, "%s", error ? error : "");
	if (connected) {
		client_engine_hurry(a->engine, now);
		client_engine_signal_ready(a->engine, now);
		client_mgmt_network_changed(a->mgmt, false, now);
		client_mgmt_sync(a->mgmt, now);
	} else if (a->engine) {
		client_engine_signal_lost(a->engine);
	}
	run_agent_later(a);
}

static void signal_message(void *arg, const uint8_t key[NB_KEY_LEN], const struct client_signal_msg *m)
{
	struct run_agent *a = arg;

	client_engine_signal(a->engine, key, m, os_now());
	run_agent_later(a);
}

static const struct client_signal_ops signal_ops = {
	signal_op_dial, run_agent_signal_hang_up, signal_state, NULL, signal_message,
};

int run_agent_start_signal(struct run_agent *a, const Management__HostConfig *h)
{
	struct client_signal_config cfg = { .ops = &signal_ops, .arg = a, .random = nbc_random };

	if (!h || !h->uri || run_host_port(h->uri, a->signal_host, sizeof a->signal_host, &a->signal_port))
		return NB_E_BAD;
	a->signal_tls = h->has_protocol && h->protocol == MANAGEMENT__HOST_CONFIG__PROTOCOL__HTTPS;
	memcpy(cfg.private_key, a->private_key, NB_KEY_LEN);
	a->signal = client_signal_new(&cfg);
	nb_wipe(&cfg, sizeof cfg);
	if (!a->signal)
		return NB_E_NOMEM;
	client_signal_start(a->signal, os_now());
	return 0;
}

/* --- management --- */

static void mgmt_logged_in(void *arg, const Management__LoginResponse *r)
{
	struct run_agent *a = arg;

	if (a->purpose == UP) {
		if (!a->engine && !a->later_stop)
			run_agent_start_up(a, r);
	} else {
		a->login_ok = true;
	}
	run_agent_later(a);
}

static void mgmt_sync(void *arg, const Management__SyncResponse *r)
{
	struct run_agent *a = arg;

	if (!a->engine)
		return;
	client_engine_sync(a->engine, r, os_now());
	if (!a->connected && client_engine_has_map(a->engine)) {
		a->connected = true;
		a->cfg.engine(a->cfg.arg, CLIENT_ENGINE_CONNECTED, NULL);
	}
	run_agent_later(a);
}

static void mgmt_state(void *arg, bool connected, const char *error)
{
	struct run_agent *a = arg;

	a->mgmt_up = connected;
	/* Said before each Sync, too. */
	if (connected && a->engine) {
		client_engine_sync_begins(a->engine);
		client_engine_hurry(a->engine, os_now());
	}
	/* One server is back, most likely so are the others. */
	if (connected && a->signal)
		client_signal_network_changed(a->signal, false, os_now());
	snprintf(a->mgmt_error, sizeof a->mgmt_error, "%s", error ? error : "");
	if (error)
		nb_info("management: %s", error);
	run_agent_later(a);
}

static void mgmt_refused(void *arg, const struct client_refusal *why)
{
	struct run_agent *a = arg;

	snprintf(a->refused_message, sizeof a->refused_message, "%s", why->message);
	a->refused_status = why->status;
	a->refused_registering = why->registering;
	a->refused = true;
	run_agent_later(a);
}

static void mgmt_logged_out(void *arg, int status, const char *message)
{
	struct run_agent *a = arg;

	a->logged_out = true;
	a->logout_status = status;
	snprintf(a->why, sizeof a->why, "%s", message);
	run_agent_later(a);
}

const struct client_mgmt_ops run_agent_mgmt_ops = {
	mgmt_op_dial, run_agent_mgmt_hang_up, mgmt_logged_in, mgmt_sync, mgmt_state, mgmt_refused, mgmt_logged_out,
};
