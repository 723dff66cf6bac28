/* config.c - see config.h. jansson does the JSON; the tables below are the file's schema.
 * Tests: tests/unit/client_config_test.c */
#include "client/config.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/addr.h"
#include "base/err.h"
#include "proto/daemon.pb-c.h"

#define MTU_MIN 576
#define MTU_MAX 8192
#define DNS_ROUTE_INTERVAL_NS 60000000000LL

static const char *const default_blacklist[] = {
	"wt0", "wt", "utun", "tun0", "zt", "ZeroTier", "wg", "ts", "Tailscale", "tailscale", "docker",
	"veth", "br-", "lo",
};

/* Switches: key, member, value of a new file; nilable ones are written as null when absent. */
struct switch_row {
	const char *key;
	size_t at;
	enum client_tri fresh;
	bool nilable;
};

#define SW(key, member, fresh, nilable) { key, offsetof(struct client_config, member), fresh, nilable }

static const struct switch_row switches[] = {
	SW("NetworkMonitor", network_monitor, CLIENT_NIL, true),
	SW("DisableIPv6Discovery", disable_ipv6_discovery, CLIENT_NO, false),
	SW("RosenpassEnabled", rosenpass_enabled, CLIENT_NO, false),
	SW("RosenpassPermissive", rosenpass_permissive, CLIENT_NO, false),
	SW("ServerSSHAllowed", server_ssh_allowed, CLIENT_NO, true),
	SW("EnableSSHRoot", enable_ssh_root, CLIENT_NIL, true),
	SW("EnableSSHSFTP", enable_ssh_sftp, CLIENT_NIL, true),
	SW("EnableSSHLocalPortForwarding", enable_ssh_local_forwarding, CLIENT_NIL, true),
	SW("EnableSSHRemotePortForwarding", enable_ssh_remote_forwarding, CLIENT_NIL, true),
	SW("DisableSSHAuth", disable_ssh_auth, CLIENT_NIL, true),
	SW("DisableClientRoutes", disable_client_routes, CLIENT_NO, false),
	SW("DisableServerRoutes", disable_server_routes, CLIENT_NO, false),
	SW("DisableDNS", disable_dns, CLIENT_NO, false),
	SW("DisableFirewall", disable_firewall, CLIENT_NO, false),
	SW("BlockLANAccess", block_lan_access, CLIENT_NO, false),
	SW("BlockInbound", block_inbound, CLIENT_NO, false),
	SW("DisableIPv6", disable_ipv6, CLIENT_NO, false),
	SW("DisableNotifications", disable_notifications, CLIENT_YES, true),
	SW("DisableAutoConnect", disable_auto_connect, CLIENT_NO, false),
};

/* The order of keys in stock's file; switches and everything else by name. */
static const char *const key_order[] = {
	"Name", "PrivateKey", "PreSharedKey", "ManagementURL", "AdminURL", "WgIface", "WgPort",
	"NetworkMonitor", "IFaceBlackList", "DisableIPv6Discovery", "RosenpassEnabled",
	"RosenpassPermissive", "ServerSSHAllowed", "EnableSSHRoot", "EnableSSHSFTP",
	"EnableSSHLocalPortForwarding", "EnableSSHRemotePortForwarding", "DisableSSHAuth",
	"SSHJWTCacheTTL", "DisableClientRoutes", "DisableServerRoutes", "DisableDNS", "DisableFirewall",
	"BlockLANAccess", "BlockInbound", "DisableIPv6", "SyncMessageVersion", "DisableNotifications",
	"DNSLabels", "SSHKey", "NATExternalIPs", "CustomDNSAddress", "DisableAutoConnect",
	"DNSRouteInterval", "ClientCertPath", "ClientCertKeyPath", "MTU",
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

static enum client_tri *switch_at(struct client_config *c, const struct switch_row *row)
{
	return (enum client_tri *)((char *)c + row->at);
}

int client_list_add(struct client_list *l, const char *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->v[i], s))
			return 0;
	if (l->n == CLIENT_LIST_MAX)
		return NB_E_FULL;
	l->v[l->n] = strdup(s);
	if (!l->v[l->n])
		return NB_E_NOMEM;
	l->n++;
	return 0;
}

void client_list_clear(struct client_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	l->n = 0;
}

