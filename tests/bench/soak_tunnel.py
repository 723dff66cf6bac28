"""Our tunnel at full rate for NB_SOAK_SECONDS (3600), with everything that changes on its way: keys are renewed every two
minutes at each end. `make soak-tunnel` runs it; NB_SOAK_KIND is wg (two `nestbox wg`, the default) or agents (two agents and
their server). Through the tunnel run at once, from the first second to the last and on one connection each:

- iperf3, two TCP streams each way, for the load;
- a stream whose every byte is checked, 2 MB/s, IPv6 inside;
- ten pings a second.

Fails at once when a connection breaks, a byte is wrong, a program ends, a pair of keys is not renewed in time or nothing
came through for five seconds; and at the end when memory grew (the highest of the last three quarters above that of the first
by more than NB_SOAK_GROWTH, 256 kB) or passed 10 MB. Progress is a line a minute (NB_SOAK_LINE).
"""
import calendar
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "net"))
from wg_lab import Lab  # noqa: E402

SECONDS = int(os.environ.get("NB_SOAK_SECONDS", "3600"))
LINE = int(os.environ.get("NB_SOAK_LINE", "60"))
KIND = os.environ.get("NB_SOAK_KIND", "wg")
GROWTH_KB = int(os.environ.get("NB_SOAK_GROWTH", "256"))
SAMPLE = 5
PEAK_KB = 10 * 1024
RING = 300
# a pair of keys lives three minutes; at full rate it is renewed after two
REKEY_LATE = 150

# Both ends of the checked stream: pseudo-random blocks, numbered.
CHECKED = r"""
import hashlib, socket, struct, sys, time
way, address, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
def block(i):
    return hashlib.shake_128(struct.pack(">Q", i)).digest(20000)
if way == "receive":
    server = socket.create_server((address, 5601), family=socket.AF_INET6)
    print("ready", flush=True)
    s, _ = server.accept()
    s.settimeout(60)
    i = 0
    while True:
        want, got = block(i), b""
        while len(got) < len(want):
            data = s.recv(len(want) - len(got))
            if not data:
                assert not got, "ended inside a block"
                print(i, flush=True)
                s.sendall(b"done")
                sys.exit(0)
            got += data
        assert got == want, f"block {i} is damaged"
        i += 1
s = socket.create_connection((address, 5601), timeout=60)
end, i = time.monotonic() + seconds, 0
began = time.monotonic()
while time.monotonic() < end:
    s.sendall(block(i))
    i += 1
    time.sleep(max(0, began + i * 0.01 - time.monotonic()))
s.shutdown(socket.SHUT_WR)
assert s.recv(4) == b"done"
"""


class WgEnd:
    def __init__(self, end):
        self.ns, self.inner4, self.inner6, self.interface = end.ns, end.inner4, end.inner6, end.interface
        self.pid, self.end = end.process.pid, end

    def handshake(self):
        """The wall clock's second in which the pair of keys in use was made."""
        text = self.end.execute("wg", "show", self.interface, "latest-handshakes")
        return int(text.split()[1])


class WgPair:
    """Two programs `nestbox wg`."""

    def __enter__(self):
        self.lab = Lab(f"nbs{os.getpid()}").__enter__()
        return [WgEnd(e) for e in self.lab.pair("ours", "ours")]

    def __exit__(self, *_):
        self.lab.__exit__()


class AgentEnd:
    def __init__(self, lab, agent):
        status = agent.status()
        self.ns, self.agent, self.pid = lab.ns(agent.which), agent, agent.pid()
        self.inner4, self.inner6 = status["netbirdIp"].split("/")[0], status["netbirdIpv6"].split("/")[0]
        self.interface = "wt0"

    def handshake(self):
        stamp = self.agent.status()["peers"]["details"][0]["lastWireguardHandshake"]
        return calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))


