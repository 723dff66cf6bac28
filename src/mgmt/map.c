/* map.c - what a peer is told: the network map, its own configuration, servers and credentials.
 * A full map is concatenated from parts that were encoded once: repeated fields of a protobuf message may be
 * put together from separately encoded entries. An entry depends only on its peer and on the receiver's class:
 * MAP_V6 (the receiver uses the IPv6 overlay) for peers and names, MAP_PREFIXES (it reads source prefixes)
 * for rules; other differences between receivers are version gates looked at here per rule.
 * management-domain.md section 2, management-protocol.md sections 4, 6.3-6.5. Tests: tests/unit/mgmt_map_test.c */
#include "mgmt/mgmt_int.h"

#include <stdio.h>
#include <stdlib.h>

#define PLAIN_MAX ((size_t)15 << 20)	/* stays below the client's 16 MiB */
#define DNS_TTL 300
#define FORWARDER_NEW 22054
#define FORWARDER_OLD 5353
#define SSH_PORT 22
#define SSH_NATIVE_PORT 22022
#define PORTS_MAX 2048
#define TTL_DEFAULT (12 * 3600 * NB_SEC)

/* ---- writing protobuf fields; zero values are left out */

static void put_varint(struct nb_buf *b, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		nb_buf_u8(b, (uint8_t)(v | 0x80));
	nb_buf_u8(b, (uint8_t)v);
}

static void put_bytes(struct nb_buf *b, unsigned field, struct nb_bytes v)
{
	put_varint(b, field << 3 | 2);
	put_varint(b, v.n);
	nb_buf_bytes(b, v);
}

static void put_text(struct nb_buf *b, unsigned field, const char *s)
{
	if (*mgmt_str(s))
		put_bytes(b, field, nb_bytes_str(s));
}

static void put_number(struct nb_buf *b, unsigned field, uint64_t v)
{
	if (v) {
		put_varint(b, field << 3);
		put_varint(b, v);
	}
}

static void put_message(struct nb_buf *b, unsigned field, const struct nb_buf *inner)
{
	put_bytes(b, field, nb_buf_view(inner));
}

/* Everything of a finished inner buffer, or its error. */
static void carry(struct nb_buf *b, unsigned field, struct nb_buf *inner)
{
	if (inner->err && !b->err)
		b->err = inner->err;
	put_message(b, field, inner);
	nb_buf_fini(inner);
}

static void ip_text(char out[NB_ADDR_TEXT], const ProtobufCBinaryData *ip)
{
	struct nb_addr a = ip->len == 4 ? nb_addr4(nb_get_be32(ip->data)) : nb_addr6(ip->data);

	nb_addr_format(out, &a);
}

/* ---- cached entries of a peer */

unsigned mgmt_map_class(const struct mgmt_peer *p)
{
	return (mgmt_peer_has_v6(p) ? MAP_V6 : 0) |
	       (mgmt_meta_has(p->rec->meta, MANAGEMENT__PEER_CAPABILITY__PeerCapabilitySourcePrefixes) ? MAP_PREFIXES : 0);
}

void mgmt_map_forget(struct mgmt_peer *p)
{
	for (int i = 0; i < 2; i++) {
		free((void *)p->state->remote[i].p);
		free((void *)p->state->dns[i].p);
		p->state->remote[i] = p->state->dns[i] = nb_bytes(NULL, 0);
		p->state->rule_parts[i].ip_n = 0;
	}
}

static const char *agent_version(const struct mgmt_peer *p)
{
	return p->rec->meta ? mgmt_str(p->rec->meta->netbirdversion) : "";
}

/* Take the content of b as a cache entry. */
static struct nb_bytes keep(struct nb_buf *b)
{
	struct nb_bytes out = nb_bytes(NULL, 0);
	uint8_t *mem = b->err ? NULL : malloc(b->n + 1);

