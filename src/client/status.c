/* status.c - see status.h. What all forms share: the daemon's answer filtered and sorted, and the short
 * answers that need no form (hints, checks). The forms are in status_text.c, status_json.c and
 * status_why.c; how Go writes things is in status_go.c and status_notation.c. */
#include "client/status_int.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"

/* --- the answer, made comfortable */

static bool same_word(const char *a, const char *b)
{
	return strcasecmp(text(a), text(b)) == 0;
}

static const Daemon__FullStatus no_status = DAEMON__FULL_STATUS__INIT;
static const Daemon__ManagementState no_management = DAEMON__MANAGEMENT_STATE__INIT;
static const Daemon__SignalState no_signal = DAEMON__SIGNAL_STATE__INIT;
static const Daemon__LocalPeerState no_local = DAEMON__LOCAL_PEER_STATE__INIT;

const Daemon__ManagementState *client_management_of(const Daemon__FullStatus *s)
{
	return s->managementstate ? s->managementstate : &no_management;
}

const Daemon__SignalState *client_signal_of(const Daemon__FullStatus *s)
{
	return s->signalstate ? s->signalstate : &no_signal;
}

const Daemon__LocalPeerState *client_local_of(const Daemon__FullStatus *s)
{
	return s->localpeerstate ? s->localpeerstate : &no_local;
}

static bool shown(const struct client_status_filter *f, const struct peer *p)
{
	bool ip = f->n_ips == 0, name = f->n_names == 0;

	if (f->status && *f->status && !same_word(p->p->connstatus, f->status))
		return false;
	if (f->connection && *f->connection && !same_word(p->type, f->connection))
		return false;
	for (size_t i = 0; i < f->n_ips && !ip; i++)
		ip = !strcmp(f->ips[i], text(p->p->ip)) || !strcmp(f->ips[i], text(p->p->ipv6));
	for (size_t i = 0; i < f->n_names && !name; i++) {
		const char *want = f->names[i], *have = text(p->p->fqdn);

		while (*want && tolower((unsigned char)*want) == (unsigned char)*have)
			want++, have++;
		name = !*want;
	}
	return ip && name;
}

static int by_address(const void *a, const void *b)
{
	const struct peer *x = a, *y = b;
	int d = x->addr.family - y->addr.family;

	if (!d)
		d = memcmp(x->addr.ip, y->addr.ip, sizeof x->addr.ip);
	return d ? d : x->index < y->index ? -1 : 1;
}

void client_overview_init(struct overview *o, const struct client_status_view *v)
{
	memset(o, 0, sizeof *o);
	o->s = v->answer->fullstatus ? v->answer->fullstatus : &no_status;
	for (size_t i = 0; i < o->s->n_relays; i++)
		o->relays_available += o->s->relays[i]->available;
	if (!o->s->n_peers)
		return;
	o->peers = calloc(o->s->n_peers, sizeof *o->peers);
	if (!o->peers) {
		o->err = NB_E_NOMEM;
		return;
	}
	for (size_t i = 0; i < o->s->n_peers; i++) {
		struct peer p = { .p = o->s->peers[i], .type = "-", .index = i };

		p.connected = !strcmp(text(p.p->connstatus), "Connected");
		if (p.connected)
			p.type = p.p->relayed ? "Relayed" : "P2P";
		if (nb_addr_parse(&p.addr, text(p.p->ip)))
			memset(&p.addr, 0, sizeof p.addr);
		if (!shown(&v->filter, &p))
			continue;
		o->n_connected += p.connected;
		o->peers[o->n_peers++] = p;
	}
	qsort(o->peers, o->n_peers, sizeof *o->peers, by_address);
}

void client_overview_fini(struct overview *o)
{
	free(o->peers);
}

const char *client_severity_name(int v, char other[16])
{
	static const char *const names[] = { "INFO", "WARNING", "ERROR", "CRITICAL" };

	snprintf(other, 16, "%d", v);
	return v >= 0 && v < 4 ? names[v] : other;
}

const char *client_category_name(int v, char other[16])
{
	static const char *const names[] = { "NETWORK", "DNS", "AUTHENTICATION", "CONNECTIVITY", "SYSTEM" };

	snprintf(other, 16, "%d", v);
	return v >= 0 && v < 5 ? names[v] : other;
}

int64_t client_latency_of(const Daemon__PeerState *p)
{
	int64_t ns;

	if (!p->latency || __builtin_mul_overflow(p->latency->seconds, NB_SEC, &ns))
		return 0;
	return __builtin_add_overflow(ns, p->latency->nanos, &ns) ? 0 : ns;
}

/* Errors of several attempts come with a line each; they are shown on one. */
void client_one_line(struct nb_buf *out, const char *error)
{
	for (error = text(error); *error; error++)
		nb_buf_str(out, *error == '\n' ? "; " : (char[]){ *error, '\0' });
}

