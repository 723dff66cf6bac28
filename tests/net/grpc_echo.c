/* grpc_echo.c - our gRPC on a real socket, as a peer for tests/net/test_grpc_interop.py.
 *	grpc_echo serve PORT [CERT KEY]             test.Echo on 127.0.0.1 (see tests/unit/grpc_echo_service.h)
 *	grpc_echo call PORT [--ca FILE] CALL...     the calls one after the other, a line of result for each
 * CALL: unary:TEXT  meta:ASK:BIN  big:BYTES  download:COUNT:SIZE[:slow]  upload:COUNT:SIZE  chat:COUNT
 *       hang:MS (deadline)  cancel  many:COUNT  path:/SERVICE/METHOD  idle:MS (just keep the connection) */
#include "crypto/crypto.h"
#include "crypto/tls.h"
#include "grpc/grpc.h"
#include "os/clock.h"
#include "os/socket.h"
#include "unit/grpc_echo_service.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* One transport with its connection. */
struct link {
	int fd;
	struct nbc_tls *tls;
	struct grpc_conn *conn;
	uint8_t out[65536];
	size_t out_at, out_n;
	uint8_t plain[16384];	/* on its way into TLS */
	size_t plain_at, plain_n;
	bool closed;
};

#define LINKS 64
static struct link *links[LINKS];
static size_t n_links;

__attribute__((noreturn)) static void die(const char *what)
{
	fprintf(stderr, "grpc_echo: %s\n", what);
	exit(1);
}

/* --- transport --- */

static void input(struct link *l, const uint8_t *p, size_t n)
{
	uint8_t plain[16384];
	size_t k;

	if (!l->tls) {
		grpc_conn_input(l->conn, nb_bytes(p, n), os_now());
		return;
	}
	while (n) {
		size_t used = nbc_tls_feed(l->tls, nb_bytes(p, n));

		p += used;
		n -= used;
		for (;;) {
			k = nbc_tls_read(l->tls, plain, sizeof plain);
			if (!k)
				break;
			grpc_conn_input(l->conn, nb_bytes(plain, k), os_now());
			used += k;
		}
		if (!used)
			break;
	}
}

/* More ciphertext or plaintext for the socket; 0 when there is none. */
static size_t produce(struct link *l)
{
	size_t n, used;

	if (!l->tls)
		return grpc_conn_output(l->conn, l->out, sizeof l->out, os_now());
	n = nbc_tls_pull(l->tls, l->out, sizeof l->out);
	if (n || !nbc_tls_open(l->tls))
		return n;
	do {
		if (l->plain_at == l->plain_n) {
			l->plain_at = 0;
			l->plain_n = grpc_conn_output(l->conn, l->plain, sizeof l->plain, os_now());
		}
		used = nbc_tls_write(l->tls, nb_bytes(l->plain + l->plain_at, l->plain_n - l->plain_at));
		l->plain_at += used;
	} while (used);
	return nbc_tls_pull(l->tls, l->out, sizeof l->out);
}

static void flush(struct link *l)
{
	for (;;) {
		size_t n;
		int r;

		if (l->out_at == l->out_n) {
			l->out_at = 0;
			l->out_n = produce(l);
			if (!l->out_n)
				return;
		}
		r = os_write(l->fd, l->out + l->out_at, l->out_n - l->out_at, &n);
		if (r == NB_E_AGAIN)
			return;
		if (r) {
			l->closed = true;
			return;
		}
		l->out_at += n;
	}
}

static void receive(struct link *l)
{
	uint8_t buf[65536];
	size_t n;
	int r = os_read(l->fd, buf, sizeof buf, &n);

	if (!r)
		input(l, buf, n);
	else if (r != NB_E_AGAIN)
		l->closed = true;
}

static struct link *add_link(int fd, struct nbc_tls *tls)
{
	struct link *l = calloc(1, sizeof *l);

	if (!l || n_links == LINKS)
		die("too many connections");
	l->fd = fd;
	l->tls = tls;
	links[n_links++] = l;
	return l;
}

