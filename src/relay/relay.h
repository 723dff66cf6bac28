/* relay.h - what the relay is told: values of its options, checked, and the configurations of the TURN core and of
 * the NetBird relay protocol's hub made from them. No sockets: run/relay.h starts it. Tests: tests/unit/relay_config_test.c */
#ifndef NB_RELAY_RELAY_H
#define NB_RELAY_RELAY_H

#include "ice/turn_server.h"
#include "relay/hub.h"

#define RELAY_LISTEN_MAX 8
#define RELAY_USERS_MAX 64
#define RELAY_ALLOW_MAX 64
#define RELAY_PORTS_DEFAULT 256
#define RELAY_PORT_FIRST 49152

/* Fixed storage, so that a copy is a copy. Zero means "default". Without credentials only STUN is served. */
struct relay_config {
	struct nb_endpoint listen[RELAY_LISTEN_MAX];	/* UDP; family 0: every address */
	size_t nlisten;
	struct nb_endpoint tcp[RELAY_LISTEN_MAX];	/* TCP, and TLS with a certificate; none: where UDP listens */
	size_t ntcp;
	bool no_tcp;
	/* NAT behaviour discovery (RFC 5780): a second UDP port and second addresses of this machine. */
	uint16_t alt_port;		/* 0: the one next to the first, if it is free */
	bool no_alt_port;
	struct nb_addr alt4, alt6;	/* family 0: none */
	char realm[256];
	char secret[512];		/* time-limited credentials; "" none */
	struct {
		char name[128], password[128];
	} users[RELAY_USERS_MAX];
	size_t nusers;
	uint16_t port_min, port_max;
	struct nb_addr relay4, relay6;	/* addresses peers see; family 0: found by the driver */
	struct nb_prefix allow[RELAY_ALLOW_MAX];
	size_t nallow;
	uint32_t max_allocations, max_per_user, max_lifetime_s;
	uint64_t user_rate, total_rate;	/* bytes a second of one user or peer, and of all; 0: any */
	bool no_udp;			/* neither STUN nor TURN */
	/* The NetBird relay protocol; url "": not served. */
	char url[RELAYMSG_URL_MAX];	/* instance URL, rel[s]://host[:port] */
	char auth_secret[512];
};

/* realm "nestbox", RELAY_PORTS_DEFAULT ports from RELAY_PORT_FIRST, nothing to listen on. */
void relay_config_default(struct relay_config *c);
/* Is TURN on, that is, are there credentials? */
bool relay_config_turn(const struct relay_config *c);

/* Option values. Each adds to or replaces its part of the configuration and returns 0, NB_E_CONFIG (not
 * understood) or NB_E_FULL (too many). Lists are separated by commas. */
int relay_set_listen(struct relay_config *c, const char *text);		/* "ADDR:PORT,:PORT,[v6]:PORT" */
int relay_set_tcp(struct relay_config *c, const char *text);		/* the same, or "off" */
int relay_set_alt_port(struct relay_config *c, const char *text);	/* "PORT" or "off" */
int relay_set_alt_ip(struct relay_config *c, const char *text);		/* "IPv4", "IPv6" or both */
int relay_set_stun_ports(struct relay_config *c, const char *text);	/* "3478,3479": every address */
int relay_set_ports(struct relay_config *c, const char *text);		/* "50000-50255", or how many: "256" */
int relay_set_allow(struct relay_config *c, const char *text);		/* "CIDR,CIDR" */
int relay_set_user(struct relay_config *c, const char *text);		/* "name:password" */
int relay_set_external(struct relay_config *c, const char *text);	/* "IPv4", "IPv6" or both */
/* "[rel[s]://]host[:port]" to the instance URL; tls: the relay has a certificate. NB_E_DENIED: rel:// with one. */
int relay_set_url(struct relay_config *c, const char *text, bool tls);
int relay_set_text(char *out, size_t cap, const char *text);		/* not empty, must fit */
int relay_set_rate(uint64_t *out, const char *text);	/* bytes a second; "500k", "20M", "1G"; "0": any */
int relay_set_number(uint32_t *out, uint32_t min, uint32_t max, const char *text);

/* "PORT" is on 127.0.0.1; "ADDR:PORT"; "0": off. */
int relay_set_metrics(struct nb_endpoint *e, const char *text);

/* Fill in the core's configuration; *out borrows from c and users. Own addresses and randomness are the
 * driver's to add. */
void relay_turn_config(const struct relay_config *c, struct turn_server_config *out,
		       struct turn_user users[RELAY_USERS_MAX]);
/* Fill in the hub's configuration, but for the random seed. */
void relay_protocol_config(const struct relay_config *c, struct relay_hub_config *out);
/* What the log has said of packets dropped for a limit; zero before. */
struct relay_told {
	uint64_t over_user, over_total;
	struct nb_time next;
};
/* One warning when there are new ones, at most once a minute. which: "TURN". True when it was given. */
bool relay_tell_dropped(struct relay_told *t, const char *which, uint64_t over_user, uint64_t over_total, struct nb_time now);
/* The user name and password that management gives to a peer: user = decimal expiry, password =
 * base64(HMAC-SHA1(secret, user)) (spec/management-protocol.md 6.4). */
#define RELAY_TURN_USER_CAP 24
#define RELAY_TURN_PASSWORD_CAP 32
void relay_turn_credentials(char user[RELAY_TURN_USER_CAP], char password[RELAY_TURN_PASSWORD_CAP],
			    struct nb_bytes secret, int64_t expiry_s);

#endif
