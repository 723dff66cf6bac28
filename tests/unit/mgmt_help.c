/* mgmt_help.c - see mgmt_help.h. */
#include "mgmt_help.h"

#include "store/store.h"

static const uint8_t seed[17] = "a seed for tests";

void test_random(void *ctx, void *out, size_t n)
{
	static uint64_t counter;
	uint8_t *p = out;

	(void)ctx;
	for (size_t i = 0; i < n; i++) {
		counter = counter * 6364136223846793005ULL + 1442695040888963407ULL;
		p[i] = (uint8_t)(counter >> 56);
	}
}

static void start(struct world *w)
{
	struct mgmt_error e = { 0 };

	if (w->dir[0]) {
		struct store_config sc = { .dir = w->dir, .who = "test" };
		char why[256] = "";

		assert_int_equal(store_open(&w->store, &sc, why, sizeof(why)), 0);
	}
	assert_int_equal(mgmt_new(&w->m, &w->cfg, w->store, w->now, w->wall, &e), 0);
}

void test_world(struct world *w, bool durable)
{
	struct mgmt_setup s = { "owner@example.com", "Owner", "$argon2id$test", true, 30 };
	struct mgmt_error e = { 0 };

	memset(w, 0, sizeof(*w));
	nbc_init();
	w->cfg.random = test_random;
	w->cfg.map_seed = nb_bytes(seed, 16);
	w->cfg.signal_uri = "signal.test:443";
	w->cfg.signal_tls = true;
	w->now.ns = NB_SEC;
	w->wall.ns = T0 * NB_SEC;
	if (durable) {
		strcpy(w->dir, "/tmp/nbmgmtXXXXXX");
		assert_non_null(mkdtemp(w->dir));
	}
	start(w);
	assert_int_equal(mgmt_setup(w->m, &s, &w->seed, &e), 0);
	w->a = mgmt_first_account(w->m);
	w->owner = (struct mgmt_actor){ w->a, mgmt_user_get(w->a, w->seed.user_id) };
	assert_non_null(w->owner.user);
	if (w->store)
		store_sync(w->store);
}

static void stop(struct world *w)
{
	mgmt_free(w->m);
	store_close(w->store);
	w->m = NULL;
	w->store = NULL;
}

void test_world_again(struct world *w)
{
	stop(w);
	start(w);
	w->a = mgmt_first_account(w->m);
	w->owner = (struct mgmt_actor){ w->a, w->a ? mgmt_user_get(w->a, w->seed.user_id) : NULL };
}

void test_world_end(struct world *w)
{
	char cmd[128];

	stop(w);
	if (w->dir[0]) {
		snprintf(cmd, sizeof(cmd), "rm -rf %s", w->dir);
		assert_int_equal(system(cmd), 0);
	}
}

void test_pass(struct world *w, int64_t ns)
{
	w->now.ns += ns;
	w->wall.ns += ns;
	mgmt_clock(w->m, w->now, w->wall);
	mgmt_run(w->m);
	if (w->store)
		store_sync(w->store);
}

void test_meta(Management__PeerSystemMeta *meta, const char *host)
{
	static Management__PeerCapability caps[] = { 1, 2 };

	*meta = (Management__PeerSystemMeta)MANAGEMENT__PEER_SYSTEM_META__INIT;
	meta->hostname = (char *)host;
	meta->goos = "linux";
	meta->netbirdversion = "0.77.1";
	meta->capabilities = caps;
	meta->n_capabilities = 2;
}

struct mgmt_peer *test_join(struct world *w, uint8_t n, const char *host, const char *setup_key)
{
	Management__PeerSystemMeta meta;
	uint8_t key[NB_KEY_LEN];
	struct mgmt_login l = { .key = key, .meta = &meta, .setup_key = setup_key, .from = "192.0.2.1" };
	struct mgmt_peer *p = NULL;
	struct mgmt_error e = { 0 };

	memset(key, n, sizeof(key));
	test_meta(&meta, host);
	if (mgmt_peer_login(w->m, &l, &p, &e))
		fail_msg("join: %s", e.message);
	return p;
}
