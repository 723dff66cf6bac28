/* json.c - see json.h. Tests: tests/unit/web_json_test.c */
#include "web/json.h"

#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#define ANSWER_MAX ((size_t)256 << 20)
#define JSON_TYPE "application/json; charset=UTF-8"

/* jansson overlooks some failures of its output: ours remembers them. */
static int dump(const char *text, size_t n, void *out)
{
	return nb_buf_put(out, text, n);
}

void web_json(struct web_call *call, int status, json_t *value)
{
	struct nb_buf out;
	bool ok;

	nb_buf_init(&out, ANSWER_MAX);
	ok = value && json_dump_callback(value, dump, &out, JSON_COMPACT | JSON_ENCODE_ANY) == 0 &&
	     nb_buf_str(&out, "\n") == 0;
	json_decref(value);
	if (ok)
		web_respond(call, status, JSON_TYPE, nb_buf_view(&out));
	else
		web_respond(call, 500, JSON_TYPE, nb_bytes_str("{\"message\":\"out of memory\",\"code\":500}\n"));
	nb_buf_fini(&out);
}

void web_error(struct web_call *call, int status, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	web_json(call, status, json_pack("{s:s, s:i}", "message", text, "code", status));
}

json_t *web_json_body(struct web_call *call)
{
	json_error_t e;
	json_t *v = json_loadb((const char *)call->req.body.p, call->req.body.n, 0, &e);

	if (v && json_is_object(v))
		return v;
	if (v)
		web_error(call, 400, "couldn't parse JSON request: an object is expected");
	else
		web_error(call, 400, "couldn't parse JSON request: %s at line %d, column %d", e.text, e.line,
			  e.column);
	json_decref(v);
	return NULL;
}

void web_fields_init(struct web_fields *f, const json_t *obj)
{
	f->obj = obj;
	f->problem[0] = 0;
}

void web_problem(struct web_fields *f, const char *fmt, ...)
{
	va_list ap;

	if (f->problem[0])
		return;
	va_start(ap, fmt);
	vsnprintf(f->problem, sizeof f->problem, fmt, ap);
	va_end(ap);
}

static const json_t *member(const struct web_fields *f, const char *name)
{
	const json_t *v = json_object_get(f->obj, name);

	return v && !json_is_null(v) ? v : NULL;
}

bool web_has(const struct web_fields *f, const char *name)
{
	return member(f, name) != NULL;
}

const char *web_string(struct web_fields *f, const char *name, const char *dflt)
{
	const json_t *v = member(f, name);

	if (!v)
		return dflt;
	if (json_is_string(v))
		return json_string_value(v);
	web_problem(f, "field %s must be a string", name);
	return dflt;
}

const char *web_string_required(struct web_fields *f, const char *name)
{
	const char *s = web_string(f, name, "");

	if (!*s)
		web_problem(f, "field %s is required", name);
	return s;
}

bool web_bool(struct web_fields *f, const char *name, bool dflt)
{
	const json_t *v = member(f, name);

	if (!v)
		return dflt;
	if (!json_is_boolean(v))
		web_problem(f, "field %s must be true or false", name);
	return json_is_true(v);
}

int64_t web_int(struct web_fields *f, const char *name, int64_t dflt, int64_t min, int64_t max)
{
	const json_t *v = member(f, name);
	int64_t n;

	if (!v)
		return dflt;
	if (!json_is_integer(v)) {
		web_problem(f, "field %s must be a whole number", name);
		return dflt;
	}
	n = json_integer_value(v);
	if (n >= min && n <= max)
		return n;
	web_problem(f, "field %s must be between %lld and %lld", name, (long long)min, (long long)max);
	return dflt;
}

const json_t *web_array(struct web_fields *f, const char *name)
{
	const json_t *v = member(f, name);

	if (!v || json_is_array(v))
		return v;
	web_problem(f, "field %s must be a list", name);
	return NULL;
}

const json_t *web_object(struct web_fields *f, const char *name)
{
	const json_t *v = member(f, name);

	if (!v || json_is_object(v))
		return v;
	web_problem(f, "field %s must be an object", name);
	return NULL;
}

const char *web_array_string(struct web_fields *f, const char *name, const json_t *array, size_t i)
{
	const char *s = json_string_value(json_array_get(array, i));

	if (!s)
		web_problem(f, "field %s must be a list of strings", name);
	return s ? s : "";
}

bool web_fields_refuse(struct web_fields *f, struct web_call *call, int status)
{
	if (!f->problem[0])
		return false;
	web_error(call, status, "%s", f->problem);
	return true;
}
