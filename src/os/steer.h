/* steer.h - which queue of a TUN interface a packet goes to, by its destination: a small program in the kernel that
 * looks it up in a table of prefixes. Without it the kernel prefers the queue that a flow's other direction was
 * written to last, which moves flows about and puts their packets out of order. Source: bpf(2), Linux
 * Documentation/bpf. Tests: tests/net/test_wireguard_threads.py */
#ifndef NB_OS_STEER_H
#define NB_OS_STEER_H

#include "base/addr.h"

#define OS_STEER_MAX 65536	/* prefixes; packets to others go to queue 0 */

/* Make an empty table, its descriptor into *table, and have the interface of a queue obey it. Returns 0, NB_E_PERM, or
 * NB_E_SYS (the system has no such thing; Linux 4.16). */
int os_steer_open(int *table, int tun);
/* Packets to this prefix, unless a longer one of the table fits. Returns 0 or NB_E_SYS (the table is full). */
int os_steer_set(int table, const struct nb_prefix *prefix, uint32_t queue);
void os_steer_clear(int table, const struct nb_prefix *prefix);
void os_steer_clear_all(int table);

#endif
