/* rest_peer.c - /api/peers. rest-api.md section 10.1. Tests: tests/unit/mgmt_rest_test.c */
#include "mgmt/rest_int.h"

#include <stdio.h>
#include <stdlib.h>

static json_t *address(ProtobufCBinaryData ip)
{
	char text[NB_ADDR_TEXT];
	struct nb_addr a;

	if (ip.len != 4 && ip.len != 16)
		return NULL;
	a = ip.len == 4 ? nb_addr4(nb_get_be32(ip.data)) : nb_addr6(ip.data);
	nb_addr_format(text, &a);
	return json_string(text);
}

static json_t *dns_label(const struct mgmt_peer *p)
{
	char fqdn[320];

	mgmt_peer_fqdn(p, fqdn, sizeof(fqdn));
	return mgmt_rest_text(fqdn);
}

static json_t *extra_labels(struct mgmt_rest_req *q, const struct mgmt_peer *p)
{
	json_t *out = json_array();

	for (size_t i = 0; i < p->rec->n_extra_dns_labels; i++) {
		char fqdn[640];

		snprintf(fqdn, sizeof(fqdn), "%s.%s", p->rec->extra_dns_labels[i], mgmt_dns_domain(p->account));
		mgmt_rest_add(q, out, mgmt_rest_text(fqdn));
	}
	return out;
}

/* "<OS> <version>"; without a version the core's. */
static json_t *os_text(const Management__PeerSystemMeta *m)
{
	const char *version = *mgmt_str(m->osversion) ? m->osversion : mgmt_str(m->core);
	size_t n = strlen(mgmt_str(m->os)) + strlen(version) + 2;
	char *text = malloc(n);
	json_t *v;

	if (!text)
		return NULL;
	snprintf(text, n, "%s %s", mgmt_str(m->os), version);
	v = mgmt_rest_text(text);
	free(text);
	return v;
}

/* Shown only to those who may read groups. */
static json_t *peer_groups(struct mgmt_rest_req *q, const struct mgmt_peer *p)
{
	struct mgmt_lists l;
	json_t *out;

	if (mgmt_permit(&q->who, MGMT_MOD_GROUPS, MGMT_OP_READ, NULL))
		return json_null();
	mgmt_account_lists(p->account, &l);
	out = json_array();
	for (size_t i = 0; i < l.n_groups; i++)
		if (mgmt_peer_in_group(p, l.groups[i]))
			mgmt_rest_add(q, out, mgmt_rest_group_minimum(l.groups[i]));
	return out;
}

static json_t *local_flags(const Management__Flags *f)
{
	static const Management__Flags none = MANAGEMENT__FLAGS__INIT;

	if (!f)
		f = &none;
	return json_pack("{s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b}",
			 "block_inbound", f->blockinbound, "block_lan_access", f->blocklanaccess,
			 "disable_client_routes", f->disableclientroutes, "disable_dns", f->disabledns,
			 "disable_firewall", f->disablefirewall, "disable_server_routes", f->disableserverroutes,
			 "lazy_connection_enabled", f->lazyconnectionenabled, "rosenpass_enabled", f->rosenpassenabled,
			 "rosenpass_permissive", f->rosenpasspermissive, "server_ssh_allowed", f->serversshallowed);
}

/* Stock keeps whole seconds of it. */
static json_t *last_seen(const struct mgmt_peer *p)
{
	return mgmt_rest_time(p->last_seen / NB_SEC * NB_SEC);
}

