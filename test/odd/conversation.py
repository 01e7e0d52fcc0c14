# SPDX-License-Identifier: Apache-2.0
"""Who talks to whom, and with what: the pieces that cases are made of."""
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6ParamProblem, ICMPv6TimeExceeded,
    IPv6, IPv6ExtHdrFragment)
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

CLIENT_MAC, OUR_MAC, BACKEND_MAC = "02:01:00:00:00:07", "02:00:00:00:00:05", "02:00:00:00:00:01"
CLIENT_PORT, SNAT_PORT, GUE_PORT = 40000, 5000, 6080


class Family:
    """An IP version: who has which address."""

    def __init__(self, six):
        self.six = six
        self.client, self.router = ("2001:db8:c::7", "2001:db8:c::1") if six else ("198.51.100.7", "198.51.100.1")
        self.vip, self.nobody = ("2001:db8:5::5", "2001:db8:9::9") if six else ("203.0.113.5", "203.0.113.99")
        self.snat, self.tunnel = ("2001:db8:5::6", "2001:db8:5::7") if six else ("203.0.113.6", "203.0.113.7")
        self.backend, self.inside = ("2001:db8:a::2", "2001:db8:a::1") if six else ("10.0.0.2", "10.0.0.1")

    def ip(self, src, dst, ttl=64, **fields):
        if self.six:
            return IPv6(src=src, dst=dst, hlim=ttl, **fields)
        return IP(src=src, dst=dst, ttl=ttl, **fields)


