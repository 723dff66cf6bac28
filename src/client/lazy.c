/* lazy.c - see lazy.h. */
#include "client/lazy.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/opts.h"

#define BACK_AT_ONCE_NS (30 * NB_SEC)
#define CROSSING_NS (10 * NB_SEC)	/* a call of ours and an order to sleep may pass each other that long */
#define WATCH_MS 4000			/* often enough for the path's watchers, too */
#define PATIENCE_STEP 4
#define PATIENCE_MAX 64

/* --- the environment --- */

int client_lazy_force_parse(enum client_lazy_force *out, const char *text)
{
	static const char *const yes[] = { "on", "1", "t", "true" }, *const no[] = { "off", "0", "f", "false" };
	size_t n;

	*out = CLIENT_LAZY_UNSET;
	if (!text || !*text)
		return 0;
	text += strspn(text, " \t\r\n");
	n = strlen(text);
	while (n && isspace((unsigned char)text[n - 1]))
		n--;
	for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
		if (strlen(yes[i]) == n && !strncasecmp(text, yes[i], n))
			*out = CLIENT_LAZY_ON;
		if (strlen(no[i]) == n && !strncasecmp(text, no[i], n))
			*out = CLIENT_LAZY_OFF;
	}
	return *out == CLIENT_LAZY_UNSET ? NB_E_BAD : 0;
}

int client_lazy_idle_parse(int64_t *ns, const char *text)
{
	int64_t value;
	char *end;
	long minutes;

	*ns = CLIENT_LAZY_IDLE_NS;
	if (!text || !*text)
		return 0;
	if (nb_duration_parse(&value, text)) {
		minutes = strtol(text, &end, 10);
		if (*end || end == text || minutes <= 0 || minutes > 60 * 24 * 366)
			return NB_E_BAD;
		value = minutes * 60 * NB_SEC;
	}
	if (value < NB_SEC)
		return NB_E_BAD;
	*ns = value;
	return 0;
}

unsigned client_lazy_watch_ms(int64_t idle_ns)
{
	return idle_ns / 4 < WATCH_MS * NB_MS ? (unsigned)(idle_ns / 4 / NB_MS) : WATCH_MS;
}

/* --- versions --- */

static bool has_prefix(const char *text, const char *prefix)
{
	return !strncmp(text, prefix, strlen(prefix));
}

#define MANY 1000000	/* a number may stop growing here */

/* Numbers between dots, the first three of them. Returns what follows, NULL when there are none. */
static const char *read_numbers(const char *p, unsigned long out[3])
{
	for (int i = 0;; i++) {
		unsigned long v = 0;

		if (!isdigit((unsigned char)*p))
			return NULL;
		for (; isdigit((unsigned char)*p); p++)
			if (v < MANY)
				v = v * 10 + (unsigned long)(*p - '0');
		if (i < 3)
			out[i] = v;
		if (*p != '.')
			return p;
		p++;
	}
}

bool client_lazy_supported(const char *version)
{
	unsigned long n[3] = { 0 };
	const char *rest;

	if (has_prefix(version, "development") || has_prefix(version, "ci-") || has_prefix(version, "dev-"))
		return true;
	if (!strchr(version, '.'))
		return false;
	rest = read_numbers(version + (*version == 'v' || *version == 'a'), n);
	if (!rest)
		return false;
	/* What follows a dash does not count; letters without one make it older than the release. */
	if (*rest && *rest != '-' && *rest != '+' && !isalpha((unsigned char)*rest))
		return false;
	if (n[0] != 0 || n[1] != 45)
		return n[0] > 0 || n[1] > 45;
	return n[2] > 0 || !isalpha((unsigned char)*rest);
}

/* --- one peer --- */

void client_lazy_woken(struct client_lazy *l, bool by_peer, struct nb_time now)
{
	l->vain = by_peer && l->slept.ns && nb_time_diff(now, l->slept) < BACK_AT_ONCE_NS;
	if (!l->vain)
		l->patience = 1;
	l->used = now;
}

void client_lazy_slept(struct client_lazy *l, bool ours, struct nb_time now)
{
	if (!ours || !l->vain)
		l->patience = 1;
	else if (l->patience < PATIENCE_MAX)
		l->patience *= PATIENCE_STEP;
	l->slept = ours ? now : (struct nb_time){ 0 };
	l->wanted.ns = 0;
}

void client_lazy_used(struct client_lazy *l, struct nb_time now)
{
	l->used = now;
	l->vain = false;
}

void client_lazy_called(struct client_lazy *l, struct nb_time now)
{
	l->used = now;
}

void client_lazy_wanted(struct client_lazy *l, struct nb_time now)
{
	client_lazy_used(l, now);
	l->wanted = now;
}

struct nb_time client_lazy_due(const struct client_lazy *l, int64_t idle_ns, bool connected, struct nb_time changed)
{
	struct nb_time from = l->used;

	if (connected) {
		unsigned patience = l->patience ? l->patience : 1;

		return nb_time_add(from, idle_ns > INT64_MAX / 4 / patience ? INT64_MAX / 4 : idle_ns * patience);
	}
	if (nb_time_before(from, changed))
		from = changed;
	return nb_time_add(from, idle_ns < CLIENT_LAZY_REACH_NS ? idle_ns : CLIENT_LAZY_REACH_NS);
}

bool client_lazy_outdated(const struct client_lazy *l, bool connected, struct nb_time now)
{
	return !connected && l->wanted.ns && nb_time_diff(now, l->wanted) < CROSSING_NS;
}
