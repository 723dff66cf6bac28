"""Our management server against an independent client: grpcio, protobuf and PyNaCl. Joining, live updates, leaving,
refusals, garbage, and what a killed server still knows. Loopback only. With NB_SOAK=1 the kills are 200."""
import base64
import importlib
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import grpc
import pytest
from nacl.public import Box, PrivateKey, PublicKey

ROOT = Path(__file__).parent / "../.."
NESTBOX = Path(os.environ.get("NESTBOX", ROOT / "out/nestbox"))
PASSWORD = "correct horse"
ROUNDS = 200 if os.environ.get("NB_SOAK") else 8


def messages(out):
    """The messages, generated into a directory from our own description of the protocol by Google's compiler."""
    from grpc_tools import protoc
    proto = (ROOT / "src/proto").resolve()
    # wkt.proto is the C side's copy of the well-known types.
    (out / "management.proto").write_text((proto / "management.proto").read_text().replace(
        'import "wkt.proto";',
        'import "google/protobuf/timestamp.proto";\nimport "google/protobuf/duration.proto";'))
    include = Path(importlib.import_module("grpc_tools").__file__).parent / "_proto"
    assert protoc.main(["protoc", f"-I{out}", f"-I{include}", f"--python_out={out}", str(out / "management.proto")]) == 0
    sys.path.insert(0, str(out))
    return importlib.import_module("management_pb2")


@pytest.fixture(scope="session")
def pb(tmp_path_factory):
    return messages(tmp_path_factory.mktemp("pb"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def free_udp_port():
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, directory, *flags):
        self.dir, self.port, self.udp, self.flags = directory, free_port(), free_udp_port(), flags
        self.process = None
        out = subprocess.run([NESTBOX, "server", "setup", "--data-dir", directory, "--email", "owner@example.com",
                              "--name", "Owner", "--create-pat"], env={**os.environ, "NB_PASSWORD": PASSWORD}, check=True,
                             capture_output=True, text=True).stdout
        self.keys = dict(re.findall(r"setup key \((\S+)\): (\S+)", out))
        self.token = re.search(r"token: (\S+)", out).group(1)
        self.start()

    def command(self):
        return [NESTBOX, "server", "--data-dir", self.dir, "--listen", f"127.0.0.1:{self.port}", "--turn-listen",
                f"127.0.0.1:{self.udp}", "--relay-ports", "8", "--external-url", f"http://127.0.0.1:{self.port}",
                *self.flags]

    def start(self):
        self.log = open(f"{self.dir}.log", "a", encoding="utf-8")
        self.process = subprocess.Popen(self.command(), stderr=self.log)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            assert self.process.poll() is None, "the server ended at start"
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.01)
        raise AssertionError("the server does not listen")

    def api(self, method, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/api{path}", method=method,
                                         data=None if body is None else json.dumps(body).encode(),
                                         headers={"Authorization": f"Token {self.token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def new_key(self, **more):
        return self.api("POST", "/setup-keys", {"name": "k", "type": "reusable", "expires_in": 0, "auto_groups": [],
                                                "usage_limit": 0, **more})

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=10) == 0
        self.log.close()

    def channel(self):
        return grpc.insecure_channel(f"127.0.0.1:{self.port}", options=[
            ("grpc.max_receive_message_length", 16 << 20), ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100),
            # a channel of its own, not one that waits for another's attempt against the killed server
            ("grpc.min_reconnect_backoff_ms", 1000), ("grpc.use_local_subchannel_pool", 1)])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    s = Server(str(tmp_path_factory.mktemp("mgmt") / "data"))
    yield s
    s.stop()


