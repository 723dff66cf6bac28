/* json.h - JSON bodies of requests and answers over jansson: strict types with errors that name the
 * field, stock's error body. rest-api.md, 1 and 3. Tests: tests/unit/web_json_test.c */
#ifndef NB_WEB_JSON_H
#define NB_WEB_JSON_H

#include <jansson.h>

#include "web/web.h"

/* Answer with stock's error body {"message": ..., "code": status}. The call is gone afterwards. */
void web_error(struct web_call *call, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Answer with a JSON value, whose reference is taken, and a newline. NULL (an allocation failed while
 * building it) becomes a 500. */
void web_json(struct web_call *call, int status, json_t *value);

/* The request's body as a JSON object; members unknown to us are the caller's to ignore. On failure the
 * call is answered (400) and NULL returned. The caller gives the reference back. */
json_t *web_json_body(struct web_call *call);

/* Reading members of an object. The first problem is kept and later reads give defaults, so a handler
 * reads everything and asks once. A missing member or null gives the default. */
struct web_fields {
	const json_t *obj;
	char problem[160];	/* "" while there is none */
};
void web_fields_init(struct web_fields *f, const json_t *obj);
/* The member is there and not null. */
bool web_has(const struct web_fields *f, const char *name);
/* Valid as long as the object. dflt may be NULL. */
const char *web_string(struct web_fields *f, const char *name, const char *dflt);
/* The same, but missing, null and "" are problems. */
const char *web_string_required(struct web_fields *f, const char *name);
bool web_bool(struct web_fields *f, const char *name, bool dflt);
/* Numbers with a fraction and values outside min..max are problems. */
int64_t web_int(struct web_fields *f, const char *name, int64_t dflt, int64_t min, int64_t max);
/* NULL when missing or null, or on a problem. Borrowed. */
const json_t *web_array(struct web_fields *f, const char *name);
const json_t *web_object(struct web_fields *f, const char *name);
/* Item i of an array as a string; a problem (naming the array) and "" when it is none. */
const char *web_array_string(struct web_fields *f, const char *name, const json_t *array, size_t i);
/* Note a problem of the caller's own, if it is the first. */
void web_problem(struct web_fields *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* True when there was a problem; the call is then answered with this status. */
bool web_fields_refuse(struct web_fields *f, struct web_call *call, int status);

#endif
