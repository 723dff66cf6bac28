/* run_wgdev_test.c - the two texts of a WireGuard interface: what is accepted, what refused, and in which order it arrives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/err.h"
#include "run/wgdev_int.h"

#define KEY_A "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
#define KEY_B "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
#define HEX_A "c809f3e5317e9575c9b5ed78b638b7ce530dabe85ddab61422024180" "1ddf0669"
#define HEX_B "c53201039adba14be71f886da1d8dbe9eebded08cb111b75340078999aa9f038"

/* What arrived, as text. */
struct seen {
	struct nb_buf b;
	int refuse;	/* error to return for peers */
};

static int saw_iface(void *ctx, const struct run_wgdev_iface *i)
{
	struct seen *s = ctx;
	char hex[65];

	nb_buf_str(&s->b, "I");
	if (i->set_key) {
		nb_hex_encode(hex, nb_bytes(i->key, 4));
		nb_buf_printf(&s->b, " key %s", hex);
	}
	if (i->set_port)
		nb_buf_printf(&s->b, " port %u", i->port);
	if (i->set_mark)
		nb_buf_printf(&s->b, " mark %u", i->mark);
	if (i->replace_peers)
		nb_buf_str(&s->b, " replace");
	nb_buf_str(&s->b, "\n");
	return 0;
}

static int saw_peer(void *ctx, const struct run_wgdev_peer *p)
{
	struct seen *s = ctx;
	char text[NB_ADDR_TEXT];

	nb_hex_encode(text, nb_bytes(p->key, 4));
	nb_buf_printf(&s->b, "P %s%s%s%s", text, p->remove ? " remove" : "", p->update_only ? " update" : "",
		      p->replace_allowed ? " replace" : "");
	if (p->set_psk)
		nb_buf_printf(&s->b, " psk %02x", p->psk[0]);
	if (p->set_endpoint) {
		nb_endpoint_format(text, &p->endpoint);
		nb_buf_printf(&s->b, " at %s", text);
	}
	if (p->set_keepalive)
		nb_buf_printf(&s->b, " every %u", p->keepalive);
	for (size_t i = 0; i < p->nadd; i++) {
		nb_prefix_format(text, &p->add[i]);
		nb_buf_printf(&s->b, " +%s", text);
	}
	for (size_t i = 0; i < p->ndel; i++) {
		nb_prefix_format(text, &p->del[i]);
		nb_buf_printf(&s->b, " -%s", text);
	}
	nb_buf_str(&s->b, "\n");
	return s->refuse;
}

static void expect(const char *name, int err, int want_err, struct seen *s, const char *want)
{
	if (err != want_err || strcmp(nb_buf_cstr(&s->b), want) != 0)
		fail_msg("%s: %d, %s", name, err, nb_buf_cstr(&s->b));
	nb_buf_fini(&s->b);
}

static void set(const char *text, int want_err, const char *want)
{
	struct seen s = { .refuse = 0 };
	struct run_wgdev_sink sink = { saw_iface, saw_peer, &s };

	nb_buf_init(&s.b, 10000);
	expect(text, run_wgdev_set(nb_bytes_str(text), &sink), want_err, &s, want);
}

static void config(const char *text, int want_err, unsigned want_line, const char *want)
{
	struct seen s = { .refuse = 0 };
	struct run_wgdev_sink sink = { saw_iface, saw_peer, &s };
	unsigned line = 0;
	const char *why = NULL;
	int err;

	nb_buf_init(&s.b, 10000);
	err = run_wgdev_config(nb_bytes_str(text), &sink, &line, &why);
	if (want_err) {
		assert_non_null(why);
		if (line != want_line)
			fail_msg("%s: line %u: %s", text, line, why);
	}
	expect(text, err, want_err, &s, want);
}

static void socket_lines(void **state)
{
	(void)state;
	set("", 0, "I\n");
	set("private_key=" HEX_A "\nlisten_port=51820\nfwmark=0\nreplace_peers=true\n", 0,
	    "I key c809f3e5 port 51820 mark 0 replace\n");
	set("public_key=" HEX_A "\nremove=true\npublic_key=" HEX_B "\nupdate_only=true\npreshared_key=" HEX_A
	    "\nendpoint=[2001:db8::1]:9\npersistent_keepalive_interval=25\nreplace_allowed_ips=true\n"
	    "allowed_ip=10.0.0.1/8\nallowed_ip=-::/0\nallowed_ip=+192.0.2.1\nprotocol_version=1\n", 0,
	    "I\nP c809f3e5 remove\nP c5320103 update replace psk c8 at [2001:db8::1]:9 every 25 +10.0.0.1/8 +192.0.2.1/32 -::/0\n");
}

