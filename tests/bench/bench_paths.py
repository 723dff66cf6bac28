"""How long paths take on a bad line: two machines behind port-restricted NATs, 50 ms one way and 1 % loss between them (half of
that to the server each), made by tests/net/link.c. Time to the first ping after `up`, to the first answer after an
address change and after the cable was out for 8 s. Run by name, alone or beside stock:

    tests/bench/bench_paths.py [--runs 50] [--parallel 5] [--only first,move,cable] [--stock DIR]

DIR has stock's `netbird`; its clients use our server. Needs root and `make check-net`'s programs. Printed are median, 99th
percentile and worst."""
import argparse
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "net"))
from lab import LINK, run, wait_for  # noqa: E402
from natlab import NatLab  # noqa: E402
from stock_mix import Client  # noqa: E402

GOALS = {"first": "stock 0.6 s without delay", "move": "0.3 s without delay", "cable": "1 s without delay"}
TITLES = {"first": "first ping after up", "move": "address change", "cable": "cable out for 8 s"}


class FarLab(NatLab):
    """The public network is a router; each site's cable to it is long and loses packets."""

    def __init__(self, stock, seed):
        super().__init__()
        self.stock, self.level, self.seed, self.far = stock, "info", seed, 0
        run("ip", "-n", self.ns("lan"), "addr", "add", "10.78.0.254/24", "dev", "br0")
        run("ip", "netns", "exec", self.ns("lan"), "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        run("ip", "-n", self.ns("srv"), "route", "add", "default", "via", "10.78.0.254")

    def far_site(self, name, kind, delay_ms, loss):
        self.far += 1
        nat, net, near, far = f"{name}n", self.next_net(), f"10.79.{self.far}.1", f"10.79.{self.far}.2"
        self.space(nat)
        log = f"link-{name}"
        self.spawn_link(log, f"{self.ns('lan')}:far{self.far}", f"{self.ns(nat)}:eth0", delay_ms, loss)
        for ns, dev, ip in (("lan", f"far{self.far}", near), (nat, "eth0", far)):
            run("ip", "-n", self.ns(ns), "addr", "add", f"{ip}/30", "dev", dev)
            run("ip", "-n", self.ns(ns), "link", "set", dev, "up")
        run("ip", "-n", self.ns(nat), "route", "add", "default", "via", near)
        self.make_nat(nat, "port", far, net)
        self.behind(nat, name, net)
        agent = Client(self, name, kind, None)
        self.agents.append(agent)
        agent.net = net
        return agent

    def spawn_link(self, log, a, b, delay_ms, loss):
        out = open(self.dir / log, "ab")
        p = subprocess.Popen([str(LINK), "--a", a, "--b", b, "--delay-ms", str(delay_ms), "--loss", str(loss), "--seed",
                              str(self.seed * 10 + self.far)], stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        self.procs.append(p)
        wait_for(lambda: "ready" in self.log(log))


class Pings:
    """A packet each 20 ms; the times of answers by number."""

    def __init__(self, lab, a, target):
        self.lab, self.name = lab, f"ping-{a.which}-{time.monotonic_ns()}"
        self.p = lab.spawn(a.which, "ping", "-D", "-n", "-i", "0.02", "-W", "1", target, log=self.name)

    def answers(self):
        out = []
        for line in self.lab.log(self.name).splitlines():
            if line.startswith("[") and "bytes from" in line:
                out.append((float(line[1:line.index("]")]), int(line.split("icmp_seq=")[1].split()[0])))
        return out

    def first_after(self, event, limit):
        """Seconds from event to the first answer to a packet sent after it (numbers count 20 ms each)."""
        sent = [n for t, n in self.answers() if t < event]
        least = max(sent) + 8 if sent else 0  # some of those under way at the event still arrive

        def fresh():
            return [t for t, n in self.answers() if t > event and n > least]

        wait_for(fresh, limit, 0.01)
        return fresh()[0] - event

    def stop(self):
        self.p.terminate()
        self.p.wait()


def direct(agent):
    details = agent.status()["peers"]["details"] or []
    return bool(details) and details[0]["connectionType"] == "P2P"


def settle(a, b):
    wait_for(lambda: direct(a) and direct(b), 60, 0.2)
    time.sleep(1.5)


def first(lab, a, b):
    a.cli("down")
    b.cli("down")
    time.sleep(0.5)
    a.up()
    began = time.time()
    b.up()
    p = Pings(lab, b, a.overlay)
    try:
        return p.first_after(began, 40)
    finally:
        p.stop()


def around(lab, a, b, event):
    settle(a, b)
    p = Pings(lab, b, a.overlay)
    try:
        wait_for(lambda: len(p.answers()) > 20, 20)
        return p.first_after(event(), 60)
    finally:
        p.stop()


def move(lab, a, b):
    def event():
        a.last = 5 - getattr(a, "last", 2)
        now = time.time()
        lab.exec(a.which, "sh", "-c", f"ip addr flush dev eth0; ip addr add {a.net}.{a.last}/24 dev eth0; "
                 f"ip route add default via {a.net}.1")
        return now
    return around(lab, a, b, event)


def cable(lab, a, b):
    def event():
        lab.exec(a.which, "ip", "link", "set", "eth0", "down")
        time.sleep(8)
        now = time.time()
        lab.exec(a.which, "sh", "-c", f"ip link set eth0 up; ip route replace default via {a.net}.1")
        return now
    return around(lab, a, b, event)


MEASURES = {"first": first, "move": move, "cable": cable}


def worker(job):
    """One laboratory for one kind of client; its share of the runs."""
    kind, stock, which, runs, seed = job
    out = {w: [] for w in which}
    lab = FarLab(stock, seed)
    try:
        lab.start_server()
        key = lab.setup()
        agents = [lab.far_site(name, kind, 25, 0.5) for name in ("alpha", "bravo")]
        for a in agents:
            a.start().up(key)
            a.overlay = a.ip()
        a, b = agents
        p = Pings(lab, b, a.overlay)
        wait_for(p.answers, 60)
        p.stop()
        for w in which:
            for _ in range(runs):
                try:
                    out[w].append(MEASURES[w](lab, a, b))
                except AssertionError as e:
                    print(f"{kind} {w}: {e}", file=sys.stderr, flush=True)
                    out[w].append(float("inf"))
                if os.environ.get("NB_BENCH_KEEP") and out[w][-1] > float(os.environ["NB_BENCH_KEEP"]):
                    for x in agents:
                        print(f"--- {x.which}: {out[w][-1]:.2f} s\n" + "\n".join(lab.log(f"{x.which}.log").splitlines()[-25:]),
                              file=sys.stderr, flush=True)
        return kind, out
    finally:
        lab.close()


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=int(os.environ.get("NB_BENCH_RUNS", "5")))
    parser.add_argument("--parallel", type=int, default=5)
    parser.add_argument("--only", default="first,move,cable")
    parser.add_argument("--stock", type=Path)
    args = parser.parse_args()
    which, jobs = args.only.split(","), []
    for kind in ["ours"] + (["stock"] if args.stock else []):
        share, left = divmod(args.runs, args.parallel)
        for i in range(args.parallel):
            if share + (i < left):
                jobs.append((kind, args.stock, which, share + (i < left), len(jobs) + 1))
    with multiprocessing.Pool(args.parallel, maxtasksperchild=1) as pool:
        results = pool.map(worker, jobs, 1)
    print(f"50 ms one way, 1 % loss, both behind port-restricted NATs; seconds over {args.runs} runs")
    print(f"{'':24} {'':6} {'p50':>7} {'p99':>7} {'worst':>7}   goal")
    for w in which:
        for kind in ["ours"] + (["stock"] if args.stock else []):
            v = [x for k, out in results if k == kind for x in out[w]]
            print(f"{TITLES[w]:24} {kind:6} {percentile(v, 0.5):7.2f} {percentile(v, 0.99):7.2f} {max(v):7.2f}   {GOALS[w]}")


if __name__ == "__main__":
    main()
