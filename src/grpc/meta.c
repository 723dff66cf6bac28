/* meta.c - metadata: received header blocks, "-bin" values, grpc-timeout, grpc-message, and header
 * lists for nghttp2. No stream state here. gRPC "PROTOCOL-HTTP2". Tests: tests/unit/grpc_meta_test.c */
#include "grpc/grpc_int.h"

#include <stdio.h>
#include <stdlib.h>

#define RECORD 6	/* be16 + be32 before name and value */

void grpc_meta_init(struct grpc_meta_set *s, size_t max_bytes)
{
	memset(s, 0, sizeof *s);
	nb_buf_init(&s->text, max_bytes);
}

void grpc_meta_fini(struct grpc_meta_set *s)
{
	nb_buf_fini(&s->text);
	s->count = s->bytes = 0;
	s->overflow = false;
}

int grpc_meta_put(struct grpc_meta_set *s, struct nb_bytes name, struct nb_bytes value)
{
	uint8_t *p;

	s->bytes += name.n + value.n + 32;
	if (s->overflow || s->bytes > s->text.max || name.n > UINT16_MAX) {
		s->overflow = true;
		return NB_E_FULL;
	}
	/* 32 bytes of overhead were counted, RECORD are used: the text stays below its maximum. */
	p = nb_buf_reserve(&s->text, RECORD + name.n + value.n);
	if (!p) {
		s->overflow = true;
		return s->text.err;
	}
	nb_put_be16(p, (uint16_t)name.n);
	nb_put_be32(p + 2, (uint32_t)value.n);
	if (name.n)
		memcpy(p + RECORD, name.p, name.n);
	if (value.n)
		memcpy(p + RECORD + name.n, value.p, value.n);
	nb_buf_commit(&s->text, RECORD + name.n + value.n);
	s->count++;
	return 0;
}

static bool is_bin(struct nb_bytes name)
{
	return name.n >= 4 && memcmp(name.p + name.n - 4, "-bin", 4) == 0;
}

/* Senders may leave the padding out, so it is put back before decoding. */
static void add_bin(struct grpc_meta_set *s, struct nb_bytes name, struct nb_bytes value)
{
	size_t padded = (value.n + 3) / 4 * 4, n;
	uint8_t *mem;

	if (value.n > s->text.max) {
		s->overflow = true;
		return;
	}
	mem = malloc(2 * padded + 1);
	if (!mem) {
		s->overflow = true;
		return;
	}
	if (value.n)
		memcpy(mem, value.p, value.n);
	memset(mem + value.n, '=', padded - value.n);
	if (!nb_base64_decode(mem + padded, padded + 1, &n, nb_bytes(mem, padded)))
		grpc_meta_put(s, name, nb_bytes(mem + padded, n));
	free(mem);
}

void grpc_meta_add(struct grpc_meta_set *s, struct nb_bytes name, struct nb_bytes value)
{
	if (is_bin(name))
		add_bin(s, name, value);
	else
		grpc_meta_put(s, name, value);
}

bool grpc_meta_each(const struct grpc_meta_set *s, size_t *pos, struct grpc_meta *entry)
{
	const uint8_t *p;

	if (*pos >= s->text.n)
		return false;
	p = s->text.p + *pos;
	entry->name = nb_bytes(p + RECORD, nb_get_be16(p));
	entry->value = nb_bytes(p + RECORD + entry->name.n, nb_get_be32(p + 2));
	*pos += RECORD + entry->name.n + entry->value.n;
	return true;
}

bool grpc_meta_get(const struct grpc_meta_set *s, const char *name, struct nb_bytes *value)
{
	struct grpc_meta m;

	for (size_t pos = 0; grpc_meta_each(s, &pos, &m);) {
		if (nb_bytes_eq_str(m.name, name)) {
			*value = m.value;
			return true;
		}
	}
	return false;
}

