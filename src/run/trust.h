/* trust.h - the machine's CA bundle, found where other programs find it. Tests: tests/unit/run_trust_test.c */
#ifndef NB_RUN_TRUST_H
#define NB_RUN_TRUST_H

#include "crypto/tls.h"

/* The authorities to trust: ca_file when given (and then nothing else), else the file SSL_CERT_FILE
 * names, else the directory SSL_CERT_DIR names, else the first of the usual files (Debian, Fedora, Alpine,
 * OpenWrt, BSD), else the single files of /etc/ssl/certs (OpenWrt's ca-certificates). A machine without any
 * gives an empty bundle, 0, and the error comes with the first connection. why gets a line when a file that was named
 * cannot be used. Returns 0, NB_E_CONFIG or NB_E_NOMEM. Parsing takes some milliseconds: keep the result. */
int run_trust_load(struct nbc_trust **out, const char *ca_file, char why[NBC_TLS_WHY]);

#endif
