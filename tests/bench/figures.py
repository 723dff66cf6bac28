"""What the benchmarks of whole programs share: which figures are wanted and how long, iperf3 through a tunnel, and rows of the
table at the end, each with the ratio to the peer measured in the same run and, where there is one, the goal.

    NB_BENCH_ONLY=tcp1,rules    these figures alone        NB_BENCH_ROUNDS, NB_BENCH_SECONDS    shorter or longer
    figures.py FILE             the table of all rows in FILE; exit status 1 when a goal is missed
"""
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = int(os.environ.get("NB_BENCH_ROUNDS", "3"))
SECONDS = int(os.environ.get("NB_BENCH_SECONDS", "6"))
ONLY = [name for name in os.environ.get("NB_BENCH_ONLY", "").split(",") if name]
RESULTS = os.environ.get("NB_BENCH_RESULTS")  # bench.sh collects the rows of all


def wanted(name):
    return not ONLY or name in ONLY


def leave_if_unwanted(names):
    """For the start of main(): --list prints the names of a file's figures; none wanted, nothing to do."""
    if "--list" in sys.argv:
        print("\n".join(names))
        sys.exit(0)
    if not any(wanted(name) for name in names):
        sys.exit(0)


class Goal:
    """at_least or at_most a number, of the ratio (what="ratio") or of ours (what="ours")."""

    def __init__(self, what, least=None, most=None):
        self.what, self.least, self.most = what, least, most

    def met(self, ours, ratio):
        value = ratio if self.what == "ratio" else ours
        if value is None:
            return False
        return value >= self.least if self.least is not None else value <= self.most

    def __str__(self):
        sign, value = (">=", self.least) if self.least is not None else ("<=", self.most)
        return f"{sign} {value:g}{'x' if self.what == 'ratio' else ''}"


def row(name, unit, ours, theirs=None, peer="wireguard-go", goals=()):
    """One line: medians of what was measured, lists or numbers. goals: a Goal or several."""
    ours, theirs = (statistics.median(v) if isinstance(v, list) else v for v in (ours, theirs))
    ratio = ours / theirs if theirs else None
    goals = [goals] if isinstance(goals, Goal) else goals
    r = {"name": name, "unit": unit, "ours": ours, "theirs": theirs, "peer": peer if theirs is not None else "", "ratio": ratio,
         "goal": ", ".join(map(str, goals)), "met": all(g.met(ours, ratio) for g in goals)}
    show(r)
    if RESULTS:
        with open(RESULTS, "a") as f:
            f.write(json.dumps(r) + "\n")
    return r


def skip(name, why):
    print(f"{name:<24} not measured: {why}", flush=True)
    if RESULTS:
        with open(RESULTS, "a") as f:
            f.write(json.dumps({"name": name, "skipped": why}) + "\n")


def show(r):
    if "skipped" in r:
        print(f"{r['name']:<24} not measured: {r['skipped']}", flush=True)
        return
    number = "{:>10.2f}".format
    theirs = number(r["theirs"]) if r["theirs"] is not None else " " * 10
    ratio = f"{r['ratio']:>6.2f}x" if r["ratio"] is not None else " " * 7
    verdict = f"{r['goal']} {'met' if r['met'] else 'MISSED'}" if r["goal"] else ""
    print(f"{r['name']:<24}{number(r['ours'])} {theirs} {ratio}  {r['peer']:<13} {verdict:<20} {r['unit']}", flush=True)


def table(path):
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()] if Path(path).exists() else []
    if not rows:
        return 0
    print(f"\n{'figure':<24}{'nestbox':>10} {'peer':>10} {'ratio':>7}  {'peer':<13} {'goal':<20} unit")
    for r in rows:
        show(r)
    missed = [r["name"] for r in rows if not r.get("met", True)]
    print(f"goals missed: {', '.join(missed)}" if missed else "no goal missed")
    return 1 if missed else 0


def cpu_of(pid):
    """Seconds of processor time a process has used so far."""
    f = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")


class Server:
    """iperf3 -s at one end of a tunnel; ends have ns, inner4 and cpu()."""

    def __init__(self, end):
        self.end = end

    def __enter__(self):
        self.process = subprocess.Popen(["ip", "netns", "exec", self.end.ns, "iperf3", "-s", "-J", "-B", self.end.inner4],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def iperf(a, b, *args, seconds=SECONDS):
    """The client's whole answer, and processor seconds of both daemons."""
    before = a.cpu() + b.cpu()
    text = subprocess.run(["ip", "netns", "exec", a.ns, "iperf3", "-c", b.inner4, "-t", str(seconds), "-J", *args],
                          capture_output=True, text=True, timeout=seconds + 60).stdout
    result = json.loads(text)
    if "error" in result:
        raise RuntimeError(result["error"])
    return result, a.cpu() + b.cpu() - before


def tcp(a, b, streams=1):
    """Gbit/s received and processor seconds per GB of both daemons."""
    result, cpu = iperf(a, b, "-P", str(streams))
    received = result["end"]["sum_received"]
    return {"value": received["bits_per_second"] / 1e9, "cpu": cpu / (received["bytes"] / 1e9)}


if __name__ == "__main__":
    sys.exit(table(sys.argv[1]))
