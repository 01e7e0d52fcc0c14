# SPDX-License-Identifier: Apache-2.0
"""Packets that fill an MTU of 1500, and options that say how large they may be."""
from scapy.layers.inet import IPOption_NOP
from scapy.packet import Raw

from conversation import cases

CASES, case = cases()
MTU = 1500


def filling(c, size, **fields):
    """A datagram that makes an IP packet of that size."""
    header = len(bytes(c.ip(**fields)))
    return c.udp(size - header - 8)


def give(c, size, sent=False, **fields):
    if not c.vip.six:
        fields["id"] = size  # what is cut must not be mistaken for pieces of another one
    datagram = filling(c, size, **fields)
    c.send("%d bytes" % size, c.ip(**fields) / datagram, sent=bytes(datagram.payload) if sent else None)


@case("IPv4, packets with DF that fill the MTU, or nearly", only=4)
def _(c):
    for size in (1280, 1448, 1449, 1460, 1461, 1468, 1469, 1480, 1481, MTU):
        give(c, size, flags="DF")


@case("IPv6, packets that fill the MTU, or nearly", only=6)
def _(c):
    for size in (1280, 1448, 1449, 1460, 1461, 1468, 1469, 1480, 1481, MTU):
        give(c, size)


@case("IPv4, packets without DF that fill the MTU, or nearly", only=4)
def _(c):
    for size in (1448, 1449, 1460, 1461, 1468, 1469, 1480, 1481, MTU):
        give(c, size, sent=True)


@case("IPv4, a packet with options and without DF that fills the MTU", only=4)
def _(c):
    give(c, MTU, sent=True, options=[IPOption_NOP()] * 12)


@case("a packet larger than the MTU, as the kernel puts them together")
def _(c):
    c.open(c.tcp())
    c.send("5,000 bytes", c.ip() / c.tcp("A", 5000))


@case("a packet that fills the MTU, of a group or to one")
def _(c):
    source = "ff02::1" if c.vip.six else "224.0.0.1"
    fields = {} if c.vip.six else {"flags": "DF"}
    c.send("from a group", c.vip.ip(source, c.vip.vip, **fields) / filling(c, MTU))
    c.send("to all machines' MACs", c.ip(**fields) / filling(c, MTU), to="ff:ff:ff:ff:ff:ff")


def syn(c, options):
    segment = c.tcp("S", dataofs=5 + len(options) // 4)
    return c.ip() / (segment / Raw(options))


@case("SYNs with options")
def _(c):
    mss = b"\x02\x04\x05\xb4"
    for name, options in (("MSS", mss), ("MSS of 536", b"\x02\x04\x02\x18"), ("MSS of 0", b"\x02\x04\0\0"), ("MSS of 65,535", b"\x02\x04\xff\xff"),
                          ("MSS at an odd place", b"\x01" + mss + b"\x01\x01\x01"), ("MSS twice", mss + mss), ("MSS at the end of 40 bytes", b"\x01" * 36 + mss),
                          ("MSS behind the end of the list", b"\0" + b"\x01" * 3 + mss), ("MSS behind an unknown option", b"\xfe\x04ab" + mss),
                          ("MSS of length 3", b"\x02\x03\x05\x01"), ("an option of length 0 before MSS", b"\xfe\0ab" + mss),
                          ("an option that ends beyond the header", b"\xfe\x28ab" + mss)):
        c.send(name, syn(c, options))


@case("an answer to a SYN with MSS")
def _(c):
    c.open(c.tcp())
    segment = c.tcp("SA", options=[("MSS", 1460)])
    c.from_backend("MSS", c.answer(segment))
