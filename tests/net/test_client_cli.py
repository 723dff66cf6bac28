"""The agent's command line and control socket without a network: grpcio as an independent caller of the
daemon, `netbird` against the daemon, refusals, profiles, who may do what, the socket's life. Joining a network
is test_client.py's business."""
import importlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

ROOT = (Path(__file__).parent / "../..").resolve()
NESTBOX = ROOT / "out/nestbox"
KEY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="session")
def pb(tmp_path_factory):
    """The messages, generated from our description of the control service by Google's compiler."""
    from grpc_tools import protoc
    out = tmp_path_factory.mktemp("daemon_pb")
    names = ("daemon.proto", "nestbox.proto", "management.proto")
    for name in names:
        (out / name).write_text((ROOT / "src/proto" / name).read_text().replace(
            'import "wkt.proto";',
            'import "google/protobuf/timestamp.proto";\nimport "google/protobuf/duration.proto";'))
    include = Path(importlib.import_module("grpc_tools").__file__).parent / "_proto"
    assert protoc.main(["protoc", f"-I{out}", f"-I{include}", f"--python_out={out}", str(out / "daemon.proto"),
                        *[str(out / n) for n in names[1:]]]) == 0
    sys.path.insert(0, str(out))
    return importlib.import_module("daemon_pb2")


class Agent:
    def __init__(self, directory):
        self.dir, self.process = directory, None
        self.sock = directory / "d.sock"
        self.env = {"PATH": os.environ["PATH"], "HOME": str(directory), "NB_STATE_DIR": str(directory / "state"),
                    "NB_DAEMON_ADDR": f"unix://{self.sock}"}

    def start(self, *flags):
        self.process = subprocess.Popen([NESTBOX, "client", "service", "run", "--log-file", "console", *flags], env=self.env,
                                        stderr=open(self.dir / "log", "ab"))
        end = time.time() + 5
        while time.time() < end and self.process.poll() is None:
            try:
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(str(self.sock))
                    return self
            except OSError:
                time.sleep(0.02)
        raise AssertionError((self.dir / "log").read_text())

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            return self.process.wait(5)
        return None

    def run(self, *args, env=None, user=None):
        return subprocess.run([NESTBOX, "client", *args], env={**self.env, **(env or {})}, user=user, text=True,
                              capture_output=True, timeout=60, check=False)

    def ok(self, *args, **kw):
        r = self.run(*args, **kw)
        assert r.returncode == 0, r.stderr
        return r.stdout

    def bad(self, *args, **kw):
        """What was printed after "Error: "."""
        r = self.run(*args, **kw)
        assert r.returncode == 1
        assert "Error: " in r.stderr, r.stderr
        return r.stderr[r.stderr.rindex("Error: ") + 7:].rstrip("\n")

    def attempt(self, *args, **kw):
        """A command that would try for half a minute: ended once the log shows that nobody answers."""
        log = self.dir / "log"
        begin = log.stat().st_size
        p = subprocess.Popen([NESTBOX, "client", *args], env={**self.env, **kw.pop("env", {})}, text=True,
                             stderr=subprocess.PIPE, **kw)
        end = time.time() + 10
        while p.poll() is None and "cannot connect" not in log.read_text()[begin:]:
            assert time.time() < end
            time.sleep(0.02)
        p.terminate()
        assert p.wait(5) == -signal.SIGTERM, p.stderr.read()
        p.stderr.close()

    def call(self, pb, name, request, answer, timeout=5):
        with grpc.insecure_channel(f"unix:{self.sock}") as channel:
            return channel.unary_unary(f"/daemon.DaemonService/{name}", lambda m: m.SerializeToString(),
                                       answer.FromString)(request, timeout=timeout)


@pytest.fixture
def agent(tmp_path):
    a = Agent(tmp_path)
    yield a
    a.stop(signal.SIGKILL)


