# SPDX-License-Identifier: Apache-2.0
"""Extension headers of IPv6 (RFC 8200), in numbers and orders that nobody needs."""
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN
from scapy.packet import Raw

from conversation import cases

CASES, case = cases()


def pad():
    return [PadN(optdata=b"\0" * 4)]


def options(count):
    packet = IPv6ExtHdrDestOpt(options=pad())
    for _ in range(count - 1):
        packet = packet / IPv6ExtHdrDestOpt(options=pad())
    return packet


@case("IPv6, six, seven and many extension headers", only=6)
def _(c):
    for count in (1, 6, 7, 8, 32, 33, 60):
        c.send("%d and UDP" % count, c.ip() / options(count) / c.udp(100))
    c.send("6 and TCP", c.ip() / options(6) / c.tcp())


@case("IPv6, six and seven extension headers of a known flow", only=6)
def _(c):
    c.open()
    for count in (1, 6, 7):
        c.send("%d and UDP" % count, c.ip() / options(count) / c.udp(100))


@case("IPv6, extension headers in odd orders", only=6)
def _(c):
    hop, dest, route = (lambda: IPv6ExtHdrHopByHop(options=pad())), (lambda: IPv6ExtHdrDestOpt(options=pad())), (lambda: IPv6ExtHdrRouting(segleft=0))
    atomic = lambda: IPv6ExtHdrFragment(offset=0, m=0, id=9)
    c.send("hop-by-hop options first", c.ip() / hop() / c.udp(100))
    c.send("hop-by-hop options behind destination options", c.ip() / dest() / hop() / c.udp(100))
    c.send("hop-by-hop options twice", c.ip() / hop() / hop() / c.udp(100))
    c.send("routing before destination options", c.ip() / route() / dest() / c.udp(100))
    c.send("all of them, as RFC 8200 has them", c.ip() / hop() / dest() / route() / atomic() / dest() / c.udp(100))
    c.send("all of them, backwards", c.ip() / dest() / atomic() / route() / dest() / hop() / c.udp(100))


@case("IPv6, a routing header with a segment left", only=6)
def _(c):
    c.send("UDP", c.ip() / IPv6ExtHdrRouting(segleft=1, addresses=[c.vip.backend]) / c.udp(100))


@case("IPv6, an extension header that ends beyond the packet", only=6)
def _(c):
    c.send("options", c.ip(nh=60) / Raw(bytes([17, 200, 1, 4, 0, 0, 0, 0]) + bytes(c.udp(100))))
    c.send("options of 8 bytes, and nothing behind them", c.ip(nh=60) / Raw(bytes([17, 0, 1, 4, 0, 0, 0, 0])))
    c.send("half of one", c.ip(nh=60) / Raw(bytes([17, 0, 1])))


@case("IPv6, no next header, and what is unknown", only=6)
def _(c):
    c.send("no next header", c.ip(nh=59) / Raw(bytes(c.udp(100))))
    c.send("no next header behind options", c.ip(nh=60) / Raw(bytes([59, 0, 1, 4, 0, 0, 0, 0]) + bytes(c.udp(100))))
    c.send("an experimental header", c.ip(nh=253) / Raw(bytes(100)))
    c.send("ESP", c.ip(nh=50) / Raw(bytes(100)))
    c.send("authentication header", c.ip(nh=51) / Raw(bytes([17, 4] + [0] * 22) + bytes(c.udp(100))))
    c.send("mobility header", c.ip(nh=135) / Raw(bytes([59, 0, 0, 0, 0, 0, 0, 0])))
    c.send("ICMP of IPv4", c.ip(nh=1) / Raw(bytes(100)))


@case("IPv4, other protocols", only=4)
def _(c):
    for name, number in (("hop-by-hop options", 0), ("IPv4", 4), ("IPv6", 41), ("GRE", 47), ("ESP", 50), ("ICMPv6", 58), ("SCTP", 132), ("unknown", 253)):
        c.send(name, c.ip(proto=number) / Raw(bytes(100)))
