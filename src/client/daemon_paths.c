/* daemon_paths.c - NestboxPaths, a call of ours on the control socket: the ways to one peer. Stock's command line does not
 * know it, and stock's daemon answers it with UNIMPLEMENTED. Tests: tests/unit/client_daemon_test.c */
#include "client/daemon_int.h"

#include "base/err.h"
#include "proto/nestbox.pb-c.h"

static void answer(struct client_daemon *d, struct grpc_call *call, const char *peer)
{
	Nestbox__PeerPaths *p = NULL;
	struct nb_arena a;
	int err;

	nb_arena_init(&a, CLIENT_FILE_MAX);
	err = d->cfg.ops->paths(d->cfg.arg, peer, &a, &p);
	if (err == NB_E_NOTFOUND)
		client_fail(call, GRPC_NOT_FOUND, "no peer has the name or address %.200s: `netbird status -d` lists them", peer);
	else if (err == NB_E_STATE)
		client_fail(call, GRPC_FAILED_PRECONDITION, "the agent is not connected: run `netbird up`");
	else if (err)
		client_fail(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	else
		client_reply(call, p);
	nb_arena_fini(&a);
}

static void h_paths(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Nestbox__PathsRequest *m;
	struct nb_arena a;

	(void)user;
	m = client_request(call, &nestbox__paths_request__descriptor, in, &a);
	if (!m)
		return;
	answer(d, call, m->peer ? m->peer : "");
	nb_arena_fini(&a);
}

const struct grpc_call_ops client_paths_ops = { .on_message = h_paths };