static void drop_links(void)
{
	for (size_t i = 0; i < n_links; i++) {
		struct link *l = links[i];

		if (l->tls && nbc_tls_error(l->tls)) {
			char why[NBC_TLS_WHY];

			nbc_tls_why(l->tls, why);
			fprintf(stderr, "grpc_echo: %s\n", why);
			l->closed = true;
		}
		if (!l->closed && !(grpc_conn_done(l->conn) && l->out_at == l->out_n))
			continue;
		grpc_conn_lost(l->conn, "the connection was closed", os_now());
		grpc_conn_free(l->conn);
		nbc_tls_free(l->tls);
		os_close(&l->fd);
		free(l);
		links[i--] = links[--n_links];
	}
}

/* Wait for something, at most until deadline; listener -1: none. Returns true when it has a connection. */
static bool turn(int listener, struct nb_time deadline)
{
	struct pollfd p[LINKS + 1];
	struct nb_time now = os_now();
	int64_t ms;

	for (size_t i = 0; i < n_links; i++) {
		deadline = nb_time_min(deadline, grpc_conn_deadline(links[i]->conn));
		p[i] = (struct pollfd){ .fd = links[i]->fd, .events = POLLIN };
		if (links[i]->out_at < links[i]->out_n)
			p[i].events |= POLLOUT;
	}
	p[n_links] = (struct pollfd){ .fd = listener, .events = POLLIN };
	ms = nb_time_is_never(deadline) ? -1 : nb_time_diff(deadline, now) / NB_MS + 1;
	poll(p, (nfds_t)n_links + 1, ms < -1 ? 0 : (int)(ms > 100000 ? 100000 : ms));
	for (size_t i = 0; i < n_links; i++) {
		if (p[i].revents & ~POLLOUT)
			receive(links[i]);
		now = os_now();
		if (nb_time_due(grpc_conn_deadline(links[i]->conn), now))
			grpc_conn_timer(links[i]->conn, now);
		flush(links[i]);
	}
	return p[n_links].revents != 0;
}

static struct nb_bytes read_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *p = malloc(100000);
	size_t n;

	if (!f || !p)
		die(path);
	n = fread(p, 1, 100000, f);
	fclose(f);
	return nb_bytes(p, n);
}

static const char *const alpn[NBC_TLS_ALPN_MAX] = { "h2" };

/* --- server --- */

static int serve(int port, const char *cert, const char *key)
{
	struct nb_endpoint at = { .addr = nb_addr4(0x7f000001), .port = (uint16_t)port }, peer;
	struct nbc_identity *id = NULL;
	struct echo_stats stats = { 0 };
	struct grpc_service svc = echo_service(&stats);
	struct grpc_config cfg;
	char why[NBC_TLS_WHY];
	int listener, fd;

	if (cert && nbc_identity_new(&id, read_file(cert), read_file(key), why))
		die(why);
	if (os_tcp_listen(&listener, &at))
		die(os_why());
	grpc_config_default(&cfg);
	cfg.services = &svc;
	cfg.n_services = 1;
	cfg.max_message = 20 << 20;
	cfg.max_buffered = 64 << 20;
	cfg.keepalive_ns = 30 * NB_SEC;
	os_local_endpoint(listener, &at);
	printf("ready %u\n", at.port);
	fflush(stdout);
	for (;;) {
		if (turn(listener, NB_TIME_NEVER) && !os_accept(&fd, &peer, listener)) {
			struct nbc_tls *tls = NULL;
			struct link *l;

			if (id && nbc_tls_server_new(&tls, id, alpn))
				die("no memory");
			l = add_link(fd, tls);
			cfg.peer = peer;
			if (grpc_server_new(&l->conn, &cfg, os_now()))
				die("no memory");
			flush(l);
		}
		drop_links();
	}
}

/* --- client --- */