static json_t *peer_json(struct mgmt_rest_req *q, const struct mgmt_peer *p, bool in_list)
{
	static const Management__PeerSystemMeta none = MANAGEMENT__PEER_SYSTEM_META__INIT;
	const mgmt_peer_rec *r = p->rec;
	const Management__PeerSystemMeta *m = r->meta ? r->meta : &none;

	return json_pack("{s:o*, s:b, s:o, s:b, s:o, s:o, s:o, s:o, s:b, s:o, s:I, s:o, s:o, s:o, s:b, s:o, s:o*, s:o,"
			 " s:o, s:o, s:o, s:b, s:b, s:o, s:o, s:o, s:b, s:o, s:o, s:o}",
			 "accessible_peers_count", mgmt_rest_optional(q, in_list, json_integer(0)),
			 "approval_required", 0,
			 "city_name", mgmt_rest_text(r->city),
			 "connected", p->connected,
			 "connection_ip", mgmt_rest_text(r->connection_ip),
			 "country_code", mgmt_rest_text(r->country),
			 "created_at", mgmt_rest_time(r->created),
			 "dns_label", dns_label(p),
			 "ephemeral", r->ephemeral,
			 "extra_dns_labels", extra_labels(q, p),
			 "geoname_id", (json_int_t)r->geoname_id,
			 "groups", peer_groups(q, p),
			 "hostname", mgmt_rest_text(m->hostname),
			 "id", mgmt_rest_text(r->id),
			 "inactivity_expiration_enabled", r->inactivity_expiration,
			 "ip", address(r->ip),
			 "ipv6", mgmt_rest_optional(q, r->ipv6.len == 16, address(r->ipv6)),
			 "kernel_version", mgmt_rest_text(m->kernelversion),
			 "last_login", mgmt_rest_time(r->last_login),
			 "last_seen", last_seen(p),
			 "local_flags", local_flags(m->flags),
			 "login_expiration_enabled", r->login_expiration,
			 "login_expired", r->login_expired,
			 "name", mgmt_rest_text(r->name),
			 "os", os_text(m),
			 "serial_number", mgmt_rest_text(m->sysserialnumber),
			 "ssh_enabled", r->ssh_enabled,
			 "ui_version", mgmt_rest_text(m->uiversion),
			 "user_id", mgmt_rest_text(r->user_id),
			 "version", mgmt_rest_text(m->netbirdversion));
}

static json_t *accessible_json(struct mgmt_rest_req *q, const struct mgmt_peer *p)
{
	const mgmt_peer_rec *r = p->rec;

	return json_pack("{s:o, s:b, s:o, s:o, s:I, s:o, s:o, s:o*, s:o, s:o, s:o, s:o}",
			 "city_name", mgmt_rest_text(r->city),
			 "connected", p->connected,
			 "country_code", mgmt_rest_text(r->country),
			 "dns_label", dns_label(p),
			 "geoname_id", (json_int_t)r->geoname_id,
			 "id", mgmt_rest_text(r->id),
			 "ip", address(r->ip),
			 "ipv6", mgmt_rest_optional(q, r->ipv6.len == 16, address(r->ipv6)),
			 "last_seen", last_seen(p),
			 "name", mgmt_rest_text(r->name),
			 "os", mgmt_rest_text(r->meta ? r->meta->os : ""),
			 "user_id", mgmt_rest_text(r->user_id));
}

/* Substring filters of the list. */
static bool wanted(const struct mgmt_peer *p, const char *name, const char *ip)
{
	json_t *v4, *v6;
	bool hit = true;

	if (name && *name && !strstr(mgmt_str(p->rec->name), name))
		return false;
	if (!ip || !*ip)
		return true;
	v4 = address(p->rec->ip);
	v6 = address(p->rec->ipv6);
	hit = (v4 && strstr(json_string_value(v4), ip)) || (v6 && strstr(json_string_value(v6), ip));
	json_decref(v4);
	json_decref(v6);
	return hit;
}

void mgmt_rest_peers(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	const char *name = web_query(call, "name"), *ip = web_query(call, "ip");
	enum mgmt_rest_view view = mgmt_rest_view(q);
	struct mgmt_lists l;
	json_t *out;

	(void)arg;
	if (view == MGMT_VIEW_FAILED)
		return;
	out = json_array();
	mgmt_account_lists(q->who.account, &l);
	for (size_t i = 0; i < l.n_peers; i++)
		if (mgmt_rest_sees(q, view, l.peers[i]) && wanted(l.peers[i], name, ip))
			mgmt_rest_add(q, out, peer_json(q, l.peers[i], true));
	mgmt_rest_ok(q, out);
}

