/* status_json.c - `netbird status --json` and `--yaml`: one walk over the daemon's answer for both
 * (status_notation.c). The key of ours is status_why.c's. Tests: tests/unit/client_status_test.c. */
#include "client/status_int.h"

#include <stdlib.h>

static void put_pair(struct emitter *e, const char *name, const char *local, const char *remote)
{
	client_put_key(e, name);
	client_put_map_open(e);
	client_put_string(e, "local", local);
	client_put_string(e, "remote", remote);
	client_put_map_close(e);
}

static void put_peer(struct emitter *e, const struct peer *p, const struct client_status_view *v)
{
	const Daemon__PeerState *s = p->p;
	bool up = p->connected;
	struct stamp none = { GO_ZERO_SECONDS, 0, true };

	client_put_item_open(e);
	client_put_string(e, "fqdn", s->fqdn);
	client_put_string(e, "netbirdIp", s->ip);
	client_put_string_if(e, "netbirdIpv6", s->ipv6);
	client_put_string(e, "publicKey", s->pubkey);
	client_put_string(e, "status", s->connstatus);
	client_put_time(e, "lastStatusUpdate", stamp_of(s->connstatusupdate, false), v);
	client_put_string(e, "connectionType", p->type);
	put_pair(e, "iceCandidateType", up ? s->localicecandidatetype : "", up ? s->remoteicecandidatetype : "");
	put_pair(e, "iceCandidateEndpoint", up ? s->localicecandidateendpoint : "",
		 up ? s->remoteicecandidateendpoint : "");
	client_put_string(e, "relayAddress", up ? s->relayaddress : "");
	client_put_time(e, "lastWireguardHandshake", up ? stamp_of(s->lastwireguardhandshake, false) : none, v);
	client_put_int(e, "transferReceived", up ? s->bytesrx : 0);
	client_put_int(e, "transferSent", up ? s->bytestx : 0);
	client_put_duration(e, "latency", client_latency_of(s));
	client_put_bool(e, "quantumResistance", s->rosenpassenabled);
	client_put_strings(e, "networks", s->networks, s->n_networks);
	client_put_map_close(e);
}

static void put_peers(struct emitter *e, const struct overview *o, const struct client_status_view *v)
{
	client_put_key(e, "peers");
	client_put_map_open(e);
	client_put_int(e, "total", (int64_t)o->n_peers);
	client_put_int(e, "connected", (int64_t)o->n_connected);
	client_put_key(e, "details");
	if (client_put_list_open(e, o->n_peers, "null")) {
		for (size_t i = 0; i < o->n_peers; i++)
			put_peer(e, &o->peers[i], v);
		client_put_list_close(e);
	}
	client_put_map_close(e);
}

static void put_server(struct emitter *e, const char *name, const char *url, bool connected, const char *error)
{
	client_put_key(e, name);
	client_put_map_open(e);
	client_put_string(e, "url", url);
	client_put_bool(e, "connected", connected);
	client_put_string(e, "error", error);
	client_put_map_close(e);
}

static void put_relays(struct emitter *e, const struct overview *o)
{
	client_put_key(e, "relays");
	client_put_map_open(e);
	client_put_int(e, "total", (int64_t)o->s->n_relays);
	client_put_int(e, "available", (int64_t)o->relays_available);
	client_put_key(e, "details");
	if (client_put_list_open(e, o->s->n_relays, "null")) {
		for (size_t i = 0; i < o->s->n_relays; i++) {
			const Daemon__RelayState *r = o->s->relays[i];
			struct nb_buf error;

			nb_buf_init(&error, 65536);
			client_one_line(&error, r->error);
			client_put_item_open(e);
			client_put_string(e, "uri", r->uri);
			client_put_bool(e, "available", r->available);
			client_put_string(e, "error", nb_buf_cstr(&error));
			client_put_string_if(e, "transport", r->transport);
			client_put_map_close(e);
			nb_buf_fini(&error);
		}
		client_put_list_close(e);
	}
	client_put_map_close(e);
}

static void put_dns(struct emitter *e, const Daemon__FullStatus *s)
{
	client_put_key(e, "dnsServers");
	if (!client_put_list_open(e, s->n_dns_servers, "[]"))
		return;
	for (size_t i = 0; i < s->n_dns_servers; i++) {
		const Daemon__NSGroupState *g = s->dns_servers[i];

		client_put_item_open(e);
		client_put_strings(e, "servers", g->servers, g->n_servers);
		client_put_strings(e, "domains", g->domains, g->n_domains);
		client_put_bool(e, "enabled", g->enabled);
		client_put_string(e, "error", g->error);
		client_put_map_close(e);
	}
	client_put_list_close(e);
}

