# SPDX-License-Identifier: Apache-2.0
"""Who has the VIP: ARP (RFC 826) and neighbour discovery (RFC 4861)."""
import socket

from scapy.layers.inet6 import (
    ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RS, ICMPv6NDOptSrcLLAddr, ICMPv6NDOptUnknown, in6_getnsma)
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from conversation import CLIENT_MAC, OUR_MAC, cases, tagged

CASES, case = cases()
EVERYBODY = "ff:ff:ff:ff:ff:ff"


def who_has(c, **fields):
    return ARP(**{**dict(op=1, hwsrc=CLIENT_MAC, psrc=c.vip.client, hwdst="00:00:00:00:00:00", pdst=c.vip.vip), **fields})


@case("ARP", only=4)
def _(c):
    c.send("request", who_has(c), to=EVERYBODY)
    c.send("request, padded", who_has(c), to=EVERYBODY, trailer=b"\0" * 18)
    c.send("request to our MAC", who_has(c))
    c.send("request behind a VLAN tag", Ether(src=CLIENT_MAC, dst=EVERYBODY) / tagged(who_has(c), 10).payload)
    c.send("request for another address", who_has(c, pdst=c.vip.nobody), to=EVERYBODY)
    c.send("probe (RFC 5227)", who_has(c, psrc="0.0.0.0"), to=EVERYBODY)
    c.send("announcement of the VIP by another machine", who_has(c, psrc=c.vip.vip), to=EVERYBODY)
    c.send("reply", who_has(c, op=2, hwdst=OUR_MAC))
    c.send("operation 3", who_has(c, op=3), to=EVERYBODY)


@case("ARP that lies", only=4)
def _(c):
    c.send("hardware type 6", who_has(c, hwtype=6), to=EVERYBODY)
    c.send("protocol type IPv6", who_has(c, ptype=0x86dd), to=EVERYBODY)
    c.send("hardware length 8", bytes(Ether(src=CLIENT_MAC, dst=EVERYBODY, type=0x806) / Raw(bytes(who_has(c))[:4] + b"\x08" + bytes(who_has(c))[5:])))
    c.send("protocol length 16", bytes(Ether(src=CLIENT_MAC, dst=EVERYBODY, type=0x806) / Raw(bytes(who_has(c))[:5] + b"\x10" + bytes(who_has(c))[6:])))
    c.send("from a group's MAC", who_has(c, hwsrc="01:00:5e:00:00:01"), to=EVERYBODY)
    c.send("cut off", bytes(Ether(src=CLIENT_MAC, dst=EVERYBODY) / who_has(c))[:41])


def solicit(c, target=None, src=None, dst=None, hlim=255, options=True, **fields):
    target = target or c.vip.vip
    group = socket.inet_ntop(socket.AF_INET6, in6_getnsma(socket.inet_pton(socket.AF_INET6, target)))
    packet = IPv6(src=src or c.vip.client, dst=dst or group, hlim=hlim) / ICMPv6ND_NS(tgt=target, **fields)
    return packet / ICMPv6NDOptSrcLLAddr(lladdr=CLIENT_MAC) if options else packet


GROUP_MAC = "33:33:ff:00:00:05"


@case("neighbour solicitations", only=6)
def _(c):
    c.send("to the group", solicit(c), to=GROUP_MAC)
    c.send("to the VIP itself", solicit(c, dst=c.vip.vip))
    c.send("to the VIP itself, without options", solicit(c, dst=c.vip.vip, options=False))
    c.send("behind a VLAN tag", Ether(src=CLIENT_MAC, dst=GROUP_MAC) / tagged(solicit(c), 10).payload, to=GROUP_MAC)
    c.send("for another address", solicit(c, target=c.vip.nobody), to="33:33:ff:00:00:09")
    c.send("from nobody yet (duplicate address detection)", solicit(c, src="::", options=False), to=GROUP_MAC)
    c.send("an advertisement", IPv6(src=c.vip.client, dst=c.vip.vip, hlim=255) / ICMPv6ND_NA(tgt=c.vip.client))
    c.send("a router solicitation", IPv6(src=c.vip.client, dst="ff02::2", hlim=255) / ICMPv6ND_RS(), to="33:33:00:00:00:02")


@case("neighbour solicitations that must not be answered", only=6)
def _(c):
    c.send("hop limit 254", solicit(c, hlim=254), to=GROUP_MAC)
    c.send("code 1", solicit(c, code=1), to=GROUP_MAC)
    c.send("a wrong checksum", solicit(c, cksum=0xdead), to=GROUP_MAC)
    c.send("for a group", solicit(c, target="ff02::1", dst=c.vip.vip))
    c.send("from nobody yet, with an option", solicit(c, src="::"), to=GROUP_MAC)
    c.send("from nobody yet, to the VIP itself", solicit(c, src="::", dst=c.vip.vip, options=False))
    c.send("an option of length 0", solicit(c, options=False) / Raw(bytes(8)), to=GROUP_MAC)
    c.send("an option that ends beyond the packet", solicit(c, options=False) / Raw(bytes([1, 5]) + bytes(6)), to=GROUP_MAC)
    c.send("cut off", bytes(Ether(src=CLIENT_MAC, dst=GROUP_MAC) / solicit(c, options=False))[:70])
