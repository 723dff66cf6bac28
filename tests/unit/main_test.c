/* main_test.c - dispatch and the options of the binary itself, with a table of three made-up commands. */
int nestbox_main(int argc, char **argv);
#define main nestbox_main
#define APPLET_TABLE "unit/main_table.h"
#include "../../src/main.c"
#undef main

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char seen[256];

static int remember(const char *who, int argc, char **argv, int status)
{
	size_t n = (size_t)snprintf(seen, sizeof seen, "%s", who);

	for (int i = 0; i < argc && n < sizeof seen; i++)
		n += (size_t)snprintf(seen + n, sizeof seen - n, " %s", argv[i]);
	return status;
}

int alpha_main(int argc, char **argv)
{
	return remember("alpha:", argc, argv, 3);
}

int beta_main(int argc, char **argv)
{
	return remember("beta:", argc, argv, 4);
}

/* Output of the last call, both streams. */
static char said[4096];

/* Call main with these words (the first is argv[0]) and keep what it prints. */
static int call(const char *words)
{
	char line[512], *argv[16], *save = NULL;
	int argc = 0, status, keep_out, keep_err;
	FILE *f = tmpfile();
	size_t n;

	assert_non_null(f);
	snprintf(line, sizeof line, "%s", words);
	for (char *w = strtok_r(line, " ", &save); w && argc < 15; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	argv[argc] = NULL;
	seen[0] = '\0';
	fflush(NULL);
	keep_out = dup(1);
	keep_err = dup(2);
	dup2(fileno(f), 1);
	dup2(fileno(f), 2);
	status = nestbox_main(argc, argv);
	fflush(NULL);
	dup2(keep_out, 1);
	dup2(keep_err, 2);
	close(keep_out);
	close(keep_err);
	rewind(f);
	n = fread(said, 1, sizeof said - 1, f);
	said[n] = '\0';
	fclose(f);
	return status;
}

static void test_dispatch(void **state)
{
	static const struct { const char *words; int status; const char *seen; } rows[] = {
		{ "nestbox alpha x -y", 3, "alpha: alpha x -y" },
		{ "nestbox alfa", 3, "alpha: alpha" },
		{ "nestbox nbtest-beta --help", 4, "beta: beta --help" },
		{ "/usr/bin/nbtest-alpha up", 3, "alpha: alpha up" },
		{ "nbtest-alpha beta", 3, "alpha: alpha beta" },
		{ "beta", 4, "beta: beta" },
		{ "./nestbox-1.0 beta z", 4, "beta: beta z" },
		{ "nestbox plain", 3, "alpha: plain" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		assert_int_equal(call(rows[i].words), rows[i].status);
		assert_string_equal(seen, rows[i].seen);
	}
}

static void test_unknown(void **state)
{
	static const char *const words[] = { "nbtest", "nbtest-", "alph", "alfa2", "test-beta", "-x" };
	char line[64];

	(void)state;
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		snprintf(line, sizeof line, "nestbox %s", words[i]);
		assert_int_equal(call(line), 127);
		assert_string_equal(seen, "");
		assert_non_null(strstr(said, words[i]));
		/* one line */
		assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
	}
}

static void test_about(void **state)
{
	(void)state;
	assert_int_equal(call("nestbox --list"), 0);
	assert_string_equal(said, "alpha nbtest-alpha alfa\nbeta nbtest-beta\nplain\n");
	assert_int_equal(call("nestbox --version"), 0);
	assert_non_null(strstr(said, nb_version));
	assert_non_null(strstr(said, NB_COMPAT));
	assert_int_equal(call("nestbox --help"), 0);
	assert_non_null(strstr(said, "the second one"));
	assert_int_equal(call("nestbox"), 2);
	assert_non_null(strstr(said, "Usage:"));
}

static char dir[256];

/* Beside this program, so that hard links are possible. */
static int make_dir(void **state)
{
	char self[PATH_MAX];

	(void)state;
	if (!realpath("/proc/self/exe", self))
		return -1;
	*strrchr(self, '/') = '\0';
	if (snprintf(dir, sizeof dir, "%s/main-XXXXXX", self) >= (int)sizeof dir)
		return -1;
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	static const char *const names[] = { "nbtest-alpha", "nbtest-beta" };
	char path[512];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, names[i]);
		unlink(path);
	}
	return rmdir(dir);
}

static char *in_dir(const char *name)
{
	static char path[512];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

static int install_into_dir(const char *options)
{
	char line[512];

	snprintf(line, sizeof line, "nestbox --install %s %s", options, dir);
	return call(line);
}

static void test_install_symbolic(void **state)
{
	char target[PATH_MAX] = "", self[PATH_MAX];
	struct stat st;

	(void)state;
	assert_int_equal(install_into_dir("-s"), 0);
	assert_non_null(realpath("/proc/self/exe", self));
	assert_true(readlink(in_dir("nbtest-beta"), target, sizeof target - 1) > 0);
	assert_string_equal(target, self);
	/* only stock names */
	assert_int_equal(lstat(in_dir("alpha"), &st), -1);
	assert_int_equal(lstat(in_dir("alfa"), &st), -1);
	/* again: nothing to do */
	assert_int_equal(install_into_dir("-s"), 0);
	assert_non_null(strstr(said, "is in place"));
}

static void test_install_keeps_foreign(void **state)
{
	int fd = open(in_dir("nbtest-alpha"), O_CREAT | O_TRUNC | O_WRONLY, 0600);
	struct stat st;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "mine", 4), 4);
	close(fd);
	assert_int_equal(install_into_dir("-s"), 1);
	assert_non_null(strstr(said, "nbtest-alpha is another file"));
	assert_int_equal(lstat(in_dir("nbtest-alpha"), &st), 0);
	assert_true(S_ISREG(st.st_mode) && st.st_size == 4);
	/* the other one was installed all the same */
	assert_int_equal(lstat(in_dir("nbtest-beta"), &st), 0);
	assert_int_equal(install_into_dir("-s --force"), 0);
	assert_int_equal(lstat(in_dir("nbtest-alpha"), &st), 0);
	assert_true(S_ISLNK(st.st_mode));
}

static void test_install_hard(void **state)
{
	struct stat mine, other;
	char self[PATH_MAX];

	(void)state;
	assert_int_equal(install_into_dir(""), 0);
	/* Not through the link itself: in an emulator that leads to the emulator. */
	assert_non_null(realpath("/proc/self/exe", self));
	assert_int_equal(stat(self, &mine), 0);
	assert_int_equal(lstat(in_dir("nbtest-alpha"), &other), 0);
	assert_int_equal(other.st_ino, mine.st_ino);
}

static void test_install_refuses(void **state)
{
	(void)state;
	assert_int_equal(call("nestbox --install"), 2);
	assert_int_equal(call("nestbox --install -x /tmp"), 2);
	assert_int_equal(call("nestbox --install /tmp /var"), 2);
	assert_int_equal(call("nestbox --install -s /nonexistent"), 1);
	assert_non_null(strstr(said, "No such file"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dispatch),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_about),
		cmocka_unit_test_setup_teardown(test_install_symbolic, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_install_keeps_foreign, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_install_hard, make_dir, remove_dir),
		cmocka_unit_test(test_install_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
