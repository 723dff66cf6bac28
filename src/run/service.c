/* service.c - see service.h. Every value that comes from the command line is quoted for the file it goes
 * into: systemd's own quoting, or the shell's for the other two. */
#include "run/service.h"

#include <ctype.h>
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "base/err.h"
#include "os/file.h"
#include "os/socket.h"

#define NETWORKD_DIR "/etc/systemd/networkd.conf.d"
#define NETWORKD_FILE NETWORKD_DIR "/99-netbird.conf"

extern char **environ;

/* --- what the machine has */

static bool exists(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0;
}

static int find_init(enum run_init *out)
{
	if (exists("/run/systemd/system"))
		*out = RUN_INIT_SYSTEMD;
	else if (exists("/etc/rc.common") && exists("/sbin/procd"))
		*out = RUN_INIT_PROCD;
	else if (exists("/sbin/openrc-run") || exists("/run/openrc"))
		*out = RUN_INIT_OPENRC;
	else
		return NB_E_UNSUPPORTED;
	return 0;
}

static void params_path(const struct run_service *s, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%.*s/service.json", PATH_MAX - 16, s->state_dir);
}

static int load_params(struct run_service *s, char *why, size_t why_cap)
{
	char path[PATH_MAX];
	struct nb_buf b;
	json_error_t e;
	int err;

	params_path(s, path);
	nb_buf_init(&b, 65536);
	err = os_read_file(&b, path);
	if (!err) {
		s->params = json_loadb((const char *)b.p, b.n, 0, &e);
		if (!json_is_object((json_t *)s->params)) {
			json_decref(s->params);
			s->params = NULL;
			snprintf(why, why_cap, "parse service params %.200s: not a JSON object; netbird service reset-params "
				 "removes it", path);
			err = NB_E_CONFIG;
		}
	} else if (err == NB_E_NOTFOUND || err == NB_E_PERM) {
		s->params = json_object();
		err = s->params ? 0 : NB_E_NOMEM;
	} else {
		snprintf(why, why_cap, "read service params %.200s: %s", path, os_why());
	}
	nb_buf_fini(&b);
	return err;
}

static void find_binary(struct run_service *s)
{
	const char *slash;
	ssize_t n = readlink("/proc/self/exe", s->binary, sizeof s->binary - 1);

	s->binary[n > 0 ? n : 0] = '\0';
	slash = strrchr(s->binary, '/');
	s->word = strcmp(slash ? slash + 1 : s->binary, "netbird") != 0;
}

int run_service_init(struct run_service *s, const char *name, const char *state_dir, char *why, size_t why_cap)
{
	memset(s, 0, sizeof *s);
	for (const char *p = name; *p || p == name; p++) {
		if (!isalnum((unsigned char)*p) && (p == name || !strchr("-_.@", *p))) {
			snprintf(why, why_cap, "\"%.60s\" is no name for a service: use letters, digits, - and _", name);
			return NB_E_ARG;
		}
	}
	if (strlen(name) >= sizeof s->name) {
		snprintf(why, why_cap, "the name of the service is too long");
		return NB_E_ARG;
	}
	if (find_init(&s->init)) {
		snprintf(why, why_cap, "no init system that nestbox knows runs here (systemd, OpenRC or procd); start "
			 "`netbird service run` by your own means, or use `netbird up -F`");
		return NB_E_UNSUPPORTED;
	}
	snprintf(s->name, sizeof s->name, "%s", name);
	snprintf(s->state_dir, sizeof s->state_dir, "%s", state_dir);
	find_binary(s);
	return load_params(s, why, why_cap);
}

void run_service_fini(struct run_service *s)
{
	json_decref(s->params);
	s->params = NULL;
}

/* --- parameters */

void run_service_set(struct run_service *s, const char *param, const char *value)
{
	if (!*value)
		json_object_del(s->params, param);
	else
		json_object_set_new(s->params, param, strcmp(value, "true") ? json_string(value) : json_true());
}

