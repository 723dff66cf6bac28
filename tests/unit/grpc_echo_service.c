/* grpc_echo_service.c - see grpc_echo_service.h. */
#include "grpc_echo_service.h"

#include <stdio.h>
#include <stdlib.h>

struct echo_call {
	size_t count, size;	/* Download: to come; Upload: so far */
	uint32_t next;
	bool closing;		/* Chat: the client half-closed */
};

static void on_start(struct grpc_call *call, void *user)
{
	struct echo_stats *st = grpc_call_service_arg(call);

	(void)user;
	st->started++;
	st->last_deadline = grpc_call_deadline(call);
	grpc_call_set_user(call, calloc(1, sizeof(struct echo_call)));
}

static void on_end(struct grpc_call *call, void *user, const struct grpc_result *result)
{
	struct echo_stats *st = grpc_call_service_arg(call);

	st->ended++;
	st->last_status = result->status;
	snprintf(st->last_message, sizeof st->last_message, "%s", result->message);
	free(user);
}

static bool fail_asked(struct grpc_call *call, struct nb_bytes m)
{
	char text[200], *end;
	long code;

	if (m.n < 6 || m.n >= sizeof text || memcmp(m.p, "fail:", 5))
		return false;
	memcpy(text, m.p, m.n);
	text[m.n] = 0;
	code = strtol(text + 5, &end, 10);
	grpc_call_finish(call, (int)code, *end ? end + 1 : "");
	return true;
}

static void unary(struct grpc_call *call, void *user, struct nb_bytes m)
{
	struct grpc_meta head[1], trail[1];
	size_t n_head, n_trail;

	(void)user;
	head[0].name = nb_bytes_str("x-seen");
	trail[0].name = nb_bytes_str("x-seen-bin");
	n_head = grpc_call_metadata(call, "x-ask", &head[0].value);
	n_trail = grpc_call_metadata(call, "x-ask-bin", &trail[0].value);
	grpc_call_send_headers(call, head, n_head);
	if (fail_asked(call, m))
		return;
	if (grpc_call_send(call, m)) {
		grpc_call_finish(call, GRPC_RESOURCE_EXHAUSTED, "the answer does not fit");
		return;
	}
	grpc_call_finish_meta(call, GRPC_OK, NULL, trail, n_trail);
}

static void download(struct grpc_call *call, void *user, struct nb_bytes m)
{
	struct echo_call *e = user;
	char text[64] = "";

	memcpy(text, m.p, m.n < sizeof text ? m.n : sizeof text - 1);
	if (!e || sscanf(text, "%zu %zu", &e->count, &e->size) != 2 || e->size < 4) {
		grpc_call_finish(call, GRPC_INVALID_ARGUMENT, "want COUNT SIZE");
		return;
	}
	grpc_call_want_write(call);
}

static void download_more(struct grpc_call *call, void *user)
{
	struct echo_stats *st = grpc_call_service_arg(call);
	struct echo_call *e = user;
	uint8_t *p;

	if (!e->count) {
		grpc_call_finish(call, GRPC_OK, NULL);
		return;
	}
	p = calloc(1, e->size);
	if (!p) {
		grpc_call_finish(call, GRPC_RESOURCE_EXHAUSTED, NULL);
		return;
	}
	nb_put_be32(p, e->next++);
	e->count--;
	st->built++;
	grpc_call_send(call, nb_bytes(p, e->size));
	free(p);
	if (grpc_call_queued(call) > st->most_queued)
		st->most_queued = grpc_call_queued(call);
	grpc_call_want_write(call);
}

static void upload(struct grpc_call *call, void *user, struct nb_bytes m)
{
	struct echo_call *e = user;

	if (fail_asked(call, m))
		return;
	e->count++;
	e->size += m.n;
}

static void upload_done(struct grpc_call *call, void *user)
{
	struct echo_call *e = user;
	char text[64];

	snprintf(text, sizeof text, "%zu %zu", e->count, e->size);
	grpc_call_reply(call, nb_bytes_str(text));
}

static void chat(struct grpc_call *call, void *user, struct nb_bytes m)
{
	(void)user;
	if (fail_asked(call, m))
		return;
	if (grpc_call_send(call, m)) {
		grpc_call_finish(call, GRPC_RESOURCE_EXHAUSTED, "the answer does not fit");
		return;
	}
	grpc_call_pause(call);
	grpc_call_want_write(call);
}

static void chat_more(struct grpc_call *call, void *user)
{
	(void)user;
	grpc_call_resume(call);
}

static void chat_done(struct grpc_call *call, void *user)
{
	(void)user;
	grpc_call_finish(call, GRPC_OK, NULL);
}

static void hang(struct grpc_call *call, void *user)
{
	struct grpc_meta m = GRPC_META("x-hang", "1");

	on_start(call, user);
	grpc_call_send_headers(call, &m, 1);
}

static const struct grpc_call_ops unary_ops = { .on_start = on_start, .on_message = unary, .on_end = on_end };
static const struct grpc_call_ops download_ops = {
	.on_start = on_start, .on_message = download, .on_writable = download_more, .on_end = on_end,
};
static const struct grpc_call_ops upload_ops = {
	.on_start = on_start, .on_message = upload, .on_half_close = upload_done, .on_end = on_end,
};
static const struct grpc_call_ops chat_ops = {
	.on_start = on_start, .on_message = chat, .on_writable = chat_more, .on_half_close = chat_done,
	.on_end = on_end,
};
static const struct grpc_call_ops hang_ops = { .on_start = hang, .on_end = on_end };

static const struct grpc_method methods[] = {
	{ "/test.Echo/Unary", GRPC_UNARY, &unary_ops, 0 },
	{ "/test.Echo/Small", GRPC_UNARY, &unary_ops, 100 },
	{ "/test.Echo/Download", GRPC_SERVER_STREAM, &download_ops, 0 },
	{ "/test.Echo/Upload", GRPC_CLIENT_STREAM, &upload_ops, 0 },
	{ "/test.Echo/Chat", GRPC_BIDI, &chat_ops, 0 },
	{ "/test.Echo/Hang", GRPC_BIDI, &hang_ops, 0 },
};

struct grpc_service echo_service(struct echo_stats *stats)
{
	return (struct grpc_service){ methods, sizeof methods / sizeof *methods, stats };
}
