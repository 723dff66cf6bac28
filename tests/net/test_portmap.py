"""Port mapping, whole agents: two machines, each behind a symmetric NAT, which theory allows no direct path; with a
router that forwards a port by PCP, NAT-PMP or UPnP there is one. The routers: tests/net/pcp_gateway.py, and miniupnpd
as an independent one. What the router was asked, and what it forwards, is looked at from its side."""
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import ROOT, Lab, run, wait_for

HERE = Path(__file__).parent
RULES = """
table ip nat {
    chain post { type nat hook postrouting priority srcnat; oifname "eth0" meta l4proto udp masquerade random
                 oifname "eth0" masquerade; }
}
table ip pm {
    map m { type inet_service : ipv4_addr . inet_service; }
    chain pre { type nat hook prerouting priority dstnat; iifname "eth0" dnat ip to udp dport map @m; }
}
table ip fw {
    chain incoming { type filter hook input priority filter; iifname "eth0" ct state new drop; }
    chain through { type filter hook forward priority filter; iifname "eth0" ct state new ct status dnat accept
                    iifname "eth0" ct state new drop; }
}
"""


class PortLab(Lab):
    """Agents alpha and bravo, each alone behind a router NAMEr: 10.78.0.N and, for miniupnpd, which wants a public
    address, 44.0.0.N outside; 192.168.N.1 inside."""

    def __init__(self):
        super().__init__()
        self.n = 10
        self.outer, self.inner = {}, {}
        self.start_server()
        self.key = self.setup()

    def site(self, name, env=None):
        self.n += 1
        router, n = f"{name}r", self.n
        self.host(router, f"10.78.0.{n}")
        run("ip", "-n", self.ns(router), "addr", "add", f"44.0.0.{n}/24", "dev", "eth0")
        self.space(name)
        run("ip", "link", "add", "lan0", "netns", self.ns(router), "type", "veth", "peer", "name", "eth0", "netns", self.ns(name))
        for ns, dev, ip in ((router, "lan0", f"192.168.{n}.1"), (name, "eth0", f"192.168.{n}.2")):
            run("ip", "-n", self.ns(ns), "addr", "add", f"{ip}/24", "dev", dev)
            run("ip", "-n", self.ns(ns), "link", "set", dev, "up")
        run("ip", "-n", self.ns(name), "route", "add", "default", "via", f"192.168.{n}.1")
        run("ip", "netns", "exec", self.ns(router), "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        run("ip", "netns", "exec", self.ns(router), "nft", "-f", "-", input=RULES)
        self.outer[router], self.inner[router] = f"10.78.0.{n}", f"192.168.{n}.1"
        return self.agent(name, None, env=env)

    def gateway(self, router, speaks, first_port=40001):
        before = len(self.requests(router))
        p = self.spawn(router, sys.executable, HERE / "pcp_gateway.py", self.inner[router], self.outer[router], first_port, speaks,
                       log=f"{router}.log")
        wait_for(lambda: len(self.requests(router)) > before)
        return p

    def requests(self, router):
        f = self.dir / f"{router}.log"
        lines = f.read_text().splitlines() if f.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]

    def forwards(self, router):
        """{external port: (address, port)} of our gateway's map."""
        text = self.exec(router, "nft", "-j", "list", "map", "ip", "pm", "m").stdout
        m = next(x["map"] for x in json.loads(text)["nftables"] if "map" in x)
        return {k: tuple(v["concat"]) for k, v in m.get("elem", [])}

    def end(self, p):
        p.terminate()
        p.wait(5)


@pytest.fixture
def lab():
    lab = PortLab()
    yield lab
    lab.close()


def connect(lab, a, b):
    for x in (a, b):
        if not x.daemon:
            x.start()
        x.up(lab.key)
    took = wait_for(lambda: a.ping(b.ip(), "1"), limit=30)
    return took


def kind(a):
    return a.status()["peers"]["details"][0]["connectionType"]


def seen(lab, router):
    """Packets that reached the router's port mapping ports."""
    text = lab.exec(router, "nft", "-j", "list", "counter", "ip", "count", "c").stdout
    return next(x["counter"]["packets"] for x in json.loads(text)["nftables"] if "counter" in x)


def count(lab, router):
    run("ip", "netns", "exec", lab.ns(router), "nft", "-f", "-", input="""table ip count { counter c {}
        chain i { type filter hook prerouting priority raw; iifname "lan0" udp dport { 5351, 1900 } counter name c; }
        }""")


def test_switched_off_it_is_relayed_and_nothing_is_asked(lab):
    off = {"NB_DISABLE_NAT_MAPPER": "true"}
    a, b = lab.site("alpha", off), lab.site("bravo", off)
    lab.gateway("alphar", "both")
    for r in ("alphar", "bravor"):
        count(lab, r)
    connect(lab, a, b)
    time.sleep(3)
    assert kind(a) == kind(b) == "Relayed"
    assert seen(lab, "alphar") == seen(lab, "bravor") == 0
    assert not {r["op"] for r in lab.requests("alphar")} - {"started", "announce"}


