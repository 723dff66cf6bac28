/* mgmt.c - the control plane as a whole: start from the store, run what is due, end.
 * design.md "Control plane". Tests: tests/unit/mgmt_domain_test.c */
#include "mgmt/mgmt_int.h"

#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>

#define SERVER_KEY "s/server"
#define RECORD_SCHEMA 1

static void init_maps(struct mgmt *m)
{
	const uint8_t *seed = m->cfg.map_seed.p;

	nb_map_init(&m->peer_by_key, seed, MGMT_MAX_PEERS);
	nb_map_init(&m->key_by_hash, seed, MGMT_MAX_PEERS);
	nb_map_init(&m->token_by_hash, seed, MGMT_MAX_PEERS);
	nb_map_init(&m->user_by_id, seed, MGMT_MAX_PEERS);
	nb_map_init(&m->user_by_email, seed, MGMT_MAX_PEERS);
	nb_map_init(&m->used_tokens, seed, MGMT_MAX_PEERS);
	nb_map_init(&m->failures, seed, 4096);
}

static void fini_maps(struct mgmt *m)
{
	nb_map_fini(&m->peer_by_key);
	nb_map_fini(&m->key_by_hash);
	nb_map_fini(&m->token_by_hash);
	nb_map_fini(&m->user_by_id);
	nb_map_fini(&m->user_by_email);
	nb_map_fini(&m->used_tokens);
	mgmt_limit_fini(m);
}

/* ---- the server's own record */

static int server_read(void *arg, struct nb_bytes key, struct nb_bytes value)
{
	Nestbox__ServerRecord **out = arg;

	(void)key;
	*out = nestbox__server_record__unpack(NULL, value.n, value.p);
	return *out ? 0 : NB_E_BAD;
}

static void server_adopt(struct mgmt *m, const Nestbox__ServerRecord *r)
{
	memcpy(m->box_secret, r->box_secret.data, sizeof(m->box_secret));
	memcpy(m->token_secret, r->token_secret.data, sizeof(m->token_secret));
}

static void written(void *arg, int err)
{
	*(int *)arg = err;
}

static int server_make(struct mgmt *m)
{
	Nestbox__ServerRecord r = NESTBOX__SERVER_RECORD__INIT;
	struct store_batch *b;
	uint8_t *mem;
	size_t n;
	int err = 0;

	nbc_keypair(m->box_secret, m->box_public, m->cfg.random, m->cfg.random_ctx);
	m->cfg.random(m->cfg.random_ctx, m->token_secret, sizeof(m->token_secret));
	if (!m->store)
		return 0;
	r.has_schema = r.has_created = r.has_box_secret = r.has_token_secret = true;
	r.schema = RECORD_SCHEMA;
	r.created = m->wall.ns;
	r.box_secret = (ProtobufCBinaryData){ sizeof(m->box_secret), m->box_secret };
	r.token_secret = (ProtobufCBinaryData){ sizeof(m->token_secret), m->token_secret };
	n = protobuf_c_message_get_packed_size(&r.base);
	mem = malloc(n + 1);
	b = store_batch_new();
	if (!mem || !b) {
		free(mem);
		store_batch_free(b);
		return NB_E_NOMEM;
	}
	protobuf_c_message_pack(&r.base, mem);
	store_put(b, nb_bytes_str(SERVER_KEY), nb_bytes(mem, n));
	nb_wipe(mem, n);
	free(mem);
	store_commit(m->store, b, written, &err);
	store_sync(m->store);
	return err;
}

static int server_load(struct mgmt *m)
{
	Nestbox__ServerRecord *r = NULL;
	int err = m->store ? store_each(m->store, nb_bytes_str(SERVER_KEY), server_read, &r) : 0;

	if (!err && r && (r->box_secret.len != NB_KEY_LEN || r->token_secret.len != sizeof(m->token_secret)))
		err = NB_E_BAD;
	if (!err && r && r->schema > RECORD_SCHEMA)
		err = NB_E_UNSUPPORTED;
	if (!err && r)
		server_adopt(m, r);
	else if (!err)
		err = server_make(m);
	if (r) {
		nb_wipe(r->box_secret.data, r->box_secret.len);
		nestbox__server_record__free_unpacked(r, NULL);
	}
	nbc_x25519_base(m->box_public, m->box_secret);
	nbc_key_format(m->box_text, m->box_public);
	return err;
}

/* ---- numbers and timers that start where they ended */

static void last_event(void *arg, int err, const struct store_row *rows, size_t n)
{
	struct mgmt *m = arg;

	if (!err && n && rows[0].key.n > 8) {
		uint64_t id = nb_get_be64(rows[0].key.p + rows[0].key.n - 8);

		if (id > m->event_seq)
			m->event_seq = id;
	}
}

static void load_event_number(struct mgmt *m)
{
	for (size_t i = 0; i < m->accounts.n; i++) {
		char prefix[64];
		int n = snprintf(prefix, sizeof(prefix), "e/%s/", mgmt_item_id(m->accounts.v[i]));

		store_read_last(m->store, nb_bytes(prefix, (size_t)n), 1, last_event, m);
	}
	store_sync(m->store);
}