class Peer:
    """A client program: one WireGuard key, one channel."""

    def __init__(self, pb, server, name):
        self.pb, self.server, self.name = pb, server, name
        self.key = PrivateKey.generate()
        self.public = base64.b64encode(bytes(self.key.public_key)).decode()
        self.open()

    def open(self):
        self.channel = self.server.channel()
        grpc.channel_ready_future(self.channel).result(timeout=10)
        answer = self.pb.ServerKeyResponse.FromString(self.unary("GetServerKey", b""))
        self.box = Box(self.key, PublicKey(base64.b64decode(answer.key)))

    def path(self, method):
        return f"/management.ManagementService/{method}"

    def unary(self, method, raw, timeout=10):
        return self.channel.unary_unary(self.path(method))(raw, timeout=timeout)

    def seal(self, message, box=None):
        body = (box or self.box).encrypt(message.SerializeToString())
        return self.pb.EncryptedMessage(wgPubKey=self.public, body=bytes(body)).SerializeToString()

    def unseal(self, raw, kind):
        envelope = self.pb.EncryptedMessage.FromString(raw)
        return kind.FromString(self.box.decrypt(envelope.body))

    def meta(self):
        return self.pb.PeerSystemMeta(hostname=self.name, goOS="linux", OS="Debian", kernel="Linux",
                                      netbirdVersion="0.77.1", capabilities=[1, 2])

    def login(self, setup_key=""):
        request = self.pb.LoginRequest(meta=self.meta(), setupKey=setup_key)
        return self.unseal(self.unary("Login", self.seal(request)), self.pb.LoginResponse)

    def sync(self):
        stream = self.channel.unary_stream(self.path("Sync"))(self.seal(self.pb.SyncRequest(meta=self.meta())))
        return (self.unseal(raw, self.pb.SyncResponse) for raw in stream)

    def logout(self):
        self.unary("Logout", self.seal(self.pb.Empty()))

    def close(self):
        self.channel.close()


@pytest.fixture
def peer(pb, server):
    made = []

    def make(name):
        made.append(Peer(pb, server, name))
        return made[-1]
    yield make
    for p in made:
        p.close()


def refused(code, text, call, *args):
    with pytest.raises(grpc.RpcError) as e:
        call(*args)
    assert e.value.code() == code, e.value.details()
    assert re.fullmatch(text, e.value.details()), e.value.details()


def test_join_and_login_again(server, peer):
    a = peer("alpha")
    refused(grpc.StatusCode.PERMISSION_DENIED, "no peer auth method provided.*", a.login)
    first = a.login(server.keys["reusable"])
    assert re.fullmatch(r"100\.\d+\.\d+\.\d+/16", first.peerConfig.address)
    assert first.peerConfig.fqdn == "alpha.netbird.selfhosted"
    assert len(first.peerConfig.address_v6) == 17
    assert first.netbirdConfig.signal.uri == f"127.0.0.1:{server.port}"
    assert first.netbirdConfig.stuns[0].uri == f"stun:127.0.0.1:{server.udp}"
    assert first.HasField("sessionExpiresAt")
    for _ in range(3):
        assert a.login().peerConfig == first.peerConfig
    # The key text may come in any case.
    b = peer("alpha")
    again = b.login(server.keys["reusable"].lower())
    assert again.peerConfig.fqdn.startswith("alpha-")


def test_live_updates(server, peer):
    a, b = peer("one"), peer("two")
    a.login(server.keys["reusable"])
    updates = a.sync()
    first = next(updates)
    assert first.HasField("netbirdConfig") and first.netbirdConfig.turns[0].password
    # TLS is offered where there is a certificate, which this server has none of
    assert [t.hostConfig.uri.split(":")[0] + "?" + t.hostConfig.uri.split("?")[1] for t in first.netbirdConfig.turns] == [
        "turn?transport=udp", "turn?transport=tcp"]
    serial = first.NetworkMap.Serial
    before = {p.wgPubKey for p in first.NetworkMap.remotePeers}
    joined = time.monotonic()
    mine = b.login(server.keys["reusable"])
    up = next(updates)
    assert time.monotonic() - joined < 1
    assert not up.HasField("netbirdConfig") and up.NetworkMap.Serial > serial
    new = [p for p in up.NetworkMap.remotePeers if p.wgPubKey not in before]
    assert [p.wgPubKey for p in new] == [b.public]
    assert new[0].allowedIps[0] == mine.peerConfig.address.split("/")[0] + "/32"
    assert {r.Direction for r in up.NetworkMap.FirewallRules if r.PeerIP + "/32" == new[0].allowedIps[0]} == {0, 1}
    b.logout()
    up = next(updates)
    assert b.public not in {p.wgPubKey for p in up.NetworkMap.remotePeers}
    refused(grpc.StatusCode.NOT_FOUND, "peer not found: .*", b.logout)
    refused(grpc.StatusCode.PERMISSION_DENIED, "peer is not registered", lambda: next(b.sync()))


def test_logout_ends_the_own_stream(server, peer):
    a = peer("leaver")
    a.login(server.keys["reusable"])
    updates = a.sync()
    next(updates)
    a.logout()
    rest = list(updates)
    assert rest[-1].remotePeersIsEmpty and rest[-1].NetworkMap.firewallRulesIsEmpty


