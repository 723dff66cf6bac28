"""The listener (echo_server.c): one port for TLS, HTTP/2 and HTTP/1.1, against curl, openssl and raw sockets:
what each client gets, garbage, limits, slow clients, certificate reload, graceful stop."""
import os
import platform
import shutil
import signal
import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import websockets.sync.client as websockets
from websockets.exceptions import ConnectionClosed

HERE = Path(__file__).parent
SERVER = HERE / "../../out" / os.environ.get("NB_TARGET", platform.machine()) / "test/net/echo_server"
CERTS = HERE / "../vectors/tls"
CA = str(CERTS / "ca.pem")


class Server:
    def __init__(self, tmp, *args):
        self.log = tmp / "server.log"
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen([SERVER, *map(str, args)], stdout=subprocess.PIPE, stderr=log, text=True)
        self.port = int(self.process.stdout.readline().split()[1])

    def stop(self, sig=signal.SIGTERM):
        """What it still printed, and its exit status."""
        self.process.send_signal(sig)
        out, _ = self.process.communicate(timeout=10)
        return out, self.process.returncode

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=15)
        return s

    def tls(self, **settings):
        context = ssl.create_default_context(cafile=CA)
        for name, value in settings.items():
            getattr(context, name)(value) if callable(getattr(context, name)) else setattr(context, name, value)
        return context.wrap_socket(self.connect(), server_hostname="localhost")


@pytest.fixture
def start(tmp_path):
    servers = []

    def run(*args):
        servers.append(Server(tmp_path, *args))
        return servers[-1]
    yield run
    for server in servers:
        if server.process.poll() is None:
            out, status = server.stop()
            assert "drained" in out and status == 0, (out, status, server.log.read_text())


@pytest.fixture
def plain(start):
    return start()


@pytest.fixture
def tls(start):
    return start("--cert", CERTS / "ec.pem", "--key", CERTS / "ec.key")


