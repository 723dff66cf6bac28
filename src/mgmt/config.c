/* config.c - see config.h. Both formats become the same tree of JSON values, so that one reader knows the keys. */
#include "mgmt/config.h"

#include "base/buf.h"

#include <ctype.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#define YAML_DEPTH 16
#define YAML_NODES 4096
#define LIST_MAX 64

struct reader {
	struct mgmt_file *f;
	char *why;
	size_t cap;
	int err;
};

void mgmt_file_init(struct mgmt_file *f)
{
	memset(f, 0, sizeof(*f));
	nb_arena_init(&f->mem, 4 * MGMT_FILE_MAX);
}

void mgmt_file_fini(struct mgmt_file *f)
{
	nb_arena_fini(&f->mem);
}

static void fail(struct reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct reader *r, const char *fmt, ...)
{
	va_list ap;

	if (r->err)
		return;
	r->err = NB_E_CONFIG;
	va_start(ap, fmt);
	vsnprintf(r->why, r->cap, fmt, ap);
	va_end(ap);
}

static void note(struct reader *r, const char *text)
{
	if (r->f->n_notes < MGMT_FILE_NOTES)
		r->f->notes[r->f->n_notes++] = text;
}

/* ---- values */

static const json_t *get(const json_t *o, const char *key)
{
	return json_is_object(o) ? json_object_get(o, key) : NULL;
}

static const char *copy(struct reader *r, const char *text)
{
	const char *s = nb_arena_strndup(&r->f->mem, text, strlen(text));

	if (!s)
		fail(r, "the values are too long");
	return s;
}

/* A text that is not empty, or NULL. Numbers count as text, as YAML does not tell. */
static const char *text(struct reader *r, const json_t *o, const char *key)
{
	const json_t *v = get(o, key);
	char number[32];

	if (!v || json_is_null(v))
		return NULL;
	if (json_is_integer(v)) {
		snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(v));
		return copy(r, number);
	}
	if (!json_is_string(v)) {
		fail(r, "%s: expected a text", key);
		return NULL;
	}
	return *json_string_value(v) ? copy(r, json_string_value(v)) : NULL;
}

static bool truth(struct reader *r, const json_t *o, const char *key)
{
	const json_t *v = get(o, key);

	if (!v || json_is_null(v))
		return false;
	if (json_is_string(v) && (!strcmp(json_string_value(v), "true") || !strcmp(json_string_value(v), "false")))
		return json_string_value(v)[0] == 't';
	if (!json_is_boolean(v))
		fail(r, "%s: expected true or false", key);
	return json_is_true(v);
}

int64_t mgmt_duration(const char *s)
{
	static const struct {
		const char *unit;
		int64_t ns;
	} units[] = { { "ms", NB_MS }, { "h", 3600 * NB_SEC }, { "m", 60 * NB_SEC }, { "s", NB_SEC } };
	int64_t total = 0;

	if (!*s)
		return -1;
	while (*s) {
		int64_t n = 0;
		size_t u = 0;

		if (!isdigit((unsigned char)*s))
			return -1;
		for (; isdigit((unsigned char)*s); s++)
			if ((n = n * 10 + (*s - '0')) > 1000000000)
				return -1;
		while (u < 4 && strncmp(s, units[u].unit, strlen(units[u].unit)) != 0)
			u++;
		if (u == 4 || n > (INT64_MAX - total) / units[u].ns)
			return -1;
		total += n * units[u].ns;
		s += strlen(units[u].unit);
	}
	return total;
}

/* Nanoseconds as a number, or Go's text. A life of zero would never end or never begin: refused. */
static int64_t duration(struct reader *r, const json_t *o, const char *key)
{
	const json_t *v = get(o, key);
	int64_t ns;

	if (!v || json_is_null(v))
		return 0;
	ns = json_is_integer(v) ? json_integer_value(v) : json_is_string(v) ? mgmt_duration(json_string_value(v)) : -1;
	if (ns < NB_SEC) {
		fail(r, "%s: expected a duration such as 12h", key);
		return 0;
	}
	return ns;
}

/* Texts of an array; elem: member of its objects, NULL for an array of texts. */
static const char *const *texts(struct reader *r, const json_t *o, const char *key, const char *elem, size_t *n)
{
	const json_t *list = get(o, key);
	const char **out;

	*n = 0;
	if (!list || json_is_null(list))
		return NULL;
	if (!json_is_array(list) || json_array_size(list) > LIST_MAX) {
		fail(r, "%s: expected a list of at most %d", key, LIST_MAX);
		return NULL;
	}
	out = nb_arena_alloc(&r->f->mem, (json_array_size(list) + 1) * sizeof(*out));
	for (size_t i = 0; out && i < json_array_size(list); i++) {
		const json_t *v = json_array_get(list, i);
		const json_t *s = elem && json_is_object(v) ? get(v, elem) : v;

		if (!json_is_string(s) || !*json_string_value(s))
			fail(r, "%s: expected texts that are not empty", key);
		else
			out[(*n)++] = copy(r, json_string_value(s));
	}
	return out;
}

