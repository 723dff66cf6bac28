"""Our tunnel (`nestbox wg`) against wireguard-go, both ends of each on this one machine: TCP with one and four streams,
UDP floods of 1280 and 64 bytes and the highest rates without loss, ping when idle and beside a full stream, what a renewal
of keys costs, processor seconds per GB of both daemons, memory; and TCP against boringtun. The programs take
turns, NB_BENCH_ROUNDS (3) times for NB_BENCH_SECONDS (6) per figure; printed are medians and the ratio. Each figure runs
alone with NB_BENCH_ONLY=name,name.
Other load on the machine disturbs both alike, more or less: trust the ratios, not the figures.
"""
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "net"))
from figures import ROUNDS, SECONDS, Goal, Server, iperf, leave_if_unwanted, row, skip, tcp, wanted  # noqa: E402
from wg_lab import Lab, boringtun, wireguard_go  # noqa: E402

OFFLOADS = os.environ.get("NB_BENCH_OFFLOADS")  # of ours
STEP = max(2, SECONDS // 3)  # seconds of one try at a rate
REKEY_SECONDS = 135  # a pair of keys is renewed after 120


def flood(a, b, size):
    """As fast as the sender can: what arrives."""
    result, cpu = iperf(a, b, "-u", "-b", "0", "-l", str(size))
    s = result["end"]["sum"]
    got = s["packets"] - s["lost_packets"]
    return {"value": got / s["seconds"] / 1e3, "cpu": cpu / max(got, 1) * 1e6}


def at_rate(a, b, size, kpps):
    """Thousand packets/s that arrived, and the part that was lost."""
    result, _ = iperf(a, b, "-u", "-b", str(int(kpps * 1e3 * size * 8)), "-l", str(size), seconds=STEP)
    s = result["end"]["sum"]
    return (s["packets"] - s["lost_packets"]) / s["seconds"] / 1e3, s["lost_packets"] / max(s["packets"], 1)


def lossfree(a, b, size):
    """The highest rate with less than 1 % loss. Each rate has two tries: a neighbour's hiccup is no loss of ours."""
    low, high, best = 8.0, 256.0, 0.0
    while high / low > 1.06:
        rate = (low * high) ** 0.5
        for _ in range(2):
            got, lost = at_rate(a, b, size, rate)
            if lost < 0.01:
                break
        if lost >= 0.01:
            high = rate
            continue
        best = max(best, got)
        if got < 0.93 * rate:
            break  # the sender cannot do more
        low = rate
    return {"value": best}


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
    ("ping", "ms, idle, mean", ping, Goal("ratio", most=0.5)),
    ("ping-loaded", "ms, one TCP stream beside it, 99th percentile", ping_loaded, Goal("ratio", most=1.0)),
    ("tcp1", "Gbit/s", lambda a, b: tcp(a, b, 1), Goal("ratio", least=2.0)),
    ("tcp4", "Gbit/s", lambda a, b: tcp(a, b, 4), Goal("ratio", least=2.0)),
    ("udp1280", "thousand packets/s received, flood", lambda a, b: flood(a, b, 1280), Goal("ratio", least=3.3)),
    ("udp64", "thousand packets/s received, flood", lambda a, b: flood(a, b, 64), Goal("ratio", least=2.2)),
    ("lossfree1280", "thousand packets/s, loss below 1 %", lambda a, b: lossfree(a, b, 1280), Goal("ratio", least=2.0)),
    ("lossfree64", "thousand packets/s, loss below 1 %", lambda a, b: lossfree(a, b, 64), Goal("ratio", least=2.0)),
]
CPU = {"tcp1": ("s/GB, both daemons", Goal("ours", most=1.75)), "tcp4": ("s/GB, both daemons", Goal("ours", most=1.75)),
       "udp1280": ("us/packet, both daemons", ()), "udp64": ("us/packet, both daemons", ())}
# Memory is told by whatever ran; rekey and boringtun have rounds of their own.
NAMES = [name for name, *_ in FIGURES] + ["rekey", "boringtun"]


