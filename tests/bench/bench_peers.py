"""One `nestbox wg` with 1,000 peers against one wireguard-go with the same: memory per peer, known and with a session each;
handshakes answered per second and per second of processor time, driven by wg_load (tests/net/wg_load.c), whose initiators
have an address each and were prepared beforehand; and what 1,000 entries in one peer's allowed-ips cost TCP."""
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "net"))
from figures import ROUNDS, SECONDS, Goal, Server, leave_if_unwanted, row, tcp, wanted  # noqa: E402
from wg_lab import Lab, allow_sources, load_command, load_keys, wireguard_go  # noqa: E402

PEERS = 1000
WINDOW = 64  # handshakes under way; wireguard-go asks for cookies when 128 wait
NAMES = ["peers-memory", "handshakes", "allowed-ips"]


def settled_kb(end):
    """Memory in kB once it stops growing."""
    time.sleep(0.5)
    last = end.rss()[0]
    for _ in range(20):
        time.sleep(0.2)
        now = end.rss()[0]
        if now <= last:
            break
        last = now
    return now * 1024


def configure(end):
    """1,000 peers, an inner address each. Returns kB that one took."""
    before = settled_kb(end)
    text = "".join(f"[Peer]\nPublicKey = {key}\nAllowedIPs = 10.87.{i // 250}.{i % 250}/32\n"
                   for i, key in enumerate(load_keys(PEERS)))
    began = time.monotonic()
    end.execute("wg", "addconf", end.interface, "/dev/stdin", input=text)
    count = len(end.execute("wg", "show", end.interface, "peers").split())
    assert count == PEERS + 1, count
    return (settled_kb(end) - before) / PEERS, time.monotonic() - began


def many(lab):
    results = {}
    for i in range(ROUNDS):
        for kind in ("ours", "go") if i % 2 == 0 else ("go", "ours"):
            a, b = lab.pair(kind, kind)
            assert a.ping(b.inner4) == 3
            allow_sources(lab, PEERS)
            base = settled_kb(b)
            each, _ = configure(b)
            got = {"peer": each}
            cpu = b.cpu()
            said = json.loads(a.execute(*load_command("handshakes", b, PEERS), "--window", str(WINDOW), "--seconds",
                                        str(max(SECONDS, 3)), timeout=120))
            assert said["opened"] > said["answered"] // 200 and said["answered"] > PEERS, said
            got["rate"] = said["rate"]
            got["per cpu"] = said["answered"] / (b.cpu() - cpu)
            got["session"] = (settled_kb(b) - base) / PEERS
            for name, value in got.items():
                results.setdefault(name, {}).setdefault(kind, []).append(value)
    if wanted("peers-memory"):
        v = results["peer"]
        row("peer configured", "kB of memory each, 1,000 of them", v["ours"], v["go"], goals=Goal("ratio", most=1))
        v = results["session"]
        row("peer with a session", "kB of memory each, 1,000 of them", v["ours"], v["go"], goals=Goal("ratio", most=1))
    if wanted("handshakes"):
        v = results["rate"]
        row("handshakes", "answered per second, 1,000 initiators", v["ours"], v["go"])
        v = results["per cpu"]
        row("handshakes per cpu", "answered per second of processor time", v["ours"], v["go"], goals=Goal("ratio", least=1))


def allowed(lab):
    """TCP between a pair whose receiver and sender know one prefix of each other, or 1,000; medians of the processor time
    decide, the rates of a shared machine spread more than a lookup costs."""
    results = {}
    for i in range(max(ROUNDS, 3)):
        for count in (1, 1000) if i % 2 == 0 else (1000, 1):
            a, b = lab.pair("ours", "ours")
            more = ",".join(f"10.{88 + k // 250}.{k % 250}.0/24" for k in range(count - 1))
            for end, other in ((a, b), (b, a)):
                if more:
                    end.execute("wg", "set", end.interface, "peer", other.public, "allowed-ips",
                                f"{other.inner4}/32,{other.inner6}/128,{more}")
            assert a.ping(b.inner4) == 3
            with Server(b):
                for key, value in tcp(a, b).items():
                    results.setdefault(key, {}).setdefault(count, []).append(value)
    v = results["value"]
    row("allowed-ips", "Gbit/s with 1,000 entries, peer: with one", v[1000], v[1], "ourselves")
    v = results["cpu"]
    row("allowed-ips cpu", "s/GB with 1,000 entries, peer: with one", v[1000], v[1], "ourselves", Goal("ratio", most=1.05))


def main():
    leave_if_unwanted(NAMES)
    with Lab(f"nbp{os.getpid()}") as lab:
        wireguard_go()
        if wanted("peers-memory") or wanted("handshakes"):
            many(lab)
        if wanted("allowed-ips"):
            allowed(lab)


if __name__ == "__main__":
    main()
