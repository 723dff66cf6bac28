/* rest_fuzz.c - src/mgmt/rest*.c: any request to any operation of a small account. The first byte picks the operation,
 * the second what stands for the ids in its path, the rest is the body; a NUL splits off a query string before it.
 * Whatever comes, there is exactly one answer, JSON where it says so. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "crypto/crypto.h"
#include "mgmt/rest.h"

static struct mgmt *m;
static struct mgmt_rest *rest;
static char auth[64];
static const char *ids[8];

static void random_bytes(void *ctx, void *out, size_t n)
{
	static uint64_t x;
	uint8_t *p = out;

	(void)ctx;
	while (n--)
		*p++ = (uint8_t)((x = x * 6364136223846793005ULL + 1442695040888963407ULL) >> 56);
}

static int answers;
static unsigned runs;

static void respond(struct web_call *call, const struct web_response *res)
{
	bool json = false;

	for (size_t i = 0; i < res->n_headers; i++)
		json |= nb_bytes_eq_str(res->headers[i].name, "content-type") && res->headers[i].value.n > 16 &&
			memcmp(res->headers[i].value.p, "application/json", 16) == 0;
	if (json) {
		json_t *v = json_loadb((const char *)res->body.p, res->body.n, JSON_DECODE_ANY, NULL);

		if (!v || res->status == 500)
			abort();
		json_decref(v);
	}
	answers++;
	web_call_fini(call);
}

static const struct web_transport transport = { .respond = respond };

static void start(void)
{
	static char text[8][48];
	struct mgmt_config cfg = { .random = random_bytes, .map_seed = nb_bytes("sixteen bytes...", 16) };
	struct mgmt_setup spec = { "a@b.test", "A", "$argon2id$x", true, 365 };
	struct mgmt_rest_config rc = { .hash_kib = 8, .hash_passes = 1 };
	struct mgmt_setup_result res;
	struct mgmt_error e;
	struct mgmt_lists l;

	if (nbc_init() || mgmt_new(&m, &cfg, NULL, (struct nb_time){ NB_SEC }, (struct nb_wall){ 1800000000 * NB_SEC }, &e) ||
	    mgmt_setup(m, &spec, &res, &e))
		abort();
	rc.m = m;
	if (mgmt_rest_new(&rest, &rc))
		abort();
	mgmt_account_lists(mgmt_first_account(m), &l);
	memcpy(auth, "Token ", 6);
	memcpy(auth + 6, res.pat, sizeof(res.pat));
	memcpy(text[0], res.user_id, sizeof(res.user_id));
	memcpy(text[1], mgmt_account_record(mgmt_first_account(m))->id, 21);
	memcpy(text[2], l.policies[0]->rec->id, 21);
	memcpy(text[3], l.groups[0]->rec->id, 21);
	memcpy(text[4], l.keys[0]->rec->id, 21);
	memcpy(text[5], "%ff%00", 6);
	memcpy(text[6], "..", 2);
	for (int i = 0; i < 8; i++)
		ids[i] = text[i];
}

static void stop(void)
{
	mgmt_rest_free(rest);
	mgmt_free(m);
	m = NULL;
}

/* The pattern's path with id in the place of every parameter. */
static size_t fill(char *out, size_t cap, const char *pattern, const char *id)
{
	size_t n = 0;

	for (const char *p = pattern; *p && n + 64 < cap; p++) {
		if (*p != '{') {
			out[n++] = *p;
			continue;
		}
		memcpy(out + n, id, strlen(id));
		n += strlen(id);
		p = strchr(p, '}');
	}
	out[n] = '\0';
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct web_header headers[1];
	const char *pattern, *space;
	struct web_call call;
	const uint8_t *nul;
	char path[512];
	bool served;

	if (size < 2 || !mgmt_rest_operation(data[0], &pattern, &served))
		return 0;
	if (!m)
		start();
	space = strchr(pattern, ' ');
	web_call_init(&call, &transport, NULL, 4 << 20);
	call.req.method = nb_bytes(pattern, (size_t)(space - pattern));
	call.req.path = nb_bytes(path, fill(path, sizeof(path), space + 1, ids[data[1] & 7]));
	nul = memchr(data + 2, 0, size - 2);
	call.req.query = nb_bytes(data + 2, nul ? (size_t)(nul - data) - 2 : 0);
	call.req.body = nul ? nb_bytes(nul + 1, (size_t)(data + size - nul) - 1) : nb_bytes(data + 2, size - 2);
	headers[0] = (struct web_header){ nb_bytes_str("authorization"), nb_bytes_str(auth) };
	call.req.headers = headers;
	call.req.n_headers = 1;
	answers = 0;
	mgmt_rest_request(rest, &call);
	if (answers != 1)
		abort();
	/* There is much by now, or the caller deleted its own token: start afresh. */
	if (++runs % 256 == 0)
		stop();
	return 0;
}
