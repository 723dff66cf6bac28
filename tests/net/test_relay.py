"""The NetBird relay protocol on real connections: the relay program against an independent WebSocket library, and whole
agents whose direct path is blocked."""
import asyncio
import hashlib
import hmac
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import websockets

from lab import NESTBOX, ROOT, SERVER_IP, URL, Lab, wait_for

VECTORS = ROOT / "tests" / "vectors" / "relay"
CERTS = ROOT / "tests" / "vectors" / "tls"
SECRET = "lab-secret"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Relay:
    def __init__(self, *more, secret=SECRET, scheme="rel"):
        self.port = free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.ws = f"{'wss' if scheme == 'rels' else 'ws'}://127.0.0.1:{self.port}/relay"
        self.p = subprocess.Popen([NESTBOX, "relay", "--listen-address", f"127.0.0.1:{self.port}", "--exposed-address", self.url,
                                   "--auth-secret", secret, *more], stderr=subprocess.PIPE)
        wait_for(self.listens)

    def listens(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, sig=signal.SIGTERM):
        if self.p.poll() is None:
            self.p.send_signal(sig)
        self.p.wait(5)
        self.p.stderr.close()


@pytest.fixture
def relay():
    r = Relay()
    yield r
    r.stop()


def peer_id(n):
    return b"sha-" + bytes([n]) * 32


def token(secret=SECRET, expiry=None):
    payload = str(int(time.time()) + 60 if expiry is None else expiry).encode()
    return b"\x01" + hmac.new(hashlib.sha256(secret.encode()).digest(), payload, hashlib.sha256).digest() + payload


def auth(n, tok=None):
    return b"\x01\x06\x21\x12\xa4\x42" + peer_id(n) + (token() if tok is None else tok)


def transport(n, payload):
    return b"\x01\x03" + peer_id(n) + payload


async def connect(relay, **kw):
    return await websockets.connect(relay.ws, compression=None, ping_interval=None, max_size=None, **kw)


async def join(relay, n):
    ws = await connect(relay)
    await ws.send(auth(n))
    assert await ws.recv() == b"\x01\x07" + relay.url.encode()
    return ws


async def closes(ws, within=2):
    """Nothing more is said, the connection ends."""
    with pytest.raises(websockets.ConnectionClosed):
        await asyncio.wait_for(ws.recv(), within)


def test_transport_and_presence(relay):
    async def main():
        a, b = await join(relay, 1), await join(relay, 2)
        await a.send(b"\x01\x08" + peer_id(2) + peer_id(3))
        assert await a.recv() == b"\x01\x0a" + peer_id(2)
        await a.send(transport(2, b"hello"))
        assert await b.recv() == transport(1, b"hello")
        await b.send(transport(1, b"x" * (8820 - 38)))
        assert await a.recv() == transport(2, b"x" * (8820 - 38))
        await a.send(transport(9, b"to nobody"))
        c = await join(relay, 3)
        assert await a.recv() == b"\x01\x0a" + peer_id(3)
        c.transport.abort()
        assert await a.recv() == b"\x01\x0b" + peer_id(3)
        # the newest connection of an id is the one
        b2 = await join(relay, 2)
        await closes(b)
        assert await a.recv() == b"\x01\x0a" + peer_id(2)
        await a.send(transport(2, b"again"))
        assert await b2.recv() == transport(1, b"again")
        await a.send(b"\x01\x04")
        await closes(a)

    asyncio.run(main())


def recorded_upgrade(name):
    return json.loads((VECTORS / f"{name}.json").read_text())["upgrade"]


