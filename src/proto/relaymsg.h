/* relaymsg.h - messages of the NetBird relay protocol, shared by its server (src/relay) and its client
 * (src/client): framing, peer ids, tokens, URLs. Bytes only; how they travel (one WebSocket message each) and
 * what they cause is elsewhere. spec/relay-protocol.md 2.1, 3, 4.
 * Tests: tests/unit/proto_relaymsg_test.c, tests/fuzz/relaymsg_fuzz.c */
#ifndef NB_PROTO_RELAYMSG_H
#define NB_PROTO_RELAYMSG_H

#include "base/bytes.h"

#define RELAYMSG_VERSION 1
#define RELAYMSG_ID_LEN 36		/* "sha-" and a SHA-256 */
#define RELAYMSG_HEADER 2
#define RELAYMSG_MAX 8820		/* bytes of a message */
#define RELAYMSG_AUTH_MAX 212		/* of the first message to a server: stock reads no more */
#define RELAYMSG_TRANSPORT_HEADER (RELAYMSG_HEADER + RELAYMSG_ID_LEN)
#define RELAYMSG_IDS_MAX ((RELAYMSG_MAX - RELAYMSG_HEADER) / RELAYMSG_ID_LEN)	/* ids in one message */
#define RELAYMSG_URL_MAX 256		/* with NUL */
#define RELAYMSG_TOKEN_MAX (RELAYMSG_AUTH_MAX - 42)

enum relaymsg_type {
	RELAYMSG_TRANSPORT = 3,
	RELAYMSG_CLOSE = 4,
	RELAYMSG_HEALTH = 5,
	RELAYMSG_AUTH = 6,
	RELAYMSG_AUTH_RESPONSE = 7,
	RELAYMSG_SUBSCRIBE = 8,
	RELAYMSG_UNSUBSCRIBE = 9,
	RELAYMSG_ONLINE = 10,
	RELAYMSG_OFFLINE = 11,
};

/* A decoded message; slices point into the input. */
struct relaymsg {
	enum relaymsg_type type;
	const uint8_t *id;	/* TRANSPORT, AUTH: RELAYMSG_ID_LEN bytes */
	struct nb_bytes body;	/* TRANSPORT: payload; AUTH: token; AUTH_RESPONSE: URL; lists: the ids */
	size_t n_ids;		/* lists */
};

/* Returns 0, NB_E_SHORT (no header), NB_E_UNSUPPORTED (another version, or an unknown type) or NB_E_BAD (a known
 * type whose body is malformed); m->type is set for NB_E_BAD, too. */
int relaymsg_decode(struct relaymsg *m, struct nb_bytes in);
/* Write the two header bytes. */
void relaymsg_header(uint8_t out[RELAYMSG_HEADER], enum relaymsg_type type);
/* Header and peer id of a transport message; the payload follows. */
void relaymsg_transport_header(uint8_t out[RELAYMSG_TRANSPORT_HEADER], const uint8_t id[RELAYMSG_ID_LEN]);
/* The whole Auth message. Returns its length, or 0 when the token is too long. */
size_t relaymsg_auth(uint8_t out[RELAYMSG_AUTH_MAX], const uint8_t id[RELAYMSG_ID_LEN], struct nb_bytes token);

/* A peer's id from the base64 text of its WireGuard public key. */
void relaymsg_peer_id(uint8_t id[RELAYMSG_ID_LEN], const char *key_text);
/* How logs show an id: "sha-" and base64. */
#define RELAYMSG_ID_TEXT (4 + NB_BASE64_LEN(32) + 1)
void relaymsg_peer_id_text(char text[RELAYMSG_ID_TEXT], const uint8_t id[RELAYMSG_ID_LEN]);

/* The HMAC key of a shared secret. */
void relaymsg_key(uint8_t key[32], struct nb_bytes secret);
/* A token that expires at expiry_s (Unix seconds). Returns its length. */
size_t relaymsg_token(uint8_t out[RELAYMSG_TOKEN_MAX], const uint8_t key[32], int64_t expiry_s);
/* Returns 0, NB_E_BAD (malformed), NB_E_UNSUPPORTED (another algorithm), NB_E_AUTH (wrong key) or NB_E_TIMEOUT
 * (expired at now_s). */
int relaymsg_token_check(struct nb_bytes token, const uint8_t key[32], int64_t now_s);
/* A token out of what management sends: decimal expiry and base64 of the MAC. Returns its length, or 0 when
 * they are unusable. */
size_t relaymsg_token_join(uint8_t out[RELAYMSG_TOKEN_MAX], const char *payload, const char *signature);

/* Where "rel://host[:port]" or "rels://host[:port]" leads. */
struct relaymsg_url {
	char host[RELAYMSG_URL_MAX];	/* no brackets */
	uint16_t port;
	bool tls;
};
/* Returns 0 or NB_E_BAD. Anything behind the port is ignored. */
int relaymsg_url_parse(struct relaymsg_url *u, const char *text);
/* The value of a Host header for u: with brackets and port where they belong. */
#define RELAYMSG_HOST_MAX (RELAYMSG_URL_MAX + 8)
void relaymsg_url_host(char out[RELAYMSG_HOST_MAX], const struct relaymsg_url *u);

#endif
