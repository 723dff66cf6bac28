/* proto_fuzz.c - any bytes as envelopes and as the messages strangers can send us; what decodes is
 * packed again and must decode once more. */
#include "base/err.h"
#include "proto/envelope.h"
#include "proto/management.pb-c.h"
#include "proto/signalexchange.pb-c.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const ProtobufCMessageDescriptor *desc, struct nb_bytes in)
{
	struct nb_arena arena;
	struct nb_buf out;
	void *m, *again;

	nb_arena_init(&arena, 4 << 20);
	nb_buf_init(&out, 8 << 20);
	if (proto_unpack(&m, desc, in, &arena) == 0) {
		if (proto_pack(&out, m))
			abort();
		/* only the cap may stop the second reading, as the first has used some of it */
		if (proto_unpack(&again, desc, nb_buf_view(&out), &arena) == NB_E_BAD)
			abort();
	}
	nb_buf_fini(&out);
	nb_arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nb_bytes in = nb_bytes(data, size);
	struct proto_envelope e, back;
	struct nb_buf out;

	nb_buf_init(&out, 2 * size + 64);
	if (proto_signal_envelope_decode(&e, in) == 0) {
		if (proto_signal_envelope_encode(&out, &e) ||
		    proto_signal_envelope_decode(&back, nb_buf_view(&out)) ||
		    !nb_bytes_eq(e.key, back.key) || !nb_bytes_eq(e.remote, back.remote) ||
		    !nb_bytes_eq(e.body, back.body))
			abort();
	}
	proto_mgmt_envelope_decode(&e, in);
	nb_buf_fini(&out);
	round_trip(&signalexchange__body__descriptor, in);
	round_trip(&signalexchange__encrypted_message__descriptor, in);
	round_trip(&management__login_request__descriptor, in);
	round_trip(&management__sync_request__descriptor, in);
	round_trip(&management__sync_response__descriptor, in);
	return 0;
}
