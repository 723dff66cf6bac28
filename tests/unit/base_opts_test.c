/* base_opts_test.c - src/base/opts.c: every spelling of an option, errors in stock's words, the
 * environment, durations. */
#include "base/opts.h"

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct {
	bool detail, json, detail_given;
	const char *name;
	struct nb_opt_list list;
	long long port;
	int64_t every;
} v;

static const struct nb_opt outer[] = {
	{ "name", 'n', NB_OPT_TEXT, &v.name, NULL, "string", "a name", 0, 0 },
	{ "json", 'j', NB_OPT_BOOL, &v.json, NULL, NULL, "as JSON", 0, 0 },
	{ 0 },
};
static const struct nb_opt inner[] = {
	{ "detail", 'd', NB_OPT_BOOL, &v.detail, &v.detail_given, NULL, "more", 0, 0 },
	{ "list", 'L', NB_OPT_LIST, &v.list, NULL, "strings", "things", 0, 0 },
	{ "port", 0, NB_OPT_INT, &v.port, NULL, "uint16", "port", 0, 65535 },
	{ "every", 0, NB_OPT_DURATION, &v.every, NULL, "duration", "how often", 0, 0 },
	{ 0 },
};

static int setup(void **state)
{
	(void)state;
	memset(&v, 0, sizeof v);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	nb_opt_list_clear(&v.list);
	return 0;
}

/* Parse words separated by blanks ("_" is an empty word); returns the last result, arguments joined in args. */
static int parse(const char *line, char *args, char why[320])
{
	static char copy[512];	/* text options point into the words */
	char *argv[32] = { "prog" }, *save;
	struct nb_opts o;
	const char *arg;
	int argc = 1, r;

	snprintf(copy, sizeof copy, "%s", line);
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[argc++] = strcmp(w, "_") ? w : (char *)(uintptr_t)"";
	nb_opts_init(&o, argc, argv);
	nb_opts_add(&o, outer);
	nb_opts_add(&o, inner);
	args[0] = '\0';
	while ((r = nb_opts_next(&o, &arg)) == NB_OPTS_ARG) {
		strcat(args, arg);
		strcat(args, ";");
	}
	memcpy(why, o.why, 320);
	return r;
}

static void spellings(void **state)
{
	char args[256], why[320];

	(void)state;
	assert_int_equal(parse("one --name=x -d two --port 80 -- -j --name", args, why), NB_OPTS_END);
	assert_string_equal(args, "one;two;-j;--name;");
	assert_string_equal(v.name, "x");
	assert_true(v.detail && v.detail_given && !v.json);
	assert_int_equal(v.port, 80);
	assert_int_equal(parse("-dj -nfoo --detail=false -", args, why), NB_OPTS_END);
	assert_string_equal(v.name, "foo");
	assert_string_equal(args, "-;");
	assert_true(!v.detail && v.json);
	assert_int_equal(parse("-jn bar -d=true --name=", args, why), NB_OPTS_END);
	assert_string_equal(v.name, "");
	assert_true(v.detail);
	assert_int_equal(parse("-n=bar --every 1m30s", args, why), NB_OPTS_END);
	assert_string_equal(v.name, "bar");
	assert_true(v.every == 90000000000);
	assert_int_equal(parse("a --help", args, why), NB_OPTS_HELP);
	assert_int_equal(parse("a -dh", args, why), NB_OPTS_HELP);
}

static void lists(void **state)
{
	char args[256], why[320], many[400] = "--list=";

	(void)state;
	assert_int_equal(parse("-L a,b --list c -L=\"d,e\",\"f\"\"g\"", args, why), NB_OPTS_END);
	assert_int_equal(v.list.n, 5);
	assert_string_equal(v.list.v[0], "a");
	assert_string_equal(v.list.v[2], "c");
	assert_string_equal(v.list.v[3], "d,e");
	assert_string_equal(v.list.v[4], "f\"g");
	nb_opt_list_clear(&v.list);
	assert_false(v.list.set);
	assert_int_equal(parse("--list _", args, why), NB_OPTS_END);
	assert_true(v.list.set && v.list.n == 0);
	assert_int_equal(parse("--list \"open", args, why), NB_E_ARG);
	assert_string_equal(why, "invalid argument \"\"open\" for \"-L, --list\" flag: a quote is not closed");
	for (int i = 0; i < 65; i++)
		strcat(many, "x,");
	assert_int_equal(parse(many, args, why), NB_E_ARG);
	assert_non_null(strstr(why, "more than 64 items"));
}

