/* opts.c - see opts.h. The texts of errors are those of Go's pflag, which stock's users know. */
#include "base/opts.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

void nb_opts_init(struct nb_opts *o, int argc, char **argv)
{
	memset(o, 0, sizeof *o);
	o->argc = argc;
	o->argv = argv;
	o->at = 1;
}

void nb_opts_add(struct nb_opts *o, const struct nb_opt *table)
{
	if (o->n_tables < NB_OPT_TABLES_MAX)
		o->tables[o->n_tables++] = table;
}

void nb_opt_list_clear(struct nb_opt_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	l->n = 0;
	l->set = false;
}

/* --- values */

static int set_bool(bool *to, const char *v)
{
	static const char *const yes[] = { "1", "t", "T", "TRUE", "true", "True" };
	static const char *const no[] = { "0", "f", "F", "FALSE", "false", "False" };

	for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
		if (!strcmp(v, yes[i]) || !strcmp(v, no[i])) {
			*to = !strcmp(v, yes[i]);
			return 0;
		}
	}
	return NB_E_ARG;
}

static int set_int(const struct nb_opt *opt, const char *v)
{
	char *end;
	long long n;

	errno = 0;
	n = strtoll(v, &end, 0);
	if (!*v || *end || errno || isspace((unsigned char)*v) || n < opt->min || n > opt->max)
		return NB_E_ARG;
	*(long long *)opt->to = n;
	return 0;
}

static int list_put(struct nb_opt_list *l, const char *p, size_t n)
{
	char *copy;

	if (l->n >= NB_OPT_LIST_MAX)
		return NB_E_FULL;
	copy = malloc(n + 1);
	if (!copy)
		return NB_E_NOMEM;
	memcpy(copy, p, n);
	copy[n] = '\0';
	l->v[l->n++] = copy;
	return 0;
}

/* Items between commas; an item in double quotes may contain commas, "" inside is one quote. */
static int set_list(struct nb_opt_list *l, const char *v)
{
	char *item;
	int err = 0;

	l->set = true;
	if (!*v)
		return 0;
	item = malloc(strlen(v) + 1);
	if (!item)
		return NB_E_NOMEM;
	for (bool more = true; more && !err;) {
		size_t n = 0;

		if (*v == '"') {
			for (v++; *v && (*v != '"' || v[1] == '"'); v += *v == '"' ? 2 : 1)
				item[n++] = *v;
			err = *v == '"' ? 0 : NB_E_ARG;
			v += *v == '"';
			if (*v && *v != ',')
				err = NB_E_ARG;
		} else {
			while (*v && *v != ',')
				item[n++] = *v++;
		}
		more = *v == ',';
		v += more;
		if (!err)
			err = list_put(l, item, n);
	}
	free(item);
	return err;
}

/* One "1.5h" of a duration; returns the text after it, NULL when it is none. */
static const char *duration_part(const char *p, double *ns)
{
	static const struct { const char *word; double ns; } units[] = {
		{ "ns", 1 }, { "us", 1e3 }, { "\xc2\xb5s", 1e3 }, { "\xce\xbcs", 1e3 }, { "ms", 1e6 }, { "s", 1e9 },
		{ "m", 6e10 }, { "h", 3.6e12 },
	};
	double v = 0, scale = 1;
	bool digits = false;

	for (; isdigit((unsigned char)*p); p++, digits = true)
		v = v * 10 + (*p - '0');
	if (*p == '.')
		for (p++; isdigit((unsigned char)*p); p++, digits = true)
			v += (*p - '0') * (scale /= 10);
	for (size_t i = 0; digits && i < sizeof units / sizeof *units; i++) {
		size_t n = strlen(units[i].word);

		/* "m" must not take the beginning of "ms" */
		if (!strncmp(p, units[i].word, n) && !(n == 1 && *p == 'm' && p[1] == 's')) {
			*ns += v * units[i].ns;
			return p + n;
		}
	}
	return NULL;
}

int nb_duration_parse(int64_t *ns, const char *text)
{
	double total = 0, sign = 1;

	if (*text == '-' || *text == '+')
		sign = *text++ == '-' ? -1 : 1;
	if (!strcmp(text, "0")) {
		*ns = 0;
		return 0;
	}
	do {
		text = duration_part(text, &total);
		if (!text || total > 9.2e18)
			return NB_E_BAD;
	} while (*text);
	*ns = (int64_t)(sign * total);
	return 0;
}

static const char *reason(const struct nb_opt *opt, char *out, size_t cap, int err)
{
	if (err == NB_E_FULL)
		snprintf(out, cap, "more than %d items", NB_OPT_LIST_MAX);
	else if (err == NB_E_NOMEM)
		snprintf(out, cap, "out of memory");
	else if (opt->kind == NB_OPT_BOOL)
		snprintf(out, cap, "it is true or false");
	else if (opt->kind == NB_OPT_INT)
		snprintf(out, cap, "it is a whole number from %lld to %lld", opt->min, opt->max);
	else if (opt->kind == NB_OPT_DURATION)
		snprintf(out, cap, "it is a duration such as 30s or 1m30s");
	else
		snprintf(out, cap, "a quote is not closed");
	return out;
}

