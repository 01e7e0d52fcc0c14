# SPDX-License-Identifier: Apache-2.0
"""ICMP and ICMPv6: echoes, and errors with quotes of all kinds."""
from scapy.layers.inet import ICMP, IP, IPOption_NOP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6PacketTooBig, ICMPv6ParamProblem, ICMPv6TimeExceeded,
    ICMPv6Unknown, IPv6, IPv6ExtHdrDestOpt, PadN)
from scapy.packet import Raw

from conversation import CLIENT_PORT, GUE_PORT, cases, error, ported, tagged

CASES, case = cases()
KINDS = ("port unreachable", "host unreachable", "too big", "time exceeded", "parameter problem")


def echo(c, size=56, **fields):
    if c.vip.six:
        return ICMPv6EchoRequest(id=7, seq=1, data=c.fill(size), **fields)
    return ICMP(type=8, id=7, seq=1, **fields) / Raw(c.fill(size))


@case("echo to the VIP")
def _(c):
    for size in (0, 1, 2, 56, 1400):
        c.send("%d bytes" % size, c.ip() / echo(c, size))
    c.send("with one hop left", c.ip(ttl=1) / echo(c))
    c.send("behind a VLAN tag", tagged(c.ip() / echo(c), 10))
    c.send("padded", c.ip() / echo(c, 1), trailer=b"\0" * 17)


@case("echo that must not be answered")
def _(c):
    c.send("to all machines' MACs", c.ip() / echo(c), to="ff:ff:ff:ff:ff:ff")
    c.send("from a group", c.vip.ip("ff02::1" if c.vip.six else "224.0.0.1", c.vip.vip) / echo(c))
    c.send("with a wrong checksum", c.ip() / echo(c, **{"cksum" if c.vip.six else "chksum": 0xdead}))
    c.send("to nobody", c.vip.ip(c.vip.client, c.vip.nobody) / echo(c))


@case("IPv4, echo with options", only=4)
def _(c):
    c.send("NOPs", c.ip(options=[IPOption_NOP()] * 4) / echo(c))


@case("IPv6, echo behind destination options", only=6)
def _(c):
    c.send("options", c.ip() / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]) / echo(c))


@case("an echo in fragments")
def _(c):
    first, second = c.cut(c.ip() / echo(c, 2000), 1000)
    c.send("the second", second)
    c.send("the first", first)


@case("ICMP that is no echo request and no error")
def _(c):
    if c.vip.six:
        others = {"echo reply": ICMPv6EchoReply(id=7, seq=1), "an unknown error": ICMPv6Unknown(type=100, msgbody=bytes(60)),
                  "an unknown message": ICMPv6Unknown(type=200, msgbody=bytes(60))}
    else:
        others = {"echo reply": ICMP(type=0, id=7), "an unknown error": ICMP(type=44), "an unknown message": ICMP(type=200)}
    for name, message in others.items():
        c.send(name, c.ip() / message / Raw(bytes(60)) if not c.vip.six else c.ip() / message)


@case("IPv4, other ICMP messages", only=4)
def _(c):
    c.open()
    quote = bytes(c.answered(c.udp(100)))
    for name, message in (("timestamp", ICMP(type=13)), ("redirect", ICMP(type=5, code=1, gw="198.51.100.1")), ("source quench", ICMP(type=4))):
        c.send(name, c.ip() / message / Raw(quote))


# Errors from the client's side, about answers that it has got.

@case("errors of the client, UDP")
def _(c):
    c.open()
    for kind in KINDS:
        c.send(kind, c.client_error(kind, c.answered(c.udp(100))))


@case("errors of the client, TCP")
def _(c):
    c.open(c.tcp())
    for kind in KINDS:
        c.send(kind, c.client_error(kind, c.answered(c.tcp("SA", 100))))


@case("errors of a router before the client")
def _(c):
    c.open()
    for kind in KINDS:
        c.send(kind, c.client_error(kind, c.answered(c.udp(100)), src=c.vip.router))


@case("errors of the client that quote little")
def _(c):
    c.open(c.tcp())
    quote = bytes(c.answered(c.tcp("SA", 600)))
    header = 40 if c.vip.six else 20
    for name, size in (("nothing", 0), ("8 bytes", 8), ("the IP header", header), ("and 2 bytes more", header + 2), ("and 4 bytes more", header + 4),
                       ("and 7 bytes more", header + 7), ("and 8 bytes more", header + 8), ("and the TCP header", header + 20),
                       ("and 28 bytes more", header + 28), ("all", len(quote))):
        c.send(name, c.client_error("host unreachable", quote[:size]))


# Errors from the backend's side, about what it has got.