	if (mem) {
		memcpy(mem, b->p, b->n);
		out = nb_bytes(mem, b->n);
	}
	nb_buf_fini(b);
	return out;
}

static struct nb_bytes encode_remote(const struct mgmt_peer *p, bool v6)
{
	char key[NB_KEY_TEXT_LEN], ip[NB_ADDR_TEXT], cidr[NB_ADDR_TEXT + 8], fqdn[320];
	struct nb_buf b, ssh;

	nb_buf_init(&b, 4096 + p->rec->ssh_key.len);
	nb_buf_init(&ssh, 64 + p->rec->ssh_key.len);
	nbc_key_format(key, p->rec->key.data);
	put_text(&b, 1, key);
	ip_text(ip, &p->rec->ip);
	snprintf(cidr, sizeof(cidr), "%s/32", ip);
	put_text(&b, 2, cidr);
	if (v6 && p->rec->ipv6.len) {
		ip_text(ip, &p->rec->ipv6);
		snprintf(cidr, sizeof(cidr), "%s/128", ip);
		put_text(&b, 2, cidr);
	}
	if (p->rec->ssh_key.len)
		put_bytes(&ssh, 2, nb_bytes(p->rec->ssh_key.data, p->rec->ssh_key.len));
	carry(&b, 3, &ssh);
	mgmt_peer_fqdn(p, fqdn, sizeof(fqdn));
	put_text(&b, 4, fqdn);
	put_text(&b, 5, agent_version(p));
	return keep(&b);
}

static void put_record(struct nb_buf *b, const char *name, unsigned type, const char *data)
{
	uint8_t mem[1024];
	struct nb_buf r;

	nb_buf_fixed(&r, mem, sizeof(mem));
	put_text(&r, 1, name);
	put_number(&r, 2, type);
	put_text(&r, 3, "IN");
	put_number(&r, 4, DNS_TTL);
	put_text(&r, 5, data);
	put_message(b, 2, &r);
}

/* All records of the peer zone about p, as fields of a CustomZone. */
static struct nb_bytes encode_dns(const struct mgmt_peer *p, bool v6)
{
	char ip[NB_ADDR_TEXT], ip6[NB_ADDR_TEXT], name[400];
	bool six = v6 && mgmt_peer_has_v6(p);
	struct nb_buf b;

	nb_buf_init(&b, 64 * 1024);
	ip_text(ip, &p->rec->ip);
	if (six)
		ip_text(ip6, &p->rec->ipv6);
	for (size_t i = 0; i <= p->rec->n_extra_dns_labels; i++) {
		snprintf(name, sizeof(name), "%s.%s", i ? p->rec->extra_dns_labels[i - 1] : mgmt_str(p->rec->dns_label),
			 mgmt_dns_domain(p->account));
		put_record(&b, name, 1, ip);
		if (six)
			put_record(&b, name, 28, ip6);
	}
	return keep(&b);
}

static struct nb_bytes remote_of(struct mgmt_peer *p, unsigned class)
{
	struct nb_bytes *slot = &p->state->remote[!!(class & MAP_V6)];

	if (!slot->p)
		*slot = encode_remote(p, class & MAP_V6);
	return *slot;
}

static struct nb_bytes dns_of(struct mgmt_peer *p, unsigned class)
{
	struct nb_bytes *slot = &p->state->dns[!!(class & MAP_V6)];

	if (!slot->p)
		*slot = encode_dns(p, class & MAP_V6);
	return *slot;
}

/* ---- who is visible, and by which rules */

struct port {
	uint32_t start, end;
};

/* One rule as p has to apply it. */
struct rule {
	const mgmt_rule_rec *rec;
	unsigned protocol;
	bool portless_range;	/* tcp or udp without a port: an empty range is sent */
	bool texts;		/* single ports go as text, not as a range */
	struct port ports[PORTS_MAX];
	size_t n_ports;		/* 0: any */
	/* What lies between address and prefixes, one for each port, of one direction. */
	struct nb_buf middles;
	uint32_t middle_at[PORTS_MAX + 1];
};

