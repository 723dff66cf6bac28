/* applets_options_test.c - command lines of the servers: flags beat variables, refusals name their reason, words and
 * switches, rows of other commands do not exist. */
#include "applets/options.h"

#include "base/err.h"
#include "relay/relay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static struct {
	const char *text;
	bool on;
	unsigned many;
} got;
static struct relay_config relay;

static int set_text(void *to, const char *text)
{
	(void)to;
	got.text = text;
	return strcmp(text, "bad") ? 0 : NB_E_CONFIG;
}

static int set_many(void *to, const char *text)
{
	(void)to, (void)text;
	return ++got.many > 2 ? NB_E_FULL : 0;
}

static const struct app_option rows[] = {
	{ "opt-text", 't', 0, "TEXT", set_text, "a text" },
	{ "opt-on", 0, 1, NULL, app_set_bool, "a switch" },
	{ "opt-many", 0, 0, "TEXT", set_many, NULL },
	{ "opt-other", 0, 2, "TEXT", set_text, "another command's" },
	{ "opt-no", 0, 0, "TEXT", NULL, "not built: do without" },
};

/* Run one command line; what it wrote to stderr stays in said. */
static char said[512];

static int call(const char *line)
{
	struct app_command c = { .who = "test", .usage = "Usage\n", .word = "run", .version = "1", .where = 1,
				 .tables = { { rows, 2, &got.on }, { app_relay_rows, app_relay_nrows, &relay } } };
	char *argv[16] = { "test" }, copy[256];
	int argc = 1, err = dup(2), out = dup(1), pipes[2], rc;
	ssize_t n;

	c.tables[0].n = sizeof rows / sizeof *rows;
	snprintf(copy, sizeof copy, "%s", line);
	for (char *p = strtok(copy, " "); p; p = strtok(NULL, " "))
		argv[argc++] = p;
	memset(&got, 0, sizeof got);
	relay_config_default(&relay);
	fflush(stdout);
	assert_int_equal(pipe(pipes), 0);
	dup2(pipes[1], 2);
	dup2(pipes[1], 1);
	rc = app_read(&c, argc, argv);
	fflush(stdout);
	dup2(err, 2);
	dup2(out, 1);
	close(err);
	close(out);
	close(pipes[1]);
	n = read(pipes[0], said, sizeof said - 1);
	said[n > 0 ? n : 0] = 0;
	close(pipes[0]);
	return rc;
}

static void flags(void **state)
{
	(void)state;
	assert_int_equal(call(""), -1);
	assert_int_equal(call("--opt-on run"), -1);
	assert_true(got.on);
	assert_int_equal(call("--opt-on=false --opt-many a --opt-many b"), -1);
	assert_false(got.on);
	assert_int_equal(got.many, 2);
	assert_int_equal(call("-t x"), -1);
	assert_int_equal(call("--max-bps 2M --bps-capacity=1G --relay-ports 50000-59999"), -1);
	assert_int_equal(relay.user_rate, 2000000);
	assert_int_equal(relay.total_rate, 1000000000);
	assert_int_equal(relay.port_max, 59999);
	assert_int_equal(call("--opt-no="), -1);
}

static void refusals(void **state)
{
	(void)state;
	assert_int_equal(call("--opt-text bad"), EXIT_USAGE);
	assert_string_equal(said, "test: --opt-text: not usable: expected TEXT: see --help\n");
	assert_int_equal(call("--opt-on=maybe"), EXIT_USAGE);
	assert_string_equal(said, "test: --opt-on: not usable: expected true or false: see --help\n");
	assert_int_equal(call("--opt-many a --opt-many b --opt-many c"), EXIT_USAGE);
	assert_string_equal(said, "test: --opt-many: too many values: give fewer\n");
	assert_int_equal(call("--opt-no x"), EXIT_USAGE);
	assert_string_equal(said, "test: --opt-no: not built: do without\n");
	assert_int_equal(call("walk"), EXIT_USAGE);
	assert_int_equal(call("--opt-other x"), EXIT_USAGE);
	assert_int_equal(call("--max-bps 1x"), EXIT_USAGE);
	assert_int_equal(call("-z"), EXIT_USAGE);
}

static void variables(void **state)
{
	(void)state;
	setenv("NB_OPT_TEXT", "variable", 1);
	setenv("NB_MAX_BPS", "3k", 1);
	setenv("NB_OPT_OTHER", "x", 1);
	assert_int_equal(call(""), -1);
	assert_string_equal(got.text, "variable");
	assert_int_equal(relay.user_rate, 3000);
	assert_int_equal(call("--opt-text flag --max-bps 4k"), -1);
	assert_int_equal(relay.user_rate, 4000);
	setenv("NB_OPT_TEXT", "", 1);
	assert_int_equal(call(""), -1);
	assert_null(got.text);
	setenv("NB_MAX_BPS", "many", 1);
	assert_int_equal(call(""), EXIT_USAGE);
	assert_string_equal(said, "test: NB_MAX_BPS: not usable: expected BYTES: see --help\n");
	unsetenv("NB_OPT_TEXT");
	unsetenv("NB_MAX_BPS");
	unsetenv("NB_OPT_OTHER");
}

static void help_and_version(void **state)
{
	(void)state;
	assert_int_equal(call("--help"), 0);
	assert_non_null(strstr(said, "--opt-text TEXT"));
	assert_null(strstr(said, "--opt-other"));
	assert_null(strstr(said, "--opt-many"));
	assert_int_equal(call("-v"), 0);
	assert_string_equal(said, "test version 1\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flags), cmocka_unit_test(refusals), cmocka_unit_test(variables), cmocka_unit_test(help_and_version),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
