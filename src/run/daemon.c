/* daemon.c - see daemon.h. The foreground drives the same control service through its gRPC methods over
 * a connection in memory, so that profile files, refusals and states have one owner. */
#include "run/daemon.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "crypto/crypto.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/socket.h"
#include "proto/unpack.h"
#include "run/agent.h"
#include "run/h2.h"
#include "run/rpc_client.h"
#include "run/stream.h"

#define CONNS_MAX 64
#define SOCKET_MODE 0666	/* anybody may ask; client/daemon.c decides what needs root */
#define BACKOFF_NS (200 * NB_MS)	/* out of descriptors: accept again after this */

struct service {
	struct run_loop *loop;
	struct client_daemon *d;
	struct run_agent *agent;
	struct run_timer timer, accept_again;
	struct run_io listener;
	int fd;
	struct run_signal sigint, sigterm, sigusr1;
	struct nb_list conns;
	size_t n_conns;
	bool unix_socket;
	const char *socket_path;	/* removed at the end; NULL: none */
	int status;			/* exit status */
	bool foreground;
	bool said_connected;
	bool stop;			/* a signal came, or the engine ended in the foreground */
};

struct conn {
	struct nb_list node;
	struct service *s;
	struct run_stream *stream;
	struct client_caller who;
};

/* --- what the control service asks for */

static void op_login(void *arg, const struct client_config *cfg, const char *setup_key, const char *hostname)
{
	run_agent_login(((struct service *)arg)->agent, cfg, setup_key, hostname);
}

static void op_login_cancel(void *arg)
{
	run_agent_login_cancel(((struct service *)arg)->agent);
}

static void op_up(void *arg, const struct client_config *cfg, const char *hostname)
{
	run_agent_up(((struct service *)arg)->agent, cfg, hostname);
}

static void op_down(void *arg)
{
	run_agent_down(((struct service *)arg)->agent);
}

static void op_logout(void *arg, const struct client_config *cfg)
{
	run_agent_logout(((struct service *)arg)->agent, cfg);
}

static void op_status(void *arg, uint32_t ticket, bool probes)
{
	run_agent_status(((struct service *)arg)->agent, ticket, probes);
}

static int op_paths(void *arg, const char *peer, struct nb_arena *a, Nestbox__PeerPaths **out)
{
	return run_agent_paths(((struct service *)arg)->agent, peer, a, out);
}

static int op_read(void *arg, const char *path, struct nb_buf *out)
{
	(void)arg;
	return os_read_file(out, path);
}

static int op_write(void *arg, const char *path, struct nb_bytes content)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int err;

	(void)arg;
	if (slash && slash != path && (size_t)(slash - path) < sizeof dir) {
		memcpy(dir, path, (size_t)(slash - path));
		dir[slash - path] = '\0';
		err = os_mkdir_p(dir, 0700);
		if (err)
			return err;
	}
	return os_write_file(path, content, 0600);
}

static int op_remove(void *arg, const char *path)
{
	(void)arg;
	return os_remove_file(path);
}

static int op_list(void *arg, const char *dir, void (*each)(void *ctx, const char *name), void *ctx)
{
	(void)arg;
	return os_list_dir(dir, each, ctx);
}

static struct client_caller op_caller(void *arg, struct grpc_call *call)
{
	struct service *s = arg;
	struct conn *c;

	if (s->foreground)	/* the caller is this process */
		return (struct client_caller){ true, (uint32_t)geteuid() };
	c = run_h2_user(grpc_call_conn(call));
	return c->who;
}

static struct nb_time op_now(void *arg)
{
	(void)arg;
	return os_now();
}

static struct nb_wall op_wall(void *arg)
{
	(void)arg;
	return os_wall();
}

static void op_wake(void *arg)
{
	struct service *s = arg;

	if (s->d)
		run_timer_set(&s->timer, client_daemon_deadline(s->d));
}

static const struct client_daemon_ops daemon_ops = {
	.login = op_login, .login_cancel = op_login_cancel, .up = op_up, .down = op_down, .logout = op_logout,
	.status = op_status, .paths = op_paths, .read = op_read, .write = op_write, .remove = op_remove, .list = op_list,
	.caller = op_caller, .now = op_now, .wall = op_wall, .wake = op_wake,
};

/* --- what the machinery answers; at the end, when the control service is gone, nobody listens */

static void on_login_done(void *arg, enum client_login_end how, int status, const char *message)
{
	struct service *s = arg;

	if (s->d)
		client_daemon_login_done(s->d, how, status, message);
}