struct walk {
	struct mgmt_peer *self;
	unsigned class;
	struct nb_buf *rules;		/* NULL: peers only */
	struct mgmt_peer **seen;
	size_t n_seen, cap_seen;
	uint32_t seen_mark;
	struct rule rule;
	bool ssh;			/* a netbird-ssh rule reaches self */
	int err;
};

static uint32_t next_mark(struct mgmt *m)
{
	if (++m->mark == 0)
		m->mark = 1;
	return m->mark;
}

static void see(struct walk *w, struct mgmt_peer *p)
{
	if (p->state->mark == w->seen_mark)
		return;
	p->state->mark = w->seen_mark;
	if (w->n_seen == w->cap_seen) {
		size_t cap = w->cap_seen ? w->cap_seen * 2 : 32;
		struct mgmt_peer **grown = realloc(w->seen, cap * sizeof(*grown));

		if (!grown) {
			w->err = NB_E_NOMEM;
			return;
		}
		w->seen = grown;
		w->cap_seen = cap;
	}
	w->seen[w->n_seen++] = p;
}

static void add_port(struct rule *r, uint32_t start, uint32_t end)
{
	if (r->n_ports < PORTS_MAX)
		r->ports[r->n_ports++] = (struct port){ start, end };
}

static bool covers(const struct rule *r, uint32_t port)
{
	for (size_t i = 0; i < r->n_ports; i++)
		if (r->ports[i].start <= port && port <= r->ports[i].end)
			return true;
	return false;
}

static void prepare_rule(struct walk *w, const mgmt_rule_rec *rec)
{
	const char *version = agent_version(w->self), *proto = mgmt_str(rec->protocol);
	const Management__Flags *flags = w->self->rec->meta ? w->self->rec->meta->flags : NULL;
	bool ssh = strcmp(proto, "netbird-ssh") == 0, tcp = ssh || strcmp(proto, "tcp") == 0;
	bool ranges = mgmt_version_at_least(version, 0, 48, 0);
	struct rule *r = &w->rule;

	r->rec = rec;
	r->n_ports = 0;
	r->protocol = tcp ? 2 : strcmp(proto, "udp") == 0 ? 3 : strcmp(proto, "icmp") == 0 ? 4 : 1;
	for (size_t i = 0; i < rec->n_ports; i++)
		add_port(r, rec->ports[i], rec->ports[i]);
	for (size_t i = 0; i < rec->n_port_ranges && rec->n_ports == 0; i++)
		if (ranges || rec->port_ranges[i]->start == rec->port_ranges[i]->end)
			add_port(r, rec->port_ranges[i]->start, rec->port_ranges[i]->end);
	if (ssh || (tcp && mgmt_version_at_least(version, 0, 60, 0) && w->self->rec->ssh_enabled && flags &&
		    flags->serversshallowed))
		if (covers(r, SSH_PORT) && !covers(r, SSH_NATIVE_PORT))
			add_port(r, SSH_NATIVE_PORT, SSH_NATIVE_PORT);
	r->portless_range = r->protocol == 2 || r->protocol == 3;
	r->texts = rec->n_port_ranges == 0 || !ranges;
}

static void put_port(struct nb_buf *b, const struct rule *r, const struct port *port)
{
	uint8_t range_mem[16], info_mem[32];
	struct nb_buf range, info;
	char text[8];

	if (port && port->start == port->end && r->texts) {
		snprintf(text, sizeof(text), "%u", port->start);
		put_text(b, 5, text);
		return;
	}
	if (!r->portless_range)
		return;
	nb_buf_fixed(&range, range_mem, sizeof(range_mem));
	nb_buf_fixed(&info, info_mem, sizeof(info_mem));
	if (port) {
		put_number(&range, 1, port->start);
		put_number(&range, 2, port->end);
	}
	put_message(&info, 2, &range);
	put_message(b, 6, &info);
}

