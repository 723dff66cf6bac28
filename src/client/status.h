/* status.h - what `netbird status` prints: text, JSON and YAML out of the daemon's answer, byte for
 * byte as stock prints them. Pure: the clock, the time zone and the versions are arguments.
 * Source: spec/client.md 1.5. Tests: tests/unit/client_status_test.c over tests/vectors/client. */
#ifndef NB_CLIENT_STATUS_H
#define NB_CLIENT_STATUS_H

#include "base/buf.h"
#include "base/time.h"
#include "proto/daemon.pb-c.h"

/* Which peers are shown and counted; NULL or 0 for no such filter. */
struct client_status_filter {
	const char *status;		/* idle, connecting, connected; any case */
	const char *connection;		/* p2p, relayed; any case */
	char *const *ips;		/* compared as text with both addresses */
	size_t n_ips;
	char *const *names;		/* prefixes of the FQDN, compared in lower case */
	size_t n_names;
};

struct client_status_view {
	const Daemon__StatusResponse *answer;
	const char *cli_version;
	const char *profile;		/* display name of the active profile */
	struct nb_wall now;		/* for ages */
	/* Seconds east of UTC at a point in time; NULL: UTC. */
	int (*utc_offset)(int64_t unix_seconds);
	bool why;			/* JSON and YAML: one key more, the last: `nestbox` */
	struct client_status_filter filter;
};

/* "linux/amd64" with Go's names of architectures. */
const char *client_status_os(void);

/* NULL, or why a filter cannot be used, as stock says it; out holds the text. */
const char *client_status_filter_check(const struct client_status_filter *f, char *out, size_t cap);

/* Each appends to out and returns out->err. */
int client_status_summary(struct nb_buf *out, const struct client_status_view *v);
int client_status_detail(struct nb_buf *out, const struct client_status_view *v);
/* Of ours: why each peer that passes the filter is connected as it is. */
int client_status_why(struct nb_buf *out, const struct client_status_view *v);
int client_status_json(struct nb_buf *out, const struct client_status_view *v);
int client_status_yaml(struct nb_buf *out, const struct client_status_view *v);

/* The words shown in place of a status when this peer must log in; false when it need not. */
bool client_status_login_hint(struct nb_buf *out, const Daemon__StatusResponse *r);
/* The address of "100.64.0.1/16" and a newline; nothing for anything else. */
int client_status_ip(struct nb_buf *out, const char *prefix);

/* Health checks live, ready and startup. Returns 0 when healthy, NB_E_ARG for another word, else
 * NB_E_STATE; why holds the reason. */
int client_status_check(const Daemon__StatusResponse *r, const char *word, char *why, size_t cap);

/* Go's text of a duration: "0s", "431.642µs", "1m2.5s". out holds 40 bytes. */
void client_go_duration(char *out, size_t cap, int64_t ns);
/* "N seconds ago" and so on. seconds, nanos: a protobuf timestamp; zero times are "-". */
void client_age(char *out, size_t cap, int64_t seconds, int32_t nanos, struct nb_wall now);
/* "640 B", "1.2 MiB". */
void client_size_text(char *out, size_t cap, int64_t bytes);
/* "2d 3h", "47m", "8s"; "expired 3m ago". */
void client_remaining_text(char *out, size_t cap, int64_t ns);

#endif
