/* rest_help.h - the REST API in memory for tests: a request in, its answer out, masked for comparing with
 * recorded answers. */
#ifndef NB_TESTS_UNIT_REST_HELP_H
#define NB_TESTS_UNIT_REST_HELP_H

#include "mgmt/rest.h"
#include "mgmt_help.h"

#include <jansson.h>

struct rest_world {
	struct world w;
	struct mgmt_rest *rest;
	const char *token;	/* sent with each request; NULL: none */
	const char *from;	/* the client's address */
	int status;		/* of the last answer; 0: none yet */
	char headers[4096];	/* "name: value\n" of each */
	char *body;
	json_t *json;		/* the body, when it is JSON and not to be left */
	bool unparsed;
};

/* test_world with the API before it. */
void rest_world(struct rest_world *r, bool durable);
void rest_world_end(struct rest_world *r);
/* Send a request (body may be NULL) with extra headers "name: value\n"... and wait for its answer, at most until the
 * store has nothing left to do. Returns the status. */
int rest_go(struct rest_world *r, const char *method, const char *target, const char *body);
int rest_go_with(struct rest_world *r, const char *method, const char *target, const char *body,
		 const struct web_header *headers, size_t n);
/* Start a request and give its call. */
struct web_call *rest_start(struct rest_world *r, const char *method, const char *target, const char *body);
/* A string member of the last answer; "" when there is none. */
const char *rest_str(const struct rest_world *r, const char *name);
/* Compare the last answer's status and body with tests/vectors/rest/NAME.http, ids, times, addresses and keys
 * masked on both sides. */
void rest_like(struct rest_world *r, const char *name);
/* Body of a recorded answer, heap; *status its status line's. */
char *rest_recorded(const char *name, int *status);
/* Mask in place. */
void rest_mask(char *json);

#endif