/* All fields of the rule that do not depend on the counterpart. */
static void prepare_middles(struct walk *w, unsigned direction)
{
	struct rule *r = &w->rule;
	size_t n = r->n_ports ? r->n_ports : 1;

	nb_buf_reset(&r->middles);
	for (size_t i = 0; i < n; i++) {
		r->middle_at[i] = (uint32_t)r->middles.n;
		put_number(&r->middles, 2, direction);
		put_number(&r->middles, 3, r->rec->drop);
		put_number(&r->middles, 4, r->protocol);
		put_port(&r->middles, r, r->n_ports ? &r->ports[i] : NULL);
		put_bytes(&r->middles, 7, nb_bytes_str(mgmt_str(r->rec->id)));
	}
	r->middle_at[n] = (uint32_t)r->middles.n;
	if (r->middles.err)
		w->err = r->middles.err;
}

/* Fields 1 and 9 of rules about p. */
static void prepare_parts(struct mgmt_peer *p, int six)
{
	const ProtobufCBinaryData *ip = six ? &p->rec->ipv6 : &p->rec->ip;
	uint8_t prefix[17];
	char text[NB_ADDR_TEXT];
	struct nb_buf b;

	ip_text(text, ip);
	nb_buf_fixed(&b, p->state->rule_parts[six].ip, sizeof(p->state->rule_parts[six].ip));
	put_text(&b, 1, text);
	p->state->rule_parts[six].ip_n = (uint8_t)b.n;
	memcpy(prefix, ip->data, ip->len);
	prefix[ip->len] = (uint8_t)(ip->len * 8);
	nb_buf_fixed(&b, p->state->rule_parts[six].prefix, sizeof(p->state->rule_parts[six].prefix));
	put_bytes(&b, 9, nb_bytes(prefix, ip->len + 1));
	p->state->rule_parts[six].prefix_n = (uint8_t)b.n;
}

static void put_rules(struct walk *w, struct mgmt_peer *p, int six)
{
	const struct rule *r = &w->rule;
	size_t n = r->n_ports ? r->n_ports : 1, prefix_n;

	if (!p->state->rule_parts[six].ip_n)
		prepare_parts(p, six);
	prefix_n = w->class & MAP_PREFIXES ? p->state->rule_parts[six].prefix_n : 0;
	for (size_t i = 0; i < n; i++) {
		size_t middle_n = r->middle_at[i + 1] - r->middle_at[i];

		put_varint(w->rules, 8 << 3 | 2);
		put_varint(w->rules, p->state->rule_parts[six].ip_n + middle_n + prefix_n);
		nb_buf_put(w->rules, p->state->rule_parts[six].ip, p->state->rule_parts[six].ip_n);
		nb_buf_put(w->rules, r->middles.p + r->middle_at[i], middle_n);
		nb_buf_put(w->rules, p->state->rule_parts[six].prefix, prefix_n);
	}
}

static void rule_for(struct walk *w, struct mgmt_peer *p)
{
	const struct rule *r = &w->rule;

	/* Ranges that this client cannot read leave nothing, not everything. */
	if (r->n_ports == 0 && (r->rec->n_ports || r->rec->n_port_ranges))
		return;
	put_rules(w, p, 0);
	if ((w->class & MAP_V6) && p->rec->ipv6.len)
		put_rules(w, p, 1);
}

static void counterpart(struct walk *w, struct mgmt_peer *p, uint32_t mark)
{
	if (p == w->self || p->state->mark_b == mark)
		return;
	p->state->mark_b = mark;
	see(w, p);
	if (w->rules)
		rule_for(w, p);
}

/* A side of a rule: one named peer, or the members of groups. */
struct side {
	struct mgmt_peer *peer;
	char *const *groups;
	size_t n;
};

static struct side side_of(const struct mgmt_account *a, const Nestbox__ResourceRef *res, char *const *groups, size_t n)
{
	struct side s = { NULL, groups, n };