static int complain(const char *what, const char *why)
{
	fprintf(stderr, "Error: %s: %s\n", what, why);
	return EXIT_FAILURE;
}

/* In the foreground nobody is there to start an engine again that has ended by itself. */
static void foreground_engine(struct service *s, enum client_engine_event e, const char *why)
{
	static const char *const words[] = { [CLIENT_ENGINE_NEEDS_LOGIN] = "this peer must log in again",
					     [CLIENT_ENGINE_FAILED] = "the tunnel cannot run" };

	if (e == CLIENT_ENGINE_CONNECTED && !s->said_connected) {
		s->said_connected = true;
		printf("Connected\n");
		fflush(stdout);
	}
	if (e != CLIENT_ENGINE_NEEDS_LOGIN && e != CLIENT_ENGINE_FAILED)
		return;
	s->status = complain(words[e], why && *why ? why : "no reason given");
	s->stop = true;
	run_loop_stop(s->loop);
}

static void on_engine(void *arg, enum client_engine_event e, const char *why)
{
	struct service *s = arg;

	if (!s->d)
		return;
	client_daemon_engine(s->d, e, why);
	if (s->foreground)
		foreground_engine(s, e, why);
}

static void on_down(void *arg)
{
	struct service *s = arg;

	if (s->d)
		client_daemon_is_down(s->d);
}

static void on_logout_done(void *arg, int status, const char *message)
{
	struct service *s = arg;

	if (s->d)
		client_daemon_logout_done(s->d, status, message);
}

static void on_status_ready(void *arg, uint32_t ticket, Daemon__FullStatus *st)
{
	struct service *s = arg;

	if (s->d)
		client_daemon_status_ready(s->d, ticket, st);
}

static void on_event(void *arg, const char *message)
{
	struct service *s = arg;

	if (s->d)
		client_daemon_event(s->d, DAEMON__SYSTEM_EVENT__SEVERITY__INFO,
			    DAEMON__SYSTEM_EVENT__CATEGORY__SYSTEM, message, "", NULL, 0);
}

static void on_timer(void *ctx, struct nb_time now)
{
	struct service *s = ctx;

	client_daemon_timer(s->d, now);
	run_timer_set(&s->timer, client_daemon_deadline(s->d));
}

static void on_signal(void *ctx, int signum)
{
	struct service *s = ctx;

	nb_info("%s: shutting down", strsignal(signum));
	s->stop = true;
	run_loop_stop(s->loop);
}

/* Stock writes a debug bundle then; without a watcher the signal would end the agent. */
static void on_usr1(void *ctx, int signum)
{
	(void)ctx, (void)signum;
	nb_warn("debug bundles are not supported; use netbird status -d and this log");
}

/* --- the control socket */

static void conn_closed(void *ctx, const char *why)
{
	struct conn *c = ctx;

	if (*why)
		nb_debug("control connection: %s", why);
	nb_list_del(&c->node);
	c->s->n_conns--;
	free(c);
}

/* Everybody may connect, so others must not be able to keep root out: the oldest of theirs goes. */
static bool make_room(struct service *s, const struct client_caller *who)
{
	if (s->n_conns < CONNS_MAX)
		return true;
	nb_list_each(n, &s->conns) {
		struct conn *c = nb_container(n, struct conn, node);

		if (who->known && who->uid == 0 && c->who.uid != 0) {
			run_stream_close_now(c->stream, "its place was needed");
			return true;
		}
	}
	return false;
}

static void accept_one(struct service *s, int fd)
{
	struct run_stream_config sc = { .loop = s->loop, .fd = fd };
	struct client_caller who = { 0 };
	struct grpc_config gc;
	struct conn *c;
	struct run_h2 *h;
	gid_t gid;
	uid_t uid;
	pid_t pid;

	if (s->unix_socket && os_unix_peer(fd, &uid, &gid, &pid) == 0)
		who = (struct client_caller){ true, (uint32_t)uid };
	c = make_room(s, &who) ? calloc(1, sizeof *c) : NULL;
	if (!c || run_stream_new(&c->stream, &sc, NULL, NULL)) {
		free(c);
		os_close(&fd);
		return;
	}
	c->s = s;
	c->who = who;
	grpc_config_default(&gc);
	gc.services = client_daemon_service(s->d);
	gc.n_services = 1;
	gc.user = c;
	gc.max_buffered = 4 << 20;
	if (run_h2_server(&h, c->stream, &gc, conn_closed, c)) {
		run_stream_free(c->stream);
		free(c);
		return;
	}
	nb_list_push(&s->conns, &c->node);
	s->n_conns++;
}

