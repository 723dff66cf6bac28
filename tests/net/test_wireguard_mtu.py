"""A way narrower than the tunnel on which fragments get lost, as they often do: the sender inside is told to send shorter
packets, be it the own interface that is narrow or a router far away that said so; TCP and UDP, IPv4 and IPv6, inside and
outside, with and without offloads. Nothing hangs.

    a 10.84.0.1, fd84::1 --1500-- router --1400-- b 10.84.0.2, fd84::2      the router drops fragments
"""
import os
import subprocess
import sys
import time

import pytest

from test_wireguard_offloads import transfer
from wg_lab import Lab, run

DROP = """
table inet frags {
	chain f { type filter hook forward priority 0;
		ip frag-off & 0x3fff != 0 drop
		meta nfproto ipv6 exthdr frag exists drop
	}
}
"""

# 1,372 bytes every 20 ms; prints when what was sent did come.
UDP_RECEIVE = """
import socket, struct, sys, time
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 5602))
s.settimeout(3)
print("ready", flush=True)
got = []
try:
    while True:
        got.append(struct.unpack(">I", s.recv(2048)[:4])[0])
        s.settimeout(0.5)
except TimeoutError:
    print(*got)
"""
UDP_SEND = """
import socket, struct, sys, time
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
for i in range(int(sys.argv[2])):
    try:
        s.sendto(struct.pack(">I", i) + b"x" * 1368, (sys.argv[1], 5602))
    except OSError:
        pass
    time.sleep(0.02)
"""


class Narrow(Lab):
    def __enter__(self):
        self.router = self.names[0] + "-r"
        self.remove()
        for ns in [*self.names, self.router]:
            run("ip", "netns", "add", ns)
            run("ip", "-n", ns, "link", "set", "lo", "up")
        for i, ns in enumerate(self.names, 1):
            run("ip", "-n", ns, "link", "add", "eth0", "type", "veth", "peer", "name", f"to{i}", "netns", self.router)
            for where, dev, number in ((ns, "eth0", i), (self.router, f"to{i}", 254)):
                run("ip", "-n", where, "addr", "add", f"10.84.0.{number}/32", "dev", dev)
                run("ip", "-n", where, "addr", "add", f"fd84::{number}/128", "dev", dev, "nodad")
                run("ip", "-n", where, "link", "set", dev, "up")
                if i == 2:
                    run("ip", "-n", where, "link", "set", dev, "mtu", "1400")
            for six, net, one in ((), "10.84.0", "10.84.0."), (("-6",), "fd84:", "fd84::"):
                run("ip", "-n", self.router, *six, "route", "add", f"{one}{i}", "dev", f"to{i}")
                run("ip", "-n", ns, *six, "route", "add", f"{one}254", "dev", "eth0")
                run("ip", "-n", ns, *six, "route", "add", "default", "via", f"{one}254", "dev", "eth0")
        for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            run("ip", "netns", "exec", self.router, "sysctl", "-qw", f"{name}=1")
        run("ip", "netns", "exec", self.router, "nft", "-f", "-", input=DROP)
        return self

    def remove(self):
        super().remove()
        subprocess.run(["ip", "netns", "del", self.router], stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def lab():
    with Narrow("nbmtu") as lab:
        yield lab


def datagrams(sender, receiver, address):
    """Those of the last half second must all have come."""
    count = 60
    prefix = ["ip", "netns", "exec"]
    with subprocess.Popen([*prefix, receiver.ns, sys.executable, "-c", UDP_RECEIVE, address], text=True,
                          stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout.readline() == "ready\n"
            subprocess.run([*prefix, sender.ns, sys.executable, "-c", UDP_SEND, address, str(count)], check=True, timeout=60)
            got, _ = server.communicate(timeout=30)
        finally:
            server.kill()
    got = set(map(int, got.split()))
    assert set(range(count - 25, count)) <= got, f"{len(got)} of {count} came, the last being {max(got, default=None)}"


# NB_SOAK=1: all of them
CASES = [("all", False, False), ("all", True, True), ("none", False, True)]
MORE = [("all", False, True), ("all", True, False), ("none", False, False), ("none", True, False), ("none", True, True)]


@pytest.mark.parametrize("offloads,outer6,inner6", CASES + (MORE if os.environ.get("NB_SOAK") else []))
def test_nothing_hangs(lab, offloads, outer6, inner6):
    a, b = lab.pair("ours", "ours", offloads, offloads, outer6=outer6)
    assert a.ping(b.inner4) == 3
    to_a, to_b = (a.inner6, b.inner6) if inner6 else (a.inner4, b.inner4)
    for x, y, to in ((a, b, to_b), (b, a, to_a)):
        began = time.monotonic()
        transfer("tcp", x, y, to, 3_000_000)
        assert time.monotonic() - began < 8
    # a fresh pair of programs: those datagrams meet the narrow way first
    a, b = lab.pair("ours", "ours", offloads, offloads, outer6=outer6)
    assert a.ping(b.inner4) == 3
    for x, y, to in ((a, b, to_b), (b, a, to_a)):
        x.execute("ip", "route", "flush", "cache")
        datagrams(x, y, to)
