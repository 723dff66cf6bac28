/* wg_int.h - what the files of src/wg share: wire sizes, protocol constants, and the structures of
 * device, peer and key pair. Nothing outside src/wg (and its tests) includes this. */
#ifndef NB_WG_WG_INT_H
#define NB_WG_WG_INT_H

#include "base/list.h"
#include "base/map.h"
#include "wg/wg.h"

/* --- wire (little-endian; type is one byte, three zero bytes follow) --- */

#define WG_TAG 16
#define WG_MAC 16
#define WG_HASH 32
#define WG_TAI 12

enum wg_msg_type { WG_MSG_INITIATION = 1, WG_MSG_RESPONSE, WG_MSG_COOKIE, WG_MSG_TRANSPORT };

/* initiation: type 4, sender 4, ephemeral 32, static 32+16, timestamp 12+16, mac1 16, mac2 16 */
#define WG_INI_SENDER 4
#define WG_INI_EPHEMERAL 8
#define WG_INI_STATIC 40
#define WG_INI_TIMESTAMP 88
#define WG_INI_LEN 148
/* response: type 4, sender 4, receiver 4, ephemeral 32, empty 0+16, mac1 16, mac2 16 */
#define WG_RES_SENDER 4
#define WG_RES_RECEIVER 8
#define WG_RES_EPHEMERAL 12
#define WG_RES_EMPTY 44
#define WG_RES_LEN 92
/* cookie reply: type 4, receiver 4, nonce 24, cookie 16+16 */
#define WG_COO_RECEIVER 4
#define WG_COO_NONCE 8
#define WG_COO_COOKIE 32
#define WG_COO_LEN 64
/* transport: type 4, receiver 4, counter 8, packet n+16 */
#define WG_TRA_RECEIVER 4
#define WG_TRA_COUNTER 8
#define WG_TRA_HEADER 16
#define WG_TRA_MIN (WG_TRA_HEADER + WG_TAG)

#define WG_CHANNEL_HEADER 4	/* RFC 8656, 12.4: channel number, length */

/* --- constants of the protocol (paper, 6.1 and 6.5) --- */

#define WG_REKEY_AFTER_MESSAGES (1ULL << 60)
#define WG_REJECT_AFTER_MESSAGES (UINT64_MAX - (1ULL << 13))
#define WG_REKEY_AFTER_TIME (120 * NB_SEC)
#define WG_REJECT_AFTER_TIME (180 * NB_SEC)
#define WG_REKEY_ATTEMPT_TIME (90 * NB_SEC)
#define WG_REKEY_TIMEOUT (5 * NB_SEC)
#define WG_REKEY_JITTER_MS 334
#define WG_MAX_ATTEMPTS 18	/* REKEY_ATTEMPT_TIME / REKEY_TIMEOUT */
#define WG_KEEPALIVE_TIMEOUT (10 * NB_SEC)
#define WG_COOKIE_LIFE (120 * NB_SEC)
#define WG_COOKIE_LATENCY (5 * NB_SEC)
#define WG_COOKIE_WAIT (30 * NB_MS)	/* before the attempt with a cookie, plus a quarter of the jitter */
#define WG_INITIATION_GAP (20 * NB_MS)	/* between initiations, sent or consumed, of one peer */
#define WG_UNDER_LOAD_STICKY (1 * NB_SEC)
#define WG_RATE_PER_SEC 20
#define WG_RATE_BURST 5
#define WG_WANTED_GAP (1 * NB_SEC)
#define WG_ACTIVE_MS 4000
#define WG_SILENCE (400 * NB_MS)
#define WG_PEER_STAGED_MAX 64	/* packets of one peer waiting for its handshake; the oldest goes */
#define WG_TAI_AHEAD (3600 * NB_SEC)

/* --- blake2s.c --- */

struct wg_blake2s {
	uint32_t h[8];
	uint8_t buf[64];
	size_t fill;
	uint64_t total;
	size_t outlen;
};

