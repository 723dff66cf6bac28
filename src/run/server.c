/* server.c - see run/server.h. Joins loop, listeners, store thread, relay thread and the programs; decides
 * nothing about accounts, peers or messages. */
#include "run/server.h"

#include "base/log.h"
#include "crypto/crypto.h"
#include "grpc/grpc.h"
#include "mgmt/rest.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/priv.h"
#include "os/socket.h"
#include "os/udp.h"
#include "run/certs.h"
#include "run/listen.h"
#include "run/loop.h"
#include "run/metrics.h"
#include "run/relay.h"
#include "run/worker.h"
#include "run/wsproxy.h"
#include "signal/signal.h"
#include "store/store.h"
#include "web/websocket.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define GRACE_NS (1 * NB_SEC)
#define SIGNAL_TICK_NS (5 * NB_SEC)
#define KEEPALIVE_NS (60 * NB_SEC)	/* stock clients ping after 30 s of silence */
#define KEEPALIVE_TIMEOUT_NS (20 * NB_SEC)
#define PORT_TLS 443
#define PORT_PLAIN 8080
#define STUN_PORT 3478
#define HOST_MAX 256
#define API_RPM 6			/* stock's, once switched on */
#define API_BURST 500

struct server {
	struct run_server_config cfg;
	struct run_loop *loop;
	struct run_certs *certs;
	struct run_listener *listeners[RUN_SERVER_LISTEN_MAX];
	size_t n_listeners, draining;
	struct run_wsproxy *wsproxy;
	struct run_metrics *metrics;
	struct store *store;
	struct mgmt *mgmt;
	struct mgmt_rest *rest;
	struct run_worker *worker;	/* hashes passwords */
	struct signal_server *signal;
	struct run_relay *relay;
	struct run_async stored;
	struct run_defer rearm;
	struct run_timer timer, signal_timer;
	struct run_signal term, intr, hup;
	struct grpc_service services[2];	/* management, signal: those that run; filled before the loop */
	uint8_t seed[16];
	bool stopping;
	/* texts that the configurations borrow */
	char host[HOST_MAX], signal_uri[HOST_MAX + 8], stun_uri[HOST_MAX + 16], turn_uri[3][HOST_MAX + 40];
	unsigned port;			/* of the external URL */
	bool tls;
	const char *stuns[1], *relays[1];
	struct mgmt_turn turns[3];	/* over UDP, TCP and TLS */
};

static int complain(const struct server *s, const char *what)
{
	fprintf(stderr, "%s: %s\n", s->cfg.name, what);
	return 1;
}

void run_server_config_default(struct run_server_config *c)
{
	memset(c, 0, sizeof(*c));
	c->name = "netbird-server";
	c->api_rpm = API_RPM;
	c->api_burst = API_BURST;
	relay_config_default(&c->relay_config);
}

/* ---- the control plane's clock and timers */

static void read_clock(void *arg, struct nb_time *now, struct nb_wall *wall)
{
	(void)arg;
	*now = os_now();
	*wall = os_wall();
}

static void want_rearm(void *arg)
{
	struct server *s = arg;

	run_defer_call(s->loop, &s->rearm);
}

static void on_rearm(void *arg)
{
	struct server *s = arg;

	if (s->mgmt)
		run_timer_set(&s->timer, mgmt_deadline(s->mgmt));
}

static void on_timer(void *arg, struct nb_time now)
{
	struct server *s = arg;

	mgmt_clock(s->mgmt, now, os_wall());
	mgmt_run(s->mgmt);
	want_rearm(s);
}

static void on_signal_timer(void *arg, struct nb_time now)
{
	struct server *s = arg;

	signal_timer(s->signal, now);
	run_timer_set(&s->signal_timer, nb_time_add(now, SIGNAL_TICK_NS));
}

/* On the writer's thread. */
static void store_wake(void *arg)
{
	run_async_send(&((struct server *)arg)->stored);
}

static void on_stored(void *arg)
{
	struct server *s = arg;

	if (!s->store || !s->mgmt)
		return;
	mgmt_clock(s->mgmt, os_now(), os_wall());
	store_poll(s->store);
	want_rearm(s);
}

/* ---- requests that are not gRPC */

