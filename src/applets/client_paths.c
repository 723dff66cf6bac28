/* client_paths.c - `netbird debug paths PEER`: asks the daemon, prints what client/paths.h makes of the answer.
 * Tests: tests/net/test_nat.py */
#include "applets/client_cli.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "client/paths.h"
#include "run/user.h"

static bool json;

const struct nb_opt cli_paths_opts[] = {
	{ "json", 'j', NB_OPT_BOOL, &json, NULL, NULL, "the same as JSON", 0, 0 },
	{ 0 },
};

static int print(const Nestbox__PeerPaths *p)
{
	struct nb_buf out;
	int err;

	nb_buf_init(&out, 16 << 20);
	err = json ? client_paths_json(&out, p, run_user_utc_offset) : client_paths_text(&out, p, run_user_clock());
	if (!err)
		fwrite(out.p, 1, out.n, stdout);
	nb_buf_fini(&out);
	return err ? cli_error("paths: %s", nb_strerror(err)) : 0;
}

int cli_debug_paths(int argc, const char **argv)
{
	Nestbox__PathsRequest q = NESTBOX__PATHS_REQUEST__INIT;
	struct run_rpc *rpc = cli_dial();
	Nestbox__PeerPaths *p;
	struct run_rpc_result r;
	struct nb_arena mem;
	int status;

	(void)argc;
	if (!rpc)
		return EXIT_FAILURE;
	q.peer = (char *)(uintptr_t)argv[0];
	nb_arena_init(&mem, 16 << 20);
	if (cli_call(rpc, "NestboxPaths", &q, &nestbox__peer_paths__descriptor, (void **)&p, &mem, 10, &r))
		status = cli_error("%s", r.message);
	else
		status = print(p);
	nb_arena_fini(&mem);
	run_rpc_close(rpc);
	return status;
}