def test_version_and_refusals(agent):
    assert agent.ok("version") == "0.77.1\n"
    assert agent.bad("nosuch") == 'unknown command "nosuch" for "netbird"\nRun \'netbird --help\' for usage.'
    assert agent.bad("status", "--nosuch") == "unknown flag: --nosuch"
    assert agent.bad("status", "-d", "--json").startswith("if any flags in the group [detail json yaml ipv4 ipv6]")
    assert agent.bad("status", "-S", "up").startswith("wrong status filter")
    assert agent.bad("up", "--mtu", "9") == "MTU 9 is out of range, it must be between 576 and 8192"
    assert "external-ip-map" in agent.bad("up", "--external-ip-map", "here")
    assert "formatted as IP:Port" in agent.bad("up", "--dns-resolver-address", "127.0.0.1")
    assert "invalid domain format" in agent.bad("up", "--extra-dns-labels", "a..b")
    assert agent.bad("up", "-k", KEY, "--setup-key-file", "x").startswith("if any flags in the group [setup-key")
    assert agent.bad("profile", "add") == "accepts 1 arg(s), received 0"
    for words in (["ssh", "host"], ["expose", "80"], ["debug", "bundle"], ["completion"], ["status", "-A"]):
        assert agent.bad(*words).startswith("not supported by nestbox: ")
    assert "Usage:\n  netbird up [flags]" in agent.ok("up", "--help") == agent.ok("help", "up")
    assert "Available Commands:" in agent.ok()


def test_no_daemon(agent):
    begin = time.time()
    text = agent.bad("status")
    assert text.startswith("failed to connect to daemon error: ")
    assert text.endswith("If the daemon is not running please run: \nnetbird service install \nnetbird service start\n"[:-1])
    assert 5 < time.time() - begin < 15
    # one that starts meanwhile is found
    late = subprocess.Popen([NESTBOX, "client", "status", "--check", "live"], env=agent.env)
    time.sleep(0.5)
    agent.start()
    assert late.wait(5) == 0


def test_fresh_machine(agent):
    agent.start()
    assert stat.S_IMODE(agent.sock.stat().st_mode) == 0o666
    assert agent.ok("status").startswith("Daemon status: NeedsLogin\n")
    status = json.loads(agent.ok("status", "--json"))
    assert (status["daemonStatus"], status["daemonVersion"], status["profileName"]) == ("NeedsLogin", "0.77.1", "default")
    assert "status is NeedsLogin" in agent.bad("status", "--check", "ready")
    assert "no management URL is known: give one with netbird up --management-url" in agent.bad("up")
    assert "cannot connect" in agent.bad("login", "-m", "http://127.0.0.1:1", "-k", KEY)
    assert agent.ok("down") == "Disconnected\n"
    profile = agent.dir / "state/default.json"
    assert stat.S_IMODE(profile.stat().st_mode) == 0o600
    stored = json.loads(profile.read_text())
    assert stored["ManagementURL"]["Host"] == "127.0.0.1:1"
    assert json.loads((agent.dir / "state/active_profile.json").read_text()) == {"name": "default", "username": ""}


def test_environment_beats_flags(agent):
    agent.start()
    env = {"NB_MTU": "1400", "WT_MTU": "1300", "NB_MANAGEMENT_URL": "http://127.0.0.1:1"}
    agent.attempt("up", "--mtu", "1290", "--interface-name", "nb7", env=env)
    config = json.loads(agent.ok("debug", "config"))
    assert (config["mtu"], config["interfaceName"]) == ("1400", "nb7")
    assert config["managementUrl"] == "http://127.0.0.1:1"


def test_settings_come_back(agent):
    agent.start()
    flags = ["--wireguard-port", "51999", "--disable-dns", "--block-inbound=true", "--network-monitor", "--preshared-key",
             "iKt8GdEJ7KXzEkPueTFYhrvFONdT/7zWYStliOw/rGA=", "--extra-dns-labels", "one,two", "--external-ip-map", "192.0.2.1"]
    agent.attempt("up", "-m", "http://127.0.0.1:1", *flags)
    config = json.loads(agent.ok("debug", "config"))
    assert (config["wireguardPort"], config["disableDns"], config["blockInbound"]) == ("51999", True, True)
    assert config["preSharedKey"] == "**********"
    stored = json.loads((agent.dir / "state/default.json").read_text())
    assert (stored["DNSLabels"], stored["NATExternalIPs"]) == (["one", "two"], ["192.0.2.1"])
    agent.attempt("up", "--extra-dns-labels", "", "--external-ip-map", "")
    stored = json.loads((agent.dir / "state/default.json").read_text())
    assert (stored["DNSLabels"], stored["NATExternalIPs"]) == (None, None)
    assert "not supported by nestbox" in agent.bad("up", "--enable-rosenpass")