class Case:
    """A conversation of its own: at its own port of the VIP, at its own time."""

    def __init__(self, suite, name, number):
        self.suite, self.name = suite, name
        self.forward, self.vip, self.backend = suite.forward, suite.vip, suite.backend
        self.port = 1000 + number
        self.now = 100_000_000 * (number + 1)  # in microseconds

    # What is sent.

    def fill(self, size):
        """That many bytes, which no other datagram has."""
        self.now += 1
        text = b"%s at %d " % (self.name.encode(), self.now)
        return (text + bytes((self.now + i * i) % 251 for i in range(size)))[:size]

    def ip(self, **fields):
        return self.vip.ip(self.vip.client, self.vip.vip, **fields)

    def udp(self, size=100, **fields):
        return UDP(sport=CLIENT_PORT, dport=self.port, **fields) / Raw(self.fill(size))

    def tcp(self, flags="S", size=0, **fields):
        segment = TCP(sport=CLIENT_PORT, dport=self.port, flags=flags, seq=1000, ack=2000, **fields)
        return segment / Raw(self.fill(size)) if size else segment

    def arrived(self, l4, **fields):
        """What a packet of the client is at the backend."""
        if self.forward == "nat":
            return self.backend.ip(self.backend.snat, self.backend.backend, ttl=63, **fields) / ported(l4, SNAT_PORT, self.port)
        to = self.backend.backend if self.forward == "dnat" else self.vip.vip
        return self.vip.ip(self.vip.client, to, ttl=63, **fields) / l4

    def answer(self, l4, **fields):
        """A packet of the backend to the client, where it leaves."""
        if self.forward == "nat":
            return self.backend.ip(self.backend.backend, self.backend.snat, **fields) / ported(l4, self.port, SNAT_PORT)
        source = self.backend.backend if self.forward == "dnat" else self.vip.vip
        return self.vip.ip(source, self.vip.client, **fields) / ported(l4, self.port, CLIENT_PORT)

    def answered(self, l4, **fields):
        """The same where it has got to."""
        return self.vip.ip(self.vip.vip, self.vip.client, ttl=50, **fields) / ported(l4, self.port, CLIENT_PORT)

    # Sending it.

    def send(self, frame, packet, bad=False, sent=None, wait=1000, mac=CLIENT_MAC, to=OUR_MAC, trailer=b""):
        """Gives a packet, or a frame as it is, to the balancer. frame is its name
        in verdicts.md; it is bad if it carries, maybe in part, what has
        another checksum than its headers say; sent is the payload of a datagram that is complete with this."""
        data = bytes(packet) if isinstance(packet, (bytes, Ether)) else bytes(Ether(src=mac, dst=to) / packet)
        self.now += wait
        self.suite.add(self.now, data + trailer, case=self.name, frame=frame, port=self.port, bad=bad, sent=sent)

    def from_backend(self, frame, packet, **options):
        self.send(frame, packet, mac=BACKEND_MAC, **options)

    def open(self, l4=None):
        """Begins the case's flow."""
        self.send("opening", self.ip() / (l4 or self.udp(20)))

    # Fragments.

    def cut(self, packet, *sizes, ident=None):
        """The packet in fragments of so many bytes, and one with the rest."""
        size_of_all = len(bytes(packet.__class__(bytes(packet)).payload))
        offset, pieces = 0, []
        for size in (*sizes, size_of_all - sum(sizes)):
            pieces.append(self.piece(packet, offset, size, ident=ident))
            offset += size
        return pieces

    def piece(self, packet, offset, size, more=None, ident=None):
        """A fragment of any bytes behind the packet's basic header."""
        whole = packet.__class__(bytes(packet))  # with checksums and lengths
        data, ident = bytes(whole.payload), ident or 7 * self.port
        if more is None:
            more = offset + size < len(data)
        part, content = whole.copy(), Raw(data[offset:offset + size])
        part.remove_payload()
        if isinstance(whole, IPv6):
            header = IPv6ExtHdrFragment(nh=whole.nh, offset=offset // 8, m=int(more), id=ident)
            del part.plen
            part.nh = 44
            return part / header / content
        part.id, part.flags, part.frag = ident & 0xffff, int(more), offset // 8
        del part.len, part.chksum
        return part / content

    # ICMP.

    def client_error(self, kind, quote, src=None, **fields):
        """An error from the client's side."""
        return error(self.vip, src or self.vip.client, self.vip.vip, kind, quote, **fields)

    def backend_error(self, kind, quote, router=False, **fields):
        """An error from the backend's side."""
        family = self.backend if self.forward in ("nat", "dnat") else self.vip
        source = {"nat": family.backend, "dnat": family.backend}.get(self.forward, family.vip)
        to = family.snat if self.forward == "nat" else family.client
        return error(family, family.inside if router else source, to, kind, quote, **fields)


def ported(l4, sport, dport):
    l4 = l4.copy()
    del l4.chksum
    l4.sport, l4.dport = sport, dport
    return l4


def error(family, src, dst, kind, quote, **fields):
    """An ICMP error of a kind, by name or as it is, about the quoted bytes."""
    kinds = {
        "port unreachable": (ICMP(type=3, code=3), ICMPv6DestUnreach(code=4)),
        "host unreachable": (ICMP(type=3, code=1), ICMPv6DestUnreach(code=3)),
        "too big": (ICMP(type=3, code=4, nexthopmtu=1300), ICMPv6PacketTooBig(mtu=1300)),
        "time exceeded": (ICMP(type=11, code=0), ICMPv6TimeExceeded(code=0)),
        "parameter problem": (ICMP(type=12, code=0, ptr=9), ICMPv6ParamProblem(code=1, ptr=6)),
    }
    header = kinds[kind][family.six] if isinstance(kind, str) else kind
    return family.ip(src, dst, **fields) / header.copy() / Raw(bytes(quote))


def tagged(packet, *tags, outer=Dot1Q, mac=CLIENT_MAC):
    """A frame with VLAN tags, outermost first."""
    frame = Ether(src=mac, dst=OUR_MAC)
    for i, tag in enumerate(tags):
        frame = frame / (outer if i == 0 else Dot1Q)(vlan=tag)
    return frame / packet


def cases():
    """A list of cases, and what puts the function below it in, for VIPs of the IP
    version 4 or 6 or, without one, of both."""
    found = []

    def case(name, only=None):
        def register(build):
            found.append((name, only, build))
            return build
        return register
    return found, case


