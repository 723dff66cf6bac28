/* engine_relay.c - between the relay connections (client/relay_client.h) and the peer connections (client/conn.h): what
 * management names goes to the one, channels that open and close to the other, packets to the data plane.
 * Tests: tests/unit/client_engine_test.c */
#include "client/engine_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"

static void on_dial(void *arg, unsigned id, const struct relaymsg_url *url, const struct nb_addr *ip)
{
	struct client_engine *e = arg;

	e->cfg.ops->link_dial(e->cfg.arg, id, false, url, ip);
}

static void on_send(void *arg, unsigned id, struct nb_bytes head, struct nb_bytes body)
{
	struct client_engine *e = arg;

	e->cfg.ops->link_send(e->cfg.arg, id, head, body);
}

static void on_hang_up(void *arg, unsigned id)
{
	struct client_engine *e = arg;

	e->cfg.ops->link_hang_up(e->cfg.arg, id);
}

static void on_channel(void *arg, unsigned id, uint32_t channel, const uint8_t *peer, bool on)
{
	struct client_engine *e = arg;

	e->cfg.ops->link_channel(e->cfg.arg, id, channel, nb_bytes(peer, on ? RELAYMSG_ID_LEN : 0));
}

static void on_home(void *arg, bool moved)
{
	struct client_engine *e = arg;
	const char *url = client_relays_home(e->relays, &e->net.relay_ip);

	snprintf(e->net.relay_url, sizeof e->net.relay_url, "%s", url ? url : "");
	if (url)
		nb_info("relay: connected to %s", url);
	else
		nb_info("relay: %s", client_relays_error(e->relays));
	e->cfg.ops->changed(e->cfg.arg);
	if (!url)
		return;
	nb_list_each_safe(it, &e->open) {
		struct engine_peer *p = nb_container(it, struct engine_peer, open);
		struct client_conn_status s;

		client_conn_status(p->conn, &s);
		/* What goes by the relay before stays there until both have reason to talk. */
		if (moved && s.relay_up)
			continue;
		client_conn_relay_ready(p->conn, e->relay_now);
		client_engine_drain(e, p, e->relay_now);
	}
}

static void on_up(void *arg, void *user, uint32_t channel)
{
	struct client_engine *e = arg;
	struct engine_peer *p = user;

	client_conn_relay_up(p->conn, channel, e->relay_now);
	client_engine_drain(e, p, e->relay_now);
}

static void on_gone(void *arg, void *user, uint32_t channel, const char *why)
{
	struct client_engine *e = arg;
	struct engine_peer *p = user;

	(void)channel;
	nb_debug("relay: channel to %s closed: %s", p->fqdn ? p->fqdn : p->key_text, why);
	p->channel = 0;
	client_conn_relay_gone(p->conn, e->relay_now);
	client_engine_drain(e, p, e->relay_now);
}

/* Late packets of a path that was left are welcome, too: they never move WireGuard's endpoint back. */
static void on_data(void *arg, void *user, uint32_t channel, struct nb_bytes payload)
{
	struct client_engine *e = arg;
	struct wg_ep ep = { .kind = WG_EP_STREAM, .id = channel };

	(void)user;
	if (wg_looks_like(payload))
		e->cfg.ops->deliver(e->cfg.arg, &ep, payload);
}

static const struct client_relays_ops relay_ops = {
	on_dial, on_send, on_hang_up, on_home, on_up, on_gone, on_channel, on_data,
};

int client_engine_relays_new(struct client_engine *e)
{
	struct client_relays_config c = { .ops = &relay_ops, .arg = e, .random = e->cfg.random, .random_ctx = e->cfg.random_ctx };

	memcpy(c.self_key, e->self_key, sizeof c.self_key);
	e->relays = client_relays_new(&c);
	return e->relays ? 0 : NB_E_NOMEM;
}

/* The URLs of the environment instead of management's. Returns how many. */
static size_t own_urls(const char *list, char room[CLIENT_RELAYS_URLS][RELAYMSG_URL_MAX], const char *urls[CLIENT_RELAYS_URLS])
{
	size_t n = 0;

	for (const char *p = list; *p && n < CLIENT_RELAYS_URLS;) {
		size_t len = strcspn(p, ",");

		if (len && len < RELAYMSG_URL_MAX) {
			snprintf(room[n], RELAYMSG_URL_MAX, "%.*s", (int)len, p);
			urls[n] = room[n];
			n++;
		}
		p += len + (p[len] == ',');
	}
	return n;
}

void client_engine_relays_update(struct client_engine *e, const Management__NetbirdConfig *c, struct nb_time now)
{
	const Management__RelayConfig *r = c->relay;
	char room[CLIENT_RELAYS_URLS][RELAYMSG_URL_MAX];
	const char *own[CLIENT_RELAYS_URLS];
	const char *const *urls = r ? (const char *const *)r->urls : NULL;
	uint8_t token[RELAYMSG_TOKEN_MAX];
	size_t n = r ? r->n_urls : 0, n_token = r ? relaymsg_token_join(token, r->tokenpayload, r->tokensignature) : 0;

	if (n && e->cfg.home_relays && *e->cfg.home_relays) {
		n = own_urls(e->cfg.home_relays, room, own);
		urls = own;
	}
	e->relay_now = now;
	e->net.relay_configured = n > 0;
	client_relays_update(e->relays, urls, n, nb_bytes(token, n_token), now);
	nb_wipe(token, sizeof token);
}

void client_engine_relay_open_channel(struct client_engine *e, struct engine_peer *p, const struct client_conn_event *ev,
				      struct nb_time now)
{
	e->relay_now = now;
	client_relays_close(e->relays, p->channel);
	p->channel = client_relays_open(e->relays, p->key_text, ev->relay_url, &ev->remote.addr, p, now);
	if (!p->channel)
		client_conn_relay_gone(p->conn, now);
}

/* --- from the driver --- */

void client_engine_link_opened(struct client_engine *e, unsigned id, const struct nb_addr *ip, int64_t rtt_ns,
			       struct nb_time now)
{
	e->relay_now = now;
	if (id & SERVER_LINK)
		client_servers_link_opened(e, id, now);
	else
		client_relays_opened(e->relays, id, ip, rtt_ns, now);
}

void client_engine_link_message(struct client_engine *e, unsigned id, struct nb_bytes in, struct nb_time now)
{
	e->relay_now = now;
	if (id & SERVER_LINK)
		client_servers_link_message(e, id, in, now);
	else
		client_relays_message(e->relays, id, in, now);
}

void client_engine_link_lost(struct client_engine *e, unsigned id, const char *why, struct nb_time now)
{
	e->relay_now = now;
	if (id & SERVER_LINK)
		client_servers_link_lost(e, id, why, now);
	else
		client_relays_lost(e->relays, id, why, now);
	e->cfg.ops->changed(e->cfg.arg);
}
