"""The REST API of our server from outside: curl over HTTP/1.1 and HTTP/2, Python's http.client, and peers over gRPC that
feel what is changed. Loopback only. With NB_SOAK=1 the kills are 50."""
import concurrent.futures
import http.client
import json
import os
import re
import subprocess
import threading
import time

import grpc
import pytest
from test_management import NESTBOX, Peer, Server, free_port, free_udp_port, pb, refused  # noqa: F401

KILLS = 50 if os.environ.get("NB_SOAK") else 4
OWNER = {"email": "owner@example.com", "password": "lab-Password-1", "name": "Owner", "create_pat": True,
         "pat_expire_in": 365}


class Empty(Server):
    """A server before its first account."""

    def __init__(self, directory, *flags):
        self.dir, self.port, self.udp, self.flags = directory, free_port(), free_udp_port(), flags
        self.process, self.token, self.keys = None, None, {}
        self.start()

    def call(self, method, path, body=None, token=True, headers=None, raw=None):
        """Status, headers and body (decoded when it is JSON) of one request on a connection of its own."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = dict(headers or {})
        if token:
            headers["Authorization"] = f"Token {self.token if token is True else token}"
        c.request(method, "/api" + path, raw if raw is not None else None if body is None else json.dumps(body), headers)
        answer = c.getresponse()
        text = answer.read()
        c.close()
        kind = answer.getheader("Content-Type", "")
        return answer.status, answer.headers, json.loads(text) if kind.startswith("application/json") else text

    def get(self, path):
        status, _, body = self.call("GET", path)
        assert status == 200, body
        return body

    def put(self, method, path, body=None):
        status, _, answer = self.call(method, path, body)
        assert status == 200, answer
        return answer

    def setup(self):
        status, headers, answer = self.call("POST", "/setup", OWNER, token=None)
        assert status == 200, answer
        assert headers["Cache-Control"] == "no-store"
        self.token = answer["personal_access_token"]
        self.keys = {k["type"]: k["key"] for k in answer["setup_keys"]}
        self.owner = answer["user_id"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    s = Empty(str(tmp_path_factory.mktemp("rest") / "data"))
    assert s.call("GET", "/instance", token=None)[2] == {"setup_required": True}
    s.setup()
    yield s
    s.stop()


@pytest.fixture
def peer(pb, server):  # noqa: F811
    made = []

    def make(name):
        made.append(Peer(pb, server, name))
        return made[-1]
    yield make
    for p in made:
        p.close()


def follow(p):
    """Its updates, for at most 20 s."""
    stream = p.channel.unary_stream(p.path("Sync"))(p.seal(p.pb.SyncRequest(meta=p.meta())), timeout=20)
    return (p.unseal(raw, p.pb.SyncResponse) for raw in stream)


def curl(server, *args, token=True):
    auth = ["-H", f"Authorization: Bearer {server.token}"] if token else []
    r = subprocess.run(["curl", "-sS", "-m", "10", "-w", "\n%{http_version} %{http_code}", *auth, *args],
                       capture_output=True, text=True, check=True)
    body, _, tail = r.stdout.rpartition("\n")
    return tail, body


# ---- setup

def test_setup_of_two_at_once_makes_one_account(tmp_path):
    """Hashing takes a while: requests overlap. One wins, the others are told; other requests are not held up."""
    s = Empty(str(tmp_path / "data"))
    slowest = 0.0
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        tries = [pool.submit(s.call, "POST", "/setup", {**OWNER, "email": f"o{i}@example.com"}, None) for i in range(3)]
        while not all(t.done() for t in tries):
            began = time.monotonic()
            assert s.call("GET", "/instance", token=None)[0] == 200
            slowest = max(slowest, time.monotonic() - began)
    statuses = sorted(t.result()[0] for t in tries)
    assert statuses == [200, 412, 412]
    assert slowest < 1
    assert s.call("GET", "/instance", token=None)[2] == {"setup_required": False}
    s.kill()
    s.start()
    winner = next(t.result()[2] for t in tries if t.result()[0] == 200)
    s.token = winner["personal_access_token"]
    assert s.get("/users/current")["email"] == winner["email"]
    s.stop()


def test_setup_refusals(tmp_path):
    s = Empty(str(tmp_path / "data"))
    for change, status, text in (({"email": "x"}, 422, "invalid email format"), ({"name": ""}, 422, "name is required"),
                                 ({"password": "short"}, 422, "password must be at least 8 characters"),
                                 ({"pat_expire_in": 366}, 422, "pat_expire_in must be between 1 and 365"),
                                 ({"email": None}, 422, "email is required"),
                                 ({"password": 7}, 400, "couldn't parse JSON request: field password must be a string")):
        got, _, body = s.call("POST", "/setup", {**OWNER, **change}, token=None)
        assert (got, body) == (status, {"message": text, "code": status})
    # Leaving before the answer leaves nothing behind.
    c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=10)
    c.request("POST", "/api/setup", json.dumps(OWNER))
    c.close()
    # A server that ends while a password is being hashed ends in order.
    c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=10)
    c.request("POST", "/api/setup", json.dumps(OWNER))
    s.stop()
    c.close()


def test_setup_is_over(server):
    status, _, body = server.call("POST", "/setup", OWNER, token=None)
    assert (status, body) == (412, {"message": "setup already completed", "code": 412})


# ---- transports

def test_http1_and_http2_say_the_same(server, tmp_path):
    big = tmp_path / "big"
    big.write_bytes(b" " * 2000000)
    url = f"http://127.0.0.1:{server.port}/api"
    for path in ("/groups", "/policies", "/setup-keys", "/users/current", "/accounts", "/peers", "/nosuch", "/groups/zz"):
        one = curl(server, "--http1.1", url + path)
        two = curl(server, "--http2-prior-knowledge", url + path)
        assert one[0].startswith("1.1 ") and two[0].startswith("2 ")
        assert one[0].split()[1] == two[0].split()[1]
        assert one[1] == two[1]
    for version in ("--http1.1", "--http2-prior-knowledge"):
        code, body = curl(server, version, "-d", '{"name":"by curl"}', url + "/groups")
        assert code.endswith(" 200"), body
        group = json.loads(body)["id"]
        code, body = curl(server, version, "-X", "DELETE", "-d", '""', f"{url}/groups/{group}")
        assert code.endswith(" 200") and body == "{}\n"
        code, body = curl(server, version, "-d", "{", url + "/groups")
        assert code.endswith(" 400") and "couldn't parse JSON request" in body
        code, body = curl(server, version, url + "/peers", token=False)
        assert code.endswith(" 401") and json.loads(body)["message"] == "no valid authentication provided"
        code, body = curl(server, version, "-X", "PATCH", url + "/peers")
        assert code.endswith(" 405") and body == ""
    assert curl(server, "--http1.1", "-H", "Expect:", "-d", f"@{big}", url + "/groups")[0] == "1.1 413"


def test_keep_alive_and_headers(server):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    ids = set()
    for _ in range(20):
        c.request("GET", "/api/groups", headers={"Authorization": f"Token {server.token}"})
        answer = c.getresponse()
        assert json.loads(answer.read())[0]["name"] == "All"
        assert answer.getheader("Content-Type") == "application/json; charset=UTF-8"
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.getheader("Date"))
        ids.add(answer.getheader("X-Request-Id"))
    assert len(ids) == 20
    c.close()


def test_cors(server):
    status, headers, _ = server.call("OPTIONS", "/peers", token=None, headers={
        "Origin": "https://dash.example", "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization,content-type"})
    assert status == 204
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Access-Control-Allow-Methods"] == "PUT"
    assert headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    status, headers, _ = server.call("GET", "/nosuch", headers={"Origin": "https://dash.example"})
    assert status == 404 and "Access-Control-Allow-Origin" not in headers


# ---- the network, run from here

def test_setup_keys(server, peer):
    made = server.put("POST", "/setup-keys", {"name": "laptops", "type": "reusable", "expires_in": 86400,
                                              "auto_groups": [], "usage_limit": 2, "ephemeral": False})
    assert re.fullmatch(r"[0-9A-F-]{36}", made["key"]) and made["valid"]
    listed = {k["id"]: k for k in server.get("/setup-keys")}[made["id"]]
    assert listed["key"] == made["key"][:5] + "****"
    a, b, c, d = (peer(f"key-{i}") for i in "abcd")
    a.login(made["key"])
    b.login(made["key"])
    assert server.get(f"/setup-keys/{made['id']}")["state"] == "overused"
    invalid = "couldn't add peer: setup key is invalid"
    refused(grpc.StatusCode.NOT_FOUND, invalid, c.login, made["key"])
    other = server.put("POST", "/setup-keys", {"name": "gone", "type": "reusable", "expires_in": 0})
    assert other["expires"] == "0001-01-01T00:00:00Z"
    c.login(other["key"])
    assert server.put("PUT", f"/setup-keys/{other['id']}", {"auto_groups": [], "revoked": True})["state"] == "revoked"
    refused(grpc.StatusCode.NOT_FOUND, invalid, d.login, other["key"])
    short = server.put("POST", "/setup-keys", {"name": "short", "type": "one-off", "expires_in": 1})
    time.sleep(1.1)
    refused(grpc.StatusCode.NOT_FOUND, invalid, d.login, short["key"])
    assert server.get(f"/setup-keys/{short['id']}")["state"] == "expired"
    assert server.put("DELETE", f"/setup-keys/{other['id']}") == {}
    assert server.call("GET", f"/setup-keys/{other['id']}")[0] == 404


def test_auto_groups_and_policies_reach_the_peers(server, peer):
    """Without the Default policy two peers see nothing; a policy between their groups joins them, live."""
    groups = [server.put("POST", "/groups", {"name": f"side {i}"})["id"] for i in range(2)]
    keys = [server.put("POST", "/setup-keys", {"name": "k", "type": "reusable", "auto_groups": [g]})["key"] for g in groups]
    a, b = peer("left"), peer("right")
    default = server.get("/policies")[0]
    off = {**default, "enabled": False, "rules": [{**r, "sources": [g["id"] for g in r["sources"]], "destinations": [
        g["id"] for g in r["destinations"]]} for r in default["rules"]]}
    assert server.put("PUT", f"/policies/{default['id']}", off)["enabled"] is False
    a.login(keys[0])
    b.login(keys[1])
    updates = follow(a)
    assert next(updates).NetworkMap.remotePeersIsEmpty
    began = time.monotonic()
    made = server.put("POST", "/policies", {"name": "ssh", "enabled": True, "rules": [{
        "name": "ssh", "enabled": True, "action": "accept", "bidirectional": False, "protocol": "tcp", "ports": ["22"],
        "sources": [groups[0]], "destinations": [groups[1]]}]})
    up = next(updates).NetworkMap
    assert time.monotonic() - began < 1.5
    assert [p.wgPubKey for p in up.remotePeers] == [b.public]
    assert {(r.Port, r.Direction) for r in up.FirewallRules} == {("22", 1)}
    rule = made["rules"][0]
    assert rule["id"] == made["id"] and rule["sources"][0]["peers_count"] == 1 and rule["ports"] == ["22"]
    peers = {p["name"]: p for p in server.get("/peers")}
    assert {g["name"] for g in peers["left"]["groups"]} == {"All", "side 0"}
    near = server.get(f"/peers/{peers['left']['id']}/accessible-peers")
    assert [p["name"] for p in near] == ["right"]
    # A group in use stays.
    status, _, body = server.call("DELETE", f"/groups/{groups[0]}")
    assert status == 400 and body["message"].startswith("group has been linked to ")
    assert server.put("DELETE", f"/policies/{made['id']}") == {}
    assert next(updates).NetworkMap.remotePeersIsEmpty
    # Moving b over by the group list does the same for another policy.
    server.put("PUT", f"/policies/{default['id']}", {**off, "enabled": True})
    assert b.public in [p.wgPubKey for p in next(updates).NetworkMap.remotePeers]


def test_deleted_peer_is_cut_off(server, peer):
    key = server.put("POST", "/setup-keys", {"name": "d", "type": "reusable"})["key"]
    a, b = peer("stays"), peer("goes")
    a.login(key)
    b.login(key)
    watching, leaving = follow(a), follow(b)
    next(watching)
    next(leaving)
    gone = next(p for p in server.get("/peers") if p["name"] == "goes")
    assert gone["connected"] and gone["version"] == "0.77.1"
    ended = threading.Event()
    messages = []

    def drain():
        try:
            messages.extend(leaving)
        except grpc.RpcError:
            pass
        ended.set()
    threading.Thread(target=drain, daemon=True).start()
    began = time.monotonic()
    assert server.put("DELETE", f"/peers/{gone['id']}", "") == {}
    assert ended.wait(2)
    assert time.monotonic() - began < 1
    while b.public in {p.wgPubKey for p in next(watching).NetworkMap.remotePeers}:
        assert time.monotonic() - began < 2
    refused(grpc.StatusCode.PERMISSION_DENIED, "peer is not registered", lambda: next(follow(b)))
    status, _, body = server.call("GET", f"/peers/{gone['id']}")
    assert (status, body["message"]) == (404, f"peer not found: {gone['id']}")
    event = server.get("/events/audit")[0]
    assert event["activity_code"] == "user.peer.delete" and event["meta"]["name"] == "goes"
    assert event["initiator_email"] == OWNER["email"]


def test_peer_update(server, peer):
    a = peer("old-name")
    a.login(server.put("POST", "/setup-keys", {"name": "u", "type": "reusable"})["key"])
    mine = next(p for p in server.get("/peers?name=old-name"))
    body = {"name": "New Näme", "ssh_enabled": True, "login_expiration_enabled": False,
            "inactivity_expiration_enabled": False}
    after = server.put("PUT", f"/peers/{mine['id']}", body)
    assert after["name"] == "New Näme" and after["ssh_enabled"]
    assert after["dns_label"].startswith("xn--") or after["dns_label"].startswith("new-")
    status, _, refusal = server.call("PUT", f"/peers/{mine['id']}", {**body, "login_expiration_enabled": True})
    assert status == 412, refusal


def test_tokens(server):
    made = server.put("POST", f"/users/{server.owner}/tokens", {"name": "ci", "expires_in": 1})
    assert server.call("GET", "/groups", token=made["plain_token"])[0] == 200
    mine = server.get(f"/users/{server.owner}/tokens")
    assert {t["name"] for t in mine} == {"setup-token", "ci"}
    assert server.put("DELETE", f"/users/{server.owner}/tokens/{made['personal_access_token']['id']}") == {}
    status, _, body = server.call("GET", "/groups", token=made["plain_token"])
    assert (status, body) == (401, {"message": "token invalid", "code": 401})


def test_account_settings(server):
    account = server.get("/accounts")[0]
    account["settings"]["dns_domain"] = "nb.test"
    assert server.put("PUT", f"/accounts/{account['id']}", account)["settings"]["dns_domain"] == "nb.test"
    assert all(p["dns_label"].endswith(".nb.test") for p in server.get("/peers"))
    account["settings"]["dns_domain"] = ""
    assert server.put("PUT", f"/accounts/{account['id']}", account) == account


def test_what_is_not_built_says_so(server):
    assert server.get("/routes") == [] and server.get("/networks") == []
    status, _, body = server.call("POST", "/routes", {})
    assert status == 501 and "POST /api/routes is not supported" in body["message"]
    assert server.call("GET", "/integrations/event-streaming")[0] == 404


def test_guessing_tokens_is_slowed_down(tmp_path):
    s = Empty(str(tmp_path / "data"))
    s.setup()
    statuses = [s.call("GET", "/groups", token="nbp_" + "x" * 36)[0] for _ in range(40)]
    assert statuses[0] == 401 and statuses[-1] == 429
    assert s.call("GET", "/groups")[0] == 200
    s.stop()


def test_token_rate_limit_by_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("NB_API_RATE_LIMITING_ENABLED", "true")
    monkeypatch.setenv("NB_API_RATE_LIMITING_BURST", "3")
    s = Empty(str(tmp_path / "data"))
    s.setup()
    assert [s.call("GET", "/groups")[0] for _ in range(4)] == [200, 200, 200, 429]
    assert s.call("GET", "/groups", headers={"User-Agent": "HashiCorp Terraform/1.9"})[0] == 200
    s.stop()


# ---- a client that others wrote

def test_the_python_client(server, peer):
    """`netbird` from PyPI: its calls work, and its models accept what comes back."""
    from netbird import APIClient, exceptions, models
    c = APIClient(f"http://127.0.0.1:{server.port}", server.token)
    assert c.instance.get_status() == {"setup_required": False}
    assert c.instance.get_version()["management_current_version"] == "0.77.1"
    group = models.Group.model_validate(c.groups.create(models.GroupCreate(name="py")))
    key = c.setup_keys.create(models.SetupKeyCreate(name="py", type="reusable", expires_in=86400, auto_groups=[group.id]))
    models.SetupKey.model_validate(key)
    a = peer("py-peer")
    a.login(key["key"])
    mine = models.Peer.model_validate(c.peers.list(name="py-peer")[0])
    assert len(mine.groups) == 2
    assert c.groups.get(group.id)["peers"] == [{"id": mine.id, "name": "py-peer"}]
    policy = c.policies.create(models.PolicyCreate(name="py", rules=[models.PolicyRule(
        name="py", action="accept", protocol="udp", ports=["53"], sources=[group.id], destinations=[group.id])]))
    models.Policy.model_validate(policy)
    assert policy["id"] in {p["id"] for p in c.policies.list()}
    with pytest.raises(exceptions.NetBirdAPIError) as refusal:
        c.groups.delete(group.id)
    assert refusal.value.status_code == 400
    c.policies.delete(policy["id"])
    assert c.setup_keys.update(key["id"], models.SetupKeyUpdate(revoked=True, auto_groups=[]))["state"] == "revoked"
    c.setup_keys.delete(key["id"])
    c.peers.delete(mine.id)
    c.groups.delete(group.id)
    with pytest.raises(exceptions.NetBirdNotFoundError):
        c.groups.get(group.id)
    for user in c.users.list():
        models.User.model_validate(user)
    assert c.users.get_current()["role"] == "owner"
    token = c.tokens.create(server.owner, models.TokenCreate(name="py", expires_in=3))
    c.tokens.delete(server.owner, token["personal_access_token"]["id"])
    models.Account.model_validate(c.accounts.list()[0])
    for event in c.events.get_audit_events():
        models.AuditEvent.model_validate(event)
    with pytest.raises(exceptions.NetBirdAuthenticationError):
        APIClient(f"http://127.0.0.1:{server.port}", "nbp_wrong").groups.list()


# ---- nothing that was answered is lost

def test_acknowledged_changes_survive_kills(tmp_path):
    s = Empty(str(tmp_path / "data"))
    s.setup()
    known = set()
    for _ in range(KILLS):
        stop = threading.Event()

        def write(n, stop=stop):
            i = 0
            while not stop.is_set():
                name = f"g{n}-{len(known)}-{i}"
                i += 1
                try:
                    if s.call("POST", "/groups", {"name": name})[0] == 200:
                        known.add(name)
                except (OSError, http.client.HTTPException):
                    return
        threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
        for t in threads:
            t.start()
        time.sleep(0.3)
        s.kill()
        stop.set()
        for t in threads:
            t.join()
        s.start()
        assert known <= {g["name"] for g in s.get("/groups")}
    assert len(known) > 10
    s.stop()
