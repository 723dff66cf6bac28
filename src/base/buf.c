/* buf.c - see buf.h. Tests: tests/unit/base_buf_test.c */
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

void nb_buf_init(struct nb_buf *b, size_t max)
{
	memset(b, 0, sizeof *b);
	b->max = max;
}

void nb_buf_fixed(struct nb_buf *b, void *mem, size_t cap)
{
	*b = (struct nb_buf){ .p = mem, .cap = cap, .max = cap, .fixed = true };
}

void nb_buf_fini(struct nb_buf *b)
{
	if (!b->fixed && b->p) {
		nb_wipe(b->p, b->n);
		free(b->p);
		b->p = NULL;
		b->cap = 0;
	}
	b->n = 0;
	b->err = 0;
}

void nb_buf_reset(struct nb_buf *b)
{
	b->n = 0;
	b->err = 0;
}

void nb_buf_consume(struct nb_buf *b, size_t k)
{
	b->n -= k;
	if (b->n)
		memmove(b->p, b->p + k, b->n);
}

static int grow(struct nb_buf *b, size_t need)
{
	size_t cap = b->cap ? b->cap : 64;
	uint8_t *p;

	if (b->fixed || need > b->max)
		return b->err = NB_E_FULL;
	while (cap < need)
		cap = cap < 1 << 20 ? cap * 2 : cap + cap / 2;
	if (cap > b->max)
		cap = b->max;
	p = realloc(b->p, cap);
	if (!p)
		return b->err = NB_E_NOMEM;
	b->p = p;
	b->cap = cap;
	return 0;
}

uint8_t *nb_buf_reserve(struct nb_buf *b, size_t k)
{
	if (b->err)
		return NULL;
	if (k > SIZE_MAX - b->n) {
		b->err = NB_E_FULL;
		return NULL;
	}
	if ((!b->p || b->n + k > b->cap) && grow(b, b->n + k))
		return NULL;
	return b->p + b->n;
}

void nb_buf_commit(struct nb_buf *b, size_t k)
{
	b->n += k;
}

int nb_buf_put(struct nb_buf *b, const void *p, size_t n)
{
	uint8_t *at;

	if (n == 0)
		return b->err;
	at = nb_buf_reserve(b, n);
	if (!at)
		return b->err;
	memcpy(at, p, n);
	b->n += n;
	return 0;
}

int nb_buf_bytes(struct nb_buf *b, struct nb_bytes s)
{
	return nb_buf_put(b, s.p, s.n);
}

int nb_buf_str(struct nb_buf *b, const char *s)
{
	return nb_buf_put(b, s, strlen(s));
}

int nb_buf_u8(struct nb_buf *b, uint8_t v)
{
	return nb_buf_put(b, &v, 1);
}

int nb_buf_be16(struct nb_buf *b, uint16_t v)
{
	uint8_t t[2];

	nb_put_be16(t, v);
	return nb_buf_put(b, t, sizeof t);
}

int nb_buf_be32(struct nb_buf *b, uint32_t v)
{
	uint8_t t[4];

	nb_put_be32(t, v);
	return nb_buf_put(b, t, sizeof t);
}

int nb_buf_be64(struct nb_buf *b, uint64_t v)
{
	uint8_t t[8];

	nb_put_be64(t, v);
	return nb_buf_put(b, t, sizeof t);
}

int nb_buf_le32(struct nb_buf *b, uint32_t v)
{
	uint8_t t[4];

	nb_put_le32(t, v);
	return nb_buf_put(b, t, sizeof t);
}

int nb_buf_le64(struct nb_buf *b, uint64_t v)
{
	uint8_t t[8];

	nb_put_le64(t, v);
	return nb_buf_put(b, t, sizeof t);
}

int nb_buf_vprintf(struct nb_buf *b, const char *fmt, va_list ap)
{
	va_list again;
	uint8_t *at;
	int len;

	if (b->err)
		return b->err;
	va_copy(again, ap);
	len = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (len < 0)
		return b->err = NB_E_INTERNAL;
	/* vsnprintf writes a NUL too, which is not counted. */
	at = nb_buf_reserve(b, (size_t)len + 1);
	if (!at)
		return b->err;
	vsnprintf((char *)at, (size_t)len + 1, fmt, ap);
	b->n += (size_t)len;
	return 0;
}

int nb_buf_printf(struct nb_buf *b, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = nb_buf_vprintf(b, fmt, ap);
	va_end(ap);
	return r;
}

const char *nb_buf_cstr(struct nb_buf *b)
{
	uint8_t *at = nb_buf_reserve(b, 1);

	if (!at)
		return "";
	*at = 0;
	return (const char *)b->p;
}
