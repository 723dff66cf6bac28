/* time.c - see time.h. Own calendar arithmetic: no time zone files, no 32-bit time_t.
 * Tests: tests/unit/base_time_test.c */
#include "base/time.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"

/* Days since 1970-01-01 of a proleptic Gregorian date; months counted from March so that
 * the leap day comes last. */
static int64_t days_from_civil(int64_t y, unsigned m, unsigned d)
{
	int64_t era;
	unsigned yoe, doy, doe;

	y -= m <= 2;
	era = (y >= 0 ? y : y - 399) / 400;
	yoe = (unsigned)(y - era * 400);
	doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
	doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
	return era * 146097 + (int64_t)doe - 719468;
}

static void civil_from_days(int64_t z, int64_t *y, unsigned *m, unsigned *d)
{
	int64_t era;
	unsigned doe, yoe, doy, mp;

	z += 719468;
	era = (z >= 0 ? z : z - 146096) / 146097;
	doe = (unsigned)(z - era * 146097);
	yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	mp = (5 * doy + 2) / 153;
	*d = doy - (153 * mp + 2) / 5 + 1;
	*m = mp < 10 ? mp + 3 : mp - 9;
	*y = (int64_t)yoe + era * 400 + (*m <= 2);
}

void nb_wall_format(char *out, struct nb_wall t)
{
	int64_t sec = t.ns / NB_SEC, frac = t.ns % NB_SEC, days, y;
	unsigned m, d, s;
	int n;

	if (frac < 0) {
		frac += NB_SEC;
		sec--;
	}
	days = sec / 86400 - (sec % 86400 < 0);
	s = (unsigned)(sec - days * 86400);
	civil_from_days(days, &y, &m, &d);
	n = snprintf(out, NB_RFC3339_CAP, "%04lld-%02u-%02uT%02u:%02u:%02u", (long long)y, m, d,
		     s / 3600, s / 60 % 60, s % 60);
	if (frac) {
		n += snprintf(out + n, NB_RFC3339_CAP - (size_t)n, ".%09lld", (long long)frac);
		while (out[n - 1] == '0')
			n--;
	}
	out[n++] = 'Z';
	out[n] = 0;
}

static bool digits(const char **p, int count, unsigned *v)
{
	*v = 0;
	for (int i = 0; i < count; i++, (*p)++) {
		if (**p < '0' || **p > '9')
			return false;
		*v = *v * 10 + (unsigned)(**p - '0');
	}
	return true;
}

static bool expect(const char **p, char c)
{
	if (**p != c)
		return false;
	(*p)++;
	return true;
}

static bool parse_fraction(const char **p, int64_t *ns)
{
	int64_t scale = NB_SEC / 10;

	*ns = 0;
	if (**p != '.')
		return true;
	(*p)++;
	if (**p < '0' || **p > '9')
		return false;
	for (; **p >= '0' && **p <= '9'; (*p)++, scale /= 10)
		*ns += scale * (**p - '0');
	return true;
}

static bool parse_offset(const char **p, int64_t *sec)
{
	int sign = **p == '-' ? -1 : 1;
	unsigned h, m;

	*sec = 0;
	if (**p == 'Z' || **p == 'z') {
		(*p)++;
		return true;
	}
	if (**p != '+' && **p != '-')
		return false;
	(*p)++;
	if (!digits(p, 2, &h) || !expect(p, ':') || !digits(p, 2, &m) || h > 23 || m > 59)
		return false;
	*sec = sign * (int64_t)(h * 3600 + m * 60);
	return true;
}

int nb_wall_parse(struct nb_wall *t, const char *text)
{
	static const uint8_t month_days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	const char *p = text;
	unsigned y, mo, d, h, mi, s;
	int64_t frac, offset, sec;

	if (!digits(&p, 4, &y) || !expect(&p, '-') || !digits(&p, 2, &mo) || !expect(&p, '-') ||
	    !digits(&p, 2, &d) || (*p != 'T' && *p != 't' && *p != ' '))
		return NB_E_BAD;
	p++;
	if (!digits(&p, 2, &h) || !expect(&p, ':') || !digits(&p, 2, &mi) || !expect(&p, ':') ||
	    !digits(&p, 2, &s) || !parse_fraction(&p, &frac) || !parse_offset(&p, &offset) || *p)
		return NB_E_BAD;
	if (mo < 1 || mo > 12 || d < 1 || d > month_days[mo - 1] || h > 23 || mi > 59 || s > 60)
		return NB_E_BAD;
	sec = days_from_civil(y, mo, d) * 86400 + h * 3600 + mi * 60 + s - offset;
	if (sec > INT64_MAX / NB_SEC - 1 || sec < INT64_MIN / NB_SEC + 1)
		return NB_E_BAD;
	t->ns = sec * NB_SEC + frac;
	return 0;
}
