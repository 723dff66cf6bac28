"""Super-packets and batches (src/wg/offload.h, src/os/tun.c, src/os/dgram.c) in every mix: ours with all, some or none of
them against wireguard-go and against ourselves. Bytes are compared, and counters of the interfaces show whether
packets really travel together. Also: a way narrower than the tunnel, packets longer than it, congestion marks, memory."""
import ctypes
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from wg_lab import Lab, run

TRAFFIC = str(Path(__file__).resolve().parent / "wg_traffic.py")


@pytest.fixture(scope="module")
def lab():
    with Lab("nbofl") as lab:
        yield lab


def transfer(kind, sender, receiver, address, amount):
    """Send and have it checked; returns what the receiver printed last."""
    prefix = ["ip", "netns", "exec"]
    with subprocess.Popen([*prefix, receiver.ns, sys.executable, TRAFFIC, kind, "receive", address], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        try:
            assert server.stdout.readline() == "ready\n", server.stderr.read()
            done = subprocess.run([*prefix, sender.ns, sys.executable, TRAFFIC, kind, "send", address, str(amount)],
                                  capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            out, err = server.communicate(timeout=30)
            assert server.returncode == 0, err
            return out.strip()
        finally:
            server.kill()


def sent(end, interface):
    """Packets the interface has sent, as its system counts them: a super-packet is one."""
    return int(end.execute("cat", f"/sys/class/net/{interface}/statistics/tx_packets"))


def received(end, interface):
    return int(end.execute("cat", f"/sys/class/net/{interface}/statistics/rx_packets"))


MIXES = [
    ("ours", "all", "go", None), ("ours", "none", "go", None), ("ours", "checksum", "go", None),
    ("ours", "tso", "go", None), ("ours", "segment", "go", None), ("ours", "gro", "go", None),
    ("ours", "uso,segment", "go", None), ("ours", "uso,gro", "go", None), ("ours", "all", "ours", "none"),
    ("ours", "all", "ours", "all"), ("ours", "tso,gro", "ours", "segment"),
]


@pytest.mark.parametrize("kind1,offloads1,kind2,offloads2", MIXES)
def test_mix(lab, kind1, offloads1, kind2, offloads2):
    a, b = lab.pair(kind1, kind2, offloads1, offloads2)
    assert a.ping(b.inner4) == 3
    for x, y, to4, to6 in ((a, b, b.inner4, b.inner6), (b, a, a.inner6, a.inner4)):
        transfer("tcp", x, y, to4, 3_000_001)
        assert int(transfer("udp", x, y, to6, 600)) >= 590
    # about the whole MTU, and fragments
    for size in (1, 1391, 1392, 1393, 20000):
        assert a.ping(b.inner4, "-s", str(size)) == 3, size
    assert a.ping(b.inner6, "-s", "1372") == 3


def test_outer_ipv6(lab):
    a, b = lab.pair("ours", "ours", outer6=True)
    assert a.ping(b.inner6) == 3
    before = sent(a, "eth0")
    transfer("tcp", a, b, b.inner4, 10_000_000)
    transfer("tcp", b, a, a.inner6, 10_000_000)
    assert sent(a, "eth0") - before < 4000


def test_packets_travel_together(lab):
    """20 MB are 14,600 packets; with offloads the interfaces see far fewer, each switch on its own place."""
    def counts(offloads):
        a, b = lab.pair("ours", "ours", offloads, offloads)
        assert a.ping(b.inner4) == 3
        start = [sent(a, a.interface), sent(a, "eth0"), received(b, b.interface)]
        transfer("tcp", a, b, b.inner4, 20_000_000)
        return [end - begin for begin, end in
                zip(start, [sent(a, a.interface), sent(a, "eth0"), received(b, b.interface)])]

    read, out, written = counts("all")
    assert read < 3000 and out < 3000 and written < 4000
    read, out, written = counts("none")
    assert read > 14000 and out > 14000 and written > 14000
    read, out, written = counts("tso")
    assert read < 3000 and out > 14000
    read, out, written = counts("segment,gro")
    assert read > 14000 and out < 10000 and written > 14000


# What an older system would refuse, and what still travels together then: read from TUN, sent, written to TUN.
# The ioctls of /dev/net/tun are: attach with headers, TUNSETOFFLOAD in three steps.
REFUSALS = [
    ("ioctl:error=EINVAL:when=1", False, True, False),  # no virtio headers
    ("ioctl:error=EINVAL:when=2", True, True, True),  # no UDP super-packets
    ("ioctl:error=EINVAL:when=2..3", False, True, False),  # no super-packets
    ("setsockopt:error=ENOPROTOOPT:when=1..8", True, False, True),  # no UDP_SEGMENT, no UDP_GRO, no addresses, no room
    ("setsockopt:error=ENOPROTOOPT:when=13", True, True, True),  # no UDP_GRO on the second socket alone
    ("sendmmsg:error=EIO:when=20", True, False, True),  # a device without checksums, met later
    ("sendmmsg:error=EINVAL:when=20", True, True, True),  # one message that cannot be sent together
    ("writev:error=EINVAL:when=40", True, True, None),  # TUN takes no super-packets, met later
]


@pytest.mark.parametrize("refusal,reads,sends,writes", REFUSALS)
def test_one_step_back(lab, refusal, reads, sends, writes):
    call = refusal.split(":")[0]
    where = ["-P", "/dev/net/tun"] if call in ("ioctl", "writev") else []
    a, b = lab.pair("ours", "ours", wrap=["strace", "-D", "-f", "-qq", "-o", "/dev/null", *where, "-e", f"trace={call}",
                                          "-e", f"inject={refusal}"])
    assert a.ping(b.inner4) == 3
    start = [sent(a, a.interface), sent(a, "eth0")]
    transfer("tcp", a, b, b.inner4, 10_000_000)
    read, out = (end - begin for begin, end in zip(start, [sent(a, a.interface), sent(a, "eth0")]))
    assert (read < 4000) == reads and (out < 4000) == sends, (read, out)
    start = received(a, a.interface)
    transfer("tcp", b, a, a.inner4, 10_000_000)
    written = received(a, a.interface) - start
    assert writes is None or (written < 5000) == writes, written
    assert int(transfer("udp", a, b, b.inner4, 300)) >= 290
    assert int(transfer("udp", b, a, a.inner6, 300)) >= 290


@pytest.mark.parametrize("other", ["ours", "go"])
def test_narrow_way(lab, other):
    """Below the tunnel is room for 1300 bytes only, so messages are fragmented; a run of them, which the system
    refuses then, must not stop the transfer."""
    a, b = lab.pair("ours", other)
    assert a.ping(b.inner4) == 3
    try:
        for ns in lab.names:
            run("ip", "-n", ns, "link", "set", "eth0", "mtu", "1300")
        transfer("tcp", a, b, b.inner4, 2_000_000)
        assert a.ping(b.inner4, "-s", "1392") == 3
        if other == "ours":
            transfer("tcp", b, a, a.inner6, 2_000_000)
    finally:
        for ns in lab.names:
            run("ip", "-n", ns, "link", "set", "eth0", "mtu", "1500")
            # a new MTU may have taken the IPv6 address along
            subprocess.run(["ip", "-n", ns, "addr", "add", f"fd84::{lab.names.index(ns) + 1}/64", "dev", "eth0", "nodad"],
                           stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("offloads", ["all", "none"])
def test_longer_than_the_tunnel(lab, offloads):
    """Somebody raises the interface's MTU beyond what the tunnel carries: the sender is told, nothing hangs."""
    a, b = lab.pair("ours", "ours", offloads, offloads)
    assert a.ping(b.inner4) == 3
    for end in (a, b):
        end.ip("link", "set", end.interface, "mtu", "1480")
    text = a.execute("ping", "-n", "-c", "2", "-W", "1", "-M", "do", "-s", "1452", b.inner4, check=False)
    assert re.search(r"mtu ?= ?1420", text), text
    text = a.execute("ping", "-6", "-n", "-c", "2", "-W", "1", "-M", "do", "-s", "1432", b.inner6, check=False)
    assert re.search(r"mtu ?= ?1420", text), text
    transfer("tcp", b, a, a.inner4, 2_000_000)
    transfer("tcp", b, a, a.inner6, 2_000_000)


class Sniffer:
    """The type of service of every WireGuard message that leaves a namespace by eth0."""

    def __init__(self, ns):
        self.seen = set()
        self.stop = False
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.work, args=(ns,))
        self.thread.start()
        assert self.ready.wait(5)

    def work(self, ns):
        handle = os.open(f"/var/run/netns/{ns}", os.O_RDONLY)
        # the namespace of this thread only
        assert ctypes.CDLL(None, use_errno=True).setns(handle, 0x40000000) == 0
        os.close(handle)
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003)) as s:
            s.bind(("eth0", 0x0003))
            s.settimeout(0.2)
            self.ready.set()
            while not self.stop:
                try:
                    p, (_, _, kind, *_) = s.recvfrom(65536)
                except TimeoutError:
                    continue
                if kind == 4 and p[0] == 0x45 and p[9] == 17 and p[28:32] == b"\4\0\0\0":
                    self.seen.add((p[1], struct.unpack(">H", p[2:4])[0] > 200))

    def end(self):
        self.stop = True
        self.thread.join()
        return self.seen


@pytest.mark.parametrize("offloads", ["all", "none"])
def test_congestion_bits(lab, offloads):
    """The two bits go to the outer header, the class of service does not (the traffic's own check: both stay inside)."""
    a, b = lab.pair("ours", "ours", offloads, offloads)
    assert a.ping(b.inner4) == 3
    sniffer = Sniffer(a.ns)
    transfer("udp", a, b, b.inner4, 100)
    assert {tos for tos, large in sniffer.end() if large} == {2}


def test_memory_under_load(lab):
    a, b = lab.pair("ours", "ours")
    assert a.ping(b.inner4) == 3
    for _ in range(2):
        transfer("tcp", a, b, b.inner4, 100_000_000)
    for end in (a, b):
        assert end.rss()[1] < 10
