"""Our relay against coturn (TURN over UDP), both with the same flood and in turns, and against a stock NetBird relay when
NB_BENCH_STOCK_RELAY names one: packets a second, processor time of the server for each packet, memory for 1,000 allocations,
10,000 allocations held at once; and TCP between two of our agents through either kind of relay. Flows: `runs` sends bursts of
one allocation as one message, as our agents do; `singles` the same in datagrams of their own; `interleaved` one
datagram of each of 100 allocations in turn, the worst there is.

NB_BENCH_ROUNDS (3) rounds of NB_BENCH_SECONDS (3); NB_BENCH_ONLY names rows (their beginnings, by comma). Printed are medians.
Server and load share the machine: trust the ratios.
"""
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "net"))
from lab import NESTBOX, ROOT, Lab, wait_for  # noqa: E402

ROUNDS = int(os.environ.get("NB_BENCH_ROUNDS", "3"))
SECONDS = int(os.environ.get("NB_BENCH_SECONDS", "3"))
ONLY = [x for x in os.environ.get("NB_BENCH_ONLY", "").split(",") if x]
STOCK = os.environ.get("NB_BENCH_STOCK_RELAY")
LOAD = ROOT / "out" / os.uname().machine / "test/net/relay_load"
SERVER, CLIENT, PEER = "10.83.0.1", "10.83.0.2", "10.83.0.3"
TICK = os.sysconf("SC_CLK_TCK")

FLOWS = [
    ("up runs 1", "n=1 burst=32 join=1 window=512"),
    ("up runs 100", "n=100 burst=16 join=1 window=512"),
    ("down runs 1", "n=1 burst=32 join=1 window=512 way=down"),
    ("down runs 100", "n=100 burst=16 join=1 window=512 way=down"),
    ("up singles", "n=1 burst=32 window=512"),
    ("down singles", "n=1 burst=32 window=512 way=down"),
    ("up interleaved", "n=100 burst=1 window=512"),
    ("down interleaved", "n=100 burst=1 window=512 way=down"),
    ("indications up runs", "n=100 burst=16 join=1 window=512 mode=indication"),
    ("indications down runs", "n=100 burst=16 join=1 window=512 mode=indication way=down"),
    ("indications interleaved", "n=100 burst=1 window=512 mode=indication"),
]
WS_FLOWS = [
    ("websocket bursts", "n=2 burst=16 window=256"),
    ("websocket 100 clients", "n=100 burst=16 window=1024"),
    ("websocket interleaved", "n=100 burst=1 window=256"),
]


def wanted(name):
    return not ONLY or any(name.startswith(x) for x in ONLY)


