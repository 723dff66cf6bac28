/* trust.c - see trust.h. Tests: tests/unit/run_trust_test.c */
#include "run/trust.h"

#include "base/buf.h"
#include "base/err.h"

#include "os/file.h"
#include "os/socket.h"

#include <stdio.h>
#include <stdlib.h>

#define BUNDLE_MAX (4u << 20)

static const char *const places[] = {
	"/etc/ssl/certs/ca-certificates.crt",	/* Debian, Alpine, OpenWrt, Arch */
	"/etc/pki/tls/certs/ca-bundle.crt",	/* Fedora, RHEL */
	"/etc/ssl/ca-bundle.pem",		/* openSUSE */
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/cert.pem",			/* Alpine, OpenWrt with libustream, BSD */
	"/etc/ssl/certs/ca-bundle.crt",
	"/opt/etc/ssl/certs/ca-certificates.crt", /* Entware */
	"/usr/share/ca-certs.pem",
	"/data/etc/ssl/certs/ca-certificates.crt",
};

static int load(struct nbc_trust **out, const char *path, char why[NBC_TLS_WHY])
{
	struct nb_buf b;
	int r;

	nb_buf_init(&b, BUNDLE_MAX);
	r = os_read_file(&b, path);
	if (r)
		snprintf(why, NBC_TLS_WHY, "cannot read the CA file %s: %s", path,
			 r == NB_E_FULL ? "larger than 4 MB" : os_why());
	else if ((r = nbc_trust_new(out, nb_buf_view(&b), path)))
		snprintf(why, NBC_TLS_WHY, "no usable certificate in the CA file %s (PEM expected)", path);
	nb_buf_fini(&b);
	return r;
}

/* Every certificate file of a directory. */
static int load_dir(struct nbc_trust **out, const char *dir)
{
	struct nb_buf b;
	int r = NB_E_NOTFOUND;

	nb_buf_init(&b, BUNDLE_MAX);
	(void)os_read_dir(&b, dir, ".crt");
	(void)os_read_dir(&b, dir, ".pem");
	if (b.n)
		r = nbc_trust_new(out, nb_buf_view(&b), dir);
	nb_buf_fini(&b);
	return r;
}

static int load_usual(struct nbc_trust **out, char why[NBC_TLS_WHY])
{
	int r;

	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		r = load(out, places[i], why);
		if (r == 0 || r == NB_E_NOMEM)
			return r;
	}
	return load_dir(out, "/etc/ssl/certs");
}

int run_trust_load(struct nbc_trust **out, const char *ca_file, char why[NBC_TLS_WHY])
{
	const char *named = ca_file && *ca_file ? ca_file : getenv("SSL_CERT_FILE");
	const char *dir = getenv("SSL_CERT_DIR");
	int r;

	why[0] = 0;
	if (named && *named) {
		r = load(out, named, why);
		return r && r != NB_E_NOMEM ? NB_E_CONFIG : r;
	}
	if (dir && *dir) {
		r = load_dir(out, dir);
		if (r && r != NB_E_NOMEM) {
			snprintf(why, NBC_TLS_WHY, "no usable certificate (.crt, .pem) in SSL_CERT_DIR %s", dir);
			return NB_E_CONFIG;
		}
		return r;
	}
	r = load_usual(out, why);
	why[0] = 0;
	return r && r != NB_E_NOMEM ? nbc_trust_none(out) : r;
}
