"""Stock NetBird and nestbox programs in every mix; scripts/stock-mix.sh says how to call it. Not a test of the suite:
stock binaries are the caller's. A row is SERVERS/PATH/CLIENTS, for example ours/turn/stock-ours."""
import argparse
import json
import os
import re
import shutil
import sys
import time
import traceback
from pathlib import Path

from lab import NESTBOX, SERVER_IP, URL, Agent, Lab, wait_for

# Which program plays which part: n nestbox, s stock; `one`: the combined server.
SERVERS = {
    "one": {"one": "n", "paths": ["direct", "relay", "lazy"]},
    "ours": {"mgmt": "n", "signal": "n", "relay": "n", "paths": ["direct", "turn", "tcp", "relay"]},
    "stock": {"one": "s", "paths": ["direct", "relay", "lazy"]},
    "stockmgmt": {"mgmt": "s", "signal": "n", "relay": "n", "paths": ["direct", "turn", "relay"]},
    "ourmgmt": {"mgmt": "n", "signal": "s", "relay": "s", "paths": ["direct", "relay"]},
}
# tcp: UDP is blocked altogether, TURN over TCP is what is left; nestbox clients do not have that.
# lazy: a direct path between clients that sleep, see look_lazy(); a row takes five minutes, for stock looks once a minute.
CLIENTS = ["stock-stock", "stock-ours", "ours-ours"]
SECRET = "bWl4LXNlY3JldC1taXgtc2VjcmV0LW1peC1zZWNyZXQ="
STORE_KEY = "bmVzdGJveC1taXgtc3RvcmUta2V5LTMyLWJ5dGVzISE="
IPS = {"alpha": "10.78.0.2", "bravo": "10.78.0.3"}
DELETE_LIMIT = 5
RESTART_LIMIT = 60

# Programs may write /etc (resolv.conf, ssh) and /run: give each its own. iptables is hidden so that stock uses nftables.
PRIVATE = r"""
mkdir -p "$1" && mount -t tmpfs tmpfs "$1" && mkdir "$1/up" "$1/work" &&
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/up,workdir=$1/work" /etc || exit 1
mkdir -p /run/wireguard && mount -t tmpfs tmpfs /run/wireguard
for f in /usr/sbin/xtables-nft-multi /usr/sbin/xtables-legacy-multi; do [ -e $f ] && mount --bind /dev/null $f; done
rm -f /etc/resolv.conf; echo "nameserver 10.78.0.253" >/etc/resolv.conf
hostname "$2"; shift 2; exec "$@"
"""


class Client(Agent):
    """A client of either kind, daemon in its namespace with a private /etc."""

    def __init__(self, lab, which, kind, ip):
        super().__init__(lab, which, ip)
        self.kind = kind
        self.program = [lab.stock / "netbird"] if kind == "stock" else [NESTBOX, "client"]

    def start(self):
        (self.dir / "sock").unlink(missing_ok=True)
        args = ["unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c", PRIVATE, "sh", self.dir / "etc", self.which,
                *self.program, "service", "run", "--daemon-addr", self.sock, "--log-file", "console", "--log-level",
                self.lab.level]
        self.daemon = self.lab.spawn(self.which, *args, log=f"{self.which}.log", env={"NB_STATE_DIR": str(self.dir),
                                                                                       "HOME": str(self.dir), **self.env})
        wait_for(lambda: (self.dir / "sock").exists())
        return self

    def cli(self, *args, check=True, timeout=60):
        env = {**os.environ, "NB_STATE_DIR": str(self.dir), "HOME": str(self.dir), "XDG_CONFIG_HOME": str(self.dir)}
        return self.lab.exec(self.which, *self.program, "--daemon-addr", self.sock, *args, check=check, timeout=timeout, env=env)

    def status(self):
        r = self.cli("status", "--json", check=False)
        try:
            return json.loads(r.stdout)
        except ValueError:
            return {"daemonStatus": "none", "peers": {"details": []}, "management": {}, "signal": {}}

    def stop(self):
        self.daemon.terminate()
        self.daemon.wait(15)

    def link(self):
        """The one peer as the status shows it: "P2P", "TURN", "Relay" or "". Stock calls a pair P2P when it met the
        other's relayed address before hearing of it; the address tells."""
        for p in self.status()["peers"]["details"] or []:
            if p["status"] != "Connected":
                return ""
            if p["connectionType"] != "Relayed":
                end = (p.get("iceCandidateEndpoint") or {}).get("remote", "")
                return "TURN" if end.startswith(SERVER_IP + ":") else p["connectionType"]
            return "Relay" if p.get("relayAddress") else "TURN"
        return ""


