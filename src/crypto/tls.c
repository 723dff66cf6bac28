/* tls.c - see tls.h. BearSSL's engine does the protocol; here are its settings, a certificate check
 * that remembers what went wrong, and sentences for errors.
 * Tests: tests/unit/crypto_tls_test.c, tests/net/test_listener.py */
#include "crypto/tls.h"

#include "base/addr.h"
#include "base/err.h"
#include "base/version.h"

#include "crypto/crypto.h"
#include "crypto/tls_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define HOST_MAX 256
/* A server holds many connections: full-size records in (the peer chooses), smaller ones out. */
#define SERVER_OUT (4096 + 85)

/* BearSSL's path check, with a decoder listening in for the dates. */
struct checker {
	const br_x509_class *vtable;
	br_x509_minimal_context minimal;
	br_x509_decoder_context decoder;
	br_name_element name;
	char name_text[HOST_MAX];
	const char *expect;		/* host the certificate must carry */
	struct nb_wall now, bad_from, bad_until;
	bool outside;			/* a certificate is not valid at `now`: bad_from, bad_until */
};

struct nbc_tls {
	br_ssl_engine_context *eng;
	union {
		br_ssl_client_context client;
		br_ssl_server_context server;
	} u;
	struct checker *check;		/* client */
	struct nbc_trust *trust;	/* client */
	struct nbc_identity *identity;	/* server */
	uint8_t *buf;
	size_t buf_len;
	const char *alpn[NBC_TLS_ALPN_MAX];
	char host[HOST_MAX];
	struct nb_wall clock;		/* the machine's, before the floor */
	bool host_is_ip, opened, fed, not_tls;
};

/* --- the certificate check -------------------------------------------------------------------- */

static struct checker *checker_of(const br_x509_class **ctx)
{
	return (struct checker *)(void *)ctx;
}

static void check_start_chain(const br_x509_class **ctx, const char *server_name)
{
	struct checker *c = checker_of(ctx);

	/* Not the engine's name: that one is empty for addresses, which must not be sent as SNI. */
	(void)server_name;
	c->minimal.vtable->start_chain(&c->minimal.vtable, c->expect);
}

static void check_start_cert(const br_x509_class **ctx, uint32_t length)
{
	struct checker *c = checker_of(ctx);

	br_x509_decoder_init(&c->decoder, NULL, NULL);
	c->minimal.vtable->start_cert(&c->minimal.vtable, length);
}

static void check_append(const br_x509_class **ctx, const unsigned char *buf, size_t len)
{
	struct checker *c = checker_of(ctx);

	br_x509_decoder_push(&c->decoder, buf, len);
	c->minimal.vtable->append(&c->minimal.vtable, buf, len);
}

static void check_end_cert(const br_x509_class **ctx)
{
	struct checker *c = checker_of(ctx);
	struct nb_wall from = nbc_x509_wall(c->decoder.notbefore_days, c->decoder.notbefore_seconds);
	struct nb_wall until = nbc_x509_wall(c->decoder.notafter_days, c->decoder.notafter_seconds);

	if (!c->outside && br_x509_decoder_get_pkey(&c->decoder) &&
	    (c->now.ns < from.ns || c->now.ns > until.ns)) {
		c->outside = true;
		c->bad_from = from;
		c->bad_until = until;
	}
	c->minimal.vtable->end_cert(&c->minimal.vtable);
}

static unsigned check_end_chain(const br_x509_class **ctx)
{
	struct checker *c = checker_of(ctx);

	return c->minimal.vtable->end_chain(&c->minimal.vtable);
}

static const br_x509_pkey *check_get_pkey(const br_x509_class *const *ctx, unsigned *usages)
{
	const struct checker *c = (const struct checker *)(const void *)ctx;

	return c->minimal.vtable->get_pkey(&c->minimal.vtable, usages);
}

