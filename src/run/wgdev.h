/* wgdev.h - a plain WireGuard interface in the foreground: TUN, the data-plane thread, an optional
 * configuration file, and the socket through which `wg` reads and changes it. No NetBird in it.
 * Source: wg(8), www.wireguard.com/xplatform. Tests: tests/unit/run_wgdev_test.c,
 * tests/net/test_wireguard_interop.py */
#ifndef NB_RUN_WGDEV_H
#define NB_RUN_WGDEV_H

struct run_wgdev_options {
	const char *name;	/* of the interface */
	const char *config;	/* file, or NULL */
	unsigned mtu;		/* 576..8192 */
	unsigned threads;	/* of the data plane; 0: by the number of processors */
};

/* Run until SIGINT, SIGTERM or the interface is removed. Problems are told on stderr. Returns the exit status. */
int run_wgdev(const struct run_wgdev_options *o);
/* Ask the one that runs for its counters and print them, a name=value a line, each peer's behind its public_key. */
int run_wgdev_counters(const char *name);

#endif
