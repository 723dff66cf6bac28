/* pem.c - certificates and keys out of PEM texts, in the shapes BearSSL wants: trust anchors and
 * server identities. Files are read elsewhere. Tests: tests/unit/crypto_tls_test.c */
#include "crypto/tls.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#include "crypto/tls_int.h"

#include <stdio.h>
#include <stdlib.h>

#define DER_MAX 65536		/* one certificate or key */
#define ANCHORS_MAX 2048
#define ANCHOR_BYTES_MAX (8u << 20)
#define CHAIN_MAX 10

/* --- PEM objects ------------------------------------------------------------------------------ */

/* Called with each object's banner name ("CERTIFICATE") and its bytes; nonzero ends the walk. */
typedef int (*object_fn)(void *ctx, const char *name, struct nb_bytes der);

struct pem_walk {
	struct nb_buf der;
	char name[128];
	object_fn fn;
	void *ctx;
};

static void pem_append(void *ctx, const void *p, size_t n)
{
	nb_buf_put(ctx, p, n);
}

static int pem_event(struct pem_walk *w, br_pem_decoder_context *pem, int event)
{
	if (event == BR_PEM_BEGIN_OBJ) {
		snprintf(w->name, sizeof w->name, "%s", br_pem_decoder_name(pem));
		nb_buf_reset(&w->der);
		br_pem_decoder_setdest(pem, pem_append, &w->der);
	}
	if (event == BR_PEM_END_OBJ && !w->der.err)
		return w->fn(w->ctx, w->name, nb_buf_view(&w->der));
	return 0;
}

/* Feed all of in. Returns 0 or what fn returned. */
static int pem_push(struct pem_walk *w, br_pem_decoder_context *pem, struct nb_bytes in)
{
	while (in.n) {
		size_t k = br_pem_decoder_push(pem, in.p, in.n);
		int r = pem_event(w, pem, br_pem_decoder_event(pem));

		if (r)
			return r;
		in.p += k;
		in.n -= k;
	}
	return 0;
}

static int pem_each(struct nb_bytes text, object_fn fn, void *ctx)
{
	struct pem_walk w = { .fn = fn, .ctx = ctx };
	br_pem_decoder_context pem;
	int r;

	nb_buf_init(&w.der, DER_MAX);
	br_pem_decoder_init(&pem);
	r = pem_push(&w, &pem, text);
	/* The decoder wants the last line ended. */
	if (!r)
		r = pem_push(&w, &pem, nb_bytes_str("\n"));
	nb_buf_fini(&w.der);
	nb_wipe(&pem, sizeof pem);
	return r;
}

static bool is_certificate(const char *name)
{
	return !strcmp(name, "CERTIFICATE") || !strcmp(name, "X509 CERTIFICATE");
}

/* --- trust anchors ---------------------------------------------------------------------------- */

static uint8_t *copy(struct nb_arena *a, const void *p, size_t n)
{
	uint8_t *c = nb_arena_alloc(a, n ? n : 1);

	if (c && n)
		memcpy(c, p, n);
	return c;
}

/* Copy a public key out of a decoder that is about to go. */
static bool copy_key(struct nb_arena *a, br_x509_pkey *out, const br_x509_pkey *in)
{
	*out = *in;
	if (in->key_type == BR_KEYTYPE_RSA) {
		out->key.rsa.n = copy(a, in->key.rsa.n, in->key.rsa.nlen);
		out->key.rsa.e = copy(a, in->key.rsa.e, in->key.rsa.elen);
		return out->key.rsa.n && out->key.rsa.e;
	}
	out->key.ec.q = copy(a, in->key.ec.q, in->key.ec.qlen);
	return out->key.ec.q != NULL;
}

static int grow_anchors(struct nbc_trust *t)
{
	size_t cap = t->cap ? t->cap * 2 : 32;
	br_x509_trust_anchor *more;

	if (t->count < t->cap)
		return 0;
	if (cap > ANCHORS_MAX)
		return NB_E_FULL;
	more = realloc(t->anchors, cap * sizeof *more);
	if (!more)
		return NB_E_NOMEM;
	t->anchors = more;
	t->cap = cap;
	return 0;
}

