/* stun.c - see stun.h. Tests: tests/unit/ice_stun_test.c, tests/fuzz/stun_fuzz.c */
#include "ice/stun.h"

#include "base/err.h"
#include "crypto/crypto.h"

#define FINGERPRINT_XOR 0x5354554eu
#define FAMILY_V4 1
#define FAMILY_V6 2

static size_t padded(size_t n)
{
	return (n + 3) & ~(size_t)3;
}

static bool is_seal(uint16_t type)
{
	return type == STUN_A_MESSAGE_INTEGRITY || type == STUN_A_MESSAGE_INTEGRITY_SHA256 ||
	       type == STUN_A_FINGERPRINT;
}

bool stun_is(struct nb_bytes in)
{
	return in.n >= STUN_HEADER_LEN && (in.p[0] & 0xc0) == 0 && nb_get_be32(in.p + 4) == STUN_MAGIC &&
	       nb_get_be16(in.p + 2) % 4 == 0;
}

/* The class bits sit at 4 and 8 of the type, inside the method's (RFC 8489, figure 3). */
static uint16_t type_join(unsigned method, unsigned cls)
{
	return (uint16_t)((method & 0xf80) << 2 | (method & 0x70) << 1 | (method & 0xf) | (cls & 2) << 7 |
			  (cls & 1) << 4);
}

static void type_split(uint16_t type, uint16_t *method, uint8_t *cls)
{
	*method = (uint16_t)((type & 0x3e00) >> 2 | (type & 0xe0) >> 1 | (type & 0xf));
	*cls = (uint8_t)((type & 0x100) >> 7 | (type & 0x10) >> 4);
}

static int index_attrs(struct stun_msg *m)
{
	size_t at = STUN_HEADER_LEN, end = m->raw.n;
	bool sealed = false;

	while (at < end) {
		struct stun_attr *a = &m->attrs[m->nattrs];

		if (end - at < 4)
			return NB_E_BAD;
		if (m->nattrs == STUN_MAX_ATTRS)
			return NB_E_FULL;
		a->type = nb_get_be16(m->raw.p + at);
		a->len = nb_get_be16(m->raw.p + at + 2);
		a->at = (uint32_t)at;
		at += 4;
		if (padded(a->len) > end - at)
			return NB_E_BAD;
		at += padded(a->len);
		m->nattrs++;
		if (!sealed)
			m->ntrusted = m->nattrs;
		sealed = sealed || is_seal(a->type);
	}
	return 0;
}

int stun_decode(struct stun_msg *out, struct nb_bytes in)
{
	if (in.n < STUN_HEADER_LEN)
		return NB_E_SHORT;
	if (!stun_is(in))
		return NB_E_BAD;
	if (in.n - STUN_HEADER_LEN < nb_get_be16(in.p + 2))
		return NB_E_SHORT;
	if (in.n - STUN_HEADER_LEN > nb_get_be16(in.p + 2))
		return NB_E_BAD;
	out->raw = in;
	out->nattrs = out->ntrusted = 0;
	type_split(nb_get_be16(in.p), &out->method, &out->cls);
	return index_attrs(out);
}

struct nb_bytes stun_value(const struct stun_msg *m, unsigned i)
{
	return nb_bytes(m->raw.p + m->attrs[i].at + 4, m->attrs[i].len);
}

static int find_upto(const struct stun_msg *m, uint16_t type, unsigned n, unsigned *index)
{
	for (unsigned i = 0; i < n; i++) {
		if (m->attrs[i].type == type) {
			*index = i;
			return 0;
		}
	}
	return NB_E_NOTFOUND;
}

static int find_value(const struct stun_msg *m, uint16_t type, unsigned n, struct nb_bytes *out)
{
	unsigned i;

	if (find_upto(m, type, n, &i)) {
		*out = nb_bytes(NULL, 0);
		return NB_E_NOTFOUND;
	}
	*out = stun_value(m, i);
	return 0;
}

int stun_find(const struct stun_msg *m, uint16_t type, struct nb_bytes *out)
{
	return find_value(m, type, m->ntrusted, out);
}

int stun_find_anywhere(const struct stun_msg *m, uint16_t type, struct nb_bytes *out)
{
	return find_value(m, type, m->nattrs, out);
}

