/* user.c - see user.h. Tests: tests/net/test_client_cli.py */
#include "run/user.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/socket.h"

void run_user_name(char *out, size_t cap)
{
	const struct passwd *pw = getpwuid(geteuid());

	if (pw)
		snprintf(out, cap, "%s", pw->pw_name);
	else
		snprintf(out, cap, "%lu", (unsigned long)geteuid());
}

static int config_file(char out[PATH_MAX], const char *name)
{
	const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	int n;

	if (base && *base)
		n = snprintf(out, PATH_MAX, "%s/netbird", base);
	else if (home && *home)
		n = snprintf(out, PATH_MAX, "%s/.config/netbird", home);
	else
		return NB_E_NOTFOUND;
	if (n < 0 || (size_t)n + strlen(name) + 2 > PATH_MAX)
		return NB_E_ARG;
	os_mkdir_p(out, 0755);
	out[n] = '/';
	strcpy(out + n + 1, name);
	return 0;
}

void run_user_profile(char *out, size_t cap)
{
	char path[PATH_MAX], why[128];
	struct nb_buf b;

	snprintf(out, cap, "default");
	if (config_file(path, "active_profile.txt"))
		return;
	nb_buf_init(&b, 4096);
	switch (run_user_read(path, &b, why, sizeof why)) {
	case 0:
		if (b.n && b.n < cap)
			snprintf(out, cap, "%s", nb_buf_cstr(&b));
		break;
	case NB_E_NOTFOUND:
		os_write_file(path, nb_bytes_str("default"), 0600);
		break;
	default:
		break;
	}
	nb_buf_fini(&b);
}

int run_user_set_profile(const char *id, char *why, size_t why_cap)
{
	char path[PATH_MAX];
	int err = config_file(path, "active_profile.txt");

	if (err) {
		snprintf(why, why_cap, "failed to switch profile: neither $XDG_CONFIG_HOME nor $HOME are defined");
		return err;
	}
	err = os_write_file(path, nb_bytes_str(id), 0600);
	if (err)
		snprintf(why, why_cap, "failed to switch profile: cannot write %.200s: %s", path, os_why());
	return err;
}

bool run_user_has_desktop(void)
{
	static const char *const names[] = { "DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "DESKTOP_SESSION",
					     "XDG_CURRENT_DESKTOP" };
	const char *type = getenv("XDG_SESSION_TYPE");

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (getenv(names[i]) && *getenv(names[i]))
			return true;
	return type && (!strcmp(type, "x11") || !strcmp(type, "wayland") || !strcmp(type, "mir"));
}

struct nb_wall run_user_clock(void)
{
	return os_wall();
}

int run_user_utc_offset(int64_t unix_seconds)
{
	time_t t = (time_t)unix_seconds;
	struct tm tm;

	return localtime_r(&t, &tm) ? (int)tm.tm_gmtoff : 0;
}

void run_user_sleep(int64_t ns)
{
	struct timespec t = { ns / NB_SEC, (long)(ns % NB_SEC) };

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

int run_user_read(const char *path, struct nb_buf *out, char *why, size_t why_cap)
{
	int err = os_read_file(out, path);
	size_t skip = 0;

	if (err) {
		snprintf(why, why_cap, "%.200s: %s", path, os_why());
		return err;
	}
	while (out->n && isspace(out->p[out->n - 1]))
		out->n--;
	while (skip < out->n && isspace(out->p[skip]))
		skip++;
	nb_buf_consume(out, skip);
	return 0;
}

int run_user_log_to(const char *path, char *why, size_t why_cap)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int fd;

	if (slash && slash != path && (size_t)(slash - path) < sizeof dir) {
		snprintf(dir, sizeof dir, "%.*s", (int)(slash - path), path);
		os_mkdir_p(dir, 0755);
	}
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0) {
		snprintf(why, why_cap, "cannot write the log %.200s: %s; give --log-file console or another path", path,
			 strerror(errno));
		return errno == EACCES || errno == EPERM ? NB_E_PERM : NB_E_SYS;
	}
	nb_log_set_fd(fd);
	return 0;
}
