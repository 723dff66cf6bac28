"""Our WireGuard (`nestbox wg`) against wireguard-go, both driven by the stock `wg` tool: handshakes begun by
either side, preshared keys, forced renewal, roaming, IPv6 inside and outside, keepalives, transfers, and the
tool's whole repertoire against ours.

    nbwg-o (ours)                     nbwg-t (theirs)
    eth0 10.82.0.1, fd82::1  ------  eth0 10.82.0.2, fd82::2
    wgo0 10.83.0.1, fd83::1  ======  wgt0 10.83.0.2, fd83::2
"""
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent.parent
OURS = os.environ.get("NB_PROGRAM", str(TOP / "out/nestbox"))
# The version of the Go module, and an older one for Go before 1.21 (as Debian 12 has it), which cannot fetch a newer Go.
MODULE = "golang.zx2c4.com/wireguard"
VERSION, OLD_VERSION = "v0.0.0-20260522210424-ecfc5a8d5446", "v0.0.0-20230223181233-21636207a675"
SOCKETS = Path("/var/run/wireguard")


def go():
    for path in (shutil.which("go"), "/usr/local/go/bin/go"):
        if path and os.path.exists(path):
            return path
    pytest.fail("no go: apt-get install golang-go")


def go_minor(program):
    text = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"go1\.(\d+)", text).group(1))


@pytest.fixture(scope="session")
def wireguard_go():
    program = TOP / "out/peers/wireguard-go"
    if not program.exists():
        (program.parent / "bin").mkdir(parents=True, exist_ok=True)
        tool = go()
        version = VERSION if go_minor(tool) >= 21 else OLD_VERSION
        env = dict(os.environ, GOBIN=str(program.parent / "bin"), GOFLAGS="-mod=mod")
        subprocess.run([tool, "install", f"{MODULE}@{version}"], env=env, check=True, cwd="/")
        (program.parent / "bin/wireguard").rename(program)
    return str(program)


def run(*command, check=True, **kw):
    return subprocess.run(command, check=check, capture_output=True, text=True, **kw).stdout


def genkey():
    private = run("wg", "genkey").strip()
    return private, run("wg", "pubkey", input=private).strip()


class Node:
    def __init__(self, ns, interface, number, port, command):
        self.ns, self.interface, self.number, self.port, self.command = ns, interface, number, port, command
        self.private, self.public = genkey()
        self.inner4, self.inner6 = f"10.83.0.{number}", f"fd83::{number}"
        self.process = None
        self.log = None

    def ip(self, *args):
        return run("ip", "-n", self.ns, *args)

    def execute(self, *args, **kw):
        return run("ip", "netns", "exec", self.ns, *args, **kw)

    def wg(self, *args, **kw):
        return self.execute("wg", *args, **kw)

    def start(self, *more):
        self.log = open(f"/tmp/{self.interface}.log", "w+")
        self.process = subprocess.Popen(["ip", "netns", "exec", self.ns, *self.command, *more],
                                        stdout=self.log, stderr=subprocess.STDOUT)
        assert eventually(self.listens), "no socket"
        self.wg("set", self.interface, "private-key", "/dev/stdin", "listen-port", str(self.port), input=self.private)
        self.ip("addr", "add", f"{self.inner4}/24", "dev", self.interface)
        self.ip("addr", "add", f"{self.inner6}/64", "dev", self.interface, "nodad")
        self.ip("link", "set", self.interface, "mtu", "1420", "up")

    def listens(self):
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(str(SOCKETS / f"{self.interface}.sock"))
            return True
        except OSError:
            return False

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            # `ip netns exec` becomes the program itself
            self.process.send_signal(how)
            status = self.process.wait(5)
            # ours ends cleanly (a sanitizer's findings would show here)
            assert status == 0 or how != signal.SIGTERM or self.command[0] != OURS, open(self.log.name).read()
        self.process = None
        if self.log:
            self.log.close()

    def know(self, other, *more, endpoint=None, psk=None):
        command = ["set", self.interface, "peer", other.public, "allowed-ips", f"{other.inner4}/32,{other.inner6}/128"]
        if endpoint:
            command += ["endpoint", endpoint]
        if psk:
            command += ["preshared-key", "/dev/stdin"]
        self.wg(*command, *more, input=psk)

    def ping(self, to, count=3, size=56, wait=2):
        """How many of count come back."""
        text = self.execute("ping", "-n", "-c", str(count), "-i", "0.1", "-W", str(wait), "-s", str(size), to, check=False)
        return int(re.search(r"(\d+) received", text).group(1))

    def dump(self):
        """The one peer: psk, endpoint, allowed, handshake, rx, tx, keepalive."""
        lines = self.wg("show", self.interface, "dump").strip().split("\n")
        assert len(lines) == 2, lines
        f = lines[1].split("\t")
        return {"psk": f[1], "endpoint": f[2], "allowed": f[3], "handshake": int(f[4]), "rx": int(f[5]), "tx": int(f[6]),
                "keepalive": f[7]}