class Mix(Lab):
    def __init__(self, stock, servers, path, level):
        super().__init__()
        self.stock, self.parts, self.path, self.level = stock, SERVERS[servers], path, level
        self.running = {}

    # --- servers

    def program(self, kind, ours, theirs):
        return [NESTBOX, *ours] if kind == "n" else [self.stock / theirs]

    def config_json(self):
        relay = {"Addresses": [f"rel://{SERVER_IP}:33080"], "CredentialsTTL": "24h", "Secret": SECRET}
        proto = "tcp" if self.path == "tcp" else "udp"
        turn = [{"Proto": proto, "URI": f"turn:{SERVER_IP}:3478?transport={proto}", "Username": "self", "Password": "x"}]
        conf = {
            "Stuns": [{"Proto": "udp", "URI": f"stun:{SERVER_IP}:3478", "Username": "", "Password": ""}],
            "TURNConfig": {"Turns": turn if self.path in ("turn", "tcp") else [], "CredentialsTTL": "12h", "Secret": SECRET,
                           "TimeBasedCredentials": True},
            "Signal": {"Proto": "http", "URI": f"{SERVER_IP}:10000", "Username": "", "Password": ""},
            "Datadir": str(self.dir / "srv"), "DataStoreEncryptionKey": STORE_KEY, "StoreConfig": {"Engine": "sqlite"},
            "ReverseProxy": {"TrustedHTTPProxies": [], "TrustedHTTPProxiesCount": 0, "TrustedPeers": ["0.0.0.0/0"]},
            "EmbeddedIdP": {"Enabled": True, "Issuer": f"{URL}/oauth2", "DashboardRedirectURIs": [f"{URL}/nb-auth"],
                            "CLIRedirectURIs": ["http://localhost:53000/"]},
        }
        if self.path == "relay":
            conf["Relay"] = relay
        return json.dumps(conf)

    def config_yaml(self):
        return json.dumps({"server": {
            "listenAddress": ":8080", "exposedAddress": URL, "stunPorts": [3478], "metricsPort": 9090,
            "healthcheckAddress": ":9000", "logLevel": self.level, "logFile": "console", "authSecret": SECRET,
            "dataDir": str(self.dir / "srv"), "disableAnonymousMetrics": True, "disableGeoliteUpdate": True,
            "auth": {"issuer": f"{URL}/oauth2", "dashboardRedirectURIs": [f"{URL}/nb-auth"],
                     "cliRedirectURIs": ["http://localhost:53000/"]},
            "store": {"engine": "sqlite", "encryptionKey": STORE_KEY}}})  # JSON is YAML

    def command(self, part):
        kind = self.parts[part]
        if part == "one":
            return [*self.program(kind, ["server"], "netbird-server"), "--config", self.dir / "config"]
        if part == "mgmt":
            return [*self.program(kind, ["management"], "netbird-mgmt"), "management", "--config", self.dir / "config",
                    "--datadir", self.dir / "srv", "--port", "8080", "--metrics-port", "9090", "--log-file", "console",
                    "--log-level", self.level, "--disable-anonymous-metrics", "--disable-geolite-update",
                    "--disable-legacy-port", "--dns-domain", "netbird.selfhosted"]
        if part == "signal":
            return [*self.program(kind, ["signal"], "netbird-signal"), "run", "--port", "10000", "--metrics-port", "9091",
                    "--log-file", "console", "--log-level", self.level]
        if kind == "n" and self.path in ("turn", "tcp"):
            return [NESTBOX, "relay", "--turn-listen", f"{SERVER_IP}:3478", "--turn-secret", SECRET]
        args = ["--enable-stun", "--stun-ports", "3478", "--log-level", self.level]
        if kind == "s" or self.path == "relay":
            args += ["--listen-address", ":33080", "--exposed-address", f"rel://{SERVER_IP}:33080", "--auth-secret", SECRET]
        if kind == "s":
            args += ["--health-listen-address", "127.0.0.1:9001", "--metrics-port", "9092"]
        return [*self.program(kind, ["relay"], "netbird-relay"), *args]

    def start_part(self, part):
        self.running[part] = self.spawn("srv", *self.command(part), log=f"{part}.log",
                                        env={"NB_SETUP_PAT_ENABLED": "true", "NB_DISABLE_GEOLOCATION": "true"})

    def stop_part(self, part):
        self.running[part].terminate()
        self.running[part].wait(20)

    def answers(self):
        for part, p in self.running.items():
            if p.poll() is not None:
                raise AssertionError(f"{part} ended: {self.log(part + '.log')[-400:]}")
        return self.exec("srv", "curl", "-fs", f"{URL}/api/instance", check=False).returncode == 0

    def start_servers(self):
        (self.dir / "srv").mkdir()
        (self.dir / "config").write_text(self.config_yaml() if "one" in self.parts else self.config_json())
        for part in ("relay", "signal", "mgmt", "one"):
            if part in self.parts:
                self.start_part(part)
        wait_for(self.answers, limit=60)
        answer = self.api("POST", "/setup", {"email": "owner@example.com", "password": "Correct-horse-1", "name": "Owner",
                                             "create_pat": True, "pat_expire_in": 1}, auth=False)
        self.pat = answer["personal_access_token"]

    # --- what is looked at

    def client(self, which, kind):
        c = Client(self, which, kind, IPS[which])
        self.agents.append(c)
        return c

    def block(self):
        udp = "meta l4proto udp oifname eth0 drop;" if self.path == "tcp" else ""
        for a, b in (("alpha", "bravo"), ("bravo", "alpha")):
            rules = (f"table inet mix {{\n"
                     f"chain in {{ type filter hook input priority -300; ip saddr {IPS[b]} drop; ip6 saddr fe80::/10 udp dport != 546 drop; }}\n"
                     f"chain out {{ type filter hook output priority -300; ip daddr {IPS[b]} drop; {udp} }}\n"
                     f"}}\n")
            self.exec(a, "nft", "-f", "-", input=rules)