class AgentPair:
    """Two agents that met through our server; access rules are in force."""

    def __enter__(self):
        import lab
        self.lab = lab.Lab()
        try:
            self.lab.start_server()
            key = self.lab.setup()
            agents = [self.lab.agent(name, ip).start() for name, ip in (("alpha", "10.78.0.2"), ("bravo", "10.78.0.3"))]
            for agent in agents:
                agent.up(key)
            ends = [AgentEnd(self.lab, agent) for agent in agents]
            lab.wait_for(lambda: agents[0].ping(ends[1].inner4))
            time.sleep(2)
            return ends
        except BaseException:
            self.lab.close()
            raise

    def __exit__(self, *_):
        self.lab.close()


def memory(pid):
    """kB in use now, and at most so far."""
    text = Path(f"/proc/{pid}/status").read_text()
    return [int(re.search(rf"{name}:\s+(\d+)", text).group(1)) for name in ("VmRSS", "VmHWM")]


def cpu(pid):
    f = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")


def octets(end):
    text = subprocess.run(["ip", "-n", end.ns, "-j", "-s", "link", "show", "dev", end.interface], check=True,
                          capture_output=True, text=True).stdout
    s = json.loads(text)[0]["stats64"]
    return s["rx"]["bytes"], s["tx"]["bytes"]


class Load:
    """What runs through the tunnel; fails as soon as part of it ends early."""

    def __init__(self, a, b, seconds):
        self.a, self.b, self.parts = a, b, {}
        self.servers = []
        self.serve(b, "iperf3", "-s", "-1", "-B", b.inner4)
        checked = self.serve(b, sys.executable, "-c", CHECKED, "receive", b.inner6, "0", stdout=subprocess.PIPE)
        assert checked.stdout.readline() == "ready\n"
        self.checked = checked
        time.sleep(0.5)
        self.began = time.monotonic()
        self.part("iperf3", a, "iperf3", "-c", b.inner4, "-t", str(seconds), "-P", "2", "--bidir", "-J")
        self.part("checked stream", a, sys.executable, "-c", CHECKED, "send", b.inner6, str(seconds))
        self.part("ping", a, "ping", "-n", "-q", "-i", "0.1", "-w", str(seconds), b.inner4)

    def serve(self, end, *command, **kw):
        p = subprocess.Popen(["ip", "netns", "exec", end.ns, *command], text=True, **{"stdout": subprocess.DEVNULL, **kw})
        self.servers.append(p)
        return p

    def part(self, name, end, *command):
        self.parts[name] = subprocess.Popen(["ip", "netns", "exec", end.ns, *command], text=True, stdout=subprocess.PIPE,
                                            stderr=subprocess.STDOUT)

    def look(self):
        for name, p in self.parts.items():
            if p.poll() is not None:
                raise AssertionError(f"{name} ended early ({p.returncode}): {p.stdout.read()[-600:]}")

    def finish(self):
        """What each part has to say at the end."""
        out = {}
        for name, p in self.parts.items():
            text, _ = p.communicate(timeout=90)
            assert p.returncode == 0, f"{name}: {text[-600:]}"
            out[name] = text
        out["blocks"], _ = self.checked.communicate(timeout=60)
        assert self.checked.returncode == 0, "the checked stream did not end well"
        return out

    def stop(self):
        for p in [*self.parts.values(), *self.servers]:
            # not asked: iperf3 would wait for its other end
            if p.poll() is None:
                p.kill()
                p.wait()


