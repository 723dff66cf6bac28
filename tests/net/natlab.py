"""Machines behind every kind of NAT, for the tests of path finding. A site is one machine with its agent, alone on a
network behind none, one or two NATs; the public network is the bridge of lab.Lab. The rules are those that
spec/peer-connection.md 6 has measured; its pitfalls are why each NAT refuses new packets to itself from outside, and
why every interface is called eth0."""
from lab import Lab, run

KINDS = ("public", "full", "addr", "port", "symmetric", "double", "blocked")

FULL_MAP = "map m { type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 5m; size 4096; }"
RULES = {
    "port": """table ip nat {
        chain pre { type nat hook prerouting priority dstnat; }
        chain post { type nat hook postrouting priority srcnat; oifname "eth0" masquerade; }
    }""",
    "symmetric": """table ip nat {
        chain pre { type nat hook prerouting priority dstnat; }
        chain post { type nat hook postrouting priority srcnat; oifname "eth0" meta l4proto udp masquerade random
                     oifname "eth0" masquerade; }
    }""",
    "full": """table ip nat { %s
        chain pre { type nat hook prerouting priority dstnat; iifname "eth0" ip daddr $P dnat ip to udp dport map @m; }
        chain post { type nat hook postrouting priority srcnat;
                     oifname "eth0" meta l4proto udp update @m { udp sport : ip saddr . udp sport }
                     oifname "eth0" masquerade; }
    }""" % FULL_MAP,
    # Machines behind it reach each other through its outer address: matched by address, not by interface.
    "hairpin": """table ip nat { %s
        chain pre { type nat hook prerouting priority dstnat; ip daddr $P dnat ip to udp dport map @m; }
        chain post { type nat hook postrouting priority srcnat;
                     oifname "eth0" meta l4proto udp update @m { udp sport : ip saddr . udp sport }
                     oifname "eth0" masquerade
                     ip saddr $L ip daddr $L ct status dnat snat to $P; }
    }""" % FULL_MAP,
}
RULES["addr"] = RULES["full"]
RULES["blocked"] = RULES["port"]
CLOSED = 'iifname "eth0" ct state new drop'
FORWARD = {
    "port": CLOSED,
    "symmetric": CLOSED,
    "full": "",
    "hairpin": "",
    "addr": """oifname "eth0" update @seen { ip saddr . ip daddr }
        iifname "eth0" ct state established,related accept
        iifname "eth0" ip daddr . ip saddr @seen accept
        iifname "eth0" drop""",
    # Only the server's own port is open, and that for TCP only.
    "blocked": """ct state established,related accept
        oifname "eth0" tcp dport { 443, 8080 } accept
        drop""",
}