static void on_web(void *arg, struct web_call *call)
{
	struct server *s = arg;

	if (s->rest && mgmt_rest_owns(call))
		mgmt_rest_request(s->rest, call);
	else
		web_respond_text(call, 404, "404 page not found\n");
}

static void on_upgrade(void *arg, struct web_call *call)
{
	struct server *s = arg;

	if (s->cfg.relay_protocol && nb_bytes_eq_str(call->req.path, RUN_RELAY_PATH))
		(void)web_ws_accept(call, s);
	else if ((s->cfg.management && nb_bytes_eq_str(call->req.path, RUN_WSPROXY_MANAGEMENT)) ||
		 (s->cfg.signal && nb_bytes_eq_str(call->req.path, RUN_WSPROXY_SIGNAL)))
		run_wsproxy_accept(s->wsproxy, call);
	else
		on_web(arg, call);
}

static void on_upgraded(void *arg, void *user, struct run_stream *stream, struct nb_bytes rest, struct nb_time now)
{
	struct server *s = arg;

	if (user == s->wsproxy)
		run_wsproxy_serve(s->wsproxy, stream, rest, now);
	else	/* the relay's thread takes it from here */
		run_relay_hand_over(s->relay, s->loop, stream, rest);
}

static void hash_work(void *arg)
{
	mgmt_rest_hash_run(arg);
}

static void hash_done(void *arg)
{
	struct mgmt_rest_hash *job = arg;
	struct server *s = job->user;

	if (s->mgmt)
		mgmt_clock(s->mgmt, os_now(), os_wall());
	mgmt_rest_hashed(job);
}

static void hash_start(void *arg, struct mgmt_rest_hash *job)
{
	struct server *s = arg;

	job->user = s;
	job->err = run_worker_do(s->worker, hash_work, hash_done, job);
	if (job->err)
		mgmt_rest_hashed(job);
}

static int start_rest(struct server *s)
{
	struct mgmt_rest_config rc = { .m = s->mgmt, .hash = hash_start, .ctx = s,
				       .token_rpm = s->cfg.api_limit ? s->cfg.api_rpm : 0,
				       .token_burst = s->cfg.api_burst };

	if (run_worker_new(&s->worker, s->loop, SIZE_MAX) || mgmt_rest_new(&s->rest, &rc))
		return complain(s, "cannot start the REST API: out of memory");
	return 0;
}

/* ---- how clients reach us */

/* Split http[s]://host[:port]. Returns the port, or 0 when it is no such URL. */
static unsigned split_url(const char *url, bool *tls, char host[HOST_MAX])
{
	const char *at = strstr(url, "://"), *end, *colon;
	char *rest;
	unsigned long port;

	if (!at || (strncasecmp(url, "http:", 5) && strncasecmp(url, "https:", 6)))
		return 0;
	*tls = at - url == 5;
	at += 3;
	end = at + strcspn(at, "/?#");
	colon = *at == '[' ? memchr(at, ']', (size_t)(end - at)) : at;
	colon = colon ? memchr(colon, ':', (size_t)(end - colon)) : NULL;
	if (end == at || (size_t)(end - at) >= HOST_MAX || colon == at)
		return 0;
	snprintf(host, HOST_MAX, "%.*s", (int)((colon ? colon : end) - at), at);
	if (!colon)
		return *tls ? 443 : 80;
	port = strtoul(colon + 1, &rest, 10);
	return rest != end || port < 1 || port > 65535 ? 0 : (unsigned)port;
}

/* The address that packets to elsewhere would leave from; nothing is sent. */
static void own_address(char host[HOST_MAX])
{
	struct nb_endpoint far, self = { 0 };
	char text[NB_ADDR_TEXT];
	int fd;

	snprintf(host, HOST_MAX, "127.0.0.1");
	if (nb_endpoint_parse(&far, "192.0.2.1:9") || os_udp_bind(&fd, &(struct nb_endpoint){ .addr = nb_addr4(0) }, NULL))
		return;
	union os_sockaddr sa;
	socklen_t n = os_sockaddr_from(&sa, &far);

	if (connect(fd, &sa.sa, n) == 0 && os_local_endpoint(fd, &self) == 0 && self.addr.family) {
		nb_addr_format(text, &self.addr);
		snprintf(host, HOST_MAX, "%s", text);
	}
	os_close(&fd);
}

