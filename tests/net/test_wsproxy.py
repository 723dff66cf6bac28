"""gRPC inside WebSocket messages, as clients in browsers do it, at netbird-signal and netbird-server: python websockets
carries what python h2 makes, in messages cut anywhere."""
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from test_signal import CONNECT, ID, MARKER, SEND, Peer, Server, envelope, free_port, send

NESTBOX = Path(__file__).parent / "../../out/nestbox"
GET_SERVER_KEY = "/management.ManagementService/GetServerKey"


class Tunnel:
    """An HTTP/2 client over a WebSocket; cut: bytes per message."""

    def __init__(self, port, path, cut=1 << 20):
        self.ws = connect(f"ws://127.0.0.1:{port}{path}", origin="https://anywhere.example", compression=None,
                          max_size=1 << 20)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.cut, self.largest = cut, 0
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        data = self.h2.data_to_send()
        for i in range(0, len(data), self.cut):
            self.ws.send(data[i:i + self.cut])

    def start(self, path, message=None, headers=()):
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", path),
                                      ("content-type", "application/grpc"), ("te", "trailers"), *headers])
        if message is not None:
            self.h2.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)
        self.flush()
        return stream

    def events(self, timeout=5):
        while True:
            data = self.ws.recv(timeout=timeout)
            assert isinstance(data, bytes)
            self.largest = max(self.largest, len(data))
            events = self.h2.receive_data(data)
            for e in events:
                if isinstance(e, h2.events.DataReceived):
                    self.h2.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
            self.flush()
            yield from events

    def answer(self, stream):
        """Status and messages of a call that ends."""
        body = b""
        for e in self.events():
            if getattr(e, "stream_id", None) != stream:
                continue
            if isinstance(e, h2.events.DataReceived):
                body += e.data
            if isinstance(e, (h2.events.TrailersReceived, h2.events.ResponseReceived)):
                status = dict(e.headers).get("grpc-status")
                if status is not None:
                    return status, body
        raise AssertionError("the connection ended")

    def message(self, stream):
        """The next message of a stream."""
        body = b""
        for e in self.events():
            if isinstance(e, h2.events.DataReceived) and e.stream_id == stream:
                body += e.data
                if len(body) >= 5 and len(body) == 5 + int.from_bytes(body[1:5], "big"):
                    return body[5:]
        raise AssertionError("the connection ended")

    def headers(self, stream):
        return next(dict(e.headers) for e in self.events() if isinstance(e, h2.events.ResponseReceived) and e.stream_id == stream)


@pytest.fixture(scope="module")
def server():
    s = Server()
    yield s
    assert s.stop() == 0


@pytest.mark.parametrize("cut", [1 << 20, 1, 7])
def test_signal(server, cut):
    """A browser's client and a native one talk through signal."""
    native, tunnel = Peer(server, f"native{cut}"), Tunnel(server.port, "/ws-proxy/signal", cut)
    stream = tunnel.start(CONNECT, headers=[(ID, f"browser{cut}")])
    assert tunnel.headers(stream)[MARKER] == "1"
    send(native.channel, envelope(f"native{cut}", f"browser{cut}", b"hello"))
    assert tunnel.message(stream) == envelope(f"native{cut}", f"browser{cut}", b"hello")
    call = tunnel.start(SEND, envelope(f"browser{cut}", f"native{cut}", b"back"))
    assert tunnel.answer(call)[0] == "0"
    assert native.get() == envelope(f"browser{cut}", f"native{cut}", b"back")
    native.close()
    tunnel.ws.close()


def test_a_client_that_goes_is_forgotten(server):
    tunnel = Tunnel(server.port, "/ws-proxy/signal")
    stream = tunnel.start(CONNECT, headers=[(ID, "goner")])
    assert tunnel.headers(stream)[MARKER] == "1"
    before = server.metric("active_peers")
    tunnel.ws.socket.close()
    for _ in range(100):
        if server.metric("active_peers") == before - 1:
            return
        time.sleep(0.05)
    raise AssertionError("still there")