int client_url_parse(struct client_url *u, const char *text)
{
	struct client_url r = { 0 };
	bool tls = !strncmp(text, "https://", 8);
	const char *host, *path, *port = NULL;
	size_t n;

	if (!tls && strncmp(text, "http://", 7))
		return NB_E_BAD;
	strcpy(r.scheme, tls ? "https" : "http");
	host = text + strlen(r.scheme) + 3;
	n = strcspn(host, "/?#");
	path = host + n;
	if (n == 0 || n > 253 || memchr(host, '@', n) || strlen(path) >= sizeof r.path)
		return NB_E_BAD;
	for (size_t i = 0; i < n; i++)
		if (host[i] <= ' ' || host[i] >= 0x7f)
			return NB_E_BAD;
	if (host[0] == '[') {
		const char *close = memchr(host, ']', n);

		if (!close || (close + 1 < host + n && close[1] != ':'))
			return NB_E_BAD;
		port = close + 1 < host + n ? close + 1 : NULL;
	} else {
		port = memchr(host, ':', n);
	}
	if (port) {
		size_t digits = (size_t)(host + n - port - 1);
		long value = strtol(port + 1, NULL, 10);

		if (digits == 0 || digits > 5 || strspn(port + 1, "0123456789") < digits || value < 1 || value > 65535 ||
		    port == host)
			return NB_E_BAD;
	}
	snprintf(r.host, sizeof r.host, "%.*s%s", (int)n, host, port ? "" : tls ? ":443" : ":80");
	snprintf(r.path, sizeof r.path, "%s", strcmp(path, "/") ? path : "");
	*u = r;
	return 0;
}

void client_url_format(char *out, size_t cap, const struct client_url *u)
{
	if (u->scheme[0])
		snprintf(out, cap, "%s://%s%s", u->scheme, u->host, u->path);
	else
		out[0] = 0;
}

bool client_url_eq(const struct client_url *a, const struct client_url *b)
{
	return !strcmp(a->scheme, b->scheme) && !strcmp(a->host, b->host) && !strcmp(a->path, b->path);
}

bool client_config_blacklisted(const struct client_config *c, const char *ifname)
{
	for (size_t i = 0; i < c->iface_blacklist.n; i++) {
		const char *prefix = c->iface_blacklist.v[i];

		if (*prefix && !strncmp(ifname, prefix, strlen(prefix)))
			return true;
	}
	return false;
}

static void set_defaults(struct client_config *c)
{
	memset(c, 0, sizeof *c);
	strcpy(c->iface, "wt0");
	c->port = 51820;
	c->mtu = 1280;
	c->dns_route_interval_ns = DNS_ROUTE_INTERVAL_NS;
	c->ssh_jwt_cache_ttl = -1;
	c->sync_message_version = -1;
	for (size_t i = 0; i < COUNT(switches); i++)
		*switch_at(c, &switches[i]) = switches[i].nilable ? CLIENT_NIL : CLIENT_NO;
}

static void new_private_key(char text[NB_KEY_TEXT_LEN], nb_random_fn random, void *ctx)
{
	uint8_t key[NB_KEY_LEN];

	random(ctx, key, sizeof key);
	/* Curve25519 clamping, as every WireGuard tool stores its keys. */
	key[0] &= 248;
	key[31] = (uint8_t)((key[31] & 127) | 64);
	nb_base64_encode(text, NB_KEY_TEXT_LEN, nb_bytes(key, sizeof key));
	nb_wipe(key, sizeof key);
}

void client_config_init(struct client_config *c, nb_random_fn random, void *ctx)
{
	set_defaults(c);
	new_private_key(c->private_key, random, ctx);
	for (size_t i = 0; i < COUNT(switches); i++)
		*switch_at(c, &switches[i]) = switches[i].fresh;
	for (size_t i = 0; i < COUNT(default_blacklist); i++)
		client_list_add(&c->iface_blacklist, default_blacklist[i]);
}

void client_config_fini(struct client_config *c)
{
	nb_wipe(c->private_key, sizeof c->private_key);
	nb_wipe(c->preshared_key, sizeof c->preshared_key);
	if (c->ssh_key)
		nb_wipe(c->ssh_key, strlen(c->ssh_key));
	free(c->ssh_key);
	client_list_clear(&c->iface_blacklist);
	client_list_clear(&c->nat_external_ips);
	client_list_clear(&c->dns_labels);
	json_decref(c->unknown);
	memset(c, 0, sizeof *c);
}

