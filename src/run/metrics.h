/* metrics.h - counters in Prometheus' text form at /metrics of a port of their own, and those of the relay.
 * Off unless asked for; who names no address gets the loopback one. Tests: tests/net/test_relay.py,
 * tests/net/test_management.py */
#ifndef NB_RUN_METRICS_H
#define NB_RUN_METRICS_H

#include "base/buf.h"
#include "run/listen.h"
#include "run/relay.h"

struct run_metrics;

struct run_metrics_config {
	struct run_loop *loop;
	struct nb_endpoint at;
	void (*write)(void *ctx, struct nb_buf *b);	/* append what there is to tell */
	void *ctx;
};

/* Listen. why gets a line on failure. Returns 0 or run_listener_new's error. */
int run_metrics_new(struct run_metrics **out, const struct run_metrics_config *cfg, char why[NBC_TLS_WHY]);
/* NULL is allowed. */
void run_metrics_free(struct run_metrics *m);

/* Append "# TYPE name kind" and one value. label: "" or "{key=\"value\"}". */
void run_metrics_put(struct nb_buf *b, const char *name, const char *kind, const char *label, uint64_t value);
/* Append the relay's: the NetBird relay protocol (names as stock's) and STUN and TURN, as far as it serves them. */
void run_metrics_relay(struct nb_buf *b, struct run_relay *r);

#endif
