"""Handshakes can't starve data, and data can't starve handshakes: a flood of initiations that look right from outside, from a
thousand addresses, while a connection runs and a new peer comes (ours asks for cookies then); a connection at full rate while
a new peer comes. wg_load makes the flood."""
import json
import os
import subprocess
import time

import pytest

from wg_lab import OURS, Lab, allow_sources, eventually, load_command, run, wireguard_go

SECONDS = 4
RATE = 20000


@pytest.fixture(scope="module")
def lab():
    with Lab("nbload") as lab:
        allow_sources(lab, 1000)
        yield lab


def counters(end):
    text = end.execute(OURS, "wg", end.interface, "--counters")
    return {k: int(v) for k, v in (line.split("=") for line in text.splitlines()) if v.isdigit()}


class Newcomer:
    """A program more in the first namespace, of which the other end learns at the last moment."""

    def __init__(self, ns, kind, number=0):
        self.ns, self.name, self.number = ns, f"nbnew{os.getpid() % 100000}n{number}", number
        self.private = run("wg", "genkey").strip()
        self.public = run("wg", "pubkey", input=self.private).strip()
        command = [OURS, "wg", self.name] if kind == "ours" else [wireguard_go(), "-f", self.name]
        self.process = subprocess.Popen(["ip", "netns", "exec", ns, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert eventually(lambda: self.wg("show", self.name, check=False))
        self.wg("set", self.name, "private-key", "/dev/stdin", input=self.private)
        run("ip", "-n", ns, "link", "set", self.name, "up")

    def wg(self, *args, **kw):
        return run("ip", "netns", "exec", self.ns, "wg", *args, **kw)

    def meet(self, other):
        """Seconds until the handshake is done at both ends."""
        other.execute("wg", "set", other.interface, "peer", self.public, "allowed-ips", f"10.85.9.{self.number}/32")
        began = time.monotonic()
        self.wg("set", self.name, "peer", other.public, "allowed-ips", "10.85.8.8/32", "endpoint",
                f"10.84.0.{other.number}:{51840 + other.number}", "persistent-keepalive", "20")
        assert eventually(lambda: not self.wg("show", self.name, "latest-handshakes").endswith("\t0\n"), 15)
        took = time.monotonic() - began
        assert eventually(lambda: f"{self.public}\t0\n" not in other.execute("wg", "show", other.interface, "latest-handshakes"))
        return took

    def stop(self):
        self.process.terminate()
        self.process.wait(5)


class Iperf:
    def __init__(self, a, b, seconds):
        self.server = subprocess.Popen(["ip", "netns", "exec", b.ns, "iperf3", "-s", "-1", "-B", b.inner4],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        self.client = subprocess.Popen(["ip", "netns", "exec", a.ns, "iperf3", "-c", b.inner4, "-t", str(seconds), "-i", "1", "-J"],
                                       stdout=subprocess.PIPE, text=True)

    def end(self):
        """Gbit/s received in all, and in the worst second."""
        text, _ = self.client.communicate(timeout=60)
        self.server.wait(10)
        result = json.loads(text)
        assert "error" not in result, result["error"]
        return (result["end"]["sum_received"]["bits_per_second"] / 1e9,
                min(i["sum"]["bits_per_second"] for i in result["intervals"] if i["sum"]["seconds"] > 0.9) / 1e9)


def test_flood_of_handshakes(lab):
    a, b = lab.pair("ours", "ours")
    assert a.ping(b.inner4) == 3
    quiet, _ = Iperf(a, b, 2).end()
    newcomers = [Newcomer(a.ns, "ours", i) for i in range(3)]
    flood = subprocess.Popen(["ip", "netns", "exec", a.ns, *load_command("flood", b, 1000), "--rate", str(RATE), "--seconds",
                              "60"], stdout=subprocess.DEVNULL)
    try:
        # its messages are made first
        assert eventually(lambda: counters(b)["cookies_sent"] > 1000, 30)
        load = Iperf(a, b, SECONDS)
        time.sleep(0.5)
        before = counters(b)
        # Clocks of shared machines stall: one of three. Without an attempt soon after a cookie none takes below 5 s.
        took = min(newcomer.meet(b) for newcomer in newcomers)
        after = counters(b)
        busy, worst = load.end()
        assert flood.poll() is None, "the flood ended before the measurement"
    finally:
        flood.kill()
        flood.wait()
        for newcomer in newcomers:
            newcomer.stop()
    assert after["cookies_sent"] > before["cookies_sent"], "cookies were not asked for: there was no load"
    assert took < 1, f"a new peer waited {took:.2f} s"
    # The flood's own program and the kernel's way for its packets take their part of the two processors, too.
    assert busy > quiet / 5 and worst > 0, f"{busy:.2f} Gbit/s, at worst {worst:.2f}, with {quiet:.2f} before the flood"
    print(f"{busy:.2f} of {quiet:.2f} Gbit/s, a new peer in {took:.2f} s")


@pytest.mark.parametrize("kind", ["ours", "go"])
def test_data_at_full_rate(lab, kind):
    a, b = lab.pair("ours", "ours")
    assert a.ping(b.inner4) == 3
    newcomer = Newcomer(a.ns, kind)
    try:
        load = Iperf(a, b, 3)
        time.sleep(1)
        took = newcomer.meet(b)
        load.end()
    finally:
        newcomer.stop()
    assert took < 1, f"a new peer waited {took:.2f} s"
