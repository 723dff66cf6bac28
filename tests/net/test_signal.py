"""netbird-signal, the program, against grpcio clients: registration, routing, duplicates, heartbeats, probes,
absent and stalled recipients, garbage and wrong requests on its port, TLS, shutdown, command line."""
import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import grpc
import pytest

HERE = Path(__file__).parent
NESTBOX = HERE / "../../out/nestbox"
VECTORS = HERE / "../vectors/signal"
SEND = "/signalexchange.SignalExchange/Send"
CONNECT = "/signalexchange.SignalExchange/ConnectStream"
ID, MARKER = "x-wiretrustee-peer-id", "x-wiretrustee-peer-registered"


def field(number, data):
    n, size = len(data), b""
    while n > 127:
        size += bytes([n & 127 | 128])
        n >>= 7
    return bytes([number << 3 | 2]) + size + bytes([n]) + data


def envelope(sender, recipient, body=b"body"):
    return field(2, sender.encode()) + field(3, recipient.encode()) + field(4, body)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, *args):
        self.port, self.metrics_port = free_port(), free_port()
        self.process = subprocess.Popen(
            [NESTBOX, "signal", "run", "--listen", f"127.0.0.1:{self.port}", "--disable-legacy-port", "--metrics-port",
             str(self.metrics_port), *map(str, args)], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "started" in line:
                break
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def channel(self):
        # every channel its own TCP connection
        return grpc.insecure_channel(f"127.0.0.1:{self.port}", options=[("grpc.use_local_subchannel_pool", 1)])

    def metric(self, name):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5).read().decode()
        return {line.split()[0]: int(line.split()[1]) for line in text.splitlines() if line[0] != "#"}[name]

    def stop(self):
        self.process.terminate()
        return self.process.wait(10)


@pytest.fixture(scope="module")
def server():
    s = Server()
    yield s
    assert s.stop() == 0


class Peer:
    """A registered client: its stream's messages come out of `inbox`, its end as an exception."""
    def __init__(self, server, name, channel=None):
        self.channel = channel or server.channel()
        self.call = self.channel.stream_stream(CONNECT)(self.nothing(), metadata=[(ID, name)])
        self.inbox = queue.Queue()
        self.headers = dict(self.call.initial_metadata())
        threading.Thread(target=self.read, daemon=True).start()

    def nothing(self):
        self.over = threading.Event()
        self.over.wait()
        return
        yield

    def read(self):
        try:
            for m in self.call:
                self.inbox.put(m)
            self.inbox.put(None)
        except grpc.RpcError as e:
            self.inbox.put(e)

    def get(self, timeout=5):
        return self.inbox.get(timeout=timeout)

    def close(self):
        self.over.set()
        self.call.cancel()
        self.channel.close()


def send(channel, message, timeout=10):
    return channel.unary_unary(SEND)(message, timeout=timeout)


@pytest.fixture
def peers(server):
    made = []

    def make(name, channel=None):
        made.append(Peer(server, name, channel))
        return made[-1]
    yield make
    for p in made:
        p.close()


def test_route(server, peers):
    began = time.monotonic()
    a, b = peers("A"), peers("B")
    # the headers with the marker come although nobody has sent anything
    assert time.monotonic() - began < 2
    assert a.headers[MARKER] == "1" and b.headers[MARKER] == "1"
    assert send(a.channel, envelope("A", "B", b"one")) == b""
    assert b.get() == envelope("A", "B", b"one")
    assert send(b.channel, envelope("B", "A", b"two")) == b""
    assert a.get() == envelope("B", "A", b"two")


def test_recorded(server, peers):
    """Stock's own envelopes pass byte for byte."""
    recorded = [m for f in sorted(VECTORS.glob("*.json")) for m in json.loads(f.read_text()).get("messages", [])]
    a, b = (peers(k) for k in ("XMEyyH443QB6R+GjHgMxZ2J1XHh7vvJXIAMm2pnOlAY=",
                               "wWXl8q+typU7P96SpJk0v3IXlqmdOMr5D6oFD1mkYQs="))
    assert len(recorded) > 8
    for m in recorded:
        wire = bytes.fromhex(m["envelope_hex"])
        assert send(a.channel, wire) == b""
        assert {"a": a, "b": b}[m["to"]].get() == wire


def test_heartbeat(server, peers):
    a = peers("self")
    send(a.channel, envelope("self", "self"))
    assert a.get() == envelope("self", "self")