/* RFC 7693. outlen 1..32; key may be NULL when keylen is 0 (at most 32). */
void wg_blake2s_init(struct wg_blake2s *s, size_t outlen, const void *key, size_t keylen);
void wg_blake2s_update(struct wg_blake2s *s, const void *p, size_t n);
/* Writes outlen bytes and wipes the state. */
void wg_blake2s_final(struct wg_blake2s *s, uint8_t *out);
void wg_blake2s(uint8_t *out, size_t outlen, const void *key, size_t keylen, const void *p, size_t n);
/* HMAC-BLAKE2s over the n bytes at p. */
void wg_hmac(uint8_t out[WG_HASH], const uint8_t *key, size_t keylen, const void *p, size_t n);
/* KDF1..3 of the paper (5.4): outputs may be NULL from the second on, and may alias the key. */
void wg_kdf(uint8_t o1[WG_HASH], uint8_t *o2, uint8_t *o3, const uint8_t key[WG_HASH], const void *p, size_t n);

/* --- aead.c --- */

/* One transport message to seal or open: n payload bytes at p, the tag directly behind them. */
struct wg_aead_op {
	uint8_t *p;
	size_t n;
	const uint8_t *key;
	uint64_t counter;
	bool ok;	/* result of open */
};

/* A kernel works on many messages at once, so that wide registers can be filled with several. */
struct wg_aead {
	const char *name;
	void (*seal)(struct wg_aead_op *ops, size_t count);
	void (*open)(struct wg_aead_op *ops, size_t count);
};

/* The kernel in use: the best one this machine can run and that passes a check against the library at first use. */
const struct wg_aead *wg_aead(void);
/* All kernels of this build, best first; NULL past the end. For tests and benchmarks. */
const struct wg_aead *wg_aead_kernel(size_t i);
bool wg_aead_usable(const struct wg_aead *k);

/* One sealed handshake field with associated data (ChaCha20-Poly1305, nonce 0). dst gets n+16 bytes. */
void wg_seal_field(uint8_t *dst, const void *src, size_t n, const uint8_t key[32], const uint8_t ad[WG_HASH]);
/* src has n+16 bytes. Returns 0 or NB_E_AUTH. */
int wg_open_field(void *dst, const uint8_t *src, size_t n, const uint8_t key[32], const uint8_t ad[WG_HASH]);
/* XChaCha20-Poly1305 for cookies (paper, 5.4.7). */
void wg_seal_cookie(uint8_t dst[WG_MAC + WG_TAG], const uint8_t cookie[WG_MAC], const uint8_t nonce[24],
		    const uint8_t key[32], const uint8_t mac1[WG_MAC]);
int wg_open_cookie(uint8_t cookie[WG_MAC], const uint8_t src[WG_MAC + WG_TAG], const uint8_t nonce[24],
		   const uint8_t key[32], const uint8_t mac1[WG_MAC]);
/* X25519. Returns 0, or NB_E_BAD when the result is all zero. */
int wg_dh(uint8_t out[32], const uint8_t priv[32], const uint8_t pub[32]);
void wg_dh_public(uint8_t pub[32], const uint8_t priv[32]);
void wg_dh_clamp(uint8_t priv[32]);

/* --- noise.c --- */

/* Our static identity. */
struct wg_self {
	bool has;
	uint8_t priv[32];
	uint8_t pub[32];
	uint8_t mac1_key[32];	/* of messages to us */
	uint8_t cookie_key[32];	/* of cookies from us */
};

/* A peer's static identity as the handshake needs it. */
struct wg_remote {
	uint8_t pub[32];
	uint8_t ss[32];		/* DH(our static, its static); zero: unusable */
	uint8_t psk[32];
	uint8_t mac1_key[32];	/* of messages to it */
	uint8_t cookie_key[32];	/* of cookies from it */
};

