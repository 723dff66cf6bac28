/* bytes.c - see bytes.h. Tests: tests/unit/base_bytes_test.c */
#include "base/bytes.h"

#include "base/err.h"

struct nb_cur nb_cur(struct nb_bytes in)
{
	return (struct nb_cur){ in.p, in.p ? in.p + in.n : in.p, false };
}

size_t nb_cur_left(const struct nb_cur *c)
{
	return (size_t)(c->end - c->p);
}

static const uint8_t *take(struct nb_cur *c, size_t n)
{
	const uint8_t *p = c->p;

	if (c->err || nb_cur_left(c) < n) {
		c->err = true;
		c->p = c->end;
		return NULL;
	}
	c->p += n;
	return p;
}

uint8_t nb_cur_u8(struct nb_cur *c)
{
	const uint8_t *p = take(c, 1);
	return p ? *p : 0;
}

uint16_t nb_cur_be16(struct nb_cur *c)
{
	const uint8_t *p = take(c, 2);
	return p ? nb_get_be16(p) : 0;
}

uint32_t nb_cur_be32(struct nb_cur *c)
{
	const uint8_t *p = take(c, 4);
	return p ? nb_get_be32(p) : 0;
}

uint64_t nb_cur_be64(struct nb_cur *c)
{
	const uint8_t *p = take(c, 8);
	return p ? nb_get_be64(p) : 0;
}

uint32_t nb_cur_le32(struct nb_cur *c)
{
	const uint8_t *p = take(c, 4);
	return p ? nb_get_le32(p) : 0;
}

uint64_t nb_cur_le64(struct nb_cur *c)
{
	const uint8_t *p = take(c, 8);
	return p ? nb_get_le64(p) : 0;
}

struct nb_bytes nb_cur_take(struct nb_cur *c, size_t n)
{
	const uint8_t *p = n ? take(c, n) : c->p;
	return p && !c->err ? nb_bytes(p, n) : nb_bytes(NULL, 0);
}

void nb_cur_copy(struct nb_cur *c, void *out, size_t n)
{
	const uint8_t *p = n ? take(c, n) : NULL;

	if (p)
		memcpy(out, p, n);
	else if (n)
		memset(out, 0, n);
}

void nb_cur_skip(struct nb_cur *c, size_t n)
{
	if (n)
		take(c, n);
}

void nb_wipe(void *p, size_t n)
{
	if (n == 0)
		return;
	memset(p, 0, n);
	/* The compiler must assume that the asm reads the zeroed memory. */
	__asm__ __volatile__("" : : "r"(p) : "memory");
}

bool nb_equal_ct(const void *a, const void *b, size_t n)
{
	const volatile uint8_t *x = a, *y = b;
	uint8_t diff = 0;

	for (size_t i = 0; i < n; i++)
		diff |= x[i] ^ y[i];
	return diff == 0;
}

static const char std_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int b64_encode(char *out, size_t cap, struct nb_bytes in, const char *digits, bool pad)
{
	size_t full = in.n / 3, rest = in.n % 3;
	size_t len = pad ? NB_BASE64_LEN(in.n) : full * 4 + (rest ? rest + 1 : 0);
	const uint8_t *p = in.p;

	if (cap < len + 1)
		return NB_E_FULL;
	for (size_t i = 0; i < full; i++, p += 3) {
		*out++ = digits[p[0] >> 2];
		*out++ = digits[(p[0] & 3) << 4 | p[1] >> 4];
		*out++ = digits[(p[1] & 15) << 2 | p[2] >> 6];
		*out++ = digits[p[2] & 63];
	}
	if (rest) {
		uint8_t second = rest == 2 ? p[1] : 0;

		*out++ = digits[p[0] >> 2];
		*out++ = digits[(p[0] & 3) << 4 | second >> 4];
		if (rest == 2)
			*out++ = digits[(second & 15) << 2];
		else if (pad)
			*out++ = '=';
		if (pad)
			*out++ = '=';
	}
	*out = 0;
	return 0;
}

int nb_base64_encode(char *out, size_t cap, struct nb_bytes in)
{
	return b64_encode(out, cap, in, std_digits, true);
}

int nb_base64url_encode(char *out, size_t cap, struct nb_bytes in)
{
	return b64_encode(out, cap, in, url_digits, false);
}

static int digit_value(uint8_t c, const char *digits)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == (uint8_t)digits[62])
		return 62;
	if (c == (uint8_t)digits[63])
		return 63;
	return -1;
}

static int b64_decode(uint8_t *out, size_t cap, size_t *n, struct nb_bytes in, const char *digits)
{
	uint32_t acc = 0;
	unsigned bits = 0;
	size_t made = 0;

	if (in.n % 4 == 1)
		return NB_E_BAD;
	for (size_t i = 0; i < in.n; i++) {
		int v = digit_value(in.p[i], digits);

		if (v < 0)
			return NB_E_BAD;
		acc = acc << 6 | (uint32_t)v;
		bits += 6;
		if (bits < 8)
			continue;
		bits -= 8;
		if (made == cap)
			return NB_E_FULL;
		out[made++] = (uint8_t)(acc >> bits);
	}
	if (acc & ((1u << bits) - 1))
		return NB_E_BAD;
	*n = made;
	return 0;
}

int nb_base64_decode(void *out, size_t cap, size_t *n, struct nb_bytes in)
{
	if (in.n % 4)
		return NB_E_BAD;
	if (in.n && in.p[in.n - 1] == '=')
		in.n--;
	if (in.n && in.n % 4 == 3 && in.p[in.n - 1] == '=')
		in.n--;
	return b64_decode(out, cap, n, in, std_digits);
}

int nb_base64url_decode(void *out, size_t cap, size_t *n, struct nb_bytes in)
{
	return b64_decode(out, cap, n, in, url_digits);
}

void nb_hex_encode(char *out, struct nb_bytes in)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < in.n; i++) {
		*out++ = digits[in.p[i] >> 4];
		*out++ = digits[in.p[i] & 15];
	}
	*out = 0;
}

static int hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int nb_hex_decode(void *out, size_t n, struct nb_bytes in)
{
	uint8_t *o = out;

	if (in.n != 2 * n)
		return NB_E_BAD;
	for (size_t i = 0; i < n; i++) {
		int hi = hex_value(in.p[2 * i]), lo = hex_value(in.p[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return NB_E_BAD;
		o[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}