def namespaces(*names):
    for name in names:
        subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)


@pytest.fixture
def link():
    a, b = "nbwg-o", "nbwg-t"
    namespaces(a, b)
    for ns in (a, b):
        run("ip", "netns", "add", ns)
        run("ip", "-n", ns, "link", "set", "lo", "up")
    run("ip", "-n", a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b)
    for i, ns in ((1, a), (2, b)):
        run("ip", "-n", ns, "addr", "add", f"10.82.0.{i}/24", "dev", "eth0")
        run("ip", "-n", ns, "addr", "add", f"fd82::{i}/64", "dev", "eth0", "nodad")
        run("ip", "-n", ns, "link", "set", "eth0", "up")
    yield a, b
    namespaces(a, b)


@pytest.fixture
def pair(link, wireguard_go):
    ours = Node(link[0], "wgo0", 1, 51001, [OURS, "wg", "wgo0"])
    theirs = Node(link[1], "wgt0", 2, 51002, [wireguard_go, "-f", "wgt0"])
    try:
        ours.start()
        theirs.start()
        yield ours, theirs
        # whatever was done, ours is alive and well at the end
        assert ours.process.poll() is None
    finally:
        ours.stop()
        theirs.stop()


def know_each_other(a, b, psk=None):
    a.know(b, endpoint=f"10.82.0.{b.number}:{b.port}", psk=psk)
    b.know(a, endpoint=f"10.82.0.{a.number}:{a.port}", psk=psk)


def eventually(what, seconds=5):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("initiator", ["ours", "theirs"])
@pytest.mark.parametrize("family", [4, 6])
def test_handshake(pair, initiator, family):
    """Only the initiator knows where the other is; the other learns it."""
    first, second = pair if initiator == "ours" else pair[::-1]
    outer = f"10.82.0.{second.number}" if family == 4 else f"[fd82::{second.number}]"
    first.know(second, endpoint=f"{outer}:{second.port}")
    second.know(first)
    assert first.ping(second.inner4) == 3
    assert second.ping(first.inner6) == 3
    assert first.ping(second.inner4, size=1200) == 3
    assert second.ping(first.inner6, size=1372) == 3  # exactly the MTU
    want = f"10.82.0.{first.number}" if family == 4 else f"[fd82::{first.number}]"
    assert second.dump()["endpoint"] == f"{want}:{first.port}"
    for node in pair:
        assert abs(node.dump()["handshake"] - time.time()) < 20


def test_counters_agree(pair):
    ours, theirs = pair
    know_each_other(ours, theirs)
    assert ours.ping(theirs.inner4, count=10) == 10
    assert eventually(lambda: ours.dump()["tx"] == theirs.dump()["rx"])
    assert eventually(lambda: ours.dump()["rx"] == theirs.dump()["tx"])
    assert ours.dump()["tx"] == 148 + 10 * 128


@pytest.mark.parametrize("initiator", ["ours", "theirs"])
def test_preshared_key(pair, initiator):
    first, second = pair if initiator == "ours" else pair[::-1]
    psk, other = run("wg", "genpsk").strip(), run("wg", "genpsk").strip()
    know_each_other(first, second, psk=psk)
    assert first.ping(second.inner4) == 3
    assert second.dump()["psk"] == psk
    # a wrong one: no session, whoever tries
    second.wg("set", second.interface, "peer", first.public, "remove")
    second.know(first, endpoint=f"10.82.0.{first.number}:{first.port}", psk=other)
    first.wg("set", first.interface, "peer", second.public, "remove")
    first.know(second, endpoint=f"10.82.0.{second.number}:{second.port}", psk=psk)
    assert first.ping(second.inner4, count=2, wait=1) == 0
    assert first.dump()["handshake"] == 0
    # the right one again
    second.know(first, psk=psk)
    assert eventually(lambda: first.ping(second.inner4, count=1, wait=1) == 1, 12)


