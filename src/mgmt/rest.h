/* rest.h - the REST API of the management server (/api): requests in as struct web_call, answers out the same
 * way, later where the disk or a password hash must be waited for. Authentication, permissions and NetBird's JSON are
 * here; what a change means is mgmt.h's. No sockets, no clock (mgmt_tick), no threads: the driver
 * gives a worker for password hashes.
 * rest-api.md. Tests: tests/unit/mgmt_rest_test.c, tests/fuzz/rest_fuzz.c, tests/net/test_rest.py */
#ifndef NB_MGMT_REST_H
#define NB_MGMT_REST_H

#include "crypto/crypto.h"
#include "mgmt/mgmt.h"
#include "web/web.h"

struct mgmt_rest;

/* A password waiting to be hashed. The program's, until mgmt_rest_hashed. */
struct mgmt_rest_hash {
	char password[80];
	size_t n;
	uint32_t kib, passes;		/* cost */
	char hash[NBC_PASSWORD_TEXT];
	int err;
	void *user;			/* the driver's */
};

struct mgmt_rest_config {
	struct mgmt *m;			/* borrowed; outlives the mgmt_rest */
	uint32_t hash_kib, hash_passes;	/* cost of passwords; 0: NBC_PASSWORD_KIB, NBC_PASSWORD_PASSES */
	/* Run mgmt_rest_hash_run(job) on another thread, then mgmt_rest_hashed(job) on this one. NULL: both are done at
	 * once, here. A job that cannot be run comes back with err set, at once if need be. */
	void (*hash)(void *ctx, struct mgmt_rest_hash *job);
	void *ctx;
	/* Requests per minute and burst of one personal access token; rpm 0: no limit (stock's default). */
	unsigned token_rpm, token_burst;
};

/* Returns 0 or NB_E_NOMEM. */
int mgmt_rest_new(struct mgmt_rest **out, const struct mgmt_rest_config *cfg);
/* No call may be waiting any more (their connections are gone); hash jobs may: give them back as usual. NULL is
 * allowed. */
void mgmt_rest_free(struct mgmt_rest *r);

/* Bodies up to this many bytes; a transport may answer 413 by itself. */
#define MGMT_REST_BODY_MAX ((size_t)1 << 20)
/* Answer one request; a web_handler.request whose arg is the mgmt_rest. */
void mgmt_rest_request(void *rest, struct web_call *call);
/* Is the path of the call ours ("/api", "/api/...")? */
bool mgmt_rest_owns(const struct web_call *call);

/* The slow part: touches nothing but job. */
void mgmt_rest_hash_run(struct mgmt_rest_hash *job);
/* The hash is there (or job->err is set); job is gone afterwards. */
void mgmt_rest_hashed(struct mgmt_rest_hash *job);

/* The operations of the API in the order of the table: method and path, and whether this build serves it.
 * False past the end. For tests and documentation. */
bool mgmt_rest_operation(size_t i, const char **pattern, bool *served);

#endif
