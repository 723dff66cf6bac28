/* noise.c - the handshake Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s (WireGuard paper, 5.4.2 and 5.4.3).
 * create_ and consume_ functions mirror each other; steps carry their Noise tokens. Knows no peers,
 * indices, time or retries. Tests: tests/unit/wg_noise_test.c, with every C and H of recorded sessions. */
#include "wg/wg_int.h"

static const char construction[] = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
static const char identifier[] = "WireGuard v1 zx2c4 Jason@zx2c4.com";

/* H := HASH(H || p) */
static void mix_hash(uint8_t hash[WG_HASH], const void *p, size_t n)
{
	struct wg_blake2s s;

	wg_blake2s_init(&s, WG_HASH, NULL, 0);
	wg_blake2s_update(&s, hash, WG_HASH);
	wg_blake2s_update(&s, p, n);
	wg_blake2s_final(&s, hash);
}

static void mix_chain(uint8_t chain[WG_HASH], const void *p, size_t n)
{
	wg_kdf(chain, NULL, NULL, chain, p, n);
}

/* C, k := KDF2(C, DH(priv, pub)); key may be NULL where no field follows. */
static int mix_dh(uint8_t chain[WG_HASH], uint8_t *key, const uint8_t priv[32], const uint8_t pub[32])
{
	uint8_t dh[32];
	int err = wg_dh(dh, priv, pub);

	if (!err)
		wg_kdf(chain, key, NULL, chain, dh, sizeof dh);
	nb_wipe(dh, sizeof dh);
	return err;
}

/* C, k := KDF2(C, ss) with the product computed when the peer was made. */
static int mix_precomputed(uint8_t chain[WG_HASH], uint8_t key[32], const uint8_t ss[32])
{
	static const uint8_t zero[32];

	if (nb_equal_ct(ss, zero, 32))
		return NB_E_BAD;
	wg_kdf(chain, key, NULL, chain, ss, 32);
	return 0;
}

/* C, tau, k := KDF3(C, psk); H := HASH(H || tau) */
static void mix_psk(struct wg_noise *n, uint8_t key[32], const uint8_t psk[32])
{
	uint8_t tau[WG_HASH];

	wg_kdf(n->chain, tau, key, n->chain, psk, 32);
	mix_hash(n->hash, tau, sizeof tau);
	nb_wipe(tau, sizeof tau);
}

static void seal_and_hash(struct wg_noise *n, uint8_t *dst, const void *src, size_t len, const uint8_t key[32])
{
	wg_seal_field(dst, src, len, key, n->hash);
	mix_hash(n->hash, dst, len + WG_TAG);
}

static int open_and_hash(struct wg_noise *n, void *dst, const uint8_t *src, size_t len, const uint8_t key[32])
{
	if (wg_open_field(dst, src, len, key, n->hash))
		return NB_E_AUTH;
	mix_hash(n->hash, src, len + WG_TAG);
	return 0;
}

/* C := HASH(construction); H := HASH(HASH(C || identifier) || responder's static key) */
static void noise_start(struct wg_noise *n, const uint8_t responder_pub[32])
{
	memset(n, 0, sizeof *n);
	wg_blake2s(n->chain, WG_HASH, NULL, 0, construction, sizeof construction - 1);
	memcpy(n->hash, n->chain, WG_HASH);
	mix_hash(n->hash, identifier, sizeof identifier - 1);
	mix_hash(n->hash, responder_pub, 32);
}

static void labelled_key(uint8_t out[32], const char label[8], const uint8_t pub[32])
{
	struct wg_blake2s s;

	wg_blake2s_init(&s, WG_HASH, NULL, 0);
	wg_blake2s_update(&s, label, 8);
	wg_blake2s_update(&s, pub, 32);
	wg_blake2s_final(&s, out);
}

void wg_self_set(struct wg_self *s, const uint8_t priv[32])
{
	static const uint8_t zero[32];

	nb_wipe(s, sizeof *s);
	if (nb_equal_ct(priv, zero, 32))
		return;
	s->has = true;
	memcpy(s->priv, priv, 32);
	wg_dh_clamp(s->priv);
	wg_dh_public(s->pub, s->priv);
	labelled_key(s->mac1_key, "mac1----", s->pub);
	labelled_key(s->cookie_key, "cookie--", s->pub);
}

int wg_remote_set(struct wg_remote *r, const struct wg_self *s, const uint8_t pub[32])
{
	memmove(r->pub, pub, 32);
	labelled_key(r->mac1_key, "mac1----", r->pub);
	labelled_key(r->cookie_key, "cookie--", r->pub);
	memset(r->ss, 0, sizeof r->ss);
	return s->has ? wg_dh(r->ss, s->priv, r->pub) : 0;
}

