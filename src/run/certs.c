/* certs.c - see certs.h. Files are looked at every ten seconds instead of through inotify: that also works on
 * network filesystems and through the symbolic links of secret mounts, for two stat calls.
 * Tests: tests/net/test_listener.py */
#include "run/certs.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"

#include "os/clock.h"
#include "os/file.h"
#include "os/socket.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_EVERY_NS (10 * NB_SEC)
#define PEM_MAX (1u << 20)
#define WARN_BEFORE_NS (7 * 86400 * NB_SEC)

struct run_certs {
	struct run_timer timer;
	char *cert_file, *key_file;
	struct os_stamp cert_stamp, key_stamp;
	struct nbc_identity *identity;
};

static int read_pem(struct nb_buf *b, const char *path, char *why)
{
	int r;

	nb_buf_init(b, PEM_MAX);
	r = os_read_file(b, path);
	if (r)
		snprintf(why, NBC_TLS_WHY, "cannot read %s: %s", path, r == NB_E_FULL ? "too large" : os_why());
	return r;
}

static int read_identity(const struct run_certs *c, struct nbc_identity **out, char why[NBC_TLS_WHY])
{
	char problem[NBC_TLS_WHY];
	struct nb_buf cert, key;
	int r;

	r = read_pem(&cert, c->cert_file, why);
	if (r)
		goto out_cert;
	r = read_pem(&key, c->key_file, why);
	if (r)
		goto out_key;
	r = nbc_identity_new(out, nb_buf_view(&cert), nb_buf_view(&key), problem);
	if (r)
		snprintf(why, NBC_TLS_WHY, "%.100s, %.100s: %.200s", c->cert_file, c->key_file, problem);
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
		nb_warn("the certificate %s expired on %s: clients will refuse it; renew it", c->cert_file, text);
	else if (until.ns - now.ns < WARN_BEFORE_NS)
		nb_warn("the certificate %s expires on %s: renew it", c->cert_file, text);
	nb_wall_format(text, from);
	if (now.ns < from.ns)
		nb_warn("the certificate %s is not valid before %s: is the clock right?", c->cert_file, text);
}

static int load(struct run_certs *c, char why[NBC_TLS_WHY])
{
	struct nbc_identity *fresh = NULL;
	int r;

	/* Stamps first: a change during the reading is then seen as another one. */
	c->cert_stamp = os_file_stamp(c->cert_file);
	c->key_stamp = os_file_stamp(c->key_file);
	r = read_identity(c, &fresh, why);
	if (r)
		return r;
	nbc_identity_unref(c->identity);
	c->identity = fresh;
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
		nb_info("certificate %s read again", c->cert_file);
	return r;
}

static void on_timer(void *ctx, struct nb_time now)
{
	struct run_certs *c = ctx;

	if (!os_stamp_eq(c->cert_stamp, os_file_stamp(c->cert_file)) ||
	    !os_stamp_eq(c->key_stamp, os_file_stamp(c->key_file)))
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
	run_timer_init(&c->timer, l, on_timer, c);
	c->cert_file = strdup(cert_file);
	c->key_file = strdup(key_file);
	if (c->cert_file && c->key_file)
		r = load(c, why);
	if (r) {
		run_certs_free(c);
		return r;
	}
	run_timer_set(&c->timer, nb_time_add(os_now(), LOOK_EVERY_NS));
	*out = c;
	return 0;
}

void run_certs_free(struct run_certs *c)
{
	if (!c)
		return;
	run_timer_stop(&c->timer);
	nbc_identity_unref(c->identity);
	free(c->cert_file);
	free(c->key_file);
	free(c);
}

struct nbc_identity *run_certs_identity(const struct run_certs *c)
{
	return c->identity;
}