void run_service_set_list(struct run_service *s, const char *param, char *const *v, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_string(v[i]));
	json_object_set_new(s->params, param, list);
}

static bool env_name(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)text[i]) && text[i] != '_')
			return false;
	return n > 0 && n < 128 && !isdigit((unsigned char)*text);
}

int run_service_set_env(struct run_service *s, char *const *v, size_t n, char *why, size_t why_cap)
{
	json_t *env = json_object_get(s->params, "service_env_vars");
	char key[128];

	if (n == 0) {
		json_object_del(s->params, "service_env_vars");
		return 0;
	}
	if (!json_is_object(env)) {
		env = json_object();
		json_object_set_new(s->params, "service_env_vars", env);
	}
	for (size_t i = 0; i < n; i++) {
		const char *eq = strchr(v[i], '=');

		if (!eq || !env_name(v[i], (size_t)(eq - v[i]))) {
			snprintf(why, why_cap, "--service-env takes KEY=VALUE, not %.100s", v[i]);
			return NB_E_ARG;
		}
		snprintf(key, sizeof key, "%.*s", (int)(eq - v[i]), v[i]);
		json_object_set_new(env, key, json_string(eq + 1));
	}
	return 0;
}

static const char *param(const struct run_service *s, const char *name, const char *other)
{
	const char *v = json_string_value(json_object_get(s->params, name));

	return v && *v ? v : other;
}

static bool on(const struct run_service *s, const char *name)
{
	return json_is_true(json_object_get(s->params, name));
}

/* --- quoting */

typedef void (*quote_fn)(struct nb_buf *out, const char *word);

/* systemd.syntax(7): C escapes in double quotes, % doubled; $ too on command lines only. */
static void quote_unit(struct nb_buf *out, const char *word, bool dollar)
{
	bool plain = *word != '\0';

	for (const char *p = word; *p; p++)
		plain = plain && (isalnum((unsigned char)*p) || strchr("-_./:,@=+", *p));
	if (plain) {
		nb_buf_str(out, word);
		return;
	}
	nb_buf_u8(out, '"');
	for (; *word; word++) {
		if (*word == '"' || *word == '\\')
			nb_buf_printf(out, "\\%c", *word);
		else if (*word == '%' || (*word == '$' && dollar))
			nb_buf_printf(out, "%c%c", *word, *word);
		else if ((unsigned char)*word < 0x20)
			nb_buf_printf(out, "\\x%02x", (unsigned char)*word);
		else
			nb_buf_u8(out, (uint8_t)*word);
	}
	nb_buf_u8(out, '"');
}

static void quote_systemd(struct nb_buf *out, const char *word)
{
	quote_unit(out, word, true);
}

static void quote_systemd_value(struct nb_buf *out, const char *word)
{
	quote_unit(out, word, false);
}

static void quote_shell(struct nb_buf *out, const char *word)
{
	nb_buf_u8(out, '\'');
	for (; *word; word++)
		nb_buf_str(out, *word == '\'' ? "'\\''" : (char[]){ *word, '\0' });
	nb_buf_u8(out, '\'');
}

/* Shell words inside a double-quoted assignment that is evaluated once more. */
static void quote_shell_twice(struct nb_buf *out, const char *word)
{
	struct nb_buf once;

	nb_buf_init(&once, 16384);
	quote_shell(&once, word);
	for (const char *p = nb_buf_cstr(&once); *p; p++) {
		if (strchr("\"\\$`", *p))
			nb_buf_u8(out, '\\');
		nb_buf_u8(out, (uint8_t)*p);
	}
	nb_buf_fini(&once);
}

static void option(struct nb_buf *out, quote_fn quote, const char *name, const char *value)
{
	nb_buf_printf(out, " %s ", name);
	quote(out, value);
}

