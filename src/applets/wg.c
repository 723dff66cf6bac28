/* wg.c - options of `nestbox wg`: a WireGuard interface without NetBird. Never installed under a stock name. */
#include "applets/applet.h"

APPLET(wg, wg_main, "", "WireGuard interface in the foreground, without NetBird (for `wg show`, `wg set`)")

#include "run/wgdev.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static const char help[] =
	"Usage: nestbox wg NAME [--config FILE] [--mtu N] [--tunnel-threads N]\n"
	"       nestbox wg NAME --counters\n"
	"\n"
	"Make the interface NAME and speak WireGuard on it until Ctrl-C. `wg show NAME`, `wg set NAME ...` and\n"
	"`wg syncconf NAME FILE` work while it runs. Addresses and routes are given with `ip`.\n"
	"\n"
	"  --config FILE  start with this configuration, as `wg showconf` prints it: [Interface] PrivateKey,\n"
	"                 ListenPort, FwMark; [Peer] PublicKey, PresharedKey, AllowedIPs, Endpoint,\n"
	"                 PersistentKeepalive\n"
	"  --mtu N        of the interface, 576 to 8192 (1420)\n"
	"  --tunnel-threads N\n"
	"                 threads that move packets, 1 to 4; each peer belongs to one of them. By default one on up to\n"
	"                 three processors, then half as many as there are. NB_TUNNEL_THREADS in the environment\n"
	"                 beats it\n"
	"  --counters     print what the running interface has counted: bytes, packets and handshakes of each peer, refusals\n"
	"                 by reason, the offloads in use\n"
	"  --help         this text\n"
	"\n"
	"In the environment NB_TUNNEL_OFFLOADS names what to use of the system: all (also when it is not set), none, or a list of\n"
	"checksum, tso, uso, segment and gro with commas, for a system on which one of them is broken.\n";

static int usage(const char *what)
{
	fprintf(stderr, "nestbox wg: %s; see nestbox wg --help\n", what);
	return 2;
}

int wg_main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "config", required_argument, NULL, 'c' }, { "mtu", required_argument, NULL, 'm' },
		{ "tunnel-threads", required_argument, NULL, 't' }, { "counters", no_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 },
	};
	struct run_wgdev_options o = { .mtu = 1420 };
	unsigned long mtu, threads;
	bool counters = false;
	char *end;
	int c;

	while ((c = getopt_long(argc, argv, "c:h", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			o.config = optarg;
			break;
		case 'm':
			mtu = strtoul(optarg, &end, 10);
			if (*end || mtu < 576 || mtu > 8192)
				return usage("--mtu takes a number from 576 to 8192");
			o.mtu = (unsigned)mtu;
			break;
		case 't':
			threads = strtoul(optarg, &end, 10);
			if (*end || threads < 1 || threads > 4)
				return usage("--tunnel-threads takes a number from 1 to 4");
			o.threads = (unsigned)threads;
			break;
		case 'n':
			counters = true;
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		default:
			return usage("unknown option");
		}
	}
	if (optind != argc - 1)
		return usage("one interface name is needed");
	o.name = argv[optind];
	return counters ? run_wgdev_counters(o.name) : run_wgdev(&o);
}
