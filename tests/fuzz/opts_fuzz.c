/* opts_fuzz.c - the option parser on any command line: words of the input, split at newlines. */
#include "base/opts.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nb_opt_list list = { 0 };
	bool b = false, c = false;
	const char *text = NULL, *arg;
	long long n = 0;
	int64_t d = 0;
	const struct nb_opt table[] = {
		{ "bool", 'b', NB_OPT_BOOL, &b, &c, NULL, "", 0, 0 },
		{ "text", 't', NB_OPT_TEXT, &text, NULL, "", "", 0, 0 },
		{ "list", 'l', NB_OPT_LIST, &list, NULL, "", "", 0, 0 },
		{ "int", 'i', NB_OPT_INT, &n, NULL, "", "", -5, 70000 },
		{ "duration", 'd', NB_OPT_DURATION, &d, NULL, "", "", 0, 0 },
		{ 0 },
	};
	char *argv[65] = { (char *)(uintptr_t)"prog" }, *copy = malloc(size + 1), *save;
	struct nb_opts o;
	int argc = 1;

	if (!copy)
		return 0;
	memcpy(copy, data, size);
	copy[size] = '\0';
	for (char *w = strtok_r(copy, "\n", &save); w && argc < 64; w = strtok_r(NULL, "\n", &save))
		argv[argc++] = w;
	nb_opts_init(&o, argc, argv);
	nb_opts_add(&o, table);
	while (nb_opts_next(&o, &arg) == NB_OPTS_ARG)
		if (!memchr(arg, 0, strlen(arg) + 1))
			abort();
	if (n < -5 || n > 70000)
		abort();
	nb_opt_list_clear(&list);
	free(copy);
	return 0;
}
