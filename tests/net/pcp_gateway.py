"""A router's PCP and NAT-PMP service (RFC 6887, RFC 6886), just enough for the tests: written from the RFCs, strict
where our client could be wrong (nonce, client address, lengths). Mappings are elements of the nftables map `ip pm m`.
Every request becomes a line of JSON on stdout. Runs in the router's namespace:
    pcp_gateway.py LAN_IP EXTERNAL_IP FIRST_PORT pcp|natpmp|both"""
import ipaddress
import json
import socket
import struct
import subprocess
import sys
import time

lan, external, first_port, speaks = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
born = time.monotonic()
mappings = {}  # (client, inner port) -> (nonce, external port)


def nft(text):
    subprocess.run(["nft", text], check=True)


def say(**what):
    print(json.dumps(what), flush=True)


def epoch():
    return int(time.monotonic() - born)


def mapped(ip):
    return b"\0" * 10 + b"\xff\xff" + ipaddress.IPv4Address(ip).packed


def make(client, port, nonce):
    old = mappings.get((client, port))
    if old:
        return old[1]
    out = first_port + len(mappings)
    mappings[client, port] = (nonce, out)
    nft(f"add element ip pm m {{ {out} : {client} . {port} }}")
    return out


def remove(client, port):
    old = mappings.pop((client, port), None)
    if old:
        nft(f"delete element ip pm m {{ {old[1]} }}")


def pcp_map(q, client, lifetime):
    nonce, proto, port, wish = q[24:36], q[36], *struct.unpack(">HH", q[40:44])
    say(proto="pcp", op="map" if lifetime else "delete", nonce=nonce.hex(), port=port, wish=wish, lifetime=lifetime)
    old = mappings.get((client, port))
    if len(q) != 60 or proto != 17:
        return 3, 0, q[24:]
    if q[8:24] != mapped(client):
        return 12, 30, q[24:]
    if old and old[0] != nonce:
        return 2, 1800, q[24:]
    if not lifetime:
        remove(client, port)
        return 0, 0, q[24:42] + b"\0\0" + mapped("0.0.0.0")
    out = make(client, port, nonce)
    return 0, min(lifetime, 3600), q[24:42] + struct.pack(">H", out) + mapped(external)


def pcp(q, client):
    version, op = q[0], q[1]
    if version != 2:
        return struct.pack(">BBBBII12x", 2, op | 0x80, 0, 1, 1800, epoch())
    if len(q) < 24 or len(q) % 4:
        return None
    if op == 0:
        say(proto="pcp", op="announce")
        return struct.pack(">BBBBII12x", 2, 0x80, 0, 0, 0, epoch())
    result, lifetime, rest = pcp_map(q, client, struct.unpack(">I", q[4:8])[0])
    return struct.pack(">BBBBII12x", 2, 0x81, 0, result, lifetime, epoch()) + rest


def natpmp(q, client):
    if q[0] != 0:
        return struct.pack(">BBHI", 0, q[1] | 0x80, 1, epoch())
    if q[1] == 0:
        say(proto="natpmp", op="address")
        return struct.pack(">BBHI", 0, 128, 0, epoch()) + ipaddress.IPv4Address(external).packed
    port, wish, lifetime = struct.unpack(">HHI", q[4:12])
    say(proto="natpmp", op="map" if lifetime else "delete", port=port, wish=wish, lifetime=lifetime)
    if lifetime:
        out = make(client, port, None)
    else:
        remove(client, port)
        out = 0
    return struct.pack(">BBHIHHI", 0, 129, 0, epoch(), port, out, min(lifetime, 3600))


nft("flush map ip pm m")
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(lan))
s.bind((lan, 5351))
# Just started: whoever had a mapping shall ask again.
hello = pcp(struct.pack(">BB2xI16s", 2, 0, 0, mapped(lan)), lan) if speaks != "natpmp" else natpmp(b"\0\0", lan)
s.sendto(hello, ("224.0.0.1", 5350))
say(op="started")
while True:
    q, (ip, p) = s.recvfrom(1200)
    a = natpmp(q, ip) if speaks == "natpmp" or (speaks == "both" and q[0] == 0) else pcp(q, ip)
    if a:
        s.sendto(a, (ip, p))
