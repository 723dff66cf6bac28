/* relaymsg.c - see relaymsg.h. */
#include "proto/relaymsg.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/err.h"
#include "crypto/crypto.h"

#define MAGIC_LEN 4
#define TOKEN_HMAC_SHA256 1
#define TOKEN_HEAD (1 + NBC_SHA256_LEN)
#define EXPIRY_MIN 10			/* digits of any time since 2001 */
#define EXPIRY_MAX 19

static const uint8_t magic[MAGIC_LEN] = { 0x21, 0x12, 0xa4, 0x42 };

/* --- messages --- */

static int decode_auth(struct relaymsg *m)
{
	if (m->body.n < MAGIC_LEN + RELAYMSG_ID_LEN || memcmp(m->body.p, magic, sizeof magic))
		return NB_E_BAD;
	m->id = m->body.p + MAGIC_LEN;
	m->body = nb_bytes(m->id + RELAYMSG_ID_LEN, m->body.n - MAGIC_LEN - RELAYMSG_ID_LEN);
	return 0;
}

static int decode_transport(struct relaymsg *m)
{
	if (m->body.n < RELAYMSG_ID_LEN)
		return NB_E_BAD;
	m->id = m->body.p;
	m->body = nb_bytes(m->id + RELAYMSG_ID_LEN, m->body.n - RELAYMSG_ID_LEN);
	return 0;
}

int relaymsg_decode(struct relaymsg *m, struct nb_bytes in)
{
	*m = (struct relaymsg){ 0 };
	if (in.n < RELAYMSG_HEADER)
		return NB_E_SHORT;
	if (in.p[0] != RELAYMSG_VERSION)
		return NB_E_UNSUPPORTED;
	m->type = (enum relaymsg_type)in.p[1];
	m->body = nb_bytes(in.p + RELAYMSG_HEADER, in.n - RELAYMSG_HEADER);
	switch (m->type) {
	case RELAYMSG_TRANSPORT:
		return decode_transport(m);
	case RELAYMSG_CLOSE:
	case RELAYMSG_HEALTH:
		return 0;
	case RELAYMSG_AUTH:
		return decode_auth(m);
	case RELAYMSG_AUTH_RESPONSE:
		return m->body.n ? 0 : NB_E_BAD;
	case RELAYMSG_SUBSCRIBE:
	case RELAYMSG_UNSUBSCRIBE:
	case RELAYMSG_ONLINE:
	case RELAYMSG_OFFLINE:
		m->n_ids = m->body.n / RELAYMSG_ID_LEN;
		return m->body.n % RELAYMSG_ID_LEN ? NB_E_BAD : 0;
	default:
		return NB_E_UNSUPPORTED;
	}
}

void relaymsg_header(uint8_t out[RELAYMSG_HEADER], enum relaymsg_type type)
{
	out[0] = RELAYMSG_VERSION;
	out[1] = (uint8_t)type;
}

void relaymsg_transport_header(uint8_t out[RELAYMSG_TRANSPORT_HEADER], const uint8_t id[RELAYMSG_ID_LEN])
{
	relaymsg_header(out, RELAYMSG_TRANSPORT);
	memcpy(out + RELAYMSG_HEADER, id, RELAYMSG_ID_LEN);
}

size_t relaymsg_auth(uint8_t out[RELAYMSG_AUTH_MAX], const uint8_t id[RELAYMSG_ID_LEN], struct nb_bytes token)
{
	uint8_t *p = out + RELAYMSG_HEADER;

	if (token.n > RELAYMSG_TOKEN_MAX)
		return 0;
	relaymsg_header(out, RELAYMSG_AUTH);
	memcpy(p, magic, sizeof magic);
	memcpy(p + MAGIC_LEN, id, RELAYMSG_ID_LEN);
	if (token.n)
		memcpy(p + MAGIC_LEN + RELAYMSG_ID_LEN, token.p, token.n);
	return RELAYMSG_HEADER + MAGIC_LEN + RELAYMSG_ID_LEN + token.n;
}

/* --- peer ids --- */

void relaymsg_peer_id(uint8_t id[RELAYMSG_ID_LEN], const char *key_text)
{
	memcpy(id, "sha-", 4);
	nbc_sha256(id + 4, nb_bytes_str(key_text));
}

void relaymsg_peer_id_text(char text[RELAYMSG_ID_TEXT], const uint8_t id[RELAYMSG_ID_LEN])
{
	memcpy(text, "sha-", 4);
	nb_base64_encode(text + 4, RELAYMSG_ID_TEXT - 4, nb_bytes(id + 4, RELAYMSG_ID_LEN - 4));
}

/* --- tokens --- */

void relaymsg_key(uint8_t key[32], struct nb_bytes secret)
{
	nbc_sha256(key, secret);
}