bool stun_has(const struct stun_msg *m, uint16_t type)
{
	unsigned i;

	return find_upto(m, type, m->ntrusted, &i) == 0;
}

static int get_sized(const struct stun_msg *m, uint16_t type, size_t n, struct nb_bytes *v)
{
	if (stun_find(m, type, v))
		return NB_E_NOTFOUND;
	return v->n == n ? 0 : NB_E_BAD;
}

int stun_get_u32(const struct stun_msg *m, uint16_t type, uint32_t *out)
{
	struct nb_bytes v;
	int r = get_sized(m, type, 4, &v);

	if (r == 0)
		*out = nb_get_be32(v.p);
	return r;
}

int stun_get_u64(const struct stun_msg *m, uint16_t type, uint64_t *out)
{
	struct nb_bytes v;
	int r = get_sized(m, type, 8, &v);

	if (r == 0)
		*out = nb_get_be64(v.p);
	return r;
}

static int addr_value(struct nb_bytes v, struct nb_endpoint *out)
{
	if (v.n == 8 && v.p[1] == FAMILY_V4)
		out->addr = nb_addr4(nb_get_be32(v.p + 4));
	else if (v.n == 20 && v.p[1] == FAMILY_V6)
		out->addr = nb_addr6(v.p + 4);
	else
		return NB_E_BAD;
	out->port = nb_get_be16(v.p + 2);
	return 0;
}

/* XOR with the cookie and, behind it in the header, the transaction id; its own inverse. */
static void xor_addr(struct nb_endpoint *a, const uint8_t mask[16])
{
	a->port ^= nb_get_be16(mask);
	for (unsigned i = 0; i < (a->addr.family == 4 ? 4u : 16u); i++)
		a->addr.ip[i] ^= mask[i];
}

int stun_xor_addr_value(const struct stun_msg *m, struct nb_bytes value, struct nb_endpoint *out)
{
	int r = addr_value(value, out);

	if (r == 0)
		xor_addr(out, m->raw.p + 4);
	return r;
}

int stun_get_xor_addr(const struct stun_msg *m, uint16_t type, struct nb_endpoint *out)
{
	struct nb_bytes v;

	if (stun_find(m, type, &v))
		return NB_E_NOTFOUND;
	return stun_xor_addr_value(m, v, out);
}

int stun_get_addr(const struct stun_msg *m, uint16_t type, struct nb_endpoint *out)
{
	struct nb_bytes v;

	if (stun_find(m, type, &v))
		return NB_E_NOTFOUND;
	return addr_value(v, out);
}

int stun_get_error(const struct stun_msg *m, unsigned *code, struct nb_bytes *reason)
{
	struct nb_bytes v;

	if (stun_find(m, STUN_A_ERROR_CODE, &v))
		return NB_E_NOTFOUND;
	if (v.n < 4 || (v.p[2] & 7) < 3 || (v.p[2] & 7) > 6 || v.p[3] > 99)
		return NB_E_BAD;
	*code = (v.p[2] & 7) * 100u + v.p[3];
	if (reason)
		*reason = nb_bytes(v.p + 4, v.n - 4);
	return 0;
}

static bool listed(const uint16_t *list, unsigned n, uint16_t type)
{
	for (unsigned i = 0; i < n; i++)
		if (list[i] == type)
			return true;
	return false;
}

unsigned stun_unknown(const struct stun_msg *m, const uint16_t *known, unsigned nknown, uint16_t *out,
		      unsigned cap)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->ntrusted && n < cap; i++) {
		uint16_t type = m->attrs[i].type;

		if (type < 0x8000 && !is_seal(type) && !listed(known, nknown, type) && !listed(out, n, type))
			out[n++] = type;
	}
	return n;
}

/* Find a sealing attribute of this exact length; *at is where it starts. */
static int find_seal(const struct stun_msg *m, uint16_t type, size_t len, size_t *at)
{
	unsigned i;

	if (find_upto(m, type, m->nattrs, &i))
		return NB_E_NOTFOUND;
	if (m->attrs[i].len != len)
		return NB_E_BAD;
	*at = m->attrs[i].at;
	return 0;
}

/* The bytes before a seal at offset `at` as they were signed: with a header length that ends behind
 * the seal's len bytes of value. */