/* A malformed address would cost clients the whole message it is in: refuse it here. */
static void check_uris(struct reader *r, const char *key, const char *const *list, size_t n, const char *a, const char *b)
{
	for (size_t i = 0; i < n && !r->err; i++) {
		const char *s = list[i];

		if (strncmp(s, a, strlen(a)) != 0 && strncmp(s, b, strlen(b)) != 0)
			fail(r, "%s: %s must begin with %s or %s", key, s, a, b);
		else if (strchr(s, ' ') || !s[strcspn(s, ":") + 1])
			fail(r, "%s: %s has no host", key, s);
	}
}

/* ---- management.json */

static void read_turns(struct reader *r, const json_t *o)
{
	struct mgmt_config *c = &r->f->mgmt;
	const json_t *list = get(o, "Turns");
	size_t n;
	const char *const *uris = texts(r, o, "Turns", "URI", &n);
	struct mgmt_turn *turns = n ? nb_arena_alloc(&r->f->mem, n * sizeof(*turns)) : NULL;

	check_uris(r, "Turns", uris, n, "turn:", "turns:");
	for (size_t i = 0; turns && i < n && !r->err; i++) {
		const json_t *t = json_array_get(list, i);

		turns[i] = (struct mgmt_turn){ uris[i], text(r, t, "Username"), text(r, t, "Password") };
	}
	c->turns = turns;
	c->n_turns = turns ? n : 0;
	c->turn_ttl = duration(r, o, "CredentialsTTL");
	if (truth(r, o, "TimeBasedCredentials"))
		c->turn_secret = text(r, o, "Secret");
}

static void read_relay(struct reader *r, const json_t *o, const char *addresses, const char *ttl, const char *secret)
{
	struct mgmt_config *c = &r->f->mgmt;

	c->relay_urls = texts(r, o, addresses, NULL, &c->n_relay_urls);
	check_uris(r, addresses, c->relay_urls, c->n_relay_urls, "rel://", "rels://");
	c->relay_ttl = duration(r, o, ttl);
	c->relay_secret = text(r, o, secret);
	if (c->n_relay_urls && !c->relay_secret)
		fail(r, "%s: relays need their shared secret: give %s", addresses, secret);
}

static void read_flow(struct reader *r, const json_t *o, struct mgmt_flow *f)
{
	const json_t *c = get(o, "ProviderConfig");
	const char *provider = text(r, o, "Provider");

	if (!c || (provider && strcmp(provider, "none") == 0))
		return;
	f->client_id = text(r, c, "ClientID");
	f->client_secret = text(r, c, "ClientSecret");
	f->domain = text(r, c, "Domain");
	f->audience = text(r, c, "Audience");
	f->token_endpoint = text(r, c, "TokenEndpoint");
	f->device_auth_endpoint = text(r, c, "DeviceAuthEndpoint");
	f->authorization_endpoint = text(r, c, "AuthorizationEndpoint");
	f->scope = text(r, c, "Scope");
	if (!f->scope)
		f->scope = "openid";
	f->use_id_token = truth(r, c, "UseIDToken");
	f->disable_prompt_login = truth(r, c, "DisablePromptLogin");
	f->redirect_urls = texts(r, c, "RedirectURLs", NULL, &f->n_redirect_urls);
	if (json_is_integer(get(c, "LoginFlag")))
		f->login_flag = (uint32_t)json_integer_value(get(c, "LoginFlag"));
}

static void read_http(struct reader *r, const json_t *o)
{
	r->f->cert_file = text(r, o, "CertFile");
	r->f->key_file = text(r, o, "CertKey");
	if (text(r, o, "LetsEncryptDomain"))
		fail(r, "LetsEncryptDomain: automatic certificates are not supported by nestbox: get a certificate with an ACME "
			"client such as lego or certbot and give CertFile and CertKey");
	if (text(r, o, "OIDCConfigEndpoint") || text(r, o, "AuthIssuer"))
		note(r, "HttpConfig: an external identity provider is not supported in this version: join with setup keys");
}