/* The peer of the path; NULL: answered. Its owner may see it without peers:read. */
static struct mgmt_peer *find_peer(struct mgmt_rest_req *q)
{
	const char *id = web_param(q->call, "id");
	struct mgmt_peer *p = mgmt_peer_get(q->who.account, id);

	if (mgmt_permit(&q->who, MGMT_MOD_PEERS, MGMT_OP_READ, &q->e)) {
		if (!mgmt_rest_only_role(q) || !p || !mgmt_rest_sees(q, MGMT_VIEW_OWN, p)) {
			mgmt_rest_fail(q);
			return NULL;
		}
	}
	if (!p)
		mgmt_rest_refuse(q, MGMT_NOT_FOUND, "peer not found: %s", id);
	return p;
}

void mgmt_rest_peer(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	struct mgmt_peer *p = find_peer(q);

	(void)arg;
	if (p)
		mgmt_rest_ok(q, peer_json(q, p, false));
}

void mgmt_rest_peer_put(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	struct mgmt_peer_change c = { .set_flags = true };
	const char *id = web_param(call, "id");
	struct mgmt_peer *p;

	(void)arg;
	if (!mgmt_rest_body(q))
		return;
	c.name = mgmt_rest_string(&q->f, "name", "", MGMT_REST_NAME_MAX);
	c.ssh_enabled = web_bool(&q->f, "ssh_enabled", false);
	c.login_expiration = web_bool(&q->f, "login_expiration_enabled", false);
	c.inactivity_expiration = web_bool(&q->f, "inactivity_expiration_enabled", false);
	/* Kept by stock, but without effect there: every peer counts as approved. */
	web_bool(&q->f, "approval_required", false);
	c.ip = mgmt_rest_string(&q->f, "ip", NULL, NB_ADDR_TEXT);
	c.ipv6 = mgmt_rest_string(&q->f, "ipv6", NULL, NB_ADDR_TEXT);
	if (mgmt_rest_bad(q))
		return;
	if (mgmt_peer_update(&q->who, id, &c, &q->e)) {
		mgmt_rest_fail(q);
		return;
	}
	p = mgmt_peer_get(q->who.account, id);
	mgmt_rest_ok(q, p ? peer_json(q, p, false) : NULL);
}

void mgmt_rest_peer_delete(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);

	(void)arg;
	if (mgmt_peer_delete(&q->who, web_param(call, "id"), &q->e))
		mgmt_rest_fail(q);
	else
		mgmt_rest_empty(q);
}

static void append_accessible(struct mgmt_rest_req *q, json_t *out, struct mgmt_peer **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		mgmt_rest_add(q, out, accessible_json(q, list[i]));
	free(list);
}

void mgmt_rest_peer_accessible(struct web_call *call, void *arg)
{
	struct mgmt_rest_req *q = mgmt_rest_of(call);
	struct mgmt_peer *p = mgmt_peer_get(q->who.account, web_param(call, "id")), **online, **offline;
	enum mgmt_rest_view view = mgmt_rest_view(q);
	size_t n_online, n_offline;
	json_t *out;

	(void)arg;
	if (view == MGMT_VIEW_FAILED)
		return;
	if (!p && view == MGMT_VIEW_OWN) {
		mgmt_rest_refuse(q, MGMT_NOT_FOUND, "peer not found: %s", web_param(call, "id"));
		return;
	}
	out = json_array();
	if (p && mgmt_rest_sees(q, view, p)) {
		if (mgmt_peer_accessible(p, &online, &n_online, &offline, &n_offline)) {
			json_decref(out);
			mgmt_rest_error(q, 500, "internal server error");
			return;
		}
		append_accessible(q, out, online, n_online);
		append_accessible(q, out, offline, n_offline);
	}
	mgmt_rest_ok(q, out);
}
