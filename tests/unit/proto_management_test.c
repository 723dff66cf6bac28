/* proto_management_test.c - every recorded management message is read and written byte for byte (messages with
 * maps: field for field). Tests src/proto/management.proto and src/proto/unpack.c. */
#include "base/err.h"
#include "proto/envelope.h"
#include "proto/management.pb-c.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#define DIR_NAME "tests/vectors/management"

static const struct {
	const char *name;
	const ProtobufCMessageDescriptor *desc;
} types[] = {
#define T(n, d) { "management." n, &management__##d##__descriptor }
	T("Empty", empty), T("ServerKeyResponse", server_key_response), T("LoginRequest", login_request),
	T("LoginResponse", login_response), T("SyncRequest", sync_request), T("SyncResponse", sync_response),
	T("SyncMetaRequest", sync_meta_request), T("JobRequest", job_request), T("JobResponse", job_response),
	T("DeviceAuthorizationFlow", device_authorization_flow),
	T("DeviceAuthorizationFlowRequest", device_authorization_flow_request),
	T("PKCEAuthorizationFlow", pkceauthorization_flow),
	T("PKCEAuthorizationFlowRequest", pkceauthorization_flow_request),
	T("ExtendAuthSessionRequest", extend_auth_session_request), T("ExposeServiceRequest", expose_service_request),
#undef T
};

static const ProtobufCMessageDescriptor *find_type(const char *name)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
		if (strcmp(types[i].name, name) == 0)
			return types[i].desc;
	return NULL;
}

static uint8_t *unhex(const char *text, size_t *n)
{
	uint8_t *p;

	*n = strlen(text) / 2;
	p = malloc(*n + 1);
	assert_int_equal(nb_hex_decode(p, *n, nb_bytes_str(text)), 0);
	return p;
}

static size_t checked;

static bool has_map(const char *file)
{
	return strncmp(file, "component-", 10) == 0 || strncmp(file, "sync-", 5) == 0;
}

static void check_plain(const char *file, const json_t *m)
{
	const char *hex = json_string_value(json_object_get(m, "plain_hex"));
	const char *type = json_string_value(json_object_get(m, "type"));
	const ProtobufCMessageDescriptor *desc;
	struct nb_arena arena;
	struct nb_buf b;
	uint8_t *plain;
	void *msg;
	size_t n;

	if (!hex)
		return;
	desc = find_type(type);
	if (!desc)
		fail_msg("%s: no type %s", file, type);
	plain = unhex(hex, &n);
	nb_arena_init(&arena, 16 << 20);
	nb_buf_init(&b, 16 << 20);
	if (proto_unpack_any(&msg, desc, nb_bytes(plain, n), &arena))
		fail_msg("%s: a %s does not decode", file, type);
	assert_int_equal(proto_pack(&b, msg), 0);
	assert_int_equal(b.n, n);
	if (!has_map(file))
		assert_memory_equal(b.p, plain, n);
	checked++;
	nb_buf_fini(&b);
	nb_arena_fini(&arena);
	free(plain);
}

static void check_envelope(const json_t *m)
{
	const char *hex = json_string_value(json_object_get(m, "envelope_hex"));
	struct proto_envelope env;
	struct nb_buf b;
	uint8_t *wire;
	size_t n;

	if (!hex || !json_object_get(m, "plain_hex") ||
	    strcmp(hex, json_string_value(json_object_get(m, "plain_hex"))) == 0)
		return;
	wire = unhex(hex, &n);
	nb_buf_init(&b, 1 << 20);
	assert_int_equal(proto_mgmt_envelope_decode(&env, nb_bytes(wire, n)), 0);
	assert_int_equal(proto_mgmt_envelope_encode(&b, &env), 0);
	assert_int_equal(b.n, n);
	assert_memory_equal(b.p, wire, n);
	nb_buf_fini(&b);
	free(wire);
}

static void check_file(const char *name)
{
	static const char *const sides[] = { "request", "response" };
	char path[320];
	json_t *j;

	snprintf(path, sizeof(path), DIR_NAME "/%s", name);
	j = json_load_file(path, 0, NULL);
	assert_non_null(j);
	for (int i = 0; i < 2; i++) {
		json_t *list = json_object_get(json_object_get(j, sides[i]), "messages"), *m;
		size_t k;

		json_array_foreach(list, k, m) {
			check_plain(name, m);
			check_envelope(m);
		}
	}
	json_decref(j);
}

static void all_recorded_messages(void **state)
{
	DIR *d = opendir(DIR_NAME);
	struct dirent *e;
	size_t files = 0;

	(void)state;
	assert_non_null(d);
	while ((e = readdir(d)))
		if (strstr(e->d_name, ".json")) {
			check_file(e->d_name);
			files++;
		}
	closedir(d);
	assert_int_equal(files, 44);
	assert_true(checked > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(all_recorded_messages) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
