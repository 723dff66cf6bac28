/* run_service_test.c - src/run/service.c: the files for systemd, OpenRC and procd, with values that need
 * quoting; the shell's view of the two scripts is checked by a shell. */
#include "run/service.h"

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

static struct run_service make(enum run_init init)
{
	struct run_service s = { .init = init, .params = json_object() };

	snprintf(s.name, sizeof s.name, "netbird");
	snprintf(s.binary, sizeof s.binary, "/usr/bin/netbird");
	return s;
}

static void fill(struct run_service *s)
{
	char *files[] = { (char *)(uintptr_t)"/var/log/my log", (char *)(uintptr_t)"console" };
	char *env[] = { (char *)(uintptr_t)"NB_STATE_DIR=/a b/it's $HOME", (char *)(uintptr_t)"X=100%" };
	char why[200];

	run_service_set(s, "log_level", "debug");
	run_service_set(s, "config_path", "");
	run_service_set(s, "management_url", "https://m.example");
	run_service_set(s, "disable_profiles", "true");
	run_service_set_list(s, "log_files", files, 2);
	assert_int_equal(run_service_set_env(s, env, 2, why, sizeof why), 0);
}

static void has(struct nb_buf *text, const char *line)
{
	if (!strstr(nb_buf_cstr(text), line)) {
		print_error("missing: %s\nin:\n%s\n", line, nb_buf_cstr(text));
		fail();
	}
}

static void systemd(void **state)
{
	struct run_service s = make(RUN_INIT_SYSTEMD);
	struct nb_buf t;
	char path[PATH_MAX];

	(void)state;
	nb_buf_init(&t, 65536);
	assert_int_equal(run_service_text(&s, &t), 0);
	has(&t, "\nExecStart=/usr/bin/netbird service run --log-level info --daemon-addr unix:///var/run/netbird.sock "
		"--log-file /var/log/netbird/client.log\n");
	has(&t, "\nAfter=network.target syslog.target\nStartLimitInterval=5\nStartLimitBurst=10\n");
	has(&t, "\nRestart=always\nRestartSec=120\nEnvironmentFile=-/etc/sysconfig/netbird\n");
	nb_buf_reset(&t);
	fill(&s);
	assert_int_equal(run_service_text(&s, &t), 0);
	has(&t, " --management-url https://m.example --log-file \"/var/log/my log\" --log-file console --disable-profiles\n");
	has(&t, "\nEnvironment=\"NB_STATE_DIR=/a b/it's $HOME\"\n");
	has(&t, "\nEnvironment=\"X=100%%\"\n");
	run_service_path(&s, path);
	assert_string_equal(path, "/etc/systemd/system/netbird.service");
	nb_buf_fini(&t);
	run_service_fini(&s);
}

/* Run a script made of prelude and text; its output. */
static void shell(const char *prelude, struct nb_buf *text, const char *end, char *out, size_t cap)
{
	char name[] = "/tmp/nb-service-XXXXXX", command[128];
	int fd = mkstemp(name);
	FILE *f = fdopen(fd, "w");
	size_t n;

	assert_non_null(f);
	fprintf(f, "%s\n%s\n%s\n", prelude, nb_buf_cstr(text), end);
	fclose(f);
	snprintf(command, sizeof command, "/bin/sh %s", name);
	f = popen(command, "r");
	assert_non_null(f);
	n = fread(out, 1, cap - 1, f);
	out[n] = '\0';
	assert_int_equal(pclose(f), 0);
	remove(name);
}

static void openrc(void **state)
{
	struct run_service s = make(RUN_INIT_OPENRC);
	struct nb_buf t;
	char out[2048];

	(void)state;
	s.word = true;
	fill(&s);
	nb_buf_init(&t, 65536);
	assert_int_equal(run_service_text(&s, &t), 0);
	shell("", &t, "eval \"printf '<%s>' $command_args\"; printf '|%s|%s' \"$NB_STATE_DIR\" \"$X\"", out, sizeof out);
	assert_string_equal(out, "<client><service><run><--log-level><debug><--daemon-addr><unix:///var/run/netbird.sock>"
			    "<--management-url><https://m.example><--log-file></var/log/my log><--log-file><console>"
			    "<--disable-profiles>|/a b/it's $HOME|100%");
	nb_buf_fini(&t);
	run_service_fini(&s);
}

static void procd(void **state)
{
	struct run_service s = make(RUN_INIT_PROCD);
	struct nb_buf t;
	char out[2048], path[PATH_MAX];

	(void)state;
	fill(&s);
	run_service_set(&s, "disable_profiles", "");
	nb_buf_init(&t, 65536);
	assert_int_equal(run_service_text(&s, &t), 0);
	shell("procd_open_instance() { :; }; procd_close_instance() { :; }\nprocd_set_param() { printf '<%s>' \"$@\"; echo; }",
	      &t, "start_service", out, sizeof out);
	assert_string_equal(out, "<command></usr/bin/netbird><service><run><--log-level><debug><--daemon-addr>"
			    "<unix:///var/run/netbird.sock><--management-url><https://m.example><--log-file>"
			    "</var/log/my log><--log-file><console>\n<env><NB_STATE_DIR=/a b/it's $HOME><X=100%>\n"
			    "<respawn><3600><5><0>\n<stdout><1>\n<stderr><1>\n");
	run_service_path(&s, path);
	assert_string_equal(path, "/etc/init.d/netbird");
	nb_buf_fini(&t);
	run_service_fini(&s);
}

static void refused(void **state)
{
	struct run_service s = make(RUN_INIT_SYSTEMD);
	char *bad[] = { (char *)(uintptr_t)"1X=1" }, *none[] = { (char *)(uintptr_t)"novalue" };
	char why[200];

	(void)state;
	assert_int_equal(run_service_set_env(&s, bad, 1, why, sizeof why), NB_E_ARG);
	assert_int_equal(run_service_set_env(&s, none, 1, why, sizeof why), NB_E_ARG);
	assert_string_equal(why, "--service-env takes KEY=VALUE, not novalue");
	run_service_fini(&s);
	assert_int_equal(run_service_init(&s, "../x", "/tmp", why, sizeof why), NB_E_ARG);
	assert_int_equal(run_service_init(&s, "", "/tmp", why, sizeof why), NB_E_ARG);
}

/* "" forgets what was saved; keys that are given again are replaced. */
static void saved_environment(void **state)
{
	struct run_service s = make(RUN_INIT_SYSTEMD);
	char *again[] = { (char *)(uintptr_t)"X=2" };
	struct nb_buf t;
	char why[200];

	(void)state;
	fill(&s);
	nb_buf_init(&t, 65536);
	assert_int_equal(run_service_set_env(&s, again, 1, why, sizeof why), 0);
	run_service_text(&s, &t);
	has(&t, "\nEnvironment=X=2\n");
	has(&t, "NB_STATE_DIR=");
	nb_buf_reset(&t);
	assert_int_equal(run_service_set_env(&s, NULL, 0, why, sizeof why), 0);
	run_service_text(&s, &t);
	assert_null(strstr(nb_buf_cstr(&t), "NB_STATE_DIR="));
	nb_buf_fini(&t);
	run_service_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(systemd), cmocka_unit_test(openrc), cmocka_unit_test(procd), cmocka_unit_test(refused),
		cmocka_unit_test(saved_environment),
	};

	return cmocka_run_group_tests_name("run_service", tests, NULL, NULL);
}
