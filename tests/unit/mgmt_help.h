/* mgmt_help.h - a control plane for tests: fixed randomness, a clock that the test moves, with or without a
 * store under /tmp. */
#ifndef NB_TESTS_UNIT_MGMT_HELP_H
#define NB_TESTS_UNIT_MGMT_HELP_H

#include "mgmt/mgmt_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define T0 1767225600LL	/* 2026-01-01 */

struct world {
	struct mgmt *m;
	struct store *store;
	struct mgmt_config cfg;
	struct nb_time now;
	struct nb_wall wall;
	struct mgmt_setup_result seed;
	struct mgmt_account *a;
	struct mgmt_actor owner;
	char dir[64];
};

/* A different, repeatable stream in each test. */
void test_random(void *ctx, void *out, size_t n);
/* Start with an account; durable: on disk. */
void test_world(struct world *w, bool durable);
void test_world_end(struct world *w);
/* Close and open again, as after a crash or a restart. */
void test_world_again(struct world *w);
void test_pass(struct world *w, int64_t ns);
/* Join with a setup key; key bytes are all n. */
struct mgmt_peer *test_join(struct world *w, uint8_t n, const char *host, const char *setup_key);
/* Meta of a current Linux client. */
void test_meta(Management__PeerSystemMeta *meta, const char *host);

#endif