static int add_anchor(void *ctx, const char *name, struct nb_bytes der)
{
	struct nbc_trust *t = ctx;
	br_x509_decoder_context dec;
	struct nb_buf dn;
	br_x509_trust_anchor *ta;
	br_x509_pkey *pk;
	int r = 0;

	if (!is_certificate(name))
		return 0;
	nb_buf_init(&dn, 4096);
	br_x509_decoder_init(&dec, pem_append, &dn);
	br_x509_decoder_push(&dec, der.p, der.n);
	pk = br_x509_decoder_get_pkey(&dec);
	if (!pk || dn.err)
		goto out;
	r = grow_anchors(t);
	if (r)
		goto out;
	ta = &t->anchors[t->count];
	memset(ta, 0, sizeof *ta);
	ta->dn.data = copy(&t->mem, dn.p, dn.n);
	ta->dn.len = dn.n;
	ta->flags = br_x509_decoder_isCA(&dec) ? BR_X509_TA_CA : 0;
	if (ta->dn.data && copy_key(&t->mem, &ta->pkey, pk))
		t->count++;
	else
		r = NB_E_NOMEM;
out:
	nb_buf_fini(&dn);
	return r;
}

int nbc_trust_none(struct nbc_trust **out)
{
	struct nbc_trust *t = calloc(1, sizeof *t);

	if (!t)
		return NB_E_NOMEM;
	t->refs = 1;
	nb_arena_init(&t->mem, ANCHOR_BYTES_MAX);
	*out = t;
	return 0;
}

int nbc_trust_new(struct nbc_trust **out, struct nb_bytes pem, const char *source)
{
	struct nbc_trust *t;
	int r = nbc_trust_none(&t);

	if (r)
		return r;
	snprintf(t->source, sizeof t->source, "%s", source);
	r = pem_each(pem, add_anchor, t);
	if (r == 0 && t->count == 0)
		r = NB_E_BAD;
	if (r) {
		nbc_trust_unref(t);
		return r;
	}
	*out = t;
	return 0;
}

struct nbc_trust *nbc_trust_ref(struct nbc_trust *t)
{
	atomic_fetch_add(&t->refs, 1);
	return t;
}

void nbc_trust_unref(struct nbc_trust *t)
{
	if (!t || atomic_fetch_sub(&t->refs, 1) > 1)
		return;
	nb_arena_fini(&t->mem);
	free(t->anchors);
	free(t);
}

size_t nbc_trust_count(const struct nbc_trust *t)
{
	return t->count;
}

/* --- server identities ------------------------------------------------------------------------ */

static int add_certificate(void *ctx, const char *name, struct nb_bytes der)
{
	struct nbc_identity *id = ctx;
	br_x509_certificate *c = &id->chain[id->chain_len];

	if (!is_certificate(name))
		return 0;
	if (id->chain_len == CHAIN_MAX)
		return NB_E_FULL;
	c->data = copy(&id->mem, der.p, der.n);
	c->data_len = der.n;
	if (!c->data)
		return NB_E_NOMEM;
	id->chain_len++;
	return 0;
}

struct key_search {
	struct nbc_identity *id;
	const char *problem;
	bool found;
};

static bool take_key(struct nbc_identity *id, br_skey_decoder_context *dec)
{
	const br_rsa_private_key *rsa = br_skey_decoder_get_rsa(dec);
	const br_ec_private_key *ec = br_skey_decoder_get_ec(dec);

	if (rsa) {
		id->key_type = BR_KEYTYPE_RSA;
		id->rsa = *rsa;
		id->rsa.p = copy(&id->mem, rsa->p, rsa->plen);
		id->rsa.q = copy(&id->mem, rsa->q, rsa->qlen);
		id->rsa.dp = copy(&id->mem, rsa->dp, rsa->dplen);
		id->rsa.dq = copy(&id->mem, rsa->dq, rsa->dqlen);
		id->rsa.iq = copy(&id->mem, rsa->iq, rsa->iqlen);
		return id->rsa.p && id->rsa.q && id->rsa.dp && id->rsa.dq && id->rsa.iq;
	}
	id->key_type = BR_KEYTYPE_EC;
	id->ec = *ec;
	id->ec.x = copy(&id->mem, ec->x, ec->xlen);
	return id->ec.x != NULL;
}

static int find_key(void *ctx, const char *name, struct nb_bytes der)
{
	struct key_search *s = ctx;
	br_skey_decoder_context dec;
	int r = 0;

	if (!strcmp(name, "ENCRYPTED PRIVATE KEY"))
		s->problem = "the private key is encrypted: decrypt it first (openssl pkey)";
	if (s->found || (strcmp(name, "PRIVATE KEY") && strcmp(name, "RSA PRIVATE KEY") &&
			 strcmp(name, "EC PRIVATE KEY")))
		return 0;
	br_skey_decoder_init(&dec);
	br_skey_decoder_push(&dec, der.p, der.n);
	if (br_skey_decoder_last_error(&dec) || br_skey_decoder_key_type(&dec) == 0)
		s->problem = "the private key is of a kind that is not supported: use RSA, P-256, P-384 or P-521";
	else if (take_key(s->id, &dec))
		s->found = true;
	else
		r = NB_E_NOMEM;
	nb_wipe(&dec, sizeof dec);
	return r;
}