/* Symmetric state between the messages of one handshake. */
struct wg_noise {
	uint8_t chain[WG_HASH];		/* C */
	uint8_t hash[WG_HASH];		/* H */
	uint8_t eph_priv[32];		/* initiator: E_i private; responder: unused */
	uint8_t remote_eph[32];
	uint32_t remote_index;
};

struct wg_session_keys {
	uint8_t send[32];
	uint8_t recv[32];
};

void wg_self_set(struct wg_self *s, const uint8_t priv[32]);
/* Fill in everything but psk. Returns 0 or NB_E_BAD (a key of small order: ss is zero). */
int wg_remote_set(struct wg_remote *r, const struct wg_self *s, const uint8_t pub[32]);

/* Write an initiation (macs zero). eph: fresh private key, clamped here, remembered in n. Returns 0 or NB_E_BAD. */
int wg_create_initiation(uint8_t msg[WG_INI_LEN], struct wg_noise *n, const struct wg_self *s, const struct wg_remote *r,
			 uint32_t sender, const uint8_t tai[WG_TAI], const uint8_t eph[32]);
/* Read an initiation up to the initiator's static key, so that the caller can find its peer. Returns 0 or NB_E_AUTH. */
int wg_consume_initiation_static(struct wg_noise *n, uint8_t pub[32], const struct wg_self *s, const uint8_t msg[WG_INI_LEN]);
/* The rest, with the peer known: tai gets the time stamp. Returns 0 or NB_E_AUTH. */
int wg_consume_initiation(struct wg_noise *n, uint8_t tai[WG_TAI], const struct wg_remote *r, const uint8_t msg[WG_INI_LEN]);
/* Answer the initiation in n, which is wiped; keys get the session. Returns 0 or NB_E_BAD. */
int wg_create_response(uint8_t msg[WG_RES_LEN], struct wg_session_keys *keys, struct wg_noise *n, const struct wg_remote *r,
		       uint32_t sender, const uint8_t eph[32]);
/* Read the answer to the initiation in n, which stays as it was on failure and is wiped on success. */
int wg_consume_response(struct wg_session_keys *keys, struct wg_noise *n, const struct wg_self *s,
			const struct wg_remote *r, const uint8_t msg[WG_RES_LEN]);

/* --- cookie.c --- */

/* What we know of a peer's cookies. */
struct wg_cookie_jar {
	uint8_t cookie[WG_MAC];
	struct nb_time birth;
	bool have;
	uint8_t last_mac1[WG_MAC];	/* of the last handshake message we sent */
	bool sent;
};

struct wg_rate_bucket {
	uint64_t source;		/* keyed hash of the source; 0: unused */
	struct nb_time last;
	int64_t tokens_ns;
	bool fresh;
};
#define WG_RATE_BUCKETS 2048

/* What decides whether a stranger's handshake message is worth four scalar multiplications. */
struct wg_cookie_checker {
	uint8_t secret[32];
	struct nb_time secret_birth;
	bool have_secret;
	uint64_t hash_key[2];
	struct wg_rate_bucket buckets[WG_RATE_BUCKETS];
	struct nb_time window;		/* load meter: start of the current second */
	unsigned seen;
	unsigned burst;
	struct nb_time load_until;
};

/* Put mac1, and mac2 when the jar has a fresh cookie, at the end of the n-byte message. */
void wg_add_macs(uint8_t *msg, size_t n, struct wg_cookie_jar *jar, const struct wg_remote *r, struct nb_time now);
bool wg_mac1_ok(const struct wg_self *s, const uint8_t *msg, size_t n);
/* The cookie for a source, from the current secret (made anew every 120 s). */
void wg_cookie_of(struct wg_cookie_checker *c, uint8_t cookie[WG_MAC], const struct wg_ep *from, struct nb_time now,
		  nb_random_fn random, void *ctx);
bool wg_mac2_ok(struct wg_cookie_checker *c, const uint8_t *msg, size_t n, const struct wg_ep *from, struct nb_time now,
		nb_random_fn random, void *ctx);