struct call {
	unsigned messages, ends, order_broken;
	size_t bytes, left, size;
	uint32_t next;
	int status;
	char message[200], text[100], seen[100], trail[100];
	bool slow, upload, chat;
	struct nb_time resume_at;
	struct grpc_call *call;
};

static void on_headers(struct grpc_call *call, void *user)
{
	struct call *c = user;
	struct nb_bytes v;

	if (grpc_call_metadata(call, "x-seen", &v))
		snprintf(c->seen, sizeof c->seen, "%.*s", (int)v.n, (const char *)v.p);
}

static void on_message(struct grpc_call *call, void *user, struct nb_bytes m)
{
	struct call *c = user;

	c->messages++;
	c->bytes += m.n;
	snprintf(c->text, sizeof c->text, "%.*s", (int)(m.n < 60 ? m.n : 60), (const char *)m.p);
	if (c->chat || c->size)
		c->order_broken += m.n < 4 || nb_get_be32(m.p) != c->next;
	c->next++;
	if (c->slow && c->messages % 10 == 0) {
		grpc_call_pause(call);
		c->resume_at = nb_time_add(os_now(), 5 * NB_MS);
	}
}

static void on_writable(struct grpc_call *call, void *user)
{
	struct call *c = user;
	uint8_t *p;

	if (!c->left) {
		grpc_call_half_close(call);
		return;
	}
	p = calloc(1, c->size);
	if (!p)
		die("no memory");
	nb_put_be32(p, (uint32_t)(c->left--));
	grpc_call_send(call, nb_bytes(p, c->size));
	free(p);
	grpc_call_want_write(call);
}

static void on_end(struct grpc_call *call, void *user, const struct grpc_result *r)
{
	struct call *c = user;
	struct nb_bytes v;

	c->ends++;
	c->call = NULL;
	c->status = r->status;
	snprintf(c->message, sizeof c->message, "%s", r->message);
	if (grpc_call_trailer(call, "x-seen-bin", &v))
		nb_hex_encode(c->trail, nb_bytes(v.p, v.n < 40 ? v.n : 40));
}

static const struct grpc_call_ops ops = {
	.on_headers = on_headers, .on_message = on_message, .on_writable = on_writable, .on_end = on_end,
};

static struct grpc_request request(const char *path, enum grpc_kind kind, struct call *c)
{
	return (struct grpc_request){ .path = path, .kind = kind, .ops = &ops, .user = c,
		.deadline = nb_time_add(os_now(), 60 * NB_SEC) };
}

static void start(struct link *l, const struct grpc_request *req, struct call *c, const struct nb_bytes *m)
{
	int r = m ? grpc_call_unary(&c->call, l->conn, req, *m, os_now())
		  : grpc_call_start(&c->call, l->conn, req, os_now());

	if (r)
		die(nb_strerror(r));
	flush(l);
}

/* Turn until the calls have ended. */
static void finish(struct link *l, struct call *c, size_t n)
{
	for (;;) {
		struct nb_time until = NB_TIME_NEVER;
		size_t ends = 0;

		for (size_t i = 0; i < n; i++) {
			if (c[i].resume_at.ns && c[i].call) {
				if (nb_time_due(c[i].resume_at, os_now())) {
					c[i].resume_at.ns = 0;
					grpc_call_resume(c[i].call);
					flush(l);
				}
				/* The flush may have paused it again. */
				if (c[i].resume_at.ns)
					until = nb_time_min(until, c[i].resume_at);
			}
			ends += c[i].ends > 0;
		}
		if (ends == n)
			return;
		turn(-1, until);
		if (links[0]->closed)
			grpc_conn_lost(l->conn, "the connection was closed", os_now());
	}
}

static void report(const char *name, const struct call *c)
{
	printf("%s status=%d messages=%u bytes=%zu broken=%u seen=%s trail=%s text=%s | %s\n", name, c->status,
	       c->messages, c->bytes, c->order_broken, c->seen, c->trail, c->text, c->message);
	fflush(stdout);
}

static void simple(struct link *l, const char *name, const char *path, enum grpc_kind kind, struct nb_bytes m,
		   struct call *c)
{
	struct grpc_request req = request(path, kind, c);