def loss(a, target):
    r = a.lab.exec(a.which, "ping", "-q", "-i", "0.05", "-w", "3", target, check=False)
    return float(re.search(r"([\d.]+)% packet loss", r.stdout).group(1))


def both(mix, key):
    return all(c.status().get(key, {}).get("connected") for c in mix.agents)


class Row:
    COLUMNS = ["join", "ping", "types", "loss%", "mgmt", "signal", "relay", "client", "delete"]
    LAZY = ["join", "asleep", "wake", "wakeback", "sleeps", "tells", "never"]

    def __init__(self, name):
        self.name, self.cells, self.why = name, {}, []

    def check(self, column, what):
        """Fill in a cell; a failure leaves `FAIL` there and the reason below the table."""
        try:
            value = what()
            self.cells[column] = f"{value:.2f}" if isinstance(value, float) else str(value)
            return True
        except Exception as e:
            self.cells[column] = "FAIL"
            self.why.append(f"{column}: {str(e).strip()[-600:]}")
            return False


def join(mix, c, key):
    began = time.monotonic()
    c.up(key, timeout=60)
    wait_for(lambda: c.status()["daemonStatus"] == "Connected", limit=20)
    return time.monotonic() - began


def types(mix, want):
    a, b = mix.agents
    seen = {}

    def look():
        seen["a"], seen["b"] = a.link(), b.link()
        return seen["a"] == seen["b"] == want
    try:
        # Relay first, direct when found: wait for the better one, with something to carry.
        wait_for(lambda: a.ping(b.address, "1") and look(), limit=25, step=0.3)
    except AssertionError:
        raise AssertionError(f"want {want}, alpha shows {seen.get('a')!r}, bravo {seen.get('b')!r}")
    return f"{seen['a']}/{seen['b']}"


