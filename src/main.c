/* main.c - find the command that was meant, by argv[0] or by the first argument, and start it.
 * Knows no command by hand: the table is gathered from src/applets (see applets/applet.h). Also the four
 * options that are about the binary itself: --list, --install, --help, --version.
 * Tests: tests/unit/main_test.c. */
#include "base/version.h"

#include "applets/applet.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A test brings its own table. */
#ifndef APPLET_TABLE
#define APPLET_TABLE "applets.h"
#endif

#include APPLET_TABLE
#undef APPLET

#define EXIT_USAGE 2
#define EXIT_UNKNOWN 127

struct applet {
	const char *name;
	int (*main)(int argc, char **argv);
	const char *aliases;	/* space separated; the first one is installed */
	const char *help;
};

/* Sorted by name; ends with an empty row. */
static const struct applet applets[] = {
#define APPLET(name, main_fn, aliases, help) { #name, main_fn, aliases, help },
#include APPLET_TABLE
	{ NULL, NULL, NULL, NULL },
};

/* True if word is one of the space separated words of list. */
static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = list; n && (at = strstr(at, word)); at += n)
		if ((at == list || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
			return true;
	return false;
}

static const struct applet *find(const char *name)
{
	for (const struct applet *a = applets; a->name; a++)
		if (strcmp(a->name, name) == 0 || has_word(a->aliases, name))
			return a;
	return NULL;
}

/* Copy the stock name of an applet; false if it has none. */
static bool stock_name(const struct applet *a, char *out, size_t cap)
{
	size_t n = strcspn(a->aliases, " ");

	if (n == 0 || n >= cap)
		return false;
	memcpy(out, a->aliases, n);
	out[n] = '\0';
	return true;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int run(const struct applet *a, int argc, char **argv)
{
	char name[64];

	snprintf(name, sizeof name, "%s", a->name);
	argv[0] = name;
	return a->main(argc, argv);
}

static void usage(FILE *to)
{
	fprintf(to, "nestbox %s, a whole NetBird network in one program "
		"(compatible with NetBird %s)\n\n"
		"Usage: nestbox COMMAND [ARGUMENT...]     or a link named after the command\n"
		"       nestbox COMMAND --help\n"
		"       nestbox --list | --version | --help\n"
		"       nestbox --install [-s] [--force] DIR\n\n"
		"--install makes hard links (-s: symbolic links) to this file in DIR, under the\n"
		"stock names. It leaves other files of those names alone unless --force is given.\n",
		nb_version, NB_COMPAT);
	if (!applets[0].name)
		return;
	fprintf(to, "\nCommands:\n");
	for (const struct applet *a = applets; a->name; a++)
		fprintf(to, "  %-12s %-16s %s\n", a->name, a->aliases, a->help);
}

static int list(void)
{
	for (const struct applet *a = applets; a->name; a++)
		printf("%s%s%s\n", a->name, a->aliases[0] ? " " : "", a->aliases);
	return EXIT_SUCCESS;
}

static int version(void)
{
	time_t built = (time_t)nb_build_epoch;
	char date[32];
	struct tm tm;

	gmtime_r(&built, &tm);
	strftime(date, sizeof date, "%Y-%m-%d", &tm);
	printf("nestbox %s (%s), compatible with NetBird %s\n", nb_version, date, NB_COMPAT);
	return EXIT_SUCCESS;
}

/* Put one link in place by rename, so that the name never points at nothing. Returns 0, else errno. */
static int place_link(const char *self, const char *path, bool symbolic)
{
	char tmp[PATH_MAX];
	int err = 0;

	if (snprintf(tmp, sizeof tmp, "%s.new%ld", path, (long)getpid()) >= (int)sizeof tmp)
		return ENAMETOOLONG;
	if ((symbolic ? symlink(self, tmp) : link(self, tmp)) < 0)
		return errno;
	if (rename(tmp, path) < 0) {
		err = errno;
		unlink(tmp);
	}
	return err;
}

/* Returns true if path is now (or was already) this program. */
static bool install_one(const char *self, const char *path, bool symbolic, bool force)
{
	struct stat mine, other;
	int err;

	if (lstat(path, &other) == 0) {
		if (stat(self, &mine) == 0 && stat(path, &other) == 0 && mine.st_ino == other.st_ino &&
		    mine.st_dev == other.st_dev) {
			printf("%s is in place\n", path);
			return true;
		}
		if (!force) {
			fprintf(stderr, "nestbox: %s is another file, left alone; "
				"--force replaces it\n", path);
			return false;
		}
	}
	err = place_link(self, path, symbolic);
	if (err) {
		fprintf(stderr, "nestbox: cannot make %s: %s%s\n", path, strerror(err),
			err == EXDEV ? "; DIR is on another file system, use -s" : "");
		return false;
	}
	printf("%s installed\n", path);
	return true;
}

static int install_usage(const char *word, const char *what)
{
	fprintf(stderr, "nestbox: %s %s; use: nestbox --install [-s] [--force] DIR\n", word, what);
	return EXIT_USAGE;
}

static int install(int argc, char **argv)
{
	bool symbolic = false, force = false, ok = true;
	char self[PATH_MAX], path[PATH_MAX], name[64];
	const char *dir = NULL;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "-s") == 0) {
			symbolic = true;
		} else if (strcmp(argv[i], "--force") == 0) {
			force = true;
		} else if (argv[i][0] == '-' || dir) {
			return install_usage(argv[i], "is not understood");
		} else {
			dir = argv[i];
		}
	}
	if (!dir)
		return install_usage("DIR", "is missing");
	if (!realpath("/proc/self/exe", self)) {
		fprintf(stderr, "nestbox: cannot tell where this program is: /proc/self/exe: %s; "
			"mount /proc\n", strerror(errno));
		return EXIT_FAILURE;
	}
	for (const struct applet *a = applets; a->name; a++) {
		if (!stock_name(a, name, sizeof name))
			continue;
		if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path) {
			fprintf(stderr, "nestbox: %s is too long a path\n", dir);
			return EXIT_FAILURE;
		}
		ok = install_one(self, path, symbolic, force) && ok;
	}
	return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	const struct applet *a = argc > 0 ? find(base_name(argv[0])) : NULL;
	const char *word;

	if (a)
		return run(a, argc, argv);
	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	word = argv[1];
	a = find(word);
	if (a)
		return run(a, argc - 1, argv + 1);
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
		usage(stdout);
		return EXIT_SUCCESS;
	}
	if (strcmp(word, "--list") == 0)
		return list();
	if (strcmp(word, "--version") == 0)
		return version();
	if (strcmp(word, "--install") == 0)
		return install(argc - 2, argv + 2);
	fprintf(stderr, "nestbox: there is no command %s; nestbox --list shows what there is\n", word);
	return EXIT_UNKNOWN;
}
