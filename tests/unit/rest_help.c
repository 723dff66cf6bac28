/* rest_help.c - see rest_help.h. */
#include "rest_help.h"

#include "store/store.h"

#include <ctype.h>

static void keep(struct web_call *call, const struct web_response *res)
{
	struct rest_world *r = call->transport_ctx;
	size_t n = 0;

	assert_int_equal(r->status, 0);
	r->status = res->status;
	for (size_t i = 0; i < res->n_headers; i++)
		n += (size_t)snprintf(r->headers + n, sizeof(r->headers) - n, "%.*s: %.*s\n",
				      (int)res->headers[i].name.n, (const char *)res->headers[i].name.p,
				      (int)res->headers[i].value.n, (const char *)res->headers[i].value.p);
	r->body = res->body.n ? strndup((const char *)res->body.p, res->body.n) : strdup("");
	r->json = r->unparsed ? NULL : json_loads(r->body, JSON_DECODE_ANY, NULL);
	web_call_fini(call);
	free(call);
}

static const struct web_transport transport = { .respond = keep };

static void forget(struct rest_world *r)
{
	json_decref(r->json);
	free(r->body);
	r->json = NULL;
	r->body = NULL;
	r->status = 0;
	r->headers[0] = '\0';
}

void rest_world(struct rest_world *r, bool durable)
{
	struct mgmt_rest_config cfg = { .hash_kib = 8, .hash_passes = 1 };

	memset(r, 0, sizeof(*r));
	test_world(&r->w, durable);
	cfg.m = r->w.m;
	assert_int_equal(mgmt_rest_new(&r->rest, &cfg), 0);
	r->token = r->w.seed.pat;
	r->from = "192.0.2.7";
}

void rest_world_end(struct rest_world *r)
{
	mgmt_rest_free(r->rest);
	test_world_end(&r->w);
	forget(r);
}

struct web_call *rest_start(struct rest_world *r, const char *method, const char *target, const char *body)
{
	struct web_call *call = calloc(1, sizeof(*call));
	const char *mark = strchr(target, '?');

	assert_non_null(call);
	forget(r);
	web_call_init(call, &transport, r, 4 << 20);
	call->req.method = nb_bytes_str(method);
	call->req.path = nb_bytes(target, mark ? (size_t)(mark - target) : strlen(target));
	call->req.query = nb_bytes_str(mark ? mark + 1 : "");
	call->req.body = nb_bytes_str(body);
	call->req.peer.port = 40000;
	assert_int_equal(nb_addr_parse(&call->req.peer.addr, r->from), 0);
	return call;
}

int rest_go_with(struct rest_world *r, const char *method, const char *target, const char *body,
		 const struct web_header *headers, size_t n)
{
	struct web_call *call = rest_start(r, method, target, body);
	struct web_header list[8];
	char auth[80];

	assert_true(n < 8);
	if (n)
		memcpy(list, headers, n * sizeof(*list));
	if (r->token) {
		snprintf(auth, sizeof(auth), "Token %s", r->token);
		list[n++] = (struct web_header){ nb_bytes_str("authorization"), nb_bytes_str(auth) };
	}
	call->req.headers = list;
	call->req.n_headers = n;
	mgmt_rest_request(r->rest, call);
	for (int i = 0; i < 3 && !r->status && r->w.store; i++)
		store_sync(r->w.store);
	return r->status;
}

int rest_go(struct rest_world *r, const char *method, const char *target, const char *body)
{
	return rest_go_with(r, method, target, body, NULL, 0);
}

const char *rest_str(const struct rest_world *r, const char *name)
{
	const char *s = json_string_value(json_object_get(r->json, name));

	return s ? s : "";
}

/* ---- recorded answers */

char *rest_recorded(const char *name, int *status)
{
	char path[128], *text, *body;
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "tests/vectors/rest/%s.http", name);
	f = fopen(path, "rb");
	if (!f)
		fail_msg("%s is missing", path);
	text = calloc(1, 65536);
	n = fread(text, 1, 65535, f);
	fclose(f);
	assert_true(n > 20);
	*status = atoi(text + 9);
	body = strstr(text, "\r\n\r\n");
	assert_non_null(body);
	body = strdup(body + 4);
	free(text);
	return body;
}

static bool all_of(const char *s, size_t n, const char *set)
{
	for (size_t i = 0; i < n; i++)
		if (!strchr(set, s[i]))
			return false;
	return true;
}

/* What a string is, or NULL when it is compared as it stands. */
static const char *kind(const char *s, size_t n)
{
	if (n == 20 && strncmp(s, "0001-", 5) && all_of(s, 20, "0123456789abcdefghijklmnopqrstuv"))
		return "ID";
	if (n >= 20 && s[4] == '-' && s[10] == 'T' && s[n - 1] == 'Z' && strncmp(s, "0001-", 5) != 0)
		return "TIME";
	if (n == 36 && s[8] == '-' && s[13] == '-')
		return islower((unsigned char)s[0]) || all_of(s, n, "0123456789abcdef-") ? "USER" : "KEY";
	if (n > 50 && strncmp(s, "CiQ", 3) == 0)
		return "USER";
	if (n == 9 && strncmp(s + 5, "****", 4) == 0)
		return "MASKED";
	if (n > 9 && strncmp(s, "100.", 4) == 0)
		return s[n - 3] == '/' ? "NET" : "IP";
	if (n > 20 && strncmp(s, "fd", 2) == 0 && strchr(s, ':'))
		return s[n - 3] == '/' ? "NET6" : "IP6";
	return NULL;
}

void rest_mask(char *json)
{
	char *out = json, *in = json;

	while (*in) {
		const char *end, *k;

		if (*in != '"') {
			*out++ = *in++;
			continue;
		}
		for (end = in + 1; *end && *end != '"'; end++)
			end += *end == '\\';
		k = kind(in + 1, (size_t)(end - in) - 1);
		*out++ = '"';
		if (k) {
			memcpy(out, k, strlen(k));
			out += strlen(k);
		} else {
			memmove(out, in + 1, (size_t)(end - in) - 1);
			out += end - in - 1;
		}
		*out++ = '"';
		in = (char *)end + 1;
	}
	*out = '\0';
}

void rest_like(struct rest_world *r, const char *name)
{
	int status;
	char *want = rest_recorded(name, &status), *have = strdup(r->body);

	rest_mask(want);
	rest_mask(have);
	if (r->status != status || strcmp(want, have) != 0)
		fail_msg("%s\nwant %d %s\nhave %d %s", name, status, want, r->status, have);
	free(want);
	free(have);
}