def restart_server(mix, part, key):
    """Links that do not lead through it outlive it, and the clients come back."""
    a, b = mix.agents
    carries = part in ("one", "relay") and mix.path != "direct"
    mix.stop_part(part)
    if not carries:
        assert a.ping(b.address, "1") or a.ping(b.address, "1"), f"the link died with {part}"
    mix.start_part(part)
    wait_for(mix.answers, limit=30)
    began = time.monotonic()
    if carries:
        wait_for(lambda: a.ping(b.address, "1"), limit=RESTART_LIMIT)
    wait_for(lambda: both(mix, key), limit=RESTART_LIMIT, step=0.2)
    wait_for(lambda: a.ping(b.address, "1"), limit=3)
    return time.monotonic() - began


def restart_client(mix):
    a, b = mix.agents
    b.stop()
    assert not a.ping(b.address, "0.3"), "bravo is gone and still answers"
    began = time.monotonic()
    b.start()
    wait_for(lambda: a.ping(b.address, "0.5"), limit=RESTART_LIMIT)
    return time.monotonic() - began


def delete(mix):
    a, b = mix.agents
    peer = next(p for p in mix.api("GET", "/peers") if p["hostname"].startswith("bravo"))
    mix.api("DELETE", f"/peers/{peer['id']}")
    return wait_for(lambda: not a.ping(b.address, "0.3") and a.link() == "", limit=DELETE_LIMIT)


def look(mix, row, kinds):
    want = {"direct": "P2P", "turn": "TURN", "tcp": "TURN", "relay": "Relay"}[mix.path]
    a, b = (mix.client(n, k) for n, k in zip(IPS, kinds))
    if mix.path != "direct":
        mix.block()
    key = mix.key()["key"]
    a.start()
    b.start()
    join(mix, a, key)
    if not row.check("join", lambda: join(mix, b, key)):
        return
    a.address, b.address = a.ip(), b.ip()
    if not row.check("ping", lambda: wait_for(lambda: a.ping(b.address, "0.2"), limit=20)):
        return
    row.check("types", lambda: types(mix, want))

    def lossy():
        lost = loss(a, b.address)
        assert lost == 0, f"{lost} % lost"
        return lost
    row.check("loss%", lossy)
    one = "one" in mix.parts
    row.check("mgmt", lambda: restart_server(mix, "one" if one else "mgmt", "management"))
    row.check("signal", lambda: wait_for(lambda: both(mix, "signal"), limit=RESTART_LIMIT) if one else
              restart_server(mix, "signal", "signal"))
    if not one:
        row.check("relay", lambda: restart_server(mix, "relay", "management"))
    row.check("client", lambda: restart_client(mix))
    row.check("delete", lambda: delete(mix))


def first_ping(a, target):
    """Seconds to the answer of the one packet that wakes both."""
    r = a.lab.exec(a.which, "ping", "-c", "1", "-W", "8", target, check=False)
    assert r.returncode == 0, "the first packet was lost"
    return float(re.search(r"time=([\d.]+) ms", r.stdout)[1]) / 1000


def asleep(mix):
    return all(p["status"] == "Idle" for c in mix.agents for p in c.status()["peers"]["details"] or [{"status": "none"}])


def again(mix, alpha, bravo):
    """Both daemons anew, with these variables; they connect by themselves."""
    for c, env in zip(mix.agents, (alpha, bravo)):
        if c.daemon:
            c.stop()
        c.env = env
        c.start()
    for c in mix.agents:
        wait_for(lambda: c.status()["daemonStatus"] == "Connected", limit=30, step=0.2)
    wait_for(lambda: both(mix, "signal"), limit=20, step=0.2)


def threshold(c):
    # The shortest that each takes; stock looks once a minute.
    return {"NB_LAZY_CONN": "on", "NB_LAZY_CONN_INACTIVITY_THRESHOLD": "1m" if c.kind == "stock" else "3s"}


def falls_asleep(mix, who):
    """`who` has the short threshold: it sleeps, and tells the other one."""
    other = next(c for c in mix.agents if c is not who)
    first_ping(other, who.address)
    took = wait_for(lambda: asleep(mix), limit=150 if who.kind == "stock" else 15, step=0.2)
    first_ping(other, who.address)
    return took


