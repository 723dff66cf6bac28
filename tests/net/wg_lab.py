"""Two namespaces joined by a veth pair, with one WireGuard program in each: for the offload tests and the benchmark.

    PREFIX-1                          PREFIX-2
    eth0 10.84.0.1, fd84::1  ------  eth0 10.84.0.2, fd84::2     MTU 1500
    inner 10.85.0.1, fd85::1 ======  inner 10.85.0.2, fd85::2    MTU 1420
"""
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
OURS = os.environ.get("NB_PROGRAM", str(TOP / "out/nestbox"))
# As in test_wireguard_interop.py: the Go module, and an older version of it for Go before 1.21.
MODULE = "golang.zx2c4.com/wireguard"
VERSION, OLD_VERSION = "v0.0.0-20260522210424-ecfc5a8d5446", "v0.0.0-20230223181233-21636207a675"
BORINGTUN = "0.7.1"
SOCKETS = Path("/var/run/wireguard")


def run(*command, check=True, **kw):
    return subprocess.run(command, check=check, capture_output=True, text=True, **kw).stdout


def wireguard_go():
    """The program, built once from its module."""
    program = TOP / "out/peers/wireguard-go"
    if not program.exists():
        tool = shutil.which("go") or "/usr/local/go/bin/go"
        (program.parent / "bin").mkdir(parents=True, exist_ok=True)
        minor = int(re.search(r"go1\.(\d+)", run(tool, "version")).group(1))
        env = dict(os.environ, GOBIN=str(program.parent / "bin"), GOFLAGS="-mod=mod")
        subprocess.run([tool, "install", f"{MODULE}@{VERSION if minor >= 21 else OLD_VERSION}"], env=env, check=True, cwd="/")
        (program.parent / "bin/wireguard").rename(program)
    return str(program)


def boringtun():
    """The program, built once from its crate: (path, ""), or (None, why not)."""
    program = TOP / "out/peers/boringtun/bin/boringtun-cli"
    if program.exists():
        return str(program), ""
    tool = shutil.which("cargo") or os.path.expanduser("~/.cargo/bin/cargo")
    if not os.path.exists(tool):
        return None, "no cargo here: apt-get install cargo"
    done = subprocess.run([tool, "install", "-q", "boringtun-cli", "--version", BORINGTUN, "--root", str(program.parent.parent)],
                          capture_output=True, text=True)
    if done.returncode:
        return None, f"cargo install boringtun-cli: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}"
    return str(program), ""


def eventually(what, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.05)
    return False