def one_round(lab, kind, results):
    offloads = OFFLOADS if kind == "ours" else None
    a, b = lab.pair(kind, kind, offloads, offloads)
    assert a.ping(b.inner4) == 3
    time.sleep(1)
    idle = max(a.rss()[0], b.rss()[0])
    with Server(b):
        for name, _, measure, _ in FIGURES:
            if not wanted(name):
                continue
            for key, value in measure(a, b).items():
                results.setdefault((name, key), {}).setdefault(kind, []).append(value)
    results.setdefault(("memory", "idle"), {}).setdefault(kind, []).append(idle)
    results.setdefault(("memory", "peak"), {}).setdefault(kind, []).append(max(a.rss()[1], b.rss()[1]))


def against_go(lab):
    results = {}
    for i in range(ROUNDS):
        for kind in ("ours", "go") if i % 2 == 0 else ("go", "ours"):
            one_round(lab, kind, results)
    for name, unit, _, goal in FIGURES:
        if (name, "value") in results:
            v = results[name, "value"]
            row(name, unit, v["ours"], v["go"], goals=goal)
        if (name, "cpu") in results:
            v = results[name, "cpu"]
            row(f"{name} cpu", CPU[name][0], v["ours"], v["go"], goals=CPU[name][1])
    v = results["memory", "idle"]
    row("memory idle", "MB, the larger end", v["ours"], v["go"], goals=Goal("ours", most=3))
    v = results["memory", "peak"]
    row("memory peak", "MB, the larger end, after all of the above", v["ours"], v["go"], goals=Goal("ours", most=10))


def rekey(lab):
    """Half of what wireguard-go does without loss, until the keys are renewed: what is lost about that second."""
    lost = {}
    for kind in ("ours", "go"):
        a, b = lab.pair(kind, kind)
        assert a.ping(b.inner4) == 3
        first = handshake(a)
        with Server(b):
            began = time.time()
            result, _ = iperf(a, b, "-u", "-b", str(20_000 * 1280 * 8), "-l", "1280", "--get-server-output",
                              seconds=REKEY_SECONDS)
        at = handshake(a) - began
        assert handshake(a) > first, "the keys were not renewed"
        seconds = [(i["sum"]["start"] + 0.5 - at, i["sum"]["lost_packets"]) for i in result["server_output_json"]["intervals"]]
        about = [n for when, n in seconds if abs(when) < 2.5]
        # A busy machine loses some in every second.
        usual = statistics.mean(n for when, n in seconds if abs(when) >= 2.5)
        lost[kind] = max(0.0, sum(about) - len(about) * usual)
    row("rekey", "packets lost of 100,000 about a renewal of keys, beyond what is lost in other seconds", lost["ours"], lost["go"],
        goals=Goal("ours", most=100))


def handshake(end):
    return int(end.execute("wg", "show", end.interface, "latest-handshakes").split()[1])


def against_boringtun(lab):
    """TCP, one stream and four, in turns."""
    program, why = boringtun()
    if not program:
        skip("boringtun", why)
        return
    results = {}
    for i in range(ROUNDS):
        for kind in ("ours", "boringtun") if i % 2 == 0 else ("boringtun", "ours"):
            a, b = lab.pair(kind, kind)
            assert a.ping(b.inner4) == 3
            with Server(b):
                for streams in (1, 4):
                    for key, value in tcp(a, b, streams).items():
                        results.setdefault((streams, key), {}).setdefault(kind, []).append(value)
    for streams in (1, 4):
        v = results[streams, "value"]
        row(f"boringtun tcp{streams}", "Gbit/s", v["ours"], v["boringtun"], "boringtun", Goal("ratio", least=10))
        v = results[streams, "cpu"]
        row(f"boringtun tcp{streams} cpu", "s/GB, both daemons", v["ours"], v["boringtun"], "boringtun")


def main():
    leave_if_unwanted(NAMES)
    with Lab(f"nbb{os.getpid()}") as lab:
        wireguard_go()
        if any(wanted(name) for name, *_ in FIGURES):
            against_go(lab)
        if wanted("rekey"):
            rekey(lab)
        if wanted("boringtun"):
            against_boringtun(lab)


if __name__ == "__main__":
    main()
