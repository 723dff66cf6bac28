"""STUN and TURN messages made by hand, valid or not: for tests of what a server refuses. RFC 8489, RFC 8656."""
import binascii
import hashlib
import hmac
import ipaddress
import os
import socket
import struct

MAGIC = 0x2112A442
BINDING, ALLOCATE, REFRESH, SEND, DATA, PERMISSION, CHANNEL = 1, 3, 4, 6, 7, 8, 9
USERNAME, INTEGRITY, ERROR, CHANNEL_NUMBER, LIFETIME, PEER, PAYLOAD = 0x6, 0x8, 0x9, 0xC, 0xD, 0x12, 0x13
REALM, NONCE, RELAYED, FAMILY, TRANSPORT, SOFTWARE, FINGERPRINT = 0x14, 0x15, 0x16, 0x17, 0x19, 0x8022, 0x8028
UDP = struct.pack(">I", 17 << 24)


def attribute(kind, value):
    return struct.pack(">HH", kind, len(value)) + value + bytes(-len(value) % 4)


def message(method, body=b"", kind=0, txid=None):
    head = (method & 0xF80) << 2 | (method & 0x70) << 1 | method & 0xF | kind
    return struct.pack(">HHI", head, len(body), MAGIC) + (txid or os.urandom(12)) + body


def with_length(raw, more):
    return raw[:2] + struct.pack(">H", len(raw) - 20 + more) + raw[4:]


def sign(raw, key):
    raw = with_length(raw, 24)
    return raw + attribute(INTEGRITY, hmac.new(key, raw, hashlib.sha1).digest())


def fingerprint(raw, wrong=0):
    raw = with_length(raw, 8)
    return raw + attribute(FINGERPRINT, struct.pack(">I", binascii.crc32(raw) ^ 0x5354554E ^ wrong))


def xor_address(address, port, raw):
    ip = ipaddress.ip_address(address)
    mask = raw[4:20]
    packed = bytes(a ^ b for a, b in zip(ip.packed, mask))
    return struct.pack(">BBH", 0, 1 if ip.version == 4 else 2, port ^ MAGIC >> 16) + packed


class Answer:
    def __init__(self, raw):
        self.raw, self.kind, self.attributes = raw, struct.unpack(">H", raw[:2])[0] & 0x110, {}
        at = 20
        while at < len(raw):
            kind, n = struct.unpack(">HH", raw[at:at + 4])
            self.attributes.setdefault(kind, raw[at + 4:at + 4 + n])
            at += 4 + n + -n % 4

    @property
    def code(self):
        """0 for a success."""
        return self.attributes[ERROR][2] * 100 + self.attributes[ERROR][3] if self.kind == 0x110 else 0

    def relayed(self):
        v = self.attributes[RELAYED]
        ip = bytes(a ^ b for a, b in zip(v[4:], self.raw[4:20]))
        return str(ipaddress.ip_address(ip)), struct.unpack(">H", v[2:4])[0] ^ MAGIC >> 16


class Client:
    """One 5-tuple and what it knows."""

    def __init__(self, server, user="alice", password="wonder", bind=None):
        self.s = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_DGRAM)
        self.s.settimeout(2)
        if bind:
            self.s.bind((bind, 0))
        self.s.connect(server)
        self.user, self.password, self.realm, self.nonce = user, password, b"", b""

    def key(self):
        return hashlib.md5(self.user.encode() + b":" + self.realm + b":" + self.password.encode()).digest()

    def signed(self, method, body=b""):
        """body: bytes, or a function of the message so far (for xored addresses)."""
        raw = message(method)
        raw += body(raw) if callable(body) else body
        raw += attribute(USERNAME, self.user.encode()) + attribute(REALM, self.realm) + attribute(NONCE, self.nonce)
        return sign(raw, self.key())

    def ask(self, raw):
        self.s.send(raw)
        return Answer(self.s.recv(65536))

    def silence(self, raw, seconds=0.3):
        """True when nothing comes back."""
        self.s.settimeout(seconds)
        self.s.send(raw)
        try:
            self.s.recv(65536)
            return False
        except TimeoutError:
            return True
        finally:
            self.s.settimeout(2)

    def learn(self, answer):
        self.realm, self.nonce = answer.attributes[REALM], answer.attributes[NONCE]

    def login(self):
        answer = self.ask(message(ALLOCATE, attribute(TRANSPORT, UDP)))
        assert answer.code == 401
        self.learn(answer)

    def allocate(self, family=4):
        body = attribute(TRANSPORT, UDP)
        if family == 6:
            body += attribute(FAMILY, bytes([2, 0, 0, 0]))
        return self.ask(self.signed(ALLOCATE, body))

    def permit(self, *addresses):
        return self.ask(self.signed(PERMISSION, lambda raw: b"".join(attribute(PEER, xor_address(a, 0, raw)) for a in addresses)))

    def bind(self, address, port, number=0x4000):
        return self.ask(self.signed(CHANNEL, lambda raw: attribute(CHANNEL_NUMBER, struct.pack(">HH", number, 0)) +
                                    attribute(PEER, xor_address(address, port, raw))))
