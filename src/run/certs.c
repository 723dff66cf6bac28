/* certs.c - see certs.h. Files are looked at every ten seconds instead of through inotify: that also works on
 * network filesystems and through the symbolic links of secret mounts, for two stat calls.
 * Tests: tests/net/test_listener.py */
#include "run/certs.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"

#include "os/clock.h"
#include "os/file.h"
#include "os/opener.h"
#include "os/socket.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOK_EVERY_NS (10 * NB_SEC)
#define PEM_MAX (1u << 20)
#define WARN_BEFORE_NS (7 * 86400 * NB_SEC)

enum { CERT, KEY, FILES };

struct run_certs {
	struct run_timer timer;
	char *path[FILES];
	struct os_stamp stamp[FILES];
	pthread_mutex_t lock;
	struct nbc_identity *identity;	/* replaced under lock */
	struct os_opener *opener;	/* NULL: we are who we were at the start */
};

static struct os_stamp stamp_of(const struct run_certs *c, int i)
{
	struct os_stamp s = os_file_stamp(c->path[i]);
	int fd = !s.ino && c->opener ? os_opener_open(c->opener, (size_t)i) : -1;

	if (fd >= 0) {
		s = os_fd_stamp(fd);
		close(fd);
	}
	return s;
}

static int read_file(const struct run_certs *c, int i, struct nb_buf *b)
{
	int r = os_read_file(b, c->path[i]), fd;

	if (r != NB_E_PERM || !c->opener)
		return r;
	fd = os_opener_open(c->opener, (size_t)i);
	if (fd < 0)
		return fd == NB_E_CLOSED ? r : fd;
	r = os_read_fd(b, fd);
	close(fd);
	return r;
}

static int read_pem(const struct run_certs *c, int i, struct nb_buf *b, char *why)
{
	const char *path = c->path[i];
	int r;

	nb_buf_init(b, PEM_MAX);
	r = read_file(c, i, b);
	if (r)
		snprintf(why, NBC_TLS_WHY, "cannot read %s: %s", path, r == NB_E_FULL ? "too large" : os_why());
	return r;
}

static int read_identity(const struct run_certs *c, struct nbc_identity **out, char why[NBC_TLS_WHY])
{
	char problem[NBC_TLS_WHY];
	struct nb_buf cert, key;
	int r;

	r = read_pem(c, CERT, &cert, why);
	if (r)
		goto out_cert;
	r = read_pem(c, KEY, &key, why);
	if (r)
		goto out_key;
	r = nbc_identity_new(out, nb_buf_view(&cert), nb_buf_view(&key), problem);
	if (r)
		snprintf(why, NBC_TLS_WHY, "%.100s, %.100s: %.200s", c->path[CERT], c->path[KEY], problem);
out_key:
	nb_buf_fini(&key);
out_cert:
	nb_buf_fini(&cert);
	return r && r != NB_E_NOMEM ? NB_E_CONFIG : r;
}

static void warn_of_dates(const struct run_certs *c)
{
	struct nb_wall from, until, now = os_wall();
	char text[NB_RFC3339_CAP];

	nbc_identity_validity(c->identity, &from, &until);
	nb_wall_format(text, until);
	if (now.ns > until.ns)
		nb_warn("the certificate %s expired on %s: clients will refuse it; renew it", c->path[CERT], text);
	else if (until.ns - now.ns < WARN_BEFORE_NS)
		nb_warn("the certificate %s expires on %s: renew it", c->path[CERT], text);
	nb_wall_format(text, from);
	if (now.ns < from.ns)
		nb_warn("the certificate %s is not valid before %s: is the clock right?", c->path[CERT], text);
}

static int load(struct run_certs *c, char why[NBC_TLS_WHY])
{
	struct nbc_identity *fresh = NULL, *old;
	int r;

	/* Stamps first: a change during the reading is then seen as another one. */
	for (int i = 0; i < FILES; i++)
		c->stamp[i] = stamp_of(c, i);
	r = read_identity(c, &fresh, why);
	if (r)
		return r;
	pthread_mutex_lock(&c->lock);
	old = c->identity;
	c->identity = fresh;
	pthread_mutex_unlock(&c->lock);
	nbc_identity_unref(old);
	warn_of_dates(c);
	return 0;
}

int run_certs_reload(struct run_certs *c)
{
	char why[NBC_TLS_WHY];
	int r = load(c, why);

	if (r)
		nb_warn("the new certificate is not used, the old one stays: %s", why);
	else
		nb_info("certificate %s read again", c->path[CERT]);
	return r;
}

static void on_timer(void *ctx, struct nb_time now)
{
	struct run_certs *c = ctx;

	if (!os_stamp_eq(c->stamp[CERT], stamp_of(c, CERT)) || !os_stamp_eq(c->stamp[KEY], stamp_of(c, KEY)))
		(void)run_certs_reload(c);
	run_timer_set(&c->timer, nb_time_add(now, LOOK_EVERY_NS));
}

int run_certs_new(struct run_certs **out, struct run_loop *l, const char *cert_file, const char *key_file,
		  char why[NBC_TLS_WHY])
{
	struct run_certs *c = calloc(1, sizeof *c);
	int r = NB_E_NOMEM;

	snprintf(why, NBC_TLS_WHY, "%s", nb_strerror(r));
	if (!c)
		return r;
	pthread_mutex_init(&c->lock, NULL);
	run_timer_init(&c->timer, l, on_timer, c);
	c->path[CERT] = strdup(cert_file);
	c->path[KEY] = strdup(key_file);
	if (c->path[CERT] && c->path[KEY])
		r = load(c, why);
	if (r) {
		run_certs_free(c);
		return r;
	}
	run_timer_set(&c->timer, nb_time_add(os_now(), LOOK_EVERY_NS));
	*out = c;
	return 0;
}

int run_certs_keep_access(struct run_certs *c)
{
	return c->opener ? 0 : os_opener_start(&c->opener, (const char *const *)c->path, FILES);
}

void run_certs_free(struct run_certs *c)
{
	if (!c)
		return;
	run_timer_stop(&c->timer);
	os_opener_free(c->opener);
	nbc_identity_unref(c->identity);
	free(c->path[CERT]);
	free(c->path[KEY]);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

int run_certs_server_tls(struct run_certs *c, struct nbc_tls **out, const char *const alpn[NBC_TLS_ALPN_MAX])
{
	int r;

	pthread_mutex_lock(&c->lock);
	r = nbc_tls_server_new(out, c->identity, alpn);
	pthread_mutex_unlock(&c->lock);
	return r;
}