class Net:
    """A server's namespace and one for clients and peers, a link between them."""

    def __enter__(self):
        self.names = [f"nbrb{os.getpid()}{x}" for x in "sc"]
        self.s, self.c = self.names
        for ns in self.names:
            subprocess.run(["ip", "netns", "add", ns], check=True)
            subprocess.run(["ip", "-n", ns, "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "-n", self.s, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.c], check=True)
        for ns, addresses in ((self.s, [SERVER]), (self.c, [CLIENT, PEER])):
            for a in addresses:
                subprocess.run(["ip", "-n", ns, "addr", "add", f"{a}/24", "dev", "eth0"], check=True)
            subprocess.run(["ip", "-n", ns, "link", "set", "eth0", "up"], check=True)
        return self

    def __exit__(self, *_):
        for ns in self.names:
            subprocess.run(["ip", "netns", "del", ns], check=False)


def cpu(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss_kb(pid):
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])


class Server:
    def __init__(self, net, kind):
        self.net, self.kind = net, kind

    def command(self):
        if self.kind == "coturn":
            base = f"/tmp/nbrb{os.getpid()}"
            return ["turnserver", "-n", "--no-tls", "--no-dtls", "--no-cli", "-L", SERVER, "-E", SERVER, "-r", "bench", "--pidfile",
                    f"{base}.pid", "--userdb", f"{base}.db", "-l", f"{base}.log", "--simple-log", "--min-port", "20000",
                    "--max-port", "60999", "-a", "-u", "alice:wonder", "--user-quota", "0", "--total-quota", "0"]
        ws = ["--listen-address", f"{SERVER}:33080", "--exposed-address", f"rel://{SERVER}:33080", "--auth-secret", "bench"]
        if self.kind == "stock relay":
            return [STOCK, *ws, "--log-level", "error"]
        return [NESTBOX, "relay", *ws, "--turn-user", "alice:wonder", "--relay-ports", "20000-60999", "--user-quota", "20000",
                "--max-allocations", "20000"]

    def __enter__(self):
        self.p = subprocess.Popen(["ip", "netns", "exec", self.net.s, *self.command()], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        flag, port = ("-Hltn", 33080) if self.kind == "stock relay" else ("-Hlun", 3478)
        wait_for(lambda: subprocess.run(["ip", "netns", "exec", self.net.s, "ss", flag, f"sport = :{port}"], capture_output=True,
                                        check=False).stdout)
        time.sleep(0.3)
        return self

    def __exit__(self, *_):
        self.p.send_signal(signal.SIGTERM)
        try:
            self.p.wait(5)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
        for end in ("pid", "db", "log"):
            Path(f"/tmp/nbrb{os.getpid()}.{end}").unlink(missing_ok=True)


class Load:
    def __init__(self, net, kind, options):
        target = ["turn", f"{SERVER}:3478", "alice", "wonder", f"peer={PEER}:0"] if kind == "turn" else ["ws", f"{SERVER}:33080", "bench"]
        self.p = subprocess.Popen(["ip", "netns", "exec", net.c, LOAD, *target, *options.split(), f"seconds={SECONDS}"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        words = self.p.stdout.readline().split()
        if len(words) != 3:
            self.__exit__()
            raise RuntimeError(f"the load program got no further than {words}")
        self.count, self.took = int(words[1]), float(words[2])
        return self

    def __exit__(self, *_):
        self.p.kill()
        self.p.stdin.close()
        self.p.wait()

    def go(self):
        self.p.stdin.write("go\n")
        self.p.stdin.flush()
        return [float(x) for x in self.p.stdout.readline().split()[1:]]


def flood(net, kind, transport, options):
    with Server(net, kind) as server, Load(net, transport, options) as load:
        before = cpu(server.p.pid)
        sent, received, seconds = load.go()
        used = cpu(server.p.pid) - before
    return {"kpps": received / seconds / 1e3, "us": used / max(received, 1) * 1e6, "lost %": 100 * (sent - received) / max(sent, 1)}


def hold(net, kind, n):
    """n allocations with a channel each: what they cost in memory and time, and that traffic passes through all of them."""
    with Server(net, kind) as server:
        before, began = rss_kb(server.p.pid), cpu(server.p.pid)
        with Load(net, "turn", f"n={n} window=500") as load:
            row = {"kB/1000": (rss_kb(server.p.pid) - before) * 1000 / n, "seconds to make": load.took,
                   "us cpu each": (cpu(server.p.pid) - began) / n * 1e6}
            sent, received, _ = load.go()
            row["passed %"] = 100 * received / sent
            assert load.count == n
    return row


def median(rows):
    return {key: statistics.median(r[key] for r in rows) for key in rows[0]}


def compare(name, kinds, measure):
    """Take turns; print one line for each figure."""
    results = {k: [] for k in kinds}
    for i in range(ROUNDS):
        for k in kinds if i % 2 == 0 else kinds[::-1]:
            results[k].append(measure(k))
    rows = {k: median(results[k]) for k in kinds}
    for key in rows[kinds[0]]:
        ours = rows[kinds[0]][key]
        text = f"{name:<24} {key:<16} {ours:>9.2f}"
        for k in kinds[1:]:
            theirs = rows[k][key]
            ratio = f"{(ours / theirs if key == 'kpps' or key == 'Gbit/s' else theirs / ours):.2f}x" if ours and theirs else ""
            text += f"  {k} {theirs:>9.2f} {ratio}"
        print(text, flush=True)


# --- TCP between two agents

def through(kind):
    """Gbit/s of one TCP stream between two of our agents that may only use this relay."""
    lab = Lab()
    try:
        more, env = [], {"NB_FORCE_RELAY": "true"}
        if kind == "TURN":
            more, env = ["--relay-protocol=false"], {"NB_ICE_FORCE_RELAY_CONN": "true"}
        elif kind == "stock relay":
            url = f"rel://{lab_address(lab)}:33080"
            config = lab.dir / "config.yaml"
            config.write_text(json.dumps({"server": {"exposedAddress": lab.url, "authSecret": "bench",
                                                     "relays": {"addresses": [url], "secret": "bench"}}}))
            more = ["--config", config]
            lab.spawn("srv", STOCK, "--listen-address", url[6:], "--exposed-address", url, "--auth-secret", "bench", log="relay.log")
        lab.start_server(*more)
        key = lab.setup()
        a, b = (lab.agent(n, ip, env=env).start() for n, ip in (("alpha", "10.78.0.2"), ("bravo", "10.78.0.3")))
        a.up(key)
        b.up(key)
        target = b.ip()
        wait_for(lambda: a.ping(target), limit=20)
        server = lab.spawn("bravo", "iperf3", "-s", "-1", "-B", target, log="iperf.log")
        time.sleep(0.5)
        out = lab.exec("alpha", "iperf3", "-J", "-t", str(SECONDS), "-c", target, timeout=60).stdout
        server.wait(5)
        return {"Gbit/s": json.loads(out)["end"]["sum_received"]["bits_per_second"] / 1e9}
    finally:
        lab.close()


def lab_address(lab):
    return lab.listen.rsplit(":", 1)[0]


def main():
    print(f"nestbox, then peers and how many times better we are ({ROUNDS} x {SECONDS} s, medians)")
    with Net() as net:
        for name, options in FLOWS:
            if wanted(name):
                compare(name, ["nestbox", "coturn"], lambda k, o=options: flood(net, k, "turn", o))
        for name, options in WS_FLOWS:
            if wanted(name):
                compare(name, ["nestbox"] + (["stock relay"] if STOCK else []), lambda k, o=options: flood(net, k, "ws", o))
        for n in (1000, 10000):
            if wanted(f"hold {n}"):
                compare(f"hold {n}", ["nestbox", "coturn"], lambda k, n=n: hold(net, k, n))
    for name, kinds in (("tcp by relay", ["NetBird relay"] + (["stock relay"] if STOCK else [])), ("tcp by TURN", ["TURN"])):
        if wanted(name):
            compare(name, kinds, through)


if __name__ == "__main__":
    main()
