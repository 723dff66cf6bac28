/* txn.c - objects in memory, and the only way they change: a transaction that applies at once, can be taken
 * back, and becomes visible outside when the store has it. Also loading at start.
 * Order rules everything: transactions become durable in the order of their commit, and when one fails, all
 * that were committed after it are undone with it, newest first.
 * Tests: tests/unit/mgmt_txn_test.c */
#include "mgmt/mgmt_int.h"

#include "base/log.h"
#include "store/store.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

struct table_info {
	char letter;		/* store keys: letter/account/id */
	size_t size;		/* of the object */
	const ProtobufCMessageDescriptor *desc;
};

static const struct table_info tables[T_COUNT] = {
	[T_ACCOUNT] = { 'a', sizeof(struct mgmt_account), &nestbox__account_record__descriptor },
	[T_GROUP] = { 'g', sizeof(struct mgmt_group), &nestbox__group_record__descriptor },
	[T_PEER] = { 'p', sizeof(struct mgmt_peer), &nestbox__peer_record__descriptor },
	[T_POLICY] = { 'r', sizeof(struct mgmt_policy), &nestbox__policy_record__descriptor },
	[T_KEY] = { 'k', sizeof(struct mgmt_key), &nestbox__setup_key_record__descriptor },
	[T_USER] = { 'u', sizeof(struct mgmt_user), &nestbox__user_record__descriptor },
	[T_TOKEN] = { 't', sizeof(struct mgmt_token), &nestbox__token_record__descriptor },
};

/* ---- small things */

/* Every record's field 1 is its id. */
static const char *rec_id(const ProtobufCMessage *rec)
{
	return mgmt_str(*(char *const *)((const char *)rec + rec->descriptor->fields[0].offset));
}

const char *mgmt_item_id(const struct mgmt_item *it)
{
	return rec_id(it->rec);
}

void mgmt_new_id(struct mgmt *m, char out[NBC_XID_TEXT])
{
	nbc_xid_next(&m->xid, out, m->wall);
}

static bool scalar_set(const ProtobufCFieldDescriptor *f, const void *value)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_UINT64:
		return *(const uint64_t *)value != 0;
	case PROTOBUF_C_TYPE_BOOL:
		return *(const protobuf_c_boolean *)value;
	case PROTOBUF_C_TYPE_BYTES:
		return ((const ProtobufCBinaryData *)value)->len != 0;
	default:
		return *(const uint32_t *)value != 0;
	}
}

/* Let the has_ flags say what the values say, so that writers need not keep them: a scalar is present when it is
 * not zero. Records hold nothing but strings, messages and these scalars. */
static void settle_flags(ProtobufCMessage *rec)
{
	for (unsigned i = 0; i < rec->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &rec->descriptor->fields[i];
		char *at = (char *)rec + f->offset, *count = (char *)rec + f->quantifier_offset;

		if (f->type == PROTOBUF_C_TYPE_MESSAGE && f->label == PROTOBUF_C_LABEL_REPEATED)
			for (size_t k = 0; k < *(size_t *)count; k++)
				settle_flags((*(ProtobufCMessage ***)at)[k]);
		else if (f->type == PROTOBUF_C_TYPE_MESSAGE && *(ProtobufCMessage **)at)
			settle_flags(*(ProtobufCMessage **)at);
		else if (f->label == PROTOBUF_C_LABEL_OPTIONAL && f->type != PROTOBUF_C_TYPE_STRING &&
			 f->type != PROTOBUF_C_TYPE_MESSAGE)
			*(protobuf_c_boolean *)count = scalar_set(f, at);
	}
}

/* The caller's has_ flags are put right on the way; nothing else of rec changes. */
static uint8_t *pack(const ProtobufCMessage *rec, size_t *n)
{
	uint8_t *mem;

	settle_flags((ProtobufCMessage *)rec);
	*n = protobuf_c_message_get_packed_size(rec);
	mem = malloc(*n + 1);
	if (mem)
		protobuf_c_message_pack(rec, mem);
	return mem;
}