def test_a_router_without_it_is_asked_little(lab):
    a = lab.site("alpha")
    count(lab, "alphar")
    a.start().up(lab.key)
    time.sleep(4)
    # PCP 0 s and 3 s, NAT-PMP 0, 0.25, 0.75, 1.75, 3.75 s, and the UPnP search.
    assert 5 <= seen(lab, "alphar") <= 30


def test_no_gateway_no_question(lab):
    """A machine that is on the public network (no default route to a private gateway) sends nothing."""
    a = lab.agent("alpha", "44.0.0.99")
    run("ip", "-n", lab.ns("alpha"), "addr", "add", "10.78.0.99/24", "dev", "eth0")
    run("ip", "-n", lab.ns("alpha"), "route", "add", "default", "via", "44.0.0.1", "src", "44.0.0.99")
    run("ip", "netns", "exec", lab.ns("alpha"), "nft", "-f", "-", input="""table ip count { counter c {}
        chain o { type filter hook output priority raw; udp dport { 5351, 1900 } counter name c; }
        }""")
    a.start().up(lab.key)
    time.sleep(1)
    assert seen(lab, "alpha") == 0


@pytest.mark.parametrize("speaks", ["pcp", "natpmp", "both"])
def test_mapped_it_is_direct_and_taken_back(lab, speaks):
    a, b = lab.site("alpha"), lab.site("bravo")
    lab.gateway("alphar", speaks)
    took = connect(lab, a, b)
    wait_for(lambda: kind(a) == "P2P" and kind(b) == "P2P")
    print(f"{speaks}: first ping after {took:.2f} s")
    asked = lab.requests("alphar")
    maps = [r for r in asked if r["op"] == "map"]
    assert {r["proto"] for r in maps} == {"natpmp" if speaks == "natpmp" else "pcp"}
    forwards = lab.forwards("alphar")
    assert forwards == {40001: ("192.168.11.2", 51820)}
    # Bravo's side sees the mapped port as alpha's end.
    assert b.status()["peers"]["details"][0]["iceCandidateEndpoint"]["remote"] == "10.78.0.11:40001"
    # The first two deletions get lost.
    run("ip", "netns", "exec", lab.ns("alphar"), "nft", "-f", "-", input="""table ip lose {
        chain i { type filter hook prerouting priority raw; udp dport 5351 limit rate 1/hour burst 2 packets drop; }
        }""")
    began = time.monotonic()
    a.cli("down")
    print(f"down took {time.monotonic() - began:.2f} s")
    assert lab.forwards("alphar") == {}
    deleted = lab.requests("alphar")[-1]
    assert deleted["op"] == "delete" and deleted.get("nonce") == maps[0].get("nonce")


@pytest.mark.parametrize("speaks", ["pcp", "natpmp"])
def test_the_gateway_restarts(lab, speaks):
    """Its mappings are gone: they come back, at another port, which the peers are told."""
    a, b = lab.site("alpha"), lab.site("bravo")
    gateway = lab.gateway("alphar", speaks)
    connect(lab, a, b)
    lab.end(gateway)
    time.sleep(3)  # the gateway's clock must stand out
    lab.gateway("alphar", speaks, 41001)
    took = wait_for(lambda: 41001 in lab.forwards("alphar"), limit=5)
    print(f"{speaks}: mapped again {took:.2f} s after the restart")
    maps = [r for r in lab.requests("alphar") if r["op"] == "map"]
    assert len({r.get("nonce") for r in maps}) == 1 and maps[-1]["wish"] == 40001
    assert a.ping(b.ip(), "1")
    # A session that begins now uses the new port.
    b.cli("down")
    b.cli("up")
    wait_for(lambda: a.ping(b.ip(), "1"), limit=20)
    wait_for(lambda: kind(b) == "P2P")
    assert b.status()["peers"]["details"][0]["iceCandidateEndpoint"]["remote"] == "10.78.0.11:41001"


def test_a_late_mapping_makes_it_direct(lab):
    """The agents talk through the relay already when the router comes up: they move over, and lose nothing."""
    a, b = lab.site("alpha"), lab.site("bravo")
    connect(lab, a, b)
    time.sleep(1)
    assert kind(a) == kind(b) == "Relayed"
    ping = lab.spawn("bravo", "ping", "-i", "0.02", "-w", "5", a.ip(), log="ping.log")
    time.sleep(0.5)
    lab.gateway("alphar", "pcp")
    took = wait_for(lambda: kind(a) == "P2P" and kind(b) == "P2P", limit=5)
    print(f"direct {took:.2f} s after the router offered a mapping")
    ping.wait(10)
    assert " 0% packet loss" in lab.log("ping.log"), lab.log("ping.log")[-300:]


