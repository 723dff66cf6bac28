"""Access control between whole agents: policies change over the REST API, nc, curl and ping show who reaches what. The
agents enforce it themselves: there is no host firewall in these namespaces."""
import json
import subprocess
import sys
import time

import pytest

from lab import Lab, run, wait_for

# Echo on TCP and UDP ports, both address families; a stream's bytes are reported with the time they came.
ECHO = """
import socket, sys, threading, time
def tcp(port):
    s = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        c, _ = s.accept()
        threading.Thread(target=serve, args=(c,), daemon=True).start()
def serve(c):
    while True:
        try:
            data = c.recv(65536)
        except OSError:
            return
        if not data:
            return
        print(f"{time.monotonic():.3f}", flush=True)
        try:
            c.sendall(data)
        except OSError:
            return
def udp(port):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.bind(("::", port))
    while True:
        data, who = s.recvfrom(2048)
        print(f"{time.monotonic():.3f}", flush=True)
        try:
            s.sendto(data, who)
        except OSError:
            pass
for p in map(int, sys.argv[1:]):
    threading.Thread(target=tcp, args=(p,), daemon=True).start()
    threading.Thread(target=udp, args=(p,), daemon=True).start()
threading.Event().wait()
"""

# Send ten bytes every 20 ms for ever.
STREAM = """
import socket, sys, time
kind, ip, port = sys.argv[1:]
s = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
s.connect((ip, int(port)))
while True:
    s.send(b"0123456789")
    time.sleep(0.02)
"""

PORTS = ["7001", "7002", "7010", "7020"]


@pytest.fixture(scope="module")
def lab():
    lab = Lab()
    lab.start_server()
    key = lab.setup()
    # One with one data-plane thread, as on most machines, one with several.
    lab.a, lab.b = lab.agent("alpha", "10.78.0.2").start(), lab.agent("bravo", "10.78.0.3", env={"NB_TUNNEL_THREADS": "2"}).start()
    for agent in (lab.a, lab.b):
        agent.up(key)
        lab.spawn(agent.which, sys.executable, "-c", ECHO, *PORTS, log=f"{agent.which}.echo")
        s = agent.status()
        agent.v4, agent.v6 = s["netbirdIp"].split("/")[0], s["netbirdIpv6"].split("/")[0]
    peers = {p["hostname"]: p["id"] for p in lab.api("GET", "/peers")}
    lab.groups = {name: lab.api("POST", "/groups", {"name": name, "peers": [peers[name]]})["id"] for name in ("alpha", "bravo")}
    lab.default = lab.api("GET", "/policies")[0]
    wait_for(lambda: lab.a.ping(lab.b.v4))
    yield lab
    lab.close()


def rule(source, destination, protocol, action="accept", both=False, ports=None, ranges=None):
    r = {"name": "r", "enabled": True, "action": action, "bidirectional": both, "protocol": protocol, "sources": [source],
         "destinations": [destination]}
    if ports:
        r["ports"] = ports
    if ranges:
        r["port_ranges"] = [{"start": lo, "end": hi} for lo, hi in ranges]
    return r


def set_default(lab, enabled):
    rules = []
    for r in lab.default["rules"]:
        r = {**r, "sources": [g["id"] for g in r["sources"]], "destinations": [g["id"] for g in r["destinations"]]}
        rules.append({k: v for k, v in r.items() if v is not None})
    lab.api("PUT", f"/policies/{lab.default['id']}", {"name": "Default", "enabled": enabled, "rules": rules})


def body(lab, r):
    r = {**r, "sources": [lab.groups[s] for s in r["sources"]], "destinations": [lab.groups[d] for d in r["destinations"]]}
    return {"name": "test", "enabled": True, "rules": [r]}


def set_rules(lab, *rules, default=False):
    """These rules and no others; with default, the policy of a new account beside them. Ids of the new policies."""
    old = [p["id"] for p in lab.api("GET", "/policies") if p["id"] != lab.default["id"]]
    made = [lab.api("POST", "/policies", body(lab, r))["id"] for r in rules]
    set_default(lab, default)
    for i in old:
        lab.api("DELETE", f"/policies/{i}")
    # Several changes at once take a second: management sends each agent one map per second at most. How soon a
    # change after a quiet second bites is measured below.
    time.sleep(1.3)
    return made


