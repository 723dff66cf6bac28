/* turn_auth.c - long-term credentials of the TURN server: nonces that carry their own age, static and
 * time-limited users, and limits on unauthenticated answers so that forged sources get little out of us.
 * Tests: tests/unit/ice_turn_server_test.c */
#include <limits.h>

#include "base/err.h"
#include "crypto/crypto.h"
#include "ice/turn_int.h"

/* base64url(time (4 bytes, seconds) || 14 bytes of HMAC-SHA256(key, time || client)). The address part
 * only: a client whose port is remapped by a NAT keeps its nonce, and flows are told apart elsewhere. */
static void nonce_bytes(const struct turn_server *s, uint8_t out[18], uint32_t t, const struct turn_flow *f)
{
	uint8_t mac[NBC_SHA256_LEN], in[4 + 1 + 16] = { 0 };

	nb_put_be32(in, t);
	in[4] = f->client.addr.family;
	memcpy(in + 5, f->client.addr.ip, 16);
	nbc_hmac_sha256(mac, nb_bytes(s->nonce_key, sizeof s->nonce_key), nb_bytes(in, sizeof in));
	memcpy(out, in, 4);
	memcpy(out + 4, mac, 14);
}

void turn_nonce_make(const struct turn_server *s, char out[TURN_NONCE_LEN + 1], const struct turn_flow *f,
		     struct nb_time now)
{
	uint8_t b[18];

	nonce_bytes(s, b, (uint32_t)(now.ns / NB_SEC), f);
	nb_base64url_encode(out, TURN_NONCE_LEN + 1, nb_bytes(b, sizeof b));
}

bool turn_nonce_check(const struct turn_server *s, struct nb_bytes nonce, const struct turn_flow *f,
		      uint32_t max_s, struct nb_time now)
{
	uint8_t got[18], want[18];
	uint32_t t;
	size_t n;

	if (nonce.n != TURN_NONCE_LEN || nb_base64url_decode(got, sizeof got, &n, nonce) || n != sizeof got)
		return false;
	t = nb_get_be32(got);
	nonce_bytes(s, want, t, f);
	return nb_equal_ct(got, want, sizeof got) && (uint32_t)(now.ns / NB_SEC) - t <= max_s;
}

/* The leading decimal number of "expiry" or "expiry:anything". */
static int parse_expiry(struct nb_bytes user, int64_t *out)
{
	int64_t v = 0;
	size_t i;

	for (i = 0; i < user.n && user.p[i] >= '0' && user.p[i] <= '9'; i++) {
		if (i == 15)
			return NB_E_BAD;
		v = v * 10 + (user.p[i] - '0');
	}
	if (i == 0 || (i < user.n && user.p[i] != ':'))
		return NB_E_BAD;
	*out = v;
	return 0;
}

/* password = base64(HMAC-SHA1(secret, user name)) (management-protocol.md 6.4). */
static int secret_key(const struct turn_server *s, uint8_t key[STUN_KEY_LEN], struct nb_bytes user)
{
	char password[NB_BASE64_LEN(NBC_SHA1_LEN) + 1];
	uint8_t mac[NBC_SHA1_LEN];
	int r;

	nbc_hmac_sha1(mac, nb_bytes_str(s->secret), user);
	nb_base64_encode(password, sizeof password, nb_bytes(mac, sizeof mac));
	r = stun_long_term_key(key, user, nb_bytes_str(s->realm), nb_bytes_str(password));
	nb_wipe(password, sizeof password);
	nb_wipe(mac, sizeof mac);
	return r;
}

int turn_user_key(const struct turn_server *s, uint8_t key[STUN_KEY_LEN], struct nb_bytes user,
		  struct nb_wall wall)
{
	int64_t expiry;

	for (size_t i = 0; i < s->cfg.nusers; i++) {
		if (nb_bytes_eq_str(user, s->users[i].name)) {
			memcpy(key, s->users[i].key, STUN_KEY_LEN);
			return 0;
		}
	}
	if (!s->secret || user.n > STUN_MAX_USERNAME || parse_expiry(user, &expiry))
		return NB_E_NOTFOUND;
	/* Still valid in the second it names, as with the relay's tokens. */
	if (wall.ns / NB_SEC > expiry)
		return NB_E_TIMEOUT;
	return secret_key(s, key, user);
}

/* One bucket for an IPv4 /24 or an IPv6 /64: who forges sources can vary the rest freely. */
static struct turn_source *source_of(struct turn_server *s, const struct turn_flow *f)
{
	struct nb_addr net = f->client.addr;

	memset(net.ip + (net.family == 4 ? 3 : 8), 0, net.family == 4 ? 13 : 8);
	return &s->sources[nb_siphash(s->seed, nb_bytes(net.ip, 16)) % TURN_SOURCES];
}

bool turn_challenge_allowed(struct turn_server *s, const struct turn_flow *f, struct nb_time now)
{
	/* A long realm makes a long answer: it counts more than once. */
	return f->conn || nb_bucket_take(&source_of(s, f)->challenges, &s->challenge_rate,
					 1 + strlen(s->realm) / TURN_CHALLENGE_UNIT, now);
}

bool turn_answer_allowed(struct turn_server *s, const struct turn_flow *f, struct nb_time now)
{
	return f->conn || nb_bucket_take(&source_of(s, f)->answers, &s->answer_rate, 1, now);
}