size_t relaymsg_token(uint8_t out[RELAYMSG_TOKEN_MAX], const uint8_t key[32], int64_t expiry_s)
{
	int n = snprintf((char *)out + TOKEN_HEAD, RELAYMSG_TOKEN_MAX - TOKEN_HEAD, "%010lld", (long long)expiry_s);

	out[0] = TOKEN_HMAC_SHA256;
	nbc_hmac_sha256(out + 1, nb_bytes(key, 32), nb_bytes(out + TOKEN_HEAD, (size_t)n));
	return TOKEN_HEAD + (size_t)n;
}

/* Decimal digits only. Returns the number or -1. */
static int64_t read_expiry(struct nb_bytes text)
{
	int64_t v = 0;

	if (text.n < EXPIRY_MIN || text.n > EXPIRY_MAX)
		return -1;
	for (size_t i = 0; i < text.n; i++) {
		int digit = text.p[i] - '0';

		if (digit < 0 || digit > 9 || v > (INT64_MAX - digit) / 10)
			return -1;
		v = v * 10 + digit;
	}
	return v;
}

int relaymsg_token_check(struct nb_bytes token, const uint8_t key[32], int64_t now_s)
{
	uint8_t mac[NBC_SHA256_LEN];
	struct nb_bytes payload;
	int64_t expiry;
	bool same;

	if (token.n < TOKEN_HEAD + EXPIRY_MIN)
		return NB_E_BAD;
	if (token.p[0] != TOKEN_HMAC_SHA256)
		return NB_E_UNSUPPORTED;
	payload = nb_bytes(token.p + TOKEN_HEAD, token.n - TOKEN_HEAD);
	nbc_hmac_sha256(mac, nb_bytes(key, 32), payload);
	same = nb_equal_ct(mac, token.p + 1, sizeof mac);
	nb_wipe(mac, sizeof mac);
	if (!same)
		return NB_E_AUTH;
	expiry = read_expiry(payload);
	if (expiry < 0)
		return NB_E_BAD;
	return now_s > expiry ? NB_E_TIMEOUT : 0;
}

size_t relaymsg_token_join(uint8_t out[RELAYMSG_TOKEN_MAX], const char *payload, const char *signature)
{
	size_t n = payload ? strlen(payload) : 0, mac;

	if (!n || !signature || TOKEN_HEAD + n > RELAYMSG_TOKEN_MAX)
		return 0;
	if (nb_base64_decode(out + 1, NBC_SHA256_LEN, &mac, nb_bytes_str(signature)) || mac != NBC_SHA256_LEN)
		return 0;
	out[0] = TOKEN_HMAC_SHA256;
	memcpy(out + TOKEN_HEAD, payload, n);
	return TOKEN_HEAD + n;
}

/* --- URLs --- */

static int read_port(uint16_t *port, const char *p, const char *end)
{
	unsigned long v = 0;

	if (p == end)
		return NB_E_BAD;
	for (; p < end; p++) {
		if (*p < '0' || *p > '9')
			return NB_E_BAD;
		v = v * 10 + (unsigned long)(*p - '0');
		if (v > 65535)
			return NB_E_BAD;
	}
	*port = (uint16_t)v;
	return v ? 0 : NB_E_BAD;
}

int relaymsg_url_parse(struct relaymsg_url *u, const char *text)
{
	const char *host, *end, *colon, *host_end;

	*u = (struct relaymsg_url){ 0 };
	if (!strncasecmp(text, "rels://", 7)) {
		u->tls = true;
		host = text + 7;
	} else if (!strncasecmp(text, "rel://", 6)) {
		host = text + 6;
	} else {
		return NB_E_BAD;
	}
	u->port = u->tls ? 443 : 80;
	end = host + strcspn(host, "/?#");
	if (*host == '[') {
		host_end = memchr(host, ']', (size_t)(end - host));
		if (!host_end || (host_end + 1 < end && host_end[1] != ':'))
			return NB_E_BAD;
		colon = host_end + 1 < end ? host_end + 1 : NULL;
		host++;
	} else {
		colon = memchr(host, ':', (size_t)(end - host));
		host_end = colon ? colon : end;
	}
	if (host_end == host || (size_t)(host_end - host) >= sizeof u->host)
		return NB_E_BAD;
	for (const char *p = host; p < host_end; p++) {
		if ((unsigned char)*p <= ' ' || *p == '@' || *p == 0x7f)
			return NB_E_BAD;
	}
	memcpy(u->host, host, (size_t)(host_end - host));
	return colon ? read_port(&u->port, colon + 1, end) : 0;
}

void relaymsg_url_host(char out[RELAYMSG_HOST_MAX], const struct relaymsg_url *u)
{
	bool six = strchr(u->host, ':') != NULL;
	int n = snprintf(out, RELAYMSG_HOST_MAX, six ? "[%s]" : "%s", u->host);

	if (u->port != (u->tls ? 443 : 80) && n > 0 && n < RELAYMSG_HOST_MAX)
		snprintf(out + n, RELAYMSG_HOST_MAX - (size_t)n, ":%u", u->port);
}