	start(l, &req, c, &m);
	finish(l, c, 1);
	report(name, c);
}

static void with_meta(struct link *l, char *ask, struct call *c)
{
	char *bin = strchr(ask, ':');
	struct grpc_meta meta[2];
	struct grpc_request req = request("/test.Echo/Unary", GRPC_UNARY, c);
	struct nb_bytes m = nb_bytes_str("m");

	*bin++ = 0;
	meta[0] = GRPC_META("x-ask", ask);
	meta[1] = GRPC_META("x-ask-bin", bin);
	req.meta = meta;
	req.n_meta = 2;
	start(l, &req, c, &m);
	finish(l, c, 1);
	report("meta", c);
}

static void big(struct link *l, size_t n, struct call *c)
{
	uint8_t *p = calloc(1, n);

	if (!p)
		die("no memory");
	simple(l, "big", "/test.Echo/Unary", GRPC_UNARY, nb_bytes(p, n), c);
	free(p);
}

static void produce_calls(struct link *l, const char *name, const char *path, enum grpc_kind kind, struct call *c)
{
	struct grpc_request req = request(path, kind, c);

	start(l, &req, c, NULL);
	grpc_call_want_write(c->call);
	flush(l);
	finish(l, c, 1);
	report(name, c);
}

static void chat(struct link *l, unsigned n, struct call *c)
{
	struct grpc_request req = request("/test.Echo/Chat", GRPC_BIDI, c);
	uint8_t m[4];

	c->chat = true;
	start(l, &req, c, NULL);
	for (unsigned i = 0; i < n; i++) {
		nb_put_be32(m, i);
		if (grpc_call_send(c->call, nb_bytes(m, 4)))
			die("chat: cannot send");
		flush(l);
		while (c->messages <= i && !c->ends)	/* ping-pong */
			turn(-1, NB_TIME_NEVER);
	}
	grpc_call_half_close(c->call);
	flush(l);
	finish(l, c, 1);
	report("chat", c);
}

static void hang(struct link *l, int64_t ms, struct call *c)
{
	struct grpc_request req = request("/test.Echo/Hang", GRPC_BIDI, c);

	req.deadline = nb_time_add(os_now(), ms * NB_MS);
	start(l, &req, c, NULL);
	finish(l, c, 1);
	report("hang", c);
}

static void cancel(struct link *l, struct call *c)
{
	struct grpc_request req = request("/test.Echo/Hang", GRPC_BIDI, c);
	struct nb_time until = nb_time_add(os_now(), 300 * NB_MS);

	start(l, &req, c, NULL);
	while (!nb_time_due(until, os_now()))
		turn(-1, until);
	grpc_call_cancel(c->call);
	flush(l);
	printf("cancel ends=%u\n", c->ends);
}

static void many(struct link *l, size_t n)
{
	struct call *c = calloc(n, sizeof *c), sum = { 0 };
	struct nb_bytes m = nb_bytes_str("many");

	if (!c)
		die("no memory");
	for (size_t i = 0; i < n; i++) {
		struct grpc_request req = request("/test.Echo/Unary", GRPC_UNARY, &c[i]);

		start(l, &req, &c[i], &m);
	}
	finish(l, c, n);
	for (size_t i = 0; i < n; i++) {
		sum.messages += c[i].messages;
		sum.status += c[i].status;
		sum.bytes += c[i].bytes;
	}
	report("many", &sum);
	free(c);
}

static void idle(int64_t ms)
{
	struct nb_time until = nb_time_add(os_now(), ms * NB_MS);

	while (!nb_time_due(until, os_now()) && !links[0]->closed)
		turn(-1, until);
	printf("idle closed=%d\n", links[0]->closed);
}

