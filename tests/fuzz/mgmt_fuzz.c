/* mgmt_fuzz.c - a control plane without disk that hears any login: registration by a good and by the given key, login
 * again, meta. Whatever comes, every message it builds must be readable and every peer must stay findable. */
#include "base/err.h"
#include "mgmt/mgmt_int.h"
#include "proto/unpack.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void counting_random(void *ctx, void *out, size_t n)
{
	static uint64_t x = 1;
	uint8_t *p = out;

	(void)ctx;
	for (size_t i = 0; i < n; i++) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		p[i] = (uint8_t)(x >> 56);
	}
}

static void need(bool ok)
{
	if (!ok)
		abort();
}

static struct mgmt *world(struct mgmt_setup_result *seed)
{
	static const uint8_t map_seed[16] = { 1 };
	struct mgmt_config cfg = {
		.random = counting_random, .map_seed = { map_seed, sizeof(map_seed) }, .signal_uri = "s:1",
	};
	struct mgmt_setup s = { "a@b", "n", "h", false, 0 };
	struct mgmt_error e;
	struct mgmt *m;

	nbc_init();
	need(mgmt_new(&m, &cfg, NULL, (struct nb_time){ NB_SEC }, (struct nb_wall){ 1767225600 * NB_SEC }, &e) == 0);
	need(mgmt_setup(m, &s, seed, &e) == 0);
	return m;
}

static void look(struct mgmt_peer *p)
{
	Management__SyncResponse *rsp;
	struct nb_arena arena;
	struct nb_buf b;

	nb_buf_init(&b, 16 << 20);
	nb_arena_init(&arena, 256 << 20);
	need(mgmt_map_sync(p, SYNC_MAP | SYNC_CONFIG, &b) == 0);
	need(proto_unpack(&rsp, &management__sync_response__descriptor, nb_buf_view(&b), &arena) == 0);
	nb_arena_fini(&arena);
	nb_buf_fini(&b);
}

static void try_login(struct mgmt *m, const Management__LoginRequest *req, uint8_t key, const char *setup_key)
{
	uint8_t k[NB_KEY_LEN];
	struct mgmt_login l = { .key = k, .meta = req->meta, .setup_key = setup_key, .from = "192.0.2.1" };
	struct mgmt_peer *p;
	struct mgmt_error e;

	if (!req->meta)
		return;
	memset(k, key, sizeof(k));
	l.labels = req->dnslabels;
	l.n_labels = req->n_dnslabels;
	if (req->peerkeys)
		l.ssh_key = nb_bytes(req->peerkeys->sshpubkey.data, req->peerkeys->sshpubkey.len);
	if (mgmt_peer_login(m, &l, &p, &e) == 0)
		look(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mgmt_setup_result seed;
	Management__LoginRequest *req;
	struct nb_arena arena;
	struct mgmt_account *a;
	struct mgmt_error e;
	struct mgmt *m;

	nb_arena_init(&arena, 4 << 20);
	if (proto_unpack(&req, &management__login_request__descriptor, nb_bytes(data, size), &arena) == 0) {
		m = world(&seed);
		a = mgmt_first_account(m);
		try_login(m, req, 1, seed.keys[0].key);
		try_login(m, req, 1, req->setupkey);
		try_login(m, req, 2, seed.keys[1].key);
		try_login(m, req, 3, req->setupkey);
		for (size_t i = 0; i < a->t[T_PEER].n; i++) {
			struct mgmt_peer *p = (struct mgmt_peer *)a->t[T_PEER].v[i];

			mgmt_peer_meta(p, req->meta, true, &e);
			look(p);
			need(mgmt_peer_by_key(m, p->rec->key.data) == p);
		}
		mgmt_free(m);
	}
	nb_arena_fini(&arena);
	return 0;
}
