"""Whole agents, at their MTU of 1280 and with access rules: TCP with the policy of a new account against TCP with 1,000
rules, between the same two agents; and, where stock binaries are given (NB_STOCK=DIR, `make bench STOCK=DIR`; netbird is what
is needed), a pair of ours against a pair of stock's, both joined to a server of ours."""
import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "net"))
from figures import ROUNDS, Goal, Server, cpu_of, leave_if_unwanted, row, skip, tcp, wanted  # noqa: E402
from lab import wait_for  # noqa: E402
from stock_mix import IPS, Mix  # noqa: E402

RULES = 1000
OPEN = 5201  # iperf3's port
NAMES = ["rules", "stock"]


class End:
    """An agent as figures.py takes it. Its daemon runs below `unshare` and `sh`, which became it."""

    def __init__(self, mix, client):
        self.client, self.ns, self.inner4 = client, mix.ns(client.which), client.ip()

    def cpu(self):
        return cpu_of(self.client.pid())

    def peak_mb(self):
        text = Path(f"/proc/{self.client.pid()}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", text).group(1)) / 1024


class Pair:
    """Two agents of one kind and a server of ours."""

    def __init__(self, kind, stock):
        self.kind, self.stock = kind, stock

    def __enter__(self):
        self.mix = Mix(self.stock, "one", "direct", "error")
        try:
            self.mix.start_servers()
            key = self.mix.key()["key"]
            for name in IPS:
                self.mix.client(name, self.kind).start().up(key)
            a, b = self.mix.agents
            wait_for(lambda: "/" not in a.ip() and a.ip() and b.ip(), limit=20)
            wait_for(lambda: a.ping(b.ip(), "1") and a.link() == b.link() == "P2P", limit=60, step=0.3)
            return self.mix, End(self.mix, a), End(self.mix, b)
        except BaseException:
            self.mix.close()
            raise

    def __exit__(self, *_):
        self.mix.close()


class Policies:
    """The policy of a new account, which allows all, or RULES rules of one port each between two groups."""

    def __init__(self, mix):
        self.mix = mix
        ids = {p["hostname"]: p["id"] for p in mix.api("GET", "/peers")}
        groups = {name: mix.api("POST", "/groups", {"name": name, "peers": [ids[name]]})["id"] for name in IPS}
        self.default = mix.api("GET", "/policies")[0]
        first = OPEN - RULES // 2
        self.rule = {"name": "many", "enabled": True, "action": "accept", "bidirectional": True, "protocol": "tcp",
                     "sources": list(groups.values()), "destinations": list(groups.values()),
                     "ports": [str(first + i) for i in range(RULES)]}
        self.many = mix.api("POST", "/policies", {"name": "many", "enabled": False, "rules": [self.rule]})["id"]

    def use(self, many):
        rules = [{k: v for k, v in {**r, "sources": [g["id"] for g in r["sources"]],
                                    "destinations": [g["id"] for g in r["destinations"]]}.items() if v is not None}
                 for r in self.default["rules"]]
        # never a moment without either
        for on in (True, False):
            if on == many:
                self.mix.api("PUT", f"/policies/{self.many}", {"name": "many", "enabled": many, "rules": [self.rule]})
            if on != many:
                self.mix.api("PUT", f"/policies/{self.default['id']}", {"name": "Default", "enabled": not many, "rules": rules})


def open_port(a, b, port):
    """Does b refuse (nobody listens) rather than drop?"""
    r = subprocess.run(["ip", "netns", "exec", a.ns, "nc", "-w", "1", "-v", "-z", b.inner4, str(port)], capture_output=True,
                       text=True)
    return "refused" in r.stderr


def rules():
    results = {}
    with Pair("ours", Path("/nonexistent")) as (mix, a, b):
        policies = Policies(mix)
        for i in range(max(ROUNDS, 3) * 2):
            many = i % 4 in (1, 2)
            policies.use(many)
            # ping is allowed by the one and not by the other, which shows that it is in force
            wait_for(lambda: a.client.ping(b.inner4, "1") != many, limit=15)
            assert open_port(a, b, OPEN + 1) and open_port(a, b, 80) != many
            with Server(b):
                for key, value in tcp(a, b).items():
                    results.setdefault(key, {}).setdefault(many, []).append(value)
    v = results["value"]
    row("rules", "Gbit/s with 1,000 rules, peer: one that allows all", v[True], v[False], "ourselves")
    v = results["cpu"]
    row("rules cpu", "s/GB with 1,000 rules, peer: one that allows all", v[True], v[False], "ourselves", Goal("ratio", most=1.05))


def stock():
    directory = os.environ.get("NB_STOCK")
    if not directory:
        skip("stock", "no stock binaries given: NB_STOCK=DIR (or make bench STOCK=DIR), as for scripts/stock-mix.sh")
        return
    directory = Path(directory).resolve()
    if not (directory / "netbird").exists():
        skip("stock", f"{directory} has no netbird")
        return
    results = {}
    for i in range(ROUNDS):
        for kind in ("ours", "stock") if i % 2 == 0 else ("stock", "ours"):
            with Pair(kind, directory) as (_, a, b), Server(b):
                got = {**{f"tcp1 {k}": v for k, v in tcp(a, b, 1).items()}, **{f"tcp4 {k}": v for k, v in tcp(a, b, 4).items()},
                       "peak": max(a.peak_mb(), b.peak_mb())}
            for key, value in got.items():
                results.setdefault(key, {}).setdefault(kind, []).append(value)
    for streams in ("tcp1", "tcp4"):
        v = results[f"{streams} value"]
        row(f"agents {streams}", "Gbit/s, MTU 1280", v["ours"], v["stock"], "stock", Goal("ratio", least=2))
        v = results[f"{streams} cpu"]
        row(f"agents {streams} cpu", "s/GB, both daemons", v["ours"], v["stock"], "stock")
    v = results["peak"]
    row("agents memory peak", "MB, the larger end", v["ours"], v["stock"], "stock", Goal("ours", most=10))


def main():
    leave_if_unwanted(NAMES)
    if wanted("rules"):
        rules()
    if wanted("stock"):
        stock()


if __name__ == "__main__":
    main()
