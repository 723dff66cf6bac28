"""A running agent whose network changes under it: other address, other way out, cable out and in again, server and name
server away. Every test prints the time from the event to the first answer through the tunnel, and that WireGuard's
keys were kept where nothing was lost. Stock NetBird on the same events: 0.7 s after an address change, 10.5 s after
8 s of link down."""
import shutil
import time
from pathlib import Path

import pytest

from lab import SERVER_IP, run, wait_for
from natlab import NatLab


@pytest.fixture
def lab():
    lab = NatLab()
    yield lab
    lab.close()


def joined(lab, a, b):
    """Both up and connected on a direct path; their overlay addresses are kept."""
    a.start().up(lab.setup())
    b.start().up(lab.keys["reusable"])
    a.overlay, b.overlay = a.ip(), b.ip()
    wait_for(lambda: a.ping(b.overlay))
    wait_for(lambda: path(a) == "P2P")
    wait_for(lambda: path(b) == "P2P")


def path(a):
    return a.status()["peers"]["details"][0]["connectionType"]


def handshakes(a):
    return a.status()["peers"]["details"][0]["lastWireguardHandshake"]


class Pings:
    """A packet each 20 ms from a to b; what came back, and when."""

    def __init__(self, lab, a, b):
        self.lab, self.name = lab, f"ping-{a.which}-{time.monotonic_ns()}"
        self.p = lab.spawn(a.which, "ping", "-D", "-n", "-i", "0.02", "-W", "1", b.overlay, log=self.name)
        wait_for(lambda: self.answers())

    def answers(self):
        out = []
        for line in self.lab.log(self.name).splitlines():
            if line.startswith("[") and "bytes from" in line:
                out.append((float(line[1:line.index("]")]), int(line.split("icmp_seq=")[1].split()[0])))
        return out

    def back_after(self, event, limit):
        """Seconds from the wall-clock time `event` until answers come again to packets sent after it."""
        sent = [n for t, n in self.answers() if t < event]
        first = max(sent) + 1 if sent else 0
        def fresh():
            return [t for t, n in self.answers() if t > event and n > first]
        wait_for(fresh, limit)
        return fresh()[0] - event

    def gap(self):
        """The longest time without an answer."""
        t = [t for t, _ in self.answers()]
        return max(b - a for a, b in zip(t, t[1:]))

    def stop(self):
        self.p.terminate()
        self.p.wait()


def control_is_up(*agents):
    for a in agents:
        wait_for(lambda: a.status()["management"]["connected"] and a.status()["signal"]["connected"], limit=20, step=0.1)


def report(what, took, extra=""):
    print(f"\n  {what}: {took:.3f} s{extra}", flush=True)


def test_address_change(lab):
    lab.start_server()
    a, b = lab.agent("alpha", "10.78.0.2"), lab.agent("bravo", "10.78.0.3")
    joined(lab, a, b)
    pings = Pings(lab, b, a)
    worst = 0
    for ip in ("10.78.0.102", "10.78.0.103", "10.78.0.104"):
        event = time.time()
        lab.exec("alpha", "sh", "-c", f"ip addr flush dev eth0; ip addr add {ip}/24 dev eth0")
        worst = max(worst, pings.back_after(event, 10))
        control_is_up(a)
        wait_for(lambda: path(a) == "P2P" and path(b) == "P2P")
        assert a.ping(b.overlay, "1")
    pings.stop()
    report("address change, ping from the other side, worst of 3", worst)
    assert worst < 1


@pytest.mark.parametrize("kind", ["full", "port"])
def test_address_change_behind_nat(lab, kind):
    """The other side's NAT does not let the new address in: signal has to carry it."""
    lab.start_server()
    a, b = lab.agent("alpha", "10.78.0.2"), lab.site("bravo", kind)
    joined(lab, a, b)
    pings = Pings(lab, a, b)
    event = time.time()
    lab.exec("alpha", "sh", "-c", "ip addr flush dev eth0; ip addr add 10.78.0.102/24 dev eth0")
    took = pings.back_after(event, 15)
    pings.stop()
    report(f"address change, other side behind a NAT ({kind})", took)
    control_is_up(a)
    assert took < 2


def test_default_route_change(lab):
    """Two cables, each to a NAT; no address changes, only the way out does."""
    lab.start_server()
    a, b = lab.site("alpha", "port"), lab.agent("bravo", "10.78.0.3")
    lab.host("second", "10.78.0.99")
    run("ip", "link", "add", "eth1", "netns", lab.ns("alpha"), "type", "veth", "peer", "name", "lan0", "netns", lab.ns("second"))
    for ns, dev, last in (("second", "lan0", 1), ("alpha", "eth1", 2)):
        run("ip", "-n", lab.ns(ns), "addr", "add", f"192.168.99.{last}/24", "dev", dev)
        run("ip", "-n", lab.ns(ns), "link", "set", dev, "up")
    lab.make_nat("second", "port", "10.78.0.99", "192.168.99")
    joined(lab, a, b)
    pings = Pings(lab, b, a)
    event = time.time()
    lab.exec("alpha", "ip", "route", "replace", "default", "via", "192.168.99.1")
    lab.exec("alphan", "ip", "link", "set", "eth0", "down")
    took = pings.back_after(event, 20)
    pings.stop()
    report("default route through another NAT", took)
    control_is_up(a)
    assert took < 2


