/* profiles.c - profiles as files: default.json, USER/ID.json, active_profile.json. Names are free text
 * inside the file; IDs are file names and therefore checked. Files are reached through the daemon's ops.
 * Source: spec/client.md 1.6, 2.1. Tests: tests/unit/client_daemon_test.c. */
#include "client/daemon_int.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/log.h"
#include "grpc/grpc.h"

#define NAME_MAX_CHARS 128
#define ID_BYTES 16

static bool is_default(const char *id)
{
	return strcmp(id, CLIENT_DEFAULT_PROFILE) == 0;
}

/* Letters of any script are allowed in stock; bytes of UTF-8 count as letters here. */
static bool id_char(unsigned char c)
{
	return isalnum(c) || c == '_' || c == '-' || c >= 0x80;
}

static bool valid_id(const char *id)
{
	size_t n = strlen(id);

	if (n == 0 || n >= CLIENT_PROFILE_ID_LEN)
		return false;
	while (*id && id_char((unsigned char)*id))
		id++;
	return !*id;
}

/* The folder of a user: the name without what does not belong into a file name. */
static int user_dir(const struct client_daemon *d, const char *user, char *out, size_t cap)
{
	char clean[USER_MAX];
	size_t n = 0;

	for (; *user && n < sizeof clean - 1; user++)
		if (id_char((unsigned char)*user))
			clean[n++] = *user;
	clean[n] = '\0';
	if (n == 0)
		return NB_E_ARG;
	return snprintf(out, cap, "%s/%s", d->state_dir, clean) < (int)cap ? 0 : NB_E_ARG;
}

int client_profile_path(const struct client_daemon *d, const struct profile *p, const char *suffix, char *out,
			size_t cap)
{
	char dir[PATH_MAX];

	if (is_default(p->id)) {
		if (!strcmp(suffix, ".json"))
			return snprintf(out, cap, "%s", d->default_profile) < (int)cap ? 0 : NB_E_ARG;
		/* ".state.json" of the built-in profile is just state.json */
		return snprintf(out, cap, "%s/%s", d->state_dir, suffix + 1) < (int)cap ? 0 : NB_E_ARG;
	}
	if (!valid_id(p->id) || user_dir(d, p->user, dir, sizeof dir))
		return NB_E_ARG;
	return snprintf(out, cap, "%s/%s%s", dir, p->id, suffix) < (int)cap ? 0 : NB_E_ARG;
}

int client_profile_load(struct client_daemon *d, const struct profile *p, struct client_config *c, char *why)
{
	char path[PATH_MAX], detail[120];
	struct nb_buf b;
	int err = client_profile_path(d, p, ".json", path, sizeof path);

	if (err) {
		snprintf(why, WHY_MAX, "invalid profile ID: \"%s\"", p->id);
		return err;
	}
	nb_buf_init(&b, CLIENT_FILE_MAX);
	err = d->cfg.ops->read(d->cfg.arg, path, &b);
	if (err) {
		snprintf(why, WHY_MAX, "cannot read %.200s: %s", path, nb_strerror(err));
	} else {
		err = client_config_parse(c, nb_buf_view(&b), detail, sizeof detail);
		if (err)
			snprintf(why, WHY_MAX, "%.140s: %s; correct it, or move it away and log in again", path, detail);
	}
	nb_buf_fini(&b);
	return err;
}

int client_profile_save(struct client_daemon *d, const struct profile *p, const struct client_config *c, char *why)
{
	char path[PATH_MAX];
	struct nb_buf b;
	int err = client_profile_path(d, p, ".json", path, sizeof path);

	if (err) {
		snprintf(why, WHY_MAX, "invalid profile ID: \"%s\"", p->id);
		return err;
	}
	nb_buf_init(&b, CLIENT_FILE_MAX);
	err = client_config_encode(c, &b);
	if (!err)
		err = d->cfg.ops->write(d->cfg.arg, path, nb_buf_view(&b));
	nb_buf_fini(&b);
	if (err)
		snprintf(why, WHY_MAX, "cannot write %.200s: %s", path, nb_strerror(err));
	return err;
}

/* --- names */

/* Control characters out, spaces at both ends out, at most 128 characters. Returns NULL or what is wrong. */
static const char *clean_name(char out[NAME_MAX_BYTES], const char *in)
{
	size_t n = 0, chars = 0;

	while (*in) {
		unsigned char c = (unsigned char)*in, next = (unsigned char)in[1];

		if (c == 0xc2 && next >= 0x80 && next < 0xa0) {
			in += 2;
			continue;
		}
		in++;
		if (c < 0x20 || c == 0x7f || (n == 0 && c == ' '))
			continue;
		chars += (c & 0xc0) != 0x80;
		if (chars > NAME_MAX_CHARS || n >= NAME_MAX_BYTES - 1)
			return "name exceeds 128 characters";
		out[n++] = (char)c;
	}
	while (n && out[n - 1] == ' ')
		n--;
	out[n] = '\0';
	return n ? NULL : "name is empty after sanitization";
}