static void read_management(struct reader *r, const json_t *root)
{
	struct mgmt_config *c = &r->f->mgmt;
	const char *proto = text(r, get(root, "Signal"), "Proto");

	c->stuns = texts(r, root, "Stuns", "URI", &c->n_stuns);
	check_uris(r, "Stuns", c->stuns, c->n_stuns, "stun:", "stuns:");
	read_turns(r, get(root, "TURNConfig"));
	read_relay(r, get(root, "Relay"), "Addresses", "CredentialsTTL", "Secret");
	c->signal_uri = text(r, get(root, "Signal"), "URI");
	c->signal_tls = proto && strcmp(proto, "https") == 0;
	if (c->signal_uri && (strstr(c->signal_uri, "://") || !strchr(c->signal_uri, ':')))
		fail(r, "Signal: URI %s must be host:port", c->signal_uri);
	r->f->data_dir = text(r, root, "Datadir");
	read_http(r, get(root, "HttpConfig"));
	read_flow(r, get(root, "DeviceAuthorizationFlow"), &c->device);
	read_flow(r, get(root, "PKCEAuthorizationFlow"), &c->pkce);
	c->no_default_policy = truth(r, root, "DisableDefaultPolicy");
	if (get(root, "StoreConfig") || get(root, "DataStoreEncryptionKey"))
		note(r, "StoreConfig, DataStoreEncryptionKey: nestbox has its own store; accounts of a stock database are not read");
	if (get(root, "IdpManagerConfig"))
		note(r, "IdpManagerConfig: not supported by nestbox: user profiles come from tokens");
}

static bool name_char(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

/* Replace {{ .NAME }}; anything else in braces is left for the JSON parser to complain about. */
static void expand(struct nb_buf *out, struct nb_bytes in, const char *(*env)(const char *name))
{
	for (size_t i = 0; i < in.n;) {
		size_t k = i + 2, start;
		char name[64];

		if (in.n - i < 2 || in.p[i] != '{' || in.p[i + 1] != '{') {
			nb_buf_u8(out, in.p[i++]);
			continue;
		}
		while (k < in.n && in.p[k] == ' ')
			k++;
		start = k + (k < in.n && in.p[k] == '.');
		for (k = start; k < in.n && name_char((char)in.p[k]);)
			k++;
		size_t n = k - start;

		while (k < in.n && in.p[k] == ' ')
			k++;
		if (n == 0 || n >= sizeof(name) || in.n - k < 2 || in.p[k] != '}' || in.p[k + 1] != '}') {
			nb_buf_u8(out, in.p[i++]);
			continue;
		}
		memcpy(name, in.p + start, n);
		name[n] = '\0';
		nb_buf_str(out, env && env(name) ? env(name) : "");
		i = k + 2;
	}
}

int mgmt_file_json(struct mgmt_file *f, struct nb_bytes in, const char *(*env)(const char *name), char *why, size_t cap)
{
	struct reader r = { f, why, cap, 0 };
	struct nb_buf b;
	json_error_t e;
	json_t *root;

	nb_buf_init(&b, MGMT_FILE_MAX);
	expand(&b, in, env);
	root = b.err ? NULL : json_loadb((const char *)b.p, b.n, JSON_REJECT_DUPLICATES, &e);
	if (b.err)
		fail(&r, "the file is too long");
	else if (!root)
		fail(&r, "line %d: %s", e.line, e.text);
	else if (!json_is_object(root))
		fail(&r, "expected an object");
	else
		read_management(&r, root);
	json_decref(root);
	nb_buf_fini(&b);
	return r.err;
}

/* ---- config.yaml */

struct yaml_walk {
	yaml_document_t *doc;
	int nodes;
};

static json_t *yaml_scalar(const yaml_node_t *n)
{
	const char *s = (const char *)n->data.scalar.value;

	if (n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
		if (strcmp(s, "true") == 0 || strcmp(s, "false") == 0)
			return json_boolean(s[0] == 't');
		if (!*s || strcmp(s, "null") == 0 || strcmp(s, "~") == 0)
			return json_null();
	}
	return json_stringn(s, n->data.scalar.length);
}

/* Anchors make YAML a graph: the number of visits is capped, not the number of nodes. */
static json_t *yaml_value(struct yaml_walk *w, int index, int depth)
{
	const yaml_node_t *n = yaml_document_get_node(w->doc, index);
	json_t *out;

	if (!n || depth > YAML_DEPTH || ++w->nodes > YAML_NODES)
		return NULL;
	if (n->type == YAML_SCALAR_NODE)
		return yaml_scalar(n);
	if (n->type == YAML_SEQUENCE_NODE) {
		out = json_array();
		for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++)
			if (json_array_append_new(out, yaml_value(w, *i, depth + 1)))
				goto fail;
		return out;
	}
	if (n->type != YAML_MAPPING_NODE)
		return NULL;
	out = json_object();
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
		const yaml_node_t *key = yaml_document_get_node(w->doc, p->key);

		if (!key || key->type != YAML_SCALAR_NODE ||
		    json_object_set_new(out, (const char *)key->data.scalar.value, yaml_value(w, p->value, depth + 1)))
			goto fail;
	}
	return out;
