/* wg_offload_test.c - cutting and joining: each undoes the other, sums are right, what must stay apart does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/err.h"
#include "wg/offload_int.h"

#include <stdlib.h>

static uint8_t super[WG_SUPER_MAX + 100], copy[WG_SUPER_MAX + 100], joined[WG_SUPER_MAX + 100];
static uint8_t segment[WG_JOIN_MAX][9000];
static size_t length[WG_JOIN_MAX];
static struct wg_join join;
static struct nb_bytes parts[WG_JOIN_PARTS];
static uint64_t seed;

static uint32_t rnd(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33);
}

/* RFC 1071 by the letter. */
static uint16_t slow_sum(const uint8_t *p, size_t n, uint32_t sum)
{
	for (size_t i = 0; i < n; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static uint16_t slow_l4(const uint8_t *p, size_t n, size_t l4, bool six, uint8_t protocol)
{
	uint32_t pseudo = slow_sum(six ? p + 8 : p + 12, six ? 32 : 8, protocol + (uint32_t)(n - l4));

	return slow_sum(p + l4, n - l4, pseudo);
}

struct spec {
	bool six, tcp;
	size_t options;		/* TCP, bytes */
	size_t payload, size;
	uint8_t flags;
};

/* A super-packet as the kernel hands it over, and its header. Returns its length. */
static size_t make(const struct spec *s, uint8_t *vnet)
{
	size_t l4 = s->six ? 40 : 20, hdr = l4 + (s->tcp ? 20 + s->options : 8), n = hdr + s->payload;
	uint16_t f[4] = { (uint16_t)hdr, (uint16_t)s->size, (uint16_t)l4, s->tcp ? CSUM_TCP : CSUM_UDP };
	uint8_t *p = super;

	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)rnd();
	if (s->six) {
		p[0] = 0x60 | (p[0] & 15);
		nb_put_be16(p + 4, (uint16_t)(n - 40));
		p[6] = s->tcp ? IP_TCP : IP_UDP;
	} else {
		p[0] = 0x45;
		nb_put_be16(p + 2, (uint16_t)n);
		nb_put_be16(p + 6, 0x4000);
		p[9] = s->tcp ? IP_TCP : IP_UDP;
		wg_sum_ip4(p, 20);
	}
	if (s->tcp) {
		p[l4 + 12] = (uint8_t)((5 + s->options / 4) << 4);
		p[l4 + 13] = s->flags;
	} else {
		nb_put_be16(p + l4 + 4, (uint16_t)(n - l4));
	}
	wg_sum_store(p + l4 + f[3], wg_sum_fold(wg_sum_pseudo(p, s->six, s->tcp ? IP_TCP : IP_UDP, n - l4)));
	memset(vnet, 0, WG_VNET);
	vnet[0] = VNET_NEEDS_CSUM;
	vnet[1] = !s->tcp ? VNET_UDP_L4 : s->six ? VNET_TCP6 : VNET_TCP4;
	memcpy(vnet + 2, f, sizeof f);
	return n;
}

/* Cut what is in super into segment[]; returns how many. */
static size_t cut(const uint8_t *vnet, size_t n)
{
	struct wg_split c;
	size_t count = 0;

	assert_int_equal(wg_split_begin(&c, vnet, super, n), 1);
	assert_true(wg_split_longest(&c) <= sizeof segment[0]);
	while (count < WG_JOIN_MAX && (length[count] = wg_split_next(&c, segment[count])) != 0)
		count++;
	return count;
}

static size_t gather(size_t group, uint8_t *vnet)
{
	size_t n = 0, count = wg_join_group(&join, group, vnet, parts);

	for (size_t i = 0; i < count; i++) {
		memcpy(joined + n, parts[i].p, parts[i].n);
		n += parts[i].n;
	}
	return n;
}

static void check_segment(const struct spec *s, size_t i, size_t count)
{
	const uint8_t *p = segment[i];
	size_t n = length[i], l4 = s->six ? 40 : 20, hdr = l4 + (s->tcp ? 20 + s->options : 8);
	uint8_t flags = s->flags;

	assert_int_equal(slow_l4(p, n, l4, s->six, s->tcp ? IP_TCP : IP_UDP), 0xffff);
	assert_int_equal(n - hdr, i + 1 < count ? s->size : s->payload - s->size * (count - 1));
	assert_memory_equal(p + hdr, copy + hdr + i * s->size, n - hdr);
	if (s->six) {
		assert_int_equal(nb_get_be16(p + 4), n - 40);
	} else {
		assert_int_equal(nb_get_be16(p + 2), n);
		assert_int_equal(nb_get_be16(p + 4), (uint16_t)(nb_get_be16(copy + 4) + i));
		assert_int_equal(slow_sum(p, 20, 0), 0xffff);
	}
	if (!s->tcp) {
		assert_int_equal(nb_get_be16(p + l4 + 4), n - l4);
		return;
	}
	assert_int_equal(nb_get_be32(p + l4 + 4), (uint32_t)(nb_get_be32(copy + l4 + 4) + i * s->size));
	if (i + 1 < count)
		flags &= (uint8_t)~(TCP_FIN | TCP_PSH);
	if (i)
		flags &= (uint8_t)~TCP_CWR;
	assert_int_equal(p[l4 + 13], flags);
}

static void cut_then_join(const struct spec *s)
{
	uint8_t vnet[WG_VNET], back[WG_VNET];
	size_t n = make(s, vnet), count;

	memcpy(copy, super, n);
	count = cut(vnet, n);
	assert_int_equal(count, (s->payload + s->size - 1) / s->size);
	for (size_t i = 0; i < count; i++)
		check_segment(s, i, count);
	if (s->tcp && s->flags & ~(TCP_ACK | TCP_PSH))
		return;
	wg_join_init(&join, true, true);
	for (size_t i = 0; i < count; i++)
		assert_true(wg_join_add(&join, segment[i], length[i]));
	assert_int_equal(join.ngroups, 1);
	assert_int_equal(wg_join_count(&join, 0), count);
	assert_int_equal(gather(0, back), n);
	if (count > 1) {
		assert_memory_equal(joined, copy, n);
		assert_memory_equal(back, vnet, WG_VNET);
	} else {
		assert_int_equal(back[0] | back[1], 0);
	}
}

static void identity(void **state)
{
	(void)state;
	for (seed = 1; seed < 400; seed++) {
		uint64_t keep = seed;
		bool tcp = rnd() & 1;
		struct spec s = { .six = rnd() & 1, .tcp = tcp, .options = tcp ? rnd() % 11 * 4 : 0,
				  .size = 400 + rnd() % 1000, .flags = TCP_ACK };

		s.payload = 1 + rnd() % (tcp ? 65000 - 100 : s.size * UINT32_C(64));
		if (s.payload > 65000)
			s.payload = 65000;
		if (rnd() & 1)
			s.flags |= TCP_PSH;
		if (rnd() % 4 == 0)
			s.flags |= TCP_FIN | TCP_CWR;
		cut_then_join(&s);
		seed = keep;
	}
}

static void plain_sums(void **state)
{
	struct spec s = { .tcp = false, .payload = 1001, .size = 1001 };
	struct wg_split c;
	uint8_t vnet[WG_VNET];

	(void)state;
	for (seed = 1; seed < 50; seed++) {
		uint64_t keep = seed;
		size_t n;

		s.six = seed & 1;
		s.tcp = seed & 2;
		n = make(&s, vnet);
		vnet[1] = VNET_NONE;
		assert_int_equal(wg_split_begin(&c, vnet, super, n), 0);
		assert_int_equal(slow_l4(super, n, s.six ? 40 : 20, s.six, s.tcp ? IP_TCP : IP_UDP), 0xffff);
		vnet[0] = 0;
		memcpy(copy, super, n);
		assert_int_equal(wg_split_begin(&c, vnet, super, n), 0);
		assert_memory_equal(copy, super, n);
		seed = keep;
	}
}

/* A UDP sum that comes out as zero is written as all ones. */
static void zero_sum(void **state)
{
	struct spec s = { .payload = 10, .size = 10 };
	struct wg_split c;
	uint8_t vnet[WG_VNET];
	size_t n;

	(void)state;
	seed = 5;
	n = make(&s, vnet);
	vnet[1] = VNET_NONE;
	nb_put_be16(super + 28, 0);
	nb_put_be16(super + 28, (uint16_t)~slow_sum(super + 20, n - 20, 0));
	assert_int_equal(wg_split_begin(&c, vnet, super, n), 0);
	assert_int_equal(nb_get_be16(super + 26), 0xffff);
}

/* Two segments with one thing changed between them stay apart. */
static void stays_apart(void **state)
{
	static const struct {
		bool six, tcp;
		size_t at;
		uint8_t xor;
	} rows[] = {
		{ false, true, 1, 4 },		/* type of service */
		{ false, true, 1, 1 },		/* congestion bits */
		{ false, true, 6, 0x40 },	/* may be fragmented */
		{ false, true, 6, 0x20 },	/* more fragments */
		{ false, true, 8, 1 },		/* time to live */
		{ false, true, 12, 1 },		/* addresses */
		{ false, true, 19, 1 },
		{ false, true, 21, 1 },		/* ports */
		{ false, true, 23, 1 },
		{ false, true, 27, 1 },		/* sequence */
		{ false, true, 31, 1 },		/* acknowledgement */
		{ false, true, 33, TCP_FIN },
		{ false, true, 33, 0x40 },	/* congestion echo */
		{ false, true, 35, 1 },		/* window */
		{ false, true, 39, 1 },		/* urgent pointer */
		{ false, true, 43, 1 },		/* an option */
		{ true, true, 1, 0x10 },	/* traffic class */
		{ true, true, 3, 1 },		/* flow label */
		{ true, true, 7, 1 },		/* hop limit */
		{ true, false, 39, 1 },
		{ false, false, 21, 1 },
	};
	uint8_t vnet[WG_VNET];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct spec s = { .six = rows[i].six, .tcp = rows[i].tcp, .options = rows[i].tcp ? 12 : 0, .payload = 2000,
				  .size = 1000, .flags = TCP_ACK };
		size_t l4 = s.six ? 40 : 20, field = l4 + (s.tcp ? CSUM_TCP : CSUM_UDP);

		seed = i + 1;
		assert_int_equal(cut(vnet, make(&s, vnet)), 2);
		segment[1][rows[i].at] ^= rows[i].xor;
		/* all sums are right, so that only the change itself keeps them apart */
		if (!s.six)
			wg_sum_ip4(segment[1], 20);
		nb_put_be16(segment[1] + field, 0);
		nb_put_be16(segment[1] + field,
			    (uint16_t)~slow_l4(segment[1], length[1], l4, s.six, s.tcp ? IP_TCP : IP_UDP));
		wg_join_init(&join, true, true);
		assert_true(wg_join_add(&join, segment[0], length[0]));
		assert_true(wg_join_add(&join, segment[1], length[1]));
		if (join.ngroups != 2)
			fail_msg("row %zu was joined", i);
	}
}

