"""Peers that are connected only while somebody needs them, whole agents: what status shows, that the first packet is not
lost, who wakes whom, and what happens to a sleeping peer when the rest of the world changes. Times are printed."""
import json
import os
import re
import subprocess
import time

import pytest

from lab import SERVER_IP, wait_for
from natlab import NatLab

SOAK = bool(os.environ.get("NB_SOAK"))
THRESHOLD = "1s"


@pytest.fixture
def lab():
    lab = NatLab()
    lab.start_server()
    lab.key = lab.setup()
    yield lab
    lab.close()


def joined(lab, a_env=None, b_env=None):
    a, b = (lab.agent(n, ip, env=env).start() for n, ip, env in (("alpha", "10.78.0.2", a_env), ("bravo", "10.78.0.3", b_env)))
    for x in (a, b):
        x.up(lab.key)
    a.overlay, b.overlay = a.ip(), b.ip()
    return a, b


def peer(agent):
    return agent.status()["peers"]["details"][0]


def states(*agents):
    return [peer(x)["status"] for x in agents]


def asleep(*agents):
    return all(s == "Idle" for s in states(*agents))


def first_ping(agent, target):
    """One packet; milliseconds to its answer."""
    r = agent.lab.exec(agent.which, "ping", "-c", "1", "-W", "5", target)
    return float(re.search(r"time=([\d.]+) ms", r.stdout)[1])


def counted(agent):
    """Packets of the tunnel port between this machine and others, not the server, since the last call."""
    lab, ns = agent.lab, agent.which
    if not getattr(agent, "counts", False):
        lab.exec_nft(ns, """table inet n { counter c {}
            chain i { type filter hook input priority 0; ip saddr != SERVER udp dport 51820 counter name c; }
            chain o { type filter hook output priority 0; ip daddr != SERVER udp sport 51820 counter name c; }
        }""".replace("SERVER", SERVER_IP))
        agent.counts = True
    text = lab.exec(ns, "nft", "-j", "reset", "counter", "inet", "n", "c").stdout
    return next(x["counter"]["packets"] for x in json.loads(text)["nftables"] if "counter" in x)


def syn_retransmits(agent):
    names, values = [line.split() for line in agent.lab.exec(agent.which, "cat", "/proc/net/netstat").stdout.splitlines()
                     if line.startswith("TcpExt:")]
    return int(dict(zip(names[1:], values[1:]))["TCPSynRetrans"])


def test_asleep_until_the_first_packet(lab):
    a, b = joined(lab, {"NB_LAZY_CONN_INACTIVITY_THRESHOLD": THRESHOLD})
    wait_for(lambda: a.status()["peers"]["total"] == 1 and b.status()["peers"]["total"] == 1)
    counted(a), counted(b)
    detail = a.cli("status", "-d").stdout
    assert """  Status: Idle
  -- detail --
  Connection type: -
  ICE candidate (Local/Remote): -/-
  ICE candidate endpoints (Local/Remote): -/-
  Relay server address: \n  Last connection update: -
  Last WireGuard handshake: -
  Transfer status (received/sent) 0 B/0 B
""" in detail
    assert "Lazy connection: true\n" in detail and "Peers count: 0/1 Connected" in detail
    assert peer(a)["lastStatusUpdate"] == "0001-01-01T00:00:00Z"
    time.sleep(2)
    assert counted(a) == counted(b) == 0
    # WireGuard, ICE, relay and signal all come up for one packet, which is answered.
    took = [first_ping(a, b.overlay)]
    assert states(a, b) == ["Connected", "Connected"]
    rounds = 20 if SOAK else 3
    for i in range(rounds):
        idle = wait_for(lambda: asleep(a, b), limit=8)
        assert idle > 0.5
        if i == 0:
            time.sleep(0.5)
            counted(a), counted(b)
            time.sleep(1)
            assert counted(a) == counted(b) == 0
        x, y = (a, b) if i % 2 else (b, a)  # b has the default threshold: it was told to sleep
        took.append(first_ping(x, y.overlay))
    print(f"\n  first packet to its answer: {', '.join(f'{t:.1f}' for t in took)} ms")
    assert max(took) < 1000
    # Nobody falls asleep while data flows.
    r = lab.exec("alpha", "ping", "-q", "-c", "25", "-i", "0.1", "-W", "2", b.overlay, check=False)
    assert " 0% packet loss" in r.stdout and "rtt" in r.stdout, r.stdout
    assert len(re.findall("bravo.*: connecting", lab.log("alpha.log"))) <= rounds + 2
    # The first SYN is the one that connects.
    wait_for(lambda: asleep(a, b), limit=8)
    listener = lab.spawn("bravo", "nc", "-l", "-N", b.overlay, "7000", log="nc.log")
    time.sleep(0.2)
    before = syn_retransmits(a)
    began = time.monotonic()
    r = subprocess.run(["ip", "netns", "exec", lab.ns("alpha"), "nc", "-N", "-w", "5", b.overlay, "7000"], input=b"x" * 300_000,
                       timeout=20)
    print(f"  300 kB by TCP to a sleeping peer: {time.monotonic() - began:.3f} s")
    assert r.returncode == 0
    listener.wait(10)
    assert (lab.dir / "nc.log").stat().st_size == 300_000
    assert syn_retransmits(a) == before
    # Many at once: all wait.
    wait_for(lambda: asleep(a, b), limit=8)
    r = lab.exec("alpha", "ping", "-q", "-c", "30", "-i", "0.002", "-W", "3", b.overlay, check=False)
    assert " 0% packet loss" in r.stdout, r.stdout