@case("errors of the backend, UDP")
def _(c):
    c.open()
    for kind in KINDS:
        c.from_backend(kind, c.backend_error(kind, c.arrived(c.udp(100))))


@case("errors of the backend, TCP")
def _(c):
    c.open(c.tcp())
    for kind in KINDS:
        c.from_backend(kind, c.backend_error(kind, c.arrived(c.tcp("S"))))


@case("errors of a router before the backend")
def _(c):
    c.open()
    for kind in KINDS:
        c.from_backend(kind, c.backend_error(kind, c.arrived(c.udp(100)), router=True))


@case("errors of the backend that quote little")
def _(c):
    c.open(c.tcp())
    quote = bytes(c.arrived(c.tcp("S", 600)))
    header = 40 if quote[0] >> 4 == 6 else 20
    for name, size in (("8 bytes", 8), ("the IP header", header), ("and 4 bytes more", header + 4), ("and 8 bytes more", header + 8), ("all", len(quote))):
        c.from_backend(name, c.backend_error("host unreachable", quote[:size]))


# Quotes that are odd.

@case("a quote of a quote")
def _(c):
    c.open()
    inner = c.client_error("port unreachable", c.answered(c.udp(100)))
    back = error(c.vip, c.vip.vip, c.vip.client, "host unreachable", bytes(c.answered(c.udp(100))))
    c.send("an error about an error of the client's", c.client_error("host unreachable", inner))
    c.send("an error about an error of the balancer's", c.client_error("host unreachable", back))


@case("a quote of an echo")
def _(c):
    reply = ICMPv6EchoReply(id=7, seq=1) if c.vip.six else ICMP(type=0, id=7, seq=1)
    c.send("reply", c.client_error("host unreachable", c.vip.ip(c.vip.vip, c.vip.client) / reply))


@case("a quote of no flow")
def _(c):
    c.open()
    other = ported(c.udp(100), c.port, CLIENT_PORT + 1)
    c.send("of another port of the client", c.client_error("port unreachable", c.vip.ip(c.vip.vip, c.vip.client) / other))
    c.send("of another client", c.client_error("port unreachable", c.vip.ip(c.vip.vip, c.vip.router) / ported(c.udp(100), c.port, CLIENT_PORT)))
    c.send("of the other direction", c.client_error("port unreachable", c.vip.ip(c.vip.client, c.vip.vip) / c.udp(100)))
    c.send("of another VIP", c.client_error("port unreachable", c.vip.ip(c.vip.nobody, c.vip.client) / ported(c.udp(100), c.port, CLIENT_PORT)))


@case("a quote with other contents than were sent")
def _(c):
    c.open()
    quote = c.answered(c.udp(100, chksum=0xdead))
    c.send("a wrong UDP checksum", c.client_error("port unreachable", quote))
    quote = bytearray(bytes(c.answered(c.udp(100))))
    if not c.vip.six:
        quote[10] ^= 0xff
        c.send("a wrong IPv4 checksum", c.client_error("port unreachable", quote))
        quote = bytearray(bytes(c.answered(c.udp(100, chksum=0))))
        c.send("no UDP checksum", c.client_error("port unreachable", quote))
    long = bytes(c.answered(c.udp(1200)))
    c.send("1,200 bytes", c.client_error("port unreachable", long))
    c.send("a length of 65,535", c.client_error("port unreachable", bytes(c.answered(c.udp(100)))[:2] + b"\xff\xff" + bytes(c.answered(c.udp(100)))[4:]) if not c.vip.six
           else c.client_error("port unreachable", bytes(c.answered(c.udp(100)))[:4] + b"\xff\xff" + bytes(c.answered(c.udp(100)))[6:]))


@case("IPv4, a quote with options", only=4)
def _(c):
    c.open()
    c.send("all", c.client_error("port unreachable", c.answered(c.udp(100), options=[IPOption_NOP()] * 8)))
    c.send("and 8 bytes more", c.client_error("port unreachable", bytes(c.answered(c.udp(100), options=[IPOption_NOP()] * 8))[:36]))
    c.send("the error has options itself", c.client_error("port unreachable", c.answered(c.udp(100)), options=[IPOption_NOP()] * 4))


@case("IPv6, a quote with extension headers", only=6)
def _(c):
    c.open()
    header = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])
    answer = c.vip.ip(c.vip.vip, c.vip.client) / header / ported(c.udp(100), c.port, CLIENT_PORT)
    c.send("options", c.client_error("port unreachable", answer))
    error_behind = c.vip.ip(c.vip.client, c.vip.vip) / header / ICMPv6DestUnreach(code=4) / Raw(bytes(c.answered(c.udp(100))))
    c.send("the error has options itself", error_behind)