def test_profiles(agent):
    agent.start()
    assert agent.ok("profile", "list") == "NAME     ACTIVE\ndefault  \u2713\n"
    work = agent.ok("profile", "add", "my work").split()[2]
    agent.ok("profile", "add", "home")
    assert "already use the name \"home\"" in agent.ok("profile", "add", "home")
    assert "ambiguous" in agent.bad("profile", "select", "home")
    assert agent.ok("profile", "select", work) == f"Profile switched to: {work}\n"
    chosen = (agent.dir / ".config/netbird/active_profile.txt").read_text()
    assert chosen.startswith(work) and len(chosen) == 32
    assert f"{work}  my work  \u2713" in agent.ok("profile", "list", "--show-id")
    assert "Profile: my work" in agent.ok("status") or agent.ok("status").startswith("Daemon status")
    assert agent.ok("profile", "rename", work, "office") == "Profile renamed from my work to office\n"
    assert "cannot remove active profile" in agent.bad("profile", "rm", work)
    assert agent.ok("profile", "select", "default") == "Profile switched to: default\n"
    assert agent.ok("profile", "rm", "office") == f"Profile removed: {chosen}\n"
    assert agent.bad("profile", "select", "office") == 'profile "office" not found'


def test_ordinary_user(agent):
    """Anybody may ask; turning the SSH server's guards off takes root, and the refusal names the command."""
    agent.start()
    os.chmod(agent.dir, 0o755)
    for parent in agent.dir.parents[:3]:
        if str(parent).startswith("/tmp/"):
            os.chmod(parent, 0o755)
    env = {"HOME": "/nonexistent"}
    assert agent.run("status", "--check", "live", env=env, user=65534).returncode == 0
    text = agent.bad("up", "-m", "http://127.0.0.1:1", "--enable-ssh-root", env=env, user=65534)
    assert text == ("Enabling SSH root login requires root.\n\n"
                    "    sudo netbird down; sudo netbird up --enable-ssh-root")
    agent.attempt("up", "-m", "http://127.0.0.1:1", env=env, user=65534)


def test_others_cannot_keep_root_out(agent):
    """The control socket is open to everybody, but a user who holds all its places holds none against root."""
    agent.start()
    os.chmod(agent.dir, 0o755)
    for parent in agent.dir.parents[:3]:
        if str(parent).startswith("/tmp/"):
            os.chmod(parent, 0o755)
    hold = ("import os, socket, sys, time\n"
            "os.setuid(65534)\n"
            "held = []\n"
            "for i in range(100):\n"
            "    s = socket.socket(socket.AF_UNIX)\n"
            "    s.connect(sys.argv[1])\n"
            "    held.append(s)\n"
            "    time.sleep(0.005)\n"
            "print('held', flush=True)\n"
            "time.sleep(60)\n")
    other = subprocess.Popen([sys.executable, "-c", hold, str(agent.sock)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        begin = time.time()
        for _ in range(3):
            assert agent.run("status", "--check", "live").returncode == 0
        assert time.time() - begin < 2
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def test_grpcio_calls_us(agent, pb):
    agent.start()
    r = agent.call(pb, "Status", pb.StatusRequest(getFullPeerStatus=True), pb.StatusResponse)
    assert (r.status, r.fullStatus.managementState.URL) == ("NeedsLogin", "")
    with pytest.raises(grpc.RpcError) as e:
        agent.call(pb, "Login", pb.LoginRequest(), pb.LoginResponse)
    assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as e:
        agent.call(pb, "TracePacket", pb.DownRequest(), pb.DownResponse)
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED
    agent.call(pb, "SetLogLevel", pb.SetLogLevelRequest(level=pb.DEBUG), pb.SetLogLevelResponse)
    assert agent.call(pb, "GetLogLevel", pb.GetLogLevelRequest(), pb.GetLogLevelResponse).level == pb.DEBUG
    with grpc.insecure_channel(f"unix:{agent.sock}") as channel:
        events = channel.unary_stream("/daemon.DaemonService/SubscribeEvents", lambda m: m.SerializeToString(),
                                      pb.SystemEvent.FromString)(pb.SubscribeRequest())
        assert next(events).metadata
        agent.ok("profile", "add", "seen")
        assert next(events).message == "Profile list changed"
        events.cancel()
    # a caller that gives up while the daemon tries to log in does not keep it busy
    with pytest.raises(grpc.RpcError) as e:
        agent.call(pb, "Login", pb.LoginRequest(managementUrl="http://192.0.2.1:1", setupKey=KEY), pb.LoginResponse, 0.5)
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert agent.call(pb, "Status", pb.StatusRequest(), pb.StatusResponse).status == "Idle"
    assert agent.stop() == 0


def test_socket_life(agent):
    agent.start()
    second = agent.run("service", "run", "--log-file", "console")
    assert second.returncode == 1 and "another agent answers on this control socket" in second.stderr
    agent.stop(signal.SIGKILL)
    assert agent.sock.exists()
    agent.start()                       # the leftover is replaced
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(agent.sock))
        s.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)) * 50)
        s.settimeout(5)
        try:
            while s.recv(4096):
                pass
        except ConnectionError:
            pass
    agent.process.send_signal(signal.SIGUSR1)   # stock makes a debug bundle then
    time.sleep(0.1)
    assert agent.run("status", "--check", "live").returncode == 0
    assert agent.stop() == 0
    assert not agent.sock.exists()


