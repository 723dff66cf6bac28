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
	out->rare_checks = b->nestbox && b->nestbox->rare_checks;
	out->path_lost = b->nestbox && b->nestbox->path_lost;
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

void client_signal_to_body(Signalexchange__Body *b, struct client_signal_hold *hold, const struct client_signal_msg *m)
{
	signalexchange__body__init(b);
	if (m->type != CLIENT_SIGNAL_OFFER) {
		b->has_type = 1;
		b->type = (Signalexchange__Body__Type)m->type;
	}
	if (m->type == CLIENT_SIGNAL_CANDIDATE)
		b->payload = (char *)(uintptr_t)m->candidate;
	if (m->type != CLIENT_SIGNAL_OFFER && m->type != CLIENT_SIGNAL_ANSWER)
		return;
	snprintf(hold->payload, sizeof hold->payload, "%s:%s", m->ufrag, m->pwd);
	signalexchange__rosenpass_config__init(&hold->rosenpass);
	b->payload = hold->payload;
	b->rosenpassconfig = &hold->rosenpass;
	b->netbirdversion = (char *)(uintptr_t)m->version;
	b->has_wglistenport = m->wg_port != 0;
	b->wglistenport = m->wg_port;
	if (m->rare_checks) {
		nestbox__peer_features__init(&hold->features);
		hold->features.has_rare_checks = hold->features.rare_checks = true;
		hold->features.has_path_lost = hold->features.path_lost = m->path_lost;
		b->nestbox = &hold->features;
	}
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