/* The words after the binary. */
static void arguments(const struct run_service *s, struct nb_buf *out, quote_fn quote)
{
	json_t *files = json_object_get(s->params, "log_files"), *file;
	size_t i;

	nb_buf_str(out, s->word ? "client service run" : "service run");
	option(out, quote, "--log-level", param(s, "log_level", "info"));
	option(out, quote, "--daemon-addr", param(s, "daemon_addr", "unix:///var/run/netbird.sock"));
	if (*param(s, "management_url", ""))
		option(out, quote, "--management-url", param(s, "management_url", ""));
	if (*param(s, "ca_file", ""))
		option(out, quote, "--ca-file", param(s, "ca_file", ""));
	if (*param(s, "config_path", ""))
		option(out, quote, "--config", param(s, "config_path", ""));
	if (json_array_size(files) == 0)
		option(out, quote, "--log-file", s->init == RUN_INIT_PROCD ? "console" : "/var/log/netbird/client.log");
	json_array_foreach(files, i, file)
		option(out, quote, "--log-file", json_string_value(file) ? json_string_value(file) : "");
	if (on(s, "disable_profiles"))
		nb_buf_str(out, " --disable-profiles");
	if (on(s, "disable_update_settings"))
		nb_buf_str(out, " --disable-update-settings");
	if (on(s, "disable_networks"))
		nb_buf_str(out, " --disable-networks");
}

static void environment(const struct run_service *s, struct nb_buf *out, const char *before, const char *between,
			quote_fn quote, bool whole)
{
	json_t *env = json_object_get(s->params, "service_env_vars"), *v;
	const char *key;
	char *pair;

	json_object_foreach(env, key, v) {
		const char *value = json_string_value(v) ? json_string_value(v) : "";

		nb_buf_str(out, before);
		if (whole) {	/* the pair is one word */
			pair = malloc(strlen(key) + strlen(value) + 2);
			if (!pair)
				continue;
			sprintf(pair, "%s=%s", key, value);
			quote(out, pair);
			free(pair);
		} else {
			nb_buf_printf(out, "%s=", key);
			quote(out, value);
		}
		nb_buf_str(out, between);
	}
}

/* --- the three files */

static void systemd_text(const struct run_service *s, struct nb_buf *out)
{
	nb_buf_str(out, "[Unit]\nDescription=NetBird mesh network client\nConditionFileIsExecutable=");
	nb_buf_str(out, s->binary);
	nb_buf_str(out, "\n\nAfter=network.target syslog.target\nStartLimitInterval=5\nStartLimitBurst=10\n\n[Service]\n"
		   "ExecStart=");
	quote_systemd(out, s->binary);
	nb_buf_u8(out, ' ');
	arguments(s, out, quote_systemd);
	nb_buf_printf(out, "\n\nStandardOutput=file:/var/log/netbird/%s.out\nStandardError=file:/var/log/netbird/%s.err\n"
		      "LogsDirectory=netbird\nRestart=always\nRestartSec=120\nEnvironmentFile=-/etc/sysconfig/%s\n\n"
		      "Environment=SYSTEMD_UNIT=%s\n", s->name, s->name, s->name, s->name);
	environment(s, out, "Environment=", "\n", quote_systemd_value, true);
	nb_buf_str(out, "\n[Install]\nWantedBy=multi-user.target\n");
}

static void openrc_text(const struct run_service *s, struct nb_buf *out)
{
	nb_buf_str(out, "#!/sbin/openrc-run\nname=");
	quote_shell(out, s->name);
	nb_buf_str(out, "\ndescription=\"NetBird mesh network client\"\nsupervisor=supervise-daemon\nrespawn_delay=5\n"
		   "respawn_max=0\ncommand=");
	quote_shell(out, s->binary);
	nb_buf_str(out, "\ncommand_args=\"");
	arguments(s, out, quote_shell_twice);
	nb_buf_printf(out, "\"\npidfile=\"/run/%s.pid\"\n", s->name);
	environment(s, out, "export ", "\n", quote_shell, false);
	nb_buf_str(out, "\ndepend() {\n\tneed net\n\tuse logger dns\n}\n");
}