def test_setup_key_refusals(server, peer):
    invalid = "couldn't add peer: setup key is invalid"
    x = peer("x")
    refused(grpc.StatusCode.NOT_FOUND, invalid, x.login, "11111111-2222-4333-8444-555555555555")
    refused(grpc.StatusCode.NOT_FOUND, invalid, x.login, "no uuid at all")
    peer("first").login(server.keys["one-off"])
    refused(grpc.StatusCode.NOT_FOUND, invalid, x.login, server.keys["one-off"])
    short, revoked, twice = server.new_key(expires_in=1), server.new_key(), server.new_key(usage_limit=2)
    server.api("PUT", f"/setup-keys/{revoked['id']}", {"auto_groups": [], "revoked": True})
    refused(grpc.StatusCode.NOT_FOUND, invalid, x.login, revoked["key"])
    for name in ("second", "third"):
        peer(name).login(twice["key"])
    refused(grpc.StatusCode.NOT_FOUND, invalid, x.login, twice["key"])
    time.sleep(1.1)
    refused(grpc.StatusCode.NOT_FOUND, invalid, x.login, short["key"])


def test_deletion_over_rest_is_felt_at_once(server, peer):
    a, b = peer("keeper"), peer("goner")
    for p in (a, b):
        p.login(server.keys["reusable"])
    theirs, ours = b.sync(), a.sync()
    next(theirs)
    next(ours)
    ident = next(p["id"] for p in server.api("GET", "/peers") if p["name"] == "goner")
    begin = time.monotonic()
    server.api("DELETE", f"/peers/{ident}")
    last = list(theirs)[-1]
    assert last.remotePeersIsEmpty and last.NetworkMap.remotePeersIsEmpty
    while b.public in {p.wgPubKey for p in next(ours).NetworkMap.remotePeers}:
        pass
    assert time.monotonic() - begin < 1
    refused(grpc.StatusCode.PERMISSION_DENIED, "no peer auth method provided.*", b.login)


def test_strangers(pb, server, peer):
    x = peer("stranger")
    refused(grpc.StatusCode.PERMISSION_DENIED, "peer is not registered", lambda: next(x.sync()))
    refused(grpc.StatusCode.NOT_FOUND, "account not found: index lookup failed",
            x.unary, "SyncMeta", x.seal(pb.SyncMetaRequest(meta=x.meta())))
    refused(grpc.StatusCode.FAILED_PRECONDITION, "peer system meta has to be provided to log in. Peer .*",
            x.unary, "Login", x.seal(pb.LoginRequest()))
    refused(grpc.StatusCode.NOT_FOUND, "no device authorization flow information available",
            x.unary, "GetDeviceAuthorizationFlow", x.seal(pb.DeviceAuthorizationFlowRequest()))
    refused(grpc.StatusCode.UNIMPLEMENTED, ".*", x.unary, "NoSuchMethod", b"")
    assert x.unary("isHealthy", b"") == b""


def test_unreadable_requests(pb, server, peer):
    x = peer("x")
    bad = "invalid request message"
    login = pb.LoginRequest(meta=x.meta())
    refused(grpc.StatusCode.INVALID_ARGUMENT, "provided wgPubKey AAAA is invalid",
            x.unary, "Login", pb.EncryptedMessage(wgPubKey="AAAA").SerializeToString())
    # sealed for another server, with another peer's key, changed on the way, cut short
    other = Box(x.key, PrivateKey.generate().public_key)
    refused(grpc.StatusCode.INVALID_ARGUMENT, bad, x.unary, "Login", x.seal(login, other))
    ours = PublicKey(base64.b64decode(pb.ServerKeyResponse.FromString(x.unary("GetServerKey", b"")).key))
    wrong = Box(PrivateKey.generate(), ours)
    refused(grpc.StatusCode.INVALID_ARGUMENT, bad, x.unary, "Login", x.seal(login, wrong))
    body = bytearray(x.box.encrypt(login.SerializeToString()))
    body[-1] ^= 1
    for b in (bytes(body), bytes(body[:39]), b"", b"x" * 24):
        raw = pb.EncryptedMessage(wgPubKey=x.public, body=b).SerializeToString()
        refused(grpc.StatusCode.INVALID_ARGUMENT, bad, x.unary, "Login", raw)
    # a good box around bytes that are no message
    for plain in (b"\xff\xff\xff\xff", b"\x0a\x05ab", b"\x12\x02\x0a\x09", b"\x0a\x01\x00"):
        raw = pb.EncryptedMessage(wgPubKey=x.public, body=bytes(x.box.encrypt(plain))).SerializeToString()
        refused(grpc.StatusCode.INVALID_ARGUMENT, bad, x.unary, "Login", raw)
    # bytes that are no envelope
    with pytest.raises(grpc.RpcError):
        x.unary("Login", b"\xff\xff\xff")
    # more than a message may have
    with pytest.raises(grpc.RpcError) as e:
        x.unary("Login", b"\x12\x80\x80\x80\x04" + bytes(8 << 20))
    assert e.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    # many empty pieces that grow in memory
    bomb = b"\x12\x84\x80\x60" + b"\x82\x01\x00" * 524289
    refused(grpc.StatusCode.INVALID_ARGUMENT, bad, x.unary, "Login",
            pb.EncryptedMessage(wgPubKey=x.public, body=bytes(x.box.encrypt(bomb))).SerializeToString())
    assert x.unary("isHealthy", b"") == b""