static const br_x509_class check_vtable = {
	.context_size = sizeof(struct checker),
	.start_chain = check_start_chain,
	.start_cert = check_start_cert,
	.append = check_append,
	.end_cert = check_end_cert,
	.end_chain = check_end_chain,
	.get_pkey = check_get_pkey,
};

static void checker_init(struct checker *c, const struct nbc_trust *trust, const char *host,
			 struct nb_wall now)
{
	static const unsigned char dns_name[] = { 0, 2 };	/* BearSSL's code for a dNSName */
	int64_t sec = now.ns / NB_SEC;

	c->vtable = &check_vtable;
	c->expect = host;
	c->now = now;
	br_x509_minimal_init(&c->minimal, &br_sha256_vtable, trust->anchors, trust->count);
	br_x509_minimal_set_rsa(&c->minimal, br_rsa_pkcs1_vrfy_get_default());
	br_x509_minimal_set_ecdsa(&c->minimal, br_ec_get_default(), br_ecdsa_vrfy_asn1_get_default());
	br_x509_minimal_set_hash(&c->minimal, br_sha256_ID, &br_sha256_vtable);
	br_x509_minimal_set_hash(&c->minimal, br_sha384_ID, &br_sha384_vtable);
	br_x509_minimal_set_hash(&c->minimal, br_sha512_ID, &br_sha512_vtable);
	br_x509_minimal_set_time(&c->minimal, (uint32_t)(sec / 86400 + NBC_X509_DAYS_1970),
				 (uint32_t)(sec % 86400));
	c->name.oid = dns_name;
	c->name.buf = c->name_text;
	c->name.len = sizeof c->name_text;
	br_x509_minimal_set_name_elements(&c->minimal, &c->name, 1);
}

/* --- set-up ----------------------------------------------------------------------------------- */

static const uint16_t suites_rsa[] = {
	BR_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, BR_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	BR_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
};
static const uint16_t suites_ec[] = {
	BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	BR_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
};
static const uint16_t suites_both[] = {
	BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, BR_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, BR_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	BR_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, BR_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
};

static void engine_setup(struct nbc_tls *t, const uint16_t *suites, size_t n)
{
	br_ssl_engine_context *e = t->eng;
	uint8_t seed[32];
	size_t alpn = 0;

	br_ssl_engine_set_versions(e, BR_TLS12, BR_TLS12);
	br_ssl_engine_set_suites(e, suites, n);
	br_ssl_engine_set_hash(e, br_sha256_ID, &br_sha256_vtable);
	br_ssl_engine_set_hash(e, br_sha384_ID, &br_sha384_vtable);
	br_ssl_engine_set_hash(e, br_sha512_ID, &br_sha512_vtable);
	br_ssl_engine_set_prf_sha256(e, br_tls12_sha256_prf);
	br_ssl_engine_set_prf_sha384(e, br_tls12_sha384_prf);
	br_ssl_engine_set_default_aes_gcm(e);
	br_ssl_engine_set_default_chapol(e);
	br_ssl_engine_set_default_ec(e);
	br_ssl_engine_add_flags(e, BR_OPT_NO_RENEGOTIATION);
	while (alpn < NBC_TLS_ALPN_MAX && t->alpn[alpn])
		alpn++;
	if (alpn)
		br_ssl_engine_set_protocol_names(e, t->alpn, alpn);
	nbc_random(NULL, seed, sizeof seed);
	br_ssl_engine_inject_entropy(e, seed, sizeof seed);
	nb_wipe(seed, sizeof seed);
}

static struct nbc_tls *tls_alloc(const char *const *alpn, size_t buf_len)
{
	struct nbc_tls *t = calloc(1, sizeof *t);

	if (!t)
		return NULL;
	t->buf = malloc(buf_len);
	t->buf_len = buf_len;
	if (!t->buf) {
		free(t);
		return NULL;
	}
	for (size_t i = 0; i < NBC_TLS_ALPN_MAX; i++) {
		t->alpn[i] = alpn[i];
		if (!alpn[i])
			break;
	}
	return t;
}

