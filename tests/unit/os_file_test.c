/* os_file_test.c - src/os/file.c, opener.c and priv.c in a temporary directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "os/file.h"
#include "os/opener.h"
#include "os/priv.h"
#include "os/socket.h"

static char dir[] = "/tmp/nb-file-XXXXXX";

static const char *at(const char *name)
{
	static char ring[4][128];
	static unsigned turn;
	char *p = ring[turn++ % 4];

	snprintf(p, sizeof ring[0], "%s/%s", dir, name);
	return p;
}

static void count_name(void *ctx, const char *name)
{
	unsigned *n = ctx;

	*n += strcmp(name, "one") == 0 || strcmp(name, "two") == 0 ? 1 : 100;
}

static void test_list_remove(void **state)
{
	unsigned n = 0;

	(void)state;
	assert_int_equal(os_list_dir(at("list"), count_name, &n), NB_E_NOTFOUND);
	assert_int_equal(os_mkdir_p(at("list"), 0700), 0);
	assert_int_equal(os_write_file(at("list/one"), nb_bytes_str("1"), 0600), 0);
	assert_int_equal(os_write_file(at("list/two"), nb_bytes_str("2"), 0600), 0);
	assert_int_equal(os_list_dir(at("list"), count_name, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(os_remove_file(at("list/one")), 0);
	assert_int_equal(os_remove_file(at("list/one")), NB_E_NOTFOUND);
	assert_int_equal(os_remove_file(at("list/two")), 0);
	assert_int_equal(rmdir(at("list")), 0);
}

static void test_write_read(void **state)
{
	struct os_stamp none = { 0 }, first, second;
	struct nb_buf b;
	struct stat st;

	(void)state;
	nb_buf_init(&b, 100);
	assert_int_equal(os_read_file(&b, at("f")), NB_E_NOTFOUND);
	assert_non_null(strstr(os_why(), "No such file"));
	assert_true(os_stamp_eq(os_file_stamp(at("f")), none));
	assert_int_equal(os_write_file(at("f"), nb_bytes_str("one"), 0640), 0);
	first = os_file_stamp(at("f"));
	assert_int_equal(os_write_file(at("f"), nb_bytes_str("two two"), 0604), 0);
	second = os_file_stamp(at("f"));
	assert_false(os_stamp_eq(first, second));
	assert_int_equal(stat(at("f"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0604);
	assert_int_equal(os_read_file(&b, at("f")), 0);
	assert_string_equal(nb_buf_cstr(&b), "two two");
	nb_buf_fini(&b);
	/* Exactly the cap is fine, one byte more is not. */
	nb_buf_init(&b, 7);
	assert_int_equal(os_read_file(&b, at("f")), 0);
	assert_int_equal(b.n, 7);
	nb_buf_fini(&b);
	nb_buf_init(&b, 6);
	assert_int_equal(os_read_file(&b, at("f")), NB_E_FULL);
	nb_buf_fini(&b);
	assert_int_equal(os_write_file(at("missing/f"), nb_bytes_str("x"), 0600), NB_E_NOTFOUND);
	assert_int_equal(unlink(at("f")), 0);
}

static void test_read_dir(void **state)
{
	struct nb_buf b;

	(void)state;
	assert_int_equal(os_write_file(at("a.pem"), nb_bytes_str("one"), 0600), 0);
	assert_int_equal(os_write_file(at("b.pem"), nb_bytes_str("this one is too long"), 0600), 0);
	assert_int_equal(os_write_file(at("c.txt"), nb_bytes_str("three"), 0600), 0);
	assert_int_equal(os_mkdir_p(at("d.pem"), 0700), 0);
	nb_buf_init(&b, 10);
	assert_int_equal(os_read_dir(&b, dir, ".pem"), 1);
	assert_string_equal(nb_buf_cstr(&b), "one\n");
	assert_int_equal(os_read_dir(&b, at("none"), ".pem"), NB_E_NOTFOUND);
	nb_buf_fini(&b);
	rmdir(at("d.pem"));
	unlink(at("a.pem"));
	unlink(at("b.pem"));
	unlink(at("c.txt"));
}