/* Damage in one segment, wherever it is, is neither joined nor repaired. */
static void damage_is_not_signed(void **state)
{
	struct spec s = { .tcp = true, .payload = 3000, .size = 1000, .flags = TCP_ACK };
	uint8_t vnet[WG_VNET];

	(void)state;
	for (size_t hurt = 0; hurt < 3; hurt++) {
		seed = 9;
		assert_int_equal(cut(vnet, make(&s, vnet)), 3);
		segment[hurt][700] ^= 1;
		wg_join_init(&join, true, true);
		for (size_t i = 0; i < 3; i++)
			assert_true(wg_join_add(&join, segment[i], length[i]));
		assert_true(join.ngroups >= 2);
		for (size_t g = 0; g < join.ngroups; g++) {
			size_t n = gather(g, vnet);

			if (memcmp(joined, segment[hurt], 40) == 0) {
				assert_int_equal(vnet[0], 0);
				assert_int_equal(n, length[hurt]);
				assert_int_not_equal(slow_l4(joined, n, 20, false, IP_TCP), 0xffff);
			}
		}
	}
}

/* Two flows in turns become two groups; within each the order stays; an unjoinable packet parts its flow. */
static void flows_and_order(void **state)
{
	struct spec s = { .tcp = true, .payload = 8000, .size = 1000, .flags = TCP_ACK };
	uint8_t vnet[WG_VNET], other[8][1100], pure[40];

	(void)state;
	seed = 3;
	assert_int_equal(cut(vnet, make(&s, vnet)), 8);
	for (size_t i = 0; i < 8; i++)
		memcpy(other[i], segment[i], length[i]);
	memcpy(pure, segment[4], 40);
	seed = 4;
	assert_int_equal(cut(vnet, make(&s, vnet)), 8);
	nb_put_be16(pure + 2, 40);
	wg_join_init(&join, true, true);
	for (size_t i = 0; i < 8; i++) {
		if (i == 4)
			assert_true(wg_join_add(&join, pure, 40));
		assert_true(wg_join_add(&join, segment[i], length[i]));
		assert_true(wg_join_add(&join, other[i], length[i]));
	}
	assert_int_equal(join.ngroups, 4);
	assert_int_equal(wg_join_count(&join, 0), 8);
	assert_int_equal(wg_join_count(&join, 1), 4);
	assert_int_equal(wg_join_count(&join, 2), 1);
	assert_int_equal(wg_join_count(&join, 3), 4);
}