	if (res && strcmp(mgmt_str(res->type), "peer") == 0) {
		s.peer = mgmt_peer_get(a, mgmt_str(res->id));
		s.n = 0;
	}
	return s;
}

/* With All in the list nothing else matters. */
static const struct mgmt_group *only_all(const struct mgmt_account *a, const struct side *s)
{
	return a->all && mgmt_has(s->groups, s->n, a->all->rec->id) ? a->all : NULL;
}

static bool side_has(const struct mgmt_account *a, const struct side *s, const struct mgmt_peer *p)
{
	if (s->peer)
		return s->peer == p;
	if (only_all(a, s))
		return true;
	for (size_t i = 0; i < s->n; i++)
		if (mgmt_has(p->rec->groups, p->rec->n_groups, s->groups[i]))
			return true;
	return false;
}

static void each_of(struct walk *w, const struct side *s, uint32_t mark)
{
	const struct mgmt_account *a = w->self->account;
	const struct mgmt_group *all = only_all(a, s);

	if (s->peer) {
		counterpart(w, s->peer, mark);
		return;
	}
	for (size_t i = 0; i < (all ? 1 : s->n); i++) {
		const struct mgmt_group *g = all ? all : mgmt_group_get(a, s->groups[i]);

		for (size_t k = 0; g && k < g->n_peers; k++)
			counterpart(w, g->peers[k], mark);
	}
}

static void walk_rule(struct walk *w, const mgmt_rule_rec *r)
{
	struct mgmt_account *a = w->self->account;
	struct side src = side_of(a, r->source_resource, r->sources, r->n_sources);
	struct side dst = side_of(a, r->destination_resource, r->destinations, r->n_destinations);
	bool in_src = side_has(a, &src, w->self), in_dst = side_has(a, &dst, w->self);
	uint32_t mark;

	if (!in_src && !in_dst)
		return;
	prepare_rule(w, r);
	mark = next_mark(a->m);
	prepare_middles(w, 0);
	if (in_src && r->bidirectional)
		each_of(w, &dst, mark);
	if (in_dst)
		each_of(w, &src, mark);
	mark = next_mark(a->m);
	prepare_middles(w, 1);
	if (in_dst && r->bidirectional)
		each_of(w, &src, mark);
	if (in_src)
		each_of(w, &dst, mark);
	w->ssh |= in_dst && !r->drop && strcmp(mgmt_str(r->protocol), "netbird-ssh") == 0;
}

/* Fill w->seen and, if wanted, the rules. */
static void walk_policies(struct walk *w)
{
	const struct mgmt_table *t = &w->self->account->t[T_POLICY];

	nb_buf_init(&w->rule.middles, PLAIN_MAX);
	w->seen_mark = next_mark(w->self->account->m);
	w->class = mgmt_map_class(w->self);
	w->self->state->mark = w->seen_mark;
	for (size_t i = 0; i < t->n; i++) {
		const mgmt_policy_rec *p = ((struct mgmt_policy *)t->v[i])->rec;

		for (size_t k = 0; p->enabled && k < p->n_rules; k++)
			if (p->rules[k]->enabled)
				walk_rule(w, p->rules[k]);
	}
	nb_buf_fini(&w->rule.middles);
}

int mgmt_peer_accessible(const struct mgmt_peer *p, struct mgmt_peer ***online, size_t *n_online,
			 struct mgmt_peer ***offline, size_t *n_offline)
{
	struct walk *w = calloc(1, sizeof(*w));
	struct mgmt_peer **off = NULL;
	size_t on = 0;

	*online = *offline = NULL;
	*n_online = *n_offline = 0;
	if (!w)
		return MGMT_INTERNAL;
	w->self = (struct mgmt_peer *)p;
	walk_policies(w);
	off = calloc(w->n_seen + 1, sizeof(*off));
	if (w->err || !off) {
		free(w->seen);
		free(off);
		free(w);
		return MGMT_INTERNAL;
	}
	for (size_t i = 0; i < w->n_seen; i++)
		if (mgmt_peer_login_due(w->seen[i]))
			off[(*n_offline)++] = w->seen[i];
		else
			w->seen[on++] = w->seen[i];
	*n_online = on;
	*online = w->seen;
	*offline = off;
	free(w);
	return 0;
}