/* The name inside a profile file; empty when there is none. */
static void read_name(struct client_daemon *d, const char *path, char out[NAME_MAX_BYTES])
{
	struct nb_buf b;
	json_t *doc, *name;

	out[0] = '\0';
	nb_buf_init(&b, CLIENT_FILE_MAX);
	if (d->cfg.ops->read(d->cfg.arg, path, &b) == 0) {
		doc = json_loadb((const char *)b.p, b.n, 0, NULL);
		name = json_object_get(doc, "Name");
		if (json_is_string(name) && json_string_length(name) < NAME_MAX_BYTES)
			snprintf(out, NAME_MAX_BYTES, "%s", json_string_value(name));
		json_decref(doc);
	}
	nb_buf_fini(&b);
}

/* --- lists and handles */

struct listing {
	struct client_daemon *d;
	struct profile_list *out;
	const char *user, *dir;
	int err;
};

static void add_file(void *ctx, const char *file)
{
	struct listing *l = ctx;
	char path[PATH_MAX];
	struct profile *p;
	size_t n = strlen(file);

	if (n < 6 || n - 5 >= CLIENT_PROFILE_ID_LEN || strcmp(file + n - 5, ".json") || l->err)
		return;
	if (l->out->n >= PROFILES_MAX) {
		l->err = NB_E_FULL;
		return;
	}
	p = &l->out->v[l->out->n];
	memset(p, 0, sizeof *p);
	memcpy(p->id, file, n - 5);
	/* ID.state.json and ID.prefs.json have a dot left over and are no IDs */
	if (!valid_id(p->id) || is_default(p->id) ||
	    snprintf(path, sizeof path, "%s/%s", l->dir, file) >= (int)sizeof path)
		return;
	snprintf(p->user, sizeof p->user, "%s", l->user);
	read_name(l->d, path, p->name);
	if (!p->name[0])
		snprintf(p->name, sizeof p->name, "%s", p->id);
	p->active = !strcmp(p->id, l->d->active.id);
	l->out->n++;
}

static int by_name(const void *a, const void *b)
{
	const struct profile *x = a, *y = b;
	int c = strcmp(x->name, y->name);

	return c ? c : strcmp(x->id, y->id);
}

int client_profile_list(struct client_daemon *d, const char *user, struct profile_list *out)
{
	char dir[PATH_MAX];
	struct listing l = { .d = d, .out = out, .user = user, .dir = dir };
	int err;

	out->n = 0;
	out->v = calloc(PROFILES_MAX, sizeof *out->v);
	if (!out->v)
		return NB_E_NOMEM;
	snprintf(out->v[0].id, sizeof out->v[0].id, CLIENT_DEFAULT_PROFILE);
	read_name(d, d->default_profile, out->v[0].name);
	if (!out->v[0].name[0])
		snprintf(out->v[0].name, sizeof out->v[0].name, CLIENT_DEFAULT_PROFILE);
	out->v[0].active = is_default(d->active.id);
	out->n = 1;
	if (user_dir(d, user, dir, sizeof dir))
		return 0;
	err = d->cfg.ops->list(d->cfg.arg, dir, add_file, &l);
	if (err && err != NB_E_NOTFOUND)
		l.err = err;
	qsort(out->v + 1, out->n - 1, sizeof *out->v, by_name);
	return l.err;
}

void client_profile_list_free(struct profile_list *l)
{
	free(l->v);
	l->v = NULL;
	l->n = 0;
}

static size_t matches(const struct profile_list *l, const char *handle, bool prefix, struct profile *out)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++) {
		const struct profile *p = &l->v[i];
		bool hit = prefix ? !is_default(p->id) && !strncmp(p->id, handle, strlen(handle)) :
			!strcmp(p->name, handle);

		if (hit && n++ == 0)
			*out = *p;
	}
	return n;
}

static int pick(const struct profile_list *l, const char *handle, struct profile *out, char *why)
{
	size_t n;

	for (size_t i = 0; i < l->n; i++) {
		if (!strcmp(l->v[i].id, handle)) {
			*out = l->v[i];
			return GRPC_OK;
		}
	}
	n = matches(l, handle, false, out);
	if (n > 1) {
		snprintf(why, WHY_MAX, "name \"%.100s\" is ambiguous (%zu profiles share this name)", handle, n);
		return GRPC_INVALID_ARGUMENT;
	}
	if (n == 0)
		n = matches(l, handle, true, out);
	if (n > 1) {
		snprintf(why, WHY_MAX, "ID prefix \"%.64s\" is ambiguous (matches %zu profiles)", handle, n);
		return GRPC_INVALID_ARGUMENT;
	}
	if (n == 1)
		return GRPC_OK;
	snprintf(why, WHY_MAX, "profile \"%.200s\" not found", handle);
	return GRPC_NOT_FOUND;
}