static void on_accept(void *ctx, int events)
{
	struct service *s = ctx;
	struct nb_endpoint peer;
	int fd, err;

	(void)events;
	while ((err = os_accept(&fd, &peer, s->fd)) == 0)
		accept_one(s, fd);
	if (err != NB_E_AGAIN) {
		nb_warn("control socket: %s", os_why());
		run_io_set(&s->listener, s->fd, 0);
		run_timer_set(&s->accept_again, nb_time_add(os_now(), BACKOFF_NS));
	}
}

static void on_accept_again(void *ctx, struct nb_time now)
{
	struct service *s = ctx;

	(void)now;
	run_io_set(&s->listener, s->fd, RUN_READ);
}

static int listen_unix(struct service *s, const char *path)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int err;

	if (slash && slash != path && (size_t)(slash - path) < sizeof dir) {
		memcpy(dir, path, (size_t)(slash - path));
		dir[slash - path] = '\0';
		os_mkdir_p(dir, 0755);
	}
	err = os_unix_listen(&s->fd, path, SOCKET_MODE);
	if (err == NB_E_BUSY)
		return complain(path, "another agent answers on this control socket; stop it (netbird service stop) or "
				"give --daemon-addr unix:///another/path");
	if (err)
		return complain(path, os_why());
	s->unix_socket = true;
	s->socket_path = path;
	return 0;
}

static int listen_tcp(struct service *s, const char *at)
{
	struct nb_endpoint e;
	char text[128];

	if (!strncmp(at, "localhost:", 10)) {
		snprintf(text, sizeof text, "127.0.0.1:%s", at + 10);
		at = text;
	}
	if (nb_endpoint_parse(&e, at))
		return complain(at, "--daemon-addr takes tcp://ADDRESS:PORT");
	if (os_tcp_listen(&s->fd, &e))
		return complain(at, os_why());
	return 0;
}

static int listen_at(struct service *s, const char *addr)
{
	if (!strncmp(addr, "unix://", 7))
		return listen_unix(s, addr + 7);
	if (!strncmp(addr, "tcp://", 6))
		return listen_tcp(s, addr + 6);
	return complain(addr, "--daemon-addr takes unix:///PATH or tcp://ADDRESS:PORT");
}

/* --- begin and end */

/* Keys and profiles are kept there: without it the agent would be another machine after each start. */
static int state_dir_ready(const char *dir)
{
	char why[PATH_MAX + 200];
	const char *reason = NULL;

	if (os_mkdir_p(dir, 0700))
		reason = os_why();
	else if (access(dir, W_OK | X_OK))
		reason = strerror(errno);
	if (!reason)
		return 0;
	snprintf(why, sizeof why, "the state directory %s cannot be used: %s: %s or name another one in NB_STATE_DIR", dir, reason,
		 geteuid() ? "start as root" : "make it a writable directory");
	return complain("cannot start", why);
}

static int service_open(struct service *s, const struct run_daemon_options *o)
{
	struct client_daemon_config dc = {
		.ops = &daemon_ops, .arg = s, .random = nbc_random, .state_dir = o->state_dir,
		.default_profile = o->profile, .log_file = o->log_file, .uid = (uint32_t)geteuid(),
		.disable_profiles = o->disable_profiles, .disable_update_settings = o->disable_update_settings,
		.disable_networks = o->disable_networks, .wait_for_up = s->foreground,
	};
	char tai[PATH_MAX];
	struct run_agent_config ac = {
		.arg = s, .login_done = on_login_done, .engine = on_engine, .down = on_down,
		.logout_done = on_logout_done, .status_ready = on_status_ready, .event = on_event, .ca_file = o->ca_file,
		.tai_path = tai,
	};

	s->fd = -1;
	nb_list_init(&s->conns);
	if (state_dir_ready(o->state_dir))
		return EXIT_FAILURE;
	if (nbc_init() || run_loop_new(&s->loop))
		return complain("cannot start", os_why());
	ac.loop = s->loop;
	run_timer_init(&s->timer, s->loop, on_timer, s);
	run_timer_init(&s->accept_again, s->loop, on_accept_again, s);
	run_io_init(&s->listener, s->loop, on_accept, s);
	run_signal_start(&s->sigint, s->loop, SIGINT, on_signal, s);
	run_signal_start(&s->sigterm, s->loop, SIGTERM, on_signal, s);
	run_signal_start(&s->sigusr1, s->loop, SIGUSR1, on_usr1, s);
	snprintf(tai, sizeof tai, "%s/handshake-clock", o->state_dir);
	s->d = client_daemon_new(&dc);
	if (!s->d || run_agent_new(&s->agent, &ac))
		return complain("cannot start", "out of memory");
	return 0;
}