static bool name_char(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

bool grpc_meta_valid(const struct grpc_meta *m)
{
	if (m->name.n == 0 || m->name.n > 256)
		return false;
	for (size_t i = 0; i < m->name.n; i++)
		if (!name_char(m->name.p[i]))
			return false;
	/* gRPC's own names are not the program's business, except the one that carries error details. */
	if (m->name.n >= 5 && memcmp(m->name.p, "grpc-", 5) == 0)
		return nb_bytes_eq_str(m->name, "grpc-status-details-bin");
	if (is_bin(m->name))
		return true;
	for (size_t i = 0; i < m->value.n; i++)
		if (m->value.p[i] < 0x20 || m->value.p[i] > 0x7e)
			return false;
	return true;
}

/* Unit letters of grpc-timeout in growing order. */
static const struct {
	char letter;
	int64_t ns;
} units[] = {
	{ 'n', 1 }, { 'u', 1000 }, { 'm', NB_MS }, { 'S', NB_SEC },
	{ 'M', 60 * NB_SEC }, { 'H', 3600 * NB_SEC },
};
#define N_UNITS (sizeof units / sizeof *units)
#define TIMEOUT_MAX (100LL * 365 * 86400 * NB_SEC)
#define TIMEOUT_DIGITS_MAX 99999999

int grpc_timeout_parse(int64_t *ns, struct nb_bytes text)
{
	int64_t v = 0;

	if (text.n < 2 || text.n > 9)
		return NB_E_BAD;
	for (size_t i = 0; i + 1 < text.n; i++) {
		if (text.p[i] < '0' || text.p[i] > '9')
			return NB_E_BAD;
		v = v * 10 + (text.p[i] - '0');
	}
	for (size_t i = 0; i < N_UNITS; i++) {
		if (text.p[text.n - 1] != units[i].letter)
			continue;
		*ns = v > TIMEOUT_MAX / units[i].ns ? TIMEOUT_MAX : v * units[i].ns;
		return 0;
	}
	return NB_E_BAD;
}

void grpc_timeout_format(char out[16], int64_t ns)
{
	size_t i = 0;
	int64_t v = ns > 0 ? ns : 0;

	while (i + 1 < N_UNITS && v > TIMEOUT_DIGITS_MAX) {
		i++;
		v = ns / units[i].ns + (ns % units[i].ns != 0);
	}
	if (v > TIMEOUT_DIGITS_MAX)
		v = TIMEOUT_DIGITS_MAX;
	snprintf(out, 16, "%d%c", (int)v, units[i].letter);
}

void grpc_percent_encode(struct nb_buf *out, const char *text)
{
	static const char hex[] = "0123456789ABCDEF";

	for (const uint8_t *p = (const uint8_t *)text; *p; p++) {
		if (*p >= 0x20 && *p <= 0x7e && *p != '%') {
			nb_buf_u8(out, *p);
			continue;
		}
		nb_buf_u8(out, '%');
		nb_buf_u8(out, (uint8_t)hex[*p >> 4]);
		nb_buf_u8(out, (uint8_t)hex[*p & 15]);
	}
}

char *grpc_percent_decode(struct nb_bytes in)
{
	char *out = malloc(in.n + 1);
	size_t n = 0;

	if (!out)
		return NULL;
	for (size_t i = 0; i < in.n; i++) {
		uint8_t c = in.p[i];

		if (c == '%' && i + 2 < in.n && !nb_hex_decode(&c, 1, nb_bytes(in.p + i + 1, 2)))
			i += 2;
		/* A decoded NUL would cut the text that people read. */
		out[n++] = c ? (char)c : ' ';
	}
	out[n] = 0;
	return out;
}

void grpc_nv_init(struct grpc_nv *l, size_t cap)
{
	memset(l, 0, sizeof *l);
	nb_arena_init(&l->arena, 1 << 20);
	l->nv = nb_arena_alloc(&l->arena, cap * sizeof *l->nv);
	l->cap = cap;
	l->err = l->nv ? 0 : NB_E_NOMEM;
}

void grpc_nv_fini(struct grpc_nv *l)
{
	nb_arena_fini(&l->arena);
}

void grpc_nv_add_bytes(struct grpc_nv *l, struct nb_bytes name, struct nb_bytes value)
{
	if (l->err)
		return;
	if (l->n == l->cap) {
		l->err = NB_E_FULL;
		return;
	}
	/* nghttp2 copies names and values at submit and does not write through these pointers. */
	l->nv[l->n++] = (nghttp2_nv){ .name = (uint8_t *)(uintptr_t)name.p, .namelen = name.n,
		.value = (uint8_t *)(uintptr_t)(value.n ? value.p : (const uint8_t *)""),
		.valuelen = value.n };
}

void grpc_nv_add(struct grpc_nv *l, const char *name, const char *value)
{
	grpc_nv_add_bytes(l, nb_bytes_str(name), nb_bytes_str(value));
}

void grpc_nv_meta(struct grpc_nv *l, const struct grpc_meta *m)
{
	size_t cap = NB_BASE64_LEN(m->value.n) + 1;
	char *text;

	if (!is_bin(m->name)) {
		grpc_nv_add_bytes(l, m->name, m->value);
		return;
	}
	text = nb_arena_alloc(&l->arena, cap);
	if (!text || nb_base64_encode(text, cap, m->value)) {
		l->err = NB_E_NOMEM;
		return;
	}
	grpc_nv_add_bytes(l, m->name, nb_bytes_str(text));
}
