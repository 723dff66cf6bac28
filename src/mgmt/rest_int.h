/* rest_int.h - what the files of the REST API share: one request on its way, and JSON in stock's shapes.
 * Members of objects are written in stock's order, which is alphabetical. See rest.h. */
#ifndef NB_MGMT_REST_INT_H
#define NB_MGMT_REST_INT_H

#include "mgmt/mgmt_int.h"
#include "mgmt/rest.h"
#include "web/json.h"

#define MGMT_REST_NAME_MAX 256		/* characters of a name; beyond: 422 */
#define MGMT_REST_TEXT_MAX 4096		/* of a description */

/* Rate limiting of many keys: when each would have spent what it took so far. */
#define MGMT_REST_SLOTS 256
struct mgmt_rest_limit {
	int64_t every_ns;	/* one token each */
	int burst;
	struct {
		uint8_t key[16];
		int64_t until;	/* nb_time ns; 0: free */
	} slot[MGMT_REST_SLOTS];
};

struct mgmt_rest {
	struct mgmt_rest_config cfg;
	struct mgmt *m;
	struct web_router router;
	struct nb_list hashes;		/* struct setup_job being hashed */
	size_t n_hashes;
	struct mgmt_rest_limit setup, failures, tokens;
};

/* One request; in the call's memory. */
struct mgmt_rest_req {
	struct mgmt_rest *rest;
	struct mgmt *m;
	struct web_call *call;
	struct mgmt_actor who;
	struct mgmt_error e;
	json_t *body;			/* object; NULL until mgmt_rest_body */
	struct web_fields f;
	json_t *answer;
	int status;
	bool short_of_memory;		/* a part of the answer is missing: send 500 instead */
	void (*gone)(struct mgmt_rest_req *q);	/* an asynchronous part's own end; NULL: none */
	void *job;
};

static inline struct mgmt_rest_req *mgmt_rest_of(struct web_call *call)
{
	return call->user;
}

/* ---- ending a request: each answers once everything changed so far is durable */

/* 200 with a JSON value, whose reference is taken (NULL: 500). */
void mgmt_rest_ok(struct mgmt_rest_req *q, json_t *value);
void mgmt_rest_empty(struct mgmt_rest_req *q);
/* The error in q->e, in stock's words. */
void mgmt_rest_fail(struct mgmt_rest_req *q);
/* Fill in q->e and fail. */
void mgmt_rest_refuse(struct mgmt_rest_req *q, enum mgmt_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Exactly this text. */
void mgmt_rest_error(struct mgmt_rest_req *q, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* False and answered when the role does not grant it. */
bool mgmt_rest_permit(struct mgmt_rest_req *q, enum mgmt_module mod, enum mgmt_op op);

/* ---- reading bodies */

/* Parse the body into q->body and q->f; false: answered. */
bool mgmt_rest_body(struct mgmt_rest_req *q);
/* Some member had the wrong type or size: true and answered with 400. Ask once, after reading everything. */
bool mgmt_rest_bad(struct mgmt_rest_req *q);
/* A text of at most max characters; longer is a problem. */
const char *mgmt_rest_string(struct web_fields *f, const char *name, const char *dflt, size_t max);
/* A list of strings in the call's memory; *given: present and not null. */
char **mgmt_rest_strings(struct mgmt_rest_req *q, struct web_fields *f, const char *name, size_t *n, bool *given);
/* {id, type}; NULL when absent, null or a problem. */
Nestbox__ResourceRef *mgmt_rest_resource(struct mgmt_rest_req *q, struct web_fields *f, const char *name,
					 const json_t *v);
/* Zeroed memory of the request; a problem and NULL when there is none. */
void *mgmt_rest_alloc(struct mgmt_rest_req *q, struct web_fields *f, size_t n);

/* ---- writing */

/* "" for NULL; bytes that are no UTF-8 become "?". */
json_t *mgmt_rest_text(const char *s);
/* RFC 3339; 0 is stock's year 1. */
json_t *mgmt_rest_time(int64_t wall_ns);
/* Append to a list, or note that memory ran out. */
void mgmt_rest_add(struct mgmt_rest_req *q, json_t *list, json_t *item);
/* An optional member: v, but NULL when absent; a failed v is noted. */
json_t *mgmt_rest_optional(struct mgmt_rest_req *q, bool present, json_t *v);
/* [] when empty. */
json_t *mgmt_rest_ids(struct mgmt_rest_req *q, char *const *list, size_t n);
/* null when empty. */
json_t *mgmt_rest_ids_or_null(struct mgmt_rest_req *q, char *const *list, size_t n);
json_t *mgmt_rest_group_minimum(const struct mgmt_group *g);
json_t *mgmt_rest_resource_json(const Nestbox__ResourceRef *r);

/* After mgmt_permit refused: for want of a right only (what is one's own may still be seen), not because the user is
 * blocked, pending or of no role. */
bool mgmt_rest_only_role(const struct mgmt_rest_req *q);
/* Which peers may the caller see? */
enum mgmt_rest_view { MGMT_VIEW_NONE, MGMT_VIEW_OWN, MGMT_VIEW_ALL, MGMT_VIEW_FAILED };
/* MGMT_VIEW_FAILED: not allowed at all, answered. */
enum mgmt_rest_view mgmt_rest_view(struct mgmt_rest_req *q);
bool mgmt_rest_sees(const struct mgmt_rest_req *q, enum mgmt_rest_view view, const struct mgmt_peer *p);

/* True when key may go on; takes one token. */
bool mgmt_rest_allow(struct mgmt_rest_limit *l, const uint8_t key[16], struct nb_time now);
void mgmt_rest_source(uint8_t key[16], const struct nb_endpoint *peer);

/* ---- handlers (rest_*.c), named by what they answer */

#define MGMT_REST_HANDLER(name) void mgmt_rest_##name(struct web_call *call, void *arg)
MGMT_REST_HANDLER(instance);
MGMT_REST_HANDLER(setup);
MGMT_REST_HANDLER(version);
MGMT_REST_HANDLER(accounts);
MGMT_REST_HANDLER(account_put);
MGMT_REST_HANDLER(users);
MGMT_REST_HANDLER(user_current);
MGMT_REST_HANDLER(tokens);
MGMT_REST_HANDLER(token);
MGMT_REST_HANDLER(token_post);
MGMT_REST_HANDLER(token_delete);
MGMT_REST_HANDLER(peers);
MGMT_REST_HANDLER(peer);
MGMT_REST_HANDLER(peer_put);
MGMT_REST_HANDLER(peer_delete);
MGMT_REST_HANDLER(peer_accessible);
MGMT_REST_HANDLER(keys);
MGMT_REST_HANDLER(key);
MGMT_REST_HANDLER(key_post);
MGMT_REST_HANDLER(key_put);
MGMT_REST_HANDLER(key_delete);
MGMT_REST_HANDLER(groups);
MGMT_REST_HANDLER(group);
MGMT_REST_HANDLER(group_post);
MGMT_REST_HANDLER(group_put);
MGMT_REST_HANDLER(group_delete);
MGMT_REST_HANDLER(policies);
MGMT_REST_HANDLER(policy);
MGMT_REST_HANDLER(policy_post);
MGMT_REST_HANDLER(policy_put);
MGMT_REST_HANDLER(policy_delete);
MGMT_REST_HANDLER(dns_settings);
MGMT_REST_HANDLER(events);

#endif
