/* stun.h - STUN messages (RFC 8489) with the attributes of ICE (RFC 8445) and TURN (RFC 8656),
 * and TURN ChannelData framing: bytes to an index of slices, values to bytes.
 * Nothing here knows transactions, time or sockets. Decoding copies nothing: every slice points
 * into the caller's datagram. Tests: tests/unit/ice_stun_test.c, tests/fuzz/stun_fuzz.c */
#ifndef NB_ICE_STUN_H
#define NB_ICE_STUN_H

#include "base/addr.h"
#include "base/buf.h"

#define STUN_HEADER_LEN 20
#define STUN_MAGIC 0x2112a442u
#define STUN_TXID_LEN 12
#define STUN_MAX_ATTRS 32	/* attributes in one message; more is refused */
#define STUN_FINGERPRINT_LEN 8	/* with its header */
#define STUN_KEY_LEN 16		/* long-term credential key (MD5) */
#define STUN_MAX_USERNAME 508	/* bytes (RFC 8489, 14.3: fewer than 509) */
#define STUN_MAX_REALM 763	/* bytes (14.9, 14.10: at most 763) */

enum stun_class { STUN_REQUEST, STUN_INDICATION, STUN_SUCCESS, STUN_ERROR };

enum stun_method {
	STUN_BINDING = 0x001,
	TURN_ALLOCATE = 0x003,
	TURN_REFRESH = 0x004,
	TURN_SEND = 0x006,
	TURN_DATA = 0x007,
	TURN_CREATE_PERMISSION = 0x008,
	TURN_CHANNEL_BIND = 0x009,
};

/* Types below 0x8000 are comprehension-required. */
enum stun_type {
	STUN_A_MAPPED_ADDRESS = 0x0001,
	STUN_A_CHANGE_REQUEST = 0x0003,	/* RFC 5780: STUN_CHANGE_* */
	STUN_A_USERNAME = 0x0006,
	STUN_A_MESSAGE_INTEGRITY = 0x0008,
	STUN_A_ERROR_CODE = 0x0009,
	STUN_A_UNKNOWN_ATTRIBUTES = 0x000a,
	TURN_A_CHANNEL_NUMBER = 0x000c,
	TURN_A_LIFETIME = 0x000d,
	TURN_A_XOR_PEER_ADDRESS = 0x0012,
	TURN_A_DATA = 0x0013,
	STUN_A_REALM = 0x0014,
	STUN_A_NONCE = 0x0015,
	TURN_A_XOR_RELAYED_ADDRESS = 0x0016,
	TURN_A_REQUESTED_ADDRESS_FAMILY = 0x0017,
	TURN_A_EVEN_PORT = 0x0018,
	TURN_A_REQUESTED_TRANSPORT = 0x0019,
	TURN_A_DONT_FRAGMENT = 0x001a,
	STUN_A_MESSAGE_INTEGRITY_SHA256 = 0x001c,
	STUN_A_PASSWORD_ALGORITHM = 0x001d,
	STUN_A_USERHASH = 0x001e,
	STUN_A_XOR_MAPPED_ADDRESS = 0x0020,
	TURN_A_RESERVATION_TOKEN = 0x0022,
	ICE_A_PRIORITY = 0x0024,
	ICE_A_USE_CANDIDATE = 0x0025,
	STUN_A_RESPONSE_PORT = 0x0027,
	TURN_A_ADDITIONAL_ADDRESS_FAMILY = 0x8000,
	TURN_A_ADDRESS_ERROR_CODE = 0x8001,
	STUN_A_PASSWORD_ALGORITHMS = 0x8002,
	STUN_A_ALTERNATE_DOMAIN = 0x8003,
	TURN_A_ICMP = 0x8004,
	STUN_A_SOFTWARE = 0x8022,
	STUN_A_ALTERNATE_SERVER = 0x8023,
	STUN_A_FINGERPRINT = 0x8028,
	ICE_A_CONTROLLED = 0x8029,
	ICE_A_CONTROLLING = 0x802a,
	STUN_A_RESPONSE_ORIGIN = 0x802b,
	STUN_A_OTHER_ADDRESS = 0x802c,
	ICE_A_NETBIRD_PAIR_ID = 0x8100,	/* NetBird's, placed behind FINGERPRINT (peer-connection.md 1.8) */
	STUN_A_NESTBOX_OTHER_PORT = 0xc4b1,	/* ours: the second port of a server with one address, in the upper half */
};

