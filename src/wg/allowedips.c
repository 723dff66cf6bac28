/* allowedips.c - which peer may use which inner address: two bit tries with skipped levels.
 * Pure memory: no clock, no sockets; a node is taken from the heap per prefix, never per packet.
 * WireGuard paper, section 2. Tests: tests/unit/wg_allowedips_test.c */
#include "wg/wg_int.h"

#include <stdlib.h>

static void load4(uint64_t bits[2], const uint8_t ip[4])
{
	bits[0] = (uint64_t)nb_get_be32(ip) << 32;
	bits[1] = 0;
}

static void load6(uint64_t bits[2], const uint8_t ip[16])
{
	bits[0] = nb_get_be64(ip);
	bits[1] = nb_get_be64(ip + 8);
}

static unsigned bit_at(const uint64_t bits[2], unsigned at)
{
	return bits[at / 64] >> (63 - at % 64) & 1;
}

static unsigned common_bits(const uint64_t a[2], const uint64_t b[2])
{
	if (a[0] != b[0])
		return (unsigned)__builtin_clzll(a[0] ^ b[0]);
	if (a[1] != b[1])
		return 64 + (unsigned)__builtin_clzll(a[1] ^ b[1]);
	return 128;
}

static struct wg_peer *find(const struct wg_trie_node *n, const uint64_t bits[2], unsigned max)
{
	struct wg_peer *best = NULL;

	while (n && common_bits(n->bits, bits) >= n->len) {
		if (n->peer)
			best = n->peer;
		if (n->len == max)
			break;
		n = n->child[bit_at(bits, n->len)];
	}
	return best;
}

struct wg_peer *wg_trie_find4(const struct wg_trie *t, const uint8_t ip[4])
{
	uint64_t bits[2];

	load4(bits, ip);
	return find(t->root4, bits, 32);
}

struct wg_peer *wg_trie_find6(const struct wg_trie *t, const uint8_t ip[16])
{
	uint64_t bits[2];

	load6(bits, ip);
	return find(t->root6, bits, 128);
}

/* The pointer that holds n. */
static struct wg_trie_node **holder(struct wg_trie *t, struct wg_trie_node *n)
{
	if (n->parent)
		return &n->parent->child[n->parent->child[1] == n];
	return n->family == 4 ? &t->root4 : &t->root6;
}

static void adopt(struct wg_trie_node *parent, struct wg_trie_node *child)
{
	parent->child[bit_at(child->bits, parent->len)] = child;
	child->parent = parent;
}

static struct wg_trie_node *node_new(uint8_t family, const uint64_t bits[2], unsigned len)
{
	struct wg_trie_node *n = calloc(1, sizeof *n);

	if (!n)
		return NULL;
	n->family = family;
	n->len = (uint8_t)len;
	/* Keep the first len bits. */
	n->bits[0] = len >= 64 ? bits[0] : len ? bits[0] & ~0ULL << (64 - len) : 0;
	n->bits[1] = len > 64 ? bits[1] & ~0ULL << (128 - len) : 0;
	nb_list_init(&n->of_peer);
	return n;
}

static int load_prefix(uint64_t bits[2], const struct nb_prefix *p)
{
	if (p->addr.family == 4 && p->len <= 32)
		load4(bits, p->addr.ip);
	else if (p->addr.family == 6 && p->len <= 128)
		load6(bits, p->addr.ip);
	else
		return NB_E_ARG;
	return 0;
}

/* Give n to peer. */
static void assign(struct wg_trie_node *n, struct wg_peer *peer)
{
	nb_list_del(&n->of_peer);
	if (n->peer)
		n->peer->nallowed--;
	n->peer = peer;
	peer->nallowed++;
	nb_list_push(&peer->allowed, &n->of_peer);
}

int wg_trie_insert(struct wg_trie *t, const struct nb_prefix *prefix, struct wg_peer *peer)
{
	uint64_t bits[2];

	if (load_prefix(bits, prefix))
		return NB_E_ARG;

	unsigned len = prefix->len;
	struct wg_trie_node **at = prefix->addr.family == 4 ? &t->root4 : &t->root6, *parent = NULL, *n, *fork;

	while (*at && (*at)->len < len && common_bits((*at)->bits, bits) >= (*at)->len) {
		parent = *at;
		at = &parent->child[bit_at(bits, parent->len)];
	}
	if (*at && (*at)->len == len && common_bits((*at)->bits, bits) >= len) {
		assign(*at, peer);
		return 0;
	}
	n = node_new(prefix->addr.family, bits, len);
	if (!n)
		return NB_E_NOMEM;
	if (!*at) {
		n->parent = parent;
		*at = n;
	} else {
		struct wg_trie_node *below = *at;
		unsigned shared = common_bits(below->bits, bits);

		if (shared >= len) {
			n->parent = parent;
			*at = n;
			adopt(n, below);
		} else {
			fork = node_new(prefix->addr.family, bits, shared);
			if (!fork) {
				free(n);
				return NB_E_NOMEM;
			}
			fork->parent = parent;
			*at = fork;
			adopt(fork, below);
			adopt(fork, n);
		}
	}
	assign(n, peer);
	return 0;
}

/* Take out nodes that neither name a peer nor fork, from n upwards. */
static void prune(struct wg_trie *t, struct wg_trie_node *n)
{
	while (n && !n->peer && !(n->child[0] && n->child[1])) {
		struct wg_trie_node *only = n->child[0] ? n->child[0] : n->child[1], *parent = n->parent;

		*holder(t, n) = only;
		if (only)
			only->parent = parent;
		free(n);
		n = parent;
	}
}

static void withdraw(struct wg_trie *t, struct wg_trie_node *n)
{
	nb_list_del(&n->of_peer);
	n->peer->nallowed--;
	n->peer = NULL;
	prune(t, n);
}

int wg_trie_remove(struct wg_trie *t, const struct nb_prefix *prefix, const struct wg_peer *peer)
{
	uint64_t bits[2];

	if (load_prefix(bits, prefix))
		return NB_E_NOTFOUND;

	struct wg_trie_node *n = prefix->addr.family == 4 ? t->root4 : t->root6;

	while (n && n->len < prefix->len && common_bits(n->bits, bits) >= n->len)
		n = n->child[bit_at(bits, n->len)];
	if (!n || n->len != prefix->len || common_bits(n->bits, bits) < n->len || n->peer != peer)
		return NB_E_NOTFOUND;
	withdraw(t, n);
	return 0;
}

void wg_trie_remove_all(struct wg_trie *t, struct wg_peer *peer)
{
	/* Pruning frees only nodes without a peer, so never a later one of this list. */
	while (!nb_list_empty(&peer->allowed))
		withdraw(t, nb_container(peer->allowed.next, struct wg_trie_node, of_peer));
}

void wg_trie_prefix(const struct wg_trie_node *n, struct nb_prefix *out)
{
	memset(out, 0, sizeof *out);
	out->addr.family = n->family;
	out->len = n->len;
	if (n->family == 4) {
		nb_put_be32(out->addr.ip, (uint32_t)(n->bits[0] >> 32));
	} else {
		nb_put_be64(out->addr.ip, n->bits[0]);
		nb_put_be64(out->addr.ip + 8, n->bits[1]);
	}
}