def tcp(lab, who, ip, port):
    """Does a byte come back?"""
    r = subprocess.run(["ip", "netns", "exec", lab.ns(who.which), "nc", "-N", "-w", "1", ip, port], input=b"x", capture_output=True,
                       timeout=20)
    return r.stdout == b"x"


def udp(lab, who, ip, port):
    r = subprocess.run(["ip", "netns", "exec", lab.ns(who.which), "nc", "-u", "-w", "1", "-W", "1", ip, port], input=b"x",
                       capture_output=True, timeout=20)
    return r.stdout == b"x"


def settled(lab, who, ip, port):
    """Peers that did not know each other before need a moment to connect."""
    wait_for(lambda: tcp(lab, who, ip, port), limit=10)


def test_default_policy_allows_all(lab):
    set_rules(lab, default=True)
    settled(lab, lab.a, lab.b.v4, "7001")
    for who, other in ((lab.a, lab.b), (lab.b, lab.a)):
        for ip in (other.v4, other.v6):
            assert who.ping(ip, "2")
            assert tcp(lab, who, ip, "7001") and udp(lab, who, ip, "7020")


def test_one_way(lab):
    set_rules(lab, rule("alpha", "bravo", "tcp", ports=["7001"]))
    settled(lab, lab.a, lab.b.v4, "7001")
    wait_for(lambda: not lab.b.ping(lab.a.v4))
    assert not tcp(lab, lab.b, lab.a.v4, "7001")
    assert not tcp(lab, lab.a, lab.b.v4, "7002")
    assert not udp(lab, lab.a, lab.b.v4, "7001")
    assert not lab.a.ping(lab.b.v4, "1")
    # The same over IPv6.
    assert tcp(lab, lab.a, lab.b.v6, "7001")
    assert not tcp(lab, lab.b, lab.a.v6, "7001")
    assert not tcp(lab, lab.a, lab.b.v6, "7002")
    assert not lab.a.ping(lab.b.v6, "1")


def test_ports_and_ranges(lab):
    set_rules(lab, rule("alpha", "bravo", "tcp", ports=["7001", "7020"]), rule("alpha", "bravo", "udp", ranges=[(7002, 7010)]))
    settled(lab, lab.a, lab.b.v4, "7020")
    assert tcp(lab, lab.a, lab.b.v4, "7001")
    assert not tcp(lab, lab.a, lab.b.v4, "7002") and not tcp(lab, lab.a, lab.b.v4, "7010")
    assert udp(lab, lab.a, lab.b.v4, "7002") and udp(lab, lab.a, lab.b.v6, "7010")
    assert not udp(lab, lab.a, lab.b.v4, "7001") and not udp(lab, lab.a, lab.b.v4, "7020")


def test_icmp_only(lab):
    set_rules(lab, rule("alpha", "bravo", "icmp", both=True))
    wait_for(lambda: not tcp(lab, lab.a, lab.b.v4, "7001"))
    assert lab.a.ping(lab.b.v4, "2") and lab.b.ping(lab.a.v4, "2")
    assert lab.a.ping(lab.b.v6, "2") and lab.b.ping(lab.a.v6, "2")
    assert not udp(lab, lab.a, lab.b.v4, "7001")


def test_drop_comes_first(lab):
    set_rules(lab, rule("alpha", "bravo", "tcp", action="drop", both=True, ports=["7002"]), default=True)
    settled(lab, lab.a, lab.b.v4, "7001")
    wait_for(lambda: not tcp(lab, lab.a, lab.b.v4, "7002"))
    assert not tcp(lab, lab.a, lab.b.v6, "7002") and not tcp(lab, lab.b, lab.a.v4, "7002")
    assert tcp(lab, lab.a, lab.b.v4, "7010") and udp(lab, lab.a, lab.b.v4, "7002")