int wg_create_initiation(uint8_t msg[WG_INI_LEN], struct wg_noise *n, const struct wg_self *s, const struct wg_remote *r,
			 uint32_t sender, const uint8_t tai[WG_TAI], const uint8_t eph[32])
{
	uint8_t key[32];
	int err;

	memset(msg, 0, WG_INI_LEN);
	msg[0] = WG_MSG_INITIATION;
	nb_put_le32(msg + WG_INI_SENDER, sender);
	noise_start(n, r->pub);

	/* e */
	memcpy(n->eph_priv, eph, 32);
	wg_dh_clamp(n->eph_priv);
	wg_dh_public(msg + WG_INI_EPHEMERAL, n->eph_priv);
	mix_chain(n->chain, msg + WG_INI_EPHEMERAL, 32);
	mix_hash(n->hash, msg + WG_INI_EPHEMERAL, 32);

	/* es */
	err = mix_dh(n->chain, key, n->eph_priv, r->pub);
	if (err)
		goto out;

	/* s */
	seal_and_hash(n, msg + WG_INI_STATIC, s->pub, 32, key);

	/* ss */
	err = mix_precomputed(n->chain, key, r->ss);
	if (err)
		goto out;

	/* {t} */
	seal_and_hash(n, msg + WG_INI_TIMESTAMP, tai, WG_TAI, key);
out:
	nb_wipe(key, sizeof key);
	if (err)
		nb_wipe(n, sizeof *n);
	return err;
}

int wg_consume_initiation_static(struct wg_noise *n, uint8_t pub[32], const struct wg_self *s, const uint8_t msg[WG_INI_LEN])
{
	uint8_t key[32];
	int err;

	noise_start(n, s->pub);
	n->remote_index = nb_get_le32(msg + WG_INI_SENDER);

	/* e */
	memcpy(n->remote_eph, msg + WG_INI_EPHEMERAL, 32);
	mix_chain(n->chain, n->remote_eph, 32);
	mix_hash(n->hash, n->remote_eph, 32);

	/* es */
	err = mix_dh(n->chain, key, s->priv, n->remote_eph);
	if (err)
		goto out;

	/* s */
	err = open_and_hash(n, pub, msg + WG_INI_STATIC, 32, key);
out:
	nb_wipe(key, sizeof key);
	if (err)
		nb_wipe(n, sizeof *n);
	return err ? NB_E_AUTH : 0;
}

int wg_consume_initiation(struct wg_noise *n, uint8_t tai[WG_TAI], const struct wg_remote *r, const uint8_t msg[WG_INI_LEN])
{
	uint8_t key[32];
	int err;

	/* ss */
	err = mix_precomputed(n->chain, key, r->ss);
	if (err)
		goto out;

	/* {t} */
	err = open_and_hash(n, tai, msg + WG_INI_TIMESTAMP, WG_TAI, key);
out:
	nb_wipe(key, sizeof key);
	if (err)
		nb_wipe(n, sizeof *n);
	return err ? NB_E_AUTH : 0;
}

int wg_create_response(uint8_t msg[WG_RES_LEN], struct wg_session_keys *keys, struct wg_noise *n, const struct wg_remote *r,
		       uint32_t sender, const uint8_t eph[32])
{
	uint8_t eph_priv[32], key[32];
	int err;

	memset(msg, 0, WG_RES_LEN);
	msg[0] = WG_MSG_RESPONSE;
	nb_put_le32(msg + WG_RES_SENDER, sender);
	nb_put_le32(msg + WG_RES_RECEIVER, n->remote_index);

	/* e */
	memcpy(eph_priv, eph, 32);
	wg_dh_clamp(eph_priv);
	wg_dh_public(msg + WG_RES_EPHEMERAL, eph_priv);
	mix_chain(n->chain, msg + WG_RES_EPHEMERAL, 32);
	mix_hash(n->hash, msg + WG_RES_EPHEMERAL, 32);

	/* ee */
	err = mix_dh(n->chain, NULL, eph_priv, n->remote_eph);
	if (err)
		goto out;

	/* se */
	err = mix_dh(n->chain, NULL, eph_priv, r->pub);
	if (err)
		goto out;

	/* psk */
	mix_psk(n, key, r->psk);

	/* {} */
	seal_and_hash(n, msg + WG_RES_EMPTY, msg, 0, key);

	/* The initiator sends with the first key. */
	wg_kdf(keys->recv, keys->send, NULL, n->chain, NULL, 0);
out:
	nb_wipe(eph_priv, sizeof eph_priv);
	nb_wipe(key, sizeof key);
	nb_wipe(n, sizeof *n);
	return err;
}

int wg_consume_response(struct wg_session_keys *keys, struct wg_noise *n, const struct wg_self *s,
			const struct wg_remote *r, const uint8_t msg[WG_RES_LEN])
{
	/* Work on a copy: a forged response must not disturb the handshake that waits. */
	struct wg_noise w = *n;
	uint8_t key[32], none[1];
	int err;

	w.remote_index = nb_get_le32(msg + WG_RES_SENDER);

	/* e */
	memcpy(w.remote_eph, msg + WG_RES_EPHEMERAL, 32);
	mix_chain(w.chain, w.remote_eph, 32);
	mix_hash(w.hash, w.remote_eph, 32);

	/* ee */
	err = mix_dh(w.chain, NULL, w.eph_priv, w.remote_eph);
	if (err)
		goto out;

	/* se */
	err = mix_dh(w.chain, NULL, s->priv, w.remote_eph);
	if (err)
		goto out;

	/* psk */
	mix_psk(&w, key, r->psk);

	/* {} */
	err = open_and_hash(&w, none, msg + WG_RES_EMPTY, 0, key);
	if (err)
		goto out;

	wg_kdf(keys->send, keys->recv, NULL, w.chain, NULL, 0);
	nb_wipe(n, sizeof *n);
out:
	nb_wipe(key, sizeof key);
	nb_wipe(&w, sizeof w);
	return err ? NB_E_AUTH : 0;
}
