/* wgdev_text.c - see wgdev_int.h. Values are refused rather than guessed at. Tests: tests/unit/run_wgdev_test.c,
 * tests/fuzz/wgdev_fuzz.c */
#include "run/wgdev_int.h"

#include "base/err.h"

#include <stdlib.h>
#include <strings.h>

#define VALUE_MAX 4096

/* --- values --- */

static int number(uint32_t *out, const char *text, int base, uint32_t max)
{
	char *end;
	unsigned long long v;	/* ten digits, long has 32 bits on some processors */

	if (text[0] < '0' || text[0] > '9' || strlen(text) > 10)
		return NB_E_BAD;
	v = strtoull(text, &end, base);
	if (*end || v > max)
		return NB_E_BAD;
	*out = (uint32_t)v;
	return 0;
}

static int port_value(uint16_t *out, const char *text)
{
	uint32_t v;

	if (number(&v, text, 10, 65535))
		return NB_E_BAD;
	*out = (uint16_t)v;
	return 0;
}

static int key_text(uint8_t key[NB_KEY_LEN], const char *text)
{
	size_t n;

	if (strlen(text) != NB_BASE64_LEN(NB_KEY_LEN) || nb_base64_decode(key, NB_KEY_LEN, &n, nb_bytes_str(text)) ||
	    n != NB_KEY_LEN)
		return NB_E_BAD;
	return 0;
}

static int endpoint_value(struct nb_endpoint *e, const char *text)
{
	return nb_endpoint_parse(e, text) || !e->port ? NB_E_BAD : 0;
}

/* "+PREFIX", "PREFIX" or "-PREFIX". */
static int allowed_value(struct run_wgdev_peer *p, const char *text)
{
	bool del = *text == '-';
	size_t *n = del ? &p->ndel : &p->nadd;

	if (*n == RUN_WGDEV_PREFIXES)
		return NB_E_FULL;
	return nb_prefix_parse((del ? p->del : p->add) + (*n)++, text + (*text == '-' || *text == '+')) ? NB_E_BAD : 0;
}

/* --- the socket's lines --- */

/* Where the reading of a text stands. */
struct reader {
	const struct run_wgdev_sink *sink;
	struct run_wgdev_iface iface;
	struct run_wgdev_peer *peer;
	bool in_peer, iface_told;
};

static int tell_iface(struct reader *r)
{
	int err = !r->iface_told && r->sink ? r->sink->iface(r->sink->ctx, &r->iface) : 0;

	r->iface_told = true;
	return err;
}

static int tell_peer(struct reader *r)
{
	int err = r->in_peer && r->sink ? r->sink->peer(r->sink->ctx, r->peer) : 0;

	nb_wipe(r->peer, sizeof *r->peer);
	r->in_peer = false;
	return err;
}

static int flag_value(bool *out, const char *text)
{
	*out = true;
	return strcmp(text, "true") == 0 ? 0 : NB_E_BAD;
}

static int set_iface_line(struct run_wgdev_iface *i, const char *name, const char *value)
{
	if (strcmp(name, "private_key") == 0) {
		i->set_key = true;
		return nb_hex_decode(i->key, NB_KEY_LEN, nb_bytes_str(value));
	}
	if (strcmp(name, "listen_port") == 0) {
		i->set_port = true;
		return port_value(&i->port, value);
	}
	if (strcmp(name, "fwmark") == 0) {
		i->set_mark = true;
		return number(&i->mark, value, 10, UINT32_MAX);
	}
	if (strcmp(name, "replace_peers") == 0)
		return flag_value(&i->replace_peers, value);
	return NB_E_BAD;
}

