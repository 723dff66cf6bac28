"""Our tunnel (`nestbox wg`) against wireguard-go, both ends of each on this one machine: TCP with one and four streams,
UDP floods of 1280 and 64 bytes, ping when idle and beside a full stream, processor seconds per GB of both daemons,
memory. The programs take
turns, NB_BENCH_ROUNDS (3) times for NB_BENCH_SECONDS (6) per figure; printed are medians and the ratio to wireguard-go.
Other load on the machine disturbs both alike, more or less: trust the ratios, not the figures.
"""
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "net"))
from wg_lab import Lab, wireguard_go  # noqa: E402

ROUNDS = int(os.environ.get("NB_BENCH_ROUNDS", "3"))
SECONDS = int(os.environ.get("NB_BENCH_SECONDS", "6"))
ONLY = os.environ.get("NB_BENCH_ONLY", "")  # names of figures
OFFLOADS = os.environ.get("NB_BENCH_OFFLOADS")  # of ours


class Server:
    def __init__(self, end):
        self.end = end

    def __enter__(self):
        self.process = subprocess.Popen(["ip", "netns", "exec", self.end.ns, "iperf3", "-s", "-B", self.end.inner4],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def iperf(a, b, *args):
    """The end sums, bytes through the tunnel, and processor seconds of both daemons."""
    before = a.cpu() + b.cpu()
    text = a.execute("iperf3", "-c", b.inner4, "-t", str(SECONDS), "-J", *args, check=False)
    result = json.loads(text)
    if "error" in result:
        raise RuntimeError(result["error"])
    return result["end"], a.cpu() + b.cpu() - before


def tcp(a, b, streams):
    end, cpu = iperf(a, b, "-P", str(streams))
    received = end["sum_received"]
    return {"value": received["bits_per_second"] / 1e9, "cpu": cpu / (received["bytes"] / 1e9)}


def udp(a, b, size):
    end, cpu = iperf(a, b, "-u", "-b", "0", "-l", str(size))
    s = end["sum"]
    got = s["packets"] - s["lost_packets"]
    return {"value": got / s["seconds"] / 1e3, "cpu": cpu / max(got, 1) * 1e6}


def ping(a, b):
    text = a.execute("ping", "-n", "-q", "-c", "50", "-i", "0.02", b.inner4)
    return {"value": float(re.search(r"= [\d.]+/([\d.]+)/", text).group(1))}


def ping_loaded(a, b):
    """The 99th percentile while one TCP stream fills the tunnel."""
    with subprocess.Popen(["ip", "netns", "exec", a.ns, "iperf3", "-c", b.inner4, "-t", str(SECONDS)],
                          stdout=subprocess.DEVNULL) as load:
        time.sleep(0.5)
        text = a.execute("ping", "-n", "-i", "0.01", "-w", str(max(SECONDS - 1, 1)), b.inner4)
        load.wait()
    times = sorted(float(t) for t in re.findall(r"time=([\d.]+)", text))
    return {"value": times[len(times) * 99 // 100]}


FIGURES = [
    ("ping", "ms, idle, mean", ping),
    ("ping loaded", "ms, one TCP stream beside it, 99th percentile", ping_loaded),
    ("tcp1", "Gbit/s", lambda a, b: tcp(a, b, 1)),
    ("tcp4", "Gbit/s", lambda a, b: tcp(a, b, 4)),
    ("udp1280", "thousand packets/s received", lambda a, b: udp(a, b, 1280)),
    ("udp64", "thousand packets/s received", lambda a, b: udp(a, b, 64)),
]


def one_round(lab, kind, results):
    a, b = lab.pair(kind, kind, OFFLOADS if kind == "ours" else None, OFFLOADS if kind == "ours" else None)
    assert a.ping(b.inner4) == 3
    idle = max(a.rss()[0], b.rss()[0])
    with Server(b):
        for name, _, measure in FIGURES:
            if ONLY and name not in ONLY.split(","):
                continue
            for key, value in measure(a, b).items():
                results.setdefault((name, key), {}).setdefault(kind, []).append(value)
    results.setdefault(("rss", "idle"), {}).setdefault(kind, []).append(idle)
    results.setdefault(("rss", "peak"), {}).setdefault(kind, []).append(max(a.rss()[1], b.rss()[1]))


def row(what, unit, values):
    ours, theirs = (statistics.median(values[kind]) for kind in ("ours", "go"))
    print(f"{what:<22} {ours:>9.2f} {theirs:>12.2f} {ours / theirs:>7.2f}  {unit}", flush=True)


def main():
    results = {}
    wireguard_go()
    with Lab("nbbench") as lab:
        for i in range(ROUNDS):
            for kind in ("ours", "go") if i % 2 == 0 else ("go", "ours"):
                one_round(lab, kind, results)
    print(f"{'':<22} {'nestbox':>9} {'wireguard-go':>12} {'ratio':>7}  ({ROUNDS} x {SECONDS} s, medians)")
    for name, unit, _ in FIGURES:
        if (name, "value") in results:
            row(name, unit, results[name, "value"])
        if (name, "cpu") in results:
            row(f"{name} cpu", "s/GB, both daemons" if name.startswith("tcp") else "us/packet, both daemons", results[name, "cpu"])
    row("memory idle", "MB, the larger end", results["rss", "idle"])
    row("memory peak", "MB, the larger end", results["rss", "peak"])


if __name__ == "__main__":
    main()
