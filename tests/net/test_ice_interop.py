"""Our ICE agent (ice_peer.c) against aioice: both roles, a role conflict, IPv6, a NAT between them,
data both ways, consent over time, and the other side's death."""
import os
import platform
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
OURS = HERE / "../../out" / os.environ.get("NB_TARGET", platform.machine()) / "test/net/ice_peer"
A, R, B = "nbice-a", "nbice-r", "nbice-b"


def run(command):
    subprocess.run(command, shell=True, check=True)


@pytest.fixture(scope="module")
def network():
    """A (10.81.1.1) - R - B (10.81.2.1); R does not translate until `nat` asks for it."""
    for ns in (A, R, B):
        subprocess.run(["ip", "netns", "del", ns], stderr=subprocess.DEVNULL)
    try:
        for ns in (A, R, B):
            run(f"ip netns add {ns} && ip -n {ns} link set lo up")
        for i, ns in ((1, A), (2, B)):
            run(f"ip -n {R} link add eth{i} type veth peer name eth0 netns {ns}")
            run(f"ip -n {ns} addr add 10.81.{i}.1/24 dev eth0 && ip -n {R} addr add 10.81.{i}.2/24 dev eth{i}")
            run(f"ip -n {ns} addr add fd81:{i}::1/64 dev eth0 nodad")
            run(f"ip -n {R} addr add fd81:{i}::2/64 dev eth{i} nodad")
            run(f"ip -n {ns} link set eth0 up && ip -n {R} link set eth{i} up")
            run(f"ip -n {ns} route add default via 10.81.{i}.2")
            run(f"ip -n {ns} -6 route add default via fd81:{i}::2")
        run(f"ip netns exec {R} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        yield
    finally:
        for ns in (A, R, B):
            subprocess.run(["ip", "netns", "del", ns])


@pytest.fixture
def nat(network):
    """B is behind a port-restricted NAT at 10.81.1.2; A cannot reach B's own address."""
    rules = """
table ip nbice {
  chain here { type filter hook input priority 0; iifname "eth1" ct state new drop; }
  chain through { type filter hook forward priority 0; iifname "eth1" ct state new drop; }
  chain before { type nat hook prerouting priority dstnat; }
  chain after { type nat hook postrouting priority srcnat; oifname "eth1" masquerade; }
}"""
    subprocess.run(["ip", "netns", "exec", R, "nft", "-f", "-"], input=rules, text=True, check=True)
    yield
    run(f"ip netns exec {R} nft delete table ip nbice")


class Peer:
    def __init__(self, ns, *command):
        self.process = subprocess.Popen(["ip", "netns", "exec", ns, *map(str, command)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.lines = queue.Queue()
        self.other = None
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.strip())
        self.lines.put("end")

    def say(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def wait(self, verb, seconds):
        """The rest of the next line that starts with verb; candidates are passed on to the other."""
        end = time.monotonic() + seconds
        while True:
            line = self.lines.get(timeout=max(0.01, end - time.monotonic()))
            word, _, rest = line.partition(" ")
            if word == "candidate":
                self.other.say(line)
            if word == verb:
                return rest
            assert word != "end", "the peer ended"

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()


@pytest.fixture
def pair():
    peers = []

    def make(our_role, their_role, ours=("10.81.2.1",), theirs=("no-ipv6",)):
        us = Peer(B, OURS, our_role, *ours)
        them = Peer(A, sys.executable, HERE / "aioice_peer.py", their_role, *theirs)
        peers.extend((us, them))
        us.other, them.other = them, us
        ours_, theirs_ = us.wait("credentials", 5), them.wait("credentials", 10)
        us.say("remote " + theirs_)
        them.say("remote " + ours_)
        # Hand candidates over while both wait for their connection.
        result = {}
        waits = [threading.Thread(target=lambda p=p, k=k: result.__setitem__(k, p.wait("connected", 10)))
                 for k, p in (("us", us), ("them", them))]
        for thread in waits:
            thread.start()
        for thread in waits:
            thread.join()
        assert set(result) == {"us", "them"}, result
        return us, them, result

    yield make
    for p in peers:
        p.stop()


def exchange(us, them):
    for i in range(3):
        us.say(f"send ping {i}")
        assert them.wait("data", 5) == f"ping {i}"
        them.say(f"send pong {i}")
        assert us.wait("data", 5) == f"pong {i}"


@pytest.mark.parametrize("roles", [("controlling", "controlled"), ("controlled", "controlling"),
                                   ("controlling", "controlling"), ("controlled", "controlled")])
def test_roles(network, pair, roles):
    us, them, result = pair(*roles)
    assert result["us"].startswith("host host 10.81.1.1:")
    assert result["them"].startswith("host host 10.81.2.1:")
    exchange(us, them)


@pytest.mark.parametrize("role", ["controlling", "controlled"])
def test_ipv6(network, pair, role):
    us, them, result = pair(role, "controlled" if role == "controlling" else "controlling",
                            ours=("10.81.2.1", "fd81:2::1"), theirs=("no-ipv4",))
    assert result["us"].startswith("host host [fd81:1::1]:")
    exchange(us, them)


@pytest.mark.parametrize("role", ["controlling", "controlled"])
def test_nat(nat, pair, role):
    """aioice learns our address from our checks; no STUN server is needed for that."""
    us, them, result = pair(role, "controlled" if role == "controlling" else "controlling")
    assert result["them"].startswith("host prflx 10.81.1.2:")
    exchange(us, them)


def test_stays_and_notices_death(network, pair):
    us, them, _ = pair("controlled", "controlling")
    time.sleep(11)  # two of aioice's consent checks, five of our keepalives
    exchange(us, them)
    started = time.monotonic()
    them.process.kill()
    us.wait("silent", 5)
    us.wait("disconnected", 9)
    # aioice sends only every 5 s, so our last word from it may be an answer up to 2 s ago
    assert 3.5 < time.monotonic() - started < 8
    us.wait("failed", 8)
