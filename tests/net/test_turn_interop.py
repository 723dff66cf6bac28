"""Our TURN server (netbird-relay) against coturn's clients, our TURN client (turn_peer.c) against coturn's
server, both against each other; what is refused and how. A bridge in S carries the clients' and the peer's
links: S 10.82.0.1, C 10.82.0.2, P 10.82.0.3 (fd82::1, 2, 3)."""
import base64
import hashlib
import hmac
import os
import platform
import queue
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
OUT = HERE / "../../out"
NESTBOX = OUT / "nestbox"
TURN_PEER = OUT / os.environ.get("NB_TARGET", platform.machine()) / "test/net/turn_peer"
S, C, P = "nbturn-s", "nbturn-c", "nbturn-p"
SECRET = "vector-turn-secret"
CERTS = HERE / "../vectors/tls"


def run(command):
    subprocess.run(command, shell=True, check=True)


def inside(ns, *command):
    return ["ip", "netns", "exec", ns, *map(str, command)]


@pytest.fixture(scope="module", autouse=True)
def network():
    for ns in (S, C, P):
        subprocess.run(["ip", "netns", "del", ns], stderr=subprocess.DEVNULL)
    try:
        for ns in (S, C, P):
            run(f"ip netns add {ns} && ip -n {ns} link set lo up")
        run(f"ip -n {S} link add br0 type bridge && ip -n {S} link set br0 up")
        run(f"ip -n {S} addr add 10.82.0.1/24 dev br0 && ip -n {S} addr add fd82::1/64 dev br0 nodad")
        for i, ns in ((2, C), (3, P)):
            run(f"ip -n {S} link add to{i} type veth peer name eth0 netns {ns}")
            run(f"ip -n {S} link set to{i} master br0 up && ip -n {ns} link set eth0 up")
            run(f"ip -n {ns} addr add 10.82.0.{i}/24 dev eth0 && ip -n {ns} addr add fd82::{i}/64 dev eth0 nodad")
        yield
    finally:
        for ns in (S, C, P):
            subprocess.run(["ip", "netns", "del", ns])