/* Reading: each helper takes the key out of the document, so that what is left is unknown.
 * The first fault is kept in why. */
struct reader {
	json_t *doc;
	char *why;
	size_t why_cap;
	int err;
};

static void fault(struct reader *r, const char *key, const char *expected)
{
	if (!r->err)
		snprintf(r->why, r->why_cap, "key %s must be %s", key, expected);
	r->err = NB_E_CONFIG;
}

static json_t *take(struct reader *r, const char *key)
{
	json_t *v = json_object_get(r->doc, key);

	if (!v)
		return NULL;
	json_incref(v);
	json_object_del(r->doc, key);
	if (json_is_null(v)) {
		json_decref(v);
		return NULL;
	}
	return v;
}

static void take_string(struct reader *r, const char *key, char *out, size_t cap)
{
	json_t *v = take(r, key);

	if (!v)
		return;
	if (!json_is_string(v) || json_string_length(v) >= cap || strlen(json_string_value(v)) != json_string_length(v))
		fault(r, key, "a string of reasonable length");
	else
		memcpy(out, json_string_value(v), json_string_length(v) + 1);
	json_decref(v);
}

static void take_key(struct reader *r, const char *key, char out[NB_KEY_TEXT_LEN])
{
	uint8_t raw[NB_KEY_LEN];
	size_t n;

	take_string(r, key, out, NB_KEY_TEXT_LEN);
	if (out[0] && (nb_base64_decode(raw, sizeof raw, &n, nb_bytes_str(out)) || n != sizeof raw))
		fault(r, key, "32 bytes in base64");
	nb_wipe(raw, sizeof raw);
}

static void take_int(struct reader *r, const char *key, long long min, long long max, long long *out)
{
	json_t *v = take(r, key);
	char expected[64];

	if (!v)
		return;
	snprintf(expected, sizeof expected, "a whole number from %lld to %lld", min, max);
	if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
		fault(r, key, expected);
	else
		*out = json_integer_value(v);
	json_decref(v);
}

static void take_small(struct reader *r, const char *key, int min, int max, int *out)
{
	long long v = *out;

	take_int(r, key, min, max, &v);
	*out = (int)v;
}

static void take_list(struct reader *r, const char *key, struct client_list *out)
{
	json_t *v = take(r, key), *item;
	size_t i;

	if (!v)
		return;
	if (!json_is_array(v) || json_array_size(v) > CLIENT_LIST_MAX)
		fault(r, key, "a list of at most 64 strings");
	else
		json_array_foreach(v, i, item)
			if (!json_is_string(item) || client_list_add(out, json_string_value(item)))
				fault(r, key, "a list of at most 64 strings");
	json_decref(v);
}

static void take_switch(struct reader *r, const char *key, enum client_tri *out)
{
	json_t *v = take(r, key);

	if (!v)
		return;
	if (!json_is_boolean(v))
		fault(r, key, "true or false");
	else
		*out = json_is_true(v) ? CLIENT_YES : CLIENT_NO;
	json_decref(v);
}

/* A Go URL object, or plain text as people write by hand. */
static void take_url(struct reader *r, const char *key, struct client_url *out)
{
	json_t *v = take(r, key);
	const char *scheme = "", *host = "", *path = "";
	char text[CLIENT_HOST_MAX + 160];

	if (!v)
		return;
	if (json_is_string(v)) {
		snprintf(text, sizeof text, "%s", json_string_value(v));
	} else {
		json_unpack(v, "{s?s,s?s,s?s}", "Scheme", &scheme, "Host", &host, "Path", &path);
		snprintf(text, sizeof text, "%s://%s%s", scheme, host, path);
	}
	if (strcmp(text, "://") && *text && client_url_parse(out, text))
		fault(r, key, "an http or https URL");
	json_decref(v);
}

