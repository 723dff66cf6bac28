/* log.c - see log.h. A line is one write(2), so lines of several threads never mix.
 * The wall clock is read here: a log line without its time is of little use. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/time.h"

static atomic_int current_level = NB_LOG_WARN;
static atomic_int out_fd = 2;
static atomic_bool json;

static const char *const level_words[] = { "error", "warn", "info", "debug", "trace" };

void nb_log_set_level(enum nb_log_level level)
{
	current_level = (int)level;
}

enum nb_log_level nb_log_level(void)
{
	return (enum nb_log_level)current_level;
}

int nb_log_level_parse(enum nb_log_level *out, const char *word)
{
	if (!strcasecmp(word, "panic") || !strcasecmp(word, "fatal")) {
		*out = NB_LOG_ERROR;
		return 0;
	}
	if (!strcasecmp(word, "warning"))
		word = "warn";
	for (int i = 0; i <= NB_LOG_TRACE; i++) {
		if (!strcasecmp(word, level_words[i])) {
			*out = (enum nb_log_level)i;
			return 0;
		}
	}
	return NB_E_ARG;
}

void nb_log_set_json(bool on)
{
	json = on;
}

void nb_log_set_fd(int fd)
{
	out_fd = fd;
}

/* Escape what would break a JSON string or a terminal; cuts at cap. */
static size_t escape(char *out, size_t cap, const char *in)
{
	size_t n = 0;

	for (; *in && n + 7 < cap; in++) {
		unsigned char c = (unsigned char)*in;

		if (c < 0x20 || c == 0x7f)
			n += (size_t)snprintf(out + n, cap - n, "\\u%04x", c);
		else {
			if (json && (c == '"' || c == '\\'))
				out[n++] = '\\';
			out[n++] = (char)c;
		}
	}
	out[n] = 0;
	return n;
}

void nb_log(enum nb_log_level level, const char *fmt, ...)
{
	char msg[1024], safe[1400], line[1536], when[NB_RFC3339_CAP];
	struct timespec ts;
	va_list ap;
	int n;

	if ((int)level > current_level)
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof msg, fmt, ap);
	va_end(ap);
	escape(safe, sizeof safe, msg);
	clock_gettime(CLOCK_REALTIME, &ts);
	nb_wall_format(when, (struct nb_wall){ ts.tv_sec * NB_SEC + ts.tv_nsec / NB_MS * NB_MS });
	n = snprintf(line, sizeof line, json ? "{\"time\":\"%s\",\"level\":\"%s\",\"msg\":\"%s\"}\n" : "%s %s %s\n",
		     when, level_words[level], safe);
	if (n > 0 && write(out_fd, line, (size_t)n) < 0)
		return;	/* nowhere left to report it */
}