static int find_host(struct server *s)
{
	bool tls = s->cfg.cert_file != NULL;
	unsigned port = s->n_listeners ? run_listener_endpoint(s->listeners[0]).port : 0;
	struct nb_addr first = s->cfg.n_listen ? s->cfg.listen[0].addr : (struct nb_addr){ 0 };

	if (s->cfg.external_url) {
		port = split_url(s->cfg.external_url, &tls, s->host);
		if (!port)
			return complain(s, "--external-url: not understood: expected http://HOST[:PORT] or https://HOST[:PORT]");
	} else {
		if (first.family && !nb_addr_is_unspecified(&first))
			nb_addr_format(s->host, &first);
		else
			own_address(s->host);
		nb_info("clients are told to reach us at %s://%s:%u; give --external-url if that is wrong",
			tls ? "https" : "http", s->host, port);
	}
	s->port = port;
	s->tls = tls;
	if (!s->cfg.mgmt.signal_uri) {
		snprintf(s->signal_uri, sizeof(s->signal_uri), "%s:%u", s->host, port);
		s->cfg.mgmt.signal_uri = s->signal_uri;
		s->cfg.mgmt.signal_tls = tls;
	}
	return 0;
}

static unsigned relay_port(const struct server *s)
{
	const struct relay_config *r = &s->cfg.relay_config;

	return r->nlisten && r->listen[0].port ? r->listen[0].port : STUN_PORT;
}

/* The NetBird relay protocol: the same text is our instance URL and what management hands out. */
static void announce_protocol(struct server *s)
{
	struct relay_config *r = &s->cfg.relay_config;
	struct mgmt_config *m = &s->cfg.mgmt;
	char url[HOST_MAX + 24];

	if (!s->cfg.relay_protocol)
		return;
	snprintf(url, sizeof(url), "%s://%s:%u", s->tls ? "rels" : "rel", s->host, s->port);
	if (relay_set_url(r, url, false)) {
		nb_warn("the relay protocol is not served: %s is no usable address for it; give another --external-url", url);
		s->cfg.relay_protocol = false;
		return;
	}
	s->relays[0] = r->url;
	m->relay_urls = s->relays;
	m->n_relay_urls = 1;
	m->relay_secret = r->auth_secret;
}

static unsigned tcp_port(const struct server *s)
{
	const struct relay_config *r = &s->cfg.relay_config;

	return r->ntcp ? r->tcp[0].port : relay_port(s);
}

static void add_turn(struct server *s, const char *scheme, unsigned port, const char *transport)
{
	size_t n = s->cfg.mgmt.n_turns++;

	snprintf(s->turn_uri[n], sizeof(s->turn_uri[n]), "%s:%s:%u?transport=%s", scheme, s->host, port, transport);
	s->turns[n].uri = s->turn_uri[n];
}

static void announce_relay(struct server *s)
{
	struct mgmt_config *m = &s->cfg.mgmt;

	if (!s->cfg.relay)
		return;
	if (!m->n_stuns) {
		snprintf(s->stun_uri, sizeof(s->stun_uri), "stun:%s:%u", s->host, relay_port(s));
		s->stuns[0] = s->stun_uri;
		m->stuns = s->stuns;
		m->n_stuns = 1;
	}
	if (!m->n_turns && *s->cfg.relay_config.secret) {
		add_turn(s, "turn", relay_port(s), "udp");
		if (!s->cfg.relay_config.no_tcp)
			add_turn(s, "turn", tcp_port(s), "tcp");
		/* On the same port; never over UDP, which would be DTLS. */
		if (!s->cfg.relay_config.no_tcp && s->certs)
			add_turn(s, "turns", tcp_port(s), "tcp");
		m->turns = s->turns;
		m->turn_secret = s->cfg.relay_config.secret;
	}
}

/* ---- start */

