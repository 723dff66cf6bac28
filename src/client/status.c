/* status.c - see status.h. One walk (overview) writes JSON and YAML through an emitter that knows the
 * two notations; the text form has its own walk. The notation details are Go's: encoding/json and
 * yaml.v3 decide about escapes, quotes and indentation, so those rules are kept apart at the top. */
#include "client/status.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/addr.h"
#include "base/err.h"

#define GO_ZERO_SECONDS (-62135596800LL) /* 0001-01-01T00:00:00Z, Go's zero time */
#define MAX_DEPTH 8

struct stamp {
	int64_t seconds;
	int32_t nanos;
	bool utc;	/* shown in UTC whatever the time zone */
};

/* --- numbers and times as Go prints them */

/* Cut the zeros at the end of nine fraction digits; writes ".5" or nothing. */
static void fraction(char *out, int32_t nanos)
{
	int n;

	*out = '\0';
	if (nanos <= 0 || nanos > 999999999)
		return;
	n = sprintf(out, ".%09d", nanos);
	while (out[n - 1] == '0')
		out[--n] = '\0';
}

/* Unsigned whole part and fraction of v in units of unit, zeros cut. */
static int with_fraction(char *out, size_t cap, uint64_t v, uint64_t unit, int digits)
{
	char frac[24];
	uint64_t rest = v % unit;
	int n = 0;

	frac[0] = '\0';
	if (rest) {
		n = snprintf(frac, sizeof frac, ".%0*llu", digits, (unsigned long long)rest);
		while (frac[n - 1] == '0')
			frac[--n] = '\0';
	}
	return snprintf(out, cap, "%llu%s", (unsigned long long)(v / unit), frac);
}

void client_go_duration(char *out, size_t cap, int64_t ns)
{
	uint64_t v = ns < 0 ? -(uint64_t)ns : (uint64_t)ns;
	const char *sign = ns < 0 ? "-" : "";
	char part[48];

	if (v == 0) {
		snprintf(out, cap, "0s");
	} else if (v < 1000) {
		snprintf(out, cap, "%s%lluns", sign, (unsigned long long)v);
	} else if (v < 1000000) {
		with_fraction(part, sizeof part, v, 1000, 3);
		snprintf(out, cap, "%s%s\xc2\xb5s", sign, part);
	} else if (v < 1000000000) {
		with_fraction(part, sizeof part, v, 1000000, 6);
		snprintf(out, cap, "%s%sms", sign, part);
	} else {
		uint64_t minutes = v / 60000000000ULL;

		with_fraction(part, sizeof part, v % 60000000000ULL, 1000000000, 9);
		if (minutes == 0)
			snprintf(out, cap, "%s%ss", sign, part);
		else if (minutes < 60)
			snprintf(out, cap, "%s%llum%ss", sign, (unsigned long long)minutes, part);
		else
			snprintf(out, cap, "%s%lluh%llum%ss", sign, (unsigned long long)(minutes / 60),
				 (unsigned long long)(minutes % 60), part);
	}
}

void client_size_text(char *out, size_t cap, int64_t bytes)
{
	double div = 1024;
	int64_t n = bytes / 1024;
	int exp = 0;

	if (bytes < 1024) {
		snprintf(out, cap, "%lld B", (long long)bytes);
		return;
	}
	for (; n >= 1024; n /= 1024, exp++)
		div *= 1024;
	snprintf(out, cap, "%.1f %ciB", (double)bytes / div, "KMGTPE"[exp]);
}

/* "1 hour, 1 minute ago": the second unit is left out when zero. Stock knows its singular only after a
 * single first unit ("2 hours, 1 minutes ago"). */
static void two_units(char *out, size_t cap, long long a, const char *unit_a, long long b, const char *unit_b)
{
	int n = snprintf(out, cap, "%lld %s%s", a, unit_a, a == 1 ? "" : "s");

	if (b > 0 && n > 0 && (size_t)n < cap)
		n += snprintf(out + n, cap - (size_t)n, ", %lld %s%s", b, unit_b, a == 1 && b == 1 ? "" : "s");
	if (n > 0 && (size_t)n < cap)
		snprintf(out + n, cap - (size_t)n, " ago");
}

void client_age(char *out, size_t cap, int64_t seconds, int32_t nanos, struct nb_wall now)
{
	int64_t now_s = now.ns / NB_SEC, s;

	if ((seconds == GO_ZERO_SECONDS || seconds == 0) && nanos == 0) {
		snprintf(out, cap, "-");
		return;
	}
	/* A peer's clock may say anything: times more than 292 years away are where Go's durations end. */
	if (seconds < now_s - INT64_MAX / NB_SEC)
		seconds = now_s - INT64_MAX / NB_SEC;
	if (seconds > now_s + 1)
		seconds = now_s + 1;
	s = now_s - seconds;
	if (now.ns % NB_SEC < nanos)
		s--;
	if (s < 1)
		snprintf(out, cap, "Now");
	else if (s < 60)
		two_units(out, cap, s, "second", 0, "");
	else if (s < 3600)
		two_units(out, cap, s / 60, "minute", s % 60, "second");
	else if (s < 86400)
		two_units(out, cap, s / 3600, "hour", s / 60 % 60, "minute");
	else
		two_units(out, cap, s / 86400, "day", s / 3600 % 24, "hour");
}

void client_remaining_text(char *out, size_t cap, int64_t ns)
{
	bool past = ns <= 0;
	int64_t v = past ? (ns == INT64_MIN ? INT64_MAX : -ns) : ns, m = v / (60 * NB_SEC);
	char text[48];

	if (v < 60 * NB_SEC) {
		int64_t s = (v + NB_SEC / 2) / NB_SEC;

		snprintf(text, sizeof text, "%llds", (long long)(s < 1 ? 1 : s));
	} else if (m < 60) {
		snprintf(text, sizeof text, "%lldm", (long long)m);
	} else if (m < 1440) {
		snprintf(text, sizeof text, m % 60 ? "%lldh %lldm" : "%lldh", (long long)(m / 60), (long long)(m % 60));
	} else {
		snprintf(text, sizeof text, m / 60 % 24 ? "%lldd %lldh" : "%lldd", (long long)(m / 1440),
			 (long long)(m / 60 % 24));
	}
	snprintf(out, cap, past ? "expired %s ago" : "%s", text);
}

/* Days since 1970 to year, month and day of the Gregorian calendar (H. Hinnant's civil_from_days). */
static void civil(int64_t days, int64_t *y, int *m, int *d)
{
	int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t doe = z - era * 146097, yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;

	*d = (int)(doy - (153 * mp + 2) / 5 + 1);
	*m = (int)(mp < 10 ? mp + 3 : mp - 9);
	*y = yoe + era * 400 + (*m <= 2);
}

