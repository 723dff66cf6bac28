/* mgmt_config_test.c - stock's configuration files: what is taken over, what is noted, what is refused and how.
 * Tests src/mgmt/config.c. */
#include "mgmt/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *env(const char *name)
{
	return strcmp(name, "TURN_SECRET") == 0 ? "from-env" : NULL;
}

static void management_json(void **state)
{
	static const char json[] =
		"{ \"Stuns\": [{\"Proto\": \"udp\", \"URI\": \"stun:h:3478\", \"Username\": \"\"}],\n"
		"  \"TURNConfig\": { \"Turns\": [{\"Proto\": \"udp\", \"URI\": \"turn:h:3479\", \"Username\": \"u\",\n"
		"    \"Password\": \"p\"}],\n"
		"    \"CredentialsTTL\": \"1h30m\", \"Secret\": \"{{ .TURN_SECRET }}\", \"TimeBasedCredentials\": true },\n"
		"  \"Relay\": {\"Addresses\": [\"rel://h:1\"], \"CredentialsTTL\": 3600000000000, \"Secret\": \"s\"},\n"
		"  \"Signal\": {\"Proto\": \"https\", \"URI\": \"h:443\"}, \"Datadir\": \"/x\",\n"
		"  \"HttpConfig\": {\"CertFile\": \"/c\", \"CertKey\": \"/k\"}, \"DisableDefaultPolicy\": true,\n"
		"  \"StoreConfig\": {\"Engine\": \"sqlite\"}, \"Unknown\": {\"a\": [1]},\n"
		"  \"DeviceAuthorizationFlow\": {\"Provider\": \"none\", \"ProviderConfig\": {\"ClientID\": \"x\"}},\n"
		"  \"PKCEAuthorizationFlow\": {\"ProviderConfig\": {\"ClientID\": \"cli\",\n"
		"    \"RedirectURLs\": [\"http://l:1\"], \"LoginFlag\": 2}} }";
	struct mgmt_file f;
	char why[256] = "";

	(void)state;
	mgmt_file_init(&f);
	if (mgmt_file_json(&f, nb_bytes_str(json), env, why, sizeof(why)))
		fail_msg("%s", why);
	assert_int_equal(f.mgmt.n_stuns, 1);
	assert_string_equal(f.mgmt.turns[0].user, "u");
	assert_string_equal(f.mgmt.turn_secret, "from-env");
	assert_int_equal(f.mgmt.turn_ttl, 5400 * NB_SEC);
	assert_string_equal(f.mgmt.relay_urls[0], "rel://h:1");
	assert_int_equal(f.mgmt.relay_ttl, 3600 * NB_SEC);
	assert_string_equal(f.mgmt.signal_uri, "h:443");
	assert_true(f.mgmt.signal_tls && f.mgmt.no_default_policy);
	assert_string_equal(f.data_dir, "/x");
	assert_string_equal(f.cert_file, "/c");
	assert_null(f.mgmt.device.client_id);
	assert_string_equal(f.mgmt.pkce.client_id, "cli");
	assert_string_equal(f.mgmt.pkce.scope, "openid");
	assert_int_equal(f.mgmt.pkce.login_flag, 2);
	assert_int_equal(f.n_notes, 1);
	mgmt_file_fini(&f);
}

static void config_yaml(void **state)
{
	static const char yaml[] =
		"server:\n  listenAddress: \":8080\"\n  exposedAddress: \"https://h.example:443\"\n"
		"  stunPorts:\n    - 3478\n    - 3479\n  logLevel: debug\n  authSecret: \"sec\"\n  dataDir: /d\n"
		"  tls:\n    certFile: /c\n    keyFile: /k\n    letsencrypt:\n      enabled: false\n"
		"  signalUri: https://sig.example\n  stuns:\n    - uri: \"stun:o:1\"\n  store:\n    engine: sqlite\n";
	struct mgmt_file f;
	char why[256] = "";

	(void)state;
	mgmt_file_init(&f);
	if (mgmt_file_yaml(&f, nb_bytes_str(yaml), why, sizeof(why)))
		fail_msg("%s", why);
	assert_string_equal(f.listen, ":8080");
	assert_string_equal(f.external_url, "https://h.example:443");
	assert_string_equal(f.stun_ports, "3478,3479");
	assert_string_equal(f.secret, "sec");
	assert_string_equal(f.log_level, "debug");
	assert_string_equal(f.key_file, "/k");
	assert_string_equal(f.mgmt.signal_uri, "sig.example:443");
	assert_true(f.mgmt.signal_tls && f.other_signal && f.other_stun && !f.other_relay);
	assert_int_equal(f.n_notes, 1);
	mgmt_file_fini(&f);
}

static void refusals(void **state)
{
	static const char *const json[] = {
		"", "[]", "{", "{\"Stuns\": 1}", "{\"Stuns\": [{\"URI\": \"http://h\"}]}", "{\"Stuns\": [{\"URI\": \"stun:\"}]}",
		"{\"TURNConfig\": {\"CredentialsTTL\": \"0s\"}}", "{\"TURNConfig\": {\"CredentialsTTL\": \"soon\"}}",
		"{\"Relay\": {\"Addresses\": [\"rel://h:1\"]}}", "{\"Signal\": {\"URI\": \"http://h:1\"}}",
		"{\"Datadir\": [] }", "{\"DisableDefaultPolicy\": 3}", "{\"HttpConfig\": {\"LetsEncryptDomain\": \"h\"}}",
		"{\"a\": 1, \"a\": 2}",
	};
	static const char *const yaml[] = {
		"", "a", "- 1", "server: 1", "server:\n  tls:\n    letsencrypt:\n      enabled: true\n", "server: [", "{a: &x [*x]}",
		"server:\n  stuns:\n    - nonsense\n", "server:\n  dataDir: [1]\n",
	};
	struct mgmt_file f;
	char why[256];

	(void)state;
	for (size_t i = 0; i < sizeof(json) / sizeof(*json); i++) {
		mgmt_file_init(&f);
		*why = '\0';
		if (mgmt_file_json(&f, nb_bytes_str(json[i]), env, why, sizeof(why)) != NB_E_CONFIG || !*why)
			fail_msg("accepted: %s", json[i]);
		mgmt_file_fini(&f);
	}
	for (size_t i = 0; i < sizeof(yaml) / sizeof(*yaml); i++) {
		mgmt_file_init(&f);
		*why = '\0';
		if (mgmt_file_yaml(&f, nb_bytes_str(yaml[i]), why, sizeof(why)) != NB_E_CONFIG || !*why)
			fail_msg("accepted: %s", yaml[i]);
		mgmt_file_fini(&f);
	}
}

static void durations(void **state)
{
	(void)state;
	assert_int_equal(mgmt_duration("12h"), 43200 * NB_SEC);
	assert_int_equal(mgmt_duration("24h0m0s"), 86400 * NB_SEC);
	assert_int_equal(mgmt_duration("1500ms"), 1500 * NB_MS);
	assert_int_equal(mgmt_duration("5"), -1);
	assert_int_equal(mgmt_duration(""), -1);
	assert_int_equal(mgmt_duration("h"), -1);
	assert_int_equal(mgmt_duration("99999999999h"), -1);
	assert_int_equal(mgmt_duration("999999999h"), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(management_json), cmocka_unit_test(config_yaml), cmocka_unit_test(refusals),
		cmocka_unit_test(durations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