static void put_metadata(struct emitter *e, const Daemon__SystemEvent *v)
{
	Daemon__SystemEvent__MetadataEntry **m = client_sorted_metadata(v);

	client_put_key(e, "metadata");
	if (!m) {
		client_put_raw(e, e->yaml ? "{}" : "null");
		return;
	}
	client_put_map_open(e);
	for (size_t i = 0; i < v->n_metadata; i++)
		client_put_string(e, text(m[i]->key), m[i]->value);
	client_put_map_close(e);
	free(m);
}

static void put_events(struct emitter *e, const Daemon__FullStatus *s, const struct client_status_view *v)
{
	char other[16];

	client_put_key(e, "events");
	if (!client_put_list_open(e, s->n_events, "[]"))
		return;
	for (size_t i = 0; i < s->n_events; i++) {
		const Daemon__SystemEvent *x = s->events[i];

		client_put_item_open(e);
		client_put_string(e, "id", x->id);
		client_put_string(e, "severity", client_severity_name((int)x->severity, other));
		client_put_string(e, "category", client_category_name((int)x->category, other));
		client_put_string(e, "message", x->message);
		client_put_string(e, "userMessage", x->usermessage);
		client_put_time(e, "timestamp", stamp_of(x->timestamp, true), v);
		put_metadata(e, x);
		client_put_map_close(e);
	}
	client_put_list_close(e);
}

static void put_ssh(struct emitter *e, const Daemon__SSHServerState *s)
{
	client_put_key(e, "sshServer");
	client_put_map_open(e);
	client_put_bool(e, "enabled", s && s->enabled);
	client_put_key(e, "sessions");
	if (client_put_list_open(e, s ? s->n_sessions : 0, "[]")) {
		for (size_t i = 0; i < s->n_sessions; i++) {
			const Daemon__SSHSessionInfo *x = s->sessions[i];

			client_put_item_open(e);
			client_put_string(e, "username", x->username);
			client_put_string(e, "remoteAddress", x->remoteaddress);
			client_put_string(e, "command", x->command);
			client_put_string_if(e, "jwtUsername", x->jwtusername);
			if (x->n_portforwards)
				client_put_strings(e, "portForwards", x->portforwards, x->n_portforwards);
			client_put_map_close(e);
		}
		client_put_list_close(e);
	}
	client_put_map_close(e);
}

static void put_overview(struct emitter *e, const struct overview *o, const struct client_status_view *v)
{
	const Daemon__FullStatus *s = o->s;
	const Daemon__LocalPeerState *l = client_local_of(s);
	const Daemon__ManagementState *m = client_management_of(s);
	const Daemon__SignalState *g = client_signal_of(s);

	put_peers(e, o, v);
	client_put_string(e, "cliVersion", v->cli_version);
	client_put_string(e, "daemonVersion", v->answer->daemonversion);
	client_put_string(e, "daemonStatus", v->answer->status);
	put_server(e, "management", m->url, m->connected, m->error);
	put_server(e, "signal", g->url, g->connected, g->error);
	put_relays(e, o);
	client_put_string(e, "netbirdIp", l->ip);
	client_put_string_if(e, "netbirdIpv6", l->ipv6);
	client_put_string(e, "publicKey", l->pubkey);
	client_put_bool(e, "usesKernelInterface", l->kernelinterface);
	client_put_int(e, "wireguardPort", l->wgport);
	client_put_string(e, "fqdn", l->fqdn);
	client_put_bool(e, "quantumResistance", l->rosenpassenabled);
	client_put_bool(e, "quantumResistancePermissive", l->rosenpasspermissive);
	client_put_strings(e, "networks", l->networks, l->n_networks);
	client_put_int(e, "forwardingRules", s->numberofforwardingrules);
	put_dns(e, s);
	put_events(e, s, v);
	client_put_bool(e, "lazyConnectionEnabled", s->lazyconnectionenabled);
	client_put_string(e, "profileName", v->profile);
	put_ssh(e, s->sshserverstate);
	if (v->answer->sessionexpiresat)
		client_put_time(e, "sessionExpiresAt", stamp_of(v->answer->sessionexpiresat, true), v);
	if (v->why)
		client_put_why(e, o);
}

static int notation(struct nb_buf *out, const struct client_status_view *v, bool yaml)
{
	struct emitter e = { .b = out, .yaml = yaml, .empty = { true } };
	struct overview o;

	client_overview_init(&o, v);
	if (o.err)
		return o.err;
	if (!yaml)
		nb_buf_u8(out, '{');
	put_overview(&e, &o, v);
	if (!yaml)
		nb_buf_u8(out, '}');
	client_overview_fini(&o);
	return out->err;
}

int client_status_json(struct nb_buf *out, const struct client_status_view *v)
{
	return notation(out, v, false);
}

int client_status_yaml(struct nb_buf *out, const struct client_status_view *v)
{
	return notation(out, v, true);
}
