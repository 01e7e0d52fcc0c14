#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Builds odd packets with scapy, and puts fragments together again.

odd.py generate FORWARD OUT.pcap FAMILIES...
    writes the packets of all cases for services of that mode. FAMILIES are the IP
    versions of a VIP and its backend, such as 44 or 46. For each packet it prints a
    JSON object: {"at","families","case","frame","port","bad","sent"}, see Case.send.
odd.py reassemble FILE.pcap
    prints for each UDP datagram and TCP segment, taken out of tunnels and put
    together from fragments, {"port","fragments","payload"}: the one of its ports
    that is a case's, how many fragments it was in, and its payload in hex.
"""
import json
import struct
import sys

from scapy.layers.inet import IP, TCP, UDP, defragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, defragment6
from scapy.utils import PcapReader, PcapWriter

import arp
import extensions
import fragments
import icmp
import large
import lengths
from conversation import GUE_PORT, Case, Family

GUE_HEADER = 4
REUSE = 5  # seconds after which an identification is another datagram's
MODULES = (fragments, lengths, large, extensions, icmp, arp)


class Suite:
    """The packets of all cases for one kind of service."""

    def __init__(self, forward, families, writer):
        self.forward, self.families, self.writer = forward, families, writer
        self.vip, self.backend = (Family(version == "6") for version in families)

    def add(self, now, data, sent=None, **entry):
        seconds, microseconds = divmod(now, 1_000_000)
        self.writer.write_packet(data, sec=seconds, usec=microseconds)
        print(json.dumps({"at": now, "families": self.families, "sent": sent.hex() if sent else "", **entry}))


def generate(forward, path, *all_families):
    writer = PcapWriter(path, linktype=1)
    writer.write_header(None)
    number = 0
    for families in all_families:
        suite = Suite(forward, families, writer)
        for name, only, build in (found for module in MODULES for found in module.CASES):
            if only in (None, int(families[0])):
                build(Case(suite, name, number))
                number += 1
    writer.close()


def reassemble(path):
    whole, waiting = [], {}
    for frame in PcapReader(path):
        packet = innermost(frame)
        if packet is None:
            continue
        if not is_fragment(packet):
            whole.append((0, packet))
            continue
        if not offset(packet) and not more(packet):  # RFC 6946
            whole += [(1, p) for p in put_together([packet])]
            continue
        which = identification(packet)
        since, parts = waiting.setdefault(which, (frame.time, []))
        if frame.time - since > REUSE:
            whole += [(len(parts), p) for p in put_together(parts)]
            since, parts = waiting[which] = frame.time, []
        parts.append(packet)
    for _, parts in waiting.values():
        whole += [(len(parts), p) for p in put_together(parts)]
    for count, packet in whole:
        for layer in (UDP, TCP):
            if layer in packet:
                report(count, packet[layer])


def is_fragment(p):
    return IPv6ExtHdrFragment in p if isinstance(p, IPv6) else bool(p.frag or p.flags.MF)


def identification(p):
    return p.src, p.dst, p[IPv6ExtHdrFragment].id if isinstance(p, IPv6) else (p.proto, p.id)


def report(count, l4):
    port = next((p for p in (l4.dport, l4.sport) if 1000 <= p < 5000), 0)
    print(json.dumps({"port": port, "fragments": count, "payload": bytes(l4.payload).hex()}))


def put_together(parts):
    """The datagrams that fragments of one identification make: none if there are
    gaps or overlaps between them, what comes twice counts as it came first."""
    once = {}
    for p in sorted(parts, key=offset):
        once.setdefault((offset(p), len(content(p))), p)
    parts, end = list(once.values()), 0
    for p in parts:
        if offset(p) != end:
            return []
        end += len(content(p))
    if more(parts[-1]):
        return []
    if isinstance(parts[0], IPv6):
        return [defragment6(parts)]
    return [p for p in defragment(parts) if not p.frag and not p.flags.MF]


def offset(p):
    return 8 * (p[IPv6ExtHdrFragment].offset if isinstance(p, IPv6) else p.frag)


def more(p):
    return p[IPv6ExtHdrFragment].m if isinstance(p, IPv6) else p.flags.MF


def content(p):
    return bytes(p[IPv6ExtHdrFragment].payload if isinstance(p, IPv6) else p.payload)


def innermost(frame):
    """The IP packet in a frame, or in the tunnel that the frame is part of."""
    packet = frame
    while packet is not None and not isinstance(packet, (IP, IPv6)):
        packet = packet.payload if packet.payload else None
    if packet is None:
        return None
    if None in (getattr(packet, "len", 0), getattr(packet, "plen", 0)):
        return None  # cut off
    # Ethernet padding is not the packet's.
    size = packet.len if isinstance(packet, IP) else 40 + packet.plen
    try:
        packet = packet.__class__(bytes(packet)[:size])
    except struct.error:
        return None  # a length that makes no sense
    inside = packet.payload
    if isinstance(inside, (IP, IPv6)):
        return inside.__class__(bytes(inside))
    if isinstance(inside, UDP) and inside.dport == GUE_PORT:
        data = bytes(inside.payload)[GUE_HEADER:]
        return (IPv6 if data[0] >> 4 == 6 else IP)(data)
    return packet


if __name__ == "__main__":
    {"generate": generate, "reassemble": reassemble}[sys.argv[1]](*sys.argv[2:])