class NatLab(Lab):
    def __init__(self):
        super().__init__()
        self.public = 10	# last byte of the next address on the bridge
        self.inner = 1		# third byte of the next private network

    def exec_nft(self, ns, text):
        run("ip", "netns", "exec", self.ns(ns), "nft", "-f", "-", input=text)

    def wire(self, outer, inner, name):
        """A cable from a NAT (its interface `name`) to eth0 of the namespace behind it."""
        run("ip", "link", "add", name, "netns", self.ns(outer), "type", "veth", "peer", "name", "eth0", "netns", self.ns(inner))
        run("ip", "-n", self.ns(outer), "link", "set", name, "up")
        run("ip", "-n", self.ns(inner), "link", "set", "eth0", "up")

    def behind(self, outer, which, net):
        """A new namespace behind a NAT, with address and default route; a second one on the same network is bridged."""
        self.space(which)
        name = f"to-{which}"
        self.wire(outer, which, name)
        if run("ip", "-n", self.ns(outer), "link", "show", "lan0", check=False).returncode:
            run("ip", "-n", self.ns(outer), "link", "add", "lan0", "type", "bridge")
            run("ip", "-n", self.ns(outer), "addr", "add", f"{net}.1/24", "dev", "lan0")
            run("ip", "-n", self.ns(outer), "link", "set", "lan0", "up")
            self.count_in = {**getattr(self, "count_in", {}), outer: 1}
        run("ip", "-n", self.ns(outer), "link", "set", name, "master", "lan0")
        self.count_in[outer] += 1
        ip = f"{net}.{self.count_in[outer]}"
        run("ip", "-n", self.ns(which), "addr", "add", f"{ip}/24", "dev", "eth0")
        run("ip", "-n", self.ns(which), "route", "add", "default", "via", f"{net}.1")
        return ip

    def make_nat(self, ns, kind, address, net):
        run("ip", "netns", "exec", self.ns(ns), "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        rules = RULES[kind].replace("$P", address).replace("$L", f"{net}.0/24")
        self.exec_nft(ns, rules + """
            table ip fw {
                set seen { type ipv4_addr . ipv4_addr; flags dynamic,timeout; timeout 5m; size 4096; }
                chain incoming { type filter hook input priority filter; %s; }
                chain through { type filter hook forward priority filter; %s; }
            }""" % (CLOSED, FORWARD[kind] or "accept"))

    def next_public(self):
        self.public += 1
        return f"10.78.0.{self.public}"

    def next_net(self, first="192.168"):
        self.inner += 1
        return f"{first}.{self.inner}"

    def nat(self, name, kind):
        """A NAT on the public network; returns its inner network."""
        address, net = self.next_public(), self.next_net("172.20" if name.endswith("c") else "192.168")
        self.host(name, address)
        self.make_nat(name, kind, address, net)
        return net

    def home(self, name, kind, outer, outer_net):
        """A NAT behind a NAT."""
        address, net = self.behind(outer, name, outer_net), self.next_net()
        self.make_nat(name, kind, address, net)
        return net

    def site(self, name, kind):
        """A machine behind a NAT of this kind, and its agent (not started)."""
        if kind == "public":
            return self.agent(name, self.next_public())
        if kind == "double":
            cgn = self.nat(f"{name}c", "port")
            self.behind(f"{name}n", name, self.home(f"{name}n", "port", f"{name}c", cgn))
        else:
            self.behind(f"{name}n", name, self.nat(f"{name}n", kind))
        return self.agent(name, None)

    # --- IPv6 only: the bridge is the router between the networks

    def no_ipv4(self):
        """Before the server is started: everything below happens over IPv6."""
        lan = self.ns("lan")
        run("ip", "-n", lan, "addr", "add", "fd78::ff/64", "dev", "br0", "nodad")
        run("ip", "netns", "exec", lan, "sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=1")
        self.give_ipv6("srv", "fd78::1", "fd78::ff")
        self.listen, self.url = "[fd78::1]:8080", "http://[fd78::1]:8080"

    def give_ipv6(self, which, ip, via):
        run("ip", "-n", self.ns(which), "addr", "flush", "dev", "eth0", "scope", "global")
        run("ip", "-n", self.ns(which), "-4", "addr", "flush", "dev", "eth0")
        run("ip", "-n", self.ns(which), "addr", "add", f"{ip}/64", "dev", "eth0", "nodad")
        run("ip", "-n", self.ns(which), "route", "add", "default", "via", via)

    def site6(self, name, n, firewall):
        """A machine with one IPv6 address; on the bridge, or behind a router that lets only answers in."""
        if not firewall:
            self.host(name, "169.254.1.1")
            self.give_ipv6(name, f"fd78::{n}", "fd78::ff")
            return self.agent(name, None)
        router, net = f"{name}r", f"fd78:0:0:{n}"
        self.host(router, "169.254.1.1")
        self.give_ipv6(router, f"fd78::{n}", "fd78::ff")
        run("ip", "netns", "exec", self.ns(router), "sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=1")
        self.space(name)
        self.wire(router, name, "lan0")
        run("ip", "-n", self.ns(router), "addr", "add", f"{net}::1/64", "dev", "lan0", "nodad")
        run("ip", "-n", self.ns("lan"), "route", "add", f"{net}::/64", "via", f"fd78::{n}")
        self.give_ipv6(name, f"{net}::2", f"{net}::1")
        self.exec_nft(router, "table ip6 fw { chain through { type filter hook forward priority filter; %s; }\n}" % CLOSED)
        return self.agent(name, None)
