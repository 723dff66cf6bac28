/* envelope.h - the two EncryptedMessage forms (management and signal) and the sealed message inside.
 * Envelopes are read and written without copies; keys are texts here and stay opaque.
 * management-protocol.md section 2, signal-protocol.md sections 3.1 and 4.
 * Tests: tests/unit/proto_envelope_test.c */
#ifndef NB_PROTO_ENVELOPE_H
#define NB_PROTO_ENVELOPE_H

#include "proto/unpack.h"

/* All slices are borrowed: from the input when decoded, from the caller when encoded. Absent = empty. */
struct proto_envelope {
	struct nb_bytes key;	/* sender's public key, base64 text */
	struct nb_bytes remote;	/* signal only: recipient's */
	struct nb_bytes body;	/* nonce, tag, ciphertext */
};

/* management.EncryptedMessage: 1 wgPubKey, 2 body. Unknown fields are skipped.
 * Returns 0 or NB_E_BAD (malformed, or a key that is not clean text). */
int proto_mgmt_envelope_decode(struct proto_envelope *e, struct nb_bytes in);
/* Append one. Returns b->err. */
int proto_mgmt_envelope_encode(struct nb_buf *b, const struct proto_envelope *e);
/* signalexchange.EncryptedMessage: 2 key, 3 remoteKey, 4 body. */
int proto_signal_envelope_decode(struct proto_envelope *e, struct nb_bytes in);
int proto_signal_envelope_encode(struct nb_buf *b, const struct proto_envelope *e);

/* Append a sealed body: message packed, boxed with the shared key (nbc_box_key) under a random nonce;
 * the plain text is wiped. max_bytes caps the plain text. Returns 0, NB_E_FULL or NB_E_NOMEM. */
int proto_seal(struct nb_buf *body, const void *message, size_t max_bytes,
	       const uint8_t key[NB_KEY_LEN], nb_random_fn rnd, void *rnd_ctx);
/* Open a body and decode what is inside, in arena. Returns 0, NB_E_SHORT, NB_E_AUTH (wrong key or
 * tampered), NB_E_BAD, NB_E_FULL. */
#define proto_open(out, desc, body, key, arena) proto_open_any((void **)(out), desc, body, key, arena)
int proto_open_any(void **out, const ProtobufCMessageDescriptor *desc, struct nb_bytes body,
		   const uint8_t key[NB_KEY_LEN], struct nb_arena *arena);

#endif
