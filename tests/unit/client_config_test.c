/* client_config_test.c - the profile file: stock's own file survives a round trip, bad values are named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/err.h"
#include "client/config.h"
#include "proto/daemon.pb-c.h"

static void counting(void *ctx, void *out, size_t n)
{
	(void)ctx;
	for (size_t i = 0; i < n; i++)
		((uint8_t *)out)[i] = (uint8_t)(i + 1);
}

static const char stock[] =
	"{\n    \"Name\": \"\",\n    \"PrivateKey\": \"iKt8GdEJ7KXzEkPueTFYhrvFONdT/7zWYStliOw/rGA=\",\n"
	"    \"PreSharedKey\": \"\",\n    \"ManagementURL\": {\n        \"Scheme\": \"http\",\n        \"Opaque\": \"\",\n"
	"        \"User\": null,\n        \"Host\": \"203.0.113.10:8080\",\n        \"Path\": \"\",\n"
	"        \"Fragment\": \"\",\n        \"RawQuery\": \"\",\n        \"RawPath\": \"\",\n"
	"        \"RawFragment\": \"\",\n        \"ForceQuery\": false,\n        \"OmitHost\": false\n    },\n"
	"    \"AdminURL\": null,\n    \"WgIface\": \"wt0\",\n    \"WgPort\": 51820,\n    \"NetworkMonitor\": null,\n"
	"    \"IFaceBlackList\": [\n        \"wt0\",\n        \"lo\"\n    ],\n    \"DisableIPv6Discovery\": false,\n"
	"    \"RosenpassEnabled\": false,\n    \"RosenpassPermissive\": false,\n    \"ServerSSHAllowed\": false,\n"
	"    \"EnableSSHRoot\": null,\n    \"EnableSSHSFTP\": null,\n    \"EnableSSHLocalPortForwarding\": null,\n"
	"    \"EnableSSHRemotePortForwarding\": null,\n    \"DisableSSHAuth\": null,\n    \"SSHJWTCacheTTL\": null,\n"
	"    \"DisableClientRoutes\": false,\n    \"DisableServerRoutes\": false,\n    \"DisableDNS\": false,\n"
	"    \"DisableFirewall\": false,\n    \"BlockLANAccess\": false,\n    \"BlockInbound\": false,\n"
	"    \"DisableIPv6\": false,\n    \"SyncMessageVersion\": null,\n    \"DisableNotifications\": true,\n"
	"    \"DNSLabels\": null,\n    \"SSHKey\": \"key\",\n    \"NATExternalIPs\": null,\n"
	"    \"CustomDNSAddress\": \"\",\n    \"DisableAutoConnect\": false,\n"
	"    \"DNSRouteInterval\": 60000000000,\n    \"ClientCertPath\": \"\",\n    \"ClientCertKeyPath\": \"\",\n"
	"    \"MTU\": 1280,\n    \"FromTheFuture\": {\n        \"x\": 1\n    }\n}";

static void stock_file_round_trips(void **state)
{
	struct client_config c;
	char why[200] = "";
	struct nb_buf out;

	(void)state;
	assert_int_equal(client_config_parse(&c, nb_bytes_str(stock), why, sizeof why), 0);
	assert_string_equal(c.management_url.host, "203.0.113.10:8080");
	assert_int_equal(c.network_monitor, CLIENT_NIL);
	assert_true(client_config_blacklisted(&c, "lo0"));
	assert_false(client_config_blacklisted(&c, "eth0"));
	nb_buf_init(&out, 1 << 16);
	assert_int_equal(client_config_encode(&c, &out), 0);
	assert_string_equal(nb_buf_cstr(&out), stock);
	nb_buf_fini(&out);
	client_config_fini(&c);
}

static void fresh_config_has_no_address(void **state)
{
	struct client_config c, again;
	char why[200];
	struct nb_buf out;

	(void)state;
	client_config_init(&c, counting, NULL);
	assert_string_equal(c.management_url.scheme, "");
	assert_int_equal(strlen(c.private_key), 44);
	assert_int_equal(c.server_ssh_allowed, CLIENT_NO);
	nb_buf_init(&out, 1 << 16);
	assert_int_equal(client_config_encode(&c, &out), 0);
	assert_int_equal(client_config_parse(&again, nb_buf_view(&out), why, sizeof why), 0);
	assert_string_equal(again.private_key, c.private_key);
	assert_int_equal(again.iface_blacklist.n, 14);
	nb_buf_fini(&out);
	client_config_fini(&c);
	client_config_fini(&again);
}

static void bad_files_name_the_key(void **state)
{
	static const struct {
		const char *json, *why;
	} rows[] = {
		{ "[1]", "not an object" }, { "{", "line 1" }, { "{\"PrivateKey\":\"short\"}", "PrivateKey" },
		{ "{}", "PrivateKey" }, { "{\"WgPort\":70000}", "WgPort" }, { "{\"MTU\":100}", "" },
		{ "{\"DisableDNS\":\"yes\"}", "DisableDNS" }, { "{\"IFaceBlackList\":[1]}", "IFaceBlackList" },
		{ "{\"ManagementURL\":\"ftp://x\"}", "ManagementURL" }, { "{\"WgIface\":\"an-interface-name-too-long\"}", "WgIface" },
		{ "{\"WgPort\":1,\"WgPort\":2}", "line 1" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct client_config c;
		char why[200] = "";

		assert_int_equal(client_config_parse(&c, nb_bytes_str(rows[i].json), why, sizeof why), NB_E_CONFIG);
		assert_non_null(strstr(why, rows[i].why));
	}
}

static void urls(void **state)
{
	static const struct {
		const char *text, *host;
	} good[] = {
		{ "http://a", "a:80" }, { "https://a/", "a:443" }, { "https://a.b:33073/x", "a.b:33073" },
		{ "http://[::1]:8080", "[::1]:8080" }, { "https://[fd00::1]", "[fd00::1]:443" },
	};
	static const char *const bad[] = { "", "a", "ftp://a", "http://", "http://:80", "http://a:0", "http://a:65536", "http://a:x",
		"http://u@a", "http://[::1", "http://a b", "http://a:" };
	struct client_url u;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(client_url_parse(&u, good[i].text), 0);
		assert_string_equal(u.host, good[i].host);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(client_url_parse(&u, bad[i]), NB_E_BAD);
}

static void a_refused_change_changes_nothing(void **state)
{
	Daemon__SetConfigRequest r = DAEMON__SET_CONFIG_REQUEST__INIT;
	struct client_config c;
	char why[200] = "";

	(void)state;
	client_config_init(&c, counting, NULL);
	r.managementurl = (char *)(uintptr_t)"http://good:1";
	r.has_mtu = 1;
	r.mtu = 9000;
	assert_int_equal(client_config_apply(&c, &r, why, sizeof why), NB_E_ARG);
	assert_non_null(strstr(why, "MTU"));
	assert_string_equal(c.management_url.host, "");
	r.mtu = 1400;
	r.has_disable_dns = r.disable_dns = 1;
	assert_int_equal(client_config_apply(&c, &r, why, sizeof why), 0);
	assert_string_equal(c.management_url.host, "good:1");
	assert_int_equal(c.mtu, 1400);
	assert_int_equal(c.disable_dns, CLIENT_YES);
	assert_int_equal(c.disable_firewall, CLIENT_NO);
	client_config_fini(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stock_file_round_trips),
		cmocka_unit_test(fresh_config_has_no_address),
		cmocka_unit_test(bad_files_name_the_key),
		cmocka_unit_test(urls),
		cmocka_unit_test(a_refused_change_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