class End:
    """One program in its namespace. kind: "ours", "go" or "boringtun"; offloads: NB_TUNNEL_OFFLOADS; wrap: a command to run it under,
    which must become the program."""

    def __init__(self, ns, number, kind, offloads=None, mtu=1420, wrap=()):
        self.ns, self.number, self.kind, self.offloads, self.mtu, self.wrap = ns, number, kind, offloads, mtu, wrap
        self.interface = f"nbl{os.getpid() % 100000}{chr(96 + number)}"
        self.env = {}
        self.inner4, self.inner6 = f"10.85.0.{number}", f"fd85::{number}"
        self.private = run("wg", "genkey").strip()
        self.public = run("wg", "pubkey", input=self.private).strip()
        self.process = None

    def execute(self, *args, **kw):
        return run("ip", "netns", "exec", self.ns, *args, **kw)

    def ip(self, *args):
        return run("ip", "-n", self.ns, *args)

    def listens(self):
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(str(SOCKETS / f"{self.interface}.sock"))
            return True
        except OSError:
            return False

    def command(self):
        return [wireguard_go(), "-f", self.interface] if self.kind == "go" else [OURS, "wg", self.interface, "--mtu", str(self.mtu)]

    def start(self):
        command = self.command()
        env = dict(os.environ, **self.env)
        if self.kind == "boringtun":
            command = [boringtun()[0], "-f", "--disable-drop-privileges", self.interface]
        if self.offloads is not None:
            env["NB_TUNNEL_OFFLOADS"] = self.offloads
        self.process = subprocess.Popen(["ip", "netns", "exec", self.ns, *self.wrap, *command], env=env,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert eventually(self.listens), "no socket"
        self.execute("wg", "set", self.interface, "private-key", "/dev/stdin", "listen-port", str(51840 + self.number),
                     input=self.private)
        self.ip("addr", "add", f"{self.inner4}/24", "dev", self.interface)
        self.ip("addr", "add", f"{self.inner6}/64", "dev", self.interface, "nodad")
        self.ip("link", "set", self.interface, "mtu", str(self.mtu), "up")

    def know(self, other, outer6=False):
        host = f"[fd84::{other.number}]" if outer6 else f"10.84.0.{other.number}"
        self.execute("wg", "set", self.interface, "peer", other.public, "allowed-ips", f"{other.inner4}/32,{other.inner6}/128",
                     "endpoint", f"{host}:{51840 + other.number}")

    def ping(self, to, *more):
        text = self.execute("ping", "-n", "-c", "3", "-i", "0.1", "-W", "2", *more, to, check=False)
        return int(re.search(r"(\d+) received", text).group(1))

    def cpu(self):
        """Seconds of processor time used so far."""
        f = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self):
        """MB of memory in use now, and at most so far."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return [int(re.search(rf"{name}:\s+(\d+)", text).group(1)) / 1024 for name in ("VmRSS", "VmHWM")]

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(5)
        self.process = None


LOAD = TOP / "out" / os.uname().machine / "test/net/wg_load"


def load_keys(count):
    """Public keys of wg_load's initiators."""
    return run(str(LOAD), "keys", "--count", str(count)).split()


def load_command(what, to, count):
    """wg_load in the other namespace, its initiators having the addresses from 10.86.0.0 on (see allow_sources)."""
    return [str(LOAD), what, "--to", f"10.84.0.{to.number}:{51840 + to.number}", "--peer", to.public, "--source", "10.86.0.0",
            "--count", str(count)]


def allow_sources(lab, count):
    """Addresses for wg_load in the first namespace, and the way back to them."""
    assert count <= 16384
    for ns, route in ((lab.names[0], ["local", "10.86.0.0/18", "dev", "lo"]), (lab.names[1], ["10.86.0.0/18", "via", "10.84.0.1"])):
        run("ip", "-n", ns, "route", "replace", *route)


class Lab:
    def __init__(self, prefix):
        self.names = [f"{prefix}-1", f"{prefix}-2"]
        self.ends = []

    def __enter__(self):
        self.remove()
        for ns in self.names:
            run("ip", "netns", "add", ns)
            run("ip", "-n", ns, "link", "set", "lo", "up")
        run("ip", "-n", self.names[0], "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.names[1])
        for i, ns in enumerate(self.names, 1):
            run("ip", "-n", ns, "addr", "add", f"10.84.0.{i}/24", "dev", "eth0")
            run("ip", "-n", ns, "addr", "add", f"fd84::{i}/64", "dev", "eth0", "nodad")
            run("ip", "-n", ns, "link", "set", "eth0", "up")
        return self

    def __exit__(self, *_):
        self.stop()
        self.remove()

    def remove(self):
        for ns in self.names:
            subprocess.run(["ip", "netns", "del", ns], stderr=subprocess.DEVNULL)

    def pair(self, kind1, kind2, offloads1=None, offloads2=None, mtu=1420, outer6=False, wrap=()):
        """A fresh pair that knows each other; wrap is for the first."""
        self.stop()
        self.ends = [End(self.names[0], 1, kind1, offloads1, mtu, wrap), End(self.names[1], 2, kind2, offloads2, mtu)]
        for end in self.ends:
            end.start()
        for end, other in (self.ends, self.ends[::-1]):
            end.know(other, outer6)
        return self.ends

    def stop(self):
        for end in self.ends:
            end.stop()
        self.ends = []