def test_curl_and_large_answers(lab):
    """Megabytes through rules that allow one port: super-packets, fragments of nothing, both families."""
    (lab.dir / "web").mkdir()
    (lab.dir / "web" / "file").write_bytes(b"z" * 20_000_000)
    lab.spawn("bravo", sys.executable, "-m", "http.server", "7080", "--bind", "::", "--directory", lab.dir / "web", log="web.log")
    set_rules(lab, rule("alpha", "bravo", "tcp", ports=["7080"]))
    wait_for(lambda: lab.exec("alpha", "curl", "-s", "-m", "1", f"http://{lab.b.v4}:7080/", check=False).returncode == 0)
    for host in (lab.b.v4, f"[{lab.b.v6}]"):
        r = lab.exec("alpha", "curl", "-s", "-m", "20", "-o", "/dev/null", "-w", "%{size_download}", f"http://{host}:7080/file")
        assert r.stdout == "20000000"
    assert lab.exec("bravo", "curl", "-s", "-m", "1", f"http://{lab.a.v4}:7001/", check=False).returncode == 28


def test_fragments(lab):
    """A ping of several fragments passes where pings may, and nowhere else."""
    def large(ip):
        return lab.exec("alpha", "ping", "-q", "-c", "1", "-W", "1", "-s", "5000", ip, check=False).returncode == 0
    set_rules(lab, rule("alpha", "bravo", "icmp", both=True))
    wait_for(lambda: large(lab.b.v4))
    assert large(lab.b.v6)
    set_rules(lab, rule("alpha", "bravo", "tcp", ports=["7001"]))
    wait_for(lambda: not large(lab.b.v4))
    assert not large(lab.b.v6)


def stream(lab, kind, ip, port="7001"):
    """A live flow from alpha to bravo: its process. Its bytes show in bravo.echo."""
    p = lab.spawn("alpha", sys.executable, "-c", STREAM, kind, ip, port, log="stream.log")
    wait_for(lambda: arrivals(lab) and time.monotonic() - arrivals(lab)[-1] < 0.2)
    return p


def arrivals(lab):
    lines = lab.log("bravo.echo").split("\n")[:-1]
    return [float(line) for line in lines[-50:]]


def stop(p):
    p.terminate()
    p.wait(5)


def silence_after(lab, change):
    """Make a change after a quiet second, while bytes flow; how long they went on."""
    time.sleep(1.2)
    began = time.monotonic()
    change()
    wait_for(lambda: time.monotonic() - arrivals(lab)[-1] > 1.0, limit=10)
    return arrivals(lab)[-1] - began


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_change_cuts_a_live_flow(lab, kind):
    """Another rule keeps the two connected; the flow that no rule allows any more ends within half a second. (The
    stock agent takes 1.1 s to enforce a change.)"""
    ids = set_rules(lab, rule("alpha", "bravo", kind, ports=["7001"]), rule("alpha", "bravo", "icmp", both=True))
    wait_for(lambda: (tcp if kind == "tcp" else udp)(lab, lab.a, lab.b.v4, "7001"))
    p = stream(lab, kind, lab.b.v4)
    took = silence_after(lab, lambda: lab.api("PUT", f"/policies/{ids[0]}",
                                              body(lab, rule("alpha", "bravo", kind, ports=["7002"]))))
    print(f"a {kind} flow ended {took:.3f} s after its rule changed")
    assert took < 0.5
    assert lab.a.ping(lab.b.v4, "1")
    # New ones are refused, too, and the old one stays cut though both ends go on trying.
    assert not (tcp if kind == "tcp" else udp)(lab, lab.a, lab.b.v4, "7001")
    assert time.monotonic() - arrivals(lab)[-1] > 1.0
    # The rule comes back.
    lab.api("PUT", f"/policies/{ids[0]}", body(lab, rule("alpha", "bravo", kind, ports=["7001"])))
    wait_for(lambda: (tcp if kind == "tcp" else udp)(lab, lab.a, lab.b.v4, "7001"))
    stop(p)


def test_our_own_connections_go_on(lab):
    """A flow that alpha may have towards bravo is no matter of rules for traffic from bravo to alpha."""
    ids = set_rules(lab, rule("alpha", "bravo", "tcp", ports=["7001"]), rule("bravo", "alpha", "tcp", ports=["7001"]))
    settled(lab, lab.a, lab.b.v4, "7001")
    settled(lab, lab.b, lab.a.v4, "7001")
    p = stream(lab, "tcp", lab.b.v4)
    lab.api("DELETE", f"/policies/{ids[1]}")
    wait_for(lambda: not tcp(lab, lab.b, lab.a.v4, "7001"))
    assert time.monotonic() - arrivals(lab)[-1] < 0.5
    stop(p)