static void procd_text(const struct run_service *s, struct nb_buf *out)
{
	json_t *env = json_object_get(s->params, "service_env_vars");

	nb_buf_str(out, "#!/bin/sh /etc/rc.common\nUSE_PROCD=1\nSTART=99\nSTOP=10\n\nstart_service() {\n"
		   "\tprocd_open_instance\n\tprocd_set_param command ");
	quote_shell(out, s->binary);
	nb_buf_u8(out, ' ');
	arguments(s, out, quote_shell);
	nb_buf_u8(out, '\n');
	if (json_object_size(env)) {
		nb_buf_str(out, "\tprocd_set_param env");
		environment(s, out, " ", "", quote_shell, false);
		nb_buf_u8(out, '\n');
	}
	nb_buf_str(out, "\tprocd_set_param respawn 3600 5 0\n\tprocd_set_param stdout 1\n\tprocd_set_param stderr 1\n"
		   "\tprocd_close_instance\n}\n");
}

int run_service_text(const struct run_service *s, struct nb_buf *out)
{
	if (s->init == RUN_INIT_SYSTEMD)
		systemd_text(s, out);
	else if (s->init == RUN_INIT_OPENRC)
		openrc_text(s, out);
	else
		procd_text(s, out);
	return out->err;
}

void run_service_path(const struct run_service *s, char out[PATH_MAX])
{
	if (s->init == RUN_INIT_SYSTEMD)
		snprintf(out, PATH_MAX, "/etc/systemd/system/%s.service", s->name);
	else
		snprintf(out, PATH_MAX, "/etc/init.d/%s", s->name);
}

/* --- the tools of the init systems */