def test_garbage_on_the_port(server, peer):
    x = peer("x")
    for data in (b"\x00" * 100, b"GET", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64, os.urandom(4096),
                 b"\x16\x03\x01\x02\x00\x01", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), 5) as s:
            s.settimeout(5)
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                while s.recv(4096):
                    pass
            except OSError:
                pass
    assert x.unary("isHealthy", b"") == b""


def test_second_server_is_refused(server):
    other = [str(c) for c in server.command()]
    other[other.index("--listen") + 1] = f"127.0.0.1:{free_port()}"
    other[other.index("--turn-listen") + 1] = f"127.0.0.1:{free_udp_port()}"
    r = subprocess.run(other, capture_output=True, text=True, timeout=10)
    assert r.returncode == 1
    assert f"in use by netbird-server, process {server.process.pid}" in r.stderr.splitlines()[-1]


def test_many_peers_see_each_other(pb, server):
    """A burst of joins: everybody ends with everybody in the map, in few messages."""
    peers = [Peer(pb, server, f"crowd-{i}") for i in range(30)]
    maps, counts, errors = {}, {}, []

    def follow(p):
        try:
            for up in p.sync():
                if up.HasField("NetworkMap"):
                    assert up.NetworkMap.Serial >= maps.get(p.public, (0, None))[0]
                    maps[p.public] = (up.NetworkMap.Serial, {r.wgPubKey for r in up.NetworkMap.remotePeers})
                    counts[p.public] = counts.get(p.public, 0) + 1
        except grpc.RpcError as e:
            if e.code() != grpc.StatusCode.CANCELLED:
                errors.append(e)
    threads = []
    for p in peers:
        p.login(server.keys["reusable"])
        threads.append(threading.Thread(target=follow, args=(p,), daemon=True))
        threads[-1].start()
    want = {p.public for p in peers}
    until = time.monotonic() + 15
    while time.monotonic() < until:
        if all(want - {p.public} <= maps.get(p.public, (0, set()))[1] for p in peers):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("some peers never saw all others")
    assert max(counts.values()) < len(peers)
    for p in peers:
        p.logout()
        p.close()
    for t in threads:
        t.join(10)
    assert not errors