static bool rsa_belongs(const br_rsa_private_key *sk, const br_rsa_public_key *pk)
{
	br_rsa_compute_modulus modulus = br_rsa_compute_modulus_get_default();
	size_t n = modulus(NULL, sk), skip = 0;
	uint8_t *m = n ? malloc(n) : NULL;
	bool same;

	if (!m)
		return false;
	modulus(m, sk);
	while (skip < pk->nlen && pk->n[skip] == 0)
		skip++;
	same = nb_bytes_eq(nb_bytes(m, n), nb_bytes(pk->n + skip, pk->nlen - skip));
	free(m);
	return same;
}

static bool ec_belongs(const br_ec_private_key *sk, const br_ec_public_key *pk)
{
	uint8_t mem[BR_EC_KBUF_PUB_MAX_SIZE];
	br_ec_public_key mine;

	return sk->curve == pk->curve && br_ec_compute_pub(br_ec_get_default(), &mine, mem, sk) &&
	       nb_bytes_eq(nb_bytes(mine.q, mine.qlen), nb_bytes(pk->q, pk->qlen));
}

/* Look into the first certificate: is it readable, what signed it, does the key belong to it. */
static const char *check_leaf(struct nbc_identity *id)
{
	br_x509_decoder_context dec;
	br_x509_pkey *pk;

	br_x509_decoder_init(&dec, NULL, NULL);
	br_x509_decoder_push(&dec, id->chain[0].data, id->chain[0].data_len);
	pk = br_x509_decoder_get_pkey(&dec);
	if (!pk)
		return "the certificate cannot be read, or its key is of a kind that is not supported";
	id->signer_type = (unsigned)br_x509_decoder_get_signer_key_type(&dec);
	id->from = nbc_x509_wall(dec.notbefore_days, dec.notbefore_seconds);
	id->until = nbc_x509_wall(dec.notafter_days, dec.notafter_seconds);
	if (pk->key_type != id->key_type ||
	    !(id->key_type == BR_KEYTYPE_RSA ? rsa_belongs(&id->rsa, &pk->key.rsa) :
					       ec_belongs(&id->ec, &pk->key.ec)))
		return "the private key does not belong to the certificate";
	return NULL;
}

static int identity_load(struct nbc_identity *id, struct nb_bytes cert_pem, struct nb_bytes key_pem,
			 const char **problem)
{
	struct key_search search = { .id = id };
	int r;

	id->chain = nb_arena_alloc(&id->mem, CHAIN_MAX * sizeof *id->chain);
	if (!id->chain)
		return NB_E_NOMEM;
	r = pem_each(cert_pem, add_certificate, id);
	if (r == NB_E_FULL)
		*problem = "the certificate chain is longer than 10";
	else if (r == 0 && id->chain_len == 0)
		*problem = "no certificate found (PEM text expected)";
	if (r || *problem)
		return r ? r : NB_E_BAD;
	r = pem_each(key_pem, find_key, &search);
	if (r)
		return r;
	if (!search.found)
		*problem = search.problem ? search.problem : "no private key found (PEM text expected)";
	else
		*problem = check_leaf(id);
	return *problem ? NB_E_BAD : 0;
}

int nbc_identity_new(struct nbc_identity **out, struct nb_bytes cert_pem, struct nb_bytes key_pem,
		     char why[NBC_TLS_WHY])
{
	struct nbc_identity *id = calloc(1, sizeof *id);
	const char *problem = NULL;
	int r = NB_E_NOMEM;

	if (id) {
		id->refs = 1;
		nb_arena_init(&id->mem, 1 << 20);
		r = identity_load(id, cert_pem, key_pem, &problem);
	}
	snprintf(why, NBC_TLS_WHY, "%s", problem ? problem : r ? nb_strerror(r) : "");
	if (r) {
		nbc_identity_unref(id);
		return r == NB_E_NOMEM ? r : NB_E_BAD;
	}
	*out = id;
	return 0;
}

struct nbc_identity *nbc_identity_ref(struct nbc_identity *id)
{
	atomic_fetch_add(&id->refs, 1);
	return id;
}

void nbc_identity_unref(struct nbc_identity *id)
{
	if (!id || atomic_fetch_sub(&id->refs, 1) > 1)
		return;
	nb_arena_fini(&id->mem);
	nb_wipe(id, sizeof *id);
	free(id);
}

void nbc_identity_validity(const struct nbc_identity *id, struct nb_wall *from, struct nb_wall *until)
{
	*from = id->from;
	*until = id->until;
}