/* Write the reply to the handshake message msg (n bytes). */
void wg_create_cookie(uint8_t out[WG_COO_LEN], struct wg_cookie_checker *c, const struct wg_self *s, const uint8_t *msg,
		      size_t n, const struct wg_ep *from, struct nb_time now, nb_random_fn random, void *ctx);
/* Take a cookie into the jar. Returns 0, NB_E_STATE (we sent nothing) or NB_E_AUTH. */
int wg_consume_cookie(struct wg_cookie_jar *jar, const struct wg_remote *r, const uint8_t msg[WG_COO_LEN], struct nb_time now);
/* Count one handshake message; true while there are too many. */
bool wg_under_load(struct wg_cookie_checker *c, struct nb_time now);
/* True when the source may have one more message handled (20 per second, 5 at once; IPv6 by /64). */
bool wg_rate_allow(struct wg_cookie_checker *c, const struct wg_ep *from, struct nb_time now);

/* --- counter.c --- */

#define WG_WINDOW_BITS 8192
#define WG_WINDOW (WG_WINDOW_BITS - 64)	/* one word of slack: 8128 */
struct wg_window {
	uint64_t next;			/* one above the highest counter seen */
	uint64_t bits[WG_WINDOW_BITS / 64];
};
/* True the first time a counter is seen, if it is not too far back (RFC 6479). */
bool wg_window_accept(struct wg_window *w, uint64_t counter);

/* --- allowedips.c --- */

struct wg_trie_node;
struct wg_trie {
	struct wg_trie_node *root4, *root6;
};
struct wg_trie_node {
	uint64_t bits[2];		/* prefix, first bit on top; IPv4 in the upper half of bits[0] */
	uint8_t len;
	uint8_t family;
	struct wg_peer *peer;		/* NULL: only a fork */
	struct wg_trie_node *parent, *child[2];
	struct nb_list of_peer;
};
/* Uses allowed and nallowed of the peers. Returns 0, NB_E_ARG or NB_E_NOMEM. */
int wg_trie_insert(struct wg_trie *t, const struct nb_prefix *prefix, struct wg_peer *peer);
/* Returns 0 or NB_E_NOTFOUND (absent, or somebody else's). */
int wg_trie_remove(struct wg_trie *t, const struct nb_prefix *prefix, const struct wg_peer *peer);
void wg_trie_remove_all(struct wg_trie *t, struct wg_peer *peer);
/* ip: 4 or 16 bytes. */
struct wg_peer *wg_trie_find4(const struct wg_trie *t, const uint8_t ip[4]);
struct wg_peer *wg_trie_find6(const struct wg_trie *t, const uint8_t ip[16]);
void wg_trie_prefix(const struct wg_trie_node *n, struct nb_prefix *out);

/* --- peer.c, device.c --- */

struct wg_keypair {
	struct wg_session_keys keys;
	struct wg_peer *peer;
	bool initiator;
	bool retired;			/* replaced while a batch may still point here */
	bool crossed;			/* answered while a handshake of ours was under way */
	bool fresh_asked;		/* the one early rekey on receive was begun */
	struct nb_time birth;
	uint32_t local_index, remote_index;
	uint64_t send_counter;
	struct wg_window window;
	struct wg_keypair *dead_next;
};

/* A waiting packet; the bytes follow, WG_HEADROOM in front. */
struct wg_staged {
	struct wg_staged *next;
	struct nb_time when;
	size_t n;
	uint8_t buf[];
};

enum wg_timer {
	WG_T_RETRANSMIT,	/* handshake unanswered */
	WG_T_KEEPALIVE,		/* data received, nothing sent */
	WG_T_NEW_HANDSHAKE,	/* data sent, nothing received */
	WG_T_ZERO,		/* keys too old to keep */
	WG_T_PERSISTENT,
	WG_T_SILENCE,		/* something was sent that wants an answer, nothing came back on that path */
	WG_T_COUNT
};