def test_killed_server_loses_nothing(pb, tmp_path):
    """Peers join as fast as they can; the server is killed at random moments. What was answered stays true."""
    server = Server(str(tmp_path / "data"))
    acknowledged, lock = {}, threading.Lock()
    serial = 0
    box_key = None
    rng = random.Random(7)

    def joiner(stop, number):
        n = 0
        while not stop.is_set():
            try:
                p = Peer(pb, server, f"j{number}-{n}")
                answer = p.login(server.keys["reusable"])
                with lock:
                    acknowledged[p.key] = answer.peerConfig
                p.close()
                n += 1
            except (grpc.RpcError, grpc.FutureTimeoutError):
                return
    try:
        for _ in range(ROUNDS):
            stop = threading.Event()
            threads = [threading.Thread(target=joiner, args=(stop, i)) for i in range(3)]
            for t in threads:
                t.start()
            time.sleep(rng.uniform(0.05, 0.6))
            server.kill()
            stop.set()
            server.start()
            for t in threads:
                t.join(30)
            watcher = Peer(pb, server, "watcher")
            if box_key is None:
                box_key = watcher.unary("GetServerKey", b"")
            assert watcher.unary("GetServerKey", b"") == box_key
            watcher.login(server.keys["reusable"])
            network = next(watcher.sync()).NetworkMap
            assert network.Serial > serial
            serial = network.Serial
            seen = {p.wgPubKey for p in network.remotePeers}
            with lock:
                known = dict(acknowledged)
            for key in known:
                assert base64.b64encode(bytes(key.public_key)).decode() in seen
            for key in rng.sample(sorted(known, key=bytes), min(5, len(known))):
                p = Peer(pb, server, "again")
                p.key, p.public = key, base64.b64encode(bytes(key.public_key)).decode()
                p.open()
                assert p.login().peerConfig == known[key]
                p.close()
            addresses = [c.address for c in known.values()]
            assert len(addresses) == len(set(addresses))
            watcher.logout()
            watcher.close()
        assert len(acknowledged) > 5 * ROUNDS
    finally:
        server.stop()
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_stop_and_start_keeps_streams_coming(pb, tmp_path):
    """SIGTERM ends in order and quickly although streams are open."""
    server = Server(str(tmp_path / "data"))
    p = Peer(pb, server, "p")
    p.login(server.keys["reusable"])
    updates = p.sync()
    next(updates)
    begin = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=10) == 0
    assert time.monotonic() - begin < 4
    with pytest.raises(grpc.RpcError):
        while True:
            next(updates)
    server.start()
    p.close()
    p.open()
    assert next(p.sync()).NetworkMap.Serial >= 1
    p.close()
    server.stop()


def test_root_is_given_up(tmp_path):
    """A fresh data directory goes to --user; later starts take its owner without being told."""
    os.chmod(tmp_path, 0o755)
    for p in list(tmp_path.parents)[:2]:
        os.chmod(p, 0o755)
    server = Server(str(tmp_path / "data"))
    server.stop()
    subprocess.run(["chown", "-R", "nobody", server.dir], check=True)
    server.start()
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    assert re.search(r"^Uid:\s+65534\s+65534\s+65534", status, re.M)
    server.stop()
    other = str(tmp_path / "fresh")
    subprocess.run([NESTBOX, "server", "setup", "--user", "nobody", "--data-dir", other, "--email", "a@b.c",
                    "--name", "A"], env={**os.environ, "NB_PASSWORD": PASSWORD}, check=True, capture_output=True)
    assert {p.stat().st_uid for p in Path(other).iterdir()} == {65534}
    # one of root's is not written in, and the way out is named
    refused = subprocess.run([NESTBOX, "server", "setup", "--user", "nobody", "--data-dir", tmp_path, "--email", "a@b.c",
                              "--name", "A"], env={**os.environ, "NB_PASSWORD": PASSWORD}, capture_output=True, text=True)
    assert refused.returncode == 1 and f"chown -R nobody {tmp_path}" in refused.stderr


@pytest.mark.parametrize("words", [["server", "--relay-ports", "4"], ["signal", "run"]])
def test_many_descriptors(tmp_path, words):
    """The limit a shell gives is 1024, as a rule: too few for a thousand agents."""
    port = free_port()
    own = ["--port", port] if words[0] == "signal" else ["--data-dir", tmp_path / "d", "--listen", f"127.0.0.1:{port}"]
    if words[0] == "server":
        own += ["--turn-listen", f"127.0.0.1:{free_udp_port()}"]
    with open(tmp_path / "log", "ab") as log:
        p = subprocess.Popen(["prlimit", "--nofile=256:4096", NESTBOX, *words, *map(str, own)], stderr=log, stdout=log)
    try:
        end = time.monotonic() + 10
        while True:
            assert p.poll() is None and time.monotonic() < end, (tmp_path / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.02)
        limits = Path(f"/proc/{p.pid}/limits").read_text()
        assert re.search(r"^Max open files\s+4096", limits, re.M), limits
    finally:
        p.terminate()
        p.wait(10)


CERTS = ROOT / "tests/vectors/tls"


class TlsServer(Server):
    """The same with a certificate, started as root and given up to nobody: only root can read the key."""

    def command(self):
        return [c.replace("http://127.0.0.1", "https://localhost") if isinstance(c, str) else c for c in super().command()]

    def start(self):
        subprocess.run(["chown", "-R", "nobody", self.dir], check=True)
        super().start()

    def channel(self):
        roots = grpc.ssl_channel_credentials((CERTS / "ca.pem").read_bytes())
        return grpc.secure_channel(f"localhost:{self.port}", roots)


