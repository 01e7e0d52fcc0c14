# SPDX-License-Identifier: Apache-2.0
"""Fragments of RFC 791 and RFC 8200, as networks and attackers send them."""
from scapy.layers.inet import IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, PadN
from scapy.packet import Raw

from conversation import Dot1AD, cases, tagged

CASES, case = cases()
ORDINALS = ("the first", "the second", "the third", "the fourth")


def three(c, l4, *order, **options):
    """Sends the datagram in three fragments in that order. The last one to come
    completes it."""
    send_cut(c, c.cut(c.ip(**options) / l4, 1000, 1000), order, bytes(l4.payload))


def send_cut(c, pieces, order, payload, give=None):
    for at, which in enumerate(order):
        sent = payload if at == len(order) - 1 else None
        (give or c.send)(ORDINALS[which], pieces[which], sent=sent)


@case("UDP, three fragments in order")
def _(c):
    three(c, c.udp(2900), 0, 1, 2)


@case("UDP, three fragments, the last one first")
def _(c):
    three(c, c.udp(2900), 2, 1, 0)


@case("UDP, three fragments, the first one last")
def _(c):
    three(c, c.udp(2900), 1, 2, 0)


@case("UDP, three fragments, the first one between the others")
def _(c):
    three(c, c.udp(2900), 2, 0, 1)


@case("UDP, three fragments of a known flow, the last one first")
def _(c):
    c.open()
    three(c, c.udp(2900), 2, 1, 0)


@case("TCP, three fragments of a SYN with data, the last one first")
def _(c):
    three(c, c.tcp("S", 2900), 2, 1, 0)


@case("TCP, three fragments of a known flow, in order")
def _(c):
    c.open(c.tcp())
    three(c, c.tcp("A", 2900), 0, 1, 2)


@case("UDP, the answer in three fragments in order")
def _(c):
    c.open()
    answer = c.udp(2900)
    send_cut(c, c.cut(c.answer(answer), 1000, 1000), (0, 1, 2), bytes(answer.payload), c.from_backend)


@case("UDP, the answer in three fragments, the last one first")
def _(c):
    c.open()
    answer = c.udp(2900)
    send_cut(c, c.cut(c.answer(answer), 1000, 1000), (2, 1, 0), bytes(answer.payload), c.from_backend)


@case("UDP, two datagrams in three fragments each, mixed and reversed")
def _(c):
    one, other = c.udp(2900), c.udp(2500)
    ones, others = c.cut(c.ip() / one, 1000, 1000, ident=7001), c.cut(c.ip() / other, 1000, 1000, ident=7002)
    for which in (2, 1, 0):
        done = which == 0
        c.send(ORDINALS[which] + " of one", ones[which], sent=bytes(one.payload) if done else None)
        c.send(ORDINALS[which] + " of the other", others[which], sent=bytes(other.payload) if done else None)


@case("UDP, fragments that come twice, the first one first")
def _(c):
    datagram = c.udp(2900)
    first, second, third = c.cut(c.ip() / datagram, 1000, 1000)
    c.send("the first", first)
    c.send("the first again", first)
    c.send("the second", second)
    c.send("the second again", second)
    c.send("the third", third, sent=bytes(datagram.payload))


@case("UDP, fragments that come twice, the first one last")
def _(c):
    datagram = c.udp(2900)
    first, second, third = c.cut(c.ip() / datagram, 1000, 1000)
    c.send("the third", third)
    c.send("the third again", third)
    c.send("the second", second)
    c.send("the second again", second)
    c.send("the first", first, sent=bytes(datagram.payload))


@case("UDP, the second fragment overlaps the first by 8 bytes")
def _(c):
    packet = c.ip() / c.udp(2000)
    c.send("the first", c.piece(packet, 0, 1000))
    c.send("the second", c.piece(packet, 992, 1016))


@case("UDP, the second fragment overlaps the first and comes before it")
def _(c):
    packet = c.ip() / c.udp(2000)
    c.send("the second", c.piece(packet, 992, 1016))
    c.send("the first", c.piece(packet, 0, 1000))


@case("UDP, a held fragment overlaps another one")
def _(c):
    packet = c.ip() / c.udp(2900)
    c.send("the third", c.piece(packet, 2000, 908))
    c.send("the second", c.piece(packet, 1000, 1008))
    c.send("the first", c.piece(packet, 0, 1000))


@case("UDP, the first fragment once more, with other bytes")
def _(c):
    datagram, forged = c.udp(2000), c.ip() / c.udp(2000)
    first, second = c.cut(c.ip() / datagram, 1000)
    c.send("the first", first)
    c.send("the other first", c.piece(forged, 0, 1000))
    c.send("the second", second, sent=bytes(datagram.payload))