static void socket_refusals(void **state)
{
	static const char *const rows[] = {
		"private_key=12\n", "private_key=" HEX_A "00\n", "listen_port=65536\n", "listen_port=-1\n", "listen_port=\n",
		"listen_port=1x\n", "fwmark=4294967296\n", "replace_peers=false\n", "nothing\n", "=\n", "unknown=1\n",
		"allowed_ip=10.0.0.0/8\n", "public_key=1\n", "public_key=" HEX_A "\nprivate_key=" HEX_A "\n",
		"public_key=" HEX_A "\nendpoint=1.2.3.4\n", "public_key=" HEX_A "\nendpoint=1.2.3.4:0\n",
		"public_key=" HEX_A "\nendpoint=example.org:1\n", "public_key=" HEX_A "\nallowed_ip=1.2.3.4/33\n",
		"public_key=" HEX_A "\nallowed_ip=\n", "public_key=" HEX_A "\nprotocol_version=2\n",
		"public_key=" HEX_A "\npersistent_keepalive_interval=65536\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		set(rows[i], NB_E_BAD, "");
	/* bad at the end: nothing before it takes effect */
	set("listen_port=1\npublic_key=" HEX_A "\nremove=true\npublic_key=zz\n", NB_E_BAD, "");
}

static void sink_stops(void **state)
{
	struct seen s = { .refuse = NB_E_NOMEM };
	struct run_wgdev_sink sink = { saw_iface, saw_peer, &s };

	(void)state;
	nb_buf_init(&s.b, 10000);
	expect("stop", run_wgdev_set(nb_bytes_str("public_key=" HEX_A "\npublic_key=" HEX_B "\n"), &sink), NB_E_NOMEM, &s,
	       "I\nP c809f3e5\n");
}

static void too_many_prefixes(void **state)
{
	struct nb_buf b;
	struct run_wgdev_sink none = { .iface = NULL };

	(void)state;
	nb_buf_init(&b, 1 << 20);
	nb_buf_str(&b, "public_key=" HEX_A "\n");
	for (unsigned i = 0; i <= RUN_WGDEV_PREFIXES; i++)
		nb_buf_printf(&b, "allowed_ip=10.%u.%u.0/24\n", i / 256, i % 256);
	assert_int_equal(b.err, 0);
	assert_int_equal(run_wgdev_set(nb_buf_view(&b), &none), NB_E_FULL);
	nb_buf_fini(&b);
}

static void files(void **state)
{
	(void)state;
	config("", 0, 0, "I\n");
	config("# only a comment\n\n[Interface]\nPrivateKey=" KEY_A "\n  listenport = 7 # seven\nFwMark = 0x10\n", 0, 0,
	       "I key c809f3e5 port 7 mark 16\n");
	config("[Peer]\r\nPublicKey = " KEY_B "\r\nAllowedIPs = 10.0.0.1/8, ::/0\r\nAllowedIPs = 1.2.3.4\r\n"
	       "Endpoint = 192.0.2.1:5\r\nPersistentKeepalive = off\r\nPresharedKey = " KEY_A "\r\n[peer]\r\nPublicKey=" KEY_A,
	       0, 0, "I\nP c5320103 psk c8 at 192.0.2.1:5 every 0 +10.0.0.1/8 +::/0 +1.2.3.4/32\nP c809f3e5\n");
}

static void file_refusals(void **state)
{
	(void)state;
	config("PrivateKey = " KEY_A "\n", NB_E_CONFIG, 1, "");
	config("[Interface]\nPrivateKey = abc\n", NB_E_CONFIG, 2, "");
	config("[Interface]\n\nListenPort = 1.5\n", NB_E_CONFIG, 3, "");
	config("[Interface]\nFwMark = no\n", NB_E_CONFIG, 2, "");
	config("[Interface]\nAddress = 10.0.0.1/24\n", NB_E_CONFIG, 2, "");
	config("[Interface]\n[Interface]\n", NB_E_CONFIG, 2, "");
	config("[Peer]\nAllowedIPs = ::/0\n[Peer]\n", NB_E_CONFIG, 3, "");
	config("[Peer]\n", NB_E_CONFIG, 2, "");
	config("[Peer]\nPublicKey = " KEY_A "\nAllowedIPs = -1.2.3.4\n", NB_E_CONFIG, 3, "");
	config("[Peer]\nPublicKey = " KEY_A "\nEndpoint = host:1\n", NB_E_CONFIG, 3, "");
	config("[Peer]\nPublicKey = " KEY_A "\nPersistentKeepalive = often\n", NB_E_CONFIG, 3, "");
	config("[Peer]\nPublicKey = " KEY_A "\nMTU = 1\n", NB_E_CONFIG, 3, "");
	config("[Peer]\nPublicKey = " KEY_A "\nwhat\n", NB_E_CONFIG, 3, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(socket_lines), cmocka_unit_test(socket_refusals), cmocka_unit_test(sink_stops),
		cmocka_unit_test(too_many_prefixes), cmocka_unit_test(files), cmocka_unit_test(file_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