fail:
	json_decref(out);
	return NULL;
}

static const char *port_list(struct reader *r, const json_t *o, const char *key)
{
	const json_t *list = get(o, key);
	char out[256] = "";

	if (!json_is_array(list))
		return text(r, o, key);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *s = json_string_value(json_array_get(list, i));

		if (!s || strlen(out) + strlen(s) + 2 > sizeof(out)) {
			fail(r, "%s: expected a list of ports", key);
			return NULL;
		}
		snprintf(out + strlen(out), sizeof(out) - strlen(out), "%s%s", i ? "," : "", s);
	}
	return *out ? copy(r, out) : NULL;
}

static void read_signal_uri(struct reader *r, const json_t *o)
{
	const char *uri = text(r, o, "signalUri"), *at;
	struct mgmt_config *c = &r->f->mgmt;
	bool port;

	if (!uri)
		return;
	at = strstr(uri, "://");
	c->signal_tls = at && strncmp(uri, "https", 5) == 0;
	if (at)
		uri = at + 3;
	port = strchr(uri, ':') != NULL;
	c->signal_uri = port ? uri : nb_arena_printf(&r->f->mem, "%s:%d", uri, c->signal_tls ? 443 : 80);
	r->f->other_signal = true;
}

static void read_server(struct reader *r, const json_t *o)
{
	struct mgmt_file *f = r->f;
	const json_t *tls = get(o, "tls"), *owner = get(get(o, "auth"), "owner");

	f->listen = text(r, o, "listenAddress");
	f->external_url = text(r, o, "exposedAddress");
	f->stun_ports = port_list(r, o, "stunPorts");
	f->log_level = text(r, o, "logLevel");
	f->log_file = text(r, o, "logFile");
	f->data_dir = text(r, o, "dataDir");
	f->secret = text(r, o, "authSecret");
	f->cert_file = text(r, tls, "certFile");
	f->key_file = text(r, tls, "keyFile");
	if (truth(r, get(tls, "letsencrypt"), "enabled"))
		fail(r, "tls.letsencrypt: automatic certificates are not supported by nestbox: get a certificate with an ACME client "
			"such as lego or certbot and give certFile and keyFile");
	f->mgmt.stuns = texts(r, o, "stuns", "uri", &f->mgmt.n_stuns);
	check_uris(r, "stuns", f->mgmt.stuns, f->mgmt.n_stuns, "stun:", "stuns:");
	f->other_stun = f->mgmt.n_stuns > 0;
	read_relay(r, get(o, "relays"), "addresses", "credentialsTTL", "secret");
	f->other_relay = f->mgmt.n_relay_urls > 0;
	read_signal_uri(r, o);
	if (get(o, "store") || get(o, "activityStore") || get(o, "authStore"))
		note(r, "store: nestbox has its own store; accounts of a stock database are not read");
	if (owner)
		note(r, "auth.owner: bcrypt hashes are not read: make the owner with POST /api/setup or the setup command");
	f->metrics_port = text(r, o, "metricsPort");
	if (get(o, "healthcheckAddress"))
		note(r, "healthcheckAddress: there is no health endpoint in this version");
}

int mgmt_file_yaml(struct mgmt_file *f, struct nb_bytes in, char *why, size_t cap)
{
	struct reader r = { f, why, cap, 0 };
	struct yaml_walk w = { 0 };
	yaml_document_t doc;
	yaml_parser_t parser;
	json_t *root;

	if (in.n > MGMT_FILE_MAX || !yaml_parser_initialize(&parser)) {
		fail(&r, "the file is too long");
		return r.err;
	}
	yaml_parser_set_input_string(&parser, in.p, in.n);
	if (!yaml_parser_load(&parser, &doc)) {
		fail(&r, "line %zu: %s", parser.problem_mark.line + 1, parser.problem ? parser.problem : "not YAML");
		yaml_parser_delete(&parser);
		return r.err;
	}
	w.doc = &doc;
	root = yaml_document_get_root_node(&doc) ? yaml_value(&w, 1, 0) : NULL;
	if (!json_is_object(root) || !json_is_object(get(root, "server")))
		fail(&r, "expected a mapping with the key \"server\"");
	else
		read_server(&r, get(root, "server"));
	json_decref(root);
	yaml_document_delete(&doc);
	yaml_parser_delete(&parser);
	return r.err;
}