def test_absent_and_dummy(server, peers):
    a = peers("A")
    for recipient in ("nobody", "dummy", ""):
        assert send(a.channel, envelope("A", recipient)) == b""
    late = peers("nobody")
    send(a.channel, envelope("A", "nobody", b"now"))
    assert late.get() == envelope("A", "nobody", b"now")
    assert late.inbox.empty()


def test_duplicate(server, peers):
    old, other = peers("D"), peers("E")
    new = peers("D")
    end = old.get()
    assert (end.code(), end.details()) == (grpc.StatusCode.UNKNOWN, "registered again")
    for i in range(20):
        send(other.channel, envelope("E", "D", b"%d" % i))
        assert new.get() == envelope("E", "D", b"%d" % i)
    # the older one's connection goes away: the newer stays
    old.close()
    time.sleep(0.2)
    send(other.channel, envelope("E", "D", b"still"))
    assert new.get() == envelope("E", "D", b"still")


def test_duplicates_in_a_row(server, peers):
    """Forty registrations of one key at once: one remains, and it gets the mail."""
    all_of = [peers("storm") for _ in range(40)]
    time.sleep(0.3)
    send(all_of[0].channel, envelope("X", "storm"))
    got = [p.inbox.get(timeout=5) for p in all_of]
    assert sum(isinstance(m, bytes) for m in got) == 1
    assert all(m.code() == grpc.StatusCode.UNKNOWN for m in got if not isinstance(m, bytes))


def test_missing_id(server):
    ch = server.channel()
    with pytest.raises(grpc.RpcError) as e:
        next(ch.stream_stream(CONNECT)(iter(()), timeout=5))
    assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert e.value.details() == "missing connection header: x-wiretrustee-peer-id"
    ch.close()


def test_client_data_is_drained(server, peers):
    """What a client says on its stream is read and lost, a half-close goes unnoticed."""
    ch = server.channel()
    call = ch.stream_stream(CONNECT)(iter([bytes(60000)] * 50), metadata=[(ID, "talker")])
    assert dict(call.initial_metadata())[MARKER] == "1"
    time.sleep(0.5)
    send(ch, envelope("X", "talker"))
    assert next(call) == envelope("X", "talker")
    call.cancel()
    ch.close()


def test_wrong_requests(server, peers):
    ch = server.channel()
    for path, body, code in [
            ("/signalexchange.SignalExchange/Nope", b"", grpc.StatusCode.UNIMPLEMENTED),
            ("/other.Service/Send", b"", grpc.StatusCode.UNIMPLEMENTED),
            (SEND, b"\x12\x05a", grpc.StatusCode.INTERNAL),
            (SEND, envelope("A", "B", bytes(65536)), grpc.StatusCode.RESOURCE_EXHAUSTED)]:
        with pytest.raises(grpc.RpcError) as e:
            ch.unary_unary(path)(body, timeout=5)
        assert e.value.code() == code, path
    b = peers("B")
    big = envelope("A", "B", bytes(65000))
    assert send(ch, big) == b""
    assert b.get() == big
    ch.close()


def test_garbage(server, peers):
    """Noise on the port disturbs nobody."""
    a = peers("A")
    for noise in [os.urandom(5000), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01" + os.urandom(300), b"\0",
                  b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(2000), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]:
        with socket.create_connection(("127.0.0.1", server.port)) as s:
            s.settimeout(12)
            try:
                s.sendall(noise)
                s.shutdown(socket.SHUT_WR)
                while s.recv(1000):
                    pass
            except OSError:
                pass
    send(a.channel, envelope("A", "A"))
    assert a.get() == envelope("A", "A")


def test_many(server, peers):
    """300 peers over 10 connections, 2000 messages in random directions."""
    rnd = random.Random(1)
    channels = [server.channel() for _ in range(10)]
    crowd = [peers(f"crowd{i}", channels[i % 10]) for i in range(300)]
    want = [0] * 300
    futures = []
    for n in range(2000):
        to = rnd.randrange(300)
        want[to] += 1
        futures.append(channels[n % 10].unary_unary(SEND).future(envelope("crowd0", f"crowd{to}", b"%d" % n), timeout=30))
    assert all(f.result() == b"" for f in futures)
    for i, p in enumerate(crowd):
        for _ in range(want[i]):
            assert isinstance(p.get(), bytes)
    assert server.metric("active_peers") >= 300


STOPPED_READER = """
import grpc, sys
ch = grpc.insecure_channel(sys.argv[1])
call = ch.stream_stream("%s")(iter(()), metadata=[("%s", "stuck")])
call.initial_metadata()
print("up", flush=True)
for m in call:
    pass
""" % (CONNECT, ID)