def test_broken_profile(agent):
    (agent.dir / "state").mkdir()
    (agent.dir / "state/default.json").write_text("{ nonsense")
    r = agent.run("service", "run", "--log-file", "console")
    assert r.returncode == 1
    assert "default.json: not valid JSON" in r.stderr and "move it away" in r.stderr


def test_unusable_state_directory(agent):
    (agent.dir / "state").write_text("a file")
    r = agent.run("service", "run", "--log-file", "console")
    assert r.returncode == 1
    assert r.stderr == (f"Error: cannot start: the state directory {agent.dir}/state cannot be used: Not a directory: make it a "
                        "writable directory or name another one in NB_STATE_DIR\n")


def test_tcp_control(agent):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    agent.env["NB_DAEMON_ADDR"] = f"tcp://127.0.0.1:{port}"
    agent.process = subprocess.Popen([NESTBOX, "client", "service", "run", "--log-file", "console"], env=agent.env,
                                     stderr=open(agent.dir / "log", "ab"))
    assert agent.ok("status").startswith("Daemon status: NeedsLogin")
    # who calls over TCP is not known: nothing that takes root
    assert "cannot verify who is calling" in agent.bad("up", "-m", "http://127.0.0.1:1", "--enable-ssh-root")


def test_foreground_refusals(agent):
    env = {"NB_STATE_DIR": str(agent.dir / "own"), "NB_LOG_LEVEL": "info"}
    assert "no management URL is known" in agent.bad("up", "-F", env=env).splitlines()[-1]
    for words in (["up", "-F"], ["login", "--log-file", "console"]):
        process = subprocess.Popen([NESTBOX, "client", *words, "-m", "http://127.0.0.1:1", "-k", KEY],
                                   env={**agent.env, **env}, stderr=subprocess.PIPE, text=True)
        while "cannot connect" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0
        process.stderr.close()


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_ca_file(agent, tmp_path):
    """A private authority: named by --ca-file or SSL_CERT_FILE; without it TLS is refused."""
    certs = ROOT / "tests/vectors/tls"
    port = free_port(socket.SOCK_STREAM)
    server = subprocess.Popen([NESTBOX, "server", "--data-dir", tmp_path / "srv", "--listen", f"127.0.0.1:{port}",
                               "--cert-file", certs / "ec.pem", "--cert-key", certs / "ec.key", "--relay-ports", "4",
                               "--turn-listen", f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"],
                              stderr=open(tmp_path / "srv.log", "ab"))
    try:
        words = ["login", "--log-file", "console", "-m", f"https://localhost:{port}", "-k", KEY]
        env = {"NB_STATE_DIR": str(agent.dir / "own")}
        assert "setup key is invalid" in agent.bad(*words, "--ca-file", certs / "ca.pem", env=env)
        assert "setup key is invalid" in agent.bad(*words, env={**env, "SSL_CERT_FILE": str(certs / "ca.pem")})
        for more, said in (([], "give its CA with --ca-file"), (["--ca-file", tmp_path / "none.pem"], "none.pem")):
            p = subprocess.Popen([NESTBOX, "client", *words, *more], env={**agent.env, **env, "NB_LOG_LEVEL": "info"},
                                 stderr=subprocess.PIPE, text=True)
            while said not in p.stderr.readline():
                assert p.poll() is None
            p.terminate()
            assert p.wait(5) == 0
            p.stderr.close()
        agent.start("--ca-file", str(certs / "ca.pem"))
        assert "setup key is invalid" in agent.bad("up", "-m", f"https://localhost:{port}", "-k", KEY)
    finally:
        server.terminate()
        assert server.wait(5) == 0
