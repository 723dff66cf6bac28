/* os_socket_test.c - src/os/socket.c on loopback and in a temporary directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit/emulator.h"

#include "base/err.h"
#include "os/socket.h"

static void wait_for(int fd, short events)
{
	struct pollfd p = { fd, events, 0 };

	assert_int_equal(poll(&p, 1, 2000), 1);
}

static struct nb_endpoint endpoint(const char *text)
{
	struct nb_endpoint e;

	assert_int_equal(nb_endpoint_parse(&e, text), 0);
	return e;
}

static void test_tcp(void **state)
{
	struct nb_endpoint at = endpoint("127.0.0.1:0"), peer, mine;
	int listener, again, a, b, r;
	char buf[16];
	size_t n;

	(void)state;
	assert_int_equal(os_tcp_listen(&listener, &at), 0);
	assert_int_equal(os_local_endpoint(listener, &at), 0);
	assert_int_not_equal(at.port, 0);
	assert_int_equal(os_tcp_listen(&again, &at), NB_E_BUSY);
	assert_non_null(strstr(os_why(), "in use"));
	assert_int_equal(again, -1);
	assert_int_equal(os_accept(&b, &peer, listener), NB_E_AGAIN);

	r = os_tcp_connect(&a, &at, NULL);
	assert_true(r == 0 || r == NB_E_AGAIN);
	wait_for(a, POLLOUT);
	assert_int_equal(os_connect_result(a), 0);
	wait_for(listener, POLLIN);
	assert_int_equal(os_accept(&b, &peer, listener), 0);
	os_keepalive(b, 15, 15, 9);
	os_user_timeout(b, 30000);
	assert_int_equal(os_local_endpoint(a, &mine), 0);
	assert_true(nb_endpoint_eq(&mine, &peer));
	assert_int_equal(os_peer_endpoint(b, &mine), 0);
	assert_true(nb_endpoint_eq(&mine, &peer));

	assert_int_equal(os_read(b, buf, sizeof buf, &n), NB_E_AGAIN);
	assert_int_equal(os_write(a, "hello", 5, &n), 0);
	assert_int_equal(n, 5);
	wait_for(b, POLLIN);
	assert_int_equal(os_read(b, buf, sizeof buf, &n), 0);
	assert_memory_equal(buf, "hello", 5);
	os_close(&a);
	assert_int_equal(a, -1);
	os_close(&a);
	wait_for(b, POLLIN);
	assert_int_equal(os_read(b, buf, sizeof buf, &n), NB_E_CLOSED);
	os_close(&b);
	os_close(&listener);

	/* Nobody listens there any more. */
	r = os_tcp_connect(&a, &at, NULL);
	if (r == NB_E_AGAIN) {
		wait_for(a, POLLOUT);
		r = os_connect_result(a);
	}
	if (!emulator_so_error())
		assert_int_equal(r, NB_E_CLOSED);
	os_close(&a);
}

static void test_any(void **state)
{
	struct nb_endpoint any = { 0 }, at, peer, to = endpoint("127.0.0.1:1");
	int listener, udp, a, b;

	(void)state;
	assert_int_equal(os_tcp_listen(&listener, &any), 0);
	assert_int_equal(os_local_endpoint(listener, &at), 0);
	to.port = at.port;
	(void)os_tcp_connect(&a, &to, NULL);
	wait_for(listener, POLLIN);
	assert_int_equal(os_accept(&b, &peer, listener), 0);
	/* Not ::ffff:127.0.0.1. */
	assert_int_equal(peer.addr.family, 4);
	assert_int_equal(os_udp_bind(&udp, &any, NULL), 0);
	os_close(&a);
	os_close(&b);
	os_close(&listener);
	os_close(&udp);
}

static void test_sockaddr(void **state)
{
	static const char *const texts[] = { "192.0.2.1:80", "[2001:db8::1]:443" };
	union os_sockaddr sa;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct nb_endpoint e = endpoint(texts[i]), back;

		assert_int_not_equal(os_sockaddr_from(&sa, &e), 0);
		back = os_endpoint_from(&sa.sa);
		assert_true(nb_endpoint_eq(&e, &back));
	}
	assert_int_equal(os_sockaddr_from(&sa, &(struct nb_endpoint){ 0 }), 0);
	sa.sa.sa_family = AF_UNIX;
	assert_int_equal(os_endpoint_from(&sa.sa).addr.family, 0);
}

static void test_unix(void **state)
{
	char dir[] = "/tmp/nb-os-XXXXXX", path[64], longer[200];
	struct nb_endpoint peer;
	int listener, again, a, b;
	struct stat st;
	uid_t uid;
	gid_t gid;
	pid_t pid;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/sock", dir);
	assert_int_equal(os_unix_connect(&a, path), NB_E_NOTFOUND);
	assert_int_equal(os_unix_listen(&listener, path, 0666), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0666);
	assert_int_equal(os_unix_listen(&again, path, 0600), NB_E_BUSY);
	assert_int_equal(os_unix_connect(&a, path), 0);
	assert_int_equal(os_accept(&b, &peer, listener), 0);
	assert_int_equal(peer.addr.family, 0);
	assert_int_equal(os_unix_peer(b, &uid, &gid, &pid), 0);
	assert_int_equal(uid, getuid());
	assert_int_equal(pid, getpid());
	os_close(&a);
	os_close(&b);
	/* Left behind by a dead process: replaced. */
	os_close(&listener);
	assert_int_equal(os_unix_connect(&a, path), NB_E_CLOSED);
	assert_int_equal(os_unix_listen(&listener, path, 0600), 0);
	os_close(&listener);
	unlink(path);
	/* Not a socket: left alone. */
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(os_unix_listen(&listener, path, 0600), NB_E_EXISTS);
	rmdir(path);
	rmdir(dir);
	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = 0;
	assert_int_equal(os_unix_listen(&listener, longer, 0600), NB_E_ARG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcp), cmocka_unit_test(test_any), cmocka_unit_test(test_sockaddr),
		cmocka_unit_test(test_unix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
