/* sum.c - the Internet checksum (RFC 1071), which every inner segment needs: added up in words of eight bytes, or
 * with AVX2 where the processor has it, and on the way of a copy where one is made anyway.
 * Tests: tests/unit/wg_offload_test.c */
#include "wg/offload_int.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define WIDE_MIN 128		/* bytes from which the vectors pay */

static inline uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

#if defined(__x86_64__)

#define TARGET __attribute__((target("avx2")))

/* The first n bytes, a multiple of 64; copied to out unless that is NULL. Words of 32 bits are added up in lanes of 64:
 * 2^32 is 1 modulo 2^16 - 1, so their place does not matter. */
TARGET static inline __attribute__((always_inline)) uint64_t wide(uint8_t *out, const uint8_t *p, size_t n)
{
	const __m256i low = _mm256_set1_epi64x(0xffffffff);
	__m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
	uint64_t lanes[4];

	for (size_t i = 0; i < n; i += 64) {
		__m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(p + i));
		__m256i w = _mm256_loadu_si256((const __m256i *)(const void *)(p + i + 32));

		if (out) {
			_mm256_storeu_si256((__m256i *)(void *)(out + i), v);
			_mm256_storeu_si256((__m256i *)(void *)(out + i + 32), w);
		}
		a = _mm256_add_epi64(a, _mm256_and_si256(v, low));
		b = _mm256_add_epi64(b, _mm256_srli_epi64(v, 32));
		c = _mm256_add_epi64(c, _mm256_and_si256(w, low));
		d = _mm256_add_epi64(d, _mm256_srli_epi64(w, 32));
	}
	a = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d));
	_mm256_storeu_si256((__m256i *)(void *)lanes, a);
	return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

TARGET static uint64_t wide_sum(const uint8_t *p, size_t n)
{
	return wide(NULL, p, n);
}

TARGET static uint64_t wide_copy(uint8_t *out, const uint8_t *p, size_t n)
{
	return wide(out, p, n);
}

static bool has_wide(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx2");
}

#else

static bool has_wide(void)
{
	return false;
}

static uint64_t wide_sum(const uint8_t *p, size_t n)
{
	(void)p;
	(void)n;
	return 0;
}

static uint64_t wide_copy(uint8_t *out, const uint8_t *p, size_t n)
{
	(void)out;
	return wide_sum(p, n);
}

#endif

/* How much of n bytes the vectors take. */
static size_t wide_part(size_t n)
{
	static _Atomic signed char known;	/* 1: there, -1: not there */

	if (n < WIDE_MIN)
		return 0;
	if (!known)
		known = has_wide() ? 1 : -1;
	return known > 0 ? n & ~(size_t)63 : 0;
}

static uint64_t narrow_sum(uint64_t sum, const uint8_t *p, size_t n)
{
	uint64_t a = sum, b = 0, c = 0, d = 0;
	uint32_t four;
	uint16_t two;
	uint8_t rest[2] = { 0 };

	/* Four chains, so that the carries of one do not hold up the others. */
	for (; n >= 32; p += 32, n -= 32) {
		a = wg_sum_add(a, load64(p));
		b = wg_sum_add(b, load64(p + 8));
		c = wg_sum_add(c, load64(p + 16));
		d = wg_sum_add(d, load64(p + 24));
	}
	a = wg_sum_add(wg_sum_add(a, b), wg_sum_add(c, d));
	for (; n >= 8; p += 8, n -= 8)
		a = wg_sum_add(a, load64(p));
	if (n & 4) {
		memcpy(&four, p, sizeof four);
		a = wg_sum_add(a, four);
		p += 4;
	}
	if (n & 2) {
		memcpy(&two, p, sizeof two);
		a = wg_sum_add(a, two);
		p += 2;
	}
	if (n & 1)
		rest[0] = *p;
	memcpy(&two, rest, sizeof two);
	return wg_sum_add(a, two);
}

uint64_t wg_sum(uint64_t sum, const uint8_t *p, size_t n)
{
	size_t part = wide_part(n);

	if (part)
		sum = wg_sum_add(sum, wide_sum(p, part));
	return narrow_sum(sum, p + part, n - part);
}

uint64_t wg_sum_copy(uint8_t *out, const uint8_t *p, size_t n)
{
	size_t part = wide_part(n);
	uint64_t sum = part ? wide_copy(out, p, part) : 0;

	memcpy(out + part, p + part, n - part);
	return narrow_sum(sum, p + part, n - part);
}

uint16_t wg_sum_fold(uint64_t sum)
{
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t)((sum >> 16) + sum);
}

void wg_sum_store(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, sizeof v);
}

uint64_t wg_sum_pseudo(const uint8_t *ip, bool six, uint8_t protocol, size_t len)
{
	uint8_t tail[8] = { 0 };
	uint64_t sum;

	nb_put_be32(tail, (uint32_t)len);
	tail[7] = protocol;
	sum = load64(tail);
	for (size_t i = six ? 8 : 12, end = six ? 40 : 20; i < end; i += 8)
		sum = wg_sum_add(sum, load64(ip + i));
	return sum;
}

void wg_sum_ip4(uint8_t *ip, size_t len)
{
	nb_put_be16(ip + 10, 0);
	wg_sum_store(ip + 10, (uint16_t)~wg_sum_fold(wg_sum(0, ip, len)));
}
