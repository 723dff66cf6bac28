/* metrics.c - see metrics.h. */
#include "run/metrics.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>

#define PAGE_MAX 65536

struct run_metrics {
	struct run_metrics_config cfg;
	struct run_listener *listener;
};

void run_metrics_put(struct nb_buf *b, const char *name, const char *kind, const char *label, uint64_t value)
{
	nb_buf_printf(b, "# TYPE %s %s\n%s%s %llu\n", name, kind, name, label, (unsigned long long)value);
}

static void put_hub(struct nb_buf *b, const struct relay_hub_stats *s)
{
	run_metrics_put(b, "relay_transfer_received_bytes_total", "counter", "", s->received_bytes);
	run_metrics_put(b, "relay_transfer_sent_bytes_total", "counter", "", s->sent_bytes);
	run_metrics_put(b, "relay_peers", "gauge", "{transport=\"ws\"}", s->conns - s->waiting);
	run_metrics_put(b, "relay_peers_active", "gauge", "", s->active);
	run_metrics_put(b, "relay_peers_idle", "gauge", "", s->conns - s->waiting - s->active);
	run_metrics_put(b, "relay_peer_reconnections_total", "counter", "", s->replaced);
	run_metrics_put(b, "relay_refused_total", "counter", "", s->refused);
	run_metrics_put(b, "relay_dropped_slow_total", "counter", "", s->dropped_full);
	run_metrics_put(b, "relay_dropped_user_limit_total", "counter", "", s->over_user_rate);
	run_metrics_put(b, "relay_dropped_capacity_total", "counter", "", s->over_total_rate);
	run_metrics_put(b, "relay_dropped_absent_total", "counter", "", s->dropped_absent);
}

static void put_turn(struct nb_buf *b, const struct run_relay_turn_stats *all)
{
	const struct turn_server_stats *s = &all->turn;
	const struct run_turn_tcp_stats *t = &all->tcp;

	run_metrics_put(b, "stun_bindings_total", "counter", "", s->bindings);
	run_metrics_put(b, "stun_discoveries_total", "counter", "", s->discoveries);
	run_metrics_put(b, "stun_discoveries_held_total", "counter", "", s->discoveries_held);
	run_metrics_put(b, "turn_allocations", "gauge", "", s->allocations);
	run_metrics_put(b, "turn_sent_packets_total", "counter", "{to=\"peer\"}", s->to_peers);
	nb_buf_printf(b, "turn_sent_packets_total{to=\"client\"} %llu\n", (unsigned long long)s->to_clients);
	run_metrics_put(b, "turn_sent_bytes_total", "counter", "{to=\"peer\"}", s->to_peers_bytes);
	nb_buf_printf(b, "turn_sent_bytes_total{to=\"client\"} %llu\n", (unsigned long long)s->to_clients_bytes);
	run_metrics_put(b, "turn_challenges_total", "counter", "", s->challenges);
	run_metrics_put(b, "turn_challenges_held_total", "counter", "", s->challenges_held);
	run_metrics_put(b, "stun_answers_held_total", "counter", "", s->answers_held);
	run_metrics_put(b, "turn_auth_failures_total", "counter", "", s->auth_failures);
	run_metrics_put(b, "turn_refused_peers_total", "counter", "", s->refused_peers);
	run_metrics_put(b, "turn_refused_quota_total", "counter", "", s->refused_quota);
	run_metrics_put(b, "turn_dropped_user_limit_total", "counter", "", s->over_user_rate);
	run_metrics_put(b, "turn_dropped_capacity_total", "counter", "", s->over_total_rate);
	run_metrics_put(b, "turn_no_permission_total", "counter", "", s->no_permission);
	run_metrics_put(b, "turn_malformed_total", "counter", "", s->malformed);
	run_metrics_put(b, "turn_tcp_connections", "gauge", "", t->conns);
	run_metrics_put(b, "turn_tcp_accepted_total", "counter", "", t->accepted);
	run_metrics_put(b, "turn_tcp_refused_total", "counter", "", t->refused);
	run_metrics_put(b, "turn_tcp_malformed_total", "counter", "", t->broken);
	run_metrics_put(b, "turn_tcp_dropped_slow_total", "counter", "", t->dropped);
}

void run_metrics_relay(struct nb_buf *b, struct run_relay *r)
{
	struct run_relay_turn_stats turn;
	struct relay_hub_stats hub;

	if (run_relay_stats(r, &hub))
		put_hub(b, &hub);
	if (run_relay_turn_stats(r, &turn))
		put_turn(b, &turn);
}

static void on_request(void *arg, struct web_call *call)
{
	struct run_metrics *m = arg;
	struct nb_buf b;

	if (!nb_bytes_eq_str(call->req.path, "/metrics")) {
		web_respond_text(call, 404, "404 page not found\n");
		return;
	}
	nb_buf_init(&b, PAGE_MAX);
	m->cfg.write(m->cfg.ctx, &b);
	if (b.err)
		web_respond_text(call, 503, "out of memory\n");
	else
		web_respond(call, 200, "text/plain; version=0.0.4; charset=utf-8", nb_buf_view(&b));
	nb_buf_fini(&b);
}

int run_metrics_new(struct run_metrics **out, const struct run_metrics_config *cfg, char why[NBC_TLS_WHY])
{
	struct run_metrics *m = calloc(1, sizeof *m);
	struct web_handler web = { .request = on_request, .arg = m, .max_body = 1024 };
	struct run_listener_config lc = { .loop = cfg->loop, .at = cfg->at, .web = &web };
	int r;

	*out = NULL;
	snprintf(why, NBC_TLS_WHY, "%s", nb_strerror(NB_E_NOMEM));
	if (!m)
		return NB_E_NOMEM;
	m->cfg = *cfg;
	r = run_listener_new(&m->listener, &lc, why);
	if (r) {
		free(m);
		return r;
	}
	*out = m;
	return 0;
}

void run_metrics_free(struct run_metrics *m)
{
	if (!m)
		return;
	run_listener_free(m->listener);
	free(m);
}