/* What wg_output has to write for a peer. */
enum { WG_P_INITIATION = 1, WG_P_KEEPALIVE = 2, WG_P_FLUSH = 4 };

struct wg_peer {
	struct nb_list node;		/* device's list of peers, or of those at home elsewhere */
	bool elsewhere;			/* only key and prefixes are known here */
	struct wg_remote remote;
	void *user;
	struct wg_ep ep;

	struct wg_noise noise;		/* our initiation that waits for its response */
	bool initiating;
	uint32_t noise_index;
	struct wg_keypair *current, *previous, *next;
	uint8_t last_tai[WG_TAI];	/* of the newest initiation consumed */
	uint8_t last_ephemeral[32];	/* of the same */
	bool twin_consumed;		/* it was the second with this stamp */
	struct nb_time last_consumed, last_sent_handshake, last_wanted, active_told;
	bool ever_consumed, ever_sent_handshake, ever_wanted;
	struct wg_cookie_jar jar;

	struct nb_list allowed;
	size_t nallowed;

	struct wg_staged *staged_head, **staged_tail;
	size_t nstaged;
	struct nb_list waiting_node;	/* while there are any */

	struct nb_time timer[WG_T_COUNT];
	bool overdue, insists;		/* SILENCE: one message was not answered in time; more than one went out */
	struct nb_time heap_key;	/* at most the earliest timer; later only after a look */
	size_t heap_at;			/* position + 1; 0: not in the heap */
	unsigned attempts;
	bool another_keepalive;		/* data came while KEEPALIVE was running */
	bool rearm_keepalive;
	bool forced;			/* RETRANSMIT stands for a forced handshake, held back for 20 ms */
	bool cookie_due, cookie_used;	/* RETRANSMIT stands for an attempt with a cookie; that was made */
	uint16_t keepalive;

	unsigned pending;		/* WG_P_* */
	struct nb_list pending_node;
	unsigned events;		/* bit per wg_event_kind */
	struct nb_list event_node;

	uint64_t rx_bytes, tx_bytes, rx_packets, tx_packets, handshakes;
	struct nb_wall last_handshake;
	struct nb_time last_rx_data;
};

struct wg_index {
	uint32_t index;
	struct wg_peer *peer;		/* NULL: free */
	struct wg_keypair *kp;		/* NULL: a handshake of ours */
};

/* A finished handshake message waiting to be sent. */
struct wg_control {
	struct wg_ep ep;
	size_t n;
	uint8_t msg[WG_INI_LEN];
};
#define WG_CONTROLS 128

struct wg_dev {
	struct wg_config cfg;
	struct wg_self self;
	struct nb_map by_key;
	struct nb_list peers, elsewhere;
	size_t npeers, nelsewhere;
	struct wg_trie trie;
	struct wg_index *index;
	size_t index_size;		/* power of two */
	struct wg_peer **heap;
	size_t heap_n, heap_cap;
	struct nb_list pending, events, waiting;
	struct wg_cookie_checker checker;
	struct wg_control controls[WG_CONTROLS];
	size_t control_head, control_n;
	struct wg_staged *free_staged;
	void *stage_mem;
	size_t stage_used;		/* places of it that were ever used */
	struct wg_keypair *dead;
	struct wg_counters counters;
	int64_t wall_offset;		/* wall = now + this */
	struct nb_wall tai_last, tai_reserved;
	bool tai_event;
	uint64_t jitter;
};

