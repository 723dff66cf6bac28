/* conntrack.c - see conntrack.h. */
#include "run/conntrack.h"

#include "base/log.h"
#include "base/opts.h"

#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX (1u << 24)

static void entries(uint32_t *to, const char *name, const char *text)
{
	char *end;
	unsigned long n;

	if (!text || !*text)
		return;
	n = strtoul(text, &end, 10);
	if (*end || *text < '0' || *text > '9' || !n || n > ENTRIES_MAX)
		nb_warn("%s=%s: a number from 1 to %u is needed; the default is used", name, text, ENTRIES_MAX);
	else
		*to = (uint32_t)n;
}

static void timeout(uint32_t *to, const char *name, const char *text)
{
	int64_t ns;

	if (!text || !*text)
		return;
	if (nb_duration_parse(&ns, text) || ns <= 0 || ns / NB_SEC > INT32_MAX)
		nb_warn("%s=%s: a time as 90s or 2m is needed; the default is used", name, text);
	else
		*to = ns < NB_SEC ? 1 : (uint32_t)(ns / NB_SEC);
}

/* The words that stock's language takes for a truth value. */
static void truth(bool *to, const char *name, const char *text)
{
	static const char *const words[2][6] = { { "0", "f", "F", "false", "FALSE", "False" },
						 { "1", "t", "T", "true", "TRUE", "True" } };

	if (!text || !*text)
		return;
	for (int value = 0; value < 2; value++)
		for (int i = 0; i < 6; i++)
			if (!strcmp(text, words[value][i])) {
				*to = value;
				return;
			}
	nb_warn("%s=%s: true or false is needed; the default is used", name, text);
}

void run_conntrack_env(struct filter_config *c, char *(*get)(const char *name))
{
	static const char tcp[] = "NB_CONNTRACK_TCP_MAX", udp[] = "NB_CONNTRACK_UDP_MAX", icmp[] = "NB_CONNTRACK_ICMP_MAX",
			  fin[] = "NB_CONNTRACK_TCP_FIN_WAIT_TIMEOUT", close[] = "NB_CONNTRACK_TCP_CLOSE_WAIT_TIMEOUT",
			  last[] = "NB_CONNTRACK_TCP_LAST_ACK_TIMEOUT", off[] = "NB_DISABLE_CONNTRACK";

	entries(&c->max_tcp, tcp, get(tcp));
	entries(&c->max_udp, udp, get(udp));
	entries(&c->max_icmp, icmp, get(icmp));
	timeout(&c->fin_wait_s, fin, get(fin));
	timeout(&c->close_wait_s, close, get(close));
	timeout(&c->last_ack_s, last, get(last));
	truth(&c->stateless, off, get(off));
}
