"""Traffic between two agents through the NetBird relay, or with --turn through TURN over UDP: throughput of one TCP stream, CPU of the agents for a gigabyte, idle round trip,
and the round trip while the control side is busy with status questions. Not a test: `python tests/bench/bench_relayed.py
[--agent OTHER-BINARY]... [--turn] [--seconds N] [--rounds N]`; each binary takes its turn in each round,
with the same server."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "net"))
import lab as lab_module  # noqa: E402
from lab import NESTBOX, SERVER_IP, Lab, wait_for  # noqa: E402

HZ = os.sysconf("SC_CLK_TCK")


def cpu(pid):
    f = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(f[11]) + int(f[12])) / HZ


def ping(lab, target, n=100):
    r = lab.exec("alpha", "ping", "-n", "-i", "0.01", "-c", str(n), "-W", "1", target, timeout=60)
    times = sorted(float(w.split("=")[1]) for w in r.stdout.split() if w.startswith("time="))
    return statistics.median(times), times[int(len(times) * .99) - 1]


def busy_ping(lab, a, target):
    """Status questions all the time, from three programs."""
    ends = time.monotonic() + 4
    loop = f"while [ $(date +%s) -lt {int(time.time()) + 4} ]; do {NESTBOX} client --daemon-addr {a.sock} status --json; done"
    env = {**os.environ, "NB_STATE_DIR": str(a.dir), "XDG_CONFIG_HOME": str(a.dir)}
    others = [subprocess.Popen(["ip", "netns", "exec", lab.ns("alpha"), "sh", "-c", loop], stdout=subprocess.DEVNULL,
                               env=env) for _ in range(3)]
    result = ping(lab, target)
    for p in others:
        p.wait(max(1, ends - time.monotonic()) + 10)
    return result


def run(binary, args):
    lab_module.NESTBOX = NESTBOX
    lab = Lab()
    try:
        env = {"NB_FORCE_RELAY": "true"}
        more = []
        if args.turn:
            env = {"NB_ICE_FORCE_RELAY_CONN": "true"}
            more = ["--relay-protocol=false"]
        lab.start_server(*more)
        key = lab.setup()
        lab_module.NESTBOX = Path(binary)
        a, b = (lab.agent(n, ip, env=env).start() for n, ip in (("alpha", "10.78.0.11"), ("bravo", "10.78.0.12")))
        a.up(key)
        b.up(key)
        target = b.ip()
        wait_for(lambda: a.ping(target), limit=20)
        idle = ping(lab, target)
        busy = busy_ping(lab, a, target)
        lab.spawn("bravo", "iperf3", "-s", "-1", "-B", target, log="iperf.log")
        time.sleep(0.3)
        before = [cpu(p) for p in (a.pid(), b.pid(), lab.server.pid)]
        r = lab.exec("alpha", "iperf3", "-c", target, "-t", str(args.seconds), "-J", timeout=args.seconds + 30)
        spent = [cpu(p) - c for p, c in zip((a.pid(), b.pid(), lab.server.pid), before)]
        got = json.loads(r.stdout)["end"]["sum_received"]
        gb = got["bytes"] / 1e9
        print(f"{binary}: {got['bits_per_second'] / 1e6:.0f} Mbit/s, CPU s/GB sender {spent[0] / gb:.2f} receiver {spent[1] / gb:.2f} "
              f"server {spent[2] / gb:.2f}; ping ms idle {idle[0]:.2f} p99 {idle[1]:.2f}, control busy {busy[0]:.2f} "
              f"p99 {busy[1]:.2f}; peak RSS kB {a.rss_kb()} {b.rss_kb()}", flush=True)
    finally:
        lab.close()


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--agent", action="append", default=[])
    p.add_argument("--turn", action="store_true")
    p.add_argument("--seconds", type=int, default=5)
    p.add_argument("--rounds", type=int, default=2)
    args = p.parse_args()
    for _ in range(args.rounds):
        for binary in [*args.agent, NESTBOX]:
            run(binary, args)


main()