def curl(*args, check=True):
    done = subprocess.run(["curl", "-sS", "-m", "20", *args], capture_output=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def ways(plain, tls):
    """curl options and URL for each way in, with the HTTP version expected."""
    return [
        (["--http1.1"], f"http://127.0.0.1:{plain.port}", "1.1"),
        (["--http1.0"], f"http://127.0.0.1:{plain.port}", "1.1"),
        (["--http2"], f"http://127.0.0.1:{plain.port}", "1.1"),  # the offered upgrade is declined
        (["--http2-prior-knowledge"], f"http://127.0.0.1:{plain.port}", "2"),
        (["--cacert", CA], f"https://localhost:{tls.port}", "2"),
        (["--cacert", CA, "--http1.1"], f"https://localhost:{tls.port}", "1.1"),
        (["--cacert", CA, "--no-alpn"], f"https://localhost:{tls.port}", "1.1"),
    ]


def test_every_way_in(plain, tls, tmp_path):
    data = os.urandom(700_000)
    (tmp_path / "data").write_bytes(data)
    for options, url, version in ways(plain, tls):
        out = curl(*options, f"{url}/whoami", "-w", "%{http_version}").decode().split()
        scheme = "tls" if url.startswith("https") else "clear"
        assert out == ["127.0.0.1", scheme, url.split("//")[1], version], (options, out)
        assert curl(*options, "--data-binary", f"@{tmp_path}/data", f"{url}/echo") == data, options
        assert len(curl(*options, f"{url}/big?n=5000000")) == 5_000_000
        assert curl(*options, f"{url}/later?ms=30") == b"later\n"
        # the same connection again, and errors
        get = ["-o", "/dev/null", f"{url}/hello", "-o", "/dev/null", f"{url}/nowhere"]
        # curl 7.88 cannot use a prior-knowledge connection twice
        if "--http2-prior-knowledge" not in options:
            assert curl(*options, "-w", "%{http_code} ", *get) == b"200 404 ", options
        assert curl(*options, "-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT", f"{url}/hello") == b"405", options


def test_too_large(plain, tls, tmp_path):
    (tmp_path / "big").write_bytes(bytes(1_500_000))
    for options, url, version in ways(plain, tls):
        code = curl(*options, "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", f"@{tmp_path}/big",
                    f"{url}/echo", check=False)
        # curl 7.88 loses an HTTP/2 answer that comes while it still sends
        assert code == b"413" or (version == "2" and code == b"000"), (options, code)
        assert curl(*options, f"{url}/hello") == b"hello\n"


def test_cors(plain):
    head = curl("-i", "-X", "OPTIONS", "-H", "Origin: https://a", "-H", "Access-Control-Request-Method: PUT", "-H",
                "Access-Control-Request-Headers: x-one", f"http://127.0.0.1:{plain.port}/echo").decode().lower()
    assert " 204 " in head and "access-control-allow-headers: x-one" in head


def test_many_streams(plain, tls):
    urls = [f"https://localhost:{tls.port}/later?ms={50 + i % 7}" for i in range(60)]
    start = time.monotonic()
    out = curl("--cacert", CA, "--parallel", "--parallel-max", "60", *urls)
    assert out == b"later\n" * 60
    assert time.monotonic() - start < 3


def answer(server, data, close=False):
    """Everything the server says to these bytes before it closes."""
    with server.connect() as s:
        s.sendall(data)
        if close:
            s.shutdown(socket.SHUT_WR)
        out = b""
        try:
            while chunk := s.recv(65536):
                out += chunk
        except ConnectionResetError:
            pass
        return out


GARBAGE = [
    b"\x00" * 100, b"\xff" * 5000, b"\r\n" * 3000, b"SSH-2.0-OpenSSH_9.2\r\n", b"GET\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64, b"PRI * HTTP/2.0\r\n\r\nXX", b"\x16\x03\x01" + b"\x55" * 3000,
    b"\x16\x03\x01\x00\x05hello", b"GET / HTTP/1.1\r\nX:\rTransfer-Encoding: chunked\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 300 + b"\r\n", b"A" * 20000,
]


@pytest.mark.parametrize("cleartext_too", [False, True])
def test_garbage(start, plain, cleartext_too):
    args = ["--cert", CERTS / "ec.pem", "--key", CERTS / "ec.key"] + ["--cleartext-too"] * cleartext_too
    for server in (plain, start(*args)):
        with ThreadPoolExecutor(len(GARBAGE)) as pool:
            answers = list(pool.map(lambda data, server=server: answer(server, data, close=True), GARBAGE))
        for data, out in zip(GARBAGE, answers):
            assert b"200 OK" not in out, (data[:30], out[:60])
        assert server.process.poll() is None
    assert curl(f"http://127.0.0.1:{plain.port}/hello") == b"hello\n"


def test_cleartext_on_a_tls_port(tls, start):
    out = curl("-w", "%{http_code}", f"http://127.0.0.1:{tls.port}/hello")
    assert out == b"this port speaks TLS: use https://\n400"
    assert curl("--http2-prior-knowledge", f"http://127.0.0.1:{tls.port}/hello", check=False) == b""
    both = start("--cert", CERTS / "ec.pem", "--key", CERTS / "ec.key", "--cleartext-too")
    assert curl(f"http://127.0.0.1:{both.port}/hello") == b"hello\n"
    assert curl("--http2-prior-knowledge", f"http://127.0.0.1:{both.port}/hello") == b"hello\n"
    assert curl("--cacert", CA, f"https://localhost:{both.port}/hello") == b"hello\n"


def test_tls_clients(tls, tmp_path):
    """Versions and suites of OpenSSL; TLS 1.3 alone is refused, everything else of 1.2 we have works."""
    with pytest.raises(ssl.SSLError):
        tls.tls(minimum_version=ssl.TLSVersion.TLSv1_3)
    for suite in ("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"):
        with tls.tls(set_ciphers=suite, maximum_version=ssl.TLSVersion.TLSv1_2) as s:
            s.sendall(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"hello" in s.recv(4096)
            assert s.cipher()[0] == suite
    with pytest.raises(ssl.SSLError):
        tls.tls(set_ciphers="ECDHE-ECDSA-AES128-SHA", maximum_version=ssl.TLSVersion.TLSv1_2)
    assert curl("--cacert", CA, f"https://localhost:{tls.port}/hello") == b"hello\n"


def test_pipelining_and_cuts(plain):
    request = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
    with plain.connect() as s:
        s.sendall(request * 500)
        out = b""
        while out.count(b"HTTP/1.1 200 OK") < 500 or not out.endswith(b"body"):
            out += s.recv(65536)
        assert out.count(b"body") == 500
        for i in range(len(request)):
            s.sendall(request[i:i + 1])
        out = b""
        while not out.endswith(b"body"):
            out += s.recv(65536)


def test_upgrade(plain, tls):
    request = (b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
    for s in (plain.connect(), tls.tls()):
        with s:
            s.sendall(request % b"/raw")
            out = b""
            while not out.endswith(b"early"):
                out += s.recv(4096)
            assert out.startswith(b"HTTP/1.1 101 ")
            data, got = os.urandom(300_000), b""
            for i in range(0, len(data), 10000):
                s.sendall(data[i:i + 10000])
                while len(got) < i + 10000:
                    got += s.recv(65536)
            assert got == data
    with plain.connect() as s:
        s.sendall(request % b"/other")
        assert b"HTTP/1.1 404 " in s.recv(4096)


def test_websocket(plain, tls):
    """Against the `websockets` package: sizes, fragments, pings, closing from either side, text refused."""
    context = ssl.create_default_context(cafile=CA)
    for url, settings in ((f"ws://127.0.0.1:{plain.port}/ws", {}), (f"wss://localhost:{tls.port}/ws", {"ssl": context})):
        with websockets.connect(url, compression=None, max_size=None, **settings) as ws:
            for size in (0, 1, 125, 126, 65535, 65536, 1 << 20):
                data = os.urandom(size)
                ws.send(data)
                assert ws.recv(timeout=10) == data
            ws.send([b"in ", b"three ", b"parts"])
            assert ws.recv(timeout=10) == b"in three parts"
            assert ws.ping(b"x").wait(5)
        assert ws.close_code == 1000
        with websockets.connect(url, compression=None, **settings) as ws:
            ws.send("text")
            with pytest.raises(ConnectionClosed):
                ws.recv(timeout=10)
            assert ws.close_code == 1003
        with websockets.connect(url, compression=None, max_size=None, **settings) as ws:
            ws.send(bytes((1 << 20) + 1))
            with pytest.raises(ConnectionClosed):
                ws.recv(timeout=10)
            assert ws.close_code == 1009
    out, _ = plain.stop()
    assert out.count('ws closed ""') == 3


def test_client_leaves_before_the_answer(plain):
    with plain.connect() as s:
        s.sendall(b"GET /later?ms=300 HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    subprocess.run(["curl", "-sS", "-m", "0.1", "--http2-prior-knowledge", f"http://127.0.0.1:{plain.port}/later?ms=300"],
                   capture_output=True, check=False)
    time.sleep(0.5)
    assert curl(f"http://127.0.0.1:{plain.port}/hello") == b"hello\n"


def test_slow_clients_are_cut(plain, tls):
    """No first byte, half a head, half a TLS handshake: each is closed after ten seconds, and nobody waits for them."""
    cases = [(plain, b""), (plain, b"GET / HTTP/1.1\r\nHos"), (plain, b"PRI * HT"), (tls, b""), (tls, b"\x16\x03\x01\x01"),
             (plain, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")]

    def lifetime(case):
        start = time.monotonic()
        answer(*case)
        return time.monotonic() - start
    with ThreadPoolExecutor(len(cases)) as pool:
        running = pool.map(lifetime, cases)
        assert curl(f"http://127.0.0.1:{plain.port}/hello") == b"hello\n"
        for case, seconds in zip(cases, running):
            assert 8 < seconds < 14, (case, seconds)


def test_slow_reader(plain):
    """A client that asks for much and reads nothing costs no more than its answer, and others go on."""
    with plain.connect() as s:
        s.sendall(b"GET /big?n=2000000 HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        time.sleep(0.3)
        assert curl(f"http://127.0.0.1:{plain.port}/hello") == b"hello\n"
        status = Path(f"/proc/{plain.process.pid}/status").read_text()
        rss_kb = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
        assert rss_kb < 20_000
        # and when it does read, everything is there
        got = 0
        while got < 2_000_000 * 3:
            got += len(s.recv(1 << 20))


def test_connection_limit(start):
    server = start("--max-conns", 5)
    held = [server.connect() for _ in range(5)]
    for s in held:
        s.sendall(b"G")
    time.sleep(0.1)
    with server.connect() as s:
        s.settimeout(5)
        try:
            assert s.recv(10) == b""
        except ConnectionResetError:
            pass
    held.pop().close()
    time.sleep(0.1)
    assert curl(f"http://127.0.0.1:{server.port}/hello") == b"hello\n"
    for s in held:
        s.close()


def served_certificate(server):
    return ssl.get_server_certificate(("127.0.0.1", server.port))


def test_certificate_reload(start, tmp_path):
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    shutil.copy(CERTS / "expired.pem", cert)
    shutil.copy(CERTS / "ec.key", key)
    server = start("--cert", cert, "--key", key)
    first = served_certificate(server)
    # A long connection lives on with the old one.
    context = ssl._create_unverified_context()
    old = context.wrap_socket(server.connect())
    shutil.copy(CERTS / "ec.pem", cert)
    server.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    second = served_certificate(server)
    assert first != second
    assert curl("--cacert", CA, f"https://localhost:{server.port}/hello") == b"hello\n"
    old.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"hello" in old.recv(4096)
    old.close()
    # A broken file: the good one stays in use.
    cert.write_text("rubbish")
    server.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert served_certificate(server) == second
    assert "the old one stays" in server.log.read_text()
    # Without a signal: noticed within ten seconds or so.
    shutil.copy(CERTS / "expired.pem", cert)
    end = time.monotonic() + 13
    while served_certificate(server) == second and time.monotonic() < end:
        time.sleep(0.5)
    assert served_certificate(server) == first


def test_graceful_stop(tls, plain):
    """Requests that run are answered, idle connections end, new ones are refused."""
    with ThreadPoolExecutor(4) as pool:
        url = f"https://localhost:{tls.port}/later?ms=700"
        running = [pool.submit(curl, "--cacert", CA, url), pool.submit(curl, "--cacert", CA, "--http1.1", url)]
        idle = tls.tls()
        idle.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"hello" in idle.recv(4096)
        time.sleep(0.3)
        begin = time.monotonic()
        tls.process.send_signal(signal.SIGTERM)
        assert idle.recv(100) == b""
        with pytest.raises(OSError):
            tls.connect()
        assert [r.result() for r in running] == [b"later\n"] * 2
        idle.close()
        out, _ = tls.process.communicate(timeout=10)
        assert "drained" in out and time.monotonic() - begin < 4
    # One that does not end in time is cut after the grace of two seconds.
    s = plain.connect()
    s.sendall(b"GET /later?ms=60000 HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.2)
    begin = time.monotonic()
    out, status = plain.stop()
    assert "gone" in out and "drained" in out and status == 0
    assert 1.5 < time.monotonic() - begin < 5
    s.close()