int client_config_parse(struct client_config *c, struct nb_bytes json, char *why, size_t why_cap)
{
	struct reader r = { .why = why, .why_cap = why_cap };
	json_error_t je;
	json_t *ssh;

	set_defaults(c);
	r.doc = json_loadb((const char *)json.p, json.n, JSON_REJECT_DUPLICATES, &je);
	if (!json_is_object(r.doc)) {
		snprintf(why, why_cap, "not valid JSON: line %d: %s", je.line, r.doc ? "not an object" : je.text);
		json_decref(r.doc);
		return NB_E_CONFIG;
	}
	take_string(&r, "Name", c->name, sizeof c->name);
	take_key(&r, "PrivateKey", c->private_key);
	take_key(&r, "PreSharedKey", c->preshared_key);
	take_url(&r, "ManagementURL", &c->management_url);
	take_url(&r, "AdminURL", &c->admin_url);
	take_string(&r, "WgIface", c->iface, sizeof c->iface);
	take_small(&r, "WgPort", 0, 65535, &c->port);
	take_small(&r, "MTU", 0, MTU_MAX, &c->mtu);
	take_small(&r, "SSHJWTCacheTTL", 0, 1 << 30, &c->ssh_jwt_cache_ttl);
	take_small(&r, "SyncMessageVersion", 0, 1 << 30, &c->sync_message_version);
	take_int(&r, "DNSRouteInterval", 0, INT64_MAX, &c->dns_route_interval_ns);
	take_string(&r, "CustomDNSAddress", c->custom_dns, sizeof c->custom_dns);
	take_string(&r, "ClientCertPath", c->client_cert, sizeof c->client_cert);
	take_string(&r, "ClientCertKeyPath", c->client_cert_key, sizeof c->client_cert_key);
	take_list(&r, "IFaceBlackList", &c->iface_blacklist);
	take_list(&r, "NATExternalIPs", &c->nat_external_ips);
	take_list(&r, "DNSLabels", &c->dns_labels);
	for (size_t i = 0; i < COUNT(switches); i++)
		take_switch(&r, switches[i].key, switch_at(c, &switches[i]));
	ssh = take(&r, "SSHKey");
	if (ssh && json_is_string(ssh) && *json_string_value(ssh))
		c->ssh_key = strdup(json_string_value(ssh));
	json_decref(ssh);
	c->unknown = r.doc;
	if (c->mtu == 0)
		c->mtu = 1280;
	if (!c->iface[0])
		strcpy(c->iface, "wt0");
	if (!r.err && !c->private_key[0])
		fault(&r, "PrivateKey", "32 bytes in base64");
	if (!r.err && c->mtu < MTU_MIN)
		fault(&r, "MTU", "a whole number from 576 to 8192");
	if (r.err)
		client_config_fini(c);
	return r.err;
}

static json_t *list_json(const struct client_list *l, bool null_if_empty)
{
	json_t *a;

	if (!l->n && null_if_empty)
		return json_null();
	a = json_array();
	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(a, json_string(l->v[i]));
	return a;
}

static json_t *url_json(const struct client_url *u)
{
	if (!u->scheme[0])
		return json_null();
	return json_pack("{s:s,s:s,s:n,s:s,s:s,s:s,s:s,s:s,s:s,s:b,s:b}", "Scheme", u->scheme, "Opaque", "", "User",
			 "Host", u->host, "Path", u->path, "Fragment", "", "RawQuery", "", "RawPath", "",
			 "RawFragment", "", "ForceQuery", 0, "OmitHost", 0);
}

static json_t *number_or_null(int v)
{
	return v < 0 ? json_null() : json_integer(v);
}