/* Bits of CHANGE-REQUEST. */
#define STUN_CHANGE_PORT 2u
#define STUN_CHANGE_IP 4u

struct stun_attr {
	uint16_t type;
	uint16_t len;	/* of the value, without padding */
	uint32_t at;	/* offset of the attribute's header in the message */
};

/* One message, indexed. raw and everything found through it are borrowed from the input. */
struct stun_msg {
	struct nb_bytes raw;
	uint16_t method;
	uint8_t cls;		/* enum stun_class */
	uint8_t nattrs;
	uint8_t ntrusted;	/* attributes up to and with the first integrity or fingerprint one */
	struct stun_attr attrs[STUN_MAX_ATTRS];
};

/* True when the bytes start like a STUN message: two zero bits, cookie, a plausible length. Cheap;
 * for telling STUN, ChannelData and WireGuard apart on one socket. */
bool stun_is(struct nb_bytes in);

/* Parse one STUN message that fills the datagram (RFC 8489, 5 and 14).
 * in:  borrowed; slices found through *out point into it.
 * Returns 0, NB_E_SHORT (ends early), NB_E_BAD (cookie, type bits, length or an attribute is wrong)
 * or NB_E_FULL (more than STUN_MAX_ATTRS); *out is unspecified unless 0. */
int stun_decode(struct stun_msg *out, struct nb_bytes in);

static inline const uint8_t *stun_txid(const struct stun_msg *m)
{
	return m->raw.p + 8;
}

/* The value of the first attribute of this type. Attributes behind MESSAGE-INTEGRITY(-SHA256) or
 * FINGERPRINT are not found, as RFC 8489 14.5 wants: they are not protected.
 * Returns 0 or NB_E_NOTFOUND (*out empty). */
int stun_find(const struct stun_msg *m, uint16_t type, struct nb_bytes *out);
/* The same, anywhere in the message. Only for NetBird's pair id, which sits behind FINGERPRINT and
 * is not authenticated. */
int stun_find_anywhere(const struct stun_msg *m, uint16_t type, struct nb_bytes *out);
bool stun_has(const struct stun_msg *m, uint16_t type);
/* Fixed-size values. Return 0, NB_E_NOTFOUND, or NB_E_BAD when the length is wrong. */
int stun_get_u32(const struct stun_msg *m, uint16_t type, uint32_t *out);
int stun_get_u64(const struct stun_msg *m, uint16_t type, uint64_t *out);
/* XOR-MAPPED-, XOR-PEER- or XOR-RELAYED-ADDRESS. Returns 0, NB_E_NOTFOUND or NB_E_BAD. */
int stun_get_xor_addr(const struct stun_msg *m, uint16_t type, struct nb_endpoint *out);
/* One value of those types, when a message carries several (walk attrs, see stun_value). */
int stun_xor_addr_value(const struct stun_msg *m, struct nb_bytes value, struct nb_endpoint *out);
/* MAPPED-ADDRESS or ALTERNATE-SERVER. */
int stun_get_addr(const struct stun_msg *m, uint16_t type, struct nb_endpoint *out);
/* ERROR-CODE: *code is 300..699; reason (may be NULL) borrowed. */
int stun_get_error(const struct stun_msg *m, unsigned *code, struct nb_bytes *reason);
/* The value of attribute i < nattrs. */
struct nb_bytes stun_value(const struct stun_msg *m, unsigned i);
/* Comprehension-required types in m that are not among the nknown in known[]: up to cap of them to
 * out, each once. Returns how many were written. */
