/* sim_net.h - a virtual Internet for simulations: hosts on LANs behind NATs, IPv6 without NAT, one
 * STUN server, TURN allocations, delay, jitter (so reordering), loss, and a lossy side channel for
 * signalling. Time is a number; nothing sleeps. */
#ifndef NB_TESTS_SIM_NET_H
#define NB_TESTS_SIM_NET_H

#include "base/addr.h"
#include "base/time.h"

enum sim_nat { SIM_OPEN, SIM_FULL_CONE, SIM_ADDRESS, SIM_PORT, SIM_SYMMETRIC, SIM_NATS,
	SIM_BLOCKED = SIM_NATS };	/* no UDP passes */

#define SIM_HOSTS 4
#define SIM_LANS 12
#define SIM_MAPPINGS 512
#define SIM_CONTACTS 1024
#define SIM_DGRAM 1600	/* signal messages fit, too */
#define SIM_PORT_NUMBER 51820
#define SIM_SERVER 100		/* receiver number of the caller's own server */

struct sim_mapping {
	struct nb_endpoint inner;
	struct nb_endpoint dest;	/* symmetric only */
	uint16_t outer_port;
	struct nb_time used;
};

struct sim_contact {		/* outer_port has sent to dest */
	uint16_t outer_port;
	struct nb_endpoint dest;
	struct nb_time used;
};

struct sim_lan {
	enum sim_nat nat;
	struct nb_addr outer;
	struct sim_mapping map[SIM_MAPPINGS];
	unsigned nmap;
	struct sim_contact contact[SIM_CONTACTS];
	unsigned ncontact;
};

struct sim_host {
	unsigned lan;
	bool down;			/* cable out: nothing leaves, nothing arrives */
	struct nb_addr addr4, addr6;	/* family 0: none */
	struct nb_endpoint relayed;	/* TURN allocation (via 1), family 0: none */
	struct sim_contact permit[64];	/* addresses the allocation has sent to */
	unsigned npermit;
};

enum sim_kind { SIM_NOTHING, SIM_DATAGRAM, SIM_SIGNAL };

struct sim_packet {
	enum sim_kind kind;
	struct nb_time at;
	unsigned host;			/* receiver */
	unsigned via;			/* datagrams: 0 or 1 (out of the TURN allocation) */
	struct nb_endpoint from, to;	/* to: for SIM_SERVER only */
	size_t n;
	uint8_t p[SIM_DGRAM];
};

struct sim {
	uint32_t rng;
	unsigned delay_ms, jitter_ms, loss_pct;		/* datagrams, one way */
	unsigned signal_ms, signal_jitter_ms, signal_loss_pct;
	bool cut;					/* drop every datagram between hosts */
	unsigned cut_from;				/* 1 + host: drop those this host sends to others; 0: none */
	unsigned duplicate_pct;
	int64_t forget_ms;				/* NATs forget what was not used for so long; 0: never */
	struct nb_endpoint stun;
	struct nb_addr server;				/* every port here is SIM_SERVER's; family 0: none */
	struct sim_lan lans[SIM_LANS];
	struct sim_host hosts[SIM_HOSTS];
	unsigned nlans, nhosts;
	struct sim_packet **queue;			/* binary heap by time */
	unsigned nqueue, queue_cap;
	unsigned delivered, lost;
};

void sim_init(struct sim *s, uint32_t seed);
void sim_fini(struct sim *s);
unsigned sim_add_lan(struct sim *s, enum sim_nat nat);
/* A host on a LAN with a private address (public when the LAN is open). */
unsigned sim_add_host(struct sim *s, unsigned lan, bool ipv6);
/* Another address, on this LAN. */
void sim_move_host(struct sim *s, unsigned host, unsigned lan);
/* Give the host a TURN allocation; its relayed address is in hosts[].relayed. */
void sim_allocate(struct sim *s, unsigned host);
uint32_t sim_random(struct sim *s);			/* 32 bits */
unsigned sim_below(struct sim *s, unsigned n);		/* 0..n-1 */
void sim_random_bytes(void *sim, void *out, size_t n);	/* an nb_random_fn */

void sim_send(struct sim *s, unsigned host, unsigned via, const struct nb_endpoint *to,
	      const void *p, size_t n, struct nb_time now);
/* The caller's server sends. */
void sim_send_server(struct sim *s, const struct nb_endpoint *from, const struct nb_endpoint *to,
		     const void *p, size_t n, struct nb_time now);
void sim_signal(struct sim *s, unsigned to_host, const void *p, size_t n, struct nb_time now);
/* When the next packet arrives; never when none is on its way. */
struct nb_time sim_deadline(const struct sim *s);
/* Take the packet due at now; returns false when none is. */
bool sim_receive(struct sim *s, struct sim_packet *out, struct nb_time now);

#endif
