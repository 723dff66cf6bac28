/* config.c - option values of the relay, see relay.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "crypto/crypto.h"
#include "relay/relay.h"

void relay_config_default(struct relay_config *c)
{
	memset(c, 0, sizeof *c);
	strcpy(c->realm, "nestbox");
	c->port_min = RELAY_PORT_FIRST;
	c->port_max = RELAY_PORT_FIRST + RELAY_PORTS_DEFAULT - 1;
}

bool relay_config_turn(const struct relay_config *c)
{
	return c->secret[0] || c->nusers;
}

/* Call fn for each part between commas; blanks around a part are dropped. */
static int each_part(struct relay_config *c, const char *text, int (*fn)(struct relay_config *c, const char *))
{
	char part[128];

	for (;;) {
		size_t n = strcspn(text, ","), first = strspn(text, " "), last = n;
		int r;

		first = first < n ? first : n;
		while (last > first && text[last - 1] == ' ')
			last--;
		if (last == first || last - first >= sizeof part)
			return NB_E_CONFIG;
		memcpy(part, text + first, last - first);
		part[last - first] = 0;
		r = fn(c, part);
		if (r)
			return r;
		if (!text[n])
			return 0;
		text += n + 1;
	}
}

int relay_set_text(char *out, size_t cap, const char *text)
{
	size_t n = strlen(text);

	if (n == 0 || n >= cap)
		return NB_E_CONFIG;
	memcpy(out, text, n + 1);
	return 0;
}

int relay_set_number(uint32_t *out, uint32_t min, uint32_t max, const char *text)
{
	uint64_t v = 0;

	if (!*text || strlen(text) > 10)
		return NB_E_CONFIG;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return NB_E_CONFIG;
		v = v * 10 + (uint64_t)(*text - '0');
	}
	if (v < min || v > max)
		return NB_E_CONFIG;
	*out = (uint32_t)v;
	return 0;
}

int relay_set_rate(uint64_t *out, const char *text)
{
	static const char units[] = "kMG";
	size_t n = strspn(text, "0123456789");
	const char *unit = text[n] ? strchr(units, text[n]) : NULL;
	uint64_t v = 0;

	if (n == 0 || n > 13 || (text[n] && (!unit || text[n + 1])))
		return NB_E_CONFIG;
	for (size_t i = 0; i < n; i++)
		v = v * 10 + (uint64_t)(text[i] - '0');
	for (ptrdiff_t i = unit ? unit - units + 1 : 0; i > 0; i--) {
		if (v > NB_RATE_MAX)
			return NB_E_CONFIG;
		v *= 1000;
	}
	if (v > NB_RATE_MAX)
		return NB_E_CONFIG;
	*out = v;
	return 0;
}

static int add(struct nb_endpoint list[RELAY_LISTEN_MAX], size_t *n, const struct nb_endpoint *e)
{
	for (size_t i = 0; i < *n; i++)
		if (nb_endpoint_eq(&list[i], e))
			return 0;
	if (*n == RELAY_LISTEN_MAX)
		return NB_E_FULL;
	list[(*n)++] = *e;
	return 0;
}

static int add_listen(struct relay_config *c, const struct nb_endpoint *e)
{
	return add(c->listen, &c->nlisten, e);
}

static int one_port(struct relay_config *c, const char *text)
{
	struct nb_endpoint e = { 0 };
	uint32_t port;

	if (relay_set_number(&port, 1, 65535, text))
		return NB_E_CONFIG;
	e.port = (uint16_t)port;
	return add_listen(c, &e);
}

/* "ADDR:PORT", or ":PORT" for every address. */
static int read_listen(struct nb_endpoint *e, const char *text)
{
	uint32_t port;

	if (text[0] != ':')
		return nb_endpoint_parse(e, text) || !e->port ? NB_E_CONFIG : 0;
	if (relay_set_number(&port, 1, 65535, text + 1))
		return NB_E_CONFIG;
	*e = (struct nb_endpoint){ .port = (uint16_t)port };
	return 0;
}

static int one_listen(struct relay_config *c, const char *text)
{
	struct nb_endpoint e;
	int r = read_listen(&e, text);

	return r ? r : add_listen(c, &e);
}

static int one_tcp(struct relay_config *c, const char *text)
{
	struct nb_endpoint e;
	int r = read_listen(&e, text);

	return r ? r : add(c->tcp, &c->ntcp, &e);
}

int relay_set_tcp(struct relay_config *c, const char *text)
{
	c->no_tcp = strcmp(text, "off") == 0;
	c->ntcp = 0;
	return c->no_tcp ? 0 : each_part(c, text, one_tcp);
}

int relay_set_listen(struct relay_config *c, const char *text)
{
	return each_part(c, text, one_listen);
}

int relay_set_stun_ports(struct relay_config *c, const char *text)
{
	return each_part(c, text, one_port);
}

int relay_set_alt_port(struct relay_config *c, const char *text)
{
	uint32_t port = 0;

	c->no_alt_port = strcmp(text, "off") == 0;
	if (!c->no_alt_port && relay_set_number(&port, 1, 65535, text))
		return NB_E_CONFIG;
	c->alt_port = (uint16_t)port;
	return 0;
}

static int one_alt_ip(struct relay_config *c, const char *text)
{
	struct nb_addr a;

	if (nb_addr_parse(&a, text) || nb_addr_is_unspecified(&a))
		return NB_E_CONFIG;
	*(a.family == 4 ? &c->alt4 : &c->alt6) = a;
	return 0;
}