static void start_timers(struct mgmt *m)
{
	m->next_sweep = nb_time_add(m->now, MGMT_SWEEP_NS);
	m->next_flush = nb_time_add(m->now, MGMT_FLUSH_NS);
	for (size_t i = 0; i < m->accounts.n; i++) {
		struct mgmt_account *a = (struct mgmt_account *)m->accounts.v[i];

		for (size_t k = 0; k < a->t[T_PEER].n; k++) {
			struct mgmt_peer *p = (struct mgmt_peer *)a->t[T_PEER].v[k];

			if (p->rec->ephemeral)
				p->state->ephemeral_due = nb_time_add(m->now, MGMT_EPHEMERAL_NS);
		}
		mgmt_expiry_plan(a);
	}
}

static int start(struct mgmt *m, struct mgmt_error *e)
{
	int err = server_load(m);

	if (!err && m->store)
		err = mgmt_load(m);
	if (!err && m->store)
		load_event_number(m);
	if (!err)
		err = mgmt_service_new(m);
	if (err == NB_E_BAD)
		return mgmt_fail(e, MGMT_INTERNAL, "the data directory holds a record that cannot be read: "
						   "restore it from an export");
	if (err == NB_E_UNSUPPORTED)
		return mgmt_fail(e, MGMT_INTERNAL, "the data directory was written by a newer version: update this program");
	if (err)
		return mgmt_fail(e, MGMT_INTERNAL, "cannot read the data directory: %s", nb_strerror(err));
	start_timers(m);
	return 0;
}

int mgmt_new(struct mgmt **out, const struct mgmt_config *cfg, struct store *store, struct nb_time now,
	     struct nb_wall wall, struct mgmt_error *e)
{
	struct mgmt *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return mgmt_fail(e, MGMT_INTERNAL, "out of memory");
	m->cfg = *cfg;
	m->store = store;
	m->now = now;
	m->wall = wall;
	nb_list_init(&m->txns);
	nb_list_init(&m->waiters);
	nb_list_init(&m->streams);
	nb_list_init(&m->due);
	nb_list_init(&m->starved);
	init_maps(m);
	nbc_xid_init(&m->xid, cfg->random, cfg->random_ctx);
	rc = start(m, e);
	if (rc) {
		mgmt_free(m);
		return rc;
	}
	*out = m;
	return 0;
}

void mgmt_free(struct mgmt *m)
{
	if (!m)
		return;
	if (m->store && m->service) {
		mgmt_peer_flush(m);
		store_sync(m->store);
	}
	mgmt_service_free(m);
	mgmt_unload(m);
	fini_maps(m);
	nb_wipe(m->box_secret, sizeof(m->box_secret));
	nb_wipe(m->token_secret, sizeof(m->token_secret));
	free(m);
}

void mgmt_clock(struct mgmt *m, struct nb_time now, struct nb_wall wall)
{
	m->now = now;
	m->wall = wall;
}

void mgmt_tick(struct mgmt *m)
{
	if (m->cfg.clock)
		m->cfg.clock(m->cfg.clock_arg, &m->now, &m->wall);
}

void mgmt_wake(struct mgmt *m)
{
	if (m->cfg.wake)
		m->cfg.wake(m->cfg.wake_arg);
}

void mgmt_reconfigure(struct mgmt *m, const struct mgmt_config *cfg)
{
	struct mgmt_config *c = &m->cfg;

	c->signal_uri = cfg->signal_uri;
	c->signal_tls = cfg->signal_tls;
	c->stuns = cfg->stuns;
	c->n_stuns = cfg->n_stuns;
	c->turns = cfg->turns;
	c->n_turns = cfg->n_turns;
	c->turn_secret = cfg->turn_secret;
	c->turn_ttl = cfg->turn_ttl;
	c->relay_urls = cfg->relay_urls;
	c->n_relay_urls = cfg->n_relay_urls;
	c->relay_secret = cfg->relay_secret;
	c->relay_ttl = cfg->relay_ttl;
	c->device = cfg->device;
	c->pkce = cfg->pkce;
}

struct nb_wall mgmt_now(const struct mgmt *m)
{
	return m->wall;
}

const char *mgmt_server_key(const struct mgmt *m)
{
	return m->box_text;
}

void mgmt_secret(const struct mgmt *m, const char *purpose, uint8_t out[32])
{
	nbc_hmac_sha256(out, nb_bytes(m->token_secret, sizeof(m->token_secret)), nb_bytes_str(purpose));
}

/* ---- time */

void mgmt_run(struct mgmt *m)
{
	mgmt_stream_run(m);
	for (size_t i = 0; i < m->accounts.n; i++)
		mgmt_expiry_run((struct mgmt_account *)m->accounts.v[i]);
	if (nb_time_due(m->next_sweep, m->now)) {
		m->next_sweep = nb_time_add(m->now, MGMT_SWEEP_NS);
		mgmt_peer_sweep(m);
	}
	if (nb_time_due(m->next_flush, m->now)) {
		m->next_flush = nb_time_add(m->now, MGMT_FLUSH_NS);
		mgmt_peer_flush(m);
	}
}

struct nb_time mgmt_deadline(const struct mgmt *m)
{
	struct nb_time at = nb_time_min(mgmt_stream_deadline(m), nb_time_min(m->next_sweep, m->next_flush));

	for (size_t i = 0; i < m->accounts.n; i++) {
		const struct mgmt_account *a = (const struct mgmt_account *)m->accounts.v[i];
		int64_t wait = a->expiry.ns - m->wall.ns;

		if (a->expiry.ns)
			at = nb_time_min(at, nb_time_add(m->now, wait > NB_SEC ? wait : NB_SEC));
	}
	return at;
}
