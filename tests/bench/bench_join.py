"""Many peers join one server at once: grpcio clients in this process do Login and Sync, 20 at a time, NB_BENCH_PEERS (1000)
of them; then a sample of them reads its stream until the map has everybody. Printed are the times, the server's processor
seconds and its memory. The load program takes most of the machine, so the times are an upper bound."""
import base64
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "net"))
import grpc  # noqa: E402
from nacl.public import Box, PrivateKey, PublicKey  # noqa: E402
from test_management import Server, messages  # noqa: E402

PEERS = int(os.environ.get("NB_BENCH_PEERS", "1000"))
STEP = max(PEERS // 40, 1)
SERVICE = "/management.ManagementService/"


def raw(data):
    return data


def used(pid):
    """Processor seconds, memory now and at most in kB."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return ((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(lines["VmRSS"].split()[0]),
            int(lines["VmHWM"].split()[0]))


class Joiner:
    def __init__(self, pb, server, key):
        self.pb, self.key = pb, key
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 << 20)]
        self.channels = [grpc.insecure_channel(f"127.0.0.1:{server.port}", options=[*options, ("nestbox.number", i)])
                         for i in range(20)]
        answer = pb.ServerKeyResponse.FromString(self.channels[0].unary_unary(SERVICE + "GetServerKey", raw, raw)(b""))
        self.server_key = PublicKey(base64.b64decode(answer.key))
        self.streams = [None] * PEERS

    def join(self, i):
        private = PrivateKey.generate()
        box = Box(private, self.server_key)
        channel = self.channels[i % len(self.channels)]
        request = self.pb.LoginRequest(setupKey=self.key)
        request.meta.hostname = f"h{i}"
        request.meta.goOS = "linux"
        request.meta.netbirdVersion = "0.77.1"
        sealed = self.pb.EncryptedMessage(wgPubKey=base64.b64encode(bytes(private.public_key)).decode(),
                                          body=bytes(box.encrypt(request.SerializeToString())))
        channel.unary_unary(SERVICE + "Login", raw, raw)(sealed.SerializeToString(), timeout=120)
        sealed.body = bytes(box.encrypt(self.pb.SyncRequest(meta=request.meta).SerializeToString()))
        stream = channel.unary_stream(SERVICE + "Sync", raw, raw)(sealed.SerializeToString())
        next(stream)
        self.streams[i] = box, stream

    def complete(self, i):
        """Read a stream until its map has all other peers; returns the messages it took."""
        box, stream = self.streams[i]
        for count, message in enumerate(stream, 1):
            sealed = self.pb.EncryptedMessage.FromString(message)
            if len(self.pb.SyncResponse.FromString(box.decrypt(sealed.body)).NetworkMap.remotePeers) >= PEERS - 1:
                return count
        raise RuntimeError("the server ended a stream")


def main():
    with tempfile.TemporaryDirectory(prefix="nbb-") as directory:
        pb = messages(Path(directory))
        server = Server(f"{directory}/data")
        try:
            joiner = Joiner(pb, server, server.keys["reusable"])
            begin = time.time()
            with ThreadPoolExecutor(20) as pool:
                list(pool.map(joiner.join, range(PEERS)))
            joined = time.time() - begin
            counts = []
            readers = [threading.Thread(target=lambda i=i: counts.append(joiner.complete(i)), daemon=True)
                       for i in range(0, PEERS, STEP)]
            for r in readers:
                r.start()
            for r in readers:
                r.join(120)
            assert len(counts) == len(readers), f"{len(readers) - len(counts)} streams never had everybody"
            print(f"{PEERS} peers joined in {joined:.1f} s, everybody known to {len(counts)} sampled peers after "
                  f"{time.time() - begin:.1f} s, in {sum(counts) / len(counts):.1f} messages each")
            print("server: %.1f s of processor time, %d kB of memory, at most %d" % used(server.process.pid))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