@pytest.mark.parametrize("name", ["client-a", "peer-a"])
def test_recorded_upgrade(relay, name):
    """The recorded request is answered as recorded, but for the date; frames may come in the same packet."""
    want = recorded_upgrade(name)
    with socket.create_connection(("127.0.0.1", relay.port)) as s:
        frame = auth(7)
        s.sendall(want["request"].encode() + bytes([0x82, 0x80 | len(frame)]) + bytes(4) + frame)
        got = b""
        while relay.url.encode() not in got:
            part = s.recv(4096)
            assert part
            got += part
    head, _, rest = got.partition(b"\r\n\r\n")
    lines = {line.lower() for line in head.decode().split("\r\n")}
    for line in want["response"].split("\r\n"):
        if line and not line.lower().startswith("date:"):
            assert line.lower() in lines
    answer = b"\x01\x07" + relay.url.encode()
    assert rest == bytes([0x82, len(answer)]) + answer


@pytest.mark.parametrize("request_line, status", [("GET /relay", 426), ("GET /other", 404), ("POST /relay", 404)])
def test_other_requests(relay, request_line, status):
    with socket.create_connection(("127.0.0.1", relay.port)) as s:
        s.sendall(f"{request_line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        code = int(s.recv(100).split()[1])
        assert code == status or (status == 426 and code == 404)


def test_refused_handshakes(relay):
    async def main():
        bad = {"expired": auth(1, token(expiry=int(time.time()) - 1)), "other secret": auth(1, token("x")),
               "no token": auth(1, b""), "not auth": b"\x01\x05", "empty": b"", "garbage": os.urandom(100),
               "too long": auth(1) + b"0" * 200, "version": b"\x02" + auth(1)[1:], "text": auth(1).decode("latin-1")}
        for what, message in bad.items():
            ws = await connect(relay)
            await ws.send(message)
            try:
                got = await asyncio.wait_for(ws.recv(), 2)
                raise AssertionError(f"{what}: answered {got!r}")
            except websockets.ConnectionClosed:
                pass
        # and silence ends, too: at the latest after ten seconds
        ws = await connect(relay)
        began = time.monotonic()
        await closes(ws, 13)
        assert 9 < time.monotonic() - began < 12

    asyncio.run(main())


def test_refusals_recorded():
    """The handshakes stock's relay refuses, with the secret of the recordings."""
    secret = json.loads((ROOT / "tests/vectors/keys.json").read_text())["relay_secret"]
    relay = Relay(secret=secret)

    async def main():
        cases = json.loads((VECTORS / "refused.json").read_text())["cases"]
        assert len(cases) == 10
        for case in cases:
            f = case["frames"][0]
            ws = await connect(relay)
            data = bytes.fromhex(f["hex"])
            await ws.send(data if f["opcode"] == 2 else data.decode("latin-1"))
            await closes(ws)

    asyncio.run(main())
    relay.stop()


def mask(frame, opcode=2, fin=True, length=None):
    n = len(frame) if length is None else length
    head = bytes([(0x80 if fin else 0) | opcode])
    head += bytes([0x80 | n]) if n < 126 else bytes([0x80 | 126]) + struct.pack(">H", n) if n < 65536 else \
        bytes([0x80 | 127]) + struct.pack(">Q", n)
    return head + bytes(4) + frame


class Raw:
    """An upgraded connection, byte by byte."""

    def __init__(self, relay, n=None):
        self.s = socket.create_connection(("127.0.0.1", relay.port), 5)
        self.s.sendall(recorded_upgrade("peer-a")["request"].encode())
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            got += self.s.recv(1)
        if n is not None:
            self.s.sendall(mask(auth(n)))
            assert self.s.recv(100)[2:].startswith(b"\x01\x07")

    def ends(self):
        """True when the relay hangs up within four seconds (two are for the closing handshake); a close frame may come first."""
        self.s.settimeout(4)
        try:
            while True:
                if not self.s.recv(65536):
                    return True
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        finally:
            self.s.close()


def test_frames(relay):
    for bad in (mask(b"x" * 9000),                              # larger than any message
                mask(b"", length=1 << 40),                      # a promise of a terabyte
                mask(b"\x01\x03", opcode=1),                    # text
                bytes([0x82, 2, 1, 5]),                         # not masked
                bytes([0xC2, 0x82]) + bytes(4) + b"\x01\x05",   # reserved bits
                mask(b"\x01\x05", opcode=3),                    # unknown opcode
                mask(b"\x01\x05", opcode=0),                    # continues nothing
                mask(b"\x01", fin=False) + mask(b"\x05"),       # a message within a message
                mask(b"p" * 126, opcode=9),                     # a ping too long
                mask(b"")):                                     # no message at all
        r = Raw(relay, 1)
        r.s.sendall(bad)
        assert r.ends(), bad[:20]
    # fragments are put together, pings answered in between; the limit holds for the sum
    r = Raw(relay, 1)
    whole = transport(1, b"to myself")
    r.s.sendall(mask(whole[:5], fin=False) + mask(b"ping", opcode=9) + mask(whole[5:20], opcode=0, fin=False) +
                mask(whole[20:], opcode=0))
    want = bytes([0x8A, 4]) + b"ping" + bytes([0x82, len(whole)]) + whole
    got = b""
    while len(got) < len(want):
        got += r.s.recv(1000)
    assert got == want
    r.s.sendall(mask(b"x" * 5000, fin=False) + mask(b"x" * 5000, opcode=0))
    assert r.ends()


def test_slow_reader(relay):
    """Who does not read loses packets; nobody waits for it."""
    async def main():
        a, b = await join(relay, 1), await join(relay, 2)
        lazy = Raw(relay, 3)
        payload = b"z" * 8000
        began = time.monotonic()
        for i in range(3000):
            await a.send(transport(3, payload))
        await a.send(transport(2, b"past the crowd"))
        assert await asyncio.wait_for(b.recv(), 10) == transport(1, b"past the crowd")
        print(f"24 MB to a reader that sleeps: {time.monotonic() - began:.2f} s")
        rss = [x for x in Path(f"/proc/{relay.p.pid}/status").read_text().splitlines() if x.startswith("VmRSS")][0]
        assert int(rss.split()[1]) < 20_000, rss
        lazy.s.close()

    asyncio.run(main())


def test_says_close_when_stopped(relay):
    async def main():
        ws = await join(relay, 1)
        relay.p.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(ws.recv(), 3) == b"\x01\x04"
        await closes(ws)

    asyncio.run(main())
    assert relay.p.wait(3) == 0


def test_health_and_metrics():
    health, metrics = free_port(), free_port()
    relay = Relay("--health-listen-address", f":{health}", "--metrics-port", str(metrics))

    def page(port, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as r:
            return r.read().decode()

    async def main():
        a = await join(relay, 1)
        await a.send(transport(1, b"x" * 100))
        await a.recv()
        answer = json.loads(page(health, "/health"))
        assert answer["status"] == "healthy" and answer["listeners"] == ["ws"]
        deadline = time.monotonic() + 3
        while "relay_transfer_sent_bytes_total 138\n" not in page(metrics, "/metrics"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert 'relay_peers{transport="ws"} 1\n' in page(metrics, "/metrics")
        await a.close()

    asyncio.run(main())
    relay.stop()


def test_tls():
    relay = Relay("--tls-cert-file", str(CERTS / "ec.pem"), "--tls-key-file", str(CERTS / "ec.key"), scheme="rels")
    context = ssl.create_default_context(cafile=CERTS / "ca.pem")

    async def main():
        relay.ws = relay.ws.replace("127.0.0.1", "localhost")
        a = await websockets.connect(relay.ws, compression=None, ssl=context)
        await a.send(auth(1))
        assert await a.recv() == b"\x01\x07" + relay.url.encode()
        for size in (1, 1500, 8782):
            await a.send(transport(1, b"t" * size))
            assert await a.recv() == transport(1, b"t" * size)
        await a.close()
        with pytest.raises(Exception):
            await websockets.connect(relay.ws.replace("wss", "ws"), compression=None)

    asyncio.run(main())
    relay.stop()


def test_many_connections(relay):
    async def main():
        all_ = [await join(relay, n) for n in range(200)]
        await all_[0].send(b"\x01\x08" + b"".join(peer_id(n) for n in range(1, 200)))
        got = await all_[0].recv()
        assert len(got) == 2 + 36 * 199
        for ws in all_[1:]:
            ws.transport.abort()
        gone = set()
        while len(gone) < 199:
            m = await asyncio.wait_for(all_[0].recv(), 5)
            assert m[:2] == b"\x01\x0b"
            gone |= {m[i:i + 36] for i in range(2, len(m), 36)}

    asyncio.run(main())


# --- whole agents ---

ALPHA, BRAVO = "10.78.0.2", "10.78.0.3"


@pytest.fixture
def lab():
    lab = Lab()
    yield lab
    lab.close()


def block(lab, on=True):
    """Nothing may pass between the two machines themselves; both reach the server."""
    if not on:
        lab.exec("lan", "nft", "delete", "table", "bridge", "nbt")
        return
    rules = f"""
table bridge nbt {{
	chain f {{
		type filter hook forward priority 0;
		ip saddr {ALPHA} ip daddr {BRAVO} drop
		ip saddr {BRAVO} ip daddr {ALPHA} drop
	}}
}}
"""
    lab.exec("lan", "nft", "-f", "-", input=rules)


def two(lab, blocked=False, env=None, server=()):
    if blocked:
        block(lab)
    lab.start_server(*server)
    key = lab.setup()
    a, b = lab.agent("alpha", ALPHA, env=env).start(), lab.agent("bravo", BRAVO, env=env).start()
    a.up(key)
    b.up(key)
    return a, b


def peer(agent):
    return agent.status()["peers"]["details"][0]


def via_relay(agent):
    p = peer(agent)
    return p["status"] == "Connected" and p["connectionType"] == "Relayed" and p["iceCandidateType"] == {"local": "", "remote": ""}


def direct(agent):
    return peer(agent)["connectionType"] == "P2P"


def test_blocked_agents_use_the_relay(lab):
    a, b = two(lab, blocked=True)
    took = wait_for(lambda: a.ping(b.ip()))
    print(f"first ping by relay after {took:.2f} s")
    assert took < 5
    assert via_relay(a) and via_relay(b)
    p = peer(a)
    assert p["relayAddress"] == f"rel://{SERVER_IP}:8080"
    relays = a.status()["relays"]
    own = [r for r in relays["details"] if r["uri"].startswith("rel")]
    assert own == [{"uri": f"rel://{SERVER_IP}:8080", "available": True, "error": "", "transport": "ws"}]
    # with the relay on both ends TURN is left alone
    assert "datagrams to peers" not in lab.log("srv.log")
    target = b.ip()
    listener = lab.spawn("bravo", "nc", "-l", "-N", target, "7000", log="nc.log")
    time.sleep(0.2)
    r = subprocess.run(["ip", "netns", "exec", lab.ns("alpha"), "nc", "-N", "-w", "5", target, "7000"], input=b"x" * 3_000_000,
                       timeout=30)
    assert r.returncode == 0
    listener.wait(10)
    assert (lab.dir / "nc.log").stat().st_size == 3_000_000


def test_force_relay(lab):
    a, b = two(lab, env={"NB_FORCE_RELAY": "true"})
    took = wait_for(lambda: a.ping(b.ip()))
    print(f"forced relay: first ping after {took:.2f} s")
    assert took < 2
    assert via_relay(a) and via_relay(b)


def lost_pings(lab, agent, target, seconds):
    """A ping each 50 ms; answers the number sent and the longest run of lost ones."""
    n = int(seconds * 20)
    return lab.spawn(agent.which, "ping", "-n", "-i", "0.05", "-c", str(n), "-W", "1", target, log=f"ping-{agent.which}.log")


def ping_result(lab, agent, p):
    p.wait(60)
    text = lab.log(f"ping-{agent.which}.log")
    seen = sorted(int(part.split("icmp_seq=")[1].split()[0]) for part in text.splitlines() if "icmp_seq=" in part)
    sent = int(text.split(" packets transmitted")[0].split()[-1])
    gaps = [b - a - 1 for a, b in zip([0] + seen, seen + [sent + 1])]
    return sent, len(seen), max(gaps)


def test_direct_relay_direct(lab):
    a, b = two(lab)
    target = b.ip()
    wait_for(lambda: a.ping(target))
    wait_for(lambda: direct(a) and direct(b))
    handshake = peer(a)["lastWireguardHandshake"]
    p = lost_pings(lab, a, target, 22)
    time.sleep(1)
    block(lab)
    took = wait_for(lambda: via_relay(a) and via_relay(b), limit=12)
    print(f"back on the relay after {took:.1f} s")
    assert a.ping(target, "1")
    block(lab, on=False)
    took = wait_for(lambda: direct(a) and direct(b), limit=25)
    print(f"direct again after {took:.1f} s")
    sent, seen, gap = ping_result(lab, a, p)
    print(f"{sent} pings, {sent - seen} lost, {gap} in a row")
    # The 6 s in which neither side can know; nothing more, and nothing on the way back.
    assert gap * 0.05 < 8.5
    assert sent - seen <= gap + 3
    # keys were kept through both changes
    assert peer(a)["lastWireguardHandshake"] == handshake


def test_relay_restart(lab):
    a, b = two(lab, blocked=True)
    target = b.ip()
    wait_for(lambda: a.ping(target))
    lab.server.kill()
    lab.server.wait(5)
    wait_for(lambda: peer(a)["connectionType"] != "Relayed", limit=5)
    lab.start_server()
    took = wait_for(lambda: a.ping(target), limit=30)
    print(f"after a restart of the relay: {took:.1f} s")
    assert via_relay(a)


def test_two_relays(lab):
    """Each agent prefers another relay: both meet on the one of the side with the greater key, the other one dials it."""
    config = lab.dir / "config.yaml"
    urls = [f"rel://{SERVER_IP}:3308{i}" for i in (1, 2)]
    config.write_text(f"""server:
  exposedAddress: "{URL}"
  authSecret: "{SECRET}"
  relays:
    addresses: ["{urls[0]}", "{urls[1]}"]
    secret: "{SECRET}"
""")
    relays = [lab.spawn("srv", NESTBOX, "relay", "--listen-address", f"{SERVER_IP}:3308{i}", "--exposed-address", urls[i - 1],
                        "--auth-secret", SECRET, log=f"relay{i}.log") for i in (1, 2)]
    block(lab)
    lab.start_server("--config", config)
    key = lab.setup()
    a = lab.agent("alpha", ALPHA, env={"NB_HOME_RELAY_SERVERS": urls[0]}).start()
    b = lab.agent("bravo", BRAVO, env={"NB_HOME_RELAY_SERVERS": urls[1]}).start()
    a.up(key)
    b.up(key)
    wait_for(lambda: a.ping(b.ip()))
    assert via_relay(a) and via_relay(b)

    def homes(agent):
        return [r["uri"] for r in agent.status()["relays"]["details"] if r["uri"].startswith("rel") and r["available"]]

    assert homes(a) == [urls[0]] and homes(b) == [urls[1]]
    key_of = {x.which: x.status()["publicKey"] for x in (a, b)}
    shared = urls[0] if key_of["alpha"] > key_of["bravo"] else urls[1]
    assert peer(a)["relayAddress"] == shared and peer(b)["relayAddress"] == shared
    # the relay they share goes: its owner takes it up again when it is back
    which = urls.index(shared)
    relays[which].terminate()
    relays[which].wait(5)
    wait_for(lambda: not a.ping(b.ip(), "0.3"), limit=5)
    lab.spawn("srv", NESTBOX, "relay", "--listen-address", f"{SERVER_IP}:3308{which + 1}", "--exposed-address", shared,
              "--auth-secret", SECRET, log="again.log")
    took = wait_for(lambda: a.ping(b.ip()), limit=20)
    print(f"the shared relay is back: {took:.1f} s")
    wait_for(lambda: via_relay(a), limit=3)