static int open_listeners(struct server *s)
{
	struct grpc_config grpc;
	unsigned port = s->cfg.cert_file ? PORT_TLS : PORT_PLAIN;
	struct web_handler web = { .request = on_web, .upgrade = on_upgrade, .arg = s, .max_body = MGMT_REST_BODY_MAX };
	char why[NBC_TLS_WHY];

	grpc_config_default(&grpc);
	grpc.services = s->services;
	grpc.n_services = (size_t)s->cfg.management + s->cfg.signal;
	grpc.keepalive_ns = KEEPALIVE_NS;
	grpc.keepalive_timeout_ns = KEEPALIVE_TIMEOUT_NS;
	grpc.keepalive_idle = true;
	if (run_wsproxy_new(&s->wsproxy, s->loop, &grpc))
		return complain(s, "out of memory");
	if (s->cfg.cert_file && run_certs_new(&s->certs, s->loop, s->cfg.cert_file, s->cfg.key_file, why))
		return complain(s, why);
	for (size_t i = 0; i < (s->cfg.n_listen ? s->cfg.n_listen : 1); i++) {
		struct run_listener_config lc = { .loop = s->loop, .certs = s->certs, .grpc = &grpc, .web = &web,
						  .upgraded = on_upgraded, .arg = s };

		if (s->cfg.n_listen)
			lc.at = s->cfg.listen[i];
		if (!lc.at.port)
			lc.at.port = (uint16_t)port;
		if (run_listener_new(&s->listeners[i], &lc, why))
			return complain(s, why);
		s->n_listeners++;
	}
	return 0;
}

static void write_metrics(void *ctx, struct nb_buf *b)
{
	struct server *s = ctx;
	size_t peers, streams;

	if (s->mgmt) {
		mgmt_count(s->mgmt, &peers, &streams);
		run_metrics_put(b, "management_peers", "gauge", "", peers);
		run_metrics_put(b, "management_grpc_connected_streams", "gauge", "", streams);
	}
	if (s->signal)
		signal_metrics(s->signal, b, "signal_");
	run_metrics_relay(b, s->relay);
}

static int open_metrics(struct server *s)
{
	struct run_metrics_config mc = { .loop = s->loop, .at = s->cfg.metrics, .write = write_metrics, .ctx = s };
	char why[NBC_TLS_WHY];

	return mc.at.port && run_metrics_new(&s->metrics, &mc, why) ? complain(s, why) : 0;
}

static bool leaves_root(const struct server *s)
{
	struct stat st;

	return geteuid() == 0 && (s->cfg.user || (s->cfg.data_dir && !stat(s->cfg.data_dir, &st) && st.st_uid != 0));
}

static int drop_privileges(struct server *s, bool serving)
{
	int rc;

	/* Keys of certificates are for root alone, as a rule, and are renewed while we run. */
	if (s->certs && leaves_root(s) && run_certs_keep_access(s->certs))
		nb_warn("a new certificate may not be readable after root is given up: %s", os_why());
	if (s->cfg.user) {
		rc = os_become_user(s->cfg.user);
		if (rc == 0)
			return 0;
		fprintf(stderr, "%s: cannot become user %s: %s: start as root or leave out --user\n", s->cfg.name, s->cfg.user,
			rc == NB_E_NOTFOUND ? "no such user" : os_why());
		return 1;
	}
	rc = s->cfg.data_dir ? os_become_owner(s->cfg.data_dir) : 0;
	if (rc < 0)
		return complain(s, "cannot become the data directory's owner: give --user or start as that user");
	if (rc == 0 && geteuid() == 0 && serving)
		nb_warn("running as root: give --user, or a data directory owned by another user, to give that up");
	return 0;
}

static int open_store(struct server *s, bool serving)
{
	struct store_config sc = { .dir = s->cfg.data_dir, .who = s->cfg.name };
	struct mgmt_error e = { 0 };
	char why[NBC_TLS_WHY] = "";

	bool fresh = access(s->cfg.data_dir, F_OK) != 0;

	if (os_mkdir_p(s->cfg.data_dir, 0700)) {
		fprintf(stderr, "%s: cannot make the data directory %s: %s: name another with --data-dir\n", s->cfg.name,
			s->cfg.data_dir, os_why());
		return 1;
	}
	if (fresh && s->cfg.user && geteuid() == 0 && os_give_dir(s->cfg.data_dir, s->cfg.user)) {
		fprintf(stderr, "%s: cannot give %s to user %s: %s: check --user\n", s->cfg.name, s->cfg.data_dir, s->cfg.user,
			os_why());
		return 1;
	}
	if (drop_privileges(s, serving))
		return 1;
	if (s->cfg.user && access(s->cfg.data_dir, W_OK | X_OK)) {
		fprintf(stderr, "%s: %s may not write in the data directory %s: chown -R %s %s, or leave out --user\n", s->cfg.name,
			s->cfg.user, s->cfg.data_dir, s->cfg.user, s->cfg.data_dir);
		return 1;
	}
	if (serving) {
		sc.wake = store_wake;
		sc.wake_arg = s;
	}
	if (store_open(&s->store, &sc, why, sizeof(why)))
		return complain(s, why);
	nbc_random(NULL, s->seed, sizeof(s->seed));
	s->cfg.mgmt.random = nbc_random;
	s->cfg.mgmt.map_seed = nb_bytes(s->seed, sizeof(s->seed));
	s->cfg.mgmt.clock = read_clock;
	if (serving) {
		s->cfg.mgmt.wake = want_rearm;
		s->cfg.mgmt.wake_arg = s;
	}
	if (mgmt_new(&s->mgmt, &s->cfg.mgmt, s->store, os_now(), os_wall(), &e))
		return complain(s, e.message);
	return 0;
}