def never_sleeps(mix):
    """alpha keeps its connections: bravo, which would sleep, is called back and leaves it so."""
    a, b = mix.agents
    again(mix, {"NB_LAZY_CONN": "off"}, threshold(b))
    wait_for(lambda: a.link() and b.link(), limit=20, step=0.2)
    time.sleep(70 if b.kind == "stock" else 20)
    wait_for(lambda: a.ping(b.address, "1"), limit=15)
    return f"{loss(b, a.address):.0f}% lost"


def look_lazy(mix, row, kinds):
    a, b = (mix.client(n, k) for n, k in zip(IPS, kinds))
    key = mix.key()["key"]
    a.env, b.env = {"NB_LAZY_CONN": "on"}, threshold(b)
    a.start()
    b.start()
    join(mix, a, key)
    if not row.check("join", lambda: join(mix, b, key)):
        return
    a.address, b.address = a.ip(), b.ip()
    row.check("asleep", lambda: wait_for(lambda: asleep(mix), limit=10))
    time.sleep(2)
    row.check("wake", lambda: first_ping(a, b.address))
    row.check("sleeps", lambda: falls_asleep(mix, b))
    again(mix, threshold(a), {"NB_LAZY_CONN": "on"})
    row.check("wakeback", lambda: first_ping(b, a.address))
    row.check("tells", lambda: falls_asleep(mix, a))
    row.check("never", lambda: never_sleeps(mix))


def run_row(args, name):
    servers, path, pair = name.split("/")
    row = Row(name)
    mix = Mix(args.stock, servers, path, args.log_level)
    try:
        mix.start_servers()
        (look_lazy if path == "lazy" else look)(mix, row, pair.split("-"))
    except Exception as e:
        row.why.append(f"{e if isinstance(e, AssertionError) else traceback.format_exc()}"[-1500:])
    finally:
        if args.keep:
            kept = args.keep / name.replace("/", "-")
            shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir(parents=True)
            for f in mix.dir.glob("*.log"):
                shutil.copy(f, kept)
        mix.close()
    return row


def rows(stock):
    out = []
    for name, s in SERVERS.items():
        need = {{"mgmt": "netbird-mgmt", "signal": "netbird-signal", "relay": "netbird-relay", "one": "netbird-server"}[part]
                for part, kind in s.items() if kind == "s"}
        if all((stock / n).exists() for n in need):
            out += [f"{name}/{path}/{pair}" for path in s["paths"] for pair in CLIENTS
                    if path != "tcp" or pair == "stock-stock"]
    return out


def main():
    p = argparse.ArgumentParser(prog="stock-mix.sh")
    p.add_argument("--stock", type=Path, required=True, help="directory with stock binaries")
    p.add_argument("--only", default="", help="regular expression: rows to run")
    p.add_argument("--list", action="store_true", help="print the rows and end")
    p.add_argument("--keep", type=Path, help="copy each row's logs below this directory")
    p.add_argument("--log-level", default="info")
    args = p.parse_args()
    args.stock = args.stock.resolve()
    todo = [r for r in rows(args.stock) if re.search(args.only, r)]
    if args.list:
        print("\n".join(todo))
        return 0
    failed, shown = 0, None
    for name in todo:
        row = run_row(args, name)
        columns = Row.LAZY if "/lazy/" in name else Row.COLUMNS
        if columns is not shown:
            print(f"{'row':32}" + "".join(f"{c:>12}" for c in columns), flush=True)
            shown = columns
        failed += bool(row.why)
        print(f"{name:32}" + "".join(f"{row.cells.get(c, '-'):>12}" for c in columns), flush=True)
        for w in row.why:
            print("    " + w.replace("\n", "\n    "), flush=True)
    print("join, ping: seconds; mgmt, signal, relay, client: seconds until all is well after its restart; delete: until the link is gone")
    print("lazy rows: asleep: until both are; wake, wakeback: seconds to the first answer; sleeps, tells: until bravo's, alpha's "
          "threshold put both to sleep; never: with an alpha that does not sleep")
    print(f"{len(todo) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
