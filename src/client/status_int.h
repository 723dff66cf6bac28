/* status_int.h - inside client/status.h: the daemon's answer made comfortable (status.c), the notations
 * (status_notation.c), Go's spellings (status_go.c) and what the forms lend each other. */
#ifndef NB_CLIENT_STATUS_INT_H
#define NB_CLIENT_STATUS_INT_H

#include "base/addr.h"
#include "client/status.h"

#define GO_ZERO_SECONDS (-62135596800LL) /* 0001-01-01T00:00:00Z, Go's zero time */
#define MAX_DEPTH 8

struct stamp {
	int64_t seconds;
	int32_t nanos;
	bool utc;	/* shown in UTC whatever the time zone */
};

struct emitter {
	struct nb_buf *b;
	bool yaml;
	int depth;
	bool empty[MAX_DEPTH];	/* JSON: nothing written at this depth yet */
	int column[MAX_DEPTH];	/* YAML: where keys or dashes of this depth start */
	bool item[MAX_DEPTH];	/* YAML: the keys of this depth are those of a list item */
	bool inline_key;	/* YAML: the next key follows a dash */
};
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
static inline const char *text(const char *s)
{
	return s ? s : "";
}

static inline struct stamp stamp_of(const Google__Protobuf__Timestamp *t, bool utc)
{
	return (struct stamp){ t ? t->seconds : 0, t ? t->nanos : 0, utc };
}

/* --- status.c */
void client_overview_init(struct overview *o, const struct client_status_view *v);
void client_overview_fini(struct overview *o);
/* Never NULL. */
const Daemon__ManagementState *client_management_of(const Daemon__FullStatus *s);
const Daemon__SignalState *client_signal_of(const Daemon__FullStatus *s);
const Daemon__LocalPeerState *client_local_of(const Daemon__FullStatus *s);
const char *client_severity_name(int v, char other[16]);
const char *client_category_name(int v, char other[16]);
int64_t client_latency_of(const Daemon__PeerState *p);
/* Errors of several attempts come with a line each; they are shown on one. */
void client_one_line(struct nb_buf *out, const char *error);
/* The metadata of an event in the order of its keys, to be freed; NULL when there is none (or no memory). */
Daemon__SystemEvent__MetadataEntry **client_sorted_metadata(const Daemon__SystemEvent *v);

/* --- status_go.c */
/* RFC 3339 with as many fraction digits as needed. out holds 64 bytes. */
void client_rfc3339(char *out, struct stamp t, int offset);

/* --- status_notation.c */
void client_put_key(struct emitter *e, const char *name);
/* A map as the value of a key. */
void client_put_map_open(struct emitter *e);
void client_put_map_close(struct emitter *e);
/* A list of n items; absent: JSON's word for an empty one ("null" or "[]"). False when there is
 * nothing to follow, list_close included. */
bool client_put_list_open(struct emitter *e, size_t n, const char *absent);
void client_put_list_close(struct emitter *e);
/* A map as an item of a list; ends with map_close. */
void client_put_item_open(struct emitter *e);
/* A plain value, already in its notation. */
void client_put_raw(struct emitter *e, const char *value);
/* Each a key and its value; NULL texts are empty. */
void client_put_string(struct emitter *e, const char *name, const char *v);
void client_put_string_if(struct emitter *e, const char *name, const char *v);	/* not when empty */
void client_put_bool(struct emitter *e, const char *name, bool v);
void client_put_int(struct emitter *e, const char *name, int64_t v);
void client_put_strings(struct emitter *e, const char *name, char *const *v, size_t n);
void client_put_time(struct emitter *e, const char *name, struct stamp t, const struct client_status_view *v);
void client_put_duration(struct emitter *e, const char *name, int64_t ns);

/* --- paths.c */
void client_put_nat(struct emitter *e, const char *name, const Nestbox__NatView *n);
/* One line behind `where`; unknown: what to say when it was not measured. */
void client_nat_text(struct nb_buf *out, const char *where, const Nestbox__NatView *n, const char *unknown);

/* --- status_why.c */
void client_put_why(struct emitter *e, const struct overview *o);

/* --- status_tunnel.c */
void client_put_tunnel(struct emitter *e, const struct overview *o);
void client_put_peer_counts(struct emitter *e, const Nestbox__PeerWhy *w);
void client_tunnel_text(struct nb_buf *out, const struct overview *o);
void client_peer_counts_text(struct nb_buf *out, const Daemon__PeerState *p);

#endif
