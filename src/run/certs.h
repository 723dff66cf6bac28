/* certs.h - a server's certificate and key files: read at start, read again when they change on disk and
 * when asked (SIGHUP). A bad new file keeps the old certificate in use and is told in the log.
 * Tests: tests/net/test_listener.py, tests/net/test_management.py */
#ifndef NB_RUN_CERTS_H
#define NB_RUN_CERTS_H

#include "crypto/tls.h"
#include "run/loop.h"

struct run_certs;

/* Read both files (the same path twice is fine) and watch them. why gets a line on failure.
 * Returns 0, NB_E_CONFIG or NB_E_NOMEM. */
int run_certs_new(struct run_certs **out, struct run_loop *l, const char *cert_file, const char *key_file,
		  char why[NBC_TLS_WHY]);
/* Root is about to be given up: files that only root can read stay readable, through a helper process (os/opener.h).
 * Call it before there are threads. Returns 0, NB_E_NOMEM or NB_E_SYS. */
int run_certs_keep_access(struct run_certs *c);
/* NULL is allowed. */
void run_certs_free(struct run_certs *c);
/* Read the files now. Call it on SIGHUP. Returns 0 or NB_E_CONFIG (logged; the old ones stay). */
int run_certs_reload(struct run_certs *c);
/* nbc_tls_server_new() with the certificate of now. From any thread. */
int run_certs_server_tls(struct run_certs *c, struct nbc_tls **out, const char *const alpn[NBC_TLS_ALPN_MAX]);

#endif