int nb_opt_set(const struct nb_opt *opt, const char *value, char *why, size_t why_cap)
{
	char text[96], letter[8] = "";
	int err = 0;

	switch (opt->kind) {
	case NB_OPT_BOOL:
		err = set_bool(opt->to, value);
		break;
	case NB_OPT_TEXT:
		*(const char **)opt->to = value;
		break;
	case NB_OPT_LIST:
		err = set_list(opt->to, value);
		break;
	case NB_OPT_INT:
		err = set_int(opt, value);
		break;
	case NB_OPT_DURATION:
		err = nb_duration_parse(opt->to, value) ? NB_E_ARG : 0;
		break;
	}
	if (!err) {
		if (opt->changed)
			*opt->changed = true;
		return 0;
	}
	if (opt->letter)
		snprintf(letter, sizeof letter, "-%c, ", opt->letter);
	snprintf(why, why_cap, "invalid argument \"%.100s\" for \"%s--%s\" flag: %s", value, letter, opt->name,
		 reason(opt, text, sizeof text, err));
	return NB_E_ARG;
}

/* --- the command line */

static const struct nb_opt *find(const struct nb_opts *o, const char *name, size_t n, char letter)
{
	for (size_t i = o->n_tables; i-- > 0;) {
		for (const struct nb_opt *t = o->tables[i]; t->name; t++) {
			if (letter ? t->letter == letter : strlen(t->name) == n && !memcmp(t->name, name, n))
				return t;
		}
	}
	return NULL;
}

static int long_option(struct nb_opts *o, const char *arg)
{
	const char *eq = strchr(arg, '='), *value = eq ? eq + 1 : NULL;
	size_t n = eq ? (size_t)(eq - arg) : strlen(arg);
	const struct nb_opt *opt = find(o, arg, n, 0);

	if (!opt && n == 4 && !memcmp(arg, "help", 4))
		return NB_OPTS_HELP;
	if (!opt || n == 0) {
		snprintf(o->why, sizeof o->why, "unknown flag: --%.*s", (int)(n > 200 ? 200 : n), arg);
		return NB_E_ARG;
	}
	if (!value && opt->kind == NB_OPT_BOOL)
		value = "true";
	if (!value && o->at < o->argc)
		value = o->argv[o->at++];
	if (!value) {
		snprintf(o->why, sizeof o->why, "flag needs an argument: --%s", opt->name);
		return NB_E_ARG;
	}
	return nb_opt_set(opt, value, o->why, sizeof o->why);
}

/* -a, -abc, -nVALUE, -n=VALUE, -n VALUE. */
static int short_options(struct nb_opts *o, const char *arg)
{
	for (const char *p = arg; *p; p++) {
		const struct nb_opt *opt = find(o, NULL, 0, *p);
		const char *value;
		int err;

		if (!opt && *p == 'h')
			return NB_OPTS_HELP;
		if (!opt) {
			snprintf(o->why, sizeof o->why, "unknown shorthand flag: '%c' in -%.200s", *p, arg);
			return NB_E_ARG;
		}
		if (opt->kind == NB_OPT_BOOL && p[1] != '=') {
			err = nb_opt_set(opt, "true", o->why, sizeof o->why);
			if (err)
				return err;
			continue;
		}
		value = p[1] == '=' ? p + 2 : p[1] ? p + 1 : o->at < o->argc ? o->argv[o->at++] : NULL;
		if (!value) {
			snprintf(o->why, sizeof o->why, "flag needs an argument: '%c' in -%.200s", *p, arg);
			return NB_E_ARG;
		}
		return nb_opt_set(opt, value, o->why, sizeof o->why);
	}
	return 0;
}

int nb_opts_next(struct nb_opts *o, const char **arg)
{
	while (o->at < o->argc) {
		const char *a = o->argv[o->at++];
		int err;

		if (o->rest || a[0] != '-' || !a[1]) {
			*arg = a;
			return NB_OPTS_ARG;
		}
		if (!strcmp(a, "--")) {
			o->rest = true;
			continue;
		}
		err = a[1] == '-' ? long_option(o, a + 2) : short_options(o, a + 1);
		if (err)
			return err;
	}
	return NB_OPTS_END;
}

/* --- the environment */

static const char *variable(const char *prefix, const char *name, const char *(*get)(const char *name))
{
	char text[80];
	size_t n = (size_t)snprintf(text, sizeof text, "%s%s", prefix, name);

	if (n >= sizeof text)
		return NULL;
	for (size_t i = 0; i < n; i++)
		text[i] = text[i] == '-' ? '_' : (char)toupper((unsigned char)text[i]);
	return get(text);
}

void nb_opts_env(const struct nb_opt *table, const char *const *prefixes, size_t n_prefixes,
		 const char *(*get)(const char *name), void (*bad)(const char *why))
{
	char why[320];

	for (const struct nb_opt *t = table; t->name; t++) {
		for (size_t i = 0; i < n_prefixes; i++) {
			const char *value = variable(prefixes[i], t->name, get);

			if (!value)
				continue;
			if (t->kind == NB_OPT_LIST)
				nb_opt_list_clear(t->to);
			if (nb_opt_set(t, value, why, sizeof why) && bad)
				bad(why);
		}
	}
}