static json_t *key_value(const struct client_config *c, const char *key)
{
	for (size_t i = 0; i < COUNT(switches); i++) {
		if (!strcmp(switches[i].key, key)) {
			enum client_tri v = *switch_at((struct client_config *)(uintptr_t)c, &switches[i]);

			return v == CLIENT_NIL ? json_null() : json_boolean(v == CLIENT_YES);
		}
	}
	if (!strcmp(key, "Name"))
		return json_string(c->name);
	if (!strcmp(key, "PrivateKey"))
		return json_string(c->private_key);
	if (!strcmp(key, "PreSharedKey"))
		return json_string(c->preshared_key);
	if (!strcmp(key, "ManagementURL"))
		return url_json(&c->management_url);
	if (!strcmp(key, "AdminURL"))
		return url_json(&c->admin_url);
	if (!strcmp(key, "WgIface"))
		return json_string(c->iface);
	if (!strcmp(key, "WgPort"))
		return json_integer(c->port);
	if (!strcmp(key, "MTU"))
		return json_integer(c->mtu);
	if (!strcmp(key, "IFaceBlackList"))
		return list_json(&c->iface_blacklist, true);
	if (!strcmp(key, "NATExternalIPs"))
		return list_json(&c->nat_external_ips, true);
	if (!strcmp(key, "DNSLabels"))
		return list_json(&c->dns_labels, true);
	if (!strcmp(key, "SSHJWTCacheTTL"))
		return number_or_null(c->ssh_jwt_cache_ttl);
	if (!strcmp(key, "SyncMessageVersion"))
		return number_or_null(c->sync_message_version);
	if (!strcmp(key, "SSHKey"))
		return json_string(c->ssh_key ? c->ssh_key : "");
	if (!strcmp(key, "CustomDNSAddress"))
		return json_string(c->custom_dns);
	if (!strcmp(key, "DNSRouteInterval"))
		return json_integer(c->dns_route_interval_ns);
	if (!strcmp(key, "ClientCertPath"))
		return json_string(c->client_cert);
	return json_string(c->client_cert_key);
}

static int append_text(const char *text, size_t n, void *out)
{
	return nb_buf_put(out, text, n) ? -1 : 0;
}

int client_config_encode(const struct client_config *c, struct nb_buf *out)
{
	json_t *doc = json_object();
	int r = 0;

	for (size_t i = 0; i < COUNT(key_order); i++)
		r |= json_object_set_new(doc, key_order[i], key_value(c, key_order[i]));
	if (c->unknown)
		r |= json_object_update_missing(doc, c->unknown);
	if (r || json_dump_callback(doc, append_text, out, JSON_INDENT(4)))
		out->err = out->err ? out->err : NB_E_NOMEM;
	json_decref(doc);
	return out->err;
}

static bool valid_key(const char *text)
{
	uint8_t raw[NB_KEY_LEN];
	size_t n = 0;
	bool ok = !nb_base64_decode(raw, sizeof raw, &n, nb_bytes_str(text)) && n == sizeof raw;

	nb_wipe(raw, sizeof raw);
	return ok;
}

static bool valid_iface(const char *name)
{
	return *name && strlen(name) < 16 && !strpbrk(name, "/ \t\n") && strcmp(name, ".") && strcmp(name, "..");
}

static int refuse(char *why, size_t cap, const char *text)
{
	snprintf(why, cap, "%s", text);
	return NB_E_ARG;
}

/* Every check happens before anything is changed. */
static int check_request(const Daemon__SetConfigRequest *r, char *why, size_t cap)
{
	struct client_url u;
	struct nb_endpoint e;
	char text[64];

	if (r->managementurl && *r->managementurl && client_url_parse(&u, r->managementurl))
		return refuse(why, cap, "management URL must be http://host[:port] or https://host[:port]");
	if (r->adminurl && *r->adminurl && client_url_parse(&u, r->adminurl))
		return refuse(why, cap, "admin URL must be http://host[:port] or https://host[:port]");
	if (r->interfacename && !valid_iface(r->interfacename))
		return refuse(why, cap, "interface name must have 1 to 15 characters without '/' or spaces");
	if (r->has_wireguardport && (r->wireguardport < 0 || r->wireguardport > 65535))
		return refuse(why, cap, "WireGuard port must be from 0 to 65535");
	if (r->has_mtu && (r->mtu < MTU_MIN || r->mtu > MTU_MAX))
		return refuse(why, cap, "MTU must be from 576 to 8192");
	if (r->optionalpresharedkey && *r->optionalpresharedkey && !valid_key(r->optionalpresharedkey))
		return refuse(why, cap, "preshared key must be 32 bytes in base64");
	if (r->n_dns_labels > 32)
		return refuse(why, cap, "at most 32 extra DNS labels are allowed");
	if (r->n_natexternalips > CLIENT_LIST_MAX || r->n_extraifaceblacklist > CLIENT_LIST_MAX / 2)
		return refuse(why, cap, "too many entries in a list");
	if (r->has_customdnsaddress && r->customdnsaddress.len) {
		snprintf(text, sizeof text, "%.*s", (int)r->customdnsaddress.len, (const char *)r->customdnsaddress.data);
		if (strcmp(text, "empty") && nb_endpoint_parse(&e, text))
			return refuse(why, cap, "DNS resolver address must be ip:port");
	}
	return 0;
}

