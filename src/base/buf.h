/* buf.h - a growable output buffer with a maximum and a latched error.
 * Writers append a whole message and look at err once. */
#ifndef NB_BASE_BUF_H
#define NB_BASE_BUF_H

#include <stdarg.h>

#include "base/bytes.h"

struct nb_buf {
	uint8_t *p;	/* n bytes written */
	size_t n;
	size_t cap;
	size_t max;	/* never grows beyond this */
	int err;	/* first error (NB_E_NOMEM, NB_E_FULL); later writes do nothing */
	bool fixed;	/* memory belongs to the caller */
};

/* An empty heap buffer that may grow to max bytes. */
void nb_buf_init(struct nb_buf *b, size_t max);
/* A buffer over the caller's memory; it never grows. */
void nb_buf_fixed(struct nb_buf *b, void *mem, size_t cap);
/* Free heap memory (wiping it first) and return to the empty state; max is kept. */
void nb_buf_fini(struct nb_buf *b);
/* Forget the content and the error, keep the memory. */
void nb_buf_reset(struct nb_buf *b);
/* Drop the first k bytes (k <= n), moving the rest down. */
void nb_buf_consume(struct nb_buf *b, size_t k);
/* Room for k more bytes: pointer to write at (then nb_buf_commit), or NULL with err latched. */
uint8_t *nb_buf_reserve(struct nb_buf *b, size_t k);
/* Count k bytes written after nb_buf_reserve. */
void nb_buf_commit(struct nb_buf *b, size_t k);

/* Append. Each returns b->err. */
int nb_buf_put(struct nb_buf *b, const void *p, size_t n);
int nb_buf_bytes(struct nb_buf *b, struct nb_bytes s);
int nb_buf_str(struct nb_buf *b, const char *s);
int nb_buf_u8(struct nb_buf *b, uint8_t v);
int nb_buf_be16(struct nb_buf *b, uint16_t v);
int nb_buf_be32(struct nb_buf *b, uint32_t v);
int nb_buf_be64(struct nb_buf *b, uint64_t v);
int nb_buf_le32(struct nb_buf *b, uint32_t v);
int nb_buf_le64(struct nb_buf *b, uint64_t v);
int nb_buf_printf(struct nb_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int nb_buf_vprintf(struct nb_buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* The content as a NUL-terminated string (NUL not counted in n); "" after an error. */
const char *nb_buf_cstr(struct nb_buf *b);

static inline struct nb_bytes nb_buf_view(const struct nb_buf *b)
{
	return nb_bytes(b->p, b->n);
}

#endif