static void limits(void **state)
{
	struct spec s = { .payload = 64, .size = 1 };
	uint8_t vnet[WG_VNET];
	size_t n;

	(void)state;
	/* no more than 64 of UDP together */
	seed = 1;
	assert_int_equal(cut(vnet, make(&s, vnet)), 64);
	memcpy(segment[64], segment[63], length[63]);
	length[64] = length[63];
	wg_join_init(&join, true, true);
	for (size_t i = 0; i < 65; i++)
		assert_true(wg_join_add(&join, segment[i], length[i]));
	assert_int_equal(join.ngroups, 2);
	assert_int_equal(wg_join_count(&join, 0), 64);
	/* nor beyond 65535 bytes */
	s = (struct spec){ .tcp = true, .payload = 64000, .size = 8000, .flags = TCP_ACK };
	assert_int_equal(cut(vnet, make(&s, vnet)), 8);
	memcpy(segment[8], segment[7], length[7]);
	nb_put_be32(segment[8] + 24, nb_get_be32(segment[8] + 24) + 8000);
	nb_put_be16(segment[8] + 36, 0);
	nb_put_be16(segment[8] + 36, (uint16_t)~slow_l4(segment[8], length[7], 20, false, IP_TCP));
	wg_join_init(&join, true, true);
	for (size_t i = 0; i < 9; i++)
		assert_true(wg_join_add(&join, segment[i], length[7]));
	assert_int_equal(join.ngroups, 2);
	/* what the device cannot take stays single */
	wg_join_init(&join, false, true);
	for (size_t i = 0; i < 8; i++)
		assert_true(wg_join_add(&join, segment[i], length[7]));
	assert_int_equal(join.ngroups, 8);
	/* full */
	wg_join_init(&join, true, true);
	for (n = 0; wg_join_add(&join, segment[0], length[0]); n++)
		assert_true(n < WG_JOIN_MAX);
	assert_int_equal(n, WG_JOIN_MAX);
}

