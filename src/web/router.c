/* router.c - from method and path to a handler: a constant table, scanned. A hundred and thirty
 * patterns are compared in a few microseconds, which a hash would not improve noticeably.
 * See web/web.h. Tests: tests/unit/web_router_test.c */
#include "web/web.h"

#include "base/err.h"

/* The next segment of a path that starts with "/"; false at its end. */
static bool next_segment(struct nb_bytes *path, struct nb_bytes *segment)
{
	const uint8_t *slash;

	if (!path->n)
		return false;
	path->p++;
	path->n--;
	slash = path->n ? memchr(path->p, '/', path->n) : NULL;
	*segment = nb_bytes(path->p, slash ? (size_t)(slash - path->p) : path->n);
	path->p += segment->n;
	path->n -= segment->n;
	return true;
}

static bool is_param(struct nb_bytes s)
{
	return s.n > 2 && s.p[0] == '{' && s.p[s.n - 1] == '}';
}

/* Does the pattern's path match? rank: a bit per segment, the first one highest, set for literals. */
static bool path_matches(struct nb_bytes pattern, struct nb_bytes path, uint32_t *rank)
{
	uint32_t bit = 1u << 31;
	struct nb_bytes want, have;

	*rank = 0;
	if (!path.n || path.p[0] != '/')
		return false;
	for (; next_segment(&pattern, &want); bit >>= 1) {
		if (nb_bytes_eq_str(want, "*") && !pattern.n)
			return true;
		if (!next_segment(&path, &have))
			return false;
		if (is_param(want)) {
			if (!have.n)
				return false;
		} else if (!nb_bytes_eq(want, have)) {
			return false;
		} else {
			*rank |= bit;
		}
	}
	return !path.n;
}

static struct nb_bytes pattern_path(const struct web_route *r)
{
	return nb_bytes_str(strchr(r->pattern, ' ') + 1);
}

static bool method_matches(const struct web_route *r, struct nb_bytes method)
{
	struct nb_bytes want = nb_bytes(r->pattern, (size_t)(strchr(r->pattern, ' ') - r->pattern));

	return nb_bytes_eq_str(want, "*") || nb_bytes_eq(want, method);
}

/* Best route for the call; *known: some route has this path. */
static const struct web_route *find(const struct web_router *r, const struct web_call *call, bool *known)
{
	const struct web_route *best = NULL;
	uint32_t best_rank = 0, rank;

	*known = false;
	for (size_t i = 0; i < r->n; i++) {
		if (!path_matches(pattern_path(&r->routes[i]), call->req.path, &rank))
			continue;
		*known = true;
		if (!method_matches(&r->routes[i], call->req.method) || (best && rank <= best_rank))
			continue;
		best = &r->routes[i];
		best_rank = rank;
	}
	return best;
}

/* Decode the path parameters. Returns 0, NB_E_BAD for a bad escape. */
static int take_params(struct web_call *call, const struct web_route *route)
{
	struct nb_bytes pattern = pattern_path(route), path = call->req.path, want, have = { NULL, 0 };

	call->n_params = 0;
	while (next_segment(&pattern, &want) && next_segment(&path, &have)) {
		struct web_header *p = &call->params[call->n_params];
		char *value;

		if (!is_param(want))
			continue;
		value = web_decode(call, have, false);
		if (!value || call->n_params == WEB_PARAMS_MAX)
			return NB_E_BAD;
		p->name = nb_bytes(want.p + 1, want.n - 2);
		p->value = nb_bytes_str(value);
		call->n_params++;
	}
	return 0;
}

/* "//" anywhere: send the client to the clean path. */
static bool redirect_double_slash(struct web_call *call)
{
	struct nb_bytes in = call->req.path, query = call->req.query;
	char *out;
	size_t o = 0;

	for (size_t i = 1; i < in.n; i++)
		if (in.p[i] == '/' && in.p[i - 1] == '/')
			goto found;
	return false;
found:
	out = nb_arena_alloc(&call->mem, in.n + query.n + 2);
	if (!out)
		return false;
	for (size_t i = 0; i < in.n; i++)
		if (!o || in.p[i] != '/' || out[o - 1] != '/')
			out[o++] = (char)in.p[i];
	if (query.n) {
		out[o++] = '?';
		memcpy(out + o, query.p, query.n);
	}
	web_set_header(call, "location", out);
	web_respond(call, 301, NULL, nb_bytes(NULL, 0));
	return true;
}

static bool cors_method(const char *method)
{
	static const char *const allowed[] = { "HEAD", "GET", "POST", "PUT", "PATCH", "DELETE" };

	for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
		if (!strcmp(method, allowed[i]))
			return true;
	return false;
}

/* Stock's permissive CORS: what a preflight asks for is echoed. True when the call was one and is answered. */
static bool cors(struct web_call *call)
{
	const char *method, *wanted;
	bool origin = web_header(call, "origin", NULL);

	web_set_header(call, "vary", "Origin");
	if (origin)
		web_set_header(call, "access-control-allow-origin", "*");
	if (!nb_bytes_eq_str(call->req.method, "OPTIONS"))
		return false;
	method = web_header_text(call, "access-control-request-method");
	if (!method)
		return false;
	web_set_header(call, "vary", "Access-Control-Request-Method");
	web_set_header(call, "vary", "Access-Control-Request-Headers");
	if (origin && cors_method(method)) {
		web_set_header(call, "access-control-allow-methods", method);
		wanted = web_header_text(call, "access-control-request-headers");
		if (wanted)
			web_set_header(call, "access-control-allow-headers", wanted);
	}
	web_respond(call, 204, NULL, nb_bytes(NULL, 0));
	return true;
}

static void not_found(struct web_call *call)
{
	web_set_header(call, "x-content-type-options", "nosniff");
	web_respond_text(call, 404, "404 page not found\n");
}

void web_router_dispatch(void *router, struct web_call *call)
{
	const struct web_router *r = router;
	const struct web_route *route;
	bool known;

	if (redirect_double_slash(call))
		return;
	route = find(r, call, &known);
	if (!known) {
		if (r->not_found)
			r->not_found(call, r->arg);
		else
			not_found(call);
		return;
	}
	if (r->matched)
		r->matched(call, r->arg);
	if (r->cors && cors(call))
		return;
	if (!route) {
		web_respond(call, 405, NULL, nb_bytes(NULL, 0));
		return;
	}
	if (take_params(call, route)) {
		web_respond_text(call, 400, "400 bad request: malformed escape in the path\n");
		return;
	}
	call->route = route;
	if (r->before && !r->before(call, route, r->arg))
		return;
	route->fn(call, r->arg);
}