static void test_mkdir(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(os_mkdir_p(at("a/b/c"), 0700), 0);
	assert_int_equal(os_mkdir_p(at("a/b/c/"), 0700), 0);
	assert_int_equal(stat(at("a/b/c"), &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(os_write_file(at("a/file"), nb_bytes_str(""), 0600), 0);
	assert_int_not_equal(os_mkdir_p(at("a/file/d"), 0700), 0);
	assert_int_not_equal(os_mkdir_p("", 0700), 0);
	unlink(at("a/file"));
	rmdir(at("a/b/c"));
	rmdir(at("a/b"));
	rmdir(at("a"));
}

static void test_lock(void **state)
{
	int a, b, status;
	pid_t child;

	(void)state;
	assert_int_equal(os_lock_file(&a, at("lock")), 0);
	assert_int_equal(os_lock_file(&b, at("lock")), NB_E_BUSY);
	assert_int_equal(b, -1);
	os_close(&a);
	/* A lock dies with its process. */
	child = fork();
	if (child == 0)
		_exit(os_lock_file(&a, at("lock")) == 0 ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(os_lock_file(&b, at("lock")), 0);
	os_close(&b);
	unlink(at("lock"));
}

/* In the child: become the directory's owner, and stay it. */
static int become_owner(void)
{
	if (os_become_owner(at("owned")) != 1 || getuid() != 12345 || getgid() != 12345)
		return 1;
	if (os_become_owner(at("owned")) != 0 || os_become_user("12345") != 0)
		return 2;
	return os_become_user("0") == 0 || os_become_user("no-such-user-here") != NB_E_NOTFOUND ? 3 : 0;
}

static void test_privileges(void **state)
{
	int status;
	pid_t child;

	(void)state;
	assert_int_equal(os_become_owner(at("missing")), NB_E_NOTFOUND);
	if (getuid() != 0)
		skip();
	assert_int_equal(os_become_owner(dir), 0);
	assert_int_equal(mkdir(at("owned"), 0755), 0);
	assert_int_equal(chown(at("owned"), 12345, 12345), 0);
	assert_int_equal(chmod(dir, 0755), 0);
	child = fork();
	if (child == 0)
		_exit(become_owner());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	rmdir(at("owned"));
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return rmdir(dir);
}

static void test_opener(void **state)
{
	char none[128], some[128];
	const char *paths[] = { none, some };
	struct os_opener *o;
	struct nb_buf b;

	(void)state;
	snprintf(none, sizeof none, "%s", at("opener-none"));
	snprintf(some, sizeof some, "%s", at("opener-some"));
	assert_int_equal(os_write_file(some, nb_bytes_str("first"), 0600), 0);
	assert_int_equal(os_opener_start(&o, paths, 0), NB_E_ARG);
	assert_int_equal(os_opener_start(&o, paths, OS_OPENER_FILES + 1), NB_E_ARG);
	assert_int_equal(os_opener_start(&o, paths, 2), 0);
	assert_int_equal(os_opener_open(o, 2), NB_E_ARG);
	assert_int_equal(os_opener_open(o, 0), NB_E_NOTFOUND);
	for (int i = 0; i < 2; i++) {
		const char *content = i ? "second" : "first";
		int fd;

		assert_int_equal(os_write_file(some, nb_bytes_str(content), 0600), 0);
		fd = os_opener_open(o, 1);
		assert_true(fd >= 0);
		assert_true(os_stamp_eq(os_fd_stamp(fd), os_file_stamp(some)));
		nb_buf_init(&b, 100);
		assert_int_equal(os_read_fd(&b, fd), 0);
		assert_string_equal(nb_buf_cstr(&b), content);
		assert_int_equal(write(fd, "x", 1), -1);
		nb_buf_fini(&b);
		close(fd);
	}
	os_opener_free(o);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	os_remove_file(some);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_read), cmocka_unit_test(test_read_dir),
		cmocka_unit_test(test_list_remove), cmocka_unit_test(test_mkdir), cmocka_unit_test(test_lock),
		cmocka_unit_test(test_privileges), cmocka_unit_test(test_opener),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