static void malformed_supers(void **state)
{
	struct spec s = { .tcp = true, .payload = 3000, .size = 1000, .flags = TCP_ACK };
	struct wg_split c;
	uint8_t good[WG_VNET], vnet[WG_VNET];
	size_t n;

	(void)state;
	seed = 1;
	n = make(&s, good);
#define BAD(change) do { memcpy(vnet, good, sizeof vnet); change; \
	assert_int_equal(wg_split_begin(&c, vnet, super, n), NB_E_BAD); } while (0)
	BAD(vnet[0] = 0);
	BAD(vnet[1] = VNET_UDP);
	BAD(vnet[1] = VNET_TCP6);
	BAD(vnet[1] = VNET_UDP_L4);
	BAD(vnet[1] = 77);
	BAD(memset(vnet + 4, 0, 2));
	BAD(memset(vnet + 6, 0xff, 2));
	BAD(memset(vnet + 6, 0, 2));
	BAD(memset(vnet + 8, 0, 2));
	BAD((vnet[1] = VNET_NONE, memset(vnet + 6, 0xff, 2)));
#undef BAD
	super[32] = 0x40;
	assert_int_equal(wg_split_begin(&c, good, super, n), NB_E_BAD);
	super[32] = 0xf0;
	assert_int_equal(wg_split_begin(&c, good, super, 70), NB_E_BAD);
	assert_int_equal(wg_split_begin(&c, good, super, 0), NB_E_BAD);
}

