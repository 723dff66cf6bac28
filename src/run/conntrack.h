/* conntrack.h - the connection table's environment variables, stock's own names and rules: NB_CONNTRACK_TCP_MAX, _UDP_MAX and
 * _ICMP_MAX (entries), NB_CONNTRACK_TCP_FIN_WAIT_TIMEOUT, _CLOSE_WAIT_TIMEOUT and _LAST_ACK_TIMEOUT ("120s", "2m"),
 * NB_DISABLE_CONNTRACK (true: rules decide about every packet, answers included). What cannot be used is told and left out.
 * Source: spec/client.md 6.3. Tests: tests/unit/run_conntrack_test.c */
#ifndef NB_RUN_CONNTRACK_H
#define NB_RUN_CONNTRACK_H

#include "filter/filter.h"

/* get: getenv, or a test's own. */
void run_conntrack_env(struct filter_config *c, char *(*get)(const char *name));

#endif