def test_disabled_policy_ends_everything(lab):
    set_rules(lab, default=True)
    settled(lab, lab.a, lab.b.v4, "7001")
    p = stream(lab, "tcp", lab.b.v4)
    took = silence_after(lab, lambda: set_default(lab, False))
    print(f"a live connection ended {took:.3f} s after the policy was disabled")
    assert took < 0.5
    assert not lab.a.ping(lab.b.v4, "1")
    assert not tcp(lab, lab.a, lab.b.v4, "7001")
    stop(p)
    set_default(lab, True)
    settled(lab, lab.a, lab.b.v4, "7001")


def test_first_packets_of_a_new_rule(lab):
    """While rules are exchanged again and again, nothing passes that none of them allows."""
    ids = set_rules(lab, rule("alpha", "bravo", "tcp", ports=["7001"]))
    settled(lab, lab.a, lab.b.v4, "7001")
    wait_for(lambda: not udp(lab, lab.a, lab.b.v4, "7010"))
    seen = len(lab.log("bravo.echo").split("\n"))
    p = lab.spawn("alpha", sys.executable, "-c", STREAM, "udp", lab.b.v4, "7010", log="stream.log")
    for i in range(20):
        port = "7001" if i % 2 else "7002"
        lab.api("PUT", f"/policies/{ids[0]}", body(lab, rule("alpha", "bravo", "tcp", ports=[port])))
    assert p.poll() is None
    stop(p)
    assert len(lab.log("bravo.echo").split("\n")) == seen


def test_block_inbound_and_disabled_firewall(lab):
    """What the owner of a machine says beside the policies."""
    set_rules(lab, default=True)
    c, d = lab.agent("charlie", "10.78.0.4").start(), lab.agent("delta", "10.78.0.5").start()
    up = ["up", "--management-url", lab.url, "--setup-key", lab.keys["reusable"]]
    c.cli(*up, "--hostname", "charlie", "--block-inbound")
    d.cli(*up, "--hostname", "delta", "--disable-firewall")
    target, open_one = c.ip(), d.ip()
    wait_for(lambda: c.ping(lab.b.v4))
    assert not lab.b.ping(target, "1")
    wait_for(lambda: lab.b.ping(open_one))
    # Only alpha may reach charlie and delta, by one port; bravo still sees delta for a rule of the other direction.
    ids = {p["hostname"]: p["id"] for p in lab.api("GET", "/peers")}
    lab.groups["delta"] = lab.api("POST", "/groups", {"name": "delta", "peers": [ids["delta"]]})["id"]
    set_rules(lab, rule("delta", "bravo", "tcp", ports=["7001"]))
    settled(lab, d, lab.b.v4, "7001")
    assert lab.b.ping(open_one, "1")
    assert not d.ping(lab.b.v4, "1")
    set_rules(lab, default=True)


def test_no_host_firewall_is_touched(lab):
    assert run("ip", "netns", "exec", lab.ns("alpha"), "nft", "list", "ruleset").stdout == ""


def test_counted_by_rule(lab):
    """What each rule let in, and what none did, is told."""
    def tunnel():
        return json.loads(lab.b.cli("status", "--json", "--why").stdout)["nestbox"]["tunnel"]

    set_rules(lab, rule("alpha", "bravo", "tcp", ports=["7001"]))
    settled(lab, lab.a, lab.b.v4, "7001")
    before = tunnel()
    assert tcp(lab, lab.a, lab.b.v4, "7001") and not tcp(lab, lab.a, lab.b.v4, "7002")
    after = tunnel()
    hits = [{r["rule"]: r["packets"] for r in t["rules"]} for t in (before, after)]
    name = f"accept tcp 7001 from {lab.a.v4}"
    assert hits[1][name] >= hits[0][name] + 3
    assert after["counters"]["filter_dropped_default"] > before["counters"]["filter_dropped_default"]
    assert after["rulesInForce"] == len(after["rules"]) == 2  # IPv4 and IPv6
    assert "checksum" in after["offloads"]
    text = lab.b.cli("status", "--why").stdout
    assert f"  {name}: " in text and " packets refused because no rule lets them in\n" in text