static int client_setup(struct nbc_tls *t, const struct nbc_tls_client *cfg)
{
	br_ssl_client_context *c = &t->u.client;
	struct nb_wall now = cfg->now;
	struct nb_addr ip;

	t->check = calloc(1, sizeof *t->check);
	if (!t->check)
		return NB_E_NOMEM;
	t->trust = nbc_trust_ref(cfg->trust);
	snprintf(t->host, sizeof t->host, "%s", cfg->host);
	t->host_is_ip = nb_addr_parse(&ip, t->host) == 0;
	t->clock = now;
	if (now.ns < nb_build_epoch * NB_SEC)
		now.ns = nb_build_epoch * NB_SEC;
	checker_init(t->check, t->trust, t->host, now);

	br_ssl_client_zero(c);
	t->eng = &c->eng;
	engine_setup(t, suites_both, sizeof suites_both / sizeof *suites_both);
	br_ssl_engine_set_default_rsavrfy(t->eng);
	br_ssl_engine_set_default_ecdsa(t->eng);
	br_ssl_engine_set_x509(t->eng, &t->check->vtable);
	br_ssl_engine_set_buffer(t->eng, t->buf, t->buf_len, 1);
	return br_ssl_client_reset(c, t->host_is_ip ? NULL : t->host, 0) ? 0 : NB_E_INTERNAL;
}

int nbc_tls_client_new(struct nbc_tls **out, const struct nbc_tls_client *cfg)
{
	struct nbc_tls *t = tls_alloc(cfg->alpn, BR_SSL_BUFSIZE_BIDI);
	int r = t ? client_setup(t, cfg) : NB_E_NOMEM;

	if (r) {
		nbc_tls_free(t);
		return r;
	}
	*out = t;
	return 0;
}

int nbc_tls_server_new(struct nbc_tls **out, struct nbc_identity *id,
		       const char *const alpn[NBC_TLS_ALPN_MAX])
{
	struct nbc_tls *t = tls_alloc(alpn, BR_SSL_BUFSIZE_INPUT + SERVER_OUT);
	br_ssl_server_context *s;

	if (!t)
		return NB_E_NOMEM;
	t->identity = nbc_identity_ref(id);
	s = &t->u.server;
	br_ssl_server_zero(s);
	t->eng = &s->eng;
	if (id->key_type == BR_KEYTYPE_RSA) {
		engine_setup(t, suites_rsa, sizeof suites_rsa / sizeof *suites_rsa);
		br_ssl_server_set_single_rsa(s, id->chain, id->chain_len, &id->rsa, BR_KEYTYPE_SIGN,
					     br_rsa_private_get_default(),
					     br_rsa_pkcs1_sign_get_default());
	} else {
		engine_setup(t, suites_ec, sizeof suites_ec / sizeof *suites_ec);
		br_ssl_server_set_single_ec(s, id->chain, id->chain_len, &id->ec, BR_KEYTYPE_SIGN,
					    id->signer_type, br_ec_get_default(),
					    br_ecdsa_sign_asn1_get_default());
	}
	br_ssl_engine_set_buffers_bidi(t->eng, t->buf, BR_SSL_BUFSIZE_INPUT, t->buf + BR_SSL_BUFSIZE_INPUT,
				       SERVER_OUT);
	if (!br_ssl_server_reset(s)) {
		nbc_tls_free(t);
		return NB_E_INTERNAL;
	}
	*out = t;
	return 0;
}

void nbc_tls_free(struct nbc_tls *t)
{
	if (!t)
		return;
	nbc_trust_unref(t->trust);
	nbc_identity_unref(t->identity);
	nb_wipe(t->buf, t->buf_len);
	free(t->buf);
	free(t->check);
	nb_wipe(t, sizeof *t);
	free(t);
}

/* --- moving bytes ----------------------------------------------------------------------------- */

