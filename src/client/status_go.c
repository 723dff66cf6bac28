/* status_go.c - numbers and times as Go prints them, for the texts of status.h. Nothing here knows the
 * daemon's answer. Tests: tests/unit/client_status_test.c. */
#include "client/status_int.h"

#include <stdio.h>
#include <stdlib.h>

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
void client_rfc3339(char *out, struct stamp t, int offset)
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