ProtobufCMessage *mgmt_clone(const ProtobufCMessage *rec)
{
	size_t n;
	uint8_t *mem = pack(rec, &n);
	ProtobufCMessage *copy = mem ? protobuf_c_message_unpack(rec->descriptor, NULL, n, mem) : NULL;

	if (mem)
		nb_wipe(mem, n);
	free(mem);
	return copy;
}

bool mgmt_has(char *const *list, size_t n, const char *s)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], s) == 0)
			return true;
	return false;
}

bool mgmt_unsettled(const struct mgmt *m)
{
	return m->durable != m->submitted;
}

/* ---- tables */

static size_t table_place(const struct mgmt_table *t, const char *id)
{
	size_t lo = 0, hi = t->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (strcmp(mgmt_item_id(t->v[mid]), id) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct mgmt_item *mgmt_table_get(const struct mgmt_table *t, const char *id)
{
	size_t at = table_place(t, id);

	return at < t->n && strcmp(mgmt_item_id(t->v[at]), id) == 0 ? t->v[at] : NULL;
}

static int table_room(struct mgmt_table *t)
{
	struct mgmt_item **grown;
	size_t cap;

	if (t->n < t->cap)
		return 0;
	cap = t->cap ? t->cap * 2 : 4;
	grown = realloc(t->v, cap * sizeof(*grown));
	if (!grown)
		return NB_E_NOMEM;
	t->v = grown;
	t->cap = cap;
	return 0;
}

/* There is room: table_room came before, or the object was just taken out. */
static void table_insert(struct mgmt_table *t, struct mgmt_item *it)
{
	size_t at = table_place(t, mgmt_item_id(it));

	memmove(t->v + at + 1, t->v + at, (t->n - at) * sizeof(*t->v));
	t->v[at] = it;
	t->n++;
}

static void table_remove(struct mgmt_table *t, const char *id)
{
	size_t at = table_place(t, id);

	memmove(t->v + at, t->v + at + 1, (t->n - at - 1) * sizeof(*t->v));
	t->n--;
}

static struct mgmt_table *table_of(struct mgmt *m, enum mgmt_table_id id, struct mgmt_item *it)
{
	return id == T_ACCOUNT ? &m->accounts : &it->account->t[id];
}

/* ---- indices: kept in step with the records, both ways */

static void lower(char *out, size_t cap, const char *in)
{
	size_t n = 0;

	for (; in[n] && n + 1 < cap; n++)
		out[n] = (char)tolower((unsigned char)in[n]);
	out[n] = '\0';
}

static int members_add(struct mgmt_group *g, struct mgmt_peer *p)
{
	struct mgmt_peer **grown;
	size_t at = g->n_peers;

	if (g->rec->all)
		return 0;
	grown = realloc(g->peers, (g->n_peers + 1) * sizeof(*grown));
	if (!grown)
		return NB_E_NOMEM;
	g->peers = grown;
	while (at && strcmp(g->peers[at - 1]->rec->id, p->rec->id) > 0)
		at--;
	memmove(g->peers + at + 1, g->peers + at, (g->n_peers - at) * sizeof(*g->peers));
	g->peers[at] = p;
	g->n_peers++;
	return 0;
}

static void members_del(struct mgmt_group *g, struct mgmt_peer *p)
{
	for (size_t i = 0; i < g->n_peers && !g->rec->all; i++)
		if (g->peers[i] == p) {
			memmove(g->peers + i, g->peers + i + 1, (g->n_peers - i - 1) * sizeof(*g->peers));
			g->n_peers--;
			return;
		}
}

static int peer_index(struct mgmt_peer *p, bool on)
{
	struct mgmt_account *a = p->account;
	const mgmt_peer_rec *r = p->rec;
	struct nb_bytes key = nb_bytes(r->key.data, r->key.len), ip = nb_bytes(r->ip.data, r->ip.len);
	struct nb_bytes ip6 = nb_bytes(r->ipv6.data, r->ipv6.len), label = nb_bytes_str(mgmt_str(r->dns_label));
	int rc = 0;

	for (size_t i = 0; i < r->n_groups; i++) {
		struct mgmt_group *g = mgmt_group_get(a, r->groups[i]);

		if (g && on)
			rc |= members_add(g, p);
		else if (g)
			members_del(g, p);
	}
	if (on) {
		rc |= nb_map_put(&a->m->peer_by_key, key, p, NULL) | nb_map_put(&a->by_ip, ip, p, NULL);
		rc |= nb_map_put(&a->by_label, label, p, NULL);
		if (ip6.n)
			rc |= nb_map_put(&a->by_ip6, ip6, p, NULL);
		p->state->counted_old = !mgmt_version_at_least(r->meta ? r->meta->netbirdversion : "", 0, 59, 0);
		a->old_forwarders += p->state->counted_old;
		return rc;
	}
	nb_map_del(&a->m->peer_by_key, key);
	nb_map_del(&a->by_ip, ip);
	nb_map_del(&a->by_label, label);
	if (ip6.n)
		nb_map_del(&a->by_ip6, ip6);
	a->old_forwarders -= p->state->counted_old;
	mgmt_map_forget(p);
	return 0;
}

static int text_index(struct nb_map *map, const char *text, void *value, bool on)
{
	if (!text || !*text)
		return 0;
	if (on)
		return nb_map_put(map, nb_bytes_str(text), value, NULL);
	if (nb_map_get(map, nb_bytes_str(text)) == value)
		nb_map_del(map, nb_bytes_str(text));
	return 0;
}

static int user_index(struct mgmt *m, struct mgmt_user *u, bool on)
{
	char mail[320];
	int rc = text_index(&m->user_by_id, u->rec->id, u, on);

	lower(mail, sizeof(mail), mgmt_str(u->rec->email));
	if (u->rec->local)
		rc |= text_index(&m->user_by_email, mail, u, on);
	return rc;
}

/* The object's record is in place (on) or about to go (off). */
static int item_index(struct mgmt *m, enum mgmt_table_id table, struct mgmt_item *it, bool on)
{
	switch (table) {
	case T_GROUP:
		if (((struct mgmt_group *)it)->rec->all)
			it->account->all = on ? (struct mgmt_group *)it : NULL;
		return 0;
	case T_PEER:
		return peer_index((struct mgmt_peer *)it, on);
	case T_KEY:
		return text_index(&m->key_by_hash, ((struct mgmt_key *)it)->rec->hash, it, on);
	case T_TOKEN:
		return text_index(&m->token_by_hash, ((struct mgmt_token *)it)->rec->hash, it, on);
	case T_USER:
		return user_index(m, (struct mgmt_user *)it, on);
	default:
		return 0;
	}
}

/* All has no list of its own: it is the table of peers. */
static void refresh_all(struct mgmt_account *a)
{
	if (a && a->all) {
		a->all->peers = (struct mgmt_peer **)a->t[T_PEER].v;
		a->all->n_peers = a->t[T_PEER].n;
	}
}

/* ---- objects */

static int account_start(struct mgmt *m, struct mgmt_account *a)
{
	a->m = m;
	a->self = a;
	nb_map_init(&a->by_ip, m->cfg.map_seed.p, MGMT_MAX_PEERS);
	nb_map_init(&a->by_ip6, m->cfg.map_seed.p, MGMT_MAX_PEERS);
	nb_map_init(&a->by_label, m->cfg.map_seed.p, MGMT_MAX_PEERS);
	return 0;
}

static struct mgmt_item *item_new(struct mgmt *m, enum mgmt_table_id table, struct mgmt_account *a)
{
	struct mgmt_item *it = calloc(1, tables[table].size);

	if (!it)
		return NULL;
	it->account = a;
	if (table == T_ACCOUNT)
		account_start(m, (struct mgmt_account *)it);
	if (table == T_PEER) {
		struct mgmt_peer_state *s = calloc(1, sizeof(*s));

		if (!s) {
			free(it);
			return NULL;
		}
		s->ephemeral_due = NB_TIME_NEVER;
		((struct mgmt_peer *)it)->state = s;
	}
	return it;
}

static void item_free(enum mgmt_table_id table, struct mgmt_item *it)
{
	if (table == T_PEER) {
		struct mgmt_peer *p = (struct mgmt_peer *)it;

		mgmt_map_forget(p);
		nb_wipe(p->state->box, sizeof(p->state->box));
		free(p->state);
	}
	if (table == T_GROUP && !(it->rec && ((struct mgmt_group *)it)->rec->all))
		free(((struct mgmt_group *)it)->peers);
	if (table == T_ACCOUNT) {
		struct mgmt_account *a = (struct mgmt_account *)it;

		nb_map_fini(&a->by_ip);
		nb_map_fini(&a->by_ip6);
		nb_map_fini(&a->by_label);
		for (int i = 0; i < T_COUNT; i++)
			free(a->t[i].v);
	}
	if (it->rec)
		protobuf_c_message_free_unpacked(it->rec, NULL);
	free(it);
}

/* ---- transactions */

int mgmt_begin(struct mgmt_txn **out, struct mgmt *m, struct mgmt_account *a)
{
	struct mgmt_txn *t = calloc(1, sizeof(*t));

	if (!t)
		return NB_E_NOMEM;
	t->m = m;
	t->account = a;
	nb_list_init(&t->node);
	if (m->store) {
		t->batch = store_batch_new();
		if (!t->batch) {
			free(t);
			return NB_E_NOMEM;
		}
	}
	*out = t;
	return 0;
}

static size_t store_key(char *out, size_t cap, enum mgmt_table_id table, const char *account, const char *id)
{
	int n = table == T_ACCOUNT ? snprintf(out, cap, "a/%s", id) :
				     snprintf(out, cap, "%c/%s/%s", tables[table].letter, account, id);

	return n > 0 && (size_t)n < cap ? (size_t)n : 0;
}

static void batch_record(struct mgmt_txn *t, enum mgmt_table_id table, const char *id, const uint8_t *p, size_t n)
{
	char key[STORE_KEY_MAX];
	size_t key_n;

	if (!t->batch)
		return;
	key_n = store_key(key, sizeof(key), table, t->account ? t->account->rec->id : "", id);
	if (!key_n) {
		t->err = NB_E_ARG;
		return;
	}
	if (p)
		store_put(t->batch, nb_bytes(key, key_n), nb_bytes(p, n));
	else
		store_del(t->batch, nb_bytes(key, key_n));
}

static struct mgmt_change *new_change(struct mgmt_txn *t)
{
	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 4;
		struct mgmt_change *grown = realloc(t->changes, cap * sizeof(*grown));

		if (!grown)
			return NULL;
		t->changes = grown;
		t->cap = cap;
	}
	return &t->changes[t->n];
}

/* Make rec the record of it (created: it is new). On failure nothing has changed. */
static int install(struct mgmt_txn *t, enum mgmt_table_id table, struct mgmt_item *it, ProtobufCMessage *rec,
		   bool created)
{
	struct mgmt *m = t->m;
	ProtobufCMessage *old = it->rec;

	if (created && table_room(table_of(m, table, it)))
		return NB_E_NOMEM;
	if (!created)
		item_index(m, table, it, false);
	it->rec = rec;
	if (created)
		table_insert(table_of(m, table, it), it);
	if (item_index(m, table, it, true)) {
		item_index(m, table, it, false);
		if (created)
			table_remove(table_of(m, table, it), rec_id(rec));
		it->rec = old;
		if (!created)
			item_index(m, table, it, true);
		return NB_E_NOMEM;
	}
	refresh_all(table == T_ACCOUNT ? (struct mgmt_account *)it : it->account);
	return 0;
}

struct mgmt_item *mgmt_put(struct mgmt_txn *t, enum mgmt_table_id table, struct mgmt_item *item,
			   const ProtobufCMessage *rec)
{
	struct mgmt_change *c = t->err ? NULL : new_change(t);
	struct mgmt_item *it = item;
	ProtobufCMessage *copy = NULL, *old = item ? item->rec : NULL;
	size_t n = 0;
	uint8_t *mem = NULL;

	if (!c)
		goto fail;
	mem = pack(rec, &n);
	if (!mem || n > MGMT_RECORD_MAX)
		goto fail;
	copy = protobuf_c_message_unpack(tables[table].desc, NULL, n, mem);
	if (!copy)
		goto fail;
	if (!it)
		it = item_new(t->m, table, t->account);
	if (!it || install(t, table, it, copy, !item))
		goto fail;
	if (table == T_ACCOUNT && !item)
		t->account = (struct mgmt_account *)it;
	*c = (struct mgmt_change){ .table = table, .item = it, .old = old };
	t->n++;
	batch_record(t, table, rec_id(copy), mem, n);
	nb_wipe(mem, n);
	free(mem);
	return it;
fail:
	if (!t->err)
		t->err = NB_E_NOMEM;
	if (it && !item) {
		it->rec = NULL;
		item_free(table, it);
	}
	if (copy)
		protobuf_c_message_free_unpacked(copy, NULL);
	free(mem);
	return NULL;
}

void mgmt_drop(struct mgmt_txn *t, enum mgmt_table_id table, struct mgmt_item *item)
{
	struct mgmt_change *c = t->err ? NULL : new_change(t);

	if (!c) {
		t->err = t->err ? t->err : NB_E_NOMEM;
		return;
	}
	batch_record(t, table, mgmt_item_id(item), NULL, 0);
	item_index(t->m, table, item, false);
	table_remove(table_of(t->m, table, item), mgmt_item_id(item));
	refresh_all(table == T_ACCOUNT ? NULL : item->account);
	*c = (struct mgmt_change){ .table = table, .item = item, .deleted = true };
	t->n++;
}

void mgmt_bump(struct mgmt_txn *t)
{
	mgmt_account_rec rec;

	if (t->serial || t->err || !t->account)
		return;
	t->serial = true;
	rec = *t->account->rec;
	rec.has_serial = true;
	rec.serial++;
	mgmt_put(t, T_ACCOUNT, (struct mgmt_item *)t->account, &rec.base);
}

void mgmt_affect_all(struct mgmt_txn *t)
{
	t->everybody = true;
}

/* Only peers with a stream need to be remembered: the others get a full map when they come. */
void mgmt_affect(struct mgmt_txn *t, struct mgmt_peer *p)
{
	if (t->everybody || !p->state->stream)
		return;
	for (size_t i = t->n_affected; i-- > 0 && i + 8 > t->n_affected;)
		if (t->affected[i] == p)
			return;
	if (t->n_affected == t->cap_affected) {
		size_t cap = t->cap_affected ? t->cap_affected * 2 : 16;
		struct mgmt_peer **grown = realloc(t->affected, cap * sizeof(*grown));

		if (!grown) {
			t->everybody = true;
			return;
		}
		t->affected = grown;
		t->cap_affected = cap;
	}
	t->affected[t->n_affected++] = p;
}

/* Encoded entries hold the account's domain. */
static void forget_maps(enum mgmt_table_id table, struct mgmt_item *it)
{
	const struct mgmt_account *a = (const struct mgmt_account *)it;

	for (size_t i = 0; table == T_ACCOUNT && i < a->t[T_PEER].n; i++)
		mgmt_map_forget((struct mgmt_peer *)a->t[T_PEER].v[i]);
}

static void undo_change(struct mgmt_txn *t, struct mgmt_change *c)
{
	struct mgmt *m = t->m;
	struct mgmt_item *it = c->item;

	if (c->deleted) {
		table_insert(table_of(m, c->table, it), it);
		item_index(m, c->table, it, true);
	} else if (c->old) {
		item_index(m, c->table, it, false);
		protobuf_c_message_free_unpacked(it->rec, NULL);
		it->rec = c->old;
		item_index(m, c->table, it, true);
		forget_maps(c->table, it);
	} else {
		item_index(m, c->table, it, false);
		table_remove(table_of(m, c->table, it), mgmt_item_id(it));
		refresh_all(c->table == T_ACCOUNT ? NULL : it->account);
		if (c->table == T_PEER)
			mgmt_stream_end((struct mgmt_peer *)it, false);
		item_free(c->table, it);
		return;
	}
	refresh_all(c->table == T_ACCOUNT ? (struct mgmt_account *)it : it->account);
}

static void undo(struct mgmt_txn *t)
{
	while (t->n)
		undo_change(t, &t->changes[--t->n]);
	t->undone = true;
}

static void txn_free(struct mgmt_txn *t)
{
	nb_list_del(&t->node);
	store_batch_free(t->batch);
	free(t->changes);
	free(t->affected);
	free(t);
}

void mgmt_abort(struct mgmt_txn *t)
{
	undo(t);
	txn_free(t);
}

/* Old records and deleted objects are no longer needed; everybody concerned gets a new map. */
static void settle(struct mgmt_txn *t)
{
	if (t->everybody && t->account)
		for (size_t i = 0; i < t->account->t[T_PEER].n; i++)
			mgmt_stream_dirty((struct mgmt_peer *)t->account->t[T_PEER].v[i]);
	else
		for (size_t i = 0; i < t->n_affected; i++)
			mgmt_stream_dirty(t->affected[i]);
	for (size_t i = 0; i < t->n; i++) {
		struct mgmt_change *c = &t->changes[i];

		if (c->old)
			protobuf_c_message_free_unpacked(c->old, NULL);
	}
	for (size_t i = 0; i < t->n; i++) {
		struct mgmt_change *c = &t->changes[i];

		if (!c->deleted)
			continue;
		if (c->table == T_PEER)
			mgmt_stream_end((struct mgmt_peer *)c->item, true);
		item_free(c->table, c->item);
	}
	t->n = 0;
}

static void release_waiters(struct mgmt *m, uint64_t upto, int err)
{
	struct nb_list ready;

	nb_list_init(&ready);
	nb_list_each_safe(node, &m->waiters) {
		struct mgmt_waiter *w = nb_container(node, struct mgmt_waiter, node);

		if (w->seq > upto)
			break;
		nb_list_del(node);
		nb_list_push(&ready, node);
	}
	while (!nb_list_empty(&ready)) {
		struct mgmt_waiter *w = nb_container(ready.next, struct mgmt_waiter, node);
		void (*fn)(void *arg, int err) = w->fn;
		void *arg = w->arg;

		nb_list_del(&w->node);
		free(w);
		fn(arg, err);
	}
}

/* The disk refused: back to what is on it. */
static void roll_back(struct mgmt *m)
{
	nb_error("management: changes could not be stored and were undone");
	for (struct nb_list *node = m->txns.prev; node != &m->txns; node = node->prev) {
		struct mgmt_txn *t = nb_container(node, struct mgmt_txn, node);

		if (!t->undone)
			undo(t);
	}
	release_waiters(m, m->submitted, NB_E_IO);
}

static void stored(void *arg, int err)
{
	struct mgmt_txn *t = arg;
	struct mgmt *m = t->m;

	m->durable = t->seq;
	if (err && !t->undone)
		roll_back(m);
	else if (!err)
		settle(t);
	txn_free(t);
	if (!err)
		release_waiters(m, m->durable, 0);
	mgmt_wake(m);
}

int mgmt_commit(struct mgmt_txn *t, struct mgmt_error *e)
{
	struct mgmt *m = t->m;
	struct store_batch *batch = t->batch;

	if (t->err) {
		nb_error("management: change refused: %s", nb_strerror(t->err));
		mgmt_abort(t);
		return mgmt_fail(e, MGMT_INTERNAL, "internal server error");
	}
	t->seq = ++m->submitted;
	t->batch = NULL;
	nb_list_push(&m->txns, &t->node);
	if (m->store)
		store_commit(m->store, batch, stored, t);
	else
		stored(t, 0);
	return 0;
}

void mgmt_after_commit(struct mgmt *m, void (*fn)(void *arg, int err), void *arg)
{
	struct mgmt_waiter *w;

	if (!mgmt_unsettled(m)) {
		fn(arg, 0);
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		fn(arg, NB_E_NOMEM);
		return;
	}
	w->seq = m->submitted;
	w->fn = fn;
	w->arg = arg;
	nb_list_push(&m->waiters, &w->node);
}

void mgmt_after_commit_forget(struct mgmt *m, void *arg)
{
	nb_list_each_safe(node, &m->waiters) {
		struct mgmt_waiter *w = nb_container(node, struct mgmt_waiter, node);

		if (w->arg == arg) {
			nb_list_del(node);
			free(w);
		}
	}
}

/* ---- loading */

struct loading {
	struct mgmt *m;
	enum mgmt_table_id table;
};

static int load_one(void *arg, struct nb_bytes key, struct nb_bytes value)
{
	struct loading *l = arg;
	struct mgmt_account *a = NULL;
	struct mgmt_item *it;
	ProtobufCMessage *rec = protobuf_c_message_unpack(tables[l->table].desc, NULL, value.n, value.p);
	struct mgmt_txn t = { .m = l->m };
	char id[64];

	if (!rec)
		return NB_E_BAD;
	if (l->table != T_ACCOUNT) {
		const uint8_t *end = key.n > 2 ? memchr(key.p + 2, '/', key.n - 2) : NULL;

		if (!end || (size_t)(end - key.p - 2) >= sizeof(id))
			goto bad;
		memcpy(id, key.p + 2, (size_t)(end - key.p - 2));
		id[end - key.p - 2] = '\0';
		a = (struct mgmt_account *)mgmt_table_get(&l->m->accounts, id);
		if (!a)
			goto bad;
	}
	it = item_new(l->m, l->table, a);
	if (!it)
		goto bad;
	if (install(&t, l->table, it, rec, true)) {
		it->rec = rec;
		item_free(l->table, it);
		return NB_E_NOMEM;
	}
	if (l->table == T_PEER)
		((struct mgmt_peer *)it)->last_seen = ((struct mgmt_peer *)it)->rec->last_seen;
	if (l->table == T_TOKEN)
		((struct mgmt_token *)it)->last_used = ((struct mgmt_token *)it)->rec->last_used;
	return 0;
bad:
	protobuf_c_message_free_unpacked(rec, NULL);
	return NB_E_BAD;
}

int mgmt_load(struct mgmt *m)
{
	for (int i = 0; i < T_COUNT; i++) {
		struct loading l = { m, (enum mgmt_table_id)i };
		char prefix[3] = { tables[i].letter, '/', '\0' };
		int rc = store_each(m->store, nb_bytes_str(prefix), load_one, &l);

		if (rc)
			return rc;
	}
	return 0;
}

void mgmt_unload(struct mgmt *m)
{
	while (!nb_list_empty(&m->waiters)) {
		struct mgmt_waiter *w = nb_container(m->waiters.next, struct mgmt_waiter, node);

		nb_list_del(&w->node);
		free(w);
	}
	while (m->accounts.n) {
		struct mgmt_account *a = (struct mgmt_account *)m->accounts.v[--m->accounts.n];

		for (int i = T_COUNT - 1; i > T_ACCOUNT; i--)
			for (size_t k = 0; k < a->t[i].n; k++)
				item_free((enum mgmt_table_id)i, a->t[i].v[k]);
		item_free(T_ACCOUNT, (struct mgmt_item *)a);
	}
	free(m->accounts.v);
	m->accounts = (struct mgmt_table){ 0 };
}
