/* filter.c - see filter.h. Flows live in one pool, found by a keyed hash; each belongs to an owner (the peer whose
 * packet made it, or this machine), and each owner keeps its flows of a class in order of use. When a class is full,
 * an owner above the average makes room, the newcomer first of all: nobody loses flows to a neighbour who
 * has more than they. Expired flows are noticed when they are met, and by a hand that moves with every new flow. */
#include "filter/filter_int.h"

#include <stdlib.h>

#define NONE UINT32_MAX
#define SWEEP 4			/* flows looked at for each new one */
#define LOCAL 0			/* owner: this machine, and peers beyond max_owners */

#define FRAG_SETS 256
#define FRAG_WAYS 4
#define FRAG_S 30

/* A connection met in its middle on the way out was begun here if our port is one that systems choose and the
 * other one is not; else it may be an answer to somebody whom the rules refuse now. */
#define CHOSEN_PORT 32768

/* Seconds, spec/client.md 6.3; RST and other protocols as Linux. */
enum {
	TCP_HANDSHAKE_S = 60,
	TCP_OPEN_S = 3 * 3600,
	TCP_FIN_S = 60,		/* FIN_WAIT; CLOSE_WAIT */
	TCP_LAST_ACK_S = 30,
	TCP_WAIT_S = 240,
	TCP_RESET_S = 10,
	UDP_S = 30,
	ICMP_S = 30,
	OTHER_S = 600,
};

enum class { CLASS_TCP, CLASS_UDP, CLASS_ICMP, CLASSES };

enum tcp_state { S_HANDSHAKE, S_OPEN, S_FIN, S_WAIT, S_RESET };

enum {
	F_IN = 1,		/* begun from the other side: rules decide about it */
	F_CUT = 2,		/* forbidden by the table of its generation */
	F_FIN_IN = 4,
	F_FIN_OUT = 8,
	F_ANSWERED = 16,	/* the side that did not begin was heard */
	F_CLOSE_WAIT = 32,	/* and ended first */
};

struct key {
	uint8_t local[16], remote[16];
	uint16_t lport, rport;
	uint8_t proto, family;
	uint8_t asker;			/* ICMP: whose number it is, 1 theirs, 2 ours */
	uint8_t zero;
};

struct flow {
	struct key key;
	uint8_t class, state, flags;
	uint32_t generation;		/* of the table that judged it last */
	uint32_t rule;			/* that accepted it */
	uint32_t expires;		/* seconds */
	uint32_t used;			/* seconds: when it last moved in its owner's order */
	uint32_t owner;
	uint32_t next;			/* in the bucket, or of the free ones */
	uint32_t newer, older;		/* in the owner's order */
};

struct owner {
	uint64_t id;
	uint32_t next;
	uint32_t count[CLASSES];
	uint32_t newest[CLASSES], oldest[CLASSES];
};

struct fragment {
	uint64_t who;
	uint32_t expires, generation, header_end;
};

struct filter {
	struct filter_table *table;
	unsigned user;
	uint32_t generation;
	uint64_t seed[2];
	struct flow *flows;
	uint32_t *buckets, nbuckets;		/* flow + 1 */
	uint32_t nflows, used_flows, free_flow;
	uint32_t sweep;
	struct owner *owners;
	uint32_t *owner_buckets;		/* owner + 1 */
	uint32_t nowners, used_owners, free_owner, nowner_buckets;
	uint32_t fat;				/* where an owner above the average was found last */
	uint32_t max[CLASSES], count[CLASSES], active[CLASSES];
	struct fragment fragments[FRAG_SETS][FRAG_WAYS];
	uint32_t fin_wait_s, close_wait_s, last_ack_s;
	bool stateless;
	struct filter_counters c;
};

/* --- hash: SipHash-1-3 over whole words (Aumasson, Bernstein 2012) --- */

