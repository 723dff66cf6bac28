/* signal_msg.c - see signal_msg.h. Tests: tests/unit/client_signal_msg_test.c */
#include "client/signal_msg.h"

#include <stdio.h>

#include "base/err.h"

static int copy_text(char *out, size_t cap, const char *in, size_t n)
{
	if (n >= cap)
		return NB_E_BAD;
	memcpy(out, in, n);
	out[n] = 0;
	return 0;
}

static int read_credentials(struct client_signal_msg *out, const char *payload)
{
	const char *colon = strchr(payload, ':');

	if (!colon || strchr(colon + 1, ':') || copy_text(out->ufrag, sizeof out->ufrag, payload, (size_t)(colon - payload)) ||
	    copy_text(out->pwd, sizeof out->pwd, colon + 1, strlen(colon + 1)))
		return NB_E_BAD;
	/* One without the other is no credential at all. */
	if (!out->ufrag[0] || !out->pwd[0])
		out->ufrag[0] = out->pwd[0] = 0;
	return 0;
}

/* A number of a list of ours; one that we do not know yet says nothing. */
static unsigned known(bool has, uint32_t v, unsigned end)
{
	return has && v < end ? v : 0;
}

static void read_nat(struct ice_nat_report *out, const Nestbox__NatReport *n)
{
	out->udp = (enum ice_nat_udp)known(n->has_udp, n->udp, ICE_NAT_UDP_BLOCKED + 1);
	out->mapping = (enum ice_nat_mapping)known(n->has_mapping, n->mapping, ICE_NAT_MAP_END);
	out->filtering = (enum ice_nat_filtering)known(n->has_filtering, n->filtering, ICE_NAT_FILTER_END);
	out->hairpin = (enum ice_nat_hairpin)known(n->has_hairpin, n->hairpin, ICE_NAT_HAIRPIN_END);
	out->port_kept = n->port_kept;
}

static void read_features(struct client_signal_msg *out, const Nestbox__PeerFeatures *f)
{
	if (!f)
		return;
	out->rare_checks = f->rare_checks;
	out->path_lost = f->path_lost;
	out->relay_only = f->relay_only;
	if (f->nat)
		read_nat(&out->nat, f->nat);
}

static int read_offer(struct client_signal_msg *out, const Signalexchange__Body *b)
{
	if (!b->payload || read_credentials(out, b->payload))
		return NB_E_BAD;
	if (b->has_sessionid && b->sessionid.len == CLIENT_SESSION_LEN) {
		out->has_session = true;
		memcpy(out->session, b->sessionid.data, CLIENT_SESSION_LEN);
	}
	if (b->wglistenport <= 65535)
		out->wg_port = (uint16_t)b->wglistenport;
	read_features(out, b->nestbox);
	if (b->netbirdversion)
		snprintf(out->version, sizeof out->version, "%s", b->netbirdversion);
	if (b->relayserveraddress && strlen(b->relayserveraddress) < sizeof out->relay_url)
		strcpy(out->relay_url, b->relayserveraddress);
	if (b->has_relayserverip && (b->relayserverip.len == 4 || b->relayserverip.len == 16)) {
		out->relay_ip.family = b->relayserverip.len == 4 ? 4 : 6;
		memcpy(out->relay_ip.ip, b->relayserverip.data, b->relayserverip.len);
	}
	return 0;
}

