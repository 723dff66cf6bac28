/* demux.c - which agent a STUN datagram on the shared socket belongs to.
 * Tests: tests/unit/ice_demux_test.c */
#include "ice/ice.h"

#include "base/err.h"
#include "ice/ice_int.h"
#include "ice/stun.h"

void ice_demux_init(struct ice_demux *d, const uint8_t seed[16], size_t max)
{
	nb_map_init(&d->by_ufrag, seed, max);
	nb_map_init(&d->by_tag, seed, max);
}

void ice_demux_fini(struct ice_demux *d)
{
	nb_map_fini(&d->by_ufrag);
	nb_map_fini(&d->by_tag);
}

static struct nb_bytes tag_of(const struct ice_agent *a)
{
	return nb_bytes(a->tag, ICE_TAG_LEN);
}

int ice_demux_add(struct ice_demux *d, struct ice_agent *a)
{
	int err;

	while (nb_map_get(&d->by_tag, tag_of(a)))
		a->cfg.random(a->cfg.random_ctx, a->tag, ICE_TAG_LEN);
	err = nb_map_put(&d->by_tag, tag_of(a), a, NULL);
	if (err)
		return err;
	err = nb_map_put(&d->by_ufrag, nb_bytes_str(a->local_ufrag), a, NULL);
	if (err)
		nb_map_del(&d->by_tag, tag_of(a));
	return err;
}

void ice_demux_del(struct ice_demux *d, struct ice_agent *a)
{
	if (nb_map_get(&d->by_tag, tag_of(a)) == a)
		nb_map_del(&d->by_tag, tag_of(a));
	if (nb_map_get(&d->by_ufrag, nb_bytes_str(a->local_ufrag)) == a)
		nb_map_del(&d->by_ufrag, nb_bytes_str(a->local_ufrag));
}

/* The part of USERNAME before the colon; empty when there is none. */
static struct nb_bytes receiver_ufrag(struct nb_bytes dgram)
{
	struct nb_cur c = nb_cur(dgram);

	nb_cur_skip(&c, STUN_HEADER_LEN);
	while (nb_cur_left(&c) >= 4) {
		uint16_t type = nb_cur_be16(&c), len = nb_cur_be16(&c);
		struct nb_bytes v = nb_cur_take(&c, len);
		const uint8_t *colon;

		if (c.err)
			break;
		if (type == STUN_A_USERNAME) {
			colon = v.n ? memchr(v.p, ':', v.n) : NULL;
			return colon ? nb_bytes(v.p, (size_t)(colon - v.p)) : nb_bytes(NULL, 0);
		}
		nb_cur_skip(&c, (4u - len % 4) % 4);
	}
	return nb_bytes(NULL, 0);
}

struct ice_agent *ice_demux_find(const struct ice_demux *d, struct nb_bytes dgram)
{
	struct nb_bytes ufrag;

	if (dgram.n < STUN_HEADER_LEN)
		return NULL;
	if (dgram.p[0] & 1)	/* success or error */
		return nb_map_get(&d->by_tag, nb_bytes(dgram.p + 8, ICE_TAG_LEN));
	ufrag = receiver_ufrag(dgram);
	return ufrag.n ? nb_map_get(&d->by_ufrag, ufrag) : NULL;
}

bool ice_is_stun(struct nb_bytes in)
{
	if (in.n < STUN_HEADER_LEN)
		return false;
	if (in.n >= 32 && nb_get_le32(in.p) >= 1 && nb_get_le32(in.p) <= 4)
		return false;
	return nb_get_be32(in.p + 4) == STUN_MAGIC;
}
