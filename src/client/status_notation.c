/* status_notation.c - the two notations of status.h, as encoding/json and yaml.v3 write them: escapes,
 * quotes, indentation. Nothing here knows what is being said. Tests: tests/unit/client_status_test.c. */
#include "client/status_int.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

void client_put_key(struct emitter *e, const char *name)
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
void client_put_map_open(struct emitter *e)
{
	nb_buf_str(e->b, e->yaml ? "\n" : "{");
	deeper(e, next_column(e));
}

void client_put_map_close(struct emitter *e)
{
	if (!e->yaml)
		nb_buf_u8(e->b, '}');
	e->depth--;
}

/* A list of n items; absent: JSON's word for an empty one ("null" or "[]"). False when there is
 * nothing to follow, list_close included. */
bool client_put_list_open(struct emitter *e, size_t n, const char *absent)
{
	if (n == 0) {
		nb_buf_str(e->b, e->yaml ? " []\n" : absent);
		return false;
	}
	nb_buf_str(e->b, e->yaml ? "\n" : "[");
	deeper(e, next_column(e));
	return true;
}

void client_put_list_close(struct emitter *e)
{
	if (!e->yaml)
		nb_buf_u8(e->b, ']');
	e->depth--;
}

/* A map as an item of a list. */
void client_put_item_open(struct emitter *e)
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
void client_put_raw(struct emitter *e, const char *value)
{
	if (e->yaml)
		nb_buf_printf(e->b, " %s\n", value);
	else
		nb_buf_str(e->b, value);
}

void client_put_string(struct emitter *e, const char *name, const char *v)
{
	client_put_key(e, name);
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

void client_put_string_if(struct emitter *e, const char *name, const char *v)
{
	if (v && *v)
		client_put_string(e, name, v);
}

void client_put_bool(struct emitter *e, const char *name, bool v)
{
	client_put_key(e, name);
	client_put_raw(e, v ? "true" : "false");
}

void client_put_int(struct emitter *e, const char *name, int64_t v)
{
	char text[24];

	snprintf(text, sizeof text, "%lld", (long long)v);
	client_put_key(e, name);
	client_put_raw(e, text);
}

void client_put_strings(struct emitter *e, const char *name, char *const *v, size_t n)
{
	client_put_key(e, name);
	if (!client_put_list_open(e, n, "null"))
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
	client_put_list_close(e);
}

void client_put_time(struct emitter *e, const char *name, struct stamp t, const struct client_status_view *v)
{
	char text[64], quoted[72];

	client_rfc3339(text, t, t.utc || !v->utc_offset ? 0 : v->utc_offset(t.seconds));
	client_put_key(e, name);
	snprintf(quoted, sizeof quoted, e->yaml ? "%s" : "\"%s\"", text);
	client_put_raw(e, quoted);
}

void client_put_duration(struct emitter *e, const char *name, int64_t ns)
{
	char text[40];

	if (!e->yaml) {
		client_put_int(e, name, ns);
		return;
	}
	client_go_duration(text, sizeof text, ns);
	client_put_key(e, name);
	client_put_raw(e, text);
}