/* Run a program and wait; its exit status, -1 when it could not be run. quiet: no output. */
static int run(bool quiet, const char *a, const char *b, const char *c, const char *d)
{
	char *argv[] = { (char *)(uintptr_t)a, (char *)(uintptr_t)b, (char *)(uintptr_t)c, (char *)(uintptr_t)d, NULL };
	posix_spawn_file_actions_t fa;
	pid_t pid;
	int status, err;

	posix_spawn_file_actions_init(&fa);
	if (quiet) {
		posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", 1 /* O_WRONLY */, 0);
		posix_spawn_file_actions_adddup2(&fa, 1, 2);
	}
	err = posix_spawnp(&pid, a, &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	if (err)
		return -1;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int failed(struct run_service *s, const char *what)
{
	snprintf(s->why, sizeof s->why, "%s failed%s", what, geteuid() ? "; it needs root: run it with sudo" : "");
	return NB_E_SYS;
}

static int enable(struct run_service *s, bool up)
{
	char path[PATH_MAX];
	int r;

	run_service_path(s, path);
	if (s->init == RUN_INIT_SYSTEMD) {
		if (up)
			run(false, "systemctl", "daemon-reload", NULL, NULL);
		r = run(false, "systemctl", up ? "enable" : "disable", s->name, NULL);
	} else if (s->init == RUN_INIT_OPENRC) {
		r = run(false, "rc-update", up ? "add" : "del", s->name, "default");
	} else {
		r = run(false, path, up ? "enable" : "disable", NULL, NULL);
	}
	return r ? failed(s, up ? "enabling it" : "disabling it") : 0;
}

/* systemd-networkd would remove the agent's routes and rules as foreign ones. */
static void networkd(bool add)
{
	static const char text[] = "# Created by NetBird\n[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n";

	if (!add) {
		os_remove_file(NETWORKD_FILE);
	} else if (exists("/etc/systemd/networkd.conf")) {
		os_mkdir_p(NETWORKD_DIR, 0755);
		os_write_file(NETWORKD_FILE, nb_bytes_str(text), 0644);
	}
}

static int save_params(struct run_service *s)
{
	char path[PATH_MAX], *text = json_dumps(s->params, JSON_INDENT(4));
	int err = text ? os_mkdir_p(s->state_dir, 0700) : NB_E_NOMEM;

	params_path(s, path);
	if (!err)
		err = os_write_file(path, nb_bytes_str(text), 0600);
	free(text);
	if (err)
		snprintf(s->why, sizeof s->why, "%.300s: %s", path, os_why());
	return err;
}

int run_service_install(struct run_service *s)
{
	char path[PATH_MAX];
	struct nb_buf text;
	int err;

	run_service_path(s, path);
	if (exists(path)) {
		snprintf(s->why, sizeof s->why, "%.200s exists already; netbird service reconfigure changes it", path);
		return NB_E_EXISTS;
	}
	nb_buf_init(&text, 65536);
	err = run_service_text(s, &text);
	if (!err) {
		err = os_write_file(path, nb_buf_view(&text), s->init == RUN_INIT_SYSTEMD ? 0644 : 0755);
		if (err)
			snprintf(s->why, sizeof s->why, "%.200s: %s%s", path, os_why(),
				 geteuid() ? "; it needs root: run it with sudo" : "");
	}
	nb_buf_fini(&text);
	if (!err)
		err = save_params(s);
	if (!err)
		err = enable(s, true);
	if (!err && s->init == RUN_INIT_SYSTEMD)
		networkd(true);
	return err;
}

int run_service_uninstall(struct run_service *s)
{
	char path[PATH_MAX];

	run_service_path(s, path);
	if (!exists(path)) {
		snprintf(s->why, sizeof s->why, "the service is not installed");
		return NB_E_NOTFOUND;
	}
	if (run_service_state(s) == RUN_SERVICE_RUNNING && run_service_action(s, "stop"))
		return NB_E_SYS;
	if (enable(s, false))
		return NB_E_SYS;
	if (os_remove_file(path)) {
		snprintf(s->why, sizeof s->why, "%.200s: %s", path, os_why());
		return NB_E_SYS;
	}
	if (s->init == RUN_INIT_SYSTEMD) {
		run(false, "systemctl", "daemon-reload", NULL, NULL);
		networkd(false);
	}
	return 0;
}

int run_service_action(struct run_service *s, const char *action)
{
	char path[PATH_MAX];
	int r;

	run_service_path(s, path);
	if (!exists(path)) {
		snprintf(s->why, sizeof s->why, "the service is not installed; run netbird service install");
		return NB_E_NOTFOUND;
	}
	if (s->init == RUN_INIT_SYSTEMD)
		r = run(false, "systemctl", action, s->name, NULL);
	else if (s->init == RUN_INIT_OPENRC)
		r = run(false, "rc-service", s->name, action, NULL);
	else
		r = run(false, path, action, NULL, NULL);
	return r ? failed(s, action) : 0;
}

bool run_service_installed(const struct run_service *s)
{
	char path[PATH_MAX];

	run_service_path(s, path);
	return exists(path);
}

enum run_service_state run_service_state(struct run_service *s)
{
	char path[PATH_MAX];
	int r;

	run_service_path(s, path);
	if (s->init == RUN_INIT_SYSTEMD)
		r = run(true, "systemctl", "is-active", "--quiet", s->name);
	else if (s->init == RUN_INIT_OPENRC)
		r = run(true, "rc-service", s->name, "status", NULL);
	else
		r = run(true, path, "running", NULL, NULL);
	return r == 0 ? RUN_SERVICE_RUNNING : r < 0 ? RUN_SERVICE_UNKNOWN : RUN_SERVICE_STOPPED;
}

int run_service_forget(struct run_service *s)
{
	char path[PATH_MAX];

	params_path(s, path);
	return os_remove_file(path) ? NB_E_NOTFOUND : 0;
}