unsigned stun_unknown(const struct stun_msg *m, const uint16_t *known, unsigned nknown, uint16_t *out,
		      unsigned cap);

/* Verify MESSAGE-INTEGRITY (HMAC-SHA1) or MESSAGE-INTEGRITY-SHA256 (full 32 bytes) with the header
 * length set to the end of that attribute, whatever follows it (14.5).
 * Returns 0, NB_E_NOTFOUND (absent), NB_E_BAD (wrong length), NB_E_AUTH. */
int stun_check_integrity(const struct stun_msg *m, struct nb_bytes key);
int stun_check_integrity_sha256(const struct stun_msg *m, struct nb_bytes key);
/* Verify FINGERPRINT; NetBird's attribute may follow it. Returns as above, NB_E_AUTH on mismatch. */
int stun_check_fingerprint(const struct stun_msg *m);

/* Key of the long-term credential: MD5(user ":" realm ":" password) (9.2.2). The password is used as
 * given (no OpaqueString preparation). Returns 0 or NB_E_ARG when a part is too long (509, 764 and
 * 512 bytes). */
int stun_long_term_key(uint8_t out[STUN_KEY_LEN], struct nb_bytes user, struct nb_bytes realm,
		       struct nb_bytes password);

/* A message being written at the end of *b. Errors latch in b; check stun_end once. */
struct stun_enc {
	struct nb_buf *b;
	size_t start;	/* offset of the message in b */
};

struct stun_enc stun_begin(struct nb_buf *b, enum stun_class cls, unsigned method,
			   const uint8_t txid[STUN_TXID_LEN]);
void stun_put(struct stun_enc *e, uint16_t type, struct nb_bytes value);
void stun_put_str(struct stun_enc *e, uint16_t type, const char *text);
void stun_put_u32(struct stun_enc *e, uint16_t type, uint32_t v);
void stun_put_u64(struct stun_enc *e, uint16_t type, uint64_t v);
/* An attribute without a value, such as USE-CANDIDATE. */
void stun_put_flag(struct stun_enc *e, uint16_t type);
void stun_put_xor_addr(struct stun_enc *e, uint16_t type, const struct nb_endpoint *a);
void stun_put_addr(struct stun_enc *e, uint16_t type, const struct nb_endpoint *a);
/* ERROR-CODE; reason is cut at 128 bytes. */
void stun_put_error(struct stun_enc *e, unsigned code, const char *reason);
void stun_put_unknown(struct stun_enc *e, const uint16_t *types, unsigned n);
/* Sign what is written so far. Nothing but FINGERPRINT (and NetBird's pair id) should follow. */
void stun_put_integrity(struct stun_enc *e, struct nb_bytes key);
void stun_put_integrity_sha256(struct stun_enc *e, struct nb_bytes key);
void stun_put_fingerprint(struct stun_enc *e);
/* Returns 0 or the error latched in the buffer (the bytes written are then unspecified). */
int stun_end(struct stun_enc *e);

/* TURN ChannelData (RFC 8656, 12.4). */
#define TURN_CHANNEL_HEADER 4
#define TURN_CHANNEL_MIN 0x4000
#define TURN_CHANNEL_MAX 0x7fff		/* RFC 5766; RFC 8656 clients stop at 0x4fff, as ours does */

static inline bool turn_channel_is(struct nb_bytes in)
{
	return in.n >= TURN_CHANNEL_HEADER && (in.p[0] & 0xc0) == 0x40;
}
/* Read one ChannelData datagram; bytes behind the announced length are padding. data is borrowed.
 * Returns 0, NB_E_SHORT or NB_E_BAD (not a channel number). */
int turn_channel_decode(struct nb_bytes in, uint16_t *channel, struct nb_bytes *data);
/* Write the four header bytes for n <= 65535 bytes of data; padding is needed on streams only. */
static inline void turn_channel_header(uint8_t out[TURN_CHANNEL_HEADER], uint16_t channel, uint16_t n)
{
	nb_put_be16(out, channel);
	nb_put_be16(out + 2, n);
}

#endif