int relay_set_alt_ip(struct relay_config *c, const char *text)
{
	return each_part(c, text, one_alt_ip);
}

int relay_set_ports(struct relay_config *c, const char *text)
{
	char low[8];
	size_t n = strcspn(text, "-");
	uint32_t a, b;

	if (!text[n]) {
		if (relay_set_number(&a, 1, 65536 - RELAY_PORT_FIRST, text))
			return NB_E_CONFIG;
		c->port_min = RELAY_PORT_FIRST;
		c->port_max = (uint16_t)(RELAY_PORT_FIRST + a - 1);
		return 0;
	}
	if (n >= sizeof low)
		return NB_E_CONFIG;
	memcpy(low, text, n);
	low[n] = 0;
	if (relay_set_number(&a, 1024, 65535, low) || relay_set_number(&b, a, 65535, text + n + 1))
		return NB_E_CONFIG;
	c->port_min = (uint16_t)a;
	c->port_max = (uint16_t)b;
	return 0;
}

int relay_set_metrics(struct nb_endpoint *e, const char *text)
{
	uint32_t port;

	if (strchr(text, ':'))
		return nb_endpoint_parse(e, text) || !e->port ? NB_E_CONFIG : 0;
	if (relay_set_number(&port, 0, 65535, text))
		return NB_E_CONFIG;
	*e = (struct nb_endpoint){ nb_addr4(0x7f000001), (uint16_t)port };
	return 0;
}

static int one_allow(struct relay_config *c, const char *text)
{
	if (c->nallow == RELAY_ALLOW_MAX)
		return NB_E_FULL;
	if (nb_prefix_parse(&c->allow[c->nallow], text))
		return NB_E_CONFIG;
	nb_prefix_mask(&c->allow[c->nallow++]);
	return 0;
}

int relay_set_allow(struct relay_config *c, const char *text)
{
	return each_part(c, text, one_allow);
}

int relay_set_user(struct relay_config *c, const char *text)
{
	size_t n = strcspn(text, ":");

	if (c->nusers == RELAY_USERS_MAX)
		return NB_E_FULL;
	if (n == 0 || n >= sizeof c->users->name || !text[n] ||
	    relay_set_text(c->users[c->nusers].password, sizeof c->users->password, text + n + 1))
		return NB_E_CONFIG;
	memcpy(c->users[c->nusers].name, text, n);
	c->users[c->nusers++].name[n] = 0;
	return 0;
}

static int one_external(struct relay_config *c, const char *text)
{
	struct nb_addr a;

	if (nb_addr_parse(&a, text) || nb_addr_is_unspecified(&a))
		return NB_E_CONFIG;
	*(a.family == 4 ? &c->relay4 : &c->relay6) = a;
	return 0;
}

int relay_set_external(struct relay_config *c, const char *text)
{
	return each_part(c, text, one_external);
}

int relay_set_url(struct relay_config *c, const char *text, bool tls)
{
	const char *scheme = strstr(text, "://");
	struct relaymsg_url u;
	int n;

	n = snprintf(c->url, sizeof c->url, "%s%s", scheme ? "" : tls ? "rels://" : "rel://", text);
	if (n < 0 || (size_t)n >= sizeof c->url || relaymsg_url_parse(&u, c->url)) {
		c->url[0] = 0;
		return NB_E_CONFIG;
	}
	if (tls && !u.tls) {
		c->url[0] = 0;
		return NB_E_DENIED;
	}
	return 0;
}

void relay_protocol_config(const struct relay_config *c, struct relay_hub_config *out)
{
	*out = (struct relay_hub_config){ 0 };
	snprintf(out->url, sizeof out->url, "%s", c->url);
	relaymsg_key(out->key, nb_bytes_str(c->auth_secret));
	out->user_rate = nb_rate(c->user_rate);
	out->total_rate = nb_rate(c->total_rate);
}

void relay_turn_config(const struct relay_config *c, struct turn_server_config *out,
		       struct turn_user users[RELAY_USERS_MAX])
{
	*out = (struct turn_server_config){
		.realm = c->realm, .secret = c->secret, .users = users, .nusers = c->nusers,
		.relay4 = c->relay4, .relay6 = c->relay6, .port_min = c->port_min, .port_max = c->port_max,
		.allow = c->allow, .nallow = c->nallow, .max_allocations = c->max_allocations,
		.user_rate = nb_rate(c->user_rate), .total_rate = nb_rate(c->total_rate),
		.max_per_user = c->max_per_user, .max_lifetime_s = c->max_lifetime_s,
	};
	for (size_t i = 0; i < c->nusers; i++)
		users[i] = (struct turn_user){ c->users[i].name, c->users[i].password };
}

void relay_turn_credentials(char user[RELAY_TURN_USER_CAP], char password[RELAY_TURN_PASSWORD_CAP],
			    struct nb_bytes secret, int64_t expiry_s)
{
	uint8_t mac[NBC_SHA1_LEN];

	snprintf(user, RELAY_TURN_USER_CAP, "%lld", (long long)expiry_s);
	nbc_hmac_sha1(mac, secret, nb_bytes_str(user));
	nb_base64_encode(password, RELAY_TURN_PASSWORD_CAP, nb_bytes(mac, sizeof mac));
	nb_wipe(mac, sizeof mac);
}