static void service_close(struct service *s)
{
	if (!s->loop)
		return;
	run_io_set(&s->listener, s->fd, 0);
	if (s->socket_path)
		os_remove_file(s->socket_path);
	os_close(&s->fd);
	client_daemon_free(s->d);
	s->d = NULL;
	nb_list_each_safe(n, &s->conns)
		run_stream_close_now(nb_container(n, struct conn, node)->stream, "");
	run_agent_free(s->agent);
	/* Connections that the agent has given up are freed by the loop. */
	run_loop_once(s->loop, os_now());
	run_timer_stop(&s->timer);
	run_timer_stop(&s->accept_again);
	run_signal_stop(&s->sigint);
	run_signal_stop(&s->sigterm);
	run_signal_stop(&s->sigusr1);
	run_loop_free(s->loop);
}

static int serve(struct service *s, const struct run_daemon_options *o)
{
	char why[400];

	if (listen_at(s, o->addr))
		return EXIT_FAILURE;
	if (client_daemon_start(s->d, why, sizeof why))
		return complain("cannot start", why);
	run_io_set(&s->listener, s->fd, RUN_READ);
	nb_info("the agent answers on %s, state in %s", o->addr, o->state_dir);
	run_loop_run(s->loop);
	return s->status;
}

int run_daemon(const struct run_daemon_options *o)
{
	struct service s = { 0 };
	int status = service_open(&s, o);

	if (!status)
		status = serve(&s, o);
	service_close(&s);
	return status;
}

/* --- foreground */

#define SERVICE "/daemon.DaemonService/"

static int refused(const char *what, const struct run_rpc_result *r)
{
	char text[1200];

	snprintf(text, sizeof text, "rpc error: code = %s desc = %s", grpc_status_name(r->status), r->message);
	return complain(what, text);
}

/* Settings, login, and for a tunnel the start of the engine. Returns an exit status. */
static int bring_up(struct run_rpc *rpc, const Daemon__SetConfigRequest *set, const char *setup_key,
		    const char *hostname, bool login_only)
{
	Daemon__LoginRequest login = DAEMON__LOGIN_REQUEST__INIT;
	Daemon__UpRequest up = DAEMON__UP_REQUEST__INIT;
	struct run_rpc_result r;
	struct nb_arena a;
	void *answer;
	int status = EXIT_SUCCESS;

	nb_arena_init(&a, 1 << 20);
	if (*setup_key)
		login.setupkey = (char *)(uintptr_t)setup_key;
	if (*hostname)
		login.hostname = (char *)(uintptr_t)hostname;
	up.has_async = up.async = true;
	if (set && run_rpc_call(rpc, SERVICE "SetConfig", set, &daemon__set_config_response__descriptor, &answer, &a, 0, &r))
		status = complain("settings", r.message);
	else if (run_rpc_call(rpc, SERVICE "Login", &login, &daemon__login_response__descriptor, &answer, &a, 0, &r))
		status = r.status == GRPC_CANCELLED ? EXIT_SUCCESS : refused("foreground login failed", &r);
	else if (!login_only &&
		 run_rpc_call(rpc, SERVICE "Up", &up, &daemon__up_response__descriptor, &answer, &a, 0, &r))
		status = refused("up failed", &r);
	nb_arena_fini(&a);
	return status;
}

int run_foreground(const struct run_daemon_options *o, const Daemon__SetConfigRequest *set, const char *setup_key,
		   const char *hostname, bool login_only)
{
	struct service s = { .foreground = true };
	struct run_rpc *rpc = NULL;
	struct grpc_config gc;
	char why[400];
	int status = service_open(&s, o);

	grpc_config_default(&gc);
	if (!status && client_daemon_start(s.d, why, sizeof why))
		status = complain("cannot start", why);
	gc.services = status ? NULL : client_daemon_service(s.d);
	gc.n_services = 1;
	if (!status && run_rpc_pair(&rpc, s.loop, &gc, &s.stop))
		status = complain("cannot start", "out of memory");
	if (!status)
		status = bring_up(rpc, set, setup_key, hostname, login_only);
	if (!status && !login_only && !s.stop) {
		run_loop_run(s.loop);
		status = s.status;
	}
	if (s.d) {
		client_daemon_free(s.d);
		s.d = NULL;
	}
	run_rpc_close(rpc);
	service_close(&s);
	return status;
}
