/* why.h - one sentence for people: why a peer is direct, relayed or not connected. Facts in, words out; who collects the
 * facts (conn_why.c) decides nothing. Each sentence names one cause, the first that explains it alone.
 * Tests: tests/unit/client_why_test.c (every sentence), tests/net/test_nat.py (each with the NATs that cause it) */
#ifndef NB_CLIENT_WHY_H
#define NB_CLIENT_WHY_H

#include "client/conn.h"

struct client_why {
	bool open;			/* somebody wants this connection */
	enum client_conn_path path;
	bool loose;			/* the direct path has no session any more */
	unsigned flaps;			/* the direct path is there, but was lost so often that it has to wait; 0: not so */
	enum ice_type local_type, remote_type;	/* of the pair in use: DIRECT and TURN */
	struct nb_endpoint remote;
	/* What was asked of us and of the other side. */
	bool force_relay, relay_only;	/* NB_FORCE_RELAY, NB_ICE_FORCE_RELAY_CONN */
	bool described;			/* the other agent has answered us or made an offer since it is wanted */
	bool peer_ice;			/* ... with ICE credentials */
	bool peer_relay_only;
	bool peer_ours;			/* it is a nestbox; stock says nothing about its NAT */
	struct ice_nat_report here, there;
	/* What ICE did in the session that runs, or in the last. */
	bool session, checking;		/* there is one; it has not given up */
	unsigned locals, remotes;	/* candidates */
	unsigned direct;		/* pairs without a relay */
	bool learned;			/* the other side's checks came from addresses it had not named */
	struct nb_addr shared;		/* both are seen at this public address; family 0: no */
	const char *blacklisted;	/* interfaces that were left out because of IFaceBlackList, "" none */
	/* The NetBird relay. */
	bool relay_configured;
	bool relay_home;		/* we are connected to ours */
	bool relay_peer;		/* the other side named one */
	bool relay_up;			/* the channel works */
};

void client_why_text(char out[CLIENT_WHY_MAX], const struct client_why *w);

#endif