static int set_peer_line(struct run_wgdev_peer *p, const char *name, const char *value)
{
	uint32_t v;

	if (strcmp(name, "remove") == 0)
		return flag_value(&p->remove, value);
	if (strcmp(name, "update_only") == 0)
		return flag_value(&p->update_only, value);
	if (strcmp(name, "replace_allowed_ips") == 0) {
		/* what was named before it in the same request goes as well */
		p->nadd = p->ndel = 0;
		return flag_value(&p->replace_allowed, value);
	}
	if (strcmp(name, "preshared_key") == 0) {
		p->set_psk = true;
		return nb_hex_decode(p->psk, NB_KEY_LEN, nb_bytes_str(value));
	}
	if (strcmp(name, "endpoint") == 0) {
		p->set_endpoint = true;
		return endpoint_value(&p->endpoint, value);
	}
	if (strcmp(name, "persistent_keepalive_interval") == 0) {
		p->set_keepalive = true;
		return port_value(&p->keepalive, value);
	}
	if (strcmp(name, "allowed_ip") == 0)
		return allowed_value(p, value);
	if (strcmp(name, "protocol_version") == 0)
		return number(&v, value, 10, UINT32_MAX) || v != 1 ? NB_E_BAD : 0;
	return NB_E_BAD;
}

static int set_line(struct reader *r, const char *name, const char *value)
{
	int err;

	if (strcmp(name, "public_key") == 0) {
		err = r->in_peer ? tell_peer(r) : tell_iface(r);
		r->in_peer = true;
		return err ? err : nb_hex_decode(r->peer->key, NB_KEY_LEN, nb_bytes_str(value));
	}
	return r->in_peer ? set_peer_line(r->peer, name, value) : set_iface_line(&r->iface, name, value);
}

/* Cut the next line off in; a copy without its end goes to out. */
static int next_line(struct nb_bytes *in, char out[VALUE_MAX])
{
	const uint8_t *end = memchr(in->p, '\n', in->n);
	size_t n = end ? (size_t)(end - in->p) : in->n;

	if (n >= VALUE_MAX || memchr(in->p, 0, n))
		return NB_E_BAD;
	memcpy(out, in->p, n);
	out[n] = 0;
	in->p += n + (end != NULL);
	in->n -= n + (end != NULL);
	return 0;
}

static int set_lines(struct nb_bytes in, struct reader *r)
{
	char line[VALUE_MAX], *eq;
	int err = 0;

	while (in.n && !err) {
		err = next_line(&in, line);
		if (err)
			break;
		eq = strchr(line, '=');
		if (!eq) {
			err = NB_E_BAD;
			break;
		}
		*eq = 0;
		err = set_line(r, line, eq + 1);
	}
	if (!err)
		err = r->in_peer ? tell_peer(r) : tell_iface(r);
	nb_wipe(line, sizeof line);
	return err;
}

/* A reader over heap memory for the large peer. NULL without memory. */
static struct reader *reader_new(void)
{
	struct reader *r = calloc(1, sizeof *r);

	if (r)
		r->peer = calloc(1, sizeof *r->peer);
	if (r && !r->peer) {
		free(r);
		return NULL;
	}
	return r;
}

static void reader_free(struct reader *r)
{
	nb_wipe(r->peer, sizeof *r->peer);
	free(r->peer);
	nb_wipe(r, sizeof *r);
	free(r);
}

int run_wgdev_set(struct nb_bytes lines, const struct run_wgdev_sink *sink)
{
	struct reader *r;
	int err = 0;

	/* Once to see that all is well, once in earnest. */
	for (int pass = 0; pass < 2 && !err; pass++) {
		r = reader_new();
		if (!r)
			return NB_E_NOMEM;
		r->sink = pass ? sink : NULL;
		err = set_lines(lines, r);
		reader_free(r);
	}
	return err;
}

/* --- the file --- */

static char *trim(char *s)
{
	char *end;

	s += strspn(s, " \t\r");
	end = s + strlen(s);
	while (end > s && strchr(" \t\r", end[-1]))
		*--end = 0;
	return s;
}

static const char *config_iface_line(struct run_wgdev_iface *i, const char *name, const char *value)
{
	if (strcasecmp(name, "PrivateKey") == 0) {
		i->set_key = true;
		return key_text(i->key, value) ? "PrivateKey is not 44 characters of base64" : NULL;
	}
	if (strcasecmp(name, "ListenPort") == 0) {
		i->set_port = true;
		return port_value(&i->port, value) ? "ListenPort is not a port number" : NULL;
	}
	if (strcasecmp(name, "FwMark") == 0) {
		i->set_mark = true;
		if (strcasecmp(value, "off") == 0)
			return NULL;
		return number(&i->mark, value, 0, UINT32_MAX) ? "FwMark is neither a number nor off" : NULL;
	}
	return "not a key of [Interface] (addresses, MTU and the like are wg-quick's: use `ip` for them)";
}