/* ---- a peer's own configuration */

static void put_peer_config(struct nb_buf *b, unsigned field, const struct mgmt_peer *p, bool ssh)
{
	const struct mgmt_account *a = p->account;
	const mgmt_settings_rec *s = a->rec->settings;
	struct nb_prefix net = { .len = 16 }, net6 = { .len = 64 };
	char ip[NB_ADDR_TEXT], text[NB_ADDR_TEXT + 8], fqdn[320];
	uint8_t mem[1024], ssh_mem[16], update_mem[300], six[17];
	struct nb_buf c, sshc, update;

	nb_buf_fixed(&c, mem, sizeof(mem));
	nb_buf_fixed(&sshc, ssh_mem, sizeof(ssh_mem));
	nb_buf_fixed(&update, update_mem, sizeof(update_mem));
	nb_prefix_parse(&net, mgmt_str(a->rec->net));
	ip_text(ip, &p->rec->ip);
	snprintf(text, sizeof(text), "%s/%u", ip, net.len);
	put_text(&c, 1, text);
	put_number(&sshc, 1, p->rec->ssh_enabled || ssh);
	put_message(&c, 3, &sshc);
	mgmt_peer_fqdn(p, fqdn, sizeof(fqdn));
	put_text(&c, 4, fqdn);
	put_number(&c, 5, s->routing_peer_dns_resolution);
	put_number(&c, 6, s->lazy_connection);
	put_text(&update, 1, s->auto_update_version);
	put_number(&update, 2, s->auto_update_always);
	put_message(&c, 8, &update);
	if (mgmt_peer_has_v6(p)) {
		nb_prefix_parse(&net6, mgmt_str(a->rec->net_v6));
		memcpy(six, p->rec->ipv6.data, 16);
		six[16] = net6.len;
		put_bytes(&c, 9, nb_bytes(six, sizeof(six)));
	}
	if (c.err || update.err)
		b->err = NB_E_FULL;
	put_message(b, field, &c);
}

/* Three states on the wire: this is "no expiry" (an empty message) or the deadline. */
static void put_session(struct nb_buf *b, unsigned field, const struct mgmt_peer *p)
{
	int64_t end = mgmt_peer_session_end(p);
	uint8_t mem[32];
	struct nb_buf t;

	nb_buf_fixed(&t, mem, sizeof(mem));
	if (end > 0) {
		put_number(&t, 1, (uint64_t)(end / NB_SEC));
		put_number(&t, 2, (uint64_t)(end % NB_SEC));
	}
	put_message(b, field, &t);
}

/* ---- servers and credentials */

static void put_host(struct nb_buf *b, unsigned field, const char *uri, unsigned protocol)
{
	struct nb_buf h;

	nb_buf_init(&h, 4096);
	put_text(&h, 1, uri);
	put_number(&h, 2, protocol);
	carry(b, field, &h);
}

static unsigned turn_protocol(const char *uri)
{
	return strstr(uri, "transport=tcp") ? 1 : 0;
}

