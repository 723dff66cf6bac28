"""Two machines, each behind a NAT of every kind: does the tunnel find the path that theory allows, and how soon? The
table of spec/peer-connection.md 6. One network has a machine of each kind twice; for every pair the other machines are
down. NB_SOAK=1 tries every pair, otherwise a subset in which each kind meets an easy and a hard one."""
import itertools
import json
import os
import time

import pytest

from lab import run, wait_for
from natlab import KINDS, NatLab

SOAK = bool(os.environ.get("NB_SOAK"))
HARD = {"port", "symmetric", "double"}
SUBSET = [("public", "public"), ("public", "symmetric"), ("full", "full"), ("full", "symmetric"), ("addr", "addr"),
          ("addr", "symmetric"), ("port", "port"), ("full", "double"), ("port", "symmetric"), ("symmetric", "symmetric"),
          ("double", "double"), ("double", "symmetric"), ("public", "blocked"), ("port", "blocked"), ("blocked", "blocked")]
ALL = list(itertools.combinations_with_replacement(KINDS, 2))
PAIRS = ALL if SOAK else SUBSET
table = {}


def expected(x, y):
    if "blocked" in (x, y):
        return "Relayed"
    if "symmetric" in (x, y) and {x, y} <= HARD:
        return "Relayed"
    return "P2P"


@pytest.fixture(scope="module", autouse=True)
def printed():
    yield
    print_table()


@pytest.fixture(scope="module")
def net():
    lab = NatLab()
    run("ip", "-n", lab.ns("srv"), "addr", "add", "10.78.0.2/24", "dev", "eth0")
    lab.start_server("--stun-alt-ip", "10.78.0.2")
    key = lab.setup()
    wanted = {k + "1" for k, _ in PAIRS} | {k + "2" for _, k in PAIRS}
    lab.sites = {}
    for name in sorted(wanted):
        lab.sites[name] = lab.site(name, name[:-1])
    register(key, *lab.sites.values())
    yield lab
    lab.close()


def print_table():
    print("\nfirst ping after `up` of the second machine, and the path in the end:")
    for (x, y), (took, path, ends) in sorted(table.items()):
        print(f"  {x:>12} - {y:<12} {path:8} {took:6.2f} s  {ends}")


def first_ping(a, b):
    """Seconds from `up` of b to the first answer from a; the ping is also what makes them connect."""
    a.up()
    began = time.monotonic()
    b.up()
    wait_for(lambda: b.ping(a.overlay, "0.5"), limit=25, step=0.005)
    return time.monotonic() - began


def path_of(a, b):
    for p in a.status()["peers"]["details"]:
        if p["netbirdIp"] == b.overlay:
            return p["connectionType"], "/".join(p["iceCandidateType"][k] for k in ("local", "remote"))
    return "-", ""


def why_of(a, b):
    status = json.loads(a.cli("status", "--json", "--why").stdout)
    assert list(status)[-1] == "nestbox"
    fqdn = f"{b.which}.netbird.selfhosted"
    return next(p for p in status["nestbox"]["peers"] if p["fqdn"] == fqdn)


def settle(a, b, want, limit=8.0):
    """The path a few seconds later; at once when it is the wanted one already."""
    end = time.monotonic() + limit
    while True:
        path, ends = path_of(a, b)
        if path == want or time.monotonic() > end:
            return path, ends
        time.sleep(0.1)


@pytest.mark.parametrize("x,y", PAIRS, ids=lambda k: k)
def test_pair(net, x, y):
    a, b = net.sites[x + "1"], net.sites[y + "2"]
    try:
        check(a, b, expected(x, y), (x, y))
    finally:
        a.cli("down")
        b.cli("down")


def check(a, b, want, name):
    took = first_ping(a, b)
    path, ends = settle(a, b, want)
    table[name] = took, path, ends
    assert path == want
    # Both sides say the same, and the tunnel carries packets on the path they agree on.
    assert settle(b, a, want)[0] == want
    says = why_of(a, b)["why"]
    assert says.startswith("direct because " if want == "P2P" else "relayed over "), says
    assert a.ping(b.overlay, "2")