def test_agent_stopped_by_signal_takes_the_mapping_back(lab):
    a = lab.site("alpha")
    lab.gateway("alphar", "pcp")
    a.start().up(lab.key)
    wait_for(lambda: lab.forwards("alphar"))
    a.daemon.terminate()
    a.daemon.wait(5)
    assert lab.forwards("alphar") == {}


# --- miniupnpd: somebody else's router

@pytest.fixture(scope="module")
def miniupnpd():
    """The program out of Debian's package, unpacked, never installed: its service must not start here."""
    found = shutil.which("miniupnpd")
    if found:
        return found
    at = ROOT / "out" / "miniupnpd"
    if not (at / "usr/sbin/miniupnpd").exists():
        at.mkdir(parents=True, exist_ok=True)
        run("apt-get", "download", "miniupnpd-nftables", cwd=at)
        run("dpkg-deb", "-x", next(at.glob("*.deb")), at)
    return at / "usr/sbin/miniupnpd"


CHAINS = """table inet filter {
    chain miniupnpd { }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
    chain forward { type filter hook forward priority 0; jump miniupnpd; }
    chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
    chain postrouting { type nat hook postrouting priority 90; jump postrouting_miniupnpd; }
}"""


def start_miniupnpd(lab, router, program, *options):
    n = lab.outer[router].rsplit(".", 1)[1]
    conf = lab.dir / f"{router}.conf"
    conf.write_text("\n".join(["ext_ifname=eth0", f"ext_ip=44.0.0.{n}", "listening_ip=lan0", "system_uptime=no",
                               "uuid=00000000-0000-0000-0000-000000000001", "secure_mode=yes",
                               f"lease_file={lab.dir}/{router}.leases", "allow 1024-65535 192.168.0.0/16 1024-65535",
                               "deny 0-65535 0.0.0.0/0 0-65535", *options]) + "\n")
    if run("ip", "netns", "exec", lab.ns(router), "nft", "list", "table", "inet", "filter", check=False).returncode:
        run("ip", "netns", "exec", lab.ns(router), "nft", "-f", "-", input=CHAINS)
    p = lab.spawn(router, program, "-d", "-f", conf, "-P", lab.dir / f"{router}.pid", log=f"{router}.log")
    wait_for(lambda: "listening" in lab.log(f"{router}.log").lower() or p.poll() is not None)
    assert p.poll() is None, lab.log(f"{router}.log")
    return p


def redirects(lab, router):
    text = lab.exec(router, "nft", "-j", "list", "chain", "inet", "filter", "prerouting_miniupnpd").stdout
    return [x["rule"] for x in json.loads(text)["nftables"] if "rule" in x]


def test_ipv6_pinhole(lab, miniupnpd):
    """An IPv6 router that lets nobody in is asked to let packets to our port in, from the address they are to reach."""
    a = lab.site("alpha")
    for ns, dev, ip in (("alphar", "lan0", "fe80::1"), ("alphar", "lan0", "fd11::1"), ("alphar", "eth0", "fd78::11"),
                        ("alpha", "eth0", "fd11::2")):
        run("ip", "-n", lab.ns(ns), "addr", "add", f"{ip}/64", "dev", dev, "nodad")
    run("ip", "netns", "exec", lab.ns("alphar"), "sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=1")
    run("ip", "-n", lab.ns("alpha"), "route", "add", "default", "via", "fe80::1", "dev", "eth0")
    start_miniupnpd(lab, "alphar", miniupnpd, "enable_natpmp=yes", "ext_ifname6=eth0")

    def holes():
        text = lab.exec("alphar", "nft", "list", "chain", "inet", "filter", "miniupnpd").stdout
        return [line for line in text.splitlines() if f"0xfd11{2:028x}" in line and "dport 51820" in line]
    assert not holes()
    a.start().up(lab.key)
    wait_for(holes, limit=5)
    a.cli("down")
    wait_for(lambda: not holes(), limit=3)


@pytest.mark.parametrize("what,options", [("PCP", ["enable_natpmp=yes", "enable_upnp=yes"]),
                                          ("UPnP", ["enable_natpmp=no", "enable_upnp=yes"])])
def test_miniupnpd(lab, miniupnpd, what, options):
    a, b = lab.site("alpha"), lab.site("bravo")
    start_miniupnpd(lab, "alphar", miniupnpd, *options)
    a.start().up(lab.key)
    took = wait_for(lambda: redirects(lab, "alphar"), limit=15, step=0.1)
    print(f"{what}: mapped {took:.2f} s after up")
    time.sleep(0.2)
    connect(lab, a, b)
    wait_for(lambda: kind(a) == "P2P" and kind(b) == "P2P")
    assert b.status()["peers"]["details"][0]["iceCandidateEndpoint"]["remote"].startswith("44.0.0.11:")
    a.cli("down")
    wait_for(lambda: not redirects(lab, "alphar"), limit=3)