def test_link_down_8s(lab):
    lab.start_server()
    a, b = lab.agent("alpha", "10.78.0.2"), lab.agent("bravo", "10.78.0.3")
    joined(lab, a, b)
    pings = Pings(lab, b, a)
    lab.exec("alpha", "ip", "link", "set", "eth0", "down")
    time.sleep(8)
    event = time.time()
    lab.exec("alpha", "ip", "link", "set", "eth0", "up")
    took = pings.back_after(event, 30)
    pings.stop()
    report("8 s of link down, after link up", took)
    control_is_up(a)
    wait_for(lambda: path(a) == "P2P" and path(b) == "P2P")
    assert took < 1


def test_cable_down_8s_behind_nat(lab):
    """The cable further on is cut: no interface of ours changes; the path has to come back by itself."""
    lab.start_server()
    a, b = lab.site("alpha", "port"), lab.site("bravo", "port")
    joined(lab, a, b)
    pings = Pings(lab, b, a)
    lab.exec("alphan", "ip", "link", "set", "eth0", "down")
    time.sleep(8)
    event = time.time()
    lab.exec("alphan", "ip", "link", "set", "eth0", "up")
    took = pings.back_after(event, 40)
    pings.stop()
    report("8 s of cable cut beyond the router, after it is back", took)
    control_is_up(a, b)
    assert took < 12


def test_server_restart(lab):
    """The tunnel does not notice; control is back soon; the keys are those of before."""
    lab.start_server()
    a, b = lab.agent("alpha", "10.78.0.2"), lab.agent("bravo", "10.78.0.3")
    joined(lab, a, b)
    before = handshakes(a)
    pings = Pings(lab, b, a)
    lab.server.kill()
    lab.server.wait()
    time.sleep(1)
    began = time.monotonic()
    lab.start_server()
    started = time.monotonic() - began
    control_is_up(a, b)
    took = time.monotonic() - began
    time.sleep(0.5)
    gap = pings.gap()
    pings.stop()
    report("server killed and started: control back", took, f" (server itself {started:.2f} s); longest gap of pings {gap:.3f} s")
    assert gap < 0.5
    assert handshakes(a) == before
    assert took < 12


def with_names(lab, which, text):
    """Name resolution of one namespace: its own hosts file, and a name server that does not exist."""
    d = Path("/etc/netns") / lab.ns(which)
    d.mkdir(parents=True, exist_ok=True)
    (d / "hosts").write_text(text)
    (d / "resolv.conf").write_text("nameserver 10.78.0.250\noptions timeout:5 attempts:2\n")
    return d


@pytest.fixture
def named(lab):
    """The control host has a name, which three namespaces know."""
    lab.url = "http://control.example:8080"
    made = [with_names(lab, which, f"127.0.0.1 localhost\n{SERVER_IP} control.example\n") for which in ("srv", "alpha", "bravo")]
    yield lab, made[1] / "hosts"
    for d in made:
        shutil.rmtree(d, ignore_errors=True)


def test_name_server_away(named):
    """Names cannot be looked up any more when the address changes: what they were before must do."""
    lab, hosts = named
    lab.start_server()
    a, b = lab.agent("alpha", "10.78.0.2"), lab.agent("bravo", "10.78.0.3")
    joined(lab, a, b)
    hosts.write_text("127.0.0.1 localhost\n")
    pings = Pings(lab, b, a)
    event, began = time.time(), time.monotonic()
    lab.exec("alpha", "sh", "-c", "ip addr flush dev eth0; ip addr add 10.78.0.102/24 dev eth0")
    took = pings.back_after(event, 10)
    wait_for(lambda: len(lab.exec("srv", "ss", "-Htn", "state", "established", "dst", "10.78.0.102").stdout.splitlines()) >= 2,
             limit=20, step=0.05)
    control = time.monotonic() - began
    control_is_up(a)
    pings.stop()
    report("address change without name server: ping", took, f"; control back {control:.2f} s")
    assert took < 1 and control < 5


def test_address_change_while_relayed(lab):
    """No direct path exists: the relay connection has to move, and nothing else can help."""
    lab.start_server()
    a, b = lab.site("alpha", "blocked"), lab.site("bravo", "blocked")
    a.start().up(lab.setup())
    b.start().up(lab.keys["reusable"])
    a.overlay, b.overlay = a.ip(), b.ip()
    wait_for(lambda: a.ping(b.overlay))
    pings = Pings(lab, b, a)
    net = lab.exec("alpha", "ip", "-4", "-o", "route", "show", "default").stdout.split()[2].rsplit(".", 1)[0]
    event = time.time()
    lab.exec("alpha", "sh", "-c", f"ip addr flush dev eth0; ip addr add {net}.77/24 dev eth0; "
             f"ip route add default via {net}.1")
    took = pings.back_after(event, 40)
    pings.stop()
    report("address change while relayed", took)
    control_is_up(a)
    assert took < 2