static void put_turns(struct nb_buf *b, const struct mgmt *m, bool fresh)
{
	const struct mgmt_config *c = &m->cfg;
	char user[24], password[NB_BASE64_LEN(NBC_SHA1_LEN) + 1];
	uint8_t mac[NBC_SHA1_LEN];
	bool timed = fresh && c->turn_secret;

	if (timed) {
		int64_t ttl = c->turn_ttl ? c->turn_ttl : TTL_DEFAULT;

		snprintf(user, sizeof(user), "%lld", (long long)((m->wall.ns + ttl) / NB_SEC));
		nbc_hmac_sha1(mac, nb_bytes_str(c->turn_secret), nb_bytes_str(user));
		nb_base64_encode(password, sizeof(password), nb_bytes(mac, sizeof(mac)));
	}
	for (size_t i = 0; i < c->n_turns; i++) {
		struct nb_buf t;

		nb_buf_init(&t, 8192);
		put_host(&t, 1, c->turns[i].uri, turn_protocol(c->turns[i].uri));
		put_text(&t, 2, timed ? user : c->turns[i].user);
		put_text(&t, 3, timed ? password : c->turns[i].password);
		carry(b, 2, &t);
	}
}

static void put_relay(struct nb_buf *b, const struct mgmt *m)
{
	const struct mgmt_config *c = &m->cfg;
	int64_t ttl = c->relay_ttl ? c->relay_ttl : TTL_DEFAULT;
	char payload[24], sig[NB_BASE64_LEN(NBC_SHA256_LEN) + 1];
	uint8_t key[NBC_SHA256_LEN], mac[NBC_SHA256_LEN];
	struct nb_buf r;

	if (c->n_relay_urls == 0)
		return;
	nb_buf_init(&r, 64 * 1024);
	for (size_t i = 0; i < c->n_relay_urls; i++)
		put_text(&r, 1, c->relay_urls[i]);
	if (c->relay_secret) {
		snprintf(payload, sizeof(payload), "%lld", (long long)((m->wall.ns + ttl) / NB_SEC));
		nbc_sha256(key, nb_bytes_str(c->relay_secret));
		nbc_hmac_sha256(mac, nb_bytes(key, sizeof(key)), nb_bytes_str(payload));
		nb_base64_encode(sig, sizeof(sig), nb_bytes(mac, sizeof(mac)));
		put_text(&r, 2, payload);
		put_text(&r, 3, sig);
		nb_wipe(key, sizeof(key));
	}
	carry(b, 4, &r);
}

/* The relay is part of every configuration: a client takes one without it for "no relay". */
static void put_config(struct nb_buf *b, unsigned field, const struct mgmt_peer *p, unsigned what, bool fresh)
{
	const struct mgmt *m = p->account->m;
	uint8_t metrics_mem[8];
	struct nb_buf c, metrics;

	nb_buf_init(&c, 256 * 1024);
	if (what & SYNC_CONFIG)
		for (size_t i = 0; i < m->cfg.n_stuns; i++)
			put_host(&c, 1, m->cfg.stuns[i], 0);
	if (what & (SYNC_CONFIG | SYNC_TURN))
		put_turns(&c, m, fresh);
	if (what & SYNC_CONFIG)
		put_host(&c, 3, mgmt_str(m->cfg.signal_uri), m->cfg.signal_tls ? 3 : 2);
	put_relay(&c, m);
	if (what & SYNC_CONFIG) {
		nb_buf_fixed(&metrics, metrics_mem, sizeof(metrics_mem));
		put_number(&metrics, 1, p->account->rec->settings->metrics_push);
		put_message(&c, 6, &metrics);
	}
	carry(b, field, &c);
}

/* ---- maps */

static bool dns_enabled(const struct mgmt_peer *p)
{
	const mgmt_account_rec *a = p->account->rec;

	for (size_t i = 0; i < a->n_dns_disabled_groups; i++) {
		const struct mgmt_group *g = mgmt_group_get(p->account, a->dns_disabled_groups[i]);

		if (g && mgmt_peer_in_group(p, g))
			return false;
	}
	return true;
}

static unsigned forwarder_port(const struct mgmt_account *a)
{
	return a->t[T_PEER].n && a->old_forwarders == 0 ? FORWARDER_NEW : FORWARDER_OLD;
}

