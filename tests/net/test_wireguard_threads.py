"""One of ours with several data-plane threads in the middle of four peers, two of ours and two of wireguard-go, that are
at home in different threads: transfers both ways at once and through the middle one, renewals, moving peers, ports,
what an older system refuses.

    nbth-0 (the hub)                        nbth-1 .. nbth-4
    eth1..4 10.86.1..4.1/24       ------    eth0 10.86.i.2
    10.87.0.100, fd87::100        ======    10.87.0.i, fd87::i
"""
import base64
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wg_lab import End, eventually, run

TRAFFIC = str(Path(__file__).resolve().parent / "wg_traffic.py")
LEAVES = 4


class Node(End):
    """number 9: the hub. home: the thread of `threads` that a peer with this key belongs to."""

    def __init__(self, number, kind, threads=1, home=None, wrap=()):
        super().__init__(f"nbth-{number % 9}", number, kind, wrap=wrap)
        inner = 100 if number == 9 else number
        self.inner4, self.inner6 = f"10.87.0.{inner}", f"fd87::{inner}"
        self.env = {"NB_TUNNEL_THREADS": str(threads)}
        while home is not None and base64.b64decode(self.public)[0] % LEAVES != home:
            self.private = run("wg", "genkey").strip()
            self.public = run("wg", "pubkey", input=self.private).strip()

    def set_peer(self, other, allowed, endpoint=None):
        command = ["wg", "set", self.interface, "peer", other.public, "allowed-ips", allowed]
        self.execute(*command, *(["endpoint", endpoint] if endpoint else []))

    def threads(self):
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir())) - 1

    def peer(self, other):
        for line in self.execute("wg", "show", self.interface, "dump").splitlines()[1:]:
            fields = line.split("\t")
            if fields[0] == other.public:
                return {"endpoint": fields[2], "handshake": int(fields[4]), "sent": int(fields[6])}
        return None


