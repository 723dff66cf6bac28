"""Our gRPC (grpc_echo.c) against grpcio, both ways, plain and over TLS with ALPN: every kind of call, large
messages, slow readers, deadlines, cancellation, metadata, status texts, keepalive."""
import os
import platform
import re
import socket
import struct
import subprocess
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
import pytest

HERE = Path(__file__).parent
OURS = HERE / "../../out" / os.environ.get("NB_TARGET", platform.machine()) / "test/net/grpc_echo"
BIG = 16 << 20
LIMITS = [("grpc.max_receive_message_length", 20 << 20), ("grpc.max_send_message_length", 20 << 20)]


@pytest.fixture(scope="module")
def cert(tmp_path_factory):
    """(certificate, key) files for localhost; the certificate is its own authority."""
    d = tmp_path_factory.mktemp("cert")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", d / "key.pem", "-out", d / "cert.pem", "-days", "30", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return d / "cert.pem", d / "key.pem"


# --- grpcio's client, our server ---

@pytest.fixture(scope="module", params=["plain", "tls"])
def channel(request, cert):
    args = [OURS, "serve", "0"] + (list(cert) if request.param == "tls" else [])
    server = subprocess.Popen(args, stdout=subprocess.PIPE, text=True)
    port = server.stdout.readline().split()[1]
    if request.param == "tls":
        creds = grpc.ssl_channel_credentials(cert[0].read_bytes())
        ch = grpc.secure_channel(f"localhost:{port}", creds, options=LIMITS)
    else:
        ch = grpc.insecure_channel(f"127.0.0.1:{port}", options=LIMITS)
    grpc.channel_ready_future(ch).result(timeout=10)
    yield ch
    ch.close()
    assert server.poll() is None, "our server died"
    server.kill()
    server.wait()


def test_unary(channel):
    assert channel.unary_unary("/test.Echo/Unary")(b"hello", timeout=10) == b"hello"
    assert channel.unary_unary("/test.Echo/Unary")(b"", timeout=10) == b""


def test_metadata(channel):
    answer, call = channel.unary_unary("/test.Echo/Unary").with_call(
        b"m", timeout=10, metadata=[("x-ask", "a value"), ("x-ask-bin", b"\x00\xff\x01")])
    assert answer == b"m"
    assert dict(call.initial_metadata())["x-seen"] == "a value"
    assert dict(call.trailing_metadata())["x-seen-bin"] == b"\x00\xff\x01"


def test_status(channel):
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/test.Echo/Unary")("fail:9:100% café\n".encode(), timeout=10)
    assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert e.value.details() == "100% café\n"


def test_unknown_method(channel):
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/test.Echo/Nope")(b"", timeout=10)
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert e.value.details() == "unknown method Nope for service test.Echo"


def test_large(channel):
    data = os.urandom(BIG)
    assert channel.unary_unary("/test.Echo/Unary")(data, timeout=60) == data


def test_too_large(channel):
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/test.Echo/Small")(bytes(101), timeout=10)
    assert e.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_compressed(channel):
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/test.Echo/Unary")(bytes(10000), timeout=10, compression=grpc.Compression.Gzip)
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_download(channel):
    got = list(channel.unary_stream("/test.Echo/Download")(b"2000 1000", timeout=30))
    assert [struct.unpack(">I", m[:4])[0] for m in got] == list(range(2000))


def test_slow_reader(channel):
    """20 MB to a reader that sleeps; another call of the same connection is not held up."""
    call = channel.unary_stream("/test.Echo/Download")(b"200 100000", timeout=60)
    n = 0
    for m in call:
        assert struct.unpack(">I", m[:4])[0] == n
        n += 1
        if n % 40 == 0:
            time.sleep(0.2)
            began = time.monotonic()
            assert channel.unary_unary("/test.Echo/Unary")(b"x", timeout=10) == b"x"
            assert time.monotonic() - began < 2
    assert n == 200


