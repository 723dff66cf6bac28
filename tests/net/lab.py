"""A small network of this machine's own: namespaces on one bridge, our programs in them. Used by the tests that
run whole agents. Everything is ended by process id and every namespace removed on close()."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NESTBOX = ROOT / "out" / "nestbox"
LINK = ROOT / "out" / os.uname().machine / "test" / "net" / "link"
SERVER_IP = "10.78.0.1"
URL = f"http://{SERVER_IP}:8080"


def run(*args, check=True, timeout=60, **kw):
    r = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=timeout, **kw)
    if check and r.returncode:
        raise AssertionError(f"{args}: exit {r.returncode}\n{r.stdout}\n{r.stderr}")
    return r


def wait_for(what, limit=10.0, step=0.02):
    """Call what until it returns something true; the seconds it took."""
    began = time.monotonic()
    while True:
        if what():
            return time.monotonic() - began
        if time.monotonic() - began > limit:
            raise AssertionError(f"not within {limit} s: {what}")
        time.sleep(step)


def rss_kb(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"no memory figure of process {pid}")


class Lab:
    """Namespaces NAME-lan (bridge), NAME-srv, and one for each agent."""

    count = 0

    def __init__(self):
        Lab.count += 1
        self.name = f"nbt{os.getpid()}{Lab.count}"
        self.dir = Path(tempfile.mkdtemp(prefix="nbt-"))
        self.procs, self.agents, self.spaces = [], [], []
        self.server = None
        self.pat = None
        self.listen, self.url = f"{SERVER_IP}:8080", URL
        run("ip", "netns", "add", self.ns("lan"))
        self.spaces.append("lan")
        run("ip", "-n", self.ns("lan"), "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.ns("lan"), "link", "set", "br0", "up")
        self.host("srv", SERVER_IP)

    def ns(self, which):
        return f"{self.name}-{which}"

    def space(self, which):
        run("ip", "netns", "add", self.ns(which))
        self.spaces.append(which)
        run("ip", "-n", self.ns(which), "link", "set", "lo", "up")

    def host(self, which, ip):
        self.space(which)
        run("ip", "link", "add", "eth0", "netns", self.ns(which), "type", "veth", "peer", "name", f"to-{which}",
            "netns", self.ns("lan"))
        run("ip", "-n", self.ns("lan"), "link", "set", f"to-{which}", "master", "br0", "up")
        run("ip", "-n", self.ns(which), "addr", "add", f"{ip}/24", "dev", "eth0")
        run("ip", "-n", self.ns(which), "link", "set", "eth0", "up")

    def exec(self, which, *args, **kw):
        return run("ip", "netns", "exec", self.ns(which), *args, **kw)

    def spawn(self, which, *args, log, env=None):
        out = open(self.dir / log, "ab")
        p = subprocess.Popen(["ip", "netns", "exec", self.ns(which), *[str(a) for a in args]], stdout=out, stderr=out,
                             stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})
        out.close()
        self.procs.append(p)
        return p

    def log(self, name):
        return (self.dir / name).read_text(errors="replace")

    # --- the server

    def start_server(self, *more):
        self.server = self.spawn("srv", NESTBOX, "server", "--data-dir", self.dir / "srv", "--listen", self.listen,
                                 "--external-url", self.url, *more, log="srv.log")
        wait_for(lambda: self.exec("srv", "curl", "-gfs", f"{self.url}/api/instance", check=False).returncode == 0)

    def rss_kb(self):
        return rss_kb(self.server.pid)

    def setup(self):
        answer = self.api("POST", "/setup", {"email": "owner@example.com", "password": "Correct-horse-1", "name": "Owner",
                                             "create_pat": True, "pat_expire_in": 1}, auth=False)
        self.pat = answer["personal_access_token"]
        self.keys = {k["type"]: k["key"] for k in answer["setup_keys"]}
        return self.keys["reusable"]

    def api(self, method, path, body=None, auth=True, status=None):
        args = ["curl", "-gsS", "-X", method, "-w", "\n%{http_code}", f"{self.url}/api{path}"]
        if auth:
            args += ["-H", f"Authorization: Token {self.pat}"]
        if body is not None:
            args += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        text, _, code = self.exec("srv", *args).stdout.rpartition("\n")
        if status is None:
            assert code == "200", f"{method} {path}: {code} {text}"
        else:
            assert code == str(status), f"{method} {path}: {code} {text}"
        return json.loads(text) if text.strip() else None

    def key(self, **fields):
        spec = {"name": "test", "type": "reusable", "expires_in": 86400, "usage_limit": 0, "auto_groups": [], **fields}
        return self.api("POST", "/setup-keys", spec)

    # --- agents

    def agent(self, which, ip, **kw):
        a = Agent(self, which, ip, **kw)
        self.agents.append(a)
        return a

    def close(self):
        for p in self.procs:
            if p.poll() is None:
                p.send_signal(signal.SIGTERM)
        for p in self.procs:
            try:
                p.wait(5)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        for s in self.spaces:
            run("ip", "netns", "del", self.ns(s), check=False)
        shutil.rmtree(self.dir, ignore_errors=True)


class Agent:
    """One of our agents: its daemon in a namespace, its command line."""

    def __init__(self, lab, which, ip=None, env=None):
        self.lab, self.which, self.env = lab, which, env or {}
        self.dir = lab.dir / which
        self.dir.mkdir()
        if ip:
            lab.host(which, ip)
        self.daemon = None

    @property
    def sock(self):
        return f"unix://{self.dir}/sock"

    def start(self):
        self.daemon = self.lab.spawn(self.which, NESTBOX, "client", "service", "run", "--daemon-addr", self.sock, "--log-file",
                                     "console", log=f"{self.which}.log", env={"NB_STATE_DIR": str(self.dir), **self.env})
        wait_for(lambda: (self.dir / "sock").exists())
        return self

    def cli(self, *args, check=True, timeout=60):
        env = {**os.environ, "NB_STATE_DIR": str(self.dir), "XDG_CONFIG_HOME": str(self.dir)}
        return self.lab.exec(self.which, NESTBOX, "client", "--daemon-addr", self.sock, *args, check=check, timeout=timeout,
                             env=env)

    def up(self, key=None, check=True, **kw):
        args = ["up", "--management-url", self.lab.url, "--hostname", self.which]
        return self.cli(*args, *(["--setup-key", key] if key else []), check=check, **kw)

    def status(self):
        return json.loads(self.cli("status", "--json").stdout)

    def ip(self):
        return self.status()["netbirdIp"].split("/")[0]

    def ping(self, ip, wait="0.2"):
        r = self.lab.exec(self.which, "ping", "-q", "-c", "1", "-W", wait, ip, check=False)
        return r.returncode == 0

    def kill(self):
        """As sudden as a power cut."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        self.daemon.wait(5)

    def pid(self):
        # `ip netns exec` becomes the program, so the child's id is the program's.
        return self.daemon.pid

    def rss_kb(self):
        return rss_kb(self.pid())