class Star:
    def __enter__(self):
        self.nodes = []
        self.remove()
        for i in range(LEAVES + 1):
            run("ip", "netns", "add", f"nbth-{i}")
            run("ip", "-n", f"nbth-{i}", "link", "set", "lo", "up")
        for i in range(1, LEAVES + 1):
            run("ip", "-n", "nbth-0", "link", "add", f"eth{i}", "type", "veth", "peer", "name", "eth0", "netns", f"nbth-{i}")
            for ns, dev, last in (("nbth-0", f"eth{i}", 1), (f"nbth-{i}", "eth0", 2)):
                run("ip", "-n", ns, "addr", "add", f"10.86.{i}.{last}/24", "dev", dev)
                run("ip", "-n", ns, "link", "set", dev, "up")
        run("ip", "netns", "exec", "nbth-0", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        return self

    def __exit__(self, *_):
        self.stop()
        self.remove()

    def remove(self):
        for i in range(LEAVES + 1):
            subprocess.run(["ip", "netns", "del", f"nbth-{i}"], stderr=subprocess.DEVNULL)

    def stop(self):
        for node in self.nodes:
            node.stop()
        self.nodes = []

    def up(self, threads, kinds=("ours", "go", "ours", "go"), wrap=()):
        """A hub and its leaves, all of which know each other through it. Leaf i is at home in thread i % threads."""
        self.stop()
        for i in range(1, LEAVES + 1):
            run("ip", "-n", f"nbth-{i}", "addr", "flush", "dev", "eth0")
            run("ip", "-n", f"nbth-{i}", "addr", "add", f"10.86.{i}.2/24", "dev", "eth0")
        hub = Node(9, "ours", threads, wrap=wrap)
        leaves = [Node(i + 1, kind, home=i) for i, kind in enumerate(kinds)]
        self.nodes = [hub, *leaves]
        for node in self.nodes:
            node.start()
        for leaf in leaves:
            hub.set_peer(leaf, f"{leaf.inner4}/32,{leaf.inner6}/128", f"10.86.{leaf.number}.2:{51840 + leaf.number}")
            leaf.set_peer(hub, "10.87.0.0/24,fd87::/64", f"10.86.{leaf.number}.1:51849")
        return hub, leaves


@pytest.fixture(scope="module")
def star():
    with Star() as star:
        yield star


class Transfer:
    """Bytes on their way, checked at the end."""

    def __init__(self, sender, receiver, address, amount, kind="tcp"):
        exec_in = ["ip", "netns", "exec"]
        self.server = subprocess.Popen([*exec_in, receiver.ns, sys.executable, TRAFFIC, kind, "receive", address], text=True,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.server.stdout.readline() == "ready\n", self.server.stderr.read()
        self.client = subprocess.Popen([*exec_in, sender.ns, sys.executable, TRAFFIC, kind, "send", address, str(amount)],
                                       text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def done(self):
        """What the receiver printed."""
        try:
            _, err = self.client.communicate(timeout=60)
            assert self.client.returncode == 0, err
            out, err = self.server.communicate(timeout=30)
            assert self.server.returncode == 0, err
            return out.strip()
        finally:
            self.client.kill()
            self.server.kill()

    def running(self):
        return self.client.poll() is None


@pytest.mark.parametrize("threads", [2, 4])
def test_all_at_once(star, threads):
    hub, leaves = star.up(threads)
    assert hub.threads() == threads
    for leaf in leaves:
        assert leaf.ping(hub.inner6) == 3 and hub.ping(leaf.inner4) == 3
    # From each leaf to the hub's address of its own, from the hub to each leaf.
    for leaf in leaves:
        hub.ip("addr", "add", f"10.87.0.{100 + leaf.number}/32", "dev", hub.interface)
    transfers = [Transfer(leaf, hub, f"10.87.0.{100 + leaf.number}", 2_000_000) for leaf in leaves]
    transfers += [Transfer(hub, leaf, leaf.inner6, 2_000_000) for leaf in leaves]
    for t in transfers:
        t.done()
    # Datagrams keep their order (the receiver says so), one peer's after the other's.
    for leaf in leaves[:1]:
        assert int(Transfer(hub, leaf, leaf.inner4, 300, "udp").done()) >= 290
        assert int(Transfer(leaf, hub, hub.inner4, 300, "udp").done()) >= 290
    # Through the hub, from one thread's peer to another's and back.
    assert leaves[0].ping(leaves[1].inner4) == 3
    both = [Transfer(leaves[0], leaves[1], leaves[1].inner4, 2_000_000), Transfer(leaves[3], leaves[2], leaves[2].inner4, 2_000_000)]
    for t in both:
        t.done()
    assert int(Transfer(leaves[1], leaves[0], leaves[0].inner4, 300, "udp").done()) >= 290


def test_changes_under_load(star):
    """While bytes move: a peer comes from another address, another forgets its session, the hub changes its port, a peer is
    removed, and a prefix goes over to another peer."""
    hub, leaves = star.up(2)
    for leaf in leaves:
        assert leaf.ping(hub.inner4) == 3
    moving, forgetful, other, go = leaves
    transfers = [Transfer(hub, moving, moving.inner4, 150_000_000), Transfer(hub, forgetful, forgetful.inner6, 60_000_000)]
    assert eventually(lambda: min(hub.peer(moving)["sent"], hub.peer(forgetful)["sent"]) > 2_000_000)
    moving.ip("addr", "del", "10.86.1.2/24", "dev", "eth0")
    moving.ip("addr", "add", "10.86.1.77/24", "dev", "eth0")
    assert moving.ping(hub.inner4) == 3 and transfers[0].running()
    assert eventually(lambda: hub.peer(moving)["endpoint"] == f"10.86.1.77:{51840 + moving.number}")
    before = hub.peer(forgetful)["handshake"]
    time.sleep(1.1)
    forgetful.execute("wg", "set", forgetful.interface, "peer", hub.public, "remove")
    forgetful.set_peer(hub, "10.87.0.0/24,fd87::/64", "10.86.2.1:51849")
    assert forgetful.ping(hub.inner4) >= 1
    assert eventually(lambda: hub.peer(forgetful)["handshake"] > before)
    hub.execute("wg", "set", hub.interface, "listen-port", "51999")
    for leaf in leaves:
        assert eventually(lambda node=leaf: hub.ping(node.inner4) == 3)
    for t in transfers:
        t.done()
    # other's address becomes go's
    hub.set_peer(go, f"{go.inner4}/32,{other.inner4}/32")
    go.ip("addr", "add", f"{other.inner4}/32", "dev", go.interface)
    assert hub.ping(other.inner4) == 3
    assert other.ping(hub.inner4, "-W", "1") == 0
    hub.execute("wg", "set", hub.interface, "peer", go.public, "remove")
    assert hub.ping(other.inner4, "-W", "1") == 0 and go.ping(hub.inner4, "-W", "1") == 0
    assert moving.ping(hub.inner4) == 3


# The setsockopts of the first pair of sockets are 6 and 7; then one each to share the port, 15 for the second pair (the
# last of each socket but one shares it), 2 for the program.
REFUSALS = [
    ("ioctl:error=EINVAL:when=1..2", "/dev/net/tun"),  # no queues
    ("bpf:error=EPERM:when=1", None), ("bpf:error=EPERM:when=2", None),  # no steering of packets
    ("setsockopt:error=ENOPROTOOPT:when=14", None), ("setsockopt:error=ENOPROTOOPT:when=22", None),  # no shared port
    ("setsockopt:error=EPERM:when=31", None),  # no program for it
]


@pytest.mark.parametrize("refusal,path", REFUSALS)
def test_one_thread_where_the_system_refuses(star, refusal, path):
    call = refusal.split(":")[0]
    hub, leaves = star.up(2, kinds=["ours"], wrap=["strace", "-D", "-f", "-qq", "-o", "/dev/null", *(["-P", path] if path else []),
                                                   "-e", f"trace={call}", "-e", f"inject={refusal}"])
    assert hub.threads() == 1
    assert leaves[0].ping(hub.inner4) == 3 and hub.ping(leaves[0].inner6) == 3


def test_the_name_of_another(star):
    """With several queues the system would let a second process have some of them."""
    hub, _ = star.up(2, kinds=["ours"])
    second = subprocess.run(["ip", "netns", "exec", hub.ns, "env", "NB_TUNNEL_THREADS=2", *hub.command()], capture_output=True, text=True)
    assert second.returncode == 1 and "busy" in second.stderr
    text = hub.execute("cat", f"/proc/{hub.process.pid}/status")
    print(re.search(r"VmRSS:.*", text).group(), "idle, two threads")