def test_upload(channel):
    assert channel.stream_unary("/test.Echo/Upload")(iter([bytes(1000)] * 3000), timeout=30) == b"3000 3000000"


def test_upload_refused_early(channel):
    def forever():
        yield b"fail:7:enough"
        while True:
            yield bytes(10000)
    with pytest.raises(grpc.RpcError) as e:
        channel.stream_unary("/test.Echo/Upload")(forever(), timeout=20)
    assert e.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_chat(channel):
    sent = [os.urandom(n) for n in (0, 1, 5, 1000, 70000, 300000)] * 20
    assert list(channel.stream_stream("/test.Echo/Chat")(iter(sent), timeout=30)) == sent


def test_early_headers(channel):
    call = channel.stream_stream("/test.Echo/Hang")(iter(()), timeout=10)
    began = time.monotonic()
    assert dict(call.initial_metadata())["x-hang"] == "1"
    assert time.monotonic() - began < 2
    call.cancel()


def test_deadline(channel):
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as e:
        list(channel.stream_stream("/test.Echo/Hang")(iter(()), timeout=0.5))
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.3 < time.monotonic() - began < 3


def test_cancel(channel):
    for _ in range(600):  # more than may be open at a time: each must really end
        call = channel.stream_stream("/test.Echo/Hang")(iter(()), timeout=30)
        call.initial_metadata()
        call.cancel()
    assert channel.unary_unary("/test.Echo/Unary")(b"alive", timeout=10) == b"alive"


def test_many_at_once(channel):
    calls = [channel.unary_unary("/test.Echo/Unary").future(str(i).encode(), timeout=60) for i in range(1000)]
    assert [c.result() for c in calls] == [str(i).encode() for i in range(1000)]


def test_many_threads(channel):
    def work(k):
        m = bytes([k]) * 50000
        return all(channel.unary_unary("/test.Echo/Unary")(m, timeout=60) == m for _ in range(20))
    with futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_wrong_name(cert):
    """A client that wants another name than the certificate's is not let in silently."""
    server = subprocess.Popen([OURS, "serve", "0", *cert], stdout=subprocess.PIPE, text=True)
    port = server.stdout.readline().split()[1]
    ch = grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(cert[0].read_bytes()),
                             options=[("grpc.ssl_target_name_override", "other.example")])
    with pytest.raises(grpc.RpcError) as e:
        ch.unary_unary("/test.Echo/Unary")(b"", timeout=3)
    assert e.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    ch.close()
    server.kill()
    server.wait()


# --- our client, grpcio's server ---

class Echo(grpc.GenericRpcHandler):
    def __init__(self):
        self.cancelled = threading.Event()

    def service(self, details):
        return {
            "/test.Echo/Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "/test.Echo/Download": grpc.unary_stream_rpc_method_handler(self.download),
            "/test.Echo/Upload": grpc.stream_unary_rpc_method_handler(self.upload),
            "/test.Echo/Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "/test.Echo/Hang": grpc.stream_stream_rpc_method_handler(self.hang),
        }.get(details.method)

    def unary(self, request, context):
        meta = dict(context.invocation_metadata())
        if "x-ask" in meta:
            context.send_initial_metadata([("x-seen", meta["x-ask"])])
            context.set_trailing_metadata([("x-seen-bin", meta["x-ask-bin"])])
        if request.startswith(b"fail:"):
            _, code, text = request.decode().split(":", 2)
            context.abort({c.value[0]: c for c in grpc.StatusCode}[int(code)], text)
        return request

    def download(self, request, context):
        count, size = map(int, request.split())
        for i in range(count):
            yield struct.pack(">I", i) + bytes(size - 4)

    def upload(self, requests, context):
        sizes = []
        for m in requests:
            sizes.append(len(m))
            if len(sizes) % 100 == 0:
                time.sleep(0.01)  # a slow reader
        return f"{len(sizes)} {sum(sizes)}".encode()

    def chat(self, requests, context):
        yield from requests

    def hang(self, requests, context):
        context.add_callback(self.cancelled.set)
        context.send_initial_metadata([("x-hang", "1")])
        while context.is_active():
            time.sleep(0.02)
        return
        yield