@case("a quote of a fragment")
def _(c):
    c.open()
    first, second = c.cut(c.answered(c.udp(2000)), 1000)
    c.send("the first", c.client_error("time exceeded", first))
    c.send("the second", c.client_error("time exceeded", second))


@case("path MTUs that make no sense")
def _(c):
    c.open()
    for mtu in (0, 1, 67, 68, 576, 1279, 1280, 1500, 65535):
        kind = ICMPv6PacketTooBig(mtu=mtu) if c.vip.six else ICMP(type=3, code=4, nexthopmtu=mtu)
        c.send("%d" % mtu, c.client_error(kind, c.answered(c.udp(100))))
    if c.vip.six:
        c.send("4,294,967,295", c.client_error(ICMPv6PacketTooBig(mtu=0xffffffff), c.answered(c.udp(100))))


@case("codes and types of errors that nobody knows")
def _(c):
    c.open()
    quote = c.answered(c.udp(100))
    kinds = [ICMPv6DestUnreach(code=200), ICMPv6TimeExceeded(code=200), ICMPv6ParamProblem(code=200, ptr=0xffffffff)] if c.vip.six else [
        ICMP(type=3, code=200), ICMP(type=11, code=200), ICMP(type=12, code=200, ptr=255)]
    for name, kind in zip(("unreachable", "time exceeded", "parameter problem"), kinds):
        c.send(name, c.client_error(kind, quote))


@case("an error with a wrong checksum")
def _(c):
    c.open()
    kind = ICMPv6DestUnreach(code=4, cksum=0xdead) if c.vip.six else ICMP(type=3, code=3, chksum=0xdead)
    c.send("of the client", c.client_error(kind, c.answered(c.udp(100))))


@case("an error with an extension (RFC 4884)")
def _(c):
    c.open()
    quote = bytes(c.answered(c.udp(100)))[:128].ljust(128, b"\0")
    mpls = bytes.fromhex("2000") + b"\0\0" + bytes.fromhex("00080101" "00010140")
    data = bytes(c.client_error("time exceeded", quote + mpls))
    header = 40 if c.vip.six else 20
    packet = bytearray(data)
    packet[header + (4 if c.vip.six else 5)] = 128 // (8 if c.vip.six else 4)
    packet[header + 2:header + 4] = b"\0\0"
    again = IPv6(bytes(packet[:40])) if c.vip.six else IP(bytes(packet[:20]))
    body = bytes(packet[header:])
    if c.vip.six:
        message = ICMPv6TimeExceeded(body)
        del message.cksum
    else:
        message = ICMP(body)
        del message.chksum
    again.remove_payload()
    c.send("of the client", again / message)


@case("an error in fragments")
def _(c):
    c.open()
    first, second = c.cut(c.client_error("port unreachable", bytes(c.answered(c.udp(1200)))), 1000)
    c.send("the second", second)
    c.send("the first", first)


@case("an error with one hop left")
def _(c):
    c.open()
    c.send("of the client", c.client_error("port unreachable", c.answered(c.udp(100)), ttl=1))


@case("errors behind VLAN tags")
def _(c):
    c.send("opening", tagged(c.ip() / c.udp(20), 10))
    c.send("of the client", tagged(c.client_error("port unreachable", c.answered(c.udp(100))), 10))
    c.send("of the client, padded", c.client_error("port unreachable", bytes(c.answered(c.udp(100)))[:28]), trailer=b"\0" * 4)


# Errors about tunnels.

def outer(c, inner):
    source, to = c.backend.tunnel, c.backend.backend
    if c.forward == "gue":
        header = bytes([0, 41 if c.vip.six else 4, 0, 0])
        return c.backend.ip(source, to) / UDP(sport=50000, dport=GUE_PORT) / Raw(header + bytes(inner))
    number = 41 if c.vip.six else 4
    packet = c.backend.ip(source, to, **({"nh": number} if c.backend.six else {"proto": number}))
    return packet / Raw(bytes(inner))


@case("errors about a tunnel")
def _(c):
    c.open()
    quote = bytes(outer(c, c.ip() / c.udp(1300)))
    for kind in KINDS:
        c.from_backend(kind, error(c.backend, c.backend.inside, c.backend.tunnel, kind, quote))
    header = 40 if c.backend.six else 20
    c.from_backend("too big, and 8 bytes more", error(c.backend, c.backend.inside, c.backend.tunnel, "too big", quote[:header + 8]))
    c.from_backend("too big, of no backend", error(c.backend, c.backend.inside, c.backend.tunnel, "too big",
                                                   bytes(c.backend.ip(c.backend.tunnel, c.backend.nobody) / Raw(bytes(100)))))