static bool state_has(const struct nbc_tls *t, unsigned bit)
{
	return (br_ssl_engine_current_state(t->eng) & bit) != 0;
}

size_t nbc_tls_feed(struct nbc_tls *t, struct nb_bytes in)
{
	size_t done = 0;

	if (!t->fed && in.n) {
		t->fed = true;
		/* Record types are 20 to 23; plain text of any kind starts otherwise. */
		t->not_tls = in.p[0] < 20 || in.p[0] > 23;
	}
	while (done < in.n && state_has(t, BR_SSL_RECVREC)) {
		size_t room, n = in.n - done;
		unsigned char *at = br_ssl_engine_recvrec_buf(t->eng, &room);

		if (n > room)
			n = room;
		memcpy(at, in.p + done, n);
		br_ssl_engine_recvrec_ack(t->eng, n);
		done += n;
	}
	return done;
}

size_t nbc_tls_pull(struct nbc_tls *t, void *out, size_t cap)
{
	size_t done = 0;

	while (done < cap && state_has(t, BR_SSL_SENDREC)) {
		size_t there, n = cap - done;
		unsigned char *at = br_ssl_engine_sendrec_buf(t->eng, &there);

		if (n > there)
			n = there;
		memcpy((uint8_t *)out + done, at, n);
		br_ssl_engine_sendrec_ack(t->eng, n);
		done += n;
	}
	return done;
}

size_t nbc_tls_write(struct nbc_tls *t, struct nb_bytes in)
{
	size_t done = 0;

	while (done < in.n && state_has(t, BR_SSL_SENDAPP)) {
		size_t room, n = in.n - done;
		unsigned char *at = br_ssl_engine_sendapp_buf(t->eng, &room);

		if (n > room)
			n = room;
		memcpy(at, in.p + done, n);
		br_ssl_engine_sendapp_ack(t->eng, n);
		done += n;
	}
	if (done)
		br_ssl_engine_flush(t->eng, 0);
	return done;
}

size_t nbc_tls_read(struct nbc_tls *t, void *out, size_t cap)
{
	size_t done = 0;

	while (done < cap && state_has(t, BR_SSL_RECVAPP)) {
		size_t there, n = cap - done;
		unsigned char *at = br_ssl_engine_recvapp_buf(t->eng, &there);

		if (n > there)
			n = there;
		memcpy((uint8_t *)out + done, at, n);
		br_ssl_engine_recvapp_ack(t->eng, n);
		done += n;
	}
	return done;
}

struct nb_bytes nbc_tls_pending(struct nbc_tls *t)
{
	size_t n = 0;
	unsigned char *at = state_has(t, BR_SSL_SENDREC) ? br_ssl_engine_sendrec_buf(t->eng, &n) : NULL;

	return nb_bytes(at, n);
}

void nbc_tls_pulled(struct nbc_tls *t, size_t n)
{
	if (n)
		br_ssl_engine_sendrec_ack(t->eng, n);
}

bool nbc_tls_wants_pull(const struct nbc_tls *t)
{
	return state_has(t, BR_SSL_SENDREC);
}

bool nbc_tls_wants_feed(const struct nbc_tls *t)
{
	return state_has(t, BR_SSL_RECVREC);
}

size_t nbc_tls_room(const struct nbc_tls *t)
{
	size_t room = 0;

	if (state_has(t, BR_SSL_SENDAPP))
		br_ssl_engine_sendapp_buf(t->eng, &room);
	return room;
}

bool nbc_tls_open(struct nbc_tls *t)
{
	if (!t->opened && state_has(t, BR_SSL_SENDAPP | BR_SSL_RECVAPP))
		t->opened = true;
	return t->opened;
}

void nbc_tls_close(struct nbc_tls *t)
{
	br_ssl_engine_close(t->eng);
}

bool nbc_tls_closed(const struct nbc_tls *t)
{
	return state_has(t, BR_SSL_CLOSED);
}