def test_stalled_recipient(server, peers):
    """A process that is stopped takes nothing any more: senders do not wait, its stream is cut after ten seconds."""
    reader = subprocess.Popen([sys.executable, "-c", STOPPED_READER, f"127.0.0.1:{server.port}"],
                              stdout=subprocess.PIPE, text=True)
    assert reader.stdout.readline() == "up\n"
    a = peers("A")
    before = server.metric('message_forward_failures_total{type="timeout"}')
    reader.send_signal(signal.SIGSTOP)
    try:
        message = envelope("A", "stuck", bytes(60000))
        began = time.monotonic()
        for _ in range(200):  # 12 MB: more than socket buffers and queue hold
            send(a.channel, message)
        assert time.monotonic() - began < 8
        send(a.channel, envelope("A", "A"))
        assert a.get() == envelope("A", "A")
        deadline = began + 18
        while server.metric('message_forward_failures_total{type="timeout"}') == before:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert time.monotonic() - began > 9
    finally:
        reader.kill()
        reader.wait()


def test_shutdown():
    s = Server()
    p = Peer(s, "A")
    began = time.monotonic()
    s.process.terminate()
    end = p.get()
    assert end.code() == grpc.StatusCode.UNAVAILABLE
    p.close()
    assert s.process.wait(10) == 0
    assert time.monotonic() - began < 8


def test_tls(tmp_path):
    def make(name):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem", "-days", "30", "-subj",
                        f"/CN={name}", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
        return (tmp_path / "cert.pem").read_bytes()

    def call(cert):
        ch = grpc.secure_channel(f"localhost:{s.port}", grpc.ssl_channel_credentials(cert),
                                 options=[("grpc.use_local_subchannel_pool", 1)])
        try:
            return ch.unary_unary(SEND)(envelope("A", "nobody"), timeout=5)
        finally:
            ch.close()
    first = make("one")
    s = Server("--cert-file", tmp_path / "cert.pem", "--cert-key", tmp_path / "key.pem")
    assert call(first) == b""
    second = make("two")
    s.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert call(second) == b""
    with pytest.raises(grpc.RpcError):
        call(first)
    assert s.stop() == 0


@pytest.mark.parametrize("args,env,words", [
    (["--port", "0"], {}, "--port"),
    (["--port", "70000"], {}, "--port"),
    (["--cert-file", "/x"], {}, "--cert-key"),
    (["--cert-file", "/nowhere.pem", "--cert-key", "/nowhere.pem"], {}, "/nowhere.pem"),
    (["--letsencrypt-domain", "example.org"], {}, "--cert-file"),
    (["walk"], {}, "walk"),
    ([], {"NB_PORT": "many"}, "NB_PORT"),
    (["--log-level", "loud"], {}, "--log-level"),
])
def test_command_line(args, env, words):
    out = subprocess.run([NESTBOX, "signal", "run", *args], capture_output=True, text=True, timeout=10,
                         env={**os.environ, **env})
    assert out.returncode != 0
    assert len(out.stderr.splitlines()) == 1 and words in out.stderr


def test_port_in_use(server):
    out = subprocess.run([NESTBOX, "signal", "--listen", f"127.0.0.1:{server.port}", "--disable-legacy-port"],
                         capture_output=True, text=True, timeout=10)
    assert out.returncode == 1 and str(server.port) in out.stderr


def test_ports_of_old():
    """Without a certificate: 80, and 10000 for old agents; NB_PORT moves the first, a flag beats it."""
    ns = "nbsig-ports"
    subprocess.run(["ip", "netns", "del", ns], stderr=subprocess.DEVNULL)
    subprocess.run(f"ip netns add {ns} && ip -n {ns} link set lo up", shell=True, check=True)

    def reach(port):
        return subprocess.run(["ip", "netns", "exec", ns, "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"],
                              stderr=subprocess.DEVNULL).returncode == 0
    try:
        for args, port in [([], 80), (["--port", "8123"], 8123)]:
            env = {**os.environ, "NB_PORT": "8122"} if args else os.environ
            p = subprocess.Popen(["ip", "netns", "exec", ns, NESTBOX, "signal", "run", *args], env=env,
                                 stderr=subprocess.PIPE, text=True)
            for line in p.stderr:
                if "started" in line:
                    break
            assert reach(port) and reach(10000) and not reach(8122) and not reach(9090)
            p.terminate()
            assert p.wait(10) == 0
    finally:
        subprocess.run(["ip", "netns", "del", ns])