def test_much_data_in_small_messages(server):
    """Messages near the limit, many of them: frames stay at 32 KiB or less, all of it arrives in order."""
    native, tunnel = Peer(server, "bulk"), Tunnel(server.port, "/ws-proxy/signal")
    stream = tunnel.start(CONNECT, headers=[(ID, "bulkbrowser")])
    tunnel.headers(stream)
    for i in range(60):
        body = bytes([i]) * 30000
        send(native.channel, envelope("bulk", "bulkbrowser", body))
        assert tunnel.message(stream) == envelope("bulk", "bulkbrowser", body)
    assert tunnel.largest <= 32768
    native.close()
    tunnel.ws.close()


def test_text_is_dropped(server):
    tunnel = Tunnel(server.port, "/ws-proxy/signal")
    tunnel.ws.send("not for HTTP/2")
    call = tunnel.start(SEND, envelope("x", "y"))
    assert tunnel.answer(call)[0] == "0"
    tunnel.ws.close()


def test_garbage_ends_it(server):
    ws = connect(f"ws://127.0.0.1:{server.port}/ws-proxy/signal", compression=None)
    ws.send(os.urandom(400))
    with pytest.raises(ConnectionClosed):
        for _ in range(10):
            ws.recv(timeout=5)


def test_silence_ends_it(server):
    """Somebody who never sends HTTP/2 does not hold a connection."""
    ws = connect(f"ws://127.0.0.1:{server.port}/ws-proxy/signal", compression=None)
    began = time.monotonic()
    with pytest.raises(ConnectionClosed):
        for _ in range(10):
            ws.recv(timeout=20)
    assert 8 < time.monotonic() - began < 15


def test_other_paths(server):
    for path in ("/ws-proxy/management", "/ws-proxy/", "/ws-proxy/signal/x", "/relay"):
        with pytest.raises(InvalidStatus):
            connect(f"ws://127.0.0.1:{server.port}{path}", compression=None)


def test_too_many_of_one_source(server):
    held = []
    with pytest.raises(InvalidStatus) as refused:
        for _ in range(70):
            held.append(connect(f"ws://127.0.0.1:{server.port}/ws-proxy/signal", compression=None))
    assert refused.value.response.status_code == 503 and len(held) == 64
    for ws in held:
        ws.socket.close()


def test_combined_server(tmp_path):
    port, metrics = free_port(), free_port()
    p = subprocess.Popen([NESTBOX, "server", "--metrics-port", str(metrics), "--data-dir", tmp_path / "data", "--listen", f"127.0.0.1:{port}", "--external-url",
                          f"http://127.0.0.1:{port}", "--turn-listen", f"127.0.0.1:{free_port()}"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        tunnel = Tunnel(port, "/ws-proxy/management", cut=5)
        status, body = tunnel.answer(tunnel.start(GET_SERVER_KEY, b""))
        assert status == "0" and len(body) > 40
        other = Tunnel(port, "/ws-proxy/signal")
        stream = other.start(CONNECT, headers=[(ID, "both")])
        assert other.headers(stream)[MARKER] == "1"
        page = urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=5).read().decode()
        for line in ("signal_active_peers 1", 'relay_peers{transport="ws"} 0', "turn_allocations 0"):
            assert line in page.splitlines()
        # its end is announced: GOAWAY without an error (h2 itself refuses what may still follow one)
        p.send_signal(signal.SIGTERM)
        rest = b""
        with pytest.raises(ConnectionClosed):
            while True:
                rest += other.ws.recv(timeout=5)
        assert re.search(rb"\x00\x00.\x07\x00\x00\x00\x00\x00....\x00\x00\x00\x00", rest, re.S)
        assert p.wait(5) == 0
    finally:
        p.kill()
        p.wait()