@case("UDP, a fragment within another one (teardrop)")
def _(c):
    packet = c.ip() / c.udp(2000)
    c.send("the first", c.piece(packet, 0, 1000))
    c.send("the one within", c.piece(packet, 24, 400, more=False))


@case("TCP, a first fragment of 8 bytes")
def _(c):
    packet = c.ip() / c.tcp("S", 100)
    c.send("the first", c.piece(packet, 0, 8))
    c.send("the second", c.piece(packet, 8, 112))


@case("TCP, a first fragment of 16 bytes")
def _(c):
    packet = c.ip() / c.tcp("S", 100)
    c.send("the first", c.piece(packet, 0, 16))
    c.send("the second", c.piece(packet, 16, 104))


@case("TCP, a first fragment of 8 bytes comes last")
def _(c):
    packet = c.ip() / c.tcp("S", 100)
    c.send("the second", c.piece(packet, 8, 112))
    c.send("the first", c.piece(packet, 0, 8))


@case("TCP, a first fragment of the header alone")
def _(c):
    segment = c.tcp("S", 100, options=[("NOP", None)] * 4)
    pieces = c.cut(c.ip() / segment, 24)
    send_cut(c, pieces, (0, 1), bytes(segment.payload))


@case("TCP, a first fragment that ends within the options")
def _(c):
    packet = c.ip() / c.tcp("S", 100, options=[("Timestamp", (1, 2)), ("NOP", None), ("NOP", None)])
    c.send("the first", c.piece(packet, 0, 24))
    c.send("the second", c.piece(packet, 24, 108))


@case("UDP, a first fragment of the header alone")
def _(c):
    datagram = c.udp(1000)
    send_cut(c, c.cut(c.ip() / datagram, 8), (0, 1), bytes(datagram.payload))


@case("a first fragment with nothing in it")
def _(c):
    packet = c.ip() / c.udp(1000)
    c.send("the first", c.piece(packet, 0, 0, more=True))


@case("a later fragment with nothing in it")
def _(c):
    packet = c.ip() / c.udp(2000)
    c.send("the first", c.piece(packet, 0, 1000))
    c.send("the empty one", c.piece(packet, 1000, 0, more=True))


@case("a fragment that is not the last one, of an odd length")
def _(c):
    packet = c.ip() / c.udp(2000)
    c.send("the first", c.piece(packet, 0, 1001))
    c.send("the second", c.piece(packet, 1008, 1000))


@case("a later fragment of an odd length with more to come")
def _(c):
    packet = c.ip() / c.udp(3000)
    c.send("the first", c.piece(packet, 0, 1000))
    c.send("the second", c.piece(packet, 1000, 1001, more=True))


@case("a fragment that ends beyond 65,535 bytes (ping of death)")
def _(c):
    packet = c.ip() / c.udp(3000)
    c.send("the last", c.piece(packet, 65528, 1000, more=False))
    c.send("the first", c.piece(packet, 0, 1000))


@case("two last fragments with different ends")
def _(c):
    packet = c.ip() / c.udp(3000)
    c.send("one last", c.piece(packet, 2000, 500, more=False))
    c.send("the other last", c.piece(packet, 1000, 504, more=False))
    c.send("the first", c.piece(packet, 0, 1000))


