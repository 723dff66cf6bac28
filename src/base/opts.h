/* opts.h - command lines as stock's programs read them (GNU style, table-driven): --name value,
 * --name=value, -n value, -nvalue, bundled switches, --switch=false, lists by comma and by repetition,
 * -- ends the options. Environment variables of the same names: nb_opts_env. Errors are texts for people
 * in stock's words. Tests: tests/unit/base_opts_test.c, tests/fuzz/opts_fuzz.c */
#ifndef NB_BASE_OPTS_H
#define NB_BASE_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NB_OPT_LIST_MAX 64	/* items of one list */
#define NB_OPT_TABLES_MAX 6	/* tables in force at a time */

enum nb_opt_kind {
	NB_OPT_BOOL,		/* bool */
	NB_OPT_TEXT,		/* const char *, into argv or the environment */
	NB_OPT_LIST,		/* struct nb_opt_list */
	NB_OPT_INT,		/* long long, between min and max */
	NB_OPT_DURATION,	/* int64_t nanoseconds, Go's texts: "1m30s", "500ms" */
};

/* Items are copies; nb_opt_list_clear frees them. set: given at all, perhaps as "". */
struct nb_opt_list {
	char *v[NB_OPT_LIST_MAX];
	size_t n;
	bool set;
};
void nb_opt_list_clear(struct nb_opt_list *l);

/* One option; a table ends with a row without a name. */
struct nb_opt {
	const char *name;
	char letter;		/* 0: none */
	enum nb_opt_kind kind;
	void *to;		/* where the value goes, type as above */
	bool *changed;		/* set when the option was given; may be NULL */
	const char *what;	/* help: what the value is; NULL for switches */
	const char *help;
	long long min, max;	/* NB_OPT_INT */
};

struct nb_opts {
	int argc;
	char **argv;
	int at;				/* next argument */
	bool rest;			/* after -- */
	const struct nb_opt *tables[NB_OPT_TABLES_MAX];	/* searched from the last */
	size_t n_tables;
	char why[320];			/* after an error */
};

/* argv[0] is skipped. */
void nb_opts_init(struct nb_opts *o, int argc, char **argv);
/* Options known from here on; they hide earlier ones of the same name. */
void nb_opts_add(struct nb_opts *o, const struct nb_opt *table);

enum { NB_OPTS_END = 0, NB_OPTS_ARG = 1, NB_OPTS_HELP = 2 };
/* Read options up to the next argument that is none. Returns NB_OPTS_ARG with *arg set, NB_OPTS_END,
 * NB_OPTS_HELP for -h and --help, or NB_E_ARG with o->why. */
int nb_opts_next(struct nb_opts *o, const char **arg);

/* Set one option from a text. Returns 0 or NB_E_ARG with why. */
int nb_opt_set(const struct nb_opt *opt, const char *value, char *why, size_t why_cap);
/* Variables: prefix plus the name in upper case, - as _. Each present one replaces what the option had;
 * prefixes in order, so that the last one wins. Values that cannot be used are skipped, as in stock, and told
 * to bad (may be NULL). */
void nb_opts_env(const struct nb_opt *table, const char *const *prefixes, size_t n_prefixes,
		 const char *(*get)(const char *name), void (*bad)(const char *why));

/* "1h2m3.5s"; a bare "0" is allowed. Returns 0 or NB_E_BAD. */
int nb_duration_parse(int64_t *ns, const char *text);

#endif
