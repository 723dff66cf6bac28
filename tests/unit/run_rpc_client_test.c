/* run_rpc_client_test.c - src/run/rpc_client.c: calls through memory to the agent's control service, and
 * refusals of addresses; over a socket against the daemon in tests/net/test_client_cli.py. */
#include "run/rpc_client.h"

#include "base/err.h"
#include "os/clock.h"
#include "os/socket.h"
#include "proto/daemon.pb-c.h"

#include "grpc_echo_service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static struct run_loop *loop;
static bool stop;

static void set_stop(void *ctx, struct nb_time now)
{
	(void)now;
	*(bool *)ctx = true;
}

static struct run_rpc *pair(struct grpc_service *svc)
{
	struct grpc_config gc;
	struct run_rpc *r;

	grpc_config_default(&gc);
	gc.services = svc;
	gc.n_services = 1;
	stop = false;
	assert_int_equal(run_loop_new(&loop), 0);
	assert_int_equal(run_rpc_pair(&r, loop, &gc, &stop), 0);
	return r;
}

static void calls(void **state)
{
	struct echo_stats stats = { 0 };
	struct grpc_service svc = echo_service(&stats);
	struct run_rpc *r = pair(&svc);
	Daemon__RenameProfileResponse q = DAEMON__RENAME_PROFILE_RESPONSE__INIT, *a;
	struct run_rpc_result res;
	struct nb_time begin = os_now();
	struct nb_arena mem;

	(void)state;
	nb_arena_init(&mem, 1 << 20);
	q.oldprofilename = "echo";
	assert_int_equal(run_rpc_call(r, "/test.Echo/Unary", &q, &daemon__rename_profile_response__descriptor, (void **)&a,
				      &mem, 0, &res), GRPC_OK);
	assert_string_equal(a->oldprofilename, "echo");
	/* the answer is no message of the type that is wanted: text where a number belongs */
	assert_int_equal(run_rpc_call(r, "/test.Echo/Unary", &q, &daemon__get_log_level_response__descriptor, (void **)&a, &mem,
				      0, &res), GRPC_INTERNAL);
	assert_null(a);
	assert_int_equal(run_rpc_call(r, "/test.Echo/Nothing", &q, &daemon__down_response__descriptor, (void **)&a, &mem, 0,
				      &res), GRPC_UNIMPLEMENTED);
	assert_null(a);
	assert_true(res.message[0] != '\0');
	assert_true(nb_time_diff(os_now(), begin) < 2 * NB_SEC);	/* nothing waited for the loop */
	assert_int_equal(run_rpc_call(r, "/test.Echo/Hang", &q, &daemon__down_response__descriptor, (void **)&a, &mem,
				      50 * NB_MS, &res), GRPC_DEADLINE_EXCEEDED);
	nb_arena_fini(&mem);
	run_rpc_close(r);
	run_loop_free(loop);
}

static void interrupted(void **state)
{
	struct echo_stats stats = { 0 };
	struct grpc_service svc = echo_service(&stats);
	struct run_rpc *r = pair(&svc);
	Daemon__DownRequest q = DAEMON__DOWN_REQUEST__INIT;
	struct run_rpc_result res;
	struct run_timer t;
	struct nb_arena mem;
	void *a;

	(void)state;
	run_timer_init(&t, loop, set_stop, &stop);
	run_timer_set(&t, nb_time_add(os_now(), 20 * NB_MS));
	nb_arena_init(&mem, 1 << 20);
	assert_int_equal(run_rpc_call(r, "/test.Echo/Hang", &q, &daemon__down_response__descriptor, &a, &mem, 0, &res),
			 GRPC_CANCELLED);
	nb_arena_fini(&mem);
	run_timer_stop(&t);
	run_rpc_close(r);
	run_loop_free(loop);
}

static void addresses(void **state)
{
	struct run_rpc *r;
	char why[200];
	int fd;

	(void)state;
	assert_int_equal(run_rpc_open(&r, "/run/x.sock", NB_SEC, why, sizeof why), NB_E_ARG);
	assert_int_equal(run_rpc_open(&r, "tcp://nowhere", NB_SEC, why, sizeof why), NB_E_ARG);
	assert_non_null(strstr(why, "unix:///PATH or tcp://ADDRESS:PORT"));
	assert_int_equal(run_rpc_open(&r, "unix:///tmp/nb-none/x.sock", 0, why, sizeof why), NB_E_NOTFOUND);
	assert_non_null(strstr(why, "/tmp/nb-none/x.sock: No such file"));
	/* somebody who accepts but is no gRPC server */
	unlink("/tmp/nb-rpc-test.sock");
	assert_int_equal(os_unix_listen(&fd, "/tmp/nb-rpc-test.sock", 0600), 0);
	assert_int_equal(run_rpc_open(&r, "unix:///tmp/nb-rpc-test.sock", 100 * NB_MS, why, sizeof why), NB_E_TIMEOUT);
	os_close(&fd);
	unlink("/tmp/nb-rpc-test.sock");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls), cmocka_unit_test(interrupted), cmocka_unit_test(addresses),
	};

	return cmocka_run_group_tests_name("run_rpc_client", tests, NULL, NULL);
}
