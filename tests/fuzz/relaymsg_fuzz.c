/* relaymsg_fuzz.c - src/proto/relaymsg.c: any bytes as a message, a token and a URL. What decodes must stay within
 * the input, and encode to what it came from. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "proto/relaymsg.h"

static void as_message(struct nb_bytes in)
{
	uint8_t out[RELAYMSG_AUTH_MAX];
	struct relaymsg m;

	if (relaymsg_decode(&m, in))
		return;
	if (m.body.n > in.n || (m.body.n && m.body.p + m.body.n != in.p + in.n))
		abort();
	if (m.type == RELAYMSG_AUTH && relaymsg_auth(out, m.id, m.body) && memcmp(out, in.p, in.n))
		abort();
	if (m.n_ids * RELAYMSG_ID_LEN > in.n)
		abort();
}

static void as_url(struct nb_bytes in)
{
	char text[600], host[RELAYMSG_HOST_MAX];
	struct relaymsg_url u;

	if (in.n >= sizeof text)
		return;
	memcpy(text, in.p, in.n);
	text[in.n] = 0;
	if (relaymsg_url_parse(&u, text))
		return;
	relaymsg_url_host(host, &u);
	if (!u.port || !*u.host || strlen(host) < strlen(u.host))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nb_bytes in = nb_bytes(data, size);
	static const uint8_t key[32];

	if (!size)
		return 0;
	as_message(in);
	as_url(in);
	(void)relaymsg_token_check(in, key, 1);
	return 0;
}