const char *nbc_tls_alpn(const struct nbc_tls *t)
{
	const char *name = br_ssl_engine_get_selected_protocol(t->eng);

	return name ? name : "";
}

const char *nbc_tls_sni(const struct nbc_tls *t)
{
	const char *name = t->identity ? br_ssl_engine_get_server_name(t->eng) : NULL;

	return name ? name : "";
}

/* --- errors ------------------------------------------------------------------------------------ */

enum { ALERT_HANDSHAKE_FAILURE = 40, ALERT_PROTOCOL_VERSION = 70, ALERT_NO_ALPN = 120 };

int nbc_tls_error(const struct nbc_tls *t)
{
	int e = br_ssl_engine_last_error(t->eng);

	if (e == 0)
		return 0;
	if (t->not_tls)
		return NB_E_PROTO;
	if (e >= BR_ERR_X509_OK && e <= BR_ERR_X509_NOT_TRUSTED)
		return NB_E_AUTH;
	if (e >= BR_ERR_RECV_FATAL_ALERT) {
		e -= e >= BR_ERR_SEND_FATAL_ALERT ? BR_ERR_SEND_FATAL_ALERT : BR_ERR_RECV_FATAL_ALERT;
		return e == ALERT_HANDSHAKE_FAILURE || e == ALERT_PROTOCOL_VERSION || e == ALERT_NO_ALPN ?
			NB_E_UNSUPPORTED : NB_E_CLOSED;
	}
	if (e == BR_ERR_NO_RANDOM || e == BR_ERR_BAD_PARAM || e == BR_ERR_BAD_STATE)
		return NB_E_INTERNAL;
	return e == BR_ERR_UNSUPPORTED_VERSION || e == BR_ERR_BAD_CIPHER_SUITE ? NB_E_UNSUPPORTED : NB_E_PROTO;
}

__attribute__((format(printf, 2, 3)))
static void say(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, NBC_TLS_WHY, fmt, ap);
	va_end(ap);
}

static void why_expired(const struct nbc_tls *t, char *why)
{
	const struct checker *c = t->check;
	bool early = c->now.ns < c->bad_from.ns;
	char clock[NB_RFC3339_CAP], date[NB_RFC3339_CAP];

	nb_wall_format(clock, (struct nb_wall){ t->clock.ns / NB_SEC * NB_SEC });
	nb_wall_format(date, early ? c->bad_from : c->bad_until);
	say(why, "the certificate of %s %s %s; the clock here is %s: %s", t->host,
		 early ? "is not valid before" : "expired on", date, clock,
		 early || t->clock.ns < nb_build_epoch * NB_SEC ? "set the clock" :
		 "renew the certificate, or set the clock if it is wrong");
}

static void why_name(const struct nbc_tls *t, char *why)
{
	const char *other = t->check->name.status > 0 ? t->check->name_text : "other names";

	if (t->host_is_ip)
		say(why, "the certificate of %s cannot be checked: addresses in certificates are "
			 "not matched; use the host name (it is for %s)", t->host, other);
	else
		say(why, "the certificate is for %s, not for %s: use the name in the certificate, "
			 "or get one for this name", other, t->host);
}

static void why_untrusted(const struct nbc_tls *t, char *why)
{
	if (t->trust->count == 0)
		say(why, "no CA certificates on this machine, so %s cannot be verified: install "
			 "the ca-certificates package, or give a bundle with --ca-file", t->host);
	else
		say(why, "the certificate of %s is signed by an unknown authority (%zu known from "
			 "%s): give its CA with --ca-file, or let the server send its intermediate certificates",
			 t->host, t->trust->count, t->trust->source);
}