/* RFC 3339 with as many fraction digits as needed. out holds 64 bytes. */
static void rfc3339(char *out, struct stamp t, int offset)
{
	int64_t local = t.seconds + offset, days = local / 86400, rest = local % 86400, y;
	char frac[16], zone[16] = "Z";
	int m, d;

	if (rest < 0) {
		rest += 86400;
		days--;
	}
	civil(days, &y, &m, &d);
	fraction(frac, t.nanos);
	if (offset)
		snprintf(zone, sizeof zone, "%c%02d:%02d", offset < 0 ? '-' : '+', abs(offset) / 3600 % 100,
			 abs(offset) / 60 % 60);
	snprintf(out, 64, "%04lld-%02d-%02dT%02d:%02d:%02d%s%s", (long long)y, m, d, (int)(rest / 3600),
		 (int)(rest / 60 % 60), (int)(rest % 60), frac, zone);
}

/* --- the notations: encoding/json and yaml.v3 */

struct emitter {
	struct nb_buf *b;
	bool yaml;
	int depth;
	bool empty[MAX_DEPTH];	/* JSON: nothing written at this depth yet */
	int column[MAX_DEPTH];	/* YAML: where keys or dashes of this depth start */
	bool item[MAX_DEPTH];	/* YAML: the keys of this depth are those of a list item */
	bool inline_key;	/* YAML: the next key follows a dash */
};