static int by_key(const void *a, const void *b)
{
	const Daemon__SystemEvent__MetadataEntry *const *x = a, *const *y = b;

	return strcmp(text((*x)->key), text((*y)->key));
}

/* The metadata of an event in the order of its keys; NULL when there is none (or no memory). */
Daemon__SystemEvent__MetadataEntry **client_sorted_metadata(const Daemon__SystemEvent *v)
{
	Daemon__SystemEvent__MetadataEntry **m;

	if (!v->n_metadata)
		return NULL;
	m = malloc(v->n_metadata * sizeof *m);
	if (!m)
		return NULL;
	memcpy(m, v->metadata, v->n_metadata * sizeof *m);
	qsort(m, v->n_metadata, sizeof *m, by_key);
	return m;
}

/* --- short answers */

bool client_status_login_hint(struct nb_buf *out, const Daemon__StatusResponse *r)
{
	const char *s = text(r->status);

	if (strcmp(s, "NeedsLogin") && strcmp(s, "LoginFailed") && strcmp(s, "SessionExpired"))
		return false;
	nb_buf_printf(out,
		      "Daemon status: %s\n\n"
		      "Run UP command to log in with SSO (interactive login):\n\n"
		      " netbird up \n\n"
		      "If you are running a self-hosted version and no SSO provider has been configured in your "
		      "Management Server,\n"
		      "you can use a setup-key:\n\n"
		      " netbird up --management-url <YOUR_MANAGEMENT_URL> --setup-key <YOUR_SETUP_KEY>\n\n"
		      "More info: https://docs.netbird.io/how-to/register-machines-using-setup-keys\n\n",
		      s);
	return true;
}

int client_status_ip(struct nb_buf *out, const char *prefix)
{
	struct nb_prefix p;
	char ip[NB_ADDR_TEXT];

	if (!strchr(text(prefix), '/') || nb_prefix_parse(&p, prefix))
		return out->err;
	nb_addr_format(ip, &p.addr);
	return nb_buf_printf(out, "%s\n", ip);
}

const char *client_status_filter_check(const struct client_status_filter *f, char *out, size_t cap)
{
	struct nb_addr a;

	if (*text(f->status) && !same_word(f->status, "idle") && !same_word(f->status, "connecting") &&
	    !same_word(f->status, "connected")) {
		snprintf(out, cap, "wrong status filter, should be one of connected|connecting|idle, got: %s", f->status);
		return out;
	}
	for (size_t i = 0; i < f->n_ips; i++) {
		if (nb_addr_parse(&a, f->ips[i])) {
			snprintf(out, cap, "got an invalid IP address in the filter: address %s, error "
				 "it is neither an IPv4 nor an IPv6 address", f->ips[i]);
			return out;
		}
	}
	if (*text(f->connection) && !same_word(f->connection, "p2p") && !same_word(f->connection, "relayed")) {
		snprintf(out, cap, "wrong connection-type filter, should be one of P2P|Relayed, got: %s", f->connection);
		return out;
	}
	return NULL;
}

static int check_ready(const char *status, char *why, size_t cap)
{
	if (!strcmp(status, "Idle") || !strcmp(status, "Connecting") || !strcmp(status, "Connected"))
		return 0;
	if (!strcmp(status, "NeedsLogin") || !strcmp(status, "LoginFailed") || !strcmp(status, "SessionExpired"))
		snprintf(why, cap, "readiness check: daemon status is %s", status);
	else
		snprintf(why, cap, "readiness check: unexpected daemon status \"%s\"", status);
	return NB_E_STATE;
}

static int check_startup(const Daemon__FullStatus *s, char *why, size_t cap)
{
	size_t relays = 0, available = 0;

	if (!s)
		snprintf(why, cap, "startup check: no full status available");
	else if (!client_management_of(s)->connected)
		snprintf(why, cap, "startup check: management not connected");
	else if (!client_signal_of(s)->connected)
		snprintf(why, cap, "startup check: signal not connected");
	else
		goto connected;
	return NB_E_STATE;
connected:
	for (size_t i = 0; i < s->n_relays; i++) {
		const char *uri = text(s->relays[i]->uri);

		if (strncmp(uri, "rel://", 6) && strncmp(uri, "rels://", 7))
			continue;
		relays++;
		available += s->relays[i]->available;
	}
	if (!relays || available)
		return 0;
	snprintf(why, cap, "startup check: no relay servers available (0/%zu connected)", relays);
	return NB_E_STATE;
}

int client_status_check(const Daemon__StatusResponse *r, const char *word, char *why, size_t cap)
{
	if (same_word(word, "live"))
		return 0;
	if (same_word(word, "ready"))
		return check_ready(text(r->status), why, cap);
	if (same_word(word, "startup"))
		return check_startup(r->fullstatus, why, cap);
	snprintf(why, cap, "unknown check \"%s\", must be one of: live, ready, startup", word);
	return NB_E_ARG;
}