class Talker:
    """A program that is spoken to in lines."""

    def __init__(self, ns, *args):
        self.process = subprocess.Popen(inside(ns, *args), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def say(self, line):
        self.process.stdin.write(line + "\n")

    def next(self, timeout=8):
        return self.lines.get(timeout=timeout)

    def wait(self, word, timeout=8):
        """The rest of the next line, which must begin with word."""
        line = self.next(timeout)
        assert line.split(" ")[0] == word, line
        return line[len(word) + 1:]

    def end(self):
        self.process.stdin.close()
        return self.process.wait(timeout=5)


@pytest.fixture
def talkers():
    all_of_them = []

    def make(ns, *args):
        all_of_them.append(Talker(ns, *args))
        return all_of_them[-1]

    yield make
    for t in all_of_them:
        if t.process.poll() is None:
            assert t.end() == 0


@pytest.fixture
def peer(talkers):
    """An echo at P, both families: (program, IPv4 endpoint, IPv6 endpoint)."""
    t = talkers(P, TURN_PEER, "peer", "[::]:9000")
    t.wait("listening")
    return t, "10.82.0.3:9000", "[fd82::3]:9000"


def answers(ns, host="10.82.0.1", port=3478):
    """True when a Binding request is answered."""
    command = inside(ns, "timeout", 5, "turnutils_stunclient", "-p", port, host)
    return "UDP reflexive addr" in subprocess.run(command, capture_output=True, text=True).stdout


def listening(ns, port=3478):
    out = subprocess.run(inside(ns, "ss", "-Hlun", f"sport = :{port}"), capture_output=True, text=True).stdout
    return bool(out.strip())


@pytest.fixture
def relay():
    """Start netbird-relay in S with more options; stopped by SIGTERM, must end with status 0."""
    started = []

    def start(*args, env=None):
        base = ["--turn-user", "alice:wonder", "--turn-secret", SECRET, "--realm", "nestbox"]
        p = subprocess.Popen(inside(S, NESTBOX, "relay", *base, *args), env={**os.environ, **(env or {})},
                             stderr=subprocess.PIPE, text=True)
        started.append(p)
        for _ in range(100):
            if listening(S):
                return p
            assert p.poll() is None, p.stderr.read()
            time.sleep(0.05)
        raise AssertionError("netbird-relay does not listen")

    yield start
    for p in started:
        p.send_signal(signal.SIGTERM)
        assert p.wait(timeout=5) == 0
        p.stderr.close()


@pytest.fixture
def coturn(tmp_path):
    """coturn's server in S."""
    started = []

    def start(*args):
        command = ["turnserver", "-n", "--no-tls", "--no-dtls", "--no-cli", "-L", "10.82.0.1", "-L", "fd82::1",
                   "-E", "10.82.0.1", "-E", "fd82::1", "-r", "coturn.example", "--pidfile", tmp_path / "pid",
                   "--userdb", tmp_path / "db", "-l", tmp_path / "log", "--min-port", "50000",
                   "--max-port", "50999", *args]
        p = subprocess.Popen(inside(S, *command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.append(p)
        for _ in range(100):
            if listening(S):
                assert answers(C)
                return p
            assert p.poll() is None
            time.sleep(0.1)
        raise AssertionError("turnserver does not answer")

    yield start
    for p in started:
        p.send_signal(signal.SIGTERM)
        p.wait(timeout=10)


def uclient(*args, timeout=60):
    """Run coturn's load client at C against S; (messages sent, received, lost)."""
    command = inside(C, "turnutils_uclient", "-n", 10, "-m", 4, *args)
    out = subprocess.run(command, capture_output=True, text=True, timeout=timeout).stdout
    total = re.search(r"start_mclient: tot_send_msgs=(\d+), tot_recv_msgs=(\d+)", out)
    lost = re.search(r"Total lost packets (-?\d+)", out)
    assert total and lost, out
    return int(total[1]), int(total[2]), int(lost[1])


@pytest.fixture
def echo():
    """coturn's peer at P, port 3480, both families."""
    p = subprocess.Popen(inside(P, "turnutils_peer", "-p", 3480), stdout=subprocess.DEVNULL)
    for _ in range(100):
        if listening(P, 3480):
            break
        time.sleep(0.05)
    yield
    p.terminate()
    p.wait()


STATIC = ("-u", "alice", "-w", "wonder")
TO_PEER = ("-e", "10.82.0.3", "-r", 3480)


@pytest.mark.parametrize("args", [
    pytest.param((*STATIC, *TO_PEER), id="channels"),
    pytest.param((*STATIC, *TO_PEER, "-s"), id="indications"),
    pytest.param((*STATIC, *TO_PEER, "-c"), id="no-reservation"),
    pytest.param(("-u", "carol", "-W", SECRET, *TO_PEER), id="time-limited"),
    pytest.param((*STATIC, "-x", "-e", "fd82::3", "-r", 3480), id="ipv6-relay"),
    pytest.param((*STATIC, "-y"), id="client-to-client"),
    pytest.param((*STATIC, "-y", "-s"), id="client-to-client-indications"),
    pytest.param((*STATIC, *TO_PEER, "-l", 1400), id="large"),
])
def test_coturn_client(relay, echo, args):
    relay()
    sent, received, lost = uclient(*args, "10.82.0.1")
    assert sent >= 40 and received == sent and lost == 0


@pytest.mark.parametrize("args", [
    pytest.param((*STATIC, *TO_PEER), id="channels"),
    pytest.param((*STATIC, *TO_PEER, "-s"), id="indications"),
    pytest.param((*STATIC, *TO_PEER, "-l", 1399), id="odd-length"),
])
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_coturn_client_over_tcp(relay, echo, args, tls):
    relay("--tls-cert-file", CERTS / "ec.pem", "--tls-key-file", CERTS / "ec.key")
    # With TLS uclient reads one message of a record and forgets the others: it gets them one at a time.
    slowly = ["-S", "-z", 400, "-m", 1, "-n", 8, "-c"] if tls else []
    sent, received, lost = uclient("-t", "-p", 3478, *slowly, *args, "10.82.0.1")
    assert sent >= 8 and received == sent and lost == 0


def test_coturn_clients_over_tcp(relay):
    """Not over TLS: there uclient loses some by itself, with coturn's server as well."""
    relay()
    sent, received, lost = uclient("-t", *STATIC, "-y", "10.82.0.1")
    assert sent >= 40 and received == sent and lost == 0


TCP_TALK = """
import socket, sys, time
s = socket.create_connection(("10.82.0.1", 3478))
s.settimeout(float(sys.argv[1]))
s.sendall(bytes.fromhex(sys.argv[2]))
began = time.monotonic()
try:
    while d := s.recv(4096):
        print(d.hex(), flush=True)
    print("closed", round(time.monotonic() - began, 1), flush=True)
except TimeoutError:
    print("open", flush=True)
except ConnectionResetError:
    print("reset", flush=True)
"""
BINDING = "000100002112a442" + "00" * 12


def tcp_talk(hexes, timeout=2):
    command = inside(C, "python3", "-c", TCP_TALK, timeout, hexes)
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout + 10).stdout.split("\n")[:-1]


def test_stun_over_tcp(relay):
    relay()
    answer, end = tcp_talk(BINDING)
    assert answer.startswith("0101") and end == "open"
    two, end = tcp_talk(BINDING * 2)
    assert two.count("0101000c2112a442") == 2 or end == "open"
    assert tcp_talk(b"\xffGET / HTTP/1.1\r\n\r\n".hex())[-1].split()[0] in ("closed", "reset")


def test_idle_tcp_connections_are_closed(relay):
    """Without an allocation, after half a minute."""
    relay()
    answer, end = tcp_talk(BINDING, timeout=40)
    assert end.startswith("closed") and 29 < float(end.split()[1]) < 36


def test_tcp_can_be_off_or_elsewhere(relay):
    def tcp_ports():
        out = subprocess.run(inside(S, "ss", "-Hltn"), capture_output=True, text=True).stdout
        return {line.split()[3].rsplit(":", 1)[1] for line in out.splitlines()}
    p = relay("--turn-tcp-listen", "off")
    assert tcp_ports() == set()
    p.send_signal(signal.SIGTERM)
    assert p.wait(5) == 0
    relay("--turn-tcp-listen", "10.82.0.1:5349,:3479")
    assert tcp_ports() == {"5349", "3479"}


def metrics(ns, port):
    out = subprocess.run(inside(ns, "curl", "-sf", f"http://127.0.0.1:{port}/metrics"), capture_output=True, text=True).stdout
    return {line.rsplit(" ", 1)[0]: int(line.rsplit(" ", 1)[1]) for line in out.splitlines() if line[0] != "#"}


def test_metrics(relay, echo, talkers):
    """Counters of STUN and TURN, within a second or so, on loopback only."""
    relay("--metrics-port", "9099")
    assert metrics(S, 9099)["turn_allocations"] == 0
    assert answers(C)
    sent, received, lost = uclient(*STATIC, *TO_PEER, "10.82.0.1")
    c = talkers(C, TURN_PEER, "client", "10.82.0.1:3478", "alice", "wonder")
    c.wait("allocated")
    assert failure(talkers, "alice", "blunder").startswith("401 ")
    tcp_talk(b"\xffGET / HTTP/1.1\r\n\r\n".hex())
    time.sleep(1.2)
    m = metrics(S, 9099)
    assert m["turn_allocations"] >= 1 and m["stun_bindings_total"] >= 1
    assert m['turn_sent_packets_total{to="peer"}'] >= sent and m['turn_sent_packets_total{to="client"}'] >= sent
    assert m['turn_sent_bytes_total{to="peer"}'] >= sent * 100
    assert m["turn_auth_failures_total"] >= 1 and m["turn_challenges_total"] >= 1
    assert m["turn_tcp_accepted_total"] == 1 and m["turn_tcp_malformed_total"] == 1 and m["turn_tcp_connections"] == 0
    c.say("close")
    c.wait("closed")
    time.sleep(1.2)
    assert metrics(S, 9099)["turn_allocations"] == m["turn_allocations"] - 1
    outside = subprocess.run(inside(C, "curl", "-s", "--max-time", 2, "http://10.82.0.1:9099/metrics"), capture_output=True)
    assert outside.returncode != 0


def test_coturn_client_over_ipv6(relay, echo):
    relay()
    sent, received, lost = uclient(*STATIC, *TO_PEER, "fd82::1")
    assert sent >= 40 and received == sent and lost == 0


def test_stun(relay):
    relay("--enable-stun")
    assert answers(C)
    assert answers(C, "fd82::1")


def test_stun_alone(talkers):
    p = subprocess.Popen(inside(S, NESTBOX, "relay", "--enable-stun", "--stun-ports", "3478,3479"))
    try:
        for port in (3478, 3479):
            while not listening(S, port):
                assert p.poll() is None
                time.sleep(0.05)
            assert answers(C, port=port)
        # Without credentials for anybody TURN does not exist: no answer at all.
        c = talkers(C, TURN_PEER, "client", "10.82.0.1:3478", "alice", "wonder")
        with pytest.raises(queue.Empty):
            c.next(2)
    finally:
        p.send_signal(signal.SIGTERM)
        assert p.wait(timeout=5) == 0


def talk(client, peer, at):
    """Data both ways over a permission, then over a channel."""
    host = at.rsplit(":", 1)[0].strip("[]")
    relayed = client.wait("allocated").split()[0]
    client.say(f"permit {host}")
    assert client.wait("permitted") == host
    client.say(f"send {at} by indication")
    assert peer.wait("got") == f"{relayed} by indication"
    assert client.wait("data") == f"{at} by indication"
    client.say(f"bind {at}")
    assert client.wait("bound").startswith(at + " 0x4")
    client.say(f"send {at} by channel")
    assert peer.wait("got") == f"{relayed} by channel"
    assert client.wait("data") == f"{at} by channel"
    client.say("close")
    client.wait("closed")
    return relayed


def rest(secret, expiry):
    user = str(expiry)
    mac = hmac.new(secret.encode(), user.encode(), hashlib.sha1).digest()
    return user, base64.b64encode(mac).decode()


@pytest.mark.parametrize("family", ["4", "6"])
@pytest.mark.parametrize("credentials", ["static", "time-limited"])
def test_our_client_with_coturn(coturn, peer, talkers, credentials, family):
    if credentials == "static":
        coturn("-a", "-u", "alice:wonder")
        user = ("alice", "wonder")
    else:
        coturn("--use-auth-secret", f"--static-auth-secret={SECRET}")
        user = rest(SECRET, int(time.time()) + 600)
    c = talkers(C, TURN_PEER, "client", "10.82.0.1:3478", *user, family)
    talk(c, peer[0], peer[1] if family == "4" else peer[2])


def test_our_client_renews_its_nonce(coturn, peer, talkers):
    coturn("-a", "-u", "alice:wonder", "--stale-nonce=2")
    c = talkers(C, TURN_PEER, "client", "10.82.0.1:3478", "alice", "wonder")
    c.wait("allocated")
    time.sleep(4)
    c.say(f"bind {peer[1]}")
    c.wait("bound")
    c.say(f"send {peer[1]} fresh")
    assert c.wait("data") == f"{peer[1]} fresh"


def test_our_client_refused_by_coturn(coturn, talkers):
    coturn("-a", "-u", "alice:wonder", "--denied-peer-ip=10.82.0.77")
    c = talkers(C, TURN_PEER, "client", "10.82.0.1:3478", "alice", "blunder")
    assert c.wait("failed").startswith("401 ")
    c = talkers(C, TURN_PEER, "client", "10.82.0.1:3478", "alice", "wonder")
    c.wait("allocated")
    c.say("permit 10.82.0.77")
    assert c.wait("peer-failed") == "10.82.0.77:0 403"


@pytest.mark.parametrize("family", ["4", "6"])
@pytest.mark.parametrize("server", ["10.82.0.1:3478", "[fd82::1]:3478"])
def test_ours_with_ours(relay, peer, talkers, server, family):
    relay("--relay-ports", "52000-52099")
    c = talkers(C, TURN_PEER, "client", server, "alice", "wonder", family)
    relayed = talk(c, peer[0], peer[1] if family == "4" else peer[2])
    assert relayed.startswith("10.82.0.1:520" if family == "4" else "[fd82::1]:520")


def failure(talkers, user, password):
    return talkers(C, TURN_PEER, "client", "10.82.0.1:3478", user, password).wait("failed")


def test_wrong_credentials(relay, talkers):
    relay()
    assert failure(talkers, "alice", "blunder").startswith("401 ")
    assert failure(talkers, "nobody", "wonder").startswith("401 ")
    now = int(time.time())
    assert failure(talkers, *rest(SECRET, now - 10)).startswith("401 ")  # expired
    assert failure(talkers, *rest("other secret", now + 600)).startswith("401 ")
    assert failure(talkers, str(now + 600), "x").startswith("401 ")
    c = talkers(C, TURN_PEER, "client", "10.82.0.1:3478", *rest(SECRET, now + 600))
    c.wait("allocated")


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255"])
def test_forbidden_peers(relay, talkers, address):
    relay()
    c = talkers(C, TURN_PEER, "client", "10.82.0.1:3478", "alice", "wonder")
    c.wait("allocated")
    c.say(f"permit {address}")
    assert c.wait("peer-failed") == f"{address}:0 403"
    c.say(f"bind {address}:22")
    assert c.wait("peer-failed") == f"{address}:22 403"


def test_own_address_only_on_relay_ports(relay, talkers):
    relay("--relay-ports", "52000-52099")
    service = talkers(S, TURN_PEER, "peer", "10.82.0.1:7000")
    service.wait("listening")
    c = talkers(C, TURN_PEER, "client", "10.82.0.1:3478", "alice", "wonder")
    c.wait("allocated")
    c.say("bind 10.82.0.1:7000")
    assert c.wait("peer-failed") == "10.82.0.1:7000 403"
    c.say("permit 10.82.0.1")
    c.wait("permitted")
    c.say("send 10.82.0.1:7000 let me in")
    with pytest.raises(queue.Empty):
        service.next(0.5)


def test_public_relay_refuses_private_peers(relay, talkers, peer):
    """--external-ip says that the relay is a public one; --allow-peer makes an exception."""
    relay("--external-ip", "8.8.4.4", "--allow-peer", "10.82.0.3/32")
    c = talkers(C, TURN_PEER, "client", "10.82.0.1:3478", "alice", "wonder")
    assert c.wait("allocated").startswith("8.8.4.4:")
    c.say("permit 10.82.0.2")
    assert c.wait("peer-failed") == "10.82.0.2:0 403"
    c.say(f"bind {peer[1]}")
    c.wait("bound")
    c.say(f"send {peer[1]} hello")
    assert c.wait("data") == f"{peer[1]} hello"


def test_two_clients_behind_one_outside_address(relay, talkers):
    """They reach each other's relayed address although the NAT in front would not send it back."""
    relay("--external-ip", "8.8.4.4")
    a = talkers(C, TURN_PEER, "client", "10.82.0.1:3478", "alice", "wonder")
    b = talkers(P, TURN_PEER, "client", "10.82.0.1:3478", "alice", "wonder")
    at_a, at_b = a.wait("allocated").split()[0], b.wait("allocated").split()[0]
    a.say(f"bind {at_b}")
    b.say(f"bind {at_a}")
    a.wait("bound")
    b.wait("bound")
    a.say(f"send {at_b} across")
    assert b.wait("data") == f"{at_a} across"


def test_empty_datagrams(relay, peer, talkers):
    """Nothing in them, and yet they arrive, both ways."""
    relay()
    c = talkers(C, TURN_PEER, "client", "10.82.0.1:3478", "alice", "wonder")
    relayed = c.wait("allocated").split()[0]
    c.say(f"bind {peer[1]}")
    c.wait("bound")
    c.say(f"send {peer[1]} ")
    assert peer[0].wait("got") == f"{relayed} "
    assert c.wait("data") == f"{peer[1]} "


def test_quota(relay, talkers):
    relay("--user-quota", "2")
    held = [talkers(C, TURN_PEER, "client", "10.82.0.1:3478", "alice", "wonder") for _ in range(2)]
    for c in held:
        c.wait("allocated")
    assert failure(talkers, "alice", "wonder").startswith("486 ")
    other = talkers(P, TURN_PEER, "client", "10.82.0.1:3478", "alice", "wonder")
    other.wait("allocated")
    held[0].say("close")
    held[0].wait("closed")
    talkers(C, TURN_PEER, "client", "10.82.0.1:3478", "alice", "wonder").wait("allocated")


def test_ports_run_out(relay, talkers):
    relay("--relay-ports", "52000-52001")
    for _ in range(2):
        talkers(C, TURN_PEER, "client", "10.82.0.1:3478", "alice", "wonder").wait("allocated")
    assert failure(talkers, "alice", "wonder").startswith("508 ")


SEND_GARBAGE = """
import random, socket, struct, sys
r = random.Random(1)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.5)
for i in range(3000):
    n = r.choice((0, 1, 3, 4, 19, 20, 21, 100, 1400))
    d = bytes(r.getrandbits(8) for _ in range(n))
    if i % 3 == 0:
        d = struct.pack(">HHI", r.getrandbits(14), max(0, n - 8) & 0xfffc, 0x2112a442) + d[8:]
    s.sendto(d, ("10.82.0.1", 3478))
answers = 0
try:
    while True:
        s.recv(2000)
        answers += 1
except TimeoutError:
    print(answers)
"""


def test_garbage(relay, talkers, peer):
    p = relay()
    c = talkers(C, TURN_PEER, "client", "10.82.0.1:3478", "alice", "wonder")
    c.wait("allocated")
    c.say(f"bind {peer[1]}")
    c.wait("bound")
    out = subprocess.run(inside(C, "python3", "-c", SEND_GARBAGE), capture_output=True, text=True, check=True)
    assert int(out.stdout) <= 3
    assert p.poll() is None
    c.say(f"send {peer[1]} still here")
    assert c.wait("data") == f"{peer[1]} still here"


def refused(*args, env=None):
    p = subprocess.run(inside(S, NESTBOX, "relay", *args), env={**os.environ, **(env or {})},
                       capture_output=True, text=True, timeout=10)
    assert p.returncode != 0 and p.stdout == ""
    lines = p.stderr.strip().split("\n")
    assert len(lines) == 1, lines
    return lines[0]


def test_port_taken(relay):
    relay()
    assert "cannot listen on UDP" in refused("--turn-secret", "x")


def test_options():
    assert "nothing to serve" in refused()
    for flag in ("--exposed-address=rels://x:443", "--auth-secret=s", "--tls-cert-file=x", "--letsencrypt-domains=x",
                 "--listen-address=443", "--metrics-port=x", "--health-listen-address=9000"):
        assert flag.split("=")[0] in refused("--turn-secret", "x", flag)
    assert "--auth-secret" in refused("--turn-secret", "x", env={"NB_AUTH_SECRET": "s"})
    assert "rels://" in refused("--exposed-address=rel://x", "--auth-secret=s", "--tls-cert-file=x", "--tls-key-file=x")
    assert "--exposed-address" in refused("--exposed-address=https://x", "--auth-secret=s")
    assert "NB_RELAY_PORTS" in refused("--turn-secret", "x", env={"NB_RELAY_PORTS": "many"})
    assert "--allow-peer" in refused("--turn-secret", "x", "--allow-peer", "10.0.0.0/99")


def test_flag_beats_variable(relay, talkers, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("from the file\n")
    relay("--turn-secret-file", secret, "--realm", "flag", env={"NB_TURN_SECRET": "variable", "NB_REALM": "variable",
                                                                "NB_RELAY_PORTS": "52000-52000"})
    now = int(time.time())
    c = talkers(C, TURN_PEER, "client", "10.82.0.1:3478", *rest("from the file", now + 60))
    assert c.wait("allocated").split()[0] == "10.82.0.1:52000"


def relay_ports():
    out = subprocess.run(inside(S, "ss", "-Hlun", "sport >= 52000 and sport <= 52099"), capture_output=True,
                         text=True).stdout
    return len(out.splitlines())


def test_lifetimes(relay, talkers, peer):
    """In real time: a living client keeps its allocation, a killed one's is gone when its lifetime is over."""
    relay("--max-lifetime", "60", "--relay-ports", "52000-52099")
    lives, dies = (talkers(C, TURN_PEER, "client", "10.82.0.1:3478", "alice", "wonder") for _ in range(2))
    lives.wait("allocated")
    dies.wait("allocated")
    lives.say(f"bind {peer[1]}")
    lives.wait("bound")
    dies.process.kill()
    dies.process.wait()
    assert relay_ports() == 2
    time.sleep(3600 if os.environ.get("NB_SOAK") else 63)
    assert relay_ports() == 1
    lives.say(f"send {peer[1]} still here")
    assert lives.wait("data") == f"{peer[1]} still here"


def rss_kb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def test_memory_of_allocations(relay):
    """uclient makes two sessions (RTP, RTCP) and more for each -m; what they cost us must stay small."""
    p = relay("--relay-ports", "50000-59999", "--user-quota", "10000", "--allow-peer", "10.82.0.0/24")
    before = rss_kb(p.pid)
    load = subprocess.Popen(inside(C, "turnutils_uclient", *STATIC, *TO_PEER, "-c", "-n", 1, "-m", 250, "-G",
                                   "10.82.0.1"), stdout=subprocess.DEVNULL)
    peak = ports = same = 0
    try:
        while same < 5 and load.poll() is None:
            out = subprocess.run(inside(S, "ss", "-Hlun", "sport >= 50000 and sport <= 59999"), capture_output=True,
                                 text=True).stdout
            now = len(out.splitlines())
            same = same + 1 if now == ports and now >= 250 else 0
            ports, peak = max(ports, now), max(peak, rss_kb(p.pid))
            time.sleep(0.2)
    finally:
        load.kill()
        load.wait()
    print(f"allocations {ports}, RSS {before} -> {peak} KB")
    assert ports >= 250
    assert (peak - before) * 1024 / ports < 4096
    assert before < 6 * 1024
