"""What an idle tunnel between two of our own agents costs: packets on the wire in either direction, counted where one of
them sits. Stock checks its paths every 2 s, which is 120 packets a minute, and sends WireGuard's keepalives besides."""
import os
import re
import time

from lab import run, wait_for
from natlab import NatLab

SECONDS = 300 if os.environ.get("NB_SOAK") else 45
COUNT = """table ip count {
    counter stun { }
    counter total { }
    chain incoming { type filter hook input priority filter; ip saddr $B udp dport 51820 counter name total
               ip saddr $B udp dport 51820 @th,96,32 0x2112a442 counter name stun
    }
    chain outgoing { type filter hook output priority filter; ip daddr $B udp sport 51820 counter name total
                ip daddr $B udp sport 51820 @th,96,32 0x2112a442 counter name stun
    }
}"""


def packets(lab):
    text = run("ip", "netns", "exec", lab.ns("alpha"), "nft", "list", "table", "ip", "count").stdout
    return {k: int(v) for k, v in re.findall(r"counter (\w+) {\s*packets (\d+)", text)}


def counted(lab, seconds):
    before = packets(lab)
    time.sleep(seconds)
    after = packets(lab)
    return {k: (after[k] - before[k]) * 60 / seconds for k in after}


def test_idle_packets():
    lab = NatLab()
    try:
        lab.start_server()
        key = lab.setup()
        a, b = lab.agent("alpha", "10.78.0.2").start(), lab.agent("bravo", "10.78.0.3").start()
        lab.exec_nft("alpha", COUNT.replace("$B", "10.78.0.3"))
        a.up(key)
        b.up(key)
        target = b.ip()
        wait_for(lambda: a.ping(target))
        busy = lab.spawn("alpha", "ping", "-q", "-i", "1", target, log="ping")
        time.sleep(3)
        flowing = counted(lab, 10)
        busy.terminate()
        busy.wait()
        time.sleep(13)
        idle = counted(lab, SECONDS)
        print(f"\n  packets a minute: idle {idle['total']:.1f}, of them STUN {idle['stun']:.1f}; with one ping a second "
              f"{flowing['total']:.0f}, of them STUN {flowing['stun']:.0f}")
        # Two sides check every 2 s, each with question and answer.
        assert 100 <= flowing["stun"] <= 140
        assert idle["stun"] <= 8
        assert idle['total'] <= 20
        # And the path is still there.
        assert a.ping(target, "0.5")
        assert a.status()["peers"]["details"][0]["connectionType"] == "P2P"
    finally:
        lab.close()
