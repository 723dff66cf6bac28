/* nat.h - what the NATs between us and the Internet do with UDP: mapping and filtering in the words of RFC 4787,
 * measured as RFC 5780 4.3 and 4.4 say, with Binding requests from the socket whose traffic it is about; hairpinning and
 * port preservation by the way. No sockets, no clock: datagrams and time in; datagrams and a report out. The state
 * lives in the caller's memory and has a fixed size.
 *
 *   ice_nat_init(&n, &cfg, now);
 *   loop: ice_nat_input(), then ice_nat_output() until 0; sleep to ice_nat_deadline(), until ice_nat_done().
 *
 * What can be found out depends on the servers: two of any kind tell whether the mapping depends on the address; the
 * rest takes one that answers from a second port or address. What could not be asked stays unknown, and so does what
 * went unanswered where nothing shows that the server's other place can be reached at all. Costs at most
 * ICE_NAT_SENT_MAX datagrams of up to ICE_NAT_DGRAM_MAX bytes.
 * Tests: tests/unit/ice_nat_test.c, tests/fuzz/nat_fuzz.c, tests/net/test_nat.py */
#ifndef NB_ICE_NAT_H
#define NB_ICE_NAT_H

#include "base/addr.h"
#include "base/time.h"

#define ICE_NAT_SERVERS_MAX 3		/* asked; more tell nothing new */
#define ICE_NAT_HOSTS_MAX 16
#define ICE_NAT_DGRAM_MAX 128
#define ICE_NAT_SENT_MAX 28

enum ice_nat_udp { ICE_NAT_UDP_UNKNOWN, ICE_NAT_UDP_WORKS, ICE_NAT_UDP_BLOCKED /* no server answered */ };

/* The numbers are on the wire between our agents (nestbox.proto NatReport). */
enum ice_nat_mapping {
	ICE_NAT_MAP_UNKNOWN,
	ICE_NAT_MAP_NONE,		/* no NAT: servers see our own address and port */
	ICE_NAT_MAP_INDEPENDENT,	/* one for all destinations */
	ICE_NAT_MAP_ADDRESS,		/* another for another address */
	ICE_NAT_MAP_ADDRESS_PORT,	/* another for another address or port */
	ICE_NAT_MAP_DEPENDENT,		/* another for another server: one of the two before */
	ICE_NAT_MAP_ONE_ADDRESS,	/* one for all ports of a server: INDEPENDENT or ADDRESS */
	ICE_NAT_MAP_END
};

/* Whose packets come in on a mapping that has been used. */
enum ice_nat_filtering {
	ICE_NAT_FILTER_UNKNOWN,
	ICE_NAT_FILTER_INDEPENDENT,	/* everybody's */
	ICE_NAT_FILTER_ADDRESS,		/* those of addresses we have sent to */
	ICE_NAT_FILTER_ADDRESS_PORT,	/* those of addresses and ports we have sent to */
	ICE_NAT_FILTER_NOT_PORT,	/* INDEPENDENT or ADDRESS */
	ICE_NAT_FILTER_END
};

/* Does the NAT send what goes to our mapping back inside? Not seen is no proof that it does not: there are NATs that do it
 * for others, but not from a socket to itself (Linux, when it keeps the port). */
enum ice_nat_hairpin { ICE_NAT_HAIRPIN_UNKNOWN, ICE_NAT_HAIRPIN_NOT_SEEN, ICE_NAT_HAIRPIN_YES, ICE_NAT_HAIRPIN_END };

struct ice_nat_report {
	enum ice_nat_udp udp;
	enum ice_nat_mapping mapping;
	enum ice_nat_filtering filtering;
	enum ice_nat_hairpin hairpin;
	bool port_kept;			/* the mapped port is the socket's */
	struct nb_endpoint mapped;	/* as the server saw us that the rest was measured with; family 0: unknown */
};

/* "endpoint-independent", "address-dependent", "address-and-port-dependent", "unknown" and so on. */
const char *ice_nat_mapping_name(enum ice_nat_mapping m);
const char *ice_nat_filtering_name(enum ice_nat_filtering f);
const char *ice_nat_hairpin_name(enum ice_nat_hairpin h);
/* The same behaviour, wherever it was seen. */
bool ice_nat_same(const struct ice_nat_report *a, const struct ice_nat_report *b);
/* Does a mapping made towards one address serve for another? False when unknown. */
bool ice_nat_maps_anew(enum ice_nat_mapping m);

struct ice_nat_config {
	struct nb_endpoint servers[ICE_NAT_SERVERS_MAX];	/* of one family, different addresses first */
	size_t nservers;
	struct nb_addr hosts[ICE_NAT_HOSTS_MAX];	/* our own addresses */
	size_t nhosts;
	uint16_t port;				/* of the socket */
	const struct ice_nat_report *before;	/* measured a short time ago, or NULL. When we are still seen as then it
						 * stands: the NAT remembers whom we asked and would look more open
						 * than it is. Borrowed during ice_nat_init() */
	nb_random_fn random;
	void *random_ctx;
};

enum ice_nat_probe_state { ICE_NAT_UNUSED, ICE_NAT_ASKING, ICE_NAT_ANSWERED, ICE_NAT_REFUSED, ICE_NAT_SILENT };

/* One question. */
struct ice_nat_probe {
	enum ice_nat_probe_state state;
	struct nb_endpoint to;
	uint32_t change;		/* CHANGE-REQUEST */
	uint8_t txid[12];
	uint8_t tries;
	struct nb_time next;
	struct nb_endpoint mapped, other;	/* the answer */
	uint16_t other_port;
};

#define ICE_NAT_PROBES (ICE_NAT_SERVERS_MAX + 6)

struct ice_nat {
	struct ice_nat_config cfg;
	struct ice_nat_report report, before;
	bool has_before;
	uint8_t stage;			/* enum in nat.c */
	int base;			/* the server that knows most, an index into probe; -1: none */
	struct ice_nat_probe probe[ICE_NAT_PROBES];	/* in the order of the stages, enum in nat.c */
	struct nb_time began, ended;
	unsigned sent, received;
};

/* Begin. cfg is copied; without servers it is done at once and nothing is known. */
void ice_nat_init(struct ice_nat *n, const struct ice_nat_config *cfg, struct nb_time now);
/* One STUN datagram. Returns 0 when it was ours, else NB_E_NOTFOUND and no change. */
int ice_nat_input(struct ice_nat *n, const struct nb_endpoint *from, struct nb_bytes in, struct nb_time now);
/* Run timers; write the next request. out->p with room out->cap >= ICE_NAT_DGRAM_MAX is the caller's; out->n and
 * out->to are set. Returns 1, or 0 when idle. */
int ice_nat_output(struct ice_nat *n, struct nb_dgram *out, struct nb_time now);
struct nb_time ice_nat_deadline(const struct ice_nat *n);
bool ice_nat_done(const struct ice_nat *n);
/* What is known; all of it once done. */
const struct ice_nat_report *ice_nat_report(const struct ice_nat *n);

#endif