static void too_big(void **state)
{
	struct spec s = { .payload = 2000, .size = 2000 };
	uint8_t vnet[WG_VNET], out[WG_TOO_BIG_MAX];
	size_t n, len;

	(void)state;
	seed = 2;
	n = make(&s, vnet);
	super[12] = super[16] = 10;
	len = wg_too_big(out, super, n, 1280);
	assert_int_equal(len, 576);
	assert_int_equal(nb_get_be16(out + 2), len);
	assert_int_equal(slow_sum(out, 20, 0), 0xffff);
	assert_int_equal(slow_sum(out + 20, len - 20, 0), 0xffff);
	assert_int_equal(out[20] << 8 | out[21], 0x304);
	assert_int_equal(nb_get_be16(out + 26), 1280);
	assert_memory_equal(out + 12, super + 16, 4);
	assert_memory_equal(out + 16, super + 12, 4);
	assert_memory_equal(out + 28, super, len - 28);
	super[6] = 0x20;
	super[7] = 9;
	assert_int_equal(wg_too_big(out, super, n, 1280), 0);
	super[6] = super[7] = 0;
	super[16] = 239;
	assert_int_equal(wg_too_big(out, super, n, 1280), 0);
	super[16] = 10;
	super[9] = IP_ICMP;
	super[20] = 3;
	assert_int_equal(wg_too_big(out, super, n, 1280), 0);
	super[20] = 8;
	assert_int_equal(wg_too_big(out, super, n, 1280), 576);

	s.six = true;
	n = make(&s, vnet);
	super[8] = super[24] = 0xfd;
	len = wg_too_big(out, super, n, 1280);
	assert_int_equal(len, 1280);
	assert_int_equal(nb_get_be16(out + 4), len - 40);
	assert_int_equal(slow_l4(out, len, 40, true, IP_ICMP6), 0xffff);
	assert_int_equal(out[40], 2);
	assert_int_equal(nb_get_be32(out + 44), 1280);
	assert_memory_equal(out + 8, super + 24, 16);
	assert_memory_equal(out + 48, super, len - 48);
	super[24] = 0xff;
	assert_int_equal(wg_too_big(out, super, n, 1280), 0);
	assert_int_equal(wg_too_big(out, super, 19, 1280), 0);
}

/* Every length around the vectors' steps, some alignments, full carries; and a copy touches nothing else. */
static void sums_of_every_length(void **state)
{
	(void)state;
	for (size_t n = 0; n <= 700; n++) {
		size_t from = n % 7, to = n % 11;
		uint16_t want, got[2];

		for (size_t i = 0; i < n; i++)
			super[from + i] = n % 3 ? (uint8_t)rnd() : 0xff;
		want = slow_sum(super + from, n, 0);
		memset(copy, 0xaa, n + 64);
		got[0] = wg_sum_fold(wg_sum(0, super + from, n));
		got[1] = wg_sum_fold(wg_sum_copy(copy + to, super + from, n));
		for (int i = 0; i < 2; i++)
			assert_int_equal(nb_get_be16(&got[i]), want);
		assert_memory_equal(copy + to, super + from, n);
		for (size_t i = 0; i < n + 64; i++)
			assert_true((i >= to && i < to + n) || copy[i] == 0xaa);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_of_every_length), cmocka_unit_test(identity),
		cmocka_unit_test(plain_sums), cmocka_unit_test(zero_sum),
		cmocka_unit_test(stays_apart), cmocka_unit_test(damage_is_not_signed), cmocka_unit_test(flows_and_order),
		cmocka_unit_test(limits), cmocka_unit_test(malformed_supers), cmocka_unit_test(too_big),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