static void one(struct link *l, char *what)
{
	char *arg = strchr(what, ':'), *arg2;
	struct call c = { 0 };

	if (arg)
		*arg++ = 0;
	else
		arg = what + strlen(what);
	arg2 = strchr(arg, ':');
	if (!strcmp(what, "unary")) {
		simple(l, what, "/test.Echo/Unary", GRPC_UNARY, nb_bytes_str(arg), &c);
	} else if (!strcmp(what, "path")) {
		simple(l, what, arg, GRPC_UNARY, nb_bytes_str("x"), &c);
	} else if (!strcmp(what, "meta") && arg2) {
		with_meta(l, arg, &c);
	} else if (!strcmp(what, "big")) {
		big(l, strtoul(arg, NULL, 10), &c);
	} else if (!strcmp(what, "download") && arg2) {
		c.slow = strstr(arg, ":slow") != NULL;
		c.size = 1;
		*arg2 = ' ';
		simple(l, what, "/test.Echo/Download", GRPC_SERVER_STREAM, nb_bytes(arg, strcspn(arg, ":")), &c);
	} else if (!strcmp(what, "upload") && arg2) {
		c.left = strtoul(arg, NULL, 10);
		c.size = strtoul(arg2 + 1, NULL, 10);
		produce_calls(l, what, "/test.Echo/Upload", GRPC_CLIENT_STREAM, &c);
	} else if (!strcmp(what, "chat")) {
		chat(l, (unsigned)strtoul(arg, NULL, 10), &c);
	} else if (!strcmp(what, "hang")) {
		hang(l, strtol(arg, NULL, 10), &c);
	} else if (!strcmp(what, "cancel")) {
		cancel(l, &c);
	} else if (!strcmp(what, "many")) {
		many(l, strtoul(arg, NULL, 10));
	} else if (!strcmp(what, "idle")) {
		idle(strtol(arg, NULL, 10));
	} else {
		die(what);
	}
}

static int call_all(int port, const char *ca, char **what)
{
	struct nb_endpoint to = { .addr = nb_addr4(0x7f000001), .port = (uint16_t)port };
	struct grpc_config cfg;
	struct nbc_tls *tls = NULL;
	struct link *l;
	char authority[32];
	int fd, r;

	if (ca) {
		struct nbc_tls_client tc = { .host = "localhost", .alpn = { "h2" }, .now = os_wall() };

		struct nb_bytes pem = read_file(ca);

		if (nbc_trust_new(&tc.trust, pem, ca) || nbc_tls_client_new(&tls, &tc))
			die("bad CA file");
		nbc_trust_unref(tc.trust);
		free((void *)(uintptr_t)pem.p);
	}
	r = os_tcp_connect(&fd, &to, NULL);
	if (r && r != NB_E_AGAIN)
		die("cannot connect");
	snprintf(authority, sizeof authority, "localhost:%d", port);
	grpc_config_default(&cfg);
	cfg.authority = authority;
	cfg.tls = ca != NULL;
	cfg.max_message = 20 << 20;
	cfg.max_buffered = 64 << 20;
	cfg.keepalive_ns = 10 * NB_SEC;
	l = add_link(fd, tls);
	if (grpc_client_new(&l->conn, &cfg, os_now()))
		die("no memory");
	for (; *what; what++)
		one(l, *what);
	if (tls)
		printf("alpn=%s\n", nbc_tls_alpn(tls));
	l->closed = true;
	drop_links();
	return 0;
}

int main(int argc, char **argv)
{
	if (nbc_init())
		die("no random numbers");
	if (argc >= 3 && !strcmp(argv[1], "serve"))
		return serve(atoi(argv[2]), argc > 4 ? argv[3] : NULL, argc > 4 ? argv[4] : NULL);
	if (argc >= 6 && !strcmp(argv[1], "call") && !strcmp(argv[3], "--ca"))
		return call_all(atoi(argv[2]), argv[4], argv + 5);
	if (argc >= 4 && !strcmp(argv[1], "call"))
		return call_all(atoi(argv[2]), NULL, argv + 3);
	die("usage: grpc_echo serve PORT [CERT KEY] | call PORT [--ca FILE] CALL...");
}