static void errors(void **state)
{
	static const struct { const char *line, *why; } rows[] = {
		{ "--nosuch", "unknown flag: --nosuch" },
		{ "--nosuch=1", "unknown flag: --nosuch" },
		{ "--=1", "unknown flag: --" },
		{ "-dz", "unknown shorthand flag: 'z' in -dz" },
		{ "--name", "flag needs an argument: --name" },
		{ "-jn", "flag needs an argument: 'n' in -jn" },
		{ "--detail=maybe", "invalid argument \"maybe\" for \"-d, --detail\" flag: it is true or false" },
		{ "--port 65536", "invalid argument \"65536\" for \"--port\" flag: it is a whole number from 0 to 65535" },
		{ "--port 80x", "invalid argument \"80x\" for \"--port\" flag: it is a whole number from 0 to 65535" },
		{ "--port -1", "invalid argument \"-1\" for \"--port\" flag: it is a whole number from 0 to 65535" },
		{ "--every soon", "invalid argument \"soon\" for \"--every\" flag: it is a duration such as 30s or 1m30s" },
	};
	char args[256], why[320];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(parse(rows[i].line, args, why), NB_E_ARG);
		assert_string_equal(why, rows[i].why);
	}
}

static const char *fake_env(const char *name)
{
	static const char *const rows[][2] = {
		{ "WT_NAME", "old" }, { "NB_NAME", "new" }, { "WT_PORT", "1" }, { "NB_LIST", "p,q" }, { "NB_JSON", "perhaps" },
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (!strcmp(rows[i][0], name))
			return rows[i][1];
	return NULL;
}

static unsigned bad_count;

static void bad(const char *why)
{
	assert_non_null(strstr(why, "perhaps"));
	bad_count++;
}

/* NB_ beats WT_ beats the command line. */
static void environment(void **state)
{
	static const char *const prefixes[] = { "WT_", "NB_" };
	char args[256], why[320];

	(void)state;
	assert_int_equal(parse("--name cli --port 9 --list z --json", args, why), NB_OPTS_END);
	nb_opts_env(outer, prefixes, 2, fake_env, bad);
	nb_opts_env(inner, prefixes, 2, fake_env, NULL);
	assert_string_equal(v.name, "new");
	assert_int_equal(v.port, 1);
	assert_int_equal(v.list.n, 2);
	assert_string_equal(v.list.v[1], "q");
	assert_true(v.json);
	assert_int_equal(bad_count, 1);
}

static void durations(void **state)
{
	static const struct { const char *text; int64_t ns; } good[] = {
		{ "0", 0 }, { "1ns", 1 }, { "500ms", 500000000 }, { "1.5s", 1500000000 }, { "1m", 60000000000 },
		{ "1h2m3s", 3723000000000 }, { "-2s", -2000000000 }, { "1us", 1000 }, { "1\xc2\xb5s", 1000 }, { ".5s", 500000000 },
	};
	static const char *const wrong[] = { "", "1", "s", "1x", "1m2", ".s", "1 s", "99999999999h", "-" };
	int64_t ns;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(nb_duration_parse(&ns, good[i].text), 0);
		assert_true(ns == good[i].ns);
	}
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		assert_int_equal(nb_duration_parse(&ns, wrong[i]), NB_E_BAD);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { T(spellings), T(lists), T(errors), T(environment), T(durations) };

	return cmocka_run_group_tests_name("base_opts", tests, NULL, NULL);
}
