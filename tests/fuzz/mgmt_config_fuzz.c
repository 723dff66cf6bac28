/* mgmt_config_fuzz.c - any text as either configuration file. */
#include "mgmt/config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *env(const char *name)
{
	return name;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nb_bytes in = nb_bytes(data, size);
	struct mgmt_file f;
	char why[128] = "";

	mgmt_file_init(&f);
	if (mgmt_file_json(&f, in, env, why, sizeof(why)) && !*why)
		abort();
	mgmt_file_fini(&f);
	mgmt_file_init(&f);
	*why = '\0';
	if (mgmt_file_yaml(&f, in, why, sizeof(why)) && !*why)
		abort();
	mgmt_file_fini(&f);
	return 0;
}