def test_turn_over_tls_is_offered_and_served(pb, tmp_path):
    """A turns: URI, over TCP, as stock clients take it; the port answers STUN inside TLS although root is given up."""
    for p in [tmp_path, *list(tmp_path.parents)[:2]]:
        os.chmod(p, 0o755)
    key = tmp_path / "root.key"
    shutil.copy(CERTS / "ec.key", key)
    key.chmod(0o600)
    server = TlsServer(str(tmp_path / "data"), "--cert-file", str(CERTS / "ec.pem"), "--cert-key", str(key))
    try:
        peer = Peer(pb, server, "tls")
        peer.login(server.keys["reusable"])
        turns = [t for t in next(peer.sync()).netbirdConfig.turns]
        assert [t.hostConfig.uri for t in turns] == [f"turn:localhost:{server.udp}?transport=udp",
                                                     f"turn:localhost:{server.udp}?transport=tcp",
                                                     f"turns:localhost:{server.udp}?transport=tcp"]
        assert len({(t.user, t.password) for t in turns}) == 1
        context = ssl.create_default_context(cafile=CERTS / "ca.pem")
        with socket.create_connection(("127.0.0.1", server.udp), 5) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as s:
                s.sendall(bytes.fromhex("000100002112a442" + "ab" * 12))
                assert s.recv(100)[:2] == b"\x01\x01"
        peer.close()
    finally:
        server.kill()


def test_management_alone_has_metrics(tmp_path):
    config = tmp_path / "management.json"
    config.write_text(json.dumps({"Signal": {"Proto": "http", "URI": "127.0.0.1:10000"}, "Datadir": str(tmp_path / "data")}))
    port, metrics = free_port(), free_port()
    p = subprocess.Popen([NESTBOX, "management", "--config", config, "--port", str(port), "--disable-legacy-port",
                          "--metrics-port", str(metrics)], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 10
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=2) as page:
                    text = page.read().decode()
                break
            except OSError:
                assert time.monotonic() < until and p.poll() is None
                time.sleep(0.05)
        assert "management_peers 0\n" in text and "management_grpc_connected_streams 0\n" in text
        assert "turn_" not in text and "signal_" not in text
    finally:
        p.terminate()
        assert p.wait(10) == 0


def test_certificates_of_root_are_renewed(tmp_path):
    """Key and directory for root alone, as ACME clients leave them: a server that gave up root still sees new ones."""
    os.chmod(tmp_path, 0o755)
    for p in list(tmp_path.parents)[:2]:
        os.chmod(p, 0o755)
    given, live = ROOT / "tests/vectors/tls", tmp_path / "live"
    live.mkdir(mode=0o700)
    cert, key = live / "c.pem", live / "k.pem"

    def put(name):
        shutil.copy(given / f"{name}.pem", cert)
        shutil.copy(given / f"{name}.key", key)
        key.chmod(0o600)

    put("ec")
    port = free_port()
    log = open(tmp_path / "log", "ab")
    server = subprocess.Popen([NESTBOX, "server", "--user", "nobody", "--data-dir", tmp_path / "data", "--listen",
                               f"127.0.0.1:{port}", "--turn-listen", f"127.0.0.1:{free_udp_port()}", "--relay-ports", "4",
                               "--cert-file", cert, "--cert-key", key], stderr=log)

    def served():
        try:
            return ssl.get_server_certificate(("127.0.0.1", port))
        except OSError:
            return None

    def wait_for_one(that_is_not, limit):
        end = time.monotonic() + limit
        while served() in that_is_not:
            assert time.monotonic() < end, (tmp_path / "log").read_text()
            time.sleep(0.05)
        return served()

    first = wait_for_one([None], 10)
    assert "65534" in re.search(r"^Uid:.*", Path(f"/proc/{server.pid}/status").read_text(), re.M).group()
    put("rsa")
    server.send_signal(signal.SIGHUP)
    second = wait_for_one([None, first], 3)
    put("ec")
    assert wait_for_one([None, second], 13) == first     # by itself
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    assert len(children) == 1
    server.kill()
    server.wait()
    log.close()
    end = time.monotonic() + 5
    while Path(f"/proc/{children[0]}").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