/* A secret that stays the same as long as the data directory does. */
static void make_secret(const struct server *s, const char *purpose, char *out, size_t cap)
{
	uint8_t secret[32];
	char text[65];

	mgmt_secret(s->mgmt, purpose, secret);
	nb_hex_encode(text, nb_bytes(secret, sizeof(secret)));
	snprintf(out, cap, "%s", text);
	nb_wipe(secret, sizeof(secret));
	nb_wipe(text, sizeof(text));
}

static int start_management(struct server *s)
{
	struct relay_config *r = &s->cfg.relay_config;

	if (open_store(s, true))
		return 1;
	if (s->cfg.relay && !*r->secret)
		make_secret(s, "turn", r->secret, sizeof(r->secret));
	if (s->cfg.relay_protocol && !*r->auth_secret)
		make_secret(s, "relay", r->auth_secret, sizeof(r->auth_secret));
	announce_protocol(s);
	announce_relay(s);
	mgmt_reconfigure(s->mgmt, &s->cfg.mgmt);
	s->services[0] = *mgmt_grpc(s->mgmt);
	return start_rest(s);
}

static int start_signal(struct server *s)
{
	uint8_t seed[16];

	nbc_random(NULL, seed, sizeof(seed));
	if (signal_server_new(&s->signal, seed, 0))
		return complain(s, "out of memory");
	s->services[s->cfg.management] = signal_service(s->signal);
	run_timer_set(&s->signal_timer, nb_time_add(os_now(), SIGNAL_TICK_NS));
	return 0;
}

/* ---- end */

static void on_drained(void *arg)
{
	struct server *s = arg;

	if (--s->draining == 0)
		run_loop_stop(s->loop);
}

static void on_stop(void *arg, int signum)
{
	struct server *s = arg;

	(void)signum;
	if (s->stopping) {
		run_loop_stop(s->loop);
		return;
	}
	s->stopping = true;
	nb_info("stopping");
	if (s->signal)
		signal_server_stop(s->signal);
	if (s->mgmt)
		mgmt_stop(s->mgmt);
	run_wsproxy_shutdown(s->wsproxy, GRACE_NS);
	s->draining = s->n_listeners;
	for (size_t i = 0; i < s->n_listeners; i++)
		run_listener_shutdown(s->listeners[i], GRACE_NS, on_drained, s);
}

static void on_hup(void *arg, int signum)
{
	struct server *s = arg;

	(void)signum;
	if (s->certs)
		run_certs_reload(s->certs);
}

static int begin(struct server *s, const struct run_server_config *cfg)
{
	s->cfg = *cfg;
	os_raise_descriptors(0);
	if (nbc_init() || run_loop_new(&s->loop))
		return complain(s, "cannot start the event loop");
	run_timer_init(&s->timer, s->loop, on_timer, s);
	run_timer_init(&s->signal_timer, s->loop, on_signal_timer, s);
	run_defer_init(&s->rearm, on_rearm, s);
	run_async_start(&s->stored, s->loop, on_stored, s);
	run_signal_start(&s->term, s->loop, SIGTERM, on_stop, s);
	run_signal_start(&s->intr, s->loop, SIGINT, on_stop, s);
	run_signal_start(&s->hup, s->loop, SIGHUP, on_hup, s);
	return 0;
}