static uint64_t rotl(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

static uint64_t hash_words(const uint64_t seed[2], const uint64_t *w, size_t n)
{
	uint64_t v[4] = { seed[0] ^ 0x736f6d6570736575u, seed[1] ^ 0x646f72616e646f6du, seed[0] ^ 0x6c7967656e657261u,
			  seed[1] ^ 0x7465646279746573u };

	for (size_t i = 0; i < n; i++) {
		v[3] ^= w[i];
		sip_round(v);
		v[0] ^= w[i];
	}
	v[2] ^= 0xff;
	sip_round(v);
	sip_round(v);
	sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint32_t bucket_of(const struct filter *f, const struct key *k)
{
	uint64_t w[5];

	_Static_assert(sizeof w == sizeof *k, "a key is whole words");
	memcpy(w, k, sizeof w);
	return (uint32_t)hash_words(f->seed, w, 5) & (f->nbuckets - 1);
}

/* --- owners --- */

static uint32_t owner_bucket(const struct filter *f, uint64_t id)
{
	return (uint32_t)hash_words(f->seed, &id, 1) & (f->nowner_buckets - 1);
}

static uint32_t owner_take(struct filter *f, uint64_t id)
{
	uint32_t *bucket = &f->owner_buckets[owner_bucket(f, id)];
	uint32_t i;

	for (i = *bucket; i; i = f->owners[i - 1].next)
		if (f->owners[i - 1].id == id)
			return i - 1;
	if (f->free_owner != NONE) {
		i = f->free_owner;
		f->free_owner = f->owners[i].next;
	} else if (f->used_owners < f->nowners) {
		i = f->used_owners++;
	} else {
		return LOCAL;
	}
	f->owners[i] = (struct owner){ .id = id, .next = *bucket, .newest = { NONE, NONE, NONE },
				       .oldest = { NONE, NONE, NONE } };
	*bucket = i + 1;
	return i;
}

/* Forget an owner that has no flow left. */
static void owner_release(struct filter *f, uint32_t i)
{
	struct owner *o = &f->owners[i];
	uint32_t *at;

	if (i == LOCAL || o->count[CLASS_TCP] || o->count[CLASS_UDP] || o->count[CLASS_ICMP])
		return;
	at = &f->owner_buckets[owner_bucket(f, o->id)];
	while (*at != i + 1)
		at = &f->owners[*at - 1].next;
	*at = o->next;
	o->next = f->free_owner;
	f->free_owner = i;
}

static void order_unlink(struct filter *f, uint32_t i)
{
	struct flow *w = &f->flows[i];
	struct owner *o = &f->owners[w->owner];

	if (w->newer == NONE)
		o->newest[w->class] = w->older;
	else
		f->flows[w->newer].older = w->older;
	if (w->older == NONE)
		o->oldest[w->class] = w->newer;
	else
		f->flows[w->older].newer = w->newer;
}

static void order_newest(struct filter *f, uint32_t i)
{
	struct flow *w = &f->flows[i];
	struct owner *o = &f->owners[w->owner];

	w->newer = NONE;
	w->older = o->newest[w->class];
	if (w->older == NONE)
		o->oldest[w->class] = i;
	else
		f->flows[w->older].newer = i;
	o->newest[w->class] = i;
}

static void order_oldest(struct filter *f, uint32_t i)
{
	struct flow *w = &f->flows[i];
	struct owner *o = &f->owners[w->owner];

	w->older = NONE;
	w->newer = o->oldest[w->class];
	if (w->newer == NONE)
		o->newest[w->class] = i;
	else
		f->flows[w->newer].older = i;
	o->oldest[w->class] = i;
}

/* --- flows --- */

static uint32_t seconds(struct nb_time now)
{
	return (uint32_t)(now.ns / NB_SEC);
}

static bool expired(const struct flow *w, uint32_t now_s)
{
	return w->expires <= now_s;
}

static void flow_remove(struct filter *f, uint32_t i)
{
	struct flow *w = &f->flows[i];
	uint32_t *at = &f->buckets[bucket_of(f, &w->key)];

	while (*at != i + 1)
		at = &f->flows[*at - 1].next;
	*at = w->next;
	order_unlink(f, i);
	f->count[w->class]--;
	f->c.flows--;
	if (!--f->owners[w->owner].count[w->class])
		f->active[w->class]--;
	owner_release(f, w->owner);
	/* Never a real deadline: the sweep passes free flows by. */
	w->expires = NONE;
	w->next = f->free_flow;
	f->free_flow = i;
}

static uint32_t flow_find(struct filter *f, const struct key *k, uint32_t now_s)
{
	uint32_t i = f->buckets[bucket_of(f, k)];

	while (i && memcmp(&f->flows[i - 1].key, k, sizeof *k))
		i = f->flows[i - 1].next;
	if (!i)
		return NONE;
	if (!expired(&f->flows[i - 1], now_s))
		return i - 1;
	flow_remove(f, i - 1);
	return NONE;
}

static void sweep(struct filter *f, uint32_t now_s)
{
	for (int n = 0; n < SWEEP && f->used_flows; n++) {
		f->sweep = f->sweep + 1 < f->used_flows ? f->sweep + 1 : 0;
		if (f->flows[f->sweep].expires != NONE && expired(&f->flows[f->sweep], now_s))
			flow_remove(f, f->sweep);
	}
}

static bool above_average(const struct filter *f, uint32_t owner, enum class c)
{
	return owner < f->used_owners && f->owners[owner].count[c] &&
	       (uint64_t)f->owners[owner].count[c] * f->active[c] >= f->count[c];
}

/* The class is full: one flow goes. Somebody has at least the average, so the search ends; it goes on where it
 * ended, and that owner pays until it is down to the average. */
static void evict(struct filter *f, uint32_t newcomer, enum class c)
{
	uint32_t who = newcomer;

	if (!above_average(f, who, c)) {
		while (!above_average(f, f->fat, c))
			f->fat = f->fat + 1 < f->used_owners ? f->fat + 1 : 0;
		who = f->fat;
	}
	flow_remove(f, f->owners[who].oldest[c]);
	f->c.evicted++;
}

static enum class class_of(const struct key *k)
{
	if (k->proto == IP_TCP)
		return CLASS_TCP;
	return k->proto == (k->family == 4 ? IP_ICMP : IP_ICMP6) ? CLASS_ICMP : CLASS_UDP;
}

/* A TCP connection that has ended. */
static bool over(const struct flow *w)
{
	return w->state >= S_WAIT;
}

static uint32_t tcp_lifetime(const struct filter *f, const struct flow *w)
{
	switch (w->state) {
	case S_HANDSHAKE:
		return TCP_HANDSHAKE_S;
	case S_OPEN:
		return TCP_OPEN_S;
	case S_FIN:
		return w->flags & F_CLOSE_WAIT ? f->close_wait_s : f->fin_wait_s;
	case S_WAIT:
		return w->flags & F_CLOSE_WAIT ? f->last_ack_s : TCP_WAIT_S;
	default:
		return TCP_RESET_S;
	}
}

static uint32_t lifetime(const struct filter *f, const struct flow *w)
{

	switch (w->class) {
	case CLASS_TCP:
		/* A connection that was cut must be remembered as long as either end may still try. */
		return w->flags & F_CUT && !over(w) ? TCP_OPEN_S : tcp_lifetime(f, w);
	case CLASS_ICMP:
		return ICMP_S;
	default:
		return w->key.proto == IP_UDP ? UDP_S : OTHER_S;
	}
}

/* A packet of the flow passed. */
static void flow_touch(struct filter *f, uint32_t i, uint32_t now_s)
{
	struct flow *w = &f->flows[i];

	w->expires = now_s + lifetime(f, w);
	if (w->used == now_s || over(w))
		return;
	w->used = now_s;
	if (w->newer == NONE)
		return;
	order_unlink(f, i);
	order_newest(f, i);
}

static void flow_begin(struct filter *f, struct flow *w, bool in, uint8_t state, uint32_t rule)
{
	w->state = state;
	w->flags = in ? F_IN : 0;
	w->generation = f->generation;
	w->rule = rule;
	/* It counts as new in its owner's order, too. */
	w->used = 0;
	if (in)
		f->c.flows_in++;
	else
		f->c.flows_out++;
}

static void flow_new(struct filter *f, const struct key *k, uint64_t owner_id, bool in, uint8_t state, uint32_t rule,
		     uint32_t now_s)
{
	enum class c = class_of(k);
	uint32_t owner = in ? owner_take(f, owner_id) : LOCAL, *bucket, i;
	struct flow *w;

	/* Counted before others go: the newcomer's record must not be released meanwhile. */
	if (!f->owners[owner].count[c]++)
		f->active[c]++;
	sweep(f, now_s);
	if (f->count[c] == f->max[c]) {
		f->owners[owner].count[c]--;
		if (!f->owners[owner].count[c])
			f->active[c]--;
		evict(f, owner, c);
		/* Its last flow may have been the one that went. */
		owner = in ? owner_take(f, owner_id) : LOCAL;
		if (!f->owners[owner].count[c]++)
			f->active[c]++;
	}
	if (f->free_flow != NONE) {
		i = f->free_flow;
		f->free_flow = f->flows[i].next;
	} else {
		i = f->used_flows++;
	}
	w = &f->flows[i];
	bucket = &f->buckets[bucket_of(f, k)];
	*w = (struct flow){ .key = *k, .class = (uint8_t)c, .owner = owner, .next = *bucket };
	*bucket = i + 1;
	order_newest(f, i);
	f->count[c]++;
	f->c.flows++;
	flow_begin(f, w, in, state, rule);
	w->used = now_s;
	w->expires = now_s + lifetime(f, w);
}

/* --- TCP --- */

static bool pure_syn(uint8_t flags)
{
	return (flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static bool impossible(uint8_t flags)
{
	return !(flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)) || ((flags & TCP_SYN) && (flags & (TCP_FIN | TCP_RST))) ||
	       (flags & (TCP_FIN | TCP_RST)) == (TCP_FIN | TCP_RST);
}

static void tcp_step(struct filter *f, uint32_t i, uint8_t flags, bool in)
{
	struct flow *w = &f->flows[i];
	bool by_beginner = in == !!(w->flags & F_IN), was_over = over(w);

	if (!by_beginner)
		w->flags |= F_ANSWERED;
	if (flags & TCP_RST)
		w->state = S_RESET;
	else if (w->state == S_RESET && !in)
		/* Our side goes on: the reset was not one to it. */
		w->state = S_OPEN;
	else if (w->state == S_HANDSHAKE && by_beginner && (flags & TCP_ACK) && (w->flags & F_ANSWERED))
		w->state = S_OPEN;
	if ((flags & TCP_FIN) && w->state < S_WAIT) {
		if (w->state != S_FIN && !by_beginner)
			w->flags |= F_CLOSE_WAIT;
		w->flags |= in ? F_FIN_IN : F_FIN_OUT;
		w->state = (w->flags & F_FIN_IN) && (w->flags & F_FIN_OUT) ? S_WAIT : S_FIN;
	}
	/* What is over goes first when room is needed. */
	if (over(w) && !was_over) {
		order_unlink(f, i);
		order_oldest(f, i);
	}
}

static bool is_tcp(const struct key *k)
{
	return k->proto == IP_TCP;
}

/* --- keys --- */

enum {
	ECHO_REPLY4 = 0,
	ECHO_REQUEST4 = 8,
	ECHO_REQUEST6 = 128,
	ECHO_REPLY6 = 129,
};

static bool is_echo(const struct filter_pkt *p, bool request)
{
	if (!filter_is_icmp(p))
		return false;
	if (p->family == 4)
		return p->icmp_type == (request ? ECHO_REQUEST4 : ECHO_REPLY4);
	return p->icmp_type == (request ? ECHO_REQUEST6 : ECHO_REPLY6);
}

/* The flow a packet would belong to. False: packets of its kind make none. */
static bool key_make(struct key *k, const struct filter_pkt *p, bool in)
{
	memset(k, 0, sizeof *k);
	memcpy(k->local, in ? p->dst : p->src, p->alen);
	memcpy(k->remote, in ? p->src : p->dst, p->alen);
	k->family = p->family;
	k->proto = p->proto;
	if (filter_is_icmp(p)) {
		/* The number counts as the asking side's port, so that no answer passes for a question. */
		bool request = is_echo(p, true);

		if (!request && !is_echo(p, false))
			return false;
		if (request == in)
			k->rport = p->icmp_id;
		else
			k->lport = p->icmp_id;
		/* Without this, number 0 would be both directions' key. */
		k->asker = request == in ? 1 : 2;
		return true;
	}
	k->lport = in ? p->dport : p->sport;
	k->rport = in ? p->sport : p->dport;
	return true;
}

/* --- judging --- */

static bool is_local(const struct filter *f, const struct key *k)
{
	const struct filter_table *t = f->table;

	return k->family == 4 ? t->has4 && !memcmp(k->local, t->local4, 16) : t->has6 && !memcmp(k->local, t->local6, 16);
}

/* The word of the rules on a flow from outside; counts nothing. */
static enum filter_judged judge(const struct filter *f, const struct key *k, uint32_t *rule)
{
	*rule = FILTER_NO_RULE;
	if (!f->table || !is_local(f, k))
		return FILTER_DENY;
	return filter_judge(f->table, k->remote, k->family, k->proto, k->lport, rule);
}

/* The same for a packet that is no known flow's; counted. */
static bool judge_packet(struct filter *f, const struct key *k, uint32_t *rule)
{
	switch (judge(f, k, rule)) {
	case FILTER_ACCEPT:
		f->c.passed_rule++;
		filter_hit(f->table, f->user, *rule);
		return true;
	case FILTER_DROP:
		f->c.dropped_rule++;
		filter_hit(f->table, f->user, *rule);
		return false;
	default:
		if (f->table && !is_local(f, k))
			f->c.dropped_address++;
		else
			f->c.dropped_default++;
		return false;
	}
}

/* May the flow live under the table in force? */
static bool still_allowed(struct filter *f, struct flow *w)
{
	if (w->flags & F_IN && w->generation != f->generation) {
		w->generation = f->generation;
		if (judge(f, &w->key, &w->rule) == FILTER_ACCEPT) {
			w->flags &= (uint8_t)~F_CUT;
		} else {
			f->c.cut += !(w->flags & F_CUT);
			w->flags |= F_CUT;
			w->rule = FILTER_NO_RULE;
		}
	}
	return !(w->flags & F_CUT);
}

/* --- inbound --- */

static bool in_new(struct filter *f, const struct filter_pkt *p, const struct key *k, uint64_t owner, uint32_t now_s)
{
	uint32_t rule;

	if (!judge_packet(f, k, &rule))
		return false;
	/* Endings and answers to nobody begin nothing. */
	if (is_tcp(k) && (p->tcp_flags & (TCP_RST | TCP_FIN) || (p->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK)))
		return true;
	if (filter_is_icmp(p) && !is_echo(p, true))
		return true;
	flow_new(f, k, owner, true, is_tcp(k) && !pure_syn(p->tcp_flags) ? S_OPEN : S_HANDSHAKE, rule, now_s);
	return true;
}

/* A SYN on a known tuple that is not the flow's own: it must be welcome as something new. */
static bool in_syn_again(struct filter *f, uint32_t i, uint32_t now_s)
{
	struct flow *w = &f->flows[i];
	uint32_t rule;

	if (!judge_packet(f, &w->key, &rule))
		return false;
	if (over(w) || w->flags & F_CUT) {
		flow_begin(f, w, true, S_HANDSHAKE, rule);
		flow_touch(f, i, now_s);
	}
	return true;
}

static bool in_known(struct filter *f, uint32_t i, const struct filter_pkt *p, uint32_t now_s)
{
	struct flow *w = &f->flows[i];

	if (is_tcp(&w->key) && pure_syn(p->tcp_flags) && (w->state != S_HANDSHAKE || w->flags & F_CUT))
		return in_syn_again(f, i, now_s);
	if (!still_allowed(f, w)) {
		f->c.dropped_cut++;
		return false;
	}
	if (is_tcp(&w->key))
		tcp_step(f, i, p->tcp_flags, true);
	flow_touch(f, i, now_s);
	f->c.passed_flow++;
	if (w->flags & F_IN)
		filter_hit(f->table, f->user, w->rule);
	return true;
}

static bool is_error(const struct filter_pkt *p)
{
	if (!filter_is_icmp(p))
		return false;
	/* Unreachable (with "fragmentation needed"), time exceeded, parameter problem; ICMPv6: also too big. */
	if (p->family == 4)
		return p->icmp_type == 3 || p->icmp_type == 11 || p->icmp_type == 12;
	return p->icmp_type >= 1 && p->icmp_type <= 4;
}

/* Does this error quote a packet that we sent in a flow that may live? */
static bool is_related(struct filter *f, const struct filter_pkt *p, uint32_t now_s)
{
	struct filter_pkt q;
	struct key k;
	uint32_t i;

	if (!is_error(p) || p->payload.n < 8 || filter_parse(&q, nb_bytes(p->payload.p + 8, p->payload.n - 8), true) ||
	    q.family != p->family || q.later || memcmp(q.src, p->dst, p->alen) || !key_make(&k, &q, false))
		return false;
	i = flow_find(f, &k, now_s);
	return i != NONE && still_allowed(f, &f->flows[i]);
}

/* --- fragments --- */

static uint64_t fragment_who(const struct filter *f, const struct filter_pkt *p)
{
	uint64_t w[5] = { 0 };

	memcpy(w, p->src, p->alen);
	memcpy(w + 2, p->dst, p->alen);
	w[4] = (uint64_t)p->frag_id << 32 | (uint64_t)p->frag_proto << 8 | p->family;
	return hash_words(f->seed, w, 5);
}

static void fragment_learn(struct filter *f, const struct filter_pkt *p, uint32_t now_s)
{
	uint64_t who = fragment_who(f, p);
	struct fragment *set = f->fragments[who % FRAG_SETS], *at = &set[0];

	for (int i = 0; i < FRAG_WAYS; i++) {
		if (set[i].who == who) {
			at = &set[i];
			break;
		}
		if (set[i].expires < at->expires)
			at = &set[i];
	}
	*at = (struct fragment){ who, now_s + FRAG_S, f->generation, p->frag_off };
}

static bool fragment_pass(struct filter *f, const struct filter_pkt *p, uint32_t now_s)
{
	uint64_t who = fragment_who(f, p);
	const struct fragment *set = f->fragments[who % FRAG_SETS];

	for (int i = 0; i < FRAG_WAYS; i++)
		if (set[i].who == who && set[i].expires > now_s && set[i].generation == f->generation &&
		    p->frag_off >= set[i].header_end) {
			f->c.passed_fragment++;
			return true;
		}
	f->c.dropped_fragment++;
	return false;
}

/* --- the two directions --- */

static bool in_whole(struct filter *f, const struct filter_pkt *p, uint64_t owner, uint32_t now_s)
{
	uint32_t i = NONE, rule;
	struct key k;
	bool keyed = key_make(&k, p, true);

	if (f->stateless) {
		/* Errors are about what we sent, or nobody cares. */
		if (is_error(p)) {
			f->c.passed_related++;
			return true;
		}
		return judge_packet(f, &k, &rule);
	}
	if (keyed) {
		i = flow_find(f, &k, now_s);
		return i != NONE ? in_known(f, i, p, now_s) : in_new(f, p, &k, owner, now_s);
	}
	if (is_related(f, p, now_s)) {
		f->c.passed_related++;
		return true;
	}
	return judge_packet(f, &k, &rule);
}

bool filter_in(struct filter *f, struct nb_bytes pkt, uint64_t owner, struct nb_time now)
{
	uint32_t now_s = seconds(now);
	struct filter_pkt p;

	if (filter_parse(&p, pkt, false) || (p.proto == IP_TCP && !p.later && impossible(p.tcp_flags))) {
		f->c.dropped_malformed++;
		return false;
	}
	if (p.later)
		return fragment_pass(f, &p, now_s);
	if (!in_whole(f, &p, owner, now_s))
		return false;
	if (p.first)
		fragment_learn(f, &p, now_s);
	return true;
}

static void out_new(struct filter *f, const struct filter_pkt *p, const struct key *k, uint32_t now_s)
{
	bool middle = is_tcp(k) && !pure_syn(p->tcp_flags);

	if (filter_is_icmp(p) && !is_echo(p, true))
		return;
	if (middle && (p->tcp_flags & (TCP_SYN | TCP_RST) || k->lport < CHOSEN_PORT || k->rport >= CHOSEN_PORT))
		return;
	flow_new(f, k, 0, false, middle ? S_OPEN : S_HANDSHAKE, FILTER_NO_RULE, now_s);
}

void filter_out(struct filter *f, struct nb_bytes pkt, struct nb_time now)
{
	uint32_t now_s = seconds(now), i;
	struct filter_pkt p;
	struct flow *w;
	struct key k;

	if (f->stateless || filter_parse(&p, pkt, false) || p.later || !key_make(&k, &p, false))
		return;
	i = flow_find(f, &k, now_s);
	if (i == NONE) {
		out_new(f, &p, &k, now_s);
		return;
	}
	w = &f->flows[i];
	if (is_tcp(&k)) {
		/* We never say SYN within a connection: whatever was here before is gone. */
		if (pure_syn(p.tcp_flags) && (w->flags & F_IN || w->state != S_HANDSHAKE))
			flow_begin(f, w, false, S_HANDSHAKE, FILTER_NO_RULE);
		else
			tcp_step(f, i, p.tcp_flags, false);
	}
	flow_touch(f, i, now_s);
}

/* --- life --- */

struct filter_table *filter_exchange(struct filter *f, struct filter_table *t)
{
	struct filter_table *old = f->table;

	if (t && old)
		filter_table_inherit(t, old, f->user);
	f->table = t;
	f->generation++;
	return old;
}

static uint32_t power_above(uint32_t n)
{
	uint32_t p = 64;

	while (p < n)
		p *= 2;
	return p;
}

int filter_new(struct filter **out, const struct filter_config *cfg)
{
	struct filter *f;

	*out = NULL;
	if (!cfg->random || cfg->max_tcp > 1 << 24 || cfg->max_udp > 1 << 24 || cfg->max_icmp > 1 << 24 ||
	    cfg->max_owners > 1 << 24)
		return NB_E_ARG;
	f = calloc(1, sizeof *f);
	if (!f)
		return NB_E_NOMEM;
	f->max[CLASS_TCP] = cfg->max_tcp ? cfg->max_tcp : 65536;
	f->max[CLASS_UDP] = cfg->max_udp ? cfg->max_udp : 16384;
	f->max[CLASS_ICMP] = cfg->max_icmp ? cfg->max_icmp : 2048;
	f->fin_wait_s = cfg->fin_wait_s ? cfg->fin_wait_s : TCP_FIN_S;
	f->close_wait_s = cfg->close_wait_s ? cfg->close_wait_s : TCP_FIN_S;
	f->last_ack_s = cfg->last_ack_s ? cfg->last_ack_s : TCP_LAST_ACK_S;
	f->stateless = cfg->stateless;
	f->nflows = f->max[CLASS_TCP] + f->max[CLASS_UDP] + f->max[CLASS_ICMP];
	f->nowners = (cfg->max_owners ? cfg->max_owners : 16384) + 1;
	f->nbuckets = power_above(f->nflows);
	f->nowner_buckets = power_above(f->nowners);
	f->flows = calloc(f->nflows, sizeof *f->flows);
	f->buckets = calloc(f->nbuckets, sizeof *f->buckets);
	f->owners = calloc(f->nowners, sizeof *f->owners);
	f->owner_buckets = calloc(f->nowner_buckets, sizeof *f->owner_buckets);
	if (!f->flows || !f->buckets || !f->owners || !f->owner_buckets) {
		filter_free(f);
		return NB_E_NOMEM;
	}
	cfg->random(cfg->random_ctx, f->seed, sizeof f->seed);
	f->user = cfg->user;
	f->free_flow = f->free_owner = NONE;
	/* This machine's own record, in no bucket and never released. */
	f->owners[LOCAL] = (struct owner){ .newest = { NONE, NONE, NONE }, .oldest = { NONE, NONE, NONE } };
	f->used_owners = 1;
	*out = f;
	return 0;
}

void filter_free(struct filter *f)
{
	if (!f)
		return;
	free(f->flows);
	free(f->buckets);
	free(f->owners);
	free(f->owner_buckets);
	nb_wipe(f->seed, sizeof f->seed);
	free(f);
}

const struct filter_counters *filter_counters(const struct filter *f)
{
	return &f->c;
}
