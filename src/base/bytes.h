/* bytes.h - borrowed byte slices, bounds-checked cursors, endian helpers, hex and base64.
 * Nothing here allocates. A slice never owns its memory. */
#ifndef NB_BASE_BYTES_H
#define NB_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A borrowed run of bytes; p may be NULL when n is 0. */
struct nb_bytes {
	const uint8_t *p;
	size_t n;
};

static inline struct nb_bytes nb_bytes(const void *p, size_t n)
{
	return (struct nb_bytes){ (const uint8_t *)p, n };
}

/* The bytes of a C string, without its NUL. */
static inline struct nb_bytes nb_bytes_str(const char *s)
{
	return nb_bytes(s, s ? strlen(s) : 0);
}

static inline bool nb_bytes_eq(struct nb_bytes a, struct nb_bytes b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool nb_bytes_eq_str(struct nb_bytes a, const char *s)
{
	return nb_bytes_eq(a, nb_bytes_str(s));
}

/* A reading cursor. A read past the end sets err and yields zeros, so that callers
 * read a whole structure and look at err once. */
struct nb_cur {
	const uint8_t *p;
	const uint8_t *end;
	bool err;
};

struct nb_cur nb_cur(struct nb_bytes in);
size_t nb_cur_left(const struct nb_cur *c);
uint8_t nb_cur_u8(struct nb_cur *c);
uint16_t nb_cur_be16(struct nb_cur *c);
uint32_t nb_cur_be32(struct nb_cur *c);
uint64_t nb_cur_be64(struct nb_cur *c);
uint32_t nb_cur_le32(struct nb_cur *c);
uint64_t nb_cur_le64(struct nb_cur *c);
/* The next n bytes, borrowed from the input; empty and err when fewer are left. */
struct nb_bytes nb_cur_take(struct nb_cur *c, size_t n);
/* Copy the next n bytes to out; out is zeroed when fewer are left. */
void nb_cur_copy(struct nb_cur *c, void *out, size_t n);
void nb_cur_skip(struct nb_cur *c, size_t n);

static inline uint16_t nb_get_be16(const void *v)
{
	const uint8_t *p = v;
	return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t nb_get_be32(const void *v)
{
	const uint8_t *p = v;
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline uint64_t nb_get_be64(const void *v)
{
	const uint8_t *p = v;
	return (uint64_t)nb_get_be32(p) << 32 | nb_get_be32(p + 4);
}
static inline uint32_t nb_get_le32(const void *v)
{
	const uint8_t *p = v;
	return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}
static inline uint64_t nb_get_le64(const void *v)
{
	const uint8_t *p = v;
	return (uint64_t)nb_get_le32(p + 4) << 32 | nb_get_le32(p);
}
static inline void nb_put_be16(void *v, uint16_t x)
{
	uint8_t *p = v;
	p[0] = (uint8_t)(x >> 8);
	p[1] = (uint8_t)x;
}
static inline void nb_put_be32(void *v, uint32_t x)
{
	uint8_t *p = v;
	nb_put_be16(p, (uint16_t)(x >> 16));
	nb_put_be16(p + 2, (uint16_t)x);
}
static inline void nb_put_be64(void *v, uint64_t x)
{
	uint8_t *p = v;
	nb_put_be32(p, (uint32_t)(x >> 32));
	nb_put_be32(p + 4, (uint32_t)x);
}
static inline void nb_put_le32(void *v, uint32_t x)
{
	uint8_t *p = v;
	p[0] = (uint8_t)x;
	p[1] = (uint8_t)(x >> 8);
	p[2] = (uint8_t)(x >> 16);
	p[3] = (uint8_t)(x >> 24);
}
static inline void nb_put_le64(void *v, uint64_t x)
{
	uint8_t *p = v;
	nb_put_le32(p, (uint32_t)x);
	nb_put_le32(p + 4, (uint32_t)(x >> 32));
}

/* Overwrite secret memory; never optimised away. */
void nb_wipe(void *p, size_t n);
/* Compare n bytes in time that does not depend on their values. */
bool nb_equal_ct(const void *a, const void *b, size_t n);

/* Characters (without NUL) that n bytes take in padded base64. */
#define NB_BASE64_LEN(n) (((n) + 2) / 3 * 4)

/* Write in as padded standard base64 (RFC 4648, 4) plus NUL. cap counts the NUL.
 * Returns 0 or NB_E_FULL (out untouched). */
int nb_base64_encode(char *out, size_t cap, struct nb_bytes in);
/* Same with the URL-safe alphabet and no padding (RFC 4648, 5). */
int nb_base64url_encode(char *out, size_t cap, struct nb_bytes in);
/* Read padded standard base64; refuses bad characters, bad padding and set spare bits.
 * *n gets the bytes written. Returns 0, NB_E_BAD or NB_E_FULL. */
int nb_base64_decode(void *out, size_t cap, size_t *n, struct nb_bytes in);
/* Read unpadded URL-safe base64; otherwise as nb_base64_decode. */
int nb_base64url_decode(void *out, size_t cap, size_t *n, struct nb_bytes in);
/* Lower-case hex plus NUL into out, which holds 2n+1. */
void nb_hex_encode(char *out, struct nb_bytes in);
/* Either case; the text must be exactly 2*n digits. Returns 0 or NB_E_BAD. */
int nb_hex_decode(void *out, size_t n, struct nb_bytes in);

/* Randomness as cores receive it: fill n bytes at out. */
typedef void (*nb_random_fn)(void *ctx, void *out, size_t n);

/* A 32-byte public, private or shared key, and its base64 text with NUL. */
#define NB_KEY_LEN 32
#define NB_KEY_TEXT_LEN 45

#endif