static void set_tri(enum client_tri *out, protobuf_c_boolean has, protobuf_c_boolean v)
{
	if (has)
		*out = v ? CLIENT_YES : CLIENT_NO;
}

static void replace_list(struct client_list *l, size_t n, char **v, bool clear)
{
	if (!n && !clear)
		return;
	client_list_clear(l);
	for (size_t i = 0; i < n; i++)
		client_list_add(l, v[i]);
}

int client_config_apply(struct client_config *c, const Daemon__SetConfigRequest *r, char *why, size_t why_cap)
{
	int err = check_request(r, why, why_cap);

	if (err)
		return err;
	if (r->managementurl && *r->managementurl)
		client_url_parse(&c->management_url, r->managementurl);
	if (r->adminurl && *r->adminurl)
		client_url_parse(&c->admin_url, r->adminurl);
	if (r->interfacename)
		snprintf(c->iface, sizeof c->iface, "%s", r->interfacename);
	if (r->has_wireguardport)
		c->port = (int)r->wireguardport;
	if (r->has_mtu)
		c->mtu = (int)r->mtu;
	if (r->optionalpresharedkey)
		snprintf(c->preshared_key, sizeof c->preshared_key, "%s", r->optionalpresharedkey);
	if (r->has_customdnsaddress) {
		snprintf(c->custom_dns, sizeof c->custom_dns, "%.*s", (int)r->customdnsaddress.len,
			 (const char *)r->customdnsaddress.data);
		if (!strcmp(c->custom_dns, "empty"))
			c->custom_dns[0] = 0;
	}
	if (r->dnsrouteinterval)
		c->dns_route_interval_ns = r->dnsrouteinterval->seconds * 1000000000LL + r->dnsrouteinterval->nanos;
	if (r->has_sshjwtcachettl)
		c->ssh_jwt_cache_ttl = r->sshjwtcachettl;
	replace_list(&c->nat_external_ips, r->n_natexternalips, r->natexternalips, r->cleannatexternalips);
	replace_list(&c->dns_labels, r->n_dns_labels, r->dns_labels, r->cleandnslabels);
	for (size_t i = 0; i < r->n_extraifaceblacklist; i++)
		client_list_add(&c->iface_blacklist, r->extraifaceblacklist[i]);
	set_tri(&c->rosenpass_enabled, r->has_rosenpassenabled, r->rosenpassenabled);
	set_tri(&c->rosenpass_permissive, r->has_rosenpasspermissive, r->rosenpasspermissive);
	set_tri(&c->disable_auto_connect, r->has_disableautoconnect, r->disableautoconnect);
	set_tri(&c->server_ssh_allowed, r->has_serversshallowed, r->serversshallowed);
	set_tri(&c->network_monitor, r->has_networkmonitor, r->networkmonitor);
	set_tri(&c->disable_client_routes, r->has_disable_client_routes, r->disable_client_routes);
	set_tri(&c->disable_server_routes, r->has_disable_server_routes, r->disable_server_routes);
	set_tri(&c->disable_dns, r->has_disable_dns, r->disable_dns);
	set_tri(&c->disable_firewall, r->has_disable_firewall, r->disable_firewall);
	set_tri(&c->block_lan_access, r->has_block_lan_access, r->block_lan_access);
	set_tri(&c->disable_notifications, r->has_disable_notifications, r->disable_notifications);
	set_tri(&c->block_inbound, r->has_block_inbound, r->block_inbound);
	set_tri(&c->enable_ssh_root, r->has_enablesshroot, r->enablesshroot);
	set_tri(&c->enable_ssh_sftp, r->has_enablesshsftp, r->enablesshsftp);
	set_tri(&c->enable_ssh_local_forwarding, r->has_enablesshlocalportforwarding, r->enablesshlocalportforwarding);
	set_tri(&c->enable_ssh_remote_forwarding, r->has_enablesshremoteportforwarding,
		r->enablesshremoteportforwarding);
	set_tri(&c->disable_ssh_auth, r->has_disablesshauth, r->disablesshauth);
	set_tri(&c->disable_ipv6, r->has_disable_ipv6, r->disable_ipv6);
	return 0;
}
