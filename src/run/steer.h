/* steer.h - the program by which the system gives each datagram that arrives at a shared port to the thread whose
 * peer it is from. Source: WireGuard paper 5.4 (layouts), RFC 8656 12.4, Linux Documentation/networking/filter.rst.
 * Tests: tests/unit/run_steer_test.c */
#ifndef NB_RUN_STEER_H
#define NB_RUN_STEER_H

struct sock_filter;

/* Classic BPF over a datagram: returns what wg_message_shard() says of it, or of the WireGuard message in ChannelData,
 * without looking at lengths: whoever gets a message that is another's passes it on. *length: instructions. */
const struct sock_filter *run_steer(unsigned *length);

#endif