def backwards(c, size):
    """A datagram as large as they get, the last fragment first."""
    datagram = c.udp(65507)
    pieces = c.cut(c.ip() / datagram, *[size] * (65515 // size))
    for at, piece in enumerate(reversed(pieces)):
        last = at == len(pieces) - 1
        c.send("the first" if last else "another", piece, wait=10, sent=bytes(datagram.payload) if last else None)


@case("a datagram of 65,507 bytes, the last fragment first")
def _(c):
    backwards(c, 1376)


@case("a datagram of 65,507 bytes in fragments that fill the MTU, the last one first")
def _(c):
    backwards(c, 1480 if not c.vip.six else 1448)


@case("the first fragment comes a minute late")
def _(c):
    datagram = c.udp(2000)
    first, second = c.cut(c.ip() / datagram, 1000)
    c.send("the second", second)
    c.send("the first", first, wait=60_000_000)


@case("the identification is used again for another datagram")
def _(c):
    for which in ("one", "the other"):
        datagram = c.udp(2000)
        first, second = c.cut(c.ip() / datagram, 1000, ident=4711)
        c.send("the second of " + which, second, wait=10_000_000)
        c.send("the first of " + which, first, sent=bytes(datagram.payload))


@case("only later fragments")
def _(c):
    _, second, third = c.cut(c.ip() / c.udp(2900), 1000, 1000)
    c.send("the second", second)
    c.send("the third", third)


@case("fragments for another address")
def _(c):
    packet = c.vip.ip(c.vip.client, c.vip.nobody) / c.udp(2000)
    first, second = c.cut(packet, 1000)
    c.send("the second", second)
    c.send("the first", first)


@case("fragments behind a VLAN tag, the last one first")
def _(c):
    datagram = c.udp(2900)
    pieces = [tagged(p, 10) for p in c.cut(c.ip() / datagram, 1000, 1000)]
    send_cut(c, pieces, (2, 1, 0), bytes(datagram.payload))


@case("fragments behind two VLAN tags, the last one first")
def _(c):
    datagram = c.udp(2900)
    pieces = [tagged(p, 20, 10, outer=Dot1AD) for p in c.cut(c.ip() / datagram, 1000, 1000)]
    send_cut(c, pieces, (2, 1, 0), bytes(datagram.payload))


@case("fragments that Ethernet has padded, the last one first")
def _(c):
    datagram = c.udp(1001)
    first, second = c.cut(c.ip() / datagram, 1000)
    c.send("the second", second, trailer=b"\0" * 8)
    c.send("the first", first, trailer=b"\0" * 8, sent=bytes(datagram.payload))


@case("IPv4, fragments with options, the last one first", only=4)
def _(c):
    three(c, c.udp(2900), 2, 1, 0, options=[IPOption_NOP()] * 4)


@case("IPv4, fragments of a datagram without a checksum", only=4)
def _(c):
    three(c, c.udp(2900, chksum=0), 2, 1, 0)


@case("IPv4, fragments with DF set", only=4)
def _(c):
    datagram = c.udp(2000)
    first, second = c.cut(c.ip() / datagram, 1000)
    for p in (first, second):
        p.flags |= 2
    c.send("the second", second)
    c.send("the first", first, sent=bytes(datagram.payload))


@case("IPv4, the reserved flag in fragments", only=4)
def _(c):
    datagram = c.udp(2000)
    first, second = c.cut(c.ip() / datagram, 1000)
    for p in (first, second):
        p.flags |= 4
    c.send("the first", first)
    c.send("the second", second, sent=bytes(datagram.payload))


@case("IPv6, an atomic fragment", only=6)
def _(c):
    datagram = c.udp(100)
    c.send("the only one", c.piece(c.ip() / datagram, 0, 108, more=False), sent=bytes(datagram.payload))


@case("IPv6, an atomic fragment with the identification of others", only=6)
def _(c):
    datagram, atomic = c.udp(2000), c.udp(100)
    first, second = c.cut(c.ip() / datagram, 1000, ident=4712)
    c.send("the second", second)
    c.send("the atomic one", c.piece(c.ip() / atomic, 0, 108, more=False, ident=4712), sent=bytes(atomic.payload))
    c.send("the first", first, sent=bytes(datagram.payload))


@case("IPv6, destination options before the fragment header", only=6)
def _(c):
    datagram = c.udp(2000)
    for name, piece in zip(("the second", "the first"), reversed(c.cut(c.ip() / datagram, 1000))):
        header = piece[IPv6ExtHdrFragment]
        packet = c.ip(nh=60) / IPv6ExtHdrDestOpt(nh=44, options=[PadN(optdata=b"\0" * 4)]) / header
        c.send(name, packet, sent=bytes(datagram.payload) if name == "the first" else None)


@case("IPv6, destination options behind the fragment header", only=6)
def _(c):
    datagram = c.udp(2000)
    packet = c.ip() / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]) / datagram
    send_cut(c, c.cut(packet, 1000), (1, 0), bytes(datagram.payload))


@case("IPv6, a first fragment without the whole chain of headers", only=6)
def _(c):
    packet = c.ip() / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 100)]) / c.udp(2000)
    c.send("the first", c.piece(packet, 0, 64))
    c.send("the second", c.piece(packet, 64, 1000))


@case("IPv6, two fragment headers", only=6)
def _(c):
    inner = IPv6ExtHdrFragment(nh=17, offset=0, m=1, id=1) / bytes(c.udp(1000))
    c.send("the first", c.ip(nh=44) / IPv6ExtHdrFragment(nh=44, offset=0, m=1, id=2) / Raw(bytes(inner)[:1000]))


@case("IPv6, fragments of a datagram without a checksum", only=6)
def _(c):
    datagram = c.udp(2000, chksum=0)
    packet = bytes(c.ip() / datagram)
    packet = IPv6(packet[:46] + b"\0\0" + packet[48:])
    first, second = c.cut(packet, 1000)
    c.send("the first", first, bad=True)
    c.send("the second", second, bad=True, sent=bytes(datagram.payload))


@case("fragments with one hop left")
def _(c):
    datagram = c.udp(2000)
    first, second = c.cut(c.ip(ttl=1) / datagram, 1000)
    c.send("the first", first)
    c.send("the second", second, sent=bytes(datagram.payload))


@case("fragments of TCP without a flow")
def _(c):
    segment = c.tcp("A", 2000)
    first, second = c.cut(c.ip() / segment, 1000)
    c.send("the second", second)
    c.send("the first", first, sent=bytes(segment.payload))


