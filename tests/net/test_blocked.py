"""A direct path that is blocked while traffic flows, and free again: the relay has to take over before people notice, packets
on their way are kept, nothing goes back and forth. Every test prints the longest time without an answer and how many
packets were lost. Stock NetBird needs its 6 s of silence."""
import os
import time

import pytest

from lab import run, wait_for
from natlab import NatLab
from test_roaming import Pings, control_is_up, handshakes, joined, path, report

BLOCK = {
    "both": "ip saddr $B udp dport 51820 drop; }\nchain o { type filter hook output priority 0; ip daddr $B udp dport 51820 drop",
    "towards alpha": "ip saddr $B udp dport 51820 drop",
}


@pytest.fixture
def lab():
    lab = NatLab()
    yield lab
    lab.close()


def block(lab, which, how, other):
    lab.exec_nft(which, "table ip blocked { chain i { type filter hook input priority 0; %s; }\n}" % BLOCK[how].replace("$B", other))


def unblock(lab, which):
    run("ip", "netns", "exec", lab.ns(which), "nft", "delete", "table", "ip", "blocked")


class Lossy(Pings):
    """The same, with what never came back."""

    def lost(self):
        seen = {n for _, n in self.answers()}
        return max(seen) - len(seen) if seen else 0


def pair(lab):
    lab.start_server()
    a, b = lab.agent("alpha", "10.78.0.2"), lab.agent("bravo", "10.78.0.3")
    joined(lab, a, b)
    return a, b


@pytest.mark.parametrize("how", list(BLOCK) if os.environ.get("NB_SOAK") else ["towards alpha"])
def test_blocked_and_free_again(lab, how):
    a, b = pair(lab)
    before = handshakes(a)
    flows = [Lossy(lab, a, b), Lossy(lab, b, a)]
    time.sleep(0.5)
    block(lab, "alpha", how, "10.78.0.3")
    wait_for(lambda: path(a) == "Relayed" and path(b) == "Relayed", limit=10)
    time.sleep(1)
    gap, lost = max(f.gap() for f in flows), [f.lost() for f in flows]
    report(f"path blocked ({how}), longest gap of pings each 20 ms", gap, f"; lost {lost[0]} and {lost[1]}")
    # Back to the direct path: nothing is lost.
    unblock(lab, "alpha")
    free = time.monotonic()
    wait_for(lambda: path(a) == "P2P" and path(b) == "P2P", limit=30)
    took = time.monotonic() - free
    time.sleep(0.7)
    more = [f.lost() - n for f, n in zip(flows, lost)]
    for f in flows:
        f.stop()
    report("free again: direct", took, f"; lost {more[0]} and {more[1]} on the way up")
    assert handshakes(a) == before
    control_is_up(a, b)
    assert gap < 1.5
    assert more == [0, 0]
