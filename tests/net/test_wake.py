"""An agent that stood still, NATs with a short memory, a relay that is restarted under relayed peers. Sleep of the whole machine
cannot be had in a namespace: a stopped process (SIGSTOP) misses the same packets, and the simulation
(tests/sim/client_engine_sim_test.c) has the rest. NB_SOAK=1 stops it for longer and waits for NATs to forget."""
import os
import signal
import time

import pytest

from lab import wait_for
from natlab import NatLab
from test_roaming import Pings, control_is_up, joined, path, report

SOAK = bool(os.environ.get("NB_SOAK"))


@pytest.fixture
def lab():
    lab = NatLab()
    yield lab
    lab.close()


def forget_after(lab, seconds, *routers):
    for r in routers:
        for name in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
            lab.exec(r, "sysctl", "-q", "-w", f"net.netfilter.{name}={seconds}")


def changed(x):
    """When the connection of x changed last, to the second."""
    return x.status()["peers"]["details"][0]["lastStatusUpdate"][:19]


@pytest.mark.parametrize("seconds", [8, 45] if SOAK else [8])
def test_stopped(lab, seconds):
    """Longer than ICE's patience and, with 45 s, than that of NATs, relay and signal."""
    lab.start_server()
    a, b = lab.site("alpha", "port"), lab.site("bravo", "port")
    forget_after(lab, 20, "alphan", "bravon")
    joined(lab, a, b)
    pings = Pings(lab, b, a)
    os.kill(a.pid(), signal.SIGSTOP)
    time.sleep(seconds)
    event = time.time()
    os.kill(a.pid(), signal.SIGCONT)
    took = pings.back_after(event, 20)
    wait_for(lambda: path(a) == "P2P" and path(b) == "P2P", limit=20)
    direct = time.time() - event
    pings.stop()
    report(f"stopped for {seconds} s, ping after it goes on", took, f"; direct after {direct:.2f} s")
    assert "stood still for" in lab.log("alpha.log")
    control_is_up(a, b)
    assert took < 2


@pytest.mark.skipif(not SOAK, reason="waits for more than a minute")
def test_idle_behind_forgetful_nats(lab):
    """NATs that forget after 20 s: an idle path stays, and the first packet passes at once."""
    lab.start_server()
    a, b = lab.site("alpha", "port"), lab.site("bravo", "port")
    forget_after(lab, 20, "alphan", "bravon")
    joined(lab, a, b)
    before = [changed(x) for x in (a, b)]
    for _ in range(80):
        time.sleep(1)
        assert path(a) == path(b) == "P2P"
    assert [changed(x) for x in (a, b)] == before
    assert b.ping(a.overlay, "0.3")
    assert path(a) == path(b) == "P2P"


def test_relay_restarts_under_relayed_peers(lab):
    lab.start_server()
    a, b = lab.site("alpha", "blocked"), lab.site("bravo", "blocked")
    a.start().up(lab.setup())
    b.start().up(lab.keys["reusable"])
    a.overlay, b.overlay = a.ip(), b.ip()
    wait_for(lambda: a.ping(b.overlay))
    pings = Pings(lab, b, a)
    lab.server.kill()
    lab.server.wait()
    time.sleep(1)
    event = time.time()
    lab.start_server()
    took = pings.back_after(event, 20)
    pings.stop()
    report("relay killed and, 1 s later, started: ping", took)
    control_is_up(a, b)
    assert took < 3