static void put_dns(struct nb_buf *b, const struct walk *w)
{
	struct mgmt_peer *p = w->self;
	struct nb_buf dns, zone;
	char domain[300];

	nb_buf_init(&dns, PLAIN_MAX);
	nb_buf_init(&zone, PLAIN_MAX);
	if (dns_enabled(p)) {
		snprintf(domain, sizeof(domain), "%s.", mgmt_dns_domain(p->account));
		put_number(&dns, 1, 1);
		put_text(&zone, 1, domain);
		nb_buf_bytes(&zone, dns_of(p, w->class));
		for (size_t i = 0; i < w->n_seen; i++)
			nb_buf_bytes(&zone, dns_of(w->seen[i], w->class));
		carry(&dns, 3, &zone);
	}
	nb_buf_fini(&zone);
	put_number(&dns, 4, forwarder_port(p->account));
	carry(b, 6, &dns);
}

/* Peers into fields 3 (online) or 7 (offline). Returns how many. */
static size_t put_remotes(struct nb_buf *b, const struct walk *w, unsigned field, bool expired)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n_seen; i++)
		if (mgmt_peer_login_due(w->seen[i]) == expired) {
			put_bytes(b, field, remote_of(w->seen[i], w->class));
			n++;
		}
	return n;
}

static void put_map(struct nb_buf *b, struct walk *w)
{
	struct mgmt_peer *p = w->self;
	uint8_t ssh_mem[16];
	struct nb_buf map, ssh;
	size_t online;

	nb_buf_init(&map, PLAIN_MAX);
	nb_buf_fixed(&ssh, ssh_mem, sizeof(ssh_mem));
	put_number(&map, 1, p->account->rec->serial);
	put_peer_config(&map, 2, p, w->ssh);
	online = put_remotes(&map, w, 3, false);
	put_number(&map, 4, online == 0);
	put_dns(&map, w);
	put_remotes(&map, w, 7, true);
	nb_buf_bytes(&map, nb_buf_view(w->rules));
	put_number(&map, 9, w->rules->n == 0);
	put_number(&map, 11, 1);
	put_text(&ssh, 1, "sub");
	put_message(&map, 13, &ssh);
	if (!mgmt_version_at_least(agent_version(p), 0, 29, 3))
		put_remotes(b, w, 3, false);
	put_number(b, 4, online == 0);
	carry(b, 5, &map);
}

int mgmt_map_sync(struct mgmt_peer *p, unsigned what, struct nb_buf *out)
{
	struct nb_buf rules;
	struct walk *w;
	int err;

	if (what & ~SYNC_MAP)
		put_config(out, 1, p, what, true);
	if (!(what & SYNC_MAP))
		return out->err;
	w = calloc(1, sizeof(*w));
	if (!w)
		return NB_E_NOMEM;
	nb_buf_init(&rules, PLAIN_MAX);
	w->self = p;
	w->rules = &rules;
	walk_policies(w);
	put_peer_config(out, 2, p, w->ssh);
	put_map(out, w);
	put_session(out, 7, p);
	err = rules.err ? rules.err : w->err;
	nb_buf_fini(&rules);
	free(w->seen);
	free(w);
	return err ? err : out->err;
}

int mgmt_map_farewell(struct mgmt_peer *p, struct nb_buf *out)
{
	uint8_t mem[64], dns_mem[16];
	struct nb_buf map, dns;

	nb_buf_fixed(&map, mem, sizeof(mem));
	nb_buf_fixed(&dns, dns_mem, sizeof(dns_mem));
	put_number(&map, 1, p->account->rec->serial);
	put_number(&map, 4, 1);
	put_number(&dns, 4, forwarder_port(p->account));
	put_message(&map, 6, &dns);
	put_number(&map, 9, 1);
	put_number(out, 4, 1);
	put_message(out, 5, &map);
	return out->err;
}

int mgmt_map_login(struct mgmt_peer *p, struct nb_buf *out)
{
	put_config(out, 1, p, SYNC_CONFIG, false);
	put_peer_config(out, 2, p, false);
	put_session(out, 4, p);
	return out->err;
}
