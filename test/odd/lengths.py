# SPDX-License-Identifier: Apache-2.0
"""Headers that lie about lengths, and other headers that make no sense."""
import struct

from scapy.layers.inet import IPOption_EOL, IPOption_LSRR, IPOption_NOP, IPOption_RR, IPOption_Router_Alert, IPOption_SSRR
from scapy.packet import Raw

from conversation import Dot1AD, cases, tagged

CASES, case = cases()


def sized(packet, size):
    """The packet with another length in its IP header: IPv4's counts that, too."""
    data = bytearray(bytes(packet))
    if data[0] >> 4 == 6:
        struct.pack_into("!H", data, 4, size - 40)
        return bytes(data)
    struct.pack_into("!H", data, 2, size)
    return summed(data)


def summed(data):
    """IPv4 with a header checksum that is right."""
    data = bytearray(data)
    header = (data[0] & 15) * 4
    data[10:12] = b"\0\0"
    words = struct.unpack("!%dH" % (header // 2), bytes(data[:header]))
    total = sum(words)
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    struct.pack_into("!H", data, 10, ~total & 0xffff)
    return bytes(data)


def framed(c, data):
    """An Ethernet frame with these bytes of IP."""
    return bytes(tagged(Raw(b""), mac="02:01:00:00:00:07"))[:12] + (b"\x86\xdd" if data[0] >> 4 == 6 else b"\x08\x00") + bytes(data)


def give(c, frame, data, **options):
    c.send(frame, framed(c, data), **options)


@case("the IP length is 1 more than there is")
def _(c):
    packet = bytes(c.ip() / c.udp(100))
    give(c, "UDP", sized(packet, len(packet) + 1))
    packet = bytes(c.ip() / c.tcp("S", 100))
    give(c, "TCP", sized(packet, len(packet) + 1))


@case("the IP length is 65,535 in a short frame")
def _(c):
    give(c, "UDP", sized(c.ip() / c.udp(100), 65535))


@case("the IP length ends within the payload")
def _(c):
    packet = bytes(c.ip() / c.udp(100))
    give(c, "UDP", sized(packet, len(packet) - 10))
    packet = bytes(c.ip() / c.tcp("S", 100))
    give(c, "TCP", sized(packet, len(packet) - 10))


@case("the IP length ends within the ports")
def _(c):
    packet = bytes(c.ip() / c.udp(100))
    give(c, "UDP", sized(packet, len(packet) - 106))


@case("the IP length ends behind the ports")
def _(c):
    packet = bytes(c.ip() / c.udp(100))
    give(c, "UDP", sized(packet, len(packet) - 104))
    packet = bytes(c.ip() / c.tcp("S"))
    give(c, "TCP", sized(packet, len(packet) - 16))


@case("the IP length ends with the IP header")
def _(c):
    packet = bytes(c.ip() / c.udp(100))
    give(c, "UDP", sized(packet, len(packet) - 108))


@case("IPv4, a total length shorter than its header", only=4)
def _(c):
    give(c, "UDP", sized(c.ip() / c.udp(100), 19))
    give(c, "of 0", sized(c.ip() / c.udp(100), 0))


@case("IPv4, a header length of 16 bytes", only=4)
def _(c):
    data = bytearray(bytes(c.ip() / c.udp(100)))
    data[0] = 0x44
    give(c, "UDP", data)


@case("IPv4, a header length of 60 bytes that are not there", only=4)
def _(c):
    data = bytearray(bytes(c.ip() / c.udp(10)))
    data[0] = 0x4f
    give(c, "UDP", data)


@case("IPv4, a wrong header checksum", only=4)
def _(c):
    data = bytearray(bytes(c.ip() / c.udp(100)))
    data[10] ^= 0xff
    give(c, "UDP", data)


@case("another IP version than the EtherType's")
def _(c):
    data = bytearray(bytes(c.ip() / c.udp(100)))
    data[0] = 0x50 | data[0] & 15
    frame = framed(c, bytes(c.ip() / c.udp(100)))[:14] + bytes(data)
    c.send("version 5", frame)


@case("IPv6, a payload length of 0 (jumbogram)", only=6)
def _(c):
    give(c, "UDP", sized(c.ip() / c.udp(100), 40))


@case("a UDP length of 0")
def _(c):
    give(c, "UDP", bytes(c.ip() / c.udp(100, len=0)))


@case("a UDP length of 7")
def _(c):
    give(c, "UDP", bytes(c.ip() / c.udp(100, len=7)))


@case("a UDP length of 8, with bytes behind it")
def _(c):
    give(c, "UDP", bytes(c.ip() / c.udp(100, len=8)))


@case("a UDP length 10 less than there is")
def _(c):
    give(c, "UDP", bytes(c.ip() / c.udp(100, len=98)))


@case("a UDP length 1 more than there is")
def _(c):
    give(c, "UDP", bytes(c.ip() / c.udp(100, len=109)))


@case("a UDP length of 65,535")
def _(c):
    give(c, "UDP", bytes(c.ip() / c.udp(100, len=65535)))


@case("UDP without a payload")
def _(c):
    give(c, "UDP", bytes(c.ip() / c.udp(0)))


@case("a wrong UDP checksum")
def _(c):
    give(c, "opening", bytes(c.ip() / c.udp(100, chksum=0xdead)))
    give(c, "known flow", bytes(c.ip() / c.udp(100, chksum=0xdead)))


@case("a wrong TCP checksum")
def _(c):
    give(c, "SYN", bytes(c.ip() / c.tcp("S", 100, chksum=0xdead)))


@case("a TCP data offset of 4")
def _(c):
    give(c, "SYN", bytes(c.ip() / c.tcp("S", 100, dataofs=4)))


@case("a TCP data offset of 0")
def _(c):
    give(c, "SYN", bytes(c.ip() / c.tcp("S", 100, dataofs=0)))


@case("a TCP data offset of 15 with 60 bytes there")
def _(c):
    give(c, "SYN", bytes(c.ip() / c.tcp("S", options=[("NOP", None)] * 40)))


@case("a TCP data offset of 15 with 20 bytes there")
def _(c):
    give(c, "SYN", bytes(c.ip() / c.tcp("S", dataofs=15)))


@case("an MSS option without its length, and one that ends beyond the header")
def _(c):
    for name, options in (("no length", b"\x01\x01\x01\x02"), ("too long", b"\x02\x28\x05\xb4"), ("length 0", b"\x02\x00\x05\xb4"), ("length 1", b"\x02\x01\x05\xb4")):
        segment = c.tcp("S", dataofs=6)
        del segment.chksum
        c.send(name, c.ip() / (segment / Raw(options)))


@case("odd TCP flags without a flow")
def _(c):
    for flags in ("", "F", "SF", "SR", "FPU", "SA", "FSRPAUEC"):
        c.send(flags or "none", c.ip() / c.tcp(flags))


@case("ports of 0")
def _(c):
    datagram = c.udp(100)
    datagram.sport = 0
    c.send("from port 0", c.ip() / datagram)
    datagram = c.udp(100)
    datagram.dport = 0
    c.send("to port 0", c.ip() / datagram)


@case("from the VIP to itself (land)")
def _(c):
    segment = c.tcp()
    segment.sport = segment.dport
    c.send("SYN", c.vip.ip(c.vip.vip, c.vip.vip) / segment)


@case("from addresses that nobody has")
def _(c):
    for source in ("::", "::1", "ff02::1") if c.vip.six else ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"):
        c.send("from " + source, c.vip.ip(source, c.vip.vip) / c.tcp("A"))


@case("IPv4, harmless options", only=4)
def _(c):
    for name, options in (("NOP", [IPOption_NOP()] * 4), ("end of list", [IPOption_EOL()] * 4), ("router alert", [IPOption_Router_Alert()]),
                          ("record route", [IPOption_RR(length=39, pointer=4, routers=["0.0.0.0"] * 9), IPOption_EOL()]),
                          ("unknown", [Raw(b"\x9e\x04ab")])):
        c.send(name, c.ip(options=options) / c.udp(100))


@case("IPv4, source routes", only=4)
def _(c):
    for name, option in (("loose", IPOption_LSRR), ("strict", IPOption_SSRR)):
        c.send(name + ", at its end", c.ip(options=[option(pointer=8, length=7, routers=["192.0.2.1"]), IPOption_EOL()]) / c.udp(100))
        c.send(name + ", a hop to go", c.ip(options=[option(pointer=4, length=7, routers=["192.0.2.1"]), IPOption_EOL()]) / c.udp(100), bad=True)


@case("IPv4, an option that ends beyond the header", only=4)
def _(c):
    for name, options in (("record route", b"\x07\x28\x04\0"), ("of length 0", b"\x07\0\x04\0"), ("of length 1", b"\x9e\x01ab")):
        c.send(name, c.ip(options=[Raw(options)]) / c.udp(100))


@case("frames of 14 bytes to 60")
def _(c):
    whole = bytes(tagged(c.ip() / c.udp(100)))
    for size in (14, 15, 18, 33, 34, 37, 38, 41, 42, 53, 54, 60):
        c.send("%d bytes" % size, whole[:size])


@case("VLAN tags")
def _(c):
    c.send("one", tagged(c.ip() / c.udp(100), 10))
    c.send("a priority tag", tagged(c.ip() / c.udp(100), 0))
    c.send("two", tagged(c.ip() / c.udp(100), 20, 10))
    c.send("two, IEEE 802.1ad", tagged(c.ip() / c.udp(100), 20, 10, outer=Dot1AD))
    c.send("three", tagged(c.ip() / c.udp(100), 30, 20, 10))
    c.send("five", tagged(c.ip() / c.udp(100), 50, 40, 30, 20, 10))
    c.send("one, and nothing behind it", bytes(tagged(c.ip() / c.udp(100), 10))[:17])


@case("to all machines' MACs")
def _(c):
    c.send("no flow", c.ip() / c.tcp("A"), to="ff:ff:ff:ff:ff:ff")
