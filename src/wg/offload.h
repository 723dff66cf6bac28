/* offload.h - what a network card would do for the kernel, on inner packets: cut super-packets that come from a
 * TUN device with virtio headers into segments, and join segments of one flow into super-packets for it. Also the
 * ICMP answer to a packet that is too long. Pure functions over the caller's buffers; the device is os/tun.h's.
 * Source: virtio 1.2, 5.1.6 (header); RFC 791, 8200, 9293, 768 (headers), 1071 (sums), 1191, 4443, 8201 (too big).
 * Tests: tests/unit/wg_offload_test.c, tests/fuzz/offload_fuzz.c. */
#ifndef NB_WG_OFFLOAD_H
#define NB_WG_OFFLOAD_H

#include "base/bytes.h"

/* The header in front of each packet: flags, type, then header length, segment size, start and offset of the
 * checksum, 16 bits each in the machine's byte order. */
#define WG_VNET 10
#define WG_SUPER_MAX 65535	/* longest super-packet; a longer one the kernel would mangle */

/* --- cutting --- */

struct wg_split {
	const uint8_t *p;	/* the super-packet */
	size_t n;
	size_t l4, hdr;		/* where the transport header and the payload begin */
	size_t size;		/* payload of a segment */
	size_t at;		/* payload bytes cut so far */
	unsigned i;
	bool tcp, six;
};

/* Look at a packet from the device. A plain one gets its checksum where the kernel left that to us, and is ready
 * (returns 0). A super-packet is to be cut by wg_split_next (returns 1). NB_E_BAD: the header makes no sense. */
int wg_split_begin(struct wg_split *s, const uint8_t vnet[WG_VNET], uint8_t *p, size_t n);
/* The length of the longest segment to come. */
size_t wg_split_longest(const struct wg_split *s);
/* Write the next segment, with all its sums, to out, which has room for the longest. Returns its length, 0 at the end. */
size_t wg_split_next(struct wg_split *s, uint8_t *out);

/* --- joining --- */

#define WG_JOIN_MAX 256		/* packets */
#define WG_JOIN_PARTS (WG_JOIN_MAX + 1)

struct wg_join_group {
	uint16_t first, last, count;	/* packets, linked by next */
	uint16_t l4, hdr;
	uint16_t next_group;		/* of the same bucket, newer to older */
	uint32_t total;			/* bytes of the super-packet */
	uint32_t seq;			/* the sequence number that would fit */
	uint16_t size;			/* payload of each but the last */
	bool open, tcp, six, checked;
};

/* Packets on their way to the device, in the order of their arrival; groups of them will be one write each. */
struct wg_join {
	bool tcp, udp;			/* what the device can take together */
	size_t n, ngroups;
	struct {
		uint8_t *p;
		uint32_t n;
		uint16_t next;
	} pkt[WG_JOIN_MAX];
	struct wg_join_group group[WG_JOIN_MAX];
	uint16_t bucket[64];
};

void wg_join_init(struct wg_join *j, bool tcp, bool udp);
/* Add an inner packet (whole and no longer than its header says: as wg_input gives it). p stays the caller's and
 * must live until the group is written. False when full: write the groups and reset first. Packets of a flow keep
 * their order. Joined are only segments whose sums are right, so that none of the damage of others is signed. */
bool wg_join_add(struct wg_join *j, uint8_t *p, size_t n);
/* Group i (0 .. ngroups-1) as one write: fills the header and parts[WG_JOIN_PARTS], and returns the number of
 * parts, the header not counted. Lengths and sums in the first packet are changed: call it once per group. */
size_t wg_join_group(struct wg_join *j, size_t i, uint8_t vnet[WG_VNET], struct nb_bytes *parts);
/* How many packets group i has. */
size_t wg_join_count(const struct wg_join *j, size_t i);
void wg_join_reset(struct wg_join *j);

/* --- too long --- */

#define WG_TOO_BIG_MAX 1280
/* The answer to an inner packet that cannot go on because of its length: ICMP "fragmentation needed" or ICMPv6
 * "packet too big" that names mtu, from the packet's destination to its source. Returns its length, or 0 where no
 * answer may be given (ICMP errors, later fragments, multicast, malformed). */
size_t wg_too_big(uint8_t out[WG_TOO_BIG_MAX], const uint8_t *p, size_t n, size_t mtu);

#endif