int client_signal_from_body(struct client_signal_msg *out, const Signalexchange__Body *b)
{
	memset(out, 0, sizeof *out);
	/* A number of ours, of which protobuf's list knows nothing. */
	if (b->has_type && (int)b->type == CLIENT_SIGNAL_NAT) {
		out->type = CLIENT_SIGNAL_NAT;
		read_features(out, b->nestbox);
		return 0;
	}
	switch (b->has_type ? b->type : SIGNALEXCHANGE__BODY__TYPE__OFFER) {
	case SIGNALEXCHANGE__BODY__TYPE__OFFER:
		out->type = CLIENT_SIGNAL_OFFER;
		return read_offer(out, b);
	case SIGNALEXCHANGE__BODY__TYPE__ANSWER:
		out->type = CLIENT_SIGNAL_ANSWER;
		return read_offer(out, b);
	case SIGNALEXCHANGE__BODY__TYPE__CANDIDATE:
		out->type = CLIENT_SIGNAL_CANDIDATE;
		return b->payload ? copy_text(out->candidate, sizeof out->candidate, b->payload, strlen(b->payload))
				  : NB_E_BAD;
	case SIGNALEXCHANGE__BODY__TYPE__GO_IDLE:
		out->type = CLIENT_SIGNAL_GO_IDLE;
		return 0;
	default:
		return NB_E_UNSUPPORTED;
	}
}

static void put_nat(Signalexchange__Body *b, struct client_signal_hold *hold, const struct ice_nat_report *r)
{
	Nestbox__NatReport *n = &hold->nat;

	nestbox__nat_report__init(n);
	n->has_udp = (n->udp = r->udp) != 0;
	n->has_mapping = (n->mapping = r->mapping) != 0;
	n->has_filtering = (n->filtering = r->filtering) != 0;
	n->has_hairpin = (n->hairpin = r->hairpin) != 0;
	n->has_port_kept = n->port_kept = r->port_kept;
	b->nestbox->nat = n;
}

/* Stock skips it: the field's number is far above its own. */
static void put_features(Signalexchange__Body *b, struct client_signal_hold *hold, const struct client_signal_msg *m)
{
	static const struct ice_nat_report unknown;
	Nestbox__PeerFeatures *f = &hold->features;

	nestbox__peer_features__init(f);
	f->has_rare_checks = f->rare_checks = m->rare_checks;
	f->has_path_lost = f->path_lost = m->path_lost;
	f->has_relay_only = f->relay_only = m->relay_only;
	b->nestbox = f;
	if (!ice_nat_same(&m->nat, &unknown))
		put_nat(b, hold, &m->nat);
}

void client_signal_to_body(Signalexchange__Body *b, struct client_signal_hold *hold, const struct client_signal_msg *m)
{
	signalexchange__body__init(b);
	if (m->type != CLIENT_SIGNAL_OFFER) {
		b->has_type = 1;
		b->type = (Signalexchange__Body__Type)m->type;
	}
	if (m->type == CLIENT_SIGNAL_CANDIDATE)
		b->payload = (char *)(uintptr_t)m->candidate;
	if (m->type == CLIENT_SIGNAL_NAT)
		put_features(b, hold, m);
	if (m->type != CLIENT_SIGNAL_OFFER && m->type != CLIENT_SIGNAL_ANSWER)
		return;
	snprintf(hold->payload, sizeof hold->payload, "%s:%s", m->ufrag, m->pwd);
	signalexchange__rosenpass_config__init(&hold->rosenpass);
	b->payload = hold->payload;
	b->rosenpassconfig = &hold->rosenpass;
	b->netbirdversion = (char *)(uintptr_t)m->version;
	b->has_wglistenport = m->wg_port != 0;
	b->wglistenport = m->wg_port;
	if (m->rare_checks)
		put_features(b, hold, m);
	if (m->relay_url[0])
		b->relayserveraddress = (char *)(uintptr_t)m->relay_url;
	if (m->has_session) {
		b->has_sessionid = 1;
		b->sessionid.data = (uint8_t *)(uintptr_t)m->session;
		b->sessionid.len = CLIENT_SESSION_LEN;
	}
	if (m->relay_ip.family) {
		b->has_relayserverip = 1;
		b->relayserverip.data = (uint8_t *)(uintptr_t)m->relay_ip.ip;
		b->relayserverip.len = m->relay_ip.family == 4 ? 4 : 16;
	}
}