# What each kind of NAT of natlab does: mapping and filtering in the words of RFC 4787.
INDEPENDENT, ADDRESS, BOTH = "endpoint-independent", "address-dependent", "address-and-port-dependent"
BUILT = {"public": ("no NAT", INDEPENDENT), "full": (INDEPENDENT, INDEPENDENT), "addr": (INDEPENDENT, ADDRESS),
         "port": (INDEPENDENT, BOTH), "double": (INDEPENDENT, BOTH), "symmetric": (BOTH, BOTH)}


def paths(a, b):
    r = a.cli("debug", "paths", b.which, "--json", check=False)
    return json.loads(r.stdout) if r.returncode == 0 else None


def reason(x, y):
    """Why a machine behind x says that its path to one behind y is as it is."""
    if x == "blocked" or y == "blocked":
        return f"because UDP is blocked at {'this' if x == 'blocked' else 'the other'} end"
    if "public" in (x, y):
        return f"because {'the other' if y == 'public' else 'this'} end is behind no NAT"
    if "full" in (x, y):
        return f"because the NAT at {'the other' if y == 'full' else 'this'} end lets in whoever sends to it"
    if "symmetric" not in (x, y):
        return "because both NATs keep one mapping for all destinations"
    if "addr" in (x, y):
        return f"because the NAT at {'the other' if y == 'addr' else 'this'} end lets in all ports of an address"
    whose = "this" if x == "symmetric" else "the other"
    return f"because the NAT at {whose} end gives each destination another port ({BOTH} mapping)"


def measured(view, kind):
    if kind == "blocked":
        return view["udp"] == "blocked"
    return view["udp"] == "works" and (view["mapping"], view["filtering"]) == BUILT[kind]


def wake(sites):
    """A packet from each to each."""
    for a in sites:
        for b in sites:
            if a is not b:
                a.lab.spawn(a.which, "ping", "-q", "-c", "1", "-W", "1", b.overlay, log="pings")


def test_every_nat_is_known_and_named(net):
    """All machines at once: what each has measured of its own NAT and was told of the others', and the cause it names."""
    sites = {k: net.sites[k + "1"] for k in KINDS if k + "1" in net.sites}
    assert len(sites) == len(KINDS)
    try:
        for a in sites.values():
            a.up()
        began = time.monotonic()
        asleep = paths(sites["port"], sites["full"])
        assert asleep["status"] == "Idle" and asleep["why"].startswith("idle: ") and not asleep["pairs"]
        wake(sites.values())
        pairs = [(x, y) for x in sites for y in sites if x != y]

        def settled(x, y):
            p = paths(sites[x], sites[y])
            ways = ("direct",) if expected(x, y) == "P2P" else ("NetBird relay", "TURN")
            return (p and p["path"] in ways and reason(x, y) in p["why"] and
                    measured(p["natHere"], x) and measured(p["natThere"], y))
        left = list(pairs)
        while left and time.monotonic() - began < 25:
            left = [pair for pair in left if not settled(*pair)]
            time.sleep(0.2)
        for x, y in left:
            p = paths(sites[x], sites[y])
            print(x, y, reason(x, y), json.dumps(p, indent=1))
        assert not left
        print(f"\nall {len(pairs)} measured, told and named after {time.monotonic() - began:.1f} s")
        look_at_paths(sites)
    finally:
        for a in sites.values():
            a.cli("down")


def look_at_paths(sites):
    """The rest of the answer, and the same for people."""
    a, b = sites["port"], sites["public"]
    p = paths(a, b)
    assert p["nestbox"] and p["answered"] and p["status"] == "Connected"
    assert [v["end"] for v in p["pairs"]].count("selected") == 1
    assert next(v for v in p["pairs"] if v["end"] == "selected")["rtt"] > 0
    assert p["history"] and p["history"][-1]["path"] == "direct" and p["history"][-1]["why"]
    assert any(s["uri"].startswith("stun:") and s["state"] == "available" for s in p["servers"])
    assert p["relay"]["state"] == "up"
    assert paths(a, sites["blocked"])["history"][-1]["path"] == "NetBird relay"
    for name in (b.overlay, p["publicKey"], p["fqdn"]):
        text = a.cli("debug", "paths", name).stdout
        assert p["why"] in text and f"mapping {INDEPENDENT}, filtering {BOTH}" in text
    print("\n" + text)
    r = a.cli("debug", "paths", "nobody", check=False)
    assert r.returncode == 1 and "no peer has the name or address nobody" in r.stderr
    whole = json.loads(a.cli("status", "--json", "--why").stdout)["nestbox"]
    assert measured(whole["nat"], "port") and p["why"] in [v["why"] for v in whole["peers"]]


