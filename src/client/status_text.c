/* status_text.c - `netbird status` and `netbird status -d`, as text. Tests: tests/unit/client_status_test.c. */
#include "client/status_int.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#if defined(__x86_64__)
#define ARCH "amd64"
#elif defined(__aarch64__)
#define ARCH "arm64"
#elif defined(__arm__)
#define ARCH_STRING(x) #x
#define ARCH_NUMBER(x) ARCH_STRING(x)
#define ARCH "arm (ARMv" ARCH_NUMBER(__ARM_ARCH) ")"
#elif defined(__i386__)
#define ARCH "386"
#elif defined(__riscv)
#define ARCH "riscv64"
#elif defined(__mips64)
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCH "mips64le"
#else
#define ARCH "mips64"
#endif
#elif defined(__mips__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCH "mipsle"
#elif defined(__mips__)
#define ARCH "mips"
#else
#define ARCH "unknown"
#endif

const char *client_status_os(void)
{
	return "linux/" ARCH;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "a, b" in order of the texts when sorted is set. */
static void join(struct nb_buf *out, char *const *v, size_t n, bool sorted)
{
	char **order = n ? malloc(n * sizeof *order) : NULL;

	if (n && !order) {
		out->err = NB_E_NOMEM;
		return;
	}
	if (n)
		memcpy(order, v, n * sizeof *order);
	if (sorted && n)
		qsort(order, n, sizeof *order, by_text);
	for (size_t i = 0; i < n; i++)
		nb_buf_printf(out, "%s%s", i ? ", " : "", order[i]);
	free(order);
}

static void networks_text(struct nb_buf *out, char *const *v, size_t n)
{
	if (n)
		join(out, v, n, true);
	else
		nb_buf_str(out, "-");
}

static void server_line(struct nb_buf *out, const char *name, bool connected, const char *url, const char *error,
			bool full)
{
	nb_buf_printf(out, "%s: %s", name, connected ? "Connected" : "Disconnected");
	if (connected && full)
		nb_buf_printf(out, " to %s", text(url));
	if (!connected && *text(error))
		nb_buf_printf(out, ", reason: %s", error);
	nb_buf_u8(out, '\n');
}

/* What a daemon says about a STUN or TURN server while it is being asked. */
#define PROBE_RUNNING "probe check is already in progress"

static void relays_text(struct nb_buf *out, const struct overview *o, bool full)
{
	nb_buf_str(out, "Relays: ");
	if (!full)
		nb_buf_printf(out, "%zu/%zu Available", o->relays_available, o->s->n_relays);
	for (size_t i = 0; full && i < o->s->n_relays; i++) {
		const Daemon__RelayState *r = o->s->relays[i];

		nb_buf_printf(out, "\n  [%s] is ", text(r->uri));
		if (r->available) {
			nb_buf_str(out, "Available");
			if (*text(r->transport))
				nb_buf_printf(out, " via %s", r->transport);
		} else if (!strcmp(text(r->error), PROBE_RUNNING)) {
			nb_buf_str(out, "Checking...");
		} else {
			nb_buf_str(out, "Unavailable, reason: ");
			client_one_line(out, r->error);
		}
	}
	nb_buf_u8(out, '\n');
}

static void dns_text(struct nb_buf *out, const Daemon__FullStatus *s, bool full)
{
	size_t enabled = 0;

	for (size_t i = 0; i < s->n_dns_servers; i++)
		enabled += s->dns_servers[i]->enabled;
	nb_buf_str(out, "Nameservers: ");
	if (!full)
		nb_buf_printf(out, "%zu/%zu Available", enabled, s->n_dns_servers);
	for (size_t i = 0; full && i < s->n_dns_servers; i++) {
		const Daemon__NSGroupState *g = s->dns_servers[i];

		nb_buf_str(out, "\n  [");
		join(out, g->servers, g->n_servers, false);
		nb_buf_str(out, "] for [");
		if (g->n_domains == 0 || (g->n_domains == 1 && !*g->domains[0]))
			nb_buf_str(out, ".");
		else
			join(out, g->domains, g->n_domains, false);
		nb_buf_printf(out, "] is %s", g->enabled ? "Available" : "Unavailable");
		if (*text(g->error)) {
			size_t n = strlen(g->error);

			while (n && isspace((unsigned char)g->error[n - 1]))
				n--;
			nb_buf_printf(out, ", reason:%s%.*s", n ? " " : "", (int)n, g->error);
		}
	}
	nb_buf_u8(out, '\n');
}

static void ssh_text(struct nb_buf *out, const Daemon__SSHServerState *s, bool full)
{
	nb_buf_printf(out, "SSH Server: %s", s && s->enabled ? "Enabled" : "Disabled");
	if (s && s->enabled && s->n_sessions)
		nb_buf_printf(out, " (%zu active session%s)", s->n_sessions, s->n_sessions > 1 ? "s" : "");
	for (size_t i = 0; s && s->enabled && full && i < s->n_sessions; i++) {
		const Daemon__SSHSessionInfo *x = s->sessions[i];

		if (*text(x->jwtusername))
			nb_buf_printf(out, "\n  [%s@%s -> %s] %s", x->jwtusername, text(x->remoteaddress),
				      text(x->username), text(x->command));
		else
			nb_buf_printf(out, "\n  [%s@%s] %s", text(x->username), text(x->remoteaddress),
				      text(x->command));
		for (size_t k = 0; k < x->n_portforwards; k++)
			nb_buf_printf(out, "\n    %s", x->portforwards[k]);
	}
	nb_buf_u8(out, '\n');
}

static void expiry_text(struct nb_buf *out, const struct client_status_view *v)
{
	struct stamp t = stamp_of(v->answer->sessionexpiresat, true);
	char when[64], left[48];
	int64_t ns;

	if (!v->answer->sessionexpiresat)
		return;
	if (__builtin_mul_overflow(t.seconds, NB_SEC, &ns))
		ns = t.seconds < 0 ? INT64_MIN / 2 : INT64_MAX / 2;
	client_remaining_text(left, sizeof left, ns + t.nanos - v->now.ns);
	t.nanos = 0;
	client_rfc3339(when, t, 0);
	nb_buf_printf(out, "Session expires: %s (in %s)\n", when, left);
}

static void general(struct nb_buf *out, const struct overview *o, const struct client_status_view *v, bool full)
{
	const Daemon__FullStatus *s = o->s;
	const Daemon__LocalPeerState *l = client_local_of(s);
	const Daemon__ManagementState *m = client_management_of(s);
	const Daemon__SignalState *g = client_signal_of(s);
	bool has_ip = *text(l->ip) || l->kernelinterface;

	nb_buf_printf(out, "OS: %s\n", client_status_os());
	nb_buf_printf(out, "Daemon version: %s\n", *text(v->answer->daemonversion) ? v->answer->daemonversion : "N/A");
	nb_buf_printf(out, "CLI version: %s\n", v->cli_version);
	nb_buf_printf(out, "Profile: %s\n", text(v->profile));
	server_line(out, "Management", m->connected, m->url, m->error, full);
	server_line(out, "Signal", g->connected, g->url, g->error, full);
	relays_text(out, o, full);
	dns_text(out, s, full);
	nb_buf_printf(out, "FQDN: %s\n", text(l->fqdn));
	nb_buf_printf(out, "NetBird IP: %s\n", has_ip ? text(l->ip) : "N/A");
	if (*text(l->ipv6))
		nb_buf_printf(out, "NetBird IPv6: %s\n", l->ipv6);
	nb_buf_printf(out, "Interface type: %s\n", l->kernelinterface ? "Kernel" : has_ip ? "Userspace" : "N/A");
	if (l->wgport > 0)
		nb_buf_printf(out, "Wireguard port: %d\n", l->wgport);
	else
		nb_buf_str(out, "Wireguard port: N/A\n");
	nb_buf_printf(out, "Quantum resistance: %s\n",
		      !l->rosenpassenabled ? "false" : l->rosenpasspermissive ? "true (permissive)" : "true");
	nb_buf_printf(out, "Lazy connection: %s\n", s->lazyconnectionenabled ? "true" : "false");
	ssh_text(out, s->sshserverstate, full);
	nb_buf_str(out, "Networks: ");
	networks_text(out, l->networks, l->n_networks);
	nb_buf_u8(out, '\n');
	if (s->numberofforwardingrules > 0)
		nb_buf_printf(out, "Forwarding rules: %d\n", s->numberofforwardingrules);
	expiry_text(out, v);
	nb_buf_printf(out, "Peers count: %zu/%zu Connected\n", o->n_connected, o->n_peers);
}

static const char *dash(const char *s, bool up)
{
	return up && *text(s) ? s : "-";
}

static const char *quantum_text(const Daemon__LocalPeerState *l, const Daemon__PeerState *p)
{
	if (l->rosenpassenabled && p->rosenpassenabled)
		return "true";
	if (l->rosenpassenabled && l->rosenpasspermissive)
		return "false (remote didn't enable quantum resistance)";
	if (l->rosenpassenabled)
		return "false (connection won't work without a permissive mode)";
	if (p->rosenpassenabled)
		return "false (connection might not work without a remote permissive mode)";
	return "false";
}

static void peer_text(struct nb_buf *out, const struct peer *p, const struct overview *o,
		      const struct client_status_view *v)
{
	const Daemon__PeerState *s = p->p;
	struct stamp update = stamp_of(s->connstatusupdate, false);
	struct stamp shake = p->connected ? stamp_of(s->lastwireguardhandshake, false) : (struct stamp){ 0 };
	char age[64], shake_age[64], rx[32], tx[32], latency[40];

	client_age(age, sizeof age, update.seconds, update.nanos, v->now);
	client_age(shake_age, sizeof shake_age, shake.seconds, shake.nanos, v->now);
	client_size_text(rx, sizeof rx, p->connected ? s->bytesrx : 0);
	client_size_text(tx, sizeof tx, p->connected ? s->bytestx : 0);
	client_go_duration(latency, sizeof latency, client_latency_of(s));
	nb_buf_printf(out, "\n %s:\n  NetBird IP: %s\n", text(s->fqdn), text(s->ip));
	if (*text(s->ipv6))
		nb_buf_printf(out, "  NetBird IPv6: %s\n", s->ipv6);
	nb_buf_printf(out, "  Public key: %s\n  Status: %s\n  -- detail --\n", text(s->pubkey), text(s->connstatus));
	nb_buf_printf(out, "  Connection type: %s\n", p->type);
	nb_buf_printf(out, "  ICE candidate (Local/Remote): %s/%s\n", dash(s->localicecandidatetype, p->connected),
		      dash(s->remoteicecandidatetype, p->connected));
	nb_buf_printf(out, "  ICE candidate endpoints (Local/Remote): %s/%s\n",
		      dash(s->localicecandidateendpoint, p->connected),
		      dash(s->remoteicecandidateendpoint, p->connected));
	nb_buf_printf(out, "  Relay server address: %s\n", p->connected ? text(s->relayaddress) : "");
	nb_buf_printf(out, "  Last connection update: %s\n  Last WireGuard handshake: %s\n", age, shake_age);
	nb_buf_printf(out, "  Transfer status (received/sent) %s/%s\n", rx, tx);
	nb_buf_printf(out, "  Quantum resistance: %s\n", quantum_text(client_local_of(o->s), s));
	nb_buf_str(out, "  Networks: ");
	networks_text(out, s->networks, s->n_networks);
	nb_buf_printf(out, "\n  Latency: %s\n", latency);
}

static void event_text(struct nb_buf *out, const Daemon__SystemEvent *x, struct nb_wall now)
{
	Daemon__SystemEvent__MetadataEntry **m = client_sorted_metadata(x);
	struct stamp t = stamp_of(x->timestamp, true);
	char age[64], a[16], b[16];

	client_age(age, sizeof age, t.seconds, t.nanos, now);
	nb_buf_printf(out, "\n  [%s] %s (%s)\n    Message: %s\n    Time: %s", client_severity_name((int)x->severity, a),
		      client_category_name((int)x->category, b), text(x->id), text(x->message), age);
	for (size_t i = 0; m && i < x->n_metadata; i++)
		nb_buf_printf(out, "%s%s: %s", i ? ", " : "\n    Metadata: ", text(m[i]->key), text(m[i]->value));
	free(m);
}

int client_status_summary(struct nb_buf *out, const struct client_status_view *v)
{
	struct overview o;

	client_overview_init(&o, v);
	if (o.err)
		return o.err;
	general(out, &o, v, false);
	client_overview_fini(&o);
	return out->err;
}

int client_status_detail(struct nb_buf *out, const struct client_status_view *v)
{
	struct overview o;

	client_overview_init(&o, v);
	if (o.err)
		return o.err;
	nb_buf_str(out, "Peers detail:");
	for (size_t i = 0; i < o.n_peers; i++)
		peer_text(out, &o.peers[i], &o, v);
	nb_buf_str(out, "\nEvents:");
	if (!o.s->n_events)
		nb_buf_str(out, " No events recorded");
	for (size_t i = 0; i < o.s->n_events; i++)
		event_text(out, o.s->events[i], v->now);
	nb_buf_u8(out, '\n');
	general(out, &o, v, true);
	client_overview_fini(&o);
	return out->err;
}