@pytest.fixture(scope="module", params=["plain", "tls"])
def call_us(request, cert):
    """A function that runs our client against a grpcio server; returns its lines."""
    echo = Echo()
    server = grpc.server(futures.ThreadPoolExecutor(8), options=LIMITS)
    server.add_generic_rpc_handlers((echo,))
    if request.param == "tls":
        creds = grpc.ssl_server_credentials([(cert[1].read_bytes(), cert[0].read_bytes())])
        port = server.add_secure_port("127.0.0.1:0", creds)
        where = [str(port), "--ca", str(cert[0])]
    else:
        port = server.add_insecure_port("127.0.0.1:0")
        where = [str(port)]
    server.start()

    def run(*what, timeout=60):
        out = subprocess.run([OURS, "call", *where, *what], capture_output=True, text=True, timeout=timeout)
        assert out.returncode == 0, out.stderr
        return out.stdout.splitlines()
    run.echo = echo
    run.tls = request.param == "tls"
    yield run
    server.stop(None)


def test_our_unary(call_us):
    lines = call_us("unary:hello", "unary:", "unary:fail:5:not café")
    assert lines[0].startswith("unary status=0 messages=1 bytes=5 ") and "text=hello" in lines[0]
    assert lines[1].startswith("unary status=0 messages=1 bytes=0 ")
    assert lines[2].startswith("unary status=5 messages=0 ") and lines[2].endswith("| not café")
    if call_us.tls:
        assert lines[-1] == "alpn=h2"


def test_our_metadata(call_us):
    assert " seen=what trail=0141 " in call_us("meta:what:\x01A")[0]


def test_our_unknown_method(call_us):
    assert re.match(r"path status=12 .*Method not found", call_us("path:/test.Echo/Nope")[0])


def test_our_large(call_us):
    assert call_us(f"big:{BIG}")[0].startswith(f"big status=0 messages=1 bytes={BIG} ")


def test_our_download(call_us):
    lines = call_us("download:2000:1000", "download:1000:20000:slow")
    assert lines[0].startswith("download status=0 messages=2000 bytes=2000000 broken=0 ")
    assert lines[1].startswith("download status=0 messages=1000 bytes=20000000 broken=0 ")


def test_our_upload(call_us):
    assert "text=2000 20000000 |" in call_us("upload:2000:10000")[0]


def test_our_chat(call_us):
    assert call_us("chat:500")[0].startswith("chat status=0 messages=500 bytes=2000 broken=0 ")


def test_our_deadline(call_us):
    began = time.monotonic()
    assert call_us("hang:500")[0].startswith("hang status=4 messages=0 ")
    assert 0.4 < time.monotonic() - began < 5


def test_our_cancel(call_us):
    call_us.echo.cancelled.clear()
    assert call_us("cancel", "unary:after")[1].startswith("unary status=0 ")
    assert call_us.echo.cancelled.wait(5)


def test_our_many(call_us):
    assert call_us("many:1000")[0].startswith("many status=0 messages=1000 bytes=4000 ")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", os.urandom(100)])
def test_our_refusals(answer):
    """The other side closes, speaks HTTP/1, or noise: the call ends as unavailable, at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def once():
            conn, _ = listener.accept()
            conn.recv(1000)
            conn.sendall(answer)
            time.sleep(0.2)
            conn.close()
        threading.Thread(target=once, daemon=True).start()
        out = subprocess.run([OURS, "call", str(listener.getsockname()[1]), "unary:x"], capture_output=True,
                             text=True, timeout=10)
    assert out.stdout.startswith("unary status=14 messages=0 ")