/* peer.c */
struct wg_index *wg_index_find(struct wg_dev *d, uint32_t index);
/* A fresh index for peer's handshake (kp NULL) or key pair. */
uint32_t wg_index_new(struct wg_dev *d, struct wg_peer *p, struct wg_keypair *kp);
void wg_index_del(struct wg_dev *d, uint32_t index);
/* Room for the indices of count peers. */
int wg_index_room(struct wg_dev *d, size_t count);
struct wg_keypair *wg_keypair_new(struct wg_peer *p, const struct wg_session_keys *keys, bool initiator, struct nb_time now);
/* Take a key pair out of use; its memory lives until wg_bury. NULL is fine. */
void wg_keypair_retire(struct wg_dev *d, struct wg_keypair *kp);
void wg_bury(struct wg_dev *d);
/* Install a session we began (current) or answered (next). */
void wg_keypair_install(struct wg_dev *d, struct wg_peer *p, struct wg_keypair *kp);
/* The first message on the answered session: next becomes current. True if it did. */
bool wg_keypair_confirmed(struct wg_dev *d, struct wg_peer *p, struct wg_keypair *kp);
/* Two handshakes crossed, and each side sends on its own session: once a message shows that both exist, the side
 * with the smaller key joins the other's, so that only one side renews from then on. */
void wg_keypair_converge(struct wg_dev *d, struct wg_peer *p, struct wg_keypair *kp);
bool wg_keypair_sends(const struct wg_keypair *kp, struct nb_time now);
void wg_handshake_clear(struct wg_dev *d, struct wg_peer *p);
void wg_stage(struct wg_dev *d, struct wg_peer *p, const uint8_t *pkt, size_t n, struct nb_time now);
struct wg_staged *wg_unstage(struct wg_peer *p);
void wg_stage_free(struct wg_dev *d, struct wg_staged *s);
void wg_stage_purge(struct wg_dev *d, struct wg_peer *p);
void wg_pend(struct wg_dev *d, struct wg_peer *p, unsigned what);
void wg_raise(struct wg_dev *d, struct wg_peer *p, enum wg_event_kind ev);
/* WG_EV_WANTED, unless it was told less than a second ago. */
void wg_raise_wanted(struct wg_dev *d, struct wg_peer *p, struct nb_time now);
/* Bytes between two places for waiting packets. */
size_t wg_stage_room(const struct wg_dev *d);
struct nb_wall wg_wall(const struct wg_dev *d, struct nb_time now);
/* The next handshake time stamp: later than every one before. */
void wg_tai_next(struct wg_dev *d, uint8_t tai[WG_TAI], struct nb_time now);

/* timers.c: the rest of the code reports what happened; what follows from it is decided there. */
void wg_timers_init(struct wg_peer *p);
void wg_timers_stop(struct wg_peer *p);
void wg_timers_data_sent(struct wg_dev *d, struct wg_peer *p, struct nb_time now);
void wg_timers_data_received(struct wg_dev *d, struct wg_peer *p, struct nb_time now);
void wg_timers_any_sent(struct wg_dev *d, struct wg_peer *p, struct nb_time now);	/* authenticated, any kind */
void wg_timers_any_received(struct wg_dev *d, struct wg_peer *p, struct nb_time now);
void wg_timers_path_heard(struct wg_peer *p);		/* something authentic came the way we send, or that way is new */
void wg_timers_keepalive_sent(struct wg_dev *d, struct wg_peer *p, struct nb_time now);
void wg_timers_initiated(struct wg_dev *d, struct wg_peer *p, struct nb_time now);
/* The other side is under load and gave us a cookie. */
void wg_timers_cookie(struct wg_dev *d, struct wg_peer *p, struct nb_time now);
void wg_timers_complete(struct wg_dev *d, struct wg_peer *p, struct nb_time now);
void wg_timers_session(struct wg_dev *d, struct wg_peer *p, struct nb_time now);
void wg_timers_persistent(struct wg_dev *d, struct wg_peer *p, struct nb_time now);
/* Fire what is due. */
void wg_timers_run(struct wg_dev *d, struct nb_time now);
struct nb_time wg_timers_deadline(const struct wg_dev *d);
void wg_timers_forget(struct wg_dev *d, struct wg_peer *p);
/* Ask for an initiation; retry keeps the attempt count, force shortens the gap to 20 ms. */
void wg_want_handshake(struct wg_dev *d, struct wg_peer *p, bool retry, bool force, struct nb_time now);

#endif