static const char *config_allowed(struct run_wgdev_peer *p, char *value)
{
	char *save, *part;
	int err;

	for (part = strtok_r(value, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
		part = trim(part);
		err = *part == '-' || *part == '+' ? NB_E_BAD : allowed_value(p, part);
		if (err)
			return err == NB_E_FULL ? "too many AllowedIPs" : "AllowedIPs are addresses such as 10.0.0.0/24";
	}
	return NULL;
}

static const char *config_peer_line(struct run_wgdev_peer *p, const char *name, char *value)
{
	if (strcasecmp(name, "PublicKey") == 0)
		return key_text(p->key, value) ? "PublicKey is not 44 characters of base64" : NULL;
	if (strcasecmp(name, "PresharedKey") == 0) {
		p->set_psk = true;
		return key_text(p->psk, value) ? "PresharedKey is not 44 characters of base64" : NULL;
	}
	if (strcasecmp(name, "Endpoint") == 0) {
		p->set_endpoint = true;
		return endpoint_value(&p->endpoint, value) ?
			       "Endpoint is not ADDRESS:PORT (names are not looked up here)" : NULL;
	}
	if (strcasecmp(name, "PersistentKeepalive") == 0) {
		p->set_keepalive = true;
		if (strcasecmp(value, "off") == 0)
			return NULL;
		return port_value(&p->keepalive, value) ? "PersistentKeepalive is neither seconds nor off" : NULL;
	}
	if (strcasecmp(name, "AllowedIPs") == 0)
		return config_allowed(p, value);
	return "not a key of [Peer]";
}

static bool peer_has_key(const struct run_wgdev_peer *p)
{
	static const uint8_t zero[NB_KEY_LEN];

	return memcmp(p->key, zero, NB_KEY_LEN) != 0;
}

/* A section begins, or the file ends: hand over what came before. */
static const char *config_section_done(struct reader *r, int *err)
{
	if (r->in_peer && !peer_has_key(r->peer))
		return "the [Peer] section above has no PublicKey";
	*err = r->in_peer ? tell_peer(r) : r->sink ? tell_iface(r) : 0;
	return NULL;
}

static const char *config_line(struct reader *r, char *line, bool *section, int *err)
{
	char *eq, *hash = strchr(line, '#');
	const char *why;

	if (hash)
		*hash = 0;
	line = trim(line);
	if (!*line)
		return NULL;
	if (strcasecmp(line, "[Interface]") == 0) {
		if (*section)
			return "[Interface] comes first, and once";
		*section = true;
		return NULL;
	}
	if (strcasecmp(line, "[Peer]") == 0) {
		why = config_section_done(r, err);
		*section = r->in_peer = true;
		return why;
	}
	eq = strchr(line, '=');
	if (!eq)
		return "neither a section nor NAME = VALUE";
	if (!*section)
		return "a section such as [Interface] must come first";
	*eq = 0;
	return r->in_peer ? config_peer_line(r->peer, trim(line), trim(eq + 1)) :
			    config_iface_line(&r->iface, trim(line), trim(eq + 1));
}

static int config_lines(struct nb_bytes in, struct reader *r, unsigned *number_of_line, const char **why)
{
	char line[VALUE_MAX];
	bool section = false;
	int err = 0;

	*why = NULL;
	for (*number_of_line = 1; in.n && !err && !*why; ++*number_of_line) {
		if (next_line(&in, line)) {
			*why = "the line is too long, or no text";
			break;
		}
		*why = config_line(r, line, &section, &err);
		if (*why || err)
			break;
	}
	if (!err && !*why)
		*why = config_section_done(r, &err);
	nb_wipe(line, sizeof line);
	return *why ? NB_E_CONFIG : err;
}

int run_wgdev_config(struct nb_bytes text, const struct run_wgdev_sink *sink, unsigned *line, const char **why)
{
	struct reader *r;
	int err = 0;

	for (int pass = 0; pass < 2 && !err; pass++) {
		r = reader_new();
		if (!r)
			return NB_E_NOMEM;
		r->sink = pass ? sink : NULL;
		err = config_lines(text, r, line, why);
		reader_free(r);
	}
	return err;
}