int client_profile_resolve(struct client_daemon *d, const char *handle, const char *user, struct profile *out,
			   char *why)
{
	struct profile_list l;
	int status, err;

	if (!*handle) {
		snprintf(why, WHY_MAX, "resolve profile: profile handle is empty");
		return GRPC_UNKNOWN;
	}
	err = client_profile_list(d, user, &l);
	if (err) {
		snprintf(why, WHY_MAX, "resolve profile: cannot list profiles: %s", nb_strerror(err));
		status = GRPC_UNKNOWN;
	} else {
		status = pick(&l, handle, out, why);
	}
	client_profile_list_free(&l);
	return status;
}

/* --- changes */

int client_profile_create(struct client_daemon *d, const char *name, const char *user, struct profile *out, char *why)
{
	uint8_t id[ID_BYTES];
	struct client_config c;
	const char *wrong;
	int err;

	memset(out, 0, sizeof *out);
	wrong = clean_name(out->name, name);
	if (wrong || strlen(user) >= sizeof out->user) {
		snprintf(why, WHY_MAX, "invalid profile name: %s", wrong ? wrong : "user name too long");
		return NB_E_ARG;
	}
	d->cfg.random(d->cfg.random_ctx, id, sizeof id);
	nb_hex_encode(out->id, nb_bytes(id, sizeof id));
	snprintf(out->user, sizeof out->user, "%s", user);
	client_config_init(&c, d->cfg.random, d->cfg.random_ctx);
	if (snprintf(c.name, sizeof c.name, "%s", out->name) >= (int)sizeof c.name) {
		snprintf(why, WHY_MAX, "invalid profile name: longer than %zu bytes", sizeof c.name - 1);
		err = NB_E_ARG;
	} else {
		err = client_profile_save(d, out, &c, why);
	}
	client_config_fini(&c);
	return err;
}

int client_profile_rename(struct client_daemon *d, const struct profile *p, const char *name, char *why)
{
	char clean[NAME_MAX_BYTES];
	struct client_config c;
	const char *wrong = clean_name(clean, name);
	int err;

	if (!wrong && strlen(clean) >= sizeof c.name)
		wrong = "name is too long";
	if (wrong) {
		snprintf(why, WHY_MAX, "invalid profile name: %s", wrong);
		return NB_E_ARG;
	}
	err = client_profile_load(d, p, &c, why);
	if (err)
		return err;
	snprintf(c.name, sizeof c.name, "%.*s", (int)sizeof c.name - 1, clean);
	err = client_profile_save(d, p, &c, why);
	client_config_fini(&c);
	return err;
}

void client_profile_remove(struct client_daemon *d, const struct profile *p)
{
	static const char *const suffixes[] = { ".json", ".state.json", ".prefs.json" };
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
		if (!client_profile_path(d, p, suffixes[i], path, sizeof path))
			d->cfg.ops->remove(d->cfg.arg, path);
}

static void active_path(const struct client_daemon *d, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s/active_profile.json", d->state_dir);
}

int client_active_write(struct client_daemon *d, const struct profile *p)
{
	char path[PATH_MAX], *text;
	json_t *doc = json_pack("{s:s,s:s}", "name", p->id, "username", p->user);
	int err = NB_E_NOMEM;

	text = doc ? json_dumps(doc, JSON_INDENT(4)) : NULL;
	active_path(d, path);
	if (text)
		err = d->cfg.ops->write(d->cfg.arg, path, nb_bytes_str(text));
	free(text);
	json_decref(doc);
	return err;
}

/* Without a usable file the built-in profile is active. */
void client_active_read(struct client_daemon *d)
{
	char path[PATH_MAX];
	const char *id = "", *user = "";
	struct nb_buf b;
	json_t *doc = NULL;

	memset(&d->active, 0, sizeof d->active);
	active_path(d, path);
	nb_buf_init(&b, 65536);
	if (d->cfg.ops->read(d->cfg.arg, path, &b) == 0)
		doc = json_loadb((const char *)b.p, b.n, 0, NULL);
	json_unpack(doc, "{s:s,s?s}", "name", &id, "username", &user);
	if (valid_id(id) && strlen(user) < sizeof d->active.user && (is_default(id) || *user)) {
		snprintf(d->active.id, sizeof d->active.id, "%s", id);
		snprintf(d->active.user, sizeof d->active.user, "%s", user);
	} else {
		if (doc)
			nb_warn("%s names no usable profile; the profile %s is used", path, CLIENT_DEFAULT_PROFILE);
		snprintf(d->active.id, sizeof d->active.id, CLIENT_DEFAULT_PROFILE);
		client_active_write(d, &d->active);
	}
	json_decref(doc);
	nb_buf_fini(&b);
}
