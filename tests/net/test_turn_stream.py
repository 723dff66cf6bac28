"""Agents that reach TURN servers over TCP and TLS only: both behind routers that let out nothing but TCP to the servers'
ports, no NetBird relay. And the same relay over TLS (rels://), with an authority of our own."""
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from lab import NESTBOX, ROOT, SERVER_IP, wait_for
from natlab import NatLab

CERTS = ROOT / "tests" / "vectors" / "tls"
NAME = "nestbox.test"	# in the certificate


@pytest.fixture
def lab(monkeypatch):
    monkeypatch.setenv("CURL_CA_BUNDLE", str(CERTS / "ca.pem"))
    lab = NatLab()
    made = []
    lab.named = made
    yield lab
    lab.close()
    for d in made:
        shutil.rmtree(d, ignore_errors=True)


def name_server(lab, *spaces):
    for which in spaces:
        d = Path("/etc/netns") / lab.ns(which)
        d.mkdir(parents=True)
        lab.named.append(d)
        (d / "hosts").write_text(f"{SERVER_IP} {NAME}\n")


def secure(lab, *spaces):
    """The server over TLS; returns the flags and what agents need."""
    name_server(lab, "srv", *spaces)
    lab.url, lab.listen = f"https://{NAME}:8080", f"{SERVER_IP}:8080"
    return ["--cert-file", CERTS / "ec.pem", "--cert-key", CERTS / "ec.key"]


def two(lab, tls, server, env=None):
    env = {**(env or {}), **({"SSL_CERT_FILE": str(CERTS / "ca.pem")} if tls else {})}
    flags = secure(lab, "alpha", "bravo") if tls else []
    lab.start_server(*flags, *server)
    key = lab.setup()
    a, b = lab.site("alpha", "blocked"), lab.site("bravo", "blocked")
    for x in (a, b):
        x.env = env
        x.start()
    a.up(key)
    began = time.monotonic()
    b.up(key)
    wait_for(lambda: a.ping(b.ip()), limit=20)
    return a, b, time.monotonic() - began


def peer(agent):
    return agent.status()["peers"]["details"][0]


def servers(agent):
    return {r["uri"]: r["available"] for r in agent.status()["relays"]["details"]}


def carry(lab, a, b, size=3_000_000):
    listener = lab.spawn("bravo", "nc", "-l", "-N", b.ip(), "7000", log="nc.log")
    time.sleep(0.2)
    r = subprocess.run(["ip", "netns", "exec", lab.ns("alpha"), "nc", "-N", "-w", "5", b.ip(), "7000"], input=b"x" * size, timeout=60)
    assert r.returncode == 0
    listener.wait(20)
    assert (lab.dir / "nc.log").stat().st_size == size


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_only_tcp_443_is_open(lab, tls):
    a, b, took = two(lab, tls, ["--relay-protocol=false", "--turn-tcp-listen", f"{SERVER_IP}:443"])
    print(f"first ping over TURN by {'TLS' if tls else 'TCP'}: {took:.2f} s")
    assert took < 3
    p = peer(a)
    assert p["connectionType"] == "Relayed" and "relay" in p["iceCandidateType"].values(), p
    seen = servers(a)
    assert [u for u, ok in seen.items() if ok] and not any(ok for u, ok in seen.items() if u.endswith("udp")), seen
    carry(lab, a, b)


def test_relay_over_tls(lab):
    """rels:// as the server names it, with an authority of our own, from networks that let out TCP only."""
    a, b, took = two(lab, True, [])
    print(f"first ping over rels: {took:.2f} s")
    assert took < 3
    p = peer(a)
    assert p["connectionType"] == "Relayed" and p["relayAddress"] == f"rels://{NAME}:8080", p
    assert servers(a)[f"rels://{NAME}:8080"]
    carry(lab, a, b)


SECRET = "turn-secret"
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