def test_the_world_changes_meanwhile(lab):
    """down and up, a moved address, a server that restarts, a third peer, deletion: all while asleep."""
    a, b = joined(lab, {"NB_LAZY_CONN_INACTIVITY_THRESHOLD": THRESHOLD})
    first_ping(a, b.overlay)
    # The other side goes and comes without a word: packets wait for it.
    b.cli("down")
    wait_for(lambda: states(a) == ["Idle"], limit=8)
    b.cli("up")
    first_ping(a, b.overlay)
    wait_for(lambda: asleep(a, b), limit=8)
    lab.exec("bravo", "sh", "-c", "ip addr flush dev eth0; ip addr add 10.78.0.103/24 dev eth0")
    wait_for(lambda: b.status()["signal"]["connected"] and b.status()["management"]["connected"], limit=20, step=0.1)
    time.sleep(0.5)
    first_ping(a, b.overlay)
    # No signal: nobody falls asleep, for nobody could be woken.
    lab.server.kill()
    lab.server.wait()
    time.sleep(2)
    assert states(a, b) == ["Connected", "Connected"]
    first_ping(b, a.overlay)
    lab.start_server()
    wait_for(lambda: asleep(a, b), limit=30)
    c = lab.agent("charlie", "10.78.0.4").start()
    c.up(lab.key)
    wait_for(lambda: a.status()["peers"]["total"] == 2)
    assert a.status()["peers"]["connected"] == 0 and c.status()["peers"]["connected"] == 0
    first_ping(c, a.overlay)
    assert a.status()["peers"]["connected"] == 1
    bravo = next(p for p in lab.api("GET", "/peers") if p["hostname"] == "bravo")
    lab.api("DELETE", f"/peers/{bravo['id']}")
    wait_for(lambda: a.status()["peers"]["total"] == 1, limit=3)
    assert not a.ping(b.overlay, "0.5")
    assert first_ping(a, c.ip()) < 1000


def test_setting_and_environment(lab):
    account = lab.api("GET", "/accounts")[0]
    assert account["settings"]["lazy_connection_enabled"] is True
    a, b = joined(lab, {"NB_LAZY_CONN_INACTIVITY_THRESHOLD": THRESHOLD})
    c = lab.agent("charlie", "10.78.0.4", env={"NB_LAZY_CONN": "off"}).start()
    c.up(lab.key)
    # It calls everybody, and they answer.
    wait_for(lambda: c.status()["peers"]["connected"] == 2)
    assert c.status()["lazyConnectionEnabled"] is False
    assert a.status()["peers"]["connected"] == 1
    # Told to sleep it comes back at once; then it is left alone for longer.
    overlay = c.ip()
    c_in_a = lambda: next(p for p in a.status()["peers"]["details"] if p["netbirdIp"] == overlay)["status"]
    wait_for(lambda: "charlie.netbird.selfhosted: idle" in lab.log("alpha.log"))
    wait_for(lambda: c_in_a() == "Connected", limit=10)
    assert len(re.findall("charlie.*: idle", lab.log("alpha.log"))) <= 2
    # Off for all: everybody is connected without a packet; on again: asleep.
    account["settings"]["lazy_connection_enabled"] = False
    lab.api("PUT", f"/accounts/{account['id']}", {"settings": account["settings"]})
    wait_for(lambda: a.status()["peers"]["connected"] == 2 and b.status()["peers"]["connected"] == 2)
    assert "Lazy connection: false\n" in a.cli("status").stdout
    time.sleep(1.5)
    assert a.status()["peers"]["connected"] == 2
    account["settings"]["lazy_connection_enabled"] = True
    lab.api("PUT", f"/accounts/{account['id']}", {"settings": account["settings"]})
    wait_for(lambda: a.status()["lazyConnectionEnabled"])
    b_in_a = lambda: next(p for p in a.status()["peers"]["details"] if p["netbirdIp"] == b.overlay)["status"]
    wait_for(lambda: b_in_a() == "Idle", limit=8)


@pytest.mark.parametrize("kinds", [("port", "port"), ("blocked", "blocked")], ids="-".join)
def test_behind_nats(lab, kinds):
    """Asleep there are no mappings in the NATs; relayed, there is no channel."""
    agents = []
    for name, kind in zip(("alpha", "bravo"), kinds):
        x = lab.site(name, kind)
        x.env = {"NB_LAZY_CONN_INACTIVITY_THRESHOLD": THRESHOLD}
        x.start().up(lab.key)
        x.overlay = x.ip()
        agents.append(x)
    a, b = agents
    wait_for(lambda: a.status()["relays"]["available"] >= 1 and b.status()["relays"]["available"] >= 1, limit=10)
    took = [first_ping(a, b.overlay)]
    wait_for(lambda: asleep(a, b), limit=8)
    took.append(first_ping(b, a.overlay))
    print(f"\n  {'-'.join(kinds)}: {', '.join(f'{t:.1f}' for t in took)} ms")
    assert max(took) < 1500
