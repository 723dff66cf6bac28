/* options.h - command lines of the servers: tables of options that are flags and NB_ variables at once (a flag beats its
 * variable), help made from the same rows, refusals with a reason, the log file. What a value means is the setters'
 * business. The rows of STUN and TURN stand here once, for every server that has them.
 * Tests: tests/unit/applets_options_test.c, tests/net/test_turn_interop.py, tests/net/test_signal.py */
#ifndef NB_APPLETS_OPTIONS_H
#define NB_APPLETS_OPTIONS_H

#include <stddef.h>

#define EXIT_USAGE 2

struct app_option {
	const char *name;
	char letter;			/* 0: none */
	unsigned where;			/* commands that have it, bits; 0: all */
	const char *value;		/* what the help calls it; NULL: a switch, =false allowed */
	/* Returns 0, NB_E_FULL (too many values) or another error. NULL: refused, with help as the reason; an empty value
	 * is let through, as scripts pass them for what they do not use. */
	int (*set)(void *to, const char *text);
	const char *help;		/* NULL: accepted for stock's sake, not listed */
};

struct app_options {
	const struct app_option *rows;
	size_t n;
	void *to;			/* for the setters */
};

#define APP_TABLES 2

struct app_command {
	const char *who;		/* in messages: "netbird-relay" */
	const char *usage;		/* the help's first lines */
	const char *word;		/* stock's subcommand, skipped when it comes last; NULL: none */
	const char *version;		/* NULL: no --version */
	unsigned where;			/* this command's bit */
	struct app_options tables[APP_TABLES];
};

/* Read flags, then the variables of options that were not given as flags. Returns -1 to go on, else the exit status
 * (help or version printed, or a message on stderr). */
int app_read(const struct app_command *c, int argc, char **argv);
/* Append the log to a file; NULL, "" and "console": stderr. Returns 0 or an exit status after a message. */
int app_open_log(const char *who, const char *path);

/* A setter that is one expression of s, the settings, and text. */
#define APP_SETTER(type, fn, call) \
	static int fn(void *to, const char *text) \
	{ \
		type *s = to; \
		return call; \
	}

/* Any text but an empty one; it is borrowed. */
int app_set_text(const char **out, const char *text);
/* "true" or "false". */
int app_set_bool(void *to, const char *text);
int app_set_log_level(void *to, const char *text);
/* Accepted without effect. */
int app_ignore(void *to, const char *text);

/* Of STUN, TURN and the limits of both relays; to: struct relay_config. */
extern const struct app_option app_relay_rows[];
extern const size_t app_relay_nrows;

#endif