struct signed_part {
	uint8_t head[4];
	struct nb_bytes part[2];
};

static void signed_part(struct signed_part *s, const struct stun_msg *m, size_t at, size_t len)
{
	memcpy(s->head, m->raw.p, 2);
	nb_put_be16(s->head + 2, (uint16_t)(at + 4 + len - STUN_HEADER_LEN));
	s->part[0] = nb_bytes(s->head, sizeof s->head);
	s->part[1] = nb_bytes(m->raw.p + sizeof s->head, at - sizeof s->head);
}

int stun_check_integrity(const struct stun_msg *m, struct nb_bytes key)
{
	struct signed_part s;
	uint8_t mac[NBC_SHA1_LEN];
	size_t at;
	int r = find_seal(m, STUN_A_MESSAGE_INTEGRITY, sizeof mac, &at);

	if (r)
		return r;
	signed_part(&s, m, at, sizeof mac);
	nbc_hmac_sha1_v(mac, key, s.part, 2);
	return nb_equal_ct(mac, m->raw.p + at + 4, sizeof mac) ? 0 : NB_E_AUTH;
}

int stun_check_integrity_sha256(const struct stun_msg *m, struct nb_bytes key)
{
	struct signed_part s;
	uint8_t mac[NBC_SHA256_LEN];
	size_t at;
	int r = find_seal(m, STUN_A_MESSAGE_INTEGRITY_SHA256, sizeof mac, &at);

	if (r)
		return r;
	signed_part(&s, m, at, sizeof mac);
	nbc_hmac_sha256_v(mac, key, s.part, 2);
	return nb_equal_ct(mac, m->raw.p + at + 4, sizeof mac) ? 0 : NB_E_AUTH;
}

int stun_check_fingerprint(const struct stun_msg *m)
{
	struct signed_part s;
	uint32_t crc;
	size_t at;
	int r = find_seal(m, STUN_A_FINGERPRINT, 4, &at);

	if (r)
		return r;
	signed_part(&s, m, at, 4);
	crc = nbc_crc32(nbc_crc32(0, s.part[0]), s.part[1]) ^ FINGERPRINT_XOR;
	return crc == nb_get_be32(m->raw.p + at + 4) ? 0 : NB_E_AUTH;
}

int stun_long_term_key(uint8_t out[STUN_KEY_LEN], struct nb_bytes user, struct nb_bytes realm,
		       struct nb_bytes password)
{
	uint8_t mem[STUN_MAX_USERNAME + STUN_MAX_REALM + 512 + 2];
	struct nb_buf b;

	if (user.n > STUN_MAX_USERNAME || realm.n > STUN_MAX_REALM || password.n > 512)
		return NB_E_ARG;
	nb_buf_fixed(&b, mem, sizeof mem);
	nb_buf_bytes(&b, user);
	nb_buf_u8(&b, ':');
	nb_buf_bytes(&b, realm);
	nb_buf_u8(&b, ':');
	nb_buf_bytes(&b, password);
	nbc_md5(out, nb_buf_view(&b));
	nb_wipe(mem, sizeof mem);
	return 0;
}

struct stun_enc stun_begin(struct nb_buf *b, enum stun_class cls, unsigned method,
			   const uint8_t txid[STUN_TXID_LEN])
{
	struct stun_enc e = { b, b->n };

	nb_buf_be16(b, type_join(method, cls));
	nb_buf_be16(b, 0);
	nb_buf_be32(b, STUN_MAGIC);
	nb_buf_put(b, txid, STUN_TXID_LEN);
	return e;
}

/* Header and room for n bytes of value, padding zeroed, the message length updated.
 * Returns where the value goes, or NULL with the error latched. */
static uint8_t *add(struct stun_enc *e, uint16_t type, size_t n)
{
	size_t len = e->b->n - e->start + 4 + padded(n);
	uint8_t *at;

	if (!e->b->err && (n > UINT16_MAX || len - STUN_HEADER_LEN > UINT16_MAX))
		e->b->err = NB_E_FULL;
	at = nb_buf_reserve(e->b, 4 + padded(n));
	if (!at)
		return NULL;
	nb_put_be16(at, type);
	nb_put_be16(at + 2, (uint16_t)n);
	memset(at + 4, 0, padded(n));
	nb_buf_commit(e->b, 4 + padded(n));
	nb_put_be16(e->b->p + e->start + 2, (uint16_t)(len - STUN_HEADER_LEN));
	return at + 4;
}

