"""wg_traffic.py tcp|udp send|receive ADDRESS [BYTES|DATAGRAMS]: bytes that can be checked, for test_wireguard_offloads.py.
The receiver of TCP prints length and hash of the stream, that of UDP one line per size class: how many datagrams
arrived whole, in order and with the sender's type of service; anything damaged ends it with an error."""
import hashlib
import random
import socket
import struct
import sys
import time

PORT = 5600
UDP_SEGMENT = 103
TOS = 0x02 | 0x28  # capable of congestion marks, and a class of service that must stay inside


def content(index, size):
    return struct.pack(">I", index) + random.Random(index).randbytes(size - 4)


def runs(count):
    """Sizes of datagrams to send together: equal ones, the last shorter, and single ones of any size."""
    r = random.Random(7)
    while count > 0:
        n = min(count, r.choice((1, 1, 2, 5, 40)))
        size = r.choice((4, 64, 500, 1000, 1280, 1372, 1372))
        yield [size] * (n - 1) + [r.randint(4, size)]
        count -= n


def send_tcp(address, size):
    data = random.Random(size).randbytes(size)
    with socket.create_connection((address, PORT), timeout=20) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        assert s.recv(64).decode() == hashlib.sha256(data).hexdigest(), "other bytes arrived"


def receive_tcp(server):
    server.listen()
    print("ready", flush=True)
    s, _ = server.accept()
    digest = hashlib.sha256()
    while data := s.recv(1 << 20):
        digest.update(data)
    s.sendall(digest.hexdigest().encode())
    s.close()


def set_tos(s, six):
    s.setsockopt(*((socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if six else (socket.IPPROTO_IP, socket.IP_TOS)), TOS)


def send_udp(address, count):
    six = ":" in address
    s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    s.connect((address, PORT))
    set_tos(s, six)
    index = 0
    for sizes in runs(count):
        s.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, sizes[0] if len(sizes) > 1 else 0)
        s.send(b"".join(content(index + i, size) for i, size in enumerate(sizes)))
        index += len(sizes)
        time.sleep(0.001)
    time.sleep(0.5)
    s.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
    for _ in range(3):
        s.send(b"end")


def receive_udp(s, six):
    s.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
    s.setsockopt(*((socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS) if six else (socket.IPPROTO_IP, socket.IP_RECVTOS)), 1)
    s.settimeout(20)
    print("ready", flush=True)
    got, last = 0, -1
    while True:
        data, control, _, _ = s.recvmsg(65536, 128)
        if data == b"end":
            break
        index = struct.unpack(">I", data[:4])[0]
        assert index > last, f"{index} behind {last}"
        assert data == content(index, len(data)), f"datagram {index} is damaged"
        assert control[0][2][0] == TOS, f"type of service {control[0][2]}"
        got, last = got + 1, index
    print(got)


def main():
    kind, way, address = sys.argv[1:4]
    six = ":" in address
    if way == "send":
        (send_tcp if kind == "tcp" else send_udp)(address, int(sys.argv[4]))
        return
    s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, PORT))
    s.settimeout(20)
    if kind == "tcp":
        receive_tcp(s)
    else:
        receive_udp(s, six)


if __name__ == "__main__":
    main()