static void why_certificate(const struct nbc_tls *t, int e, char *why)
{
	switch (e) {
	case BR_ERR_X509_EXPIRED:
		why_expired(t, why);
		break;
	case BR_ERR_X509_BAD_SERVER_NAME:
		why_name(t, why);
		break;
	case BR_ERR_X509_NOT_TRUSTED:
	case BR_ERR_X509_DN_MISMATCH:
	case BR_ERR_X509_NOT_CA:
		why_untrusted(t, why);
		break;
	case BR_ERR_X509_BAD_SIGNATURE:
		say(why, "the certificate of %s has a wrong signature: not the server it "
			 "claims to be, or another CA of the same name", t->host);
		break;
	case BR_ERR_X509_UNSUPPORTED:
	case BR_ERR_X509_WEAK_PUBLIC_KEY:
	case BR_ERR_X509_CRITICAL_EXTENSION:
		say(why, "the certificate of %s uses something not supported here (%d): use RSA "
			 "2048 or P-256 with SHA-256", t->host, e);
		break;
	default:
		say(why, "the certificate of %s is not acceptable (%d)", t->host, e);
	}
}

static void why_client(const struct nbc_tls *t, int e, char *why)
{
	if (t->not_tls)
		say(why, "%s does not speak TLS on this port: use http://, or the port that "
			 "does", t->host);
	else if (e == BR_ERR_RECV_FATAL_ALERT + ALERT_PROTOCOL_VERSION)
		say(why, "the server requires TLS 1.3; nestbox speaks TLS 1.2: allow 1.2 on %s",
			 t->host);
	else if (e == BR_ERR_RECV_FATAL_ALERT + ALERT_HANDSHAKE_FAILURE)
		say(why, "%s refused the handshake: it may require TLS 1.3, or a cipher other than "
			 "ECDHE with ChaCha20-Poly1305 or AES-GCM", t->host);
	else if (e == BR_ERR_RECV_FATAL_ALERT + ALERT_NO_ALPN)
		say(why, "%s does not speak HTTP/2 on this port (no common ALPN protocol)",
			 t->host);
	else if (e >= BR_ERR_RECV_FATAL_ALERT && e < BR_ERR_SEND_FATAL_ALERT)
		say(why, "%s ended the TLS handshake (alert %d)", t->host,
			 e - BR_ERR_RECV_FATAL_ALERT);
	else if (e == BR_ERR_UNSUPPORTED_VERSION || e == BR_ERR_BAD_VERSION)
		say(why, "%s answered with a TLS version other than 1.2", t->host);
	else
		say(why, "TLS with %s failed (BearSSL error %d)", t->host, e);
}

static void why_server(const struct nbc_tls *t, int e, char *why)
{
	if (t->not_tls)
		say(why, "the client does not speak TLS");
	else if (e == BR_ERR_UNSUPPORTED_VERSION || e == BR_ERR_BAD_CIPHER_SUITE ||
		 e == BR_ERR_SEND_FATAL_ALERT + ALERT_HANDSHAKE_FAILURE ||
		 e == BR_ERR_SEND_FATAL_ALERT + ALERT_PROTOCOL_VERSION)
		say(why, "the client offers no TLS 1.2, or no cipher we have");
	else if (e >= BR_ERR_RECV_FATAL_ALERT && e < BR_ERR_SEND_FATAL_ALERT)
		say(why, "the client refused (alert %d%s)", e - BR_ERR_RECV_FATAL_ALERT,
			 e == BR_ERR_RECV_FATAL_ALERT + 48 ? ": it does not know our CA" :
			 e == BR_ERR_RECV_FATAL_ALERT + 42 ? ": it does not accept our certificate" : "");
	else
		say(why, "TLS handshake failed (BearSSL error %d)", e);
}

void nbc_tls_why(const struct nbc_tls *t, char why[NBC_TLS_WHY])
{
	int e = br_ssl_engine_last_error(t->eng);

	why[0] = 0;
	if (e == 0)
		return;
	if (t->identity)
		why_server(t, e, why);
	else if (e >= BR_ERR_X509_OK && e <= BR_ERR_X509_NOT_TRUSTED)
		why_certificate(t, e, why);
	else
		why_client(t, e, why);
}