/* One UTF-8 sequence at s; its length, 0 when it is not valid. */
static int utf8_len(const unsigned char *s)
{
	static const unsigned char least[] = { 0x80, 0xa0, 0x90 };
	int n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 :
		s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;

	for (int i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < least[1]) || (s[0] == 0xf0 && s[1] < least[2]) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

static void json_string(struct nb_buf *b, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	nb_buf_u8(b, '"');
	while (*s) {
		int n = utf8_len(s);

		if (n == 0) {
			nb_buf_str(b, "\\ufffd");
			s++;
			continue;
		}
		if (*s == '"' || *s == '\\')
			nb_buf_printf(b, "\\%c", *s);
		else if (*s < 0x20 && strchr("\b\f\n\r\t", *s))
			nb_buf_printf(b, "\\%c", "btn_fr"[*s - 8]);
		else if (*s < 0x20 || *s == '<' || *s == '>' || *s == '&')
			nb_buf_printf(b, "\\u%04x", *s);
		else if (n == 3 && s[0] == 0xe2 && s[1] == 0x80 && (s[2] == 0xa8 || s[2] == 0xa9))
			nb_buf_printf(b, "\\u202%c", s[2] == 0xa8 ? '8' : '9');
		else
			nb_buf_put(b, s, (size_t)n);
		s += n;
	}
	nb_buf_u8(b, '"');
}

/* "[-+]digits:MM[:MM...]" with an optional fraction: a number in base 60 for YAML 1.1. */
static bool yaml_base60(const char *s)
{
	int groups = 0;

	s += *s == '+' || *s == '-';
	if (!isdigit((unsigned char)*s))
		return false;
	s += strspn(s, "0123456789_");
	for (; *s == ':'; groups++) {
		size_t n = strspn(++s, "0123456789");

		if (n == 0 || n > 2 || (n == 2 && *s > '5'))
			return false;
		s += n;
	}
	if (*s == '.')
		s += 1 + strspn(s + 1, "0123456789_");
	return groups && !*s;
}

/* "2006-1-2", alone or with "T15:4:5[.9]ZONE" or " 15:4:5[.9]". */
static bool yaml_date(const char *s)
{
	int y, m, d, h, min, at = 0, at2 = 0;
	double sec;

	if (strspn(s, "0123456789") != 4 || sscanf(s, "%4d-%2d-%2d%n", &y, &m, &d, &at) != 3 || at < 8)
		return false;
	if (m < 1 || m > 12 || d < 1 || d > 31)
		return false;
	s += at;
	if (!*s)
		return true;
	if (!strchr("Tt ", *s) || sscanf(s + 1, "%2d:%2d:%lf%n", &h, &min, &sec, &at2) != 3)
		return false;
	if (*s == ' ')
		return !s[1 + at2];
	s += 1 + at2;
	return !strcmp(s, "Z") || (strchr("+-", *s) && strspn(s + 1, "0123456789:") == 5 && !s[6]);
}

/* A number in one of YAML's and Go's spellings. */
static bool yaml_number(const char *s)
{
	char plain[64];
	size_t n = 0;
	char *end;

	if (!*s || (!isdigit((unsigned char)*s) && !strchr("+-.", *s)))
		return false;
	for (; *s && n < sizeof plain - 1; s++)
		if (*s != '_')
			plain[n++] = *s;
	plain[n] = '\0';
	end = plain + (*plain == '+' || *plain == '-');
	if (n == sizeof plain - 1 || !*end || strpbrk(plain, "nNiIpP"))
		return false;
	if (!strncmp(end, "0b", 2))
		return end[2] && !end[2 + strspn(end + 2, "01")];
	if (!strncmp(end, "0o", 2))
		return end[2] && !end[2 + strspn(end + 2, "01234567")];
	strtod(plain, &end);
	return !*end && end != plain;
}

/* Something other than a string in YAML's eyes: such strings must be quoted. */
static bool yaml_looks_typed(const char *s)
{
	static const char *const words[] = { "", "~", "null", "Null", "NULL", "true", "True", "TRUE", "false", "False",
					     "FALSE", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no",
					     "No", "NO", "off", "Off", "OFF", ".inf", ".Inf", ".INF", "+.inf", "+.Inf",
					     "+.INF", "-.inf", "-.Inf", "-.INF", ".nan", ".NaN", ".NAN" };

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (!strcmp(s, words[i]))
			return true;
	return yaml_number(s) || yaml_date(s) || yaml_base60(s);
}

enum yaml_style { YAML_PLAIN, YAML_SINGLE, YAML_DOUBLE, YAML_LITERAL };

static enum yaml_style yaml_style(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t len = strlen(text);
	bool single = false, lines = false;

	if (yaml_looks_typed(text))
		return YAML_DOUBLE;
	for (size_t i = 0; i < len;) {
		int n = utf8_len(s + i);

		if (n == 0 || n == 4 || (s[i] < 0x20 && s[i] != '\n') || s[i] == 0x7f ||
		    (n == 2 && s[i] == 0xc2 && s[i + 1] < 0xa0))
			return YAML_DOUBLE;
		lines = lines || s[i] == '\n';
		single = single || (n == 3 && s[i] == 0xe2 && s[i + 1] == 0x80 && (s[i + 2] & 0xfe) == 0xa8);
		i += (size_t)n;
	}
	if (lines)	/* a block cannot begin or end in white space without further marks: quote those */
		return s[0] == ' ' || s[0] == '\n' || s[len - 1] == '\n' || s[len - 1] == ' ' || strstr(text, " \n") ?
			YAML_DOUBLE : YAML_LITERAL;
	if (s[0] == ' ' || s[len - 1] == ' ')
		single = true;
	if (strchr("#,[]{}&*!|>'\"%@`", s[0]) || (strchr("-?:", s[0]) && (!s[1] || s[1] == ' ')) ||
	    !strncmp(text, "---", 3) || !strncmp(text, "...", 3))
		single = true;
	for (size_t i = 1; i < len; i++)
		if ((s[i] == ':' && (i + 1 == len || s[i + 1] == ' ')) || (s[i] == '#' && s[i - 1] == ' '))
			single = true;
	return single ? YAML_SINGLE : YAML_PLAIN;
}

static void yaml_double(struct nb_buf *b, const char *text)
{
	static const char from[] = "\"\\\a\b\t\n\v\f\r\x1b", to[] = "\"\\abtnvfre";
	const unsigned char *s = (const unsigned char *)text;

	nb_buf_u8(b, '"');
	while (*s) {
		int n = utf8_len(s);
		const char *named = strchr(from, *s);

		if (named)
			nb_buf_printf(b, "\\%c", to[named - from]);
		else if (n == 4)
			nb_buf_printf(b, "\\U%08X", (s[0] & 7u) << 18 | (s[1] & 63u) << 12 | (s[2] & 63u) << 6 | (s[3] & 63u));
		else if (n < 1 || *s < 0x20 || *s == 0x7f)
			nb_buf_printf(b, "\\x%02X", *s);
		else
			nb_buf_put(b, s, (size_t)n);
		s += n < 1 ? 1 : n;
	}
	nb_buf_u8(b, '"');
}

/* column: where the lines of a block start. */
static void yaml_string(struct nb_buf *b, const char *text, int column)
{
	switch (yaml_style(text)) {
	case YAML_PLAIN:
		nb_buf_str(b, text);
		break;
	case YAML_DOUBLE:
		yaml_double(b, text);
		break;
	case YAML_SINGLE:
		nb_buf_u8(b, '\'');
		for (const char *s = text; *s; s++)
			nb_buf_str(b, *s == '\'' ? "''" : (char[]){ *s, '\0' });
		nb_buf_u8(b, '\'');
		break;
	case YAML_LITERAL:
		nb_buf_str(b, "|-");
		for (const char *s = text; *s; s += *s == '\n') {
			size_t n = strcspn(s, "\n");

			nb_buf_u8(b, '\n');
			if (n)
				nb_buf_printf(b, "%*s%.*s", column, "", (int)n, s);
			s += n;
		}
		break;
	}
}

static void spaces(struct emitter *e, int n)
{
	nb_buf_printf(e->b, "%*s", n, "");
}

static void comma(struct emitter *e)
{
	if (!e->empty[e->depth])
		nb_buf_u8(e->b, ',');
	e->empty[e->depth] = false;
}

static void key(struct emitter *e, const char *name)
{
	if (!e->yaml) {
		comma(e);
		json_string(e->b, name);
		nb_buf_u8(e->b, ':');
		return;
	}
	if (!e->inline_key)
		spaces(e, e->column[e->depth]);
	e->inline_key = false;
	yaml_string(e->b, name, 0);
	nb_buf_u8(e->b, ':');
}

/* The next deeper level; column is where its keys or dashes start in YAML. */
static void deeper(struct emitter *e, int column)
{
	if (e->depth < MAX_DEPTH - 1)
		e->depth++;
	e->empty[e->depth] = true;
	e->column[e->depth] = column;
	e->item[e->depth] = false;
}

/* yaml.v3 goes on to the next multiple of four. */
static int next_column(const struct emitter *e)
{
	return (e->column[e->depth] + 4) / 4 * 4;
}

/* A map as the value of a key. */
static void map_open(struct emitter *e)
{
	nb_buf_str(e->b, e->yaml ? "\n" : "{");
	deeper(e, next_column(e));
}

static void map_close(struct emitter *e)
{
	if (!e->yaml)
		nb_buf_u8(e->b, '}');
	e->depth--;
}

/* A list of n items; absent: JSON's word for an empty one ("null" or "[]"). False when there is
 * nothing to follow, list_close included. */
static bool list_open(struct emitter *e, size_t n, const char *absent)
{
	if (n == 0) {
		nb_buf_str(e->b, e->yaml ? " []\n" : absent);
		return false;
	}
	nb_buf_str(e->b, e->yaml ? "\n" : "[");
	deeper(e, next_column(e));
	return true;
}

static void list_close(struct emitter *e)
{
	if (!e->yaml)
		nb_buf_u8(e->b, ']');
	e->depth--;
}

/* A map as an item of a list. */
static void item_open(struct emitter *e)
{
	if (e->yaml) {
		spaces(e, e->column[e->depth]);
		nb_buf_str(e->b, "- ");
		e->inline_key = true;
	} else {
		comma(e);
		nb_buf_u8(e->b, '{');
	}
	deeper(e, e->column[e->depth] + 2);
	e->item[e->depth] = true;
}

/* A plain value, already in its notation. */
static void raw(struct emitter *e, const char *value)
{
	if (e->yaml)
		nb_buf_printf(e->b, " %s\n", value);
	else
		nb_buf_str(e->b, value);
}

static void put_string(struct emitter *e, const char *name, const char *v)
{
	key(e, name);
	if (!v)
		v = "";
	if (!e->yaml) {
		json_string(e->b, v);
		return;
	}
	nb_buf_u8(e->b, ' ');
	yaml_string(e->b, v, e->item[e->depth] ? e->column[e->depth] + 2 : next_column(e));
	nb_buf_u8(e->b, '\n');
}

static void put_string_if(struct emitter *e, const char *name, const char *v)
{
	if (v && *v)
		put_string(e, name, v);
}

static void put_bool(struct emitter *e, const char *name, bool v)
{
	key(e, name);
	raw(e, v ? "true" : "false");
}

static void put_int(struct emitter *e, const char *name, int64_t v)
{
	char text[24];

	snprintf(text, sizeof text, "%lld", (long long)v);
	key(e, name);
	raw(e, text);
}

static void put_strings(struct emitter *e, const char *name, char *const *v, size_t n)
{
	key(e, name);
	if (!list_open(e, n, "null"))
		return;
	for (size_t i = 0; i < n; i++) {
		if (e->yaml) {
			spaces(e, e->column[e->depth]);
			nb_buf_str(e->b, "- ");
			yaml_string(e->b, v[i], e->column[e->depth] + 2);
			nb_buf_u8(e->b, '\n');
		} else {
			comma(e);
			json_string(e->b, v[i]);
		}
	}
	list_close(e);
}

static void put_time(struct emitter *e, const char *name, struct stamp t, const struct client_status_view *v)
{
	char text[64], quoted[72];

	rfc3339(text, t, t.utc || !v->utc_offset ? 0 : v->utc_offset(t.seconds));
	key(e, name);
	snprintf(quoted, sizeof quoted, e->yaml ? "%s" : "\"%s\"", text);
	raw(e, quoted);
}

static void put_duration(struct emitter *e, const char *name, int64_t ns)
{
	char text[40];

	if (!e->yaml) {
		put_int(e, name, ns);
		return;
	}
	client_go_duration(text, sizeof text, ns);
	key(e, name);
	raw(e, text);
}

/* --- the answer, made comfortable */

static const char *text(const char *s)
{
	return s ? s : "";
}

static struct stamp stamp_of(const Google__Protobuf__Timestamp *t, bool utc)
{
	return (struct stamp){ t ? t->seconds : 0, t ? t->nanos : 0, utc };
}

struct peer {
	const Daemon__PeerState *p;
	const char *type;	/* "P2P", "Relayed" or "-" */
	bool connected;
	struct nb_addr addr;	/* for the order */
	size_t index;		/* keeps the order of equals */
};

struct overview {
	const Daemon__FullStatus *s;
	struct peer *peers;	/* filtered and sorted */
	size_t n_peers, n_connected;
	size_t relays_available;
	int err;
};

static const Daemon__FullStatus no_status = DAEMON__FULL_STATUS__INIT;
static const Daemon__ManagementState no_management = DAEMON__MANAGEMENT_STATE__INIT;
static const Daemon__SignalState no_signal = DAEMON__SIGNAL_STATE__INIT;
static const Daemon__LocalPeerState no_local = DAEMON__LOCAL_PEER_STATE__INIT;

static const Daemon__ManagementState *management_of(const Daemon__FullStatus *s)
{
	return s->managementstate ? s->managementstate : &no_management;
}

static const Daemon__SignalState *signal_of(const Daemon__FullStatus *s)
{
	return s->signalstate ? s->signalstate : &no_signal;
}

static const Daemon__LocalPeerState *local_of(const Daemon__FullStatus *s)
{
	return s->localpeerstate ? s->localpeerstate : &no_local;
}

static bool same_word(const char *a, const char *b)
{
	return strcasecmp(text(a), text(b)) == 0;
}

static bool shown(const struct client_status_filter *f, const struct peer *p)
{
	bool ip = f->n_ips == 0, name = f->n_names == 0;

	if (f->status && *f->status && !same_word(p->p->connstatus, f->status))
		return false;
	if (f->connection && *f->connection && !same_word(p->type, f->connection))
		return false;
	for (size_t i = 0; i < f->n_ips && !ip; i++)
		ip = !strcmp(f->ips[i], text(p->p->ip)) || !strcmp(f->ips[i], text(p->p->ipv6));
	for (size_t i = 0; i < f->n_names && !name; i++) {
		const char *want = f->names[i], *have = text(p->p->fqdn);

		while (*want && tolower((unsigned char)*want) == (unsigned char)*have)
			want++, have++;
		name = !*want;
	}
	return ip && name;
}

static int by_address(const void *a, const void *b)
{
	const struct peer *x = a, *y = b;
	int d = x->addr.family - y->addr.family;

	if (!d)
		d = memcmp(x->addr.ip, y->addr.ip, sizeof x->addr.ip);
	return d ? d : x->index < y->index ? -1 : 1;
}

static void overview_init(struct overview *o, const struct client_status_view *v)
{
	memset(o, 0, sizeof *o);
	o->s = v->answer->fullstatus ? v->answer->fullstatus : &no_status;
	for (size_t i = 0; i < o->s->n_relays; i++)
		o->relays_available += o->s->relays[i]->available;
	if (!o->s->n_peers)
		return;
	o->peers = calloc(o->s->n_peers, sizeof *o->peers);
	if (!o->peers) {
		o->err = NB_E_NOMEM;
		return;
	}
	for (size_t i = 0; i < o->s->n_peers; i++) {
		struct peer p = { .p = o->s->peers[i], .type = "-", .index = i };

		p.connected = !strcmp(text(p.p->connstatus), "Connected");
		if (p.connected)
			p.type = p.p->relayed ? "Relayed" : "P2P";
		if (nb_addr_parse(&p.addr, text(p.p->ip)))
			memset(&p.addr, 0, sizeof p.addr);
		if (!shown(&v->filter, &p))
			continue;
		o->n_connected += p.connected;
		o->peers[o->n_peers++] = p;
	}
	qsort(o->peers, o->n_peers, sizeof *o->peers, by_address);
}

static void overview_fini(struct overview *o)
{
	free(o->peers);
}

static const char *severity_name(int v, char other[16])
{
	static const char *const names[] = { "INFO", "WARNING", "ERROR", "CRITICAL" };

	snprintf(other, 16, "%d", v);
	return v >= 0 && v < 4 ? names[v] : other;
}

static const char *category_name(int v, char other[16])
{
	static const char *const names[] = { "NETWORK", "DNS", "AUTHENTICATION", "CONNECTIVITY", "SYSTEM" };

	snprintf(other, 16, "%d", v);
	return v >= 0 && v < 5 ? names[v] : other;
}

static int64_t latency_of(const Daemon__PeerState *p)
{
	int64_t ns;

	if (!p->latency || __builtin_mul_overflow(p->latency->seconds, NB_SEC, &ns))
		return 0;
	return __builtin_add_overflow(ns, p->latency->nanos, &ns) ? 0 : ns;
}

/* --- JSON and YAML */

static void put_pair(struct emitter *e, const char *name, const char *local, const char *remote)
{
	key(e, name);
	map_open(e);
	put_string(e, "local", local);
	put_string(e, "remote", remote);
	map_close(e);
}

static void put_peer(struct emitter *e, const struct peer *p, const struct client_status_view *v)
{
	const Daemon__PeerState *s = p->p;
	bool up = p->connected;
	struct stamp none = { GO_ZERO_SECONDS, 0, true };

	item_open(e);
	put_string(e, "fqdn", s->fqdn);
	put_string(e, "netbirdIp", s->ip);
	put_string_if(e, "netbirdIpv6", s->ipv6);
	put_string(e, "publicKey", s->pubkey);
	put_string(e, "status", s->connstatus);
	put_time(e, "lastStatusUpdate", stamp_of(s->connstatusupdate, false), v);
	put_string(e, "connectionType", p->type);
	put_pair(e, "iceCandidateType", up ? s->localicecandidatetype : "", up ? s->remoteicecandidatetype : "");
	put_pair(e, "iceCandidateEndpoint", up ? s->localicecandidateendpoint : "",
		 up ? s->remoteicecandidateendpoint : "");
	put_string(e, "relayAddress", up ? s->relayaddress : "");
	put_time(e, "lastWireguardHandshake", up ? stamp_of(s->lastwireguardhandshake, false) : none, v);
	put_int(e, "transferReceived", up ? s->bytesrx : 0);
	put_int(e, "transferSent", up ? s->bytestx : 0);
	put_duration(e, "latency", latency_of(s));
	put_bool(e, "quantumResistance", s->rosenpassenabled);
	put_strings(e, "networks", s->networks, s->n_networks);
	map_close(e);
}

static void put_peers(struct emitter *e, const struct overview *o, const struct client_status_view *v)
{
	key(e, "peers");
	map_open(e);
	put_int(e, "total", (int64_t)o->n_peers);
	put_int(e, "connected", (int64_t)o->n_connected);
	key(e, "details");
	if (list_open(e, o->n_peers, "null")) {
		for (size_t i = 0; i < o->n_peers; i++)
			put_peer(e, &o->peers[i], v);
		list_close(e);
	}
	map_close(e);
}

static void put_server(struct emitter *e, const char *name, const char *url, bool connected, const char *error)
{
	key(e, name);
	map_open(e);
	put_string(e, "url", url);
	put_bool(e, "connected", connected);
	put_string(e, "error", error);
	map_close(e);
}

/* Errors of several attempts come with a line each; they are shown on one. */
static void one_line(struct nb_buf *out, const char *error)
{
	for (error = text(error); *error; error++)
		nb_buf_str(out, *error == '\n' ? "; " : (char[]){ *error, '\0' });
}

static void put_relays(struct emitter *e, const struct overview *o)
{
	key(e, "relays");
	map_open(e);
	put_int(e, "total", (int64_t)o->s->n_relays);
	put_int(e, "available", (int64_t)o->relays_available);
	key(e, "details");
	if (list_open(e, o->s->n_relays, "null")) {
		for (size_t i = 0; i < o->s->n_relays; i++) {
			const Daemon__RelayState *r = o->s->relays[i];
			struct nb_buf error;

			nb_buf_init(&error, 65536);
			one_line(&error, r->error);
			item_open(e);
			put_string(e, "uri", r->uri);
			put_bool(e, "available", r->available);
			put_string(e, "error", nb_buf_cstr(&error));
			put_string_if(e, "transport", r->transport);
			map_close(e);
			nb_buf_fini(&error);
		}
		list_close(e);
	}
	map_close(e);
}

static void put_dns(struct emitter *e, const Daemon__FullStatus *s)
{
	key(e, "dnsServers");
	if (!list_open(e, s->n_dns_servers, "[]"))
		return;
	for (size_t i = 0; i < s->n_dns_servers; i++) {
		const Daemon__NSGroupState *g = s->dns_servers[i];

		item_open(e);
		put_strings(e, "servers", g->servers, g->n_servers);
		put_strings(e, "domains", g->domains, g->n_domains);
		put_bool(e, "enabled", g->enabled);
		put_string(e, "error", g->error);
		map_close(e);
	}
	list_close(e);
}

static int by_key(const void *a, const void *b)
{
	const Daemon__SystemEvent__MetadataEntry *const *x = a, *const *y = b;

	return strcmp(text((*x)->key), text((*y)->key));
}

/* The metadata of an event in the order of its keys; NULL when there is none (or no memory). */
static Daemon__SystemEvent__MetadataEntry **sorted_metadata(const Daemon__SystemEvent *v)
{
	Daemon__SystemEvent__MetadataEntry **m;

	if (!v->n_metadata)
		return NULL;
	m = malloc(v->n_metadata * sizeof *m);
	if (!m)
		return NULL;
	memcpy(m, v->metadata, v->n_metadata * sizeof *m);
	qsort(m, v->n_metadata, sizeof *m, by_key);
	return m;
}

static void put_metadata(struct emitter *e, const Daemon__SystemEvent *v)
{
	Daemon__SystemEvent__MetadataEntry **m = sorted_metadata(v);

	key(e, "metadata");
	if (!m) {
		raw(e, e->yaml ? "{}" : "null");
		return;
	}
	map_open(e);
	for (size_t i = 0; i < v->n_metadata; i++)
		put_string(e, text(m[i]->key), m[i]->value);
	map_close(e);
	free(m);
}

static void put_events(struct emitter *e, const Daemon__FullStatus *s, const struct client_status_view *v)
{
	char other[16];

	key(e, "events");
	if (!list_open(e, s->n_events, "[]"))
		return;
	for (size_t i = 0; i < s->n_events; i++) {
		const Daemon__SystemEvent *x = s->events[i];

		item_open(e);
		put_string(e, "id", x->id);
		put_string(e, "severity", severity_name((int)x->severity, other));
		put_string(e, "category", category_name((int)x->category, other));
		put_string(e, "message", x->message);
		put_string(e, "userMessage", x->usermessage);
		put_time(e, "timestamp", stamp_of(x->timestamp, true), v);
		put_metadata(e, x);
		map_close(e);
	}
	list_close(e);
}

static void put_ssh(struct emitter *e, const Daemon__SSHServerState *s)
{
	key(e, "sshServer");
	map_open(e);
	put_bool(e, "enabled", s && s->enabled);
	key(e, "sessions");
	if (list_open(e, s ? s->n_sessions : 0, "[]")) {
		for (size_t i = 0; i < s->n_sessions; i++) {
			const Daemon__SSHSessionInfo *x = s->sessions[i];

			item_open(e);
			put_string(e, "username", x->username);
			put_string(e, "remoteAddress", x->remoteaddress);
			put_string(e, "command", x->command);
			put_string_if(e, "jwtUsername", x->jwtusername);
			if (x->n_portforwards)
				put_strings(e, "portForwards", x->portforwards, x->n_portforwards);
			map_close(e);
		}
		list_close(e);
	}
	map_close(e);
}

/* Ours, and so behind everything that is stock's. */
static void put_why(struct emitter *e, const struct overview *o)
{
	key(e, "nestbox");
	map_open(e);
	key(e, "peers");
	if (list_open(e, o->n_peers, "[]")) {
		for (size_t i = 0; i < o->n_peers; i++) {
			const Daemon__PeerState *p = o->peers[i].p;
			const Nestbox__PeerWhy *w = p->nestbox;

			item_open(e);
			put_string(e, "fqdn", p->fqdn);
			put_string(e, "why", w ? w->sentence : NULL);
			put_strings(e, "pairs", w ? w->pairs : NULL, w ? w->n_pairs : 0);
			map_close(e);
		}
		list_close(e);
	}
	map_close(e);
}

static void put_overview(struct emitter *e, const struct overview *o, const struct client_status_view *v)
{
	const Daemon__FullStatus *s = o->s;
	const Daemon__LocalPeerState *l = local_of(s);
	const Daemon__ManagementState *m = management_of(s);
	const Daemon__SignalState *g = signal_of(s);

	put_peers(e, o, v);
	put_string(e, "cliVersion", v->cli_version);
	put_string(e, "daemonVersion", v->answer->daemonversion);
	put_string(e, "daemonStatus", v->answer->status);
	put_server(e, "management", m->url, m->connected, m->error);
	put_server(e, "signal", g->url, g->connected, g->error);
	put_relays(e, o);
	put_string(e, "netbirdIp", l->ip);
	put_string_if(e, "netbirdIpv6", l->ipv6);
	put_string(e, "publicKey", l->pubkey);
	put_bool(e, "usesKernelInterface", l->kernelinterface);
	put_int(e, "wireguardPort", l->wgport);
	put_string(e, "fqdn", l->fqdn);
	put_bool(e, "quantumResistance", l->rosenpassenabled);
	put_bool(e, "quantumResistancePermissive", l->rosenpasspermissive);
	put_strings(e, "networks", l->networks, l->n_networks);
	put_int(e, "forwardingRules", s->numberofforwardingrules);
	put_dns(e, s);
	put_events(e, s, v);
	put_bool(e, "lazyConnectionEnabled", s->lazyconnectionenabled);
	put_string(e, "profileName", v->profile);
	put_ssh(e, s->sshserverstate);
	if (v->answer->sessionexpiresat)
		put_time(e, "sessionExpiresAt", stamp_of(v->answer->sessionexpiresat, true), v);
	if (v->why)
		put_why(e, o);
}

static int notation(struct nb_buf *out, const struct client_status_view *v, bool yaml)
{
	struct emitter e = { .b = out, .yaml = yaml, .empty = { true } };
	struct overview o;

	overview_init(&o, v);
	if (o.err)
		return o.err;
	if (!yaml)
		nb_buf_u8(out, '{');
	put_overview(&e, &o, v);
	if (!yaml)
		nb_buf_u8(out, '}');
	overview_fini(&o);
	return out->err;
}

int client_status_json(struct nb_buf *out, const struct client_status_view *v)
{
	return notation(out, v, false);
}

int client_status_yaml(struct nb_buf *out, const struct client_status_view *v)
{
	return notation(out, v, true);
}

/* --- text */

#if defined(__x86_64__)
#define ARCH "amd64"
#elif defined(__aarch64__)
#define ARCH "arm64"
#elif defined(__arm__)
#define ARCH_STRING(x) #x
#define ARCH_NUMBER(x) ARCH_STRING(x)
#define ARCH "arm (ARMv" ARCH_NUMBER(__ARM_ARCH) ")"
#elif defined(__i386__)
#define ARCH "386"
#elif defined(__riscv)
#define ARCH "riscv64"
#elif defined(__mips64)
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCH "mips64le"
#else
#define ARCH "mips64"
#endif
#elif defined(__mips__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCH "mipsle"
#elif defined(__mips__)
#define ARCH "mips"
#else
#define ARCH "unknown"
#endif

const char *client_status_os(void)
{
	return "linux/" ARCH;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "a, b" in order of the texts when sorted is set. */
static void join(struct nb_buf *out, char *const *v, size_t n, bool sorted)
{
	char **order = n ? malloc(n * sizeof *order) : NULL;

	if (n && !order) {
		out->err = NB_E_NOMEM;
		return;
	}
	if (n)
		memcpy(order, v, n * sizeof *order);
	if (sorted && n)
		qsort(order, n, sizeof *order, by_text);
	for (size_t i = 0; i < n; i++)
		nb_buf_printf(out, "%s%s", i ? ", " : "", order[i]);
	free(order);
}

static void networks_text(struct nb_buf *out, char *const *v, size_t n)
{
	if (n)
		join(out, v, n, true);
	else
		nb_buf_str(out, "-");
}

static void server_line(struct nb_buf *out, const char *name, bool connected, const char *url, const char *error,
			bool full)
{
	nb_buf_printf(out, "%s: %s", name, connected ? "Connected" : "Disconnected");
	if (connected && full)
		nb_buf_printf(out, " to %s", text(url));
	if (!connected && *text(error))
		nb_buf_printf(out, ", reason: %s", error);
	nb_buf_u8(out, '\n');
}

/* What a daemon says about a STUN or TURN server while it is being asked. */
#define PROBE_RUNNING "probe check is already in progress"

static void relays_text(struct nb_buf *out, const struct overview *o, bool full)
{
	nb_buf_str(out, "Relays: ");
	if (!full)
		nb_buf_printf(out, "%zu/%zu Available", o->relays_available, o->s->n_relays);
	for (size_t i = 0; full && i < o->s->n_relays; i++) {
		const Daemon__RelayState *r = o->s->relays[i];

		nb_buf_printf(out, "\n  [%s] is ", text(r->uri));
		if (r->available) {
			nb_buf_str(out, "Available");
			if (*text(r->transport))
				nb_buf_printf(out, " via %s", r->transport);
		} else if (!strcmp(text(r->error), PROBE_RUNNING)) {
			nb_buf_str(out, "Checking...");
		} else {
			nb_buf_str(out, "Unavailable, reason: ");
			one_line(out, r->error);
		}
	}
	nb_buf_u8(out, '\n');
}

static void dns_text(struct nb_buf *out, const Daemon__FullStatus *s, bool full)
{
	size_t enabled = 0;

	for (size_t i = 0; i < s->n_dns_servers; i++)
		enabled += s->dns_servers[i]->enabled;
	nb_buf_str(out, "Nameservers: ");
	if (!full)
		nb_buf_printf(out, "%zu/%zu Available", enabled, s->n_dns_servers);
	for (size_t i = 0; full && i < s->n_dns_servers; i++) {
		const Daemon__NSGroupState *g = s->dns_servers[i];

		nb_buf_str(out, "\n  [");
		join(out, g->servers, g->n_servers, false);
		nb_buf_str(out, "] for [");
		if (g->n_domains == 0 || (g->n_domains == 1 && !*g->domains[0]))
			nb_buf_str(out, ".");
		else
			join(out, g->domains, g->n_domains, false);
		nb_buf_printf(out, "] is %s", g->enabled ? "Available" : "Unavailable");
		if (*text(g->error)) {
			size_t n = strlen(g->error);

			while (n && isspace((unsigned char)g->error[n - 1]))
				n--;
			nb_buf_printf(out, ", reason:%s%.*s", n ? " " : "", (int)n, g->error);
		}
	}
	nb_buf_u8(out, '\n');
}

static void ssh_text(struct nb_buf *out, const Daemon__SSHServerState *s, bool full)
{
	nb_buf_printf(out, "SSH Server: %s", s && s->enabled ? "Enabled" : "Disabled");
	if (s && s->enabled && s->n_sessions)
		nb_buf_printf(out, " (%zu active session%s)", s->n_sessions, s->n_sessions > 1 ? "s" : "");
	for (size_t i = 0; s && s->enabled && full && i < s->n_sessions; i++) {
		const Daemon__SSHSessionInfo *x = s->sessions[i];

		if (*text(x->jwtusername))
			nb_buf_printf(out, "\n  [%s@%s -> %s] %s", x->jwtusername, text(x->remoteaddress),
				      text(x->username), text(x->command));
		else
			nb_buf_printf(out, "\n  [%s@%s] %s", text(x->username), text(x->remoteaddress),
				      text(x->command));
		for (size_t k = 0; k < x->n_portforwards; k++)
			nb_buf_printf(out, "\n    %s", x->portforwards[k]);
	}
	nb_buf_u8(out, '\n');
}

static void expiry_text(struct nb_buf *out, const struct client_status_view *v)
{
	struct stamp t = stamp_of(v->answer->sessionexpiresat, true);
	char when[64], left[48];
	int64_t ns;

	if (!v->answer->sessionexpiresat)
		return;
	if (__builtin_mul_overflow(t.seconds, NB_SEC, &ns))
		ns = t.seconds < 0 ? INT64_MIN / 2 : INT64_MAX / 2;
	client_remaining_text(left, sizeof left, ns + t.nanos - v->now.ns);
	t.nanos = 0;
	rfc3339(when, t, 0);
	nb_buf_printf(out, "Session expires: %s (in %s)\n", when, left);
}

static void general(struct nb_buf *out, const struct overview *o, const struct client_status_view *v, bool full)
{
	const Daemon__FullStatus *s = o->s;
	const Daemon__LocalPeerState *l = local_of(s);
	const Daemon__ManagementState *m = management_of(s);
	const Daemon__SignalState *g = signal_of(s);
	bool has_ip = *text(l->ip) || l->kernelinterface;

	nb_buf_printf(out, "OS: %s\n", client_status_os());
	nb_buf_printf(out, "Daemon version: %s\n", *text(v->answer->daemonversion) ? v->answer->daemonversion : "N/A");
	nb_buf_printf(out, "CLI version: %s\n", v->cli_version);
	nb_buf_printf(out, "Profile: %s\n", text(v->profile));
	server_line(out, "Management", m->connected, m->url, m->error, full);
	server_line(out, "Signal", g->connected, g->url, g->error, full);
	relays_text(out, o, full);
	dns_text(out, s, full);
	nb_buf_printf(out, "FQDN: %s\n", text(l->fqdn));
	nb_buf_printf(out, "NetBird IP: %s\n", has_ip ? text(l->ip) : "N/A");
	if (*text(l->ipv6))
		nb_buf_printf(out, "NetBird IPv6: %s\n", l->ipv6);
	nb_buf_printf(out, "Interface type: %s\n", l->kernelinterface ? "Kernel" : has_ip ? "Userspace" : "N/A");
	if (l->wgport > 0)
		nb_buf_printf(out, "Wireguard port: %d\n", l->wgport);
	else
		nb_buf_str(out, "Wireguard port: N/A\n");
	nb_buf_printf(out, "Quantum resistance: %s\n",
		      !l->rosenpassenabled ? "false" : l->rosenpasspermissive ? "true (permissive)" : "true");
	nb_buf_printf(out, "Lazy connection: %s\n", s->lazyconnectionenabled ? "true" : "false");
	ssh_text(out, s->sshserverstate, full);
	nb_buf_str(out, "Networks: ");
	networks_text(out, l->networks, l->n_networks);
	nb_buf_u8(out, '\n');
	if (s->numberofforwardingrules > 0)
		nb_buf_printf(out, "Forwarding rules: %d\n", s->numberofforwardingrules);
	expiry_text(out, v);
	nb_buf_printf(out, "Peers count: %zu/%zu Connected\n", o->n_connected, o->n_peers);
}

static const char *dash(const char *s, bool up)
{
	return up && *text(s) ? s : "-";
}

static const char *quantum_text(const Daemon__LocalPeerState *l, const Daemon__PeerState *p)
{
	if (l->rosenpassenabled && p->rosenpassenabled)
		return "true";
	if (l->rosenpassenabled && l->rosenpasspermissive)
		return "false (remote didn't enable quantum resistance)";
	if (l->rosenpassenabled)
		return "false (connection won't work without a permissive mode)";
	if (p->rosenpassenabled)
		return "false (connection might not work without a remote permissive mode)";
	return "false";
}

static void peer_text(struct nb_buf *out, const struct peer *p, const struct overview *o,
		      const struct client_status_view *v)
{
	const Daemon__PeerState *s = p->p;
	struct stamp update = stamp_of(s->connstatusupdate, false);
	struct stamp shake = p->connected ? stamp_of(s->lastwireguardhandshake, false) : (struct stamp){ 0 };
	char age[64], shake_age[64], rx[32], tx[32], latency[40];

	client_age(age, sizeof age, update.seconds, update.nanos, v->now);
	client_age(shake_age, sizeof shake_age, shake.seconds, shake.nanos, v->now);
	client_size_text(rx, sizeof rx, p->connected ? s->bytesrx : 0);
	client_size_text(tx, sizeof tx, p->connected ? s->bytestx : 0);
	client_go_duration(latency, sizeof latency, latency_of(s));
	nb_buf_printf(out, "\n %s:\n  NetBird IP: %s\n", text(s->fqdn), text(s->ip));
	if (*text(s->ipv6))
		nb_buf_printf(out, "  NetBird IPv6: %s\n", s->ipv6);
	nb_buf_printf(out, "  Public key: %s\n  Status: %s\n  -- detail --\n", text(s->pubkey), text(s->connstatus));
	nb_buf_printf(out, "  Connection type: %s\n", p->type);
	nb_buf_printf(out, "  ICE candidate (Local/Remote): %s/%s\n", dash(s->localicecandidatetype, p->connected),
		      dash(s->remoteicecandidatetype, p->connected));
	nb_buf_printf(out, "  ICE candidate endpoints (Local/Remote): %s/%s\n",
		      dash(s->localicecandidateendpoint, p->connected),
		      dash(s->remoteicecandidateendpoint, p->connected));
	nb_buf_printf(out, "  Relay server address: %s\n", p->connected ? text(s->relayaddress) : "");
	nb_buf_printf(out, "  Last connection update: %s\n  Last WireGuard handshake: %s\n", age, shake_age);
	nb_buf_printf(out, "  Transfer status (received/sent) %s/%s\n", rx, tx);
	nb_buf_printf(out, "  Quantum resistance: %s\n", quantum_text(local_of(o->s), s));
	nb_buf_str(out, "  Networks: ");
	networks_text(out, s->networks, s->n_networks);
	nb_buf_printf(out, "\n  Latency: %s\n", latency);
}

static void event_text(struct nb_buf *out, const Daemon__SystemEvent *x, struct nb_wall now)
{
	Daemon__SystemEvent__MetadataEntry **m = sorted_metadata(x);
	struct stamp t = stamp_of(x->timestamp, true);
	char age[64], a[16], b[16];

	client_age(age, sizeof age, t.seconds, t.nanos, now);
	nb_buf_printf(out, "\n  [%s] %s (%s)\n    Message: %s\n    Time: %s", severity_name((int)x->severity, a),
		      category_name((int)x->category, b), text(x->id), text(x->message), age);
	for (size_t i = 0; m && i < x->n_metadata; i++)
		nb_buf_printf(out, "%s%s: %s", i ? ", " : "\n    Metadata: ", text(m[i]->key), text(m[i]->value));
	free(m);
}

int client_status_summary(struct nb_buf *out, const struct client_status_view *v)
{
	struct overview o;

	overview_init(&o, v);
	if (o.err)
		return o.err;
	general(out, &o, v, false);
	overview_fini(&o);
	return out->err;
}

int client_status_detail(struct nb_buf *out, const struct client_status_view *v)
{
	struct overview o;

	overview_init(&o, v);
	if (o.err)
		return o.err;
	nb_buf_str(out, "Peers detail:");
	for (size_t i = 0; i < o.n_peers; i++)
		peer_text(out, &o.peers[i], &o, v);
	nb_buf_str(out, "\nEvents:");
	if (!o.s->n_events)
		nb_buf_str(out, " No events recorded");
	for (size_t i = 0; i < o.s->n_events; i++)
		event_text(out, o.s->events[i], v->now);
	nb_buf_u8(out, '\n');
	general(out, &o, v, true);
	overview_fini(&o);
	return out->err;
}

int client_status_why(struct nb_buf *out, const struct client_status_view *v)
{
	struct overview o;

	overview_init(&o, v);
	if (o.err)
		return o.err;
	for (size_t i = 0; i < o.n_peers; i++) {
		const Daemon__PeerState *p = o.peers[i].p;
		const Nestbox__PeerWhy *w = p->nestbox;

		nb_buf_printf(out, "%s (%s)\n  %s\n", text(p->fqdn), text(p->ip),
			      w ? text(w->sentence) : "the agent does not say: it is another program, or older");
		for (size_t k = 0; w && k < w->n_pairs; k++)
			nb_buf_printf(out, "  tried %s\n", text(w->pairs[k]));
	}
	if (!o.n_peers)
		nb_buf_str(out, "no peers\n");
	overview_fini(&o);
	return out->err;
}

bool client_status_login_hint(struct nb_buf *out, const Daemon__StatusResponse *r)
{
	const char *s = text(r->status);

	if (strcmp(s, "NeedsLogin") && strcmp(s, "LoginFailed") && strcmp(s, "SessionExpired"))
		return false;
	nb_buf_printf(out,
		      "Daemon status: %s\n\n"
		      "Run UP command to log in with SSO (interactive login):\n\n"
		      " netbird up \n\n"
		      "If you are running a self-hosted version and no SSO provider has been configured in your "
		      "Management Server,\n"
		      "you can use a setup-key:\n\n"
		      " netbird up --management-url <YOUR_MANAGEMENT_URL> --setup-key <YOUR_SETUP_KEY>\n\n"
		      "More info: https://docs.netbird.io/how-to/register-machines-using-setup-keys\n\n",
		      s);
	return true;
}

int client_status_ip(struct nb_buf *out, const char *prefix)
{
	struct nb_prefix p;
	char ip[NB_ADDR_TEXT];

	if (!strchr(text(prefix), '/') || nb_prefix_parse(&p, prefix))
		return out->err;
	nb_addr_format(ip, &p.addr);
	return nb_buf_printf(out, "%s\n", ip);
}

/* --- checks */

const char *client_status_filter_check(const struct client_status_filter *f, char *out, size_t cap)
{
	struct nb_addr a;

	if (*text(f->status) && !same_word(f->status, "idle") && !same_word(f->status, "connecting") &&
	    !same_word(f->status, "connected")) {
		snprintf(out, cap, "wrong status filter, should be one of connected|connecting|idle, got: %s", f->status);
		return out;
	}
	for (size_t i = 0; i < f->n_ips; i++) {
		if (nb_addr_parse(&a, f->ips[i])) {
			snprintf(out, cap, "got an invalid IP address in the filter: address %s, error "
				 "it is neither an IPv4 nor an IPv6 address", f->ips[i]);
			return out;
		}
	}
	if (*text(f->connection) && !same_word(f->connection, "p2p") && !same_word(f->connection, "relayed")) {
		snprintf(out, cap, "wrong connection-type filter, should be one of P2P|Relayed, got: %s", f->connection);
		return out;
	}
	return NULL;
}

static int check_ready(const char *status, char *why, size_t cap)
{
	if (!strcmp(status, "Idle") || !strcmp(status, "Connecting") || !strcmp(status, "Connected"))
		return 0;
	if (!strcmp(status, "NeedsLogin") || !strcmp(status, "LoginFailed") || !strcmp(status, "SessionExpired"))
		snprintf(why, cap, "readiness check: daemon status is %s", status);
	else
		snprintf(why, cap, "readiness check: unexpected daemon status \"%s\"", status);
	return NB_E_STATE;
}

static int check_startup(const Daemon__FullStatus *s, char *why, size_t cap)
{
	size_t relays = 0, available = 0;

	if (!s)
		snprintf(why, cap, "startup check: no full status available");
	else if (!management_of(s)->connected)
		snprintf(why, cap, "startup check: management not connected");
	else if (!signal_of(s)->connected)
		snprintf(why, cap, "startup check: signal not connected");
	else
		goto connected;
	return NB_E_STATE;
connected:
	for (size_t i = 0; i < s->n_relays; i++) {
		const char *uri = text(s->relays[i]->uri);

		if (strncmp(uri, "rel://", 6) && strncmp(uri, "rels://", 7))
			continue;
		relays++;
		available += s->relays[i]->available;
	}
	if (!relays || available)
		return 0;
	snprintf(why, cap, "startup check: no relay servers available (0/%zu connected)", relays);
	return NB_E_STATE;
}

int client_status_check(const Daemon__StatusResponse *r, const char *word, char *why, size_t cap)
{
	if (same_word(word, "live"))
		return 0;
	if (same_word(word, "ready"))
		return check_ready(text(r->status), why, cap);
	if (same_word(word, "startup"))
		return check_startup(r->fullstatus, why, cap);
	snprintf(why, cap, "unknown check \"%s\", must be one of: live, ready, startup", word);
	return NB_E_ARG;
}
