/* client_config_fuzz.c - the profile file: whatever is accepted is written again and read back the same. */
#include "client/config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct client_config a, b;
	struct nb_buf once, twice;
	char why[160];

	if (client_config_parse(&a, nb_bytes(data, size), why, sizeof why))
		return 0;
	nb_buf_init(&once, 1 << 22);
	nb_buf_init(&twice, 1 << 22);
	if (client_config_encode(&a, &once) == 0) {
		if (client_config_parse(&b, nb_buf_view(&once), why, sizeof why))
			abort();
		if (client_config_encode(&b, &twice) || !nb_bytes_eq(nb_buf_view(&once), nb_buf_view(&twice)))
			abort();
		client_config_fini(&b);
	}
	client_config_fini(&a);
	nb_buf_fini(&once);
	nb_buf_fini(&twice);
	return 0;
}