def test_another_stun_server(lab):
    """The same with coturn, which knows RFC 5780, too, when it has two addresses."""
    run("ip", "-n", lab.ns("srv"), "addr", "add", "10.78.0.2/24", "dev", "eth0")
    config = lab.dir / "config.yaml"
    config.write_text("server:\n  stuns:\n  - uri: stun:10.78.0.1:3478\n")
    lab.spawn("srv", "turnserver", "-n", "--no-tls", "--no-dtls", "--no-cli", "-S", "-L", "10.78.0.1", "-L", "10.78.0.2",
              "--pidfile", lab.dir / "pid", "--log-file", lab.dir / "coturn", log="coturn.log")
    lab.start_server("--config", config)
    key = lab.setup()
    sites = {kind: lab.site(kind, kind) for kind in ("public", "full", "addr", "symmetric")}
    for a in sites.values():
        a.start().up(key)
    for kind, a in sites.items():
        wait_for(lambda: measured(nat_of(a), kind))


def nat_of(a):
    return json.loads(a.cli("status", "--json", "--why").stdout)["nestbox"]["nat"]


def test_why_in_words(net):
    """What `status --why` says of a pair that has to be relayed."""
    a, b = net.sites["symmetric1"], net.sites["symmetric2"]
    first_ping(a, b)
    try:
        settle(a, b, "Relayed")
        wait_for(lambda: "both NATs have" in a.cli("status", "--why", "-N", "symmetric2").stdout)
        text = a.cli("status", "--why", "-N", "symmetric2").stdout
        print("\n" + text)
        assert "relayed over " in text and "because both NATs have address-and-port-dependent mapping" in text
        assert "no answer" in text
        assert "nestbox" not in a.cli("status", "--json").stdout
    finally:
        a.cli("down")
        b.cli("down")


def register(key, *agents):
    for a in agents:
        a.start().up(key)
        a.overlay = a.ip()
        a.cli("down")


@pytest.fixture
def lab():
    lab = NatLab()
    yield lab
    lab.close()


@pytest.mark.parametrize("kind,want", [("hairpin", "P2P"), ("port", "Relayed")])
def test_two_homes_behind_one_provider(lab, kind, want):
    """Both outer addresses are the provider's: a path only if its NAT sends packets back inside."""
    lab.start_server()
    key = lab.setup()
    cgn = lab.nat("isp-c", kind)
    agents = []
    for name in ("alpha", "bravo"):
        lab.behind(f"{name}n", name, lab.home(f"{name}n", "port", "isp-c", cgn))
        # Homes do not reach each other inside the provider's network.
        lab.exec_nft(f"{name}n", f'table ip far {{ chain out {{ type filter hook postrouting priority 0; '
                     f'oifname "eth0" ip daddr {cgn}.0/24 drop; }}\n}}')
        agents.append(lab.agent(name, None))
    register(key, *agents)
    check(*agents, want, ("two homes", f"CGN {kind}"))


def test_same_network_behind_one_router(lab):
    """The worst NAT does not matter to two machines on one network."""
    lab.start_server()
    key = lab.setup()
    inner = lab.nat("home", "symmetric")
    agents = []
    for name in ("alpha", "bravo"):
        lab.behind("home", name, inner)
        agents.append(lab.agent(name, None))
    register(key, *agents)
    check(*agents, "P2P", ("same LAN", "symmetric"))
    assert path_of(*agents)[1] == "host/host"


@pytest.mark.parametrize("firewalls", [0, 1, 2])
def test_ipv6_only(lab, firewalls):
    lab.no_ipv4()
    lab.start_server()
    key = lab.setup()
    agents = [lab.site6("alpha", 2, firewalls > 0), lab.site6("bravo", 3, firewalls > 1)]
    register(key, *agents)
    check(*agents, "P2P", ("IPv6 only", f"{firewalls} firewalls"))


