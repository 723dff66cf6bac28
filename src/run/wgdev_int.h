/* wgdev_int.h - the two texts that describe a WireGuard interface, read into the same calls: the file format of
 * wg(8) and the line protocol of its socket. Parsing is apart from acting, so that tests and fuzzers can drive it. */
#ifndef NB_RUN_WGDEV_INT_H
#define NB_RUN_WGDEV_INT_H

#include "base/addr.h"
#include "base/buf.h"
#include "run/tunnel.h"

#define RUN_WGDEV_SOCKETS "/var/run/wireguard"

#define RUN_WGDEV_PREFIXES 1024		/* changes of allowed addresses per peer and request */

/* What a text asks of one peer. */
struct run_wgdev_peer {
	uint8_t key[NB_KEY_LEN];
	bool remove, update_only, replace_allowed;
	bool set_psk, set_endpoint, set_keepalive;
	uint8_t psk[NB_KEY_LEN];
	struct nb_endpoint endpoint;
	uint16_t keepalive;
	struct nb_prefix add[RUN_WGDEV_PREFIXES], del[RUN_WGDEV_PREFIXES];
	size_t nadd, ndel;
};

/* What a text asks of the interface. */
struct run_wgdev_iface {
	bool set_key, set_port, set_mark, replace_peers;
	uint8_t key[NB_KEY_LEN];
	uint16_t port;
	uint32_t mark;
};

/* Receives the parts in order: the interface first, then peers. Return 0, or an error that ends the reading. */
struct run_wgdev_sink {
	int (*iface)(void *ctx, const struct run_wgdev_iface *i);
	int (*peer)(void *ctx, const struct run_wgdev_peer *p);
	void *ctx;
};

/* Read a configuration file's text. On NB_E_CONFIG *line and *why (static text) say what is wrong. */
int run_wgdev_config(struct nb_bytes text, const struct run_wgdev_sink *sink, unsigned *line, const char **why);
/* Read the lines of a set request (without "set=1" and the empty line). Returns 0, NB_E_BAD, NB_E_FULL or what
 * the sink returned. Nothing reaches the sink unless all lines are well-formed. */
int run_wgdev_set(struct nb_bytes lines, const struct run_wgdev_sink *sink);

/* wgdev_counts.c: the lines of a peer, and those of the whole. */
void run_wgdev_put_peer_counts(struct nb_buf *out, const struct run_tunnel_msg *m);
void run_wgdev_put_counts(struct nb_buf *out, const struct run_tunnel_counters *counters, unsigned offloads);

#endif