class Watch:
    """Samples of both ends, and what they must not show."""

    def __init__(self, ends):
        self.ends = ends
        self.began = time.monotonic()
        self.rss = []  # kB of each end
        self.keys = [[e.handshake()] for e in ends]
        self.moved = self.line_moved = [octets(e) for e in ends]
        self.line_cpu, self.line_at = [cpu(e.pid) for e in ends], self.began
        self.rates = []

    def sample(self):
        self.rss.append([memory(e.pid)[0] for e in self.ends])
        moved = [octets(e) for e in self.ends]
        for end, old, new in zip(self.ends, self.moved, moved):
            assert new[0] > old[0] and new[1] > old[1], f"no traffic at {end.ns} for {SAMPLE} s"
        self.moved = moved
        for end, keys in zip(self.ends, self.keys):
            stamp = end.handshake()
            if stamp != keys[-1]:
                keys.append(stamp)
            age = time.time() - keys[-1]
            assert age < REKEY_LATE, f"keys of {end.ns} are {age:.0f} s old"

    def line(self):
        now = time.monotonic()
        span, used = now - self.line_at, [cpu(e.pid) for e in self.ends]
        rx, tx = (new - old for new, old in zip(self.moved[0], self.line_moved[0]))
        rate = (rx + tx) * 8 / span / 1e9
        spent = sum(u - o for u, o in zip(used, self.line_cpu)) / max((rx + tx) / 1e9, 1e-9)
        self.rates.append(rate)
        print(f"{now - self.began:6.0f} s  {rate:6.2f} Gbit/s  {spent:5.2f} s/GB  rss {self.rss[-1]} kB  "
              f"keys {[len(k) for k in self.keys]}", flush=True)
        self.line_at, self.line_cpu, self.line_moved = now, used, self.moved

    def verdict(self, seconds):
        """Complaints, none when all is well."""
        out = []
        quarter = (len(self.rss) + 3) // 4
        for i, end in enumerate(self.ends):
            first = max(kb[i] for kb in self.rss[:quarter])
            rest = max(kb[i] for kb in self.rss[-max(len(self.rss) - quarter, 1):])
            peak = memory(end.pid)[1]
            print(f"memory of end {i + 1}: at most {first} kB in the first quarter, {rest} kB later, peak {peak} kB")
            if rest > first + GROWTH_KB:
                out.append(f"memory of end {i + 1} grew")
            if peak > PEAK_KB:
                out.append(f"memory of end {i + 1} passed {PEAK_KB} kB")
            print(f"pairs of keys at end {i + 1}: {len(self.keys[i])}")
            if len(self.keys[i]) < int(seconds / REKEY_LATE):
                out.append(f"too few pairs of keys at end {i + 1}")
        return out


def report(said, seconds):
    end = json.loads(said["iperf3"])["end"]
    for key, way in (("sum_received", "there"), ("sum_received_bidir_reverse", "back")):
        print(f"TCP {way}: {end[key]['bytes'] / 1e9:.1f} GB, {end[key]['bits_per_second'] / 1e9:.2f} Gbit/s")
    print(f"TCP retransmits there: {end['sum_sent'].get('retransmits')}")
    print(f"checked stream: {int(said['blocks']) * 20000 / 1e9:.2f} GB, every byte right")
    sent, got = map(int, re.search(r"(\d+) packets transmitted, (\d+) received", said["ping"]).groups())
    print(f"ping beside it: {sent - got} of {sent} lost, {re.search(r'= (.*)', said['ping']).group(1)}")
    assert got > 0 and int(said["blocks"]) > seconds


def main():
    pair = {"wg": WgPair, "agents": AgentPair}[KIND]()
    with pair as ends:
        a, b = ends
        subprocess.run(["ip", "netns", "exec", a.ns, "ping", "-c", "3", "-i", "0.2", b.inner4], check=True,
                       stdout=subprocess.DEVNULL)
        print(f"soak of {pair.__doc__.strip().rstrip('.')}: {SECONDS} s", flush=True)
        load = Load(a, b, SECONDS)
        try:
            time.sleep(2)
            # The ring of messages to control is memory that is touched once: by this, and not little by little later.
            for _ in range(RING):
                for end in ends:
                    end.handshake()
            watch = Watch(ends)
            line = LINE
            while (left := load.began + SECONDS - 1 - time.monotonic()) > 0:
                time.sleep(min(SAMPLE, left))
                if left < SAMPLE:
                    break
                load.look()
                watch.sample()
                if time.monotonic() - watch.began >= line:
                    watch.line()
                    line += LINE
            said = load.finish()
            bad = watch.verdict(SECONDS)
            report(said, SECONDS)
            if watch.rates:
                print(f"a line's rate, both ways together: {min(watch.rates):.2f} to {max(watch.rates):.2f}, "
                      f"median {statistics.median(watch.rates):.2f} Gbit/s")
        finally:
            load.stop()
    for text in bad:
        print(f"FAILED: {text}")
    print("soak: passed" if not bad else "soak: failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