void stun_put(struct stun_enc *e, uint16_t type, struct nb_bytes value)
{
	uint8_t *at = add(e, type, value.n);

	if (at && value.n)
		memcpy(at, value.p, value.n);
}

void stun_put_str(struct stun_enc *e, uint16_t type, const char *text)
{
	stun_put(e, type, nb_bytes_str(text));
}

void stun_put_u32(struct stun_enc *e, uint16_t type, uint32_t v)
{
	uint8_t *at = add(e, type, 4);

	if (at)
		nb_put_be32(at, v);
}

void stun_put_u64(struct stun_enc *e, uint16_t type, uint64_t v)
{
	uint8_t *at = add(e, type, 8);

	if (at)
		nb_put_be64(at, v);
}

void stun_put_flag(struct stun_enc *e, uint16_t type)
{
	add(e, type, 0);
}

void stun_put_addr(struct stun_enc *e, uint16_t type, const struct nb_endpoint *a)
{
	size_t n = a->addr.family == 4 ? 4 : 16;
	uint8_t *at = add(e, type, 4 + n);

	if (!at)
		return;
	at[1] = n == 4 ? FAMILY_V4 : FAMILY_V6;
	nb_put_be16(at + 2, a->port);
	memcpy(at + 4, a->addr.ip, n);
}

void stun_put_xor_addr(struct stun_enc *e, uint16_t type, const struct nb_endpoint *a)
{
	struct nb_endpoint x = *a;

	if (e->b->err)
		return;
	xor_addr(&x, e->b->p + e->start + 4);
	stun_put_addr(e, type, &x);
}

void stun_put_error(struct stun_enc *e, unsigned code, const char *reason)
{
	size_t n = strlen(reason) < 128 ? strlen(reason) : 128;
	uint8_t *at = add(e, STUN_A_ERROR_CODE, 4 + n);

	if (!at)
		return;
	at[2] = (uint8_t)(code / 100);
	at[3] = (uint8_t)(code % 100);
	memcpy(at + 4, reason, n);
}

void stun_put_unknown(struct stun_enc *e, const uint16_t *types, unsigned n)
{
	uint8_t *at = add(e, STUN_A_UNKNOWN_ATTRIBUTES, 2 * (size_t)n);

	for (unsigned i = 0; at && i < n; i++)
		nb_put_be16(at + 2 * i, types[i]);
}

/* The message before the attribute that was just added with n bytes of value. */
static struct nb_bytes before_last(const struct stun_enc *e, size_t n)
{
	return nb_bytes(e->b->p + e->start, e->b->n - e->start - 4 - n);
}

void stun_put_integrity(struct stun_enc *e, struct nb_bytes key)
{
	uint8_t *at = add(e, STUN_A_MESSAGE_INTEGRITY, 20);

	if (at)
		nbc_hmac_sha1(at, key, before_last(e, 20));
}

void stun_put_integrity_sha256(struct stun_enc *e, struct nb_bytes key)
{
	uint8_t *at = add(e, STUN_A_MESSAGE_INTEGRITY_SHA256, 32);

	if (at)
		nbc_hmac_sha256(at, key, before_last(e, 32));
}

void stun_put_fingerprint(struct stun_enc *e)
{
	uint8_t *at = add(e, STUN_A_FINGERPRINT, 4);

	if (at)
		nb_put_be32(at, nbc_crc32(0, before_last(e, 4)) ^ FINGERPRINT_XOR);
}

int stun_end(struct stun_enc *e)
{
	return e->b->err;
}

int turn_channel_decode(struct nb_bytes in, uint16_t *channel, struct nb_bytes *data)
{
	if (in.n < TURN_CHANNEL_HEADER)
		return NB_E_SHORT;
	if (!turn_channel_is(in))
		return NB_E_BAD;
	if (in.n - TURN_CHANNEL_HEADER < nb_get_be16(in.p + 2))
		return NB_E_SHORT;
	*channel = nb_get_be16(in.p);
	*data = nb_bytes(in.p + TURN_CHANNEL_HEADER, nb_get_be16(in.p + 2));
	return 0;
}