class Parts:
    """Management, signal and the TURN server as programs of their own, so that one may be restarted alone."""

    def __init__(self, lab, uris, turn):
        self.lab, self.turn = lab, turn
        config = {
            "TURNConfig": {"Turns": [{"Proto": "udp", "URI": u, "Username": "self", "Password": "x"} for u in uris],
                           "CredentialsTTL": "12h", "Secret": SECRET, "TimeBasedCredentials": True},
            "Signal": {"Proto": "http", "URI": f"{SERVER_IP}:443", "Username": "", "Password": ""},
            "Datadir": str(lab.dir / "srv"), "DataStoreEncryptionKey": KEY, "StoreConfig": {"Engine": "sqlite"},
            "EmbeddedIdP": {"Enabled": True, "Issuer": f"{lab.url}/oauth2", "DashboardRedirectURIs": [], "CLIRedirectURIs": []},
        }
        (lab.dir / "config.json").write_text(json.dumps(config))
        lab.spawn("srv", NESTBOX, "signal", "run", "--port", "443", log="signal.log")
        lab.server = lab.spawn("srv", NESTBOX, "management", "management", "--config", lab.dir / "config.json", "--datadir",
                               lab.dir / "srv", "--port", "8080", log="srv.log", env={"NB_SETUP_PAT_ENABLED": "true"})
        self.start()
        wait_for(lambda: lab.exec("srv", "curl", "-fs", f"{lab.url}/api/instance", check=False).returncode == 0)

    def start(self):
        self.server = self.lab.spawn("srv", *self.turn, log="turn.log")

    def restart(self):
        self.server.kill()
        self.server.wait(5)
        self.start()


OURS = [NESTBOX, "relay", "--turn-secret", SECRET, "--turn-listen", f"{SERVER_IP}:3478"]
COTURN = ["turnserver", "-n", "--use-auth-secret", "--static-auth-secret", SECRET, "--realm", "test", "--listening-ip", SERVER_IP,
          "--listening-port", "3478", "--relay-ip", SERVER_IP, "--min-port", "49152", "--max-port", "49400", "--no-tls", "--no-dtls",
          "--no-cli", "--allow-loopback-peers", "--log-file", "stdout", "--pidfile", "/dev/null"]


ALL = [(server, proto) for server in ("ours", "coturn") for proto in ("udp", "tcp")]


@pytest.mark.parametrize("server,proto", ALL if os.environ.get("NB_SOAK") else [ALL[0], ALL[3]])
def test_turn_server_restarts(lab, server, proto):
    """While pings go through it: the allocations are missed and made anew."""
    parts = Parts(lab, [f"turn:{SERVER_IP}:3478?transport={proto}"], OURS if server == "ours" else COTURN)
    key = lab.setup()
    a, b = (lab.agent(n, ip, env={"NB_ICE_FORCE_RELAY_CONN": "true"}).start() for n, ip in (("alpha", "10.78.0.31"),
                                                                                           ("bravo", "10.78.0.32")))
    a.up(key)
    target_of = a.ip()
    began = time.monotonic()
    b.up(key)
    wait_for(lambda: b.ping(target_of, "0.1"), limit=20, step=0.005)
    first = time.monotonic() - began
    print(f"\nfirst ping over TURN by {proto}: {first:.2f} s")
    p = lab.spawn("bravo", "ping", "-n", "-i", "0.05", "-W", "1", "-c", "110", target_of, log="ping.log")
    time.sleep(1)
    parts.restart()
    p.wait(30)
    seen = sorted(int(w.split("icmp_seq=")[1].split()[0]) for w in lab.log("ping.log").splitlines() if "icmp_seq=" in w)
    gap = max(y - x for x, y in zip(seen, seen[1:] + [110])) * 0.05
    print(f"restart of the TURN server: {gap:.2f} s without an answer")
    assert first < 2
    assert seen[-1] > 105, "no path again"
    assert gap < 3