def handshakes(node):
    return node.dump()["handshake"]


@pytest.mark.parametrize("who", ["ours", "theirs"])
def test_forced_renewal(pair, who):
    """One side forgets its session: a new handshake follows at once, and the other takes it."""
    forgets, keeps = pair if who == "ours" else pair[::-1]
    know_each_other(forgets, keeps)
    assert forgets.ping(keeps.inner4) == 3
    before = handshakes(keeps)
    time.sleep(1.1)
    forgets.wg("set", forgets.interface, "peer", keeps.public, "remove")
    forgets.know(keeps, endpoint=f"10.82.0.{keeps.number}:{keeps.port}")
    assert forgets.ping(keeps.inner4) == 3
    assert handshakes(keeps) > before
    assert keeps.ping(forgets.inner4) == 3


@pytest.mark.parametrize("who", ["ours", "theirs"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_restart(pair, who, how):
    """One program ends and comes back; killed hard, it leaves nothing that blocks the next start."""
    restarts, stays = pair if who == "ours" else pair[::-1]
    know_each_other(restarts, stays)
    assert restarts.ping(stays.inner4) == 3
    before = handshakes(stays)
    time.sleep(1.1)
    restarts.stop(how)
    assert restarts.interface not in run("ip", "-n", restarts.ns, "link")
    restarts.start()
    restarts.know(stays, "persistent-keepalive", "25", endpoint=f"10.82.0.{stays.number}:{stays.port}")
    assert eventually(lambda: handshakes(stays) > before)
    assert stays.ping(restarts.inner4) == 3


@pytest.mark.parametrize("who", ["ours", "theirs"])
def test_roaming(pair, who):
    """One side's address changes; the other follows with the first packet."""
    moves, stays = pair if who == "ours" else pair[::-1]
    know_each_other(moves, stays)
    assert moves.ping(stays.inner4) == 3
    moves.ip("addr", "del", f"10.82.0.{moves.number}/24", "dev", "eth0")
    moves.ip("addr", "add", f"10.82.0.{moves.number + 10}/24", "dev", "eth0")
    if who == "ours":
        assert moves.ping(stays.inner4) == 3
    else:
        # an older wireguard-go clings to the address that is gone until its handshake fails
        assert eventually(lambda: moves.ping(stays.inner4, wait=1) == 3, 30)
    assert stays.dump()["endpoint"] == f"10.82.0.{moves.number + 10}:{moves.port}"
    assert stays.ping(moves.inner4) == 3
    # another port
    moves.wg("set", moves.interface, "listen-port", str(moves.port + 100))
    assert moves.ping(stays.inner4) == 3
    assert stays.dump()["endpoint"] == f"10.82.0.{moves.number + 10}:{moves.port + 100}"
    # from IPv4 to IPv6; wireguard-go sends its first messages after such a change to fd82:: (it keeps addresses in a
    # pool and copies four bytes into what it then reads as sixteen), so it gets some tries
    moves.know(stays, endpoint=f"[fd82::{stays.number}]:{stays.port}")
    assert eventually(lambda: moves.ping(stays.inner4, wait=1) == 3, 20)
    assert stays.dump()["endpoint"] == f"[fd82::{moves.number}]:{moves.port + 100}"


def test_answers_from_the_address_asked(pair):
    """Ours has two addresses; what comes to the second is answered from it."""
    ours, theirs = pair
    ours.ip("addr", "add", "10.82.0.99/24", "dev", "eth0")
    ours.know(theirs)
    theirs.know(ours, endpoint=f"10.82.0.99:{ours.port}")
    assert theirs.ping(ours.inner4) == 3
    assert theirs.dump()["endpoint"] == f"10.82.0.99:{ours.port}"


@pytest.mark.parametrize("who", ["ours", "theirs"])
def test_persistent_keepalive(pair, who):
    """It makes a session without traffic, and shows up at the other side once a second."""
    speaks, listens = pair if who == "ours" else pair[::-1]
    listens.know(speaks)
    speaks.know(listens, "persistent-keepalive", "1", endpoint=f"10.82.0.{listens.number}:{listens.port}")
    assert eventually(lambda: handshakes(listens) > 0)

    def once_a_second():
        start, began = listens.dump()["rx"], time.monotonic()
        time.sleep(3.3)
        return 3 * 32 <= listens.dump()["rx"] - start <= (time.monotonic() - began + 1) * 32

    assert any(once_a_second() for _ in range(3))
    speaks.wg("set", speaks.interface, "peer", listens.public, "persistent-keepalive", "off")
    time.sleep(0.2)

    # A handshake may fall into a window (theirs renews after 15 s without answer), keepalives would be in each.
    def quiet():
        start = listens.dump()["rx"]
        time.sleep(2.2)
        return listens.dump()["rx"] == start

    assert any(quiet() for _ in range(3))


def test_passive_keepalive(pair):
    """Ours answers data that needs no answer after 10 s, so that theirs knows it is alive."""
    ours, theirs = pair
    know_each_other(ours, theirs)
    assert theirs.ping(ours.inner4) == 3
    before = theirs.dump()["rx"]
    theirs.execute("bash", "-c", f"echo hello > /dev/udp/{ours.inner4}/9")
    # the port is closed, so an ICMP error (data) answers at once; after that, silence until theirs' keepalive
    assert eventually(lambda: theirs.dump()["rx"] > before)
    before = ours.dump()["rx"]
    assert eventually(lambda: ours.dump()["rx"] == before + 32, 12)


def iperf(server, client, *args):
    listening = subprocess.Popen(["ip", "netns", "exec", server.ns, "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.3)
        text = client.execute("iperf3", "-J", "-c", server.inner4, "-t", "3", *args, check=False)
        result = json.loads(text)
        assert "error" not in result, result["error"]
        return result["end"]
    finally:
        listening.terminate()
        listening.wait()


@pytest.mark.parametrize("args", [[], ["-R"], ["-P", "4"], ["-u", "-b", "50M", "-l", "1200"]], ids=["to", "from", "four", "udp"])
def test_iperf3(pair, args):
    ours, theirs = pair
    know_each_other(ours, theirs)
    assert ours.ping(theirs.inner4) == 3
    end = iperf(theirs, ours, *args)
    total = end.get("sum_received", end.get("sum"))
    rate = total["bits_per_second"] / 1e6
    print(f"\niperf3 {' '.join(args) or 'to wireguard-go'}: {rate:.0f} Mbit/s")
    assert rate > 30
    if "-u" in args:
        assert end["sum"]["lost_percent"] < 5
    assert ours.ping(theirs.inner4) == 3


SENDER = "import socket,sys; s=socket.create_connection((sys.argv[1],7000)); f=open(sys.argv[2],'rb'); s.sendfile(f); s.close()"
RECEIVER = ("import socket,sys,hashlib; l=socket.create_server(('',7000)); print('ready',flush=True); c,_=l.accept(); "
            "h=hashlib.sha256(); [h.update(b) for b in iter(lambda: c.recv(65536), b'')]; print(h.hexdigest())")


@pytest.mark.parametrize("direction", ["to", "from"])
def test_bytes_arrive_unchanged(pair, direction, tmp_path):
    source, sink = pair if direction == "to" else pair[::-1]
    know_each_other(source, sink)
    data = os.urandom(1 << 20) * 40
    path = tmp_path / "data"
    path.write_bytes(data)
    receiver = subprocess.Popen(["ip", "netns", "exec", sink.ns, "python3", "-c", RECEIVER], stdout=subprocess.PIPE, text=True)
    assert receiver.stdout.readline().strip() == "ready"
    source.execute("python3", "-c", SENDER, sink.inner4, str(path))
    assert receiver.communicate(timeout=30)[0].strip() == hashlib.sha256(data).hexdigest()


def test_the_tool(pair, tmp_path):
    """wg showconf, setconf, syncconf, addconf, set and its refusals, against ours alone."""
    ours, theirs = pair
    name = ours.interface
    other = genkey()[1]
    psk = run("wg", "genpsk").strip()
    ours.wg("set", name, "fwmark", "0x1234", "peer", theirs.public, "allowed-ips", "10.83.0.2/32,192.168.7.99/24,::/0",
            "endpoint", "[2001:db8::7]:7", "persistent-keepalive", "25", "preshared-key", "/dev/stdin", input=psk)
    assert ours.wg("show", name, "fwmark").strip() == "0x1234"
    assert ours.wg("show", name, "listen-port").strip() == "51001"
    assert ours.wg("show", name, "private-key").strip() == ours.private
    d = ours.dump()
    assert d["allowed"].split(",") == ["10.83.0.2/32", "192.168.7.0/24", "::/0"]
    assert (d["endpoint"], d["keepalive"], d["psk"]) == ("[2001:db8::7]:7", "25", psk)

    # a prefix moves to whoever named it last
    ours.wg("set", name, "peer", other, "allowed-ips", "192.168.7.0/24")
    shown = dict(line.split("\t") for line in ours.wg("show", name, "allowed-ips").strip().split("\n"))
    assert shown == {theirs.public: "10.83.0.2/32 ::/0", other: "192.168.7.0/24"}

    # the configuration read back is the same configuration
    text = ours.wg("showconf", name)
    (tmp_path / "a").write_text(text)
    ours.wg("setconf", name, str(tmp_path / "a"))
    assert ours.wg("showconf", name) == text

    # syncconf removes, adds and keeps
    third = genkey()[1]
    (tmp_path / "b").write_text(f"[Interface]\nPrivateKey = {ours.private}\nListenPort = 51003\n"
                                f"[Peer]\nPublicKey = {other}\nAllowedIPs = 10.1.0.0/16\n"
                                f"[Peer]\nPublicKey = {third}\nAllowedIPs = 10.2.0.0/16\n")
    ours.wg("syncconf", name, str(tmp_path / "b"))
    shown = dict(line.split("\t") for line in ours.wg("show", name, "allowed-ips").strip().split("\n"))
    assert shown == {other: "10.1.0.0/16", third: "10.2.0.0/16"}
    assert ours.wg("show", name, "listen-port").strip() == "51003"
    ours.wg("set", name, "peer", other, "remove")
    assert ours.wg("show", name, "peers").split() == [third]

    # a port that is taken is refused and the old one stays
    with subprocess.Popen(["ip", "netns", "exec", ours.ns, "python3", "-c",
                           "import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('',51009)); print(1,flush=True); input()"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        holder.stdout.readline()
        refused = subprocess.run(["ip", "netns", "exec", ours.ns, "wg", "set", name, "listen-port", "51009"],
                                 capture_output=True, text=True)
        assert refused.returncode != 0 and "in use" in refused.stderr
        holder.communicate("\n")
    assert ours.wg("show", name, "listen-port").strip() == "51003"


def ask(interface, text):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(SOCKETS / f"{interface}.sock"))
        s.sendall(text)
        s.settimeout(5)
        got = b""
        while not got.endswith(b"\n\n"):
            more = s.recv(65536)
            if not more:
                break
            got += more
        return got.decode()


def test_bad_requests(pair):
    """Refused as a whole: no part of a bad request takes effect."""
    ours, theirs = pair
    ours.know(theirs)
    before = ours.wg("showconf", ours.interface)
    key = "00" * 31 + "09"
    rows = [
        (f"set=1\npublic_key={key}\nendpoint=1.2.3.4\n\n", "errno=-22"),
        (f"set=1\npublic_key={key}\nallowed_ip=10.0.0.0/33\n\n", "errno=-22"),
        (f"set=1\npublic_key={key}\nremove=false\n\n", "errno=-22"),
        ("set=1\nreplace_peers=true\npublic_key=12\n\n", "errno=-22"),
        ("set=1\nlisten_port=70000\n\n", "errno=-22"),
        ("set=1\nnonsense\n\n", "errno=-22"),
        ("get=2\n\n", "errno=-71"),
        ("hello\n\n", "errno=-71"),
    ]
    for text, want in rows:
        assert ask(ours.interface, text.encode()) == want + "\n\n", text
    assert ours.wg("showconf", ours.interface) == before
    # several requests on one connection, and one cut in pieces
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(SOCKETS / f"{ours.interface}.sock"))
        s.sendall(b"get=1\n\nget=1\n\nge")
        time.sleep(0.2)
        s.sendall(b"t=1\n\n")
        got = b""
        s.settimeout(5)
        while got.count(b"errno=0\n\n") < 3:
            got += s.recv(65536)
    # ten thousand lines without an end: closed, and the next one is served
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(SOCKETS / f"{ours.interface}.sock"))
        try:
            for _ in range(200):
                s.sendall(b"x=1\n" * 10000)
        except OSError:
            pass
    assert ask(ours.interface, b"get=1\n\n").endswith("errno=0\n\n")
    assert os.stat(SOCKETS / f"{ours.interface}.sock").st_mode & 0o777 == 0o600


def test_configuration_file(link, tmp_path):
    """Two of ours, started from files; both speak first."""
    keys = [genkey(), genkey()]
    nodes = []
    for i in (0, 1):
        path = tmp_path / f"{i}.conf"
        path.write_text(f"# a comment\n[Interface]\nPrivateKey = {keys[i][0]}\nListenPort = {51001 + i}\nFwMark = off\n\n"
                        f"[Peer] # the other\nPublicKey={keys[1 - i][1]}\nAllowedIPs = 10.83.0.{2 - i}/32 , fd83::{2 - i}/128\n"
                        f"Endpoint = 10.82.0.{2 - i}:{51002 - i}\nPersistentKeepalive = 25\n")
        node = Node(link[i], f"wgc{i}", i + 1, 51001 + i, [OURS, "wg", f"wgc{i}", "--config", str(path)])
        node.private, node.public = keys[i]
        nodes.append(node)
    try:
        for node in nodes:
            node.start()
        assert nodes[0].ping(nodes[1].inner4) == 3
        assert nodes[1].ping(nodes[0].inner6, size=1300) == 3
        # the name is taken
        second = subprocess.run(["ip", "netns", "exec", link[0], OURS, "wg", "wgc0"], capture_output=True, text=True)
        assert second.returncode == 1 and "busy" in second.stderr
    finally:
        for node in nodes:
            node.stop()
    assert not list(SOCKETS.glob("wgc*"))
    # mistakes are named with their line
    for text, line, word in (("[Interface]\nPrivateKey = x\n", 2, "PrivateKey"), ("[Peer]\n[Peer]\n", 2, "PublicKey"),
                             ("[Interface]\nAddress = 10.0.0.1/24\n", 2, "wg-quick"), ("PrivateKey = x\n", 1, "section"),
                             (f"[Peer]\nPublicKey = {keys[0][1]}\nEndpoint = example.org:1\n", 3, "Endpoint")):
        path.write_text(text)
        bad = subprocess.run([OURS, "wg", "wgbad0", "--config", str(path)], capture_output=True, text=True)
        assert bad.returncode == 1 and f"line {line}" in bad.stderr and word in bad.stderr, bad.stderr


def test_interface_removed(pair):
    """Somebody deletes the interface: ours says so and ends; nothing is left."""
    node = Node(pair[0].ns, "wgx0", 9, 51009, [OURS, "wg", "wgx0"])
    node.start()
    node.ip("link", "del", "wgx0")
    assert node.process.wait(5) == 0
    assert "removed" in Path("/tmp/wgx0.log").read_text()
    assert not (SOCKETS / "wgx0.sock").exists()
    node.stop()


@pytest.mark.skipif(not os.environ.get("NB_SOAK"), reason="two minutes and more: in the soak run")
@pytest.mark.parametrize("initiator", ["ours", "theirs"])
def test_renewal_by_age(pair, initiator):
    """Over two renewals at the protocol's own times no packet is lost."""
    first, second = pair if initiator == "ours" else pair[::-1]
    first.know(second, endpoint=f"10.82.0.{second.number}:{second.port}")
    second.know(first)
    assert first.ping(second.inner4) == 3
    begun = handshakes(first)
    assert first.ping(second.inner4, count=2500) == 2500
    assert handshakes(first) - begun >= 240