/* Connections first: their calls end in the programs, which must still be there. */
static void finish(struct server *s)
{
	for (size_t i = 0; i < s->n_listeners; i++)
		run_listener_free(s->listeners[i]);
	run_wsproxy_free(s->wsproxy);
	run_metrics_free(s->metrics);
	run_relay_stop(s->relay);
	run_worker_free(s->worker);
	mgmt_rest_free(s->rest);
	mgmt_free(s->mgmt);
	s->mgmt = NULL;
	store_close(s->store);
	s->store = NULL;
	signal_server_free(s->signal);
	run_certs_free(s->certs);
	nb_wipe(&s->cfg.relay_config, sizeof(s->cfg.relay_config));
	if (!s->loop)
		return;
	run_timer_stop(&s->timer);
	run_timer_stop(&s->signal_timer);
	run_defer_cancel(&s->rearm);
	run_async_stop(&s->stored);
	run_signal_stop(&s->term);
	run_signal_stop(&s->intr);
	run_signal_stop(&s->hup);
	run_loop_free(s->loop);
}

static int serve(struct server *s)
{
	if (open_listeners(s) || open_metrics(s) || find_host(s))
		return 1;
	if (s->cfg.management ? start_management(s) : drop_privileges(s, true))
		return 1;
	if (s->cfg.signal && start_signal(s))
		return 1;
	s->cfg.relay_config.no_udp = !s->cfg.relay;
	if ((s->cfg.relay || s->cfg.relay_protocol) && run_relay_start(&s->relay, &s->cfg.relay_config, s->certs))
		return complain(s, "the relay did not start: see the line above, or choose other ports with --turn-listen");
	for (size_t i = 0; i < s->n_listeners; i++) {
		struct nb_endpoint at = run_listener_endpoint(s->listeners[i]);
		char text[NB_ADDR_TEXT];

		nb_endpoint_format(text, &at);
		nb_info("%s listens on %s%s", s->cfg.name, text, s->certs ? " (TLS)" : "");
	}
	if (s->mgmt && mgmt_setup_required(s->mgmt))
		nb_info("no account yet: POST /api/setup, or stop this server and run `%s setup`", s->cfg.name);
	want_rearm(s);
	run_loop_run(s->loop);
	return 0;
}

int run_server_main(const struct run_server_config *cfg)
{
	struct server *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return 1;
	rc = begin(s, cfg);
	if (rc == 0)
		rc = serve(s);
	finish(s);
	free(s);
	return rc;
}

/* ---- first account without a running server */

static void print_setup(const struct mgmt_setup_result *r)
{
	printf("owner id: %s\n", r->user_id);
	for (int i = 0; i < 2; i++)
		printf("setup key (%s): %s\n", r->keys[i].type, r->keys[i].key);
	if (*r->pat)
		printf("personal access token: %s\n", r->pat);
	puts("These are shown once; only their hashes are kept.");
}

static int setup(struct server *s, const char *email, const char *name, const char *password, bool create_token)
{
	struct mgmt_setup spec = { .email = email, .name = name, .create_pat = create_token };
	struct mgmt_setup_result res;
	char hash[NBC_PASSWORD_TEXT];
	struct mgmt_error e = { 0 };
	int rc = open_store(s, false);

	if (rc)
		return rc;
	if (mgmt_setup_check(s->mgmt, email, name, nb_bytes_str(password), &e))
		return complain(s, e.message);
	if (nbc_password_hash(hash, nb_bytes_str(password), NBC_PASSWORD_KIB, NBC_PASSWORD_PASSES))
		return complain(s, "not enough memory to hash the password");
	spec.password_hash = hash;
	if (mgmt_setup(s->mgmt, &spec, &res, &e))
		return complain(s, e.message);
	store_sync(s->store);
	if (mgmt_setup_required(s->mgmt))
		return complain(s, "the account could not be written: see the line above");
	print_setup(&res);
	nb_wipe(&res, sizeof(res));
	return 0;
}

int run_server_setup(const struct run_server_config *cfg, const char *email, const char *name, const char *password,
		     bool create_token)
{
	struct server *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return 1;
	s->cfg = *cfg;
	rc = nbc_init() ? complain(s, "no random numbers") : setup(s, email, name, password, create_token);
	mgmt_free(s->mgmt);
	store_close(s->store);
	free(s);
	return rc;
}
