package model

import (
	"encoding/binary"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// Extension headers of IPv6 (RFC 8200, section 4) that may stand before the ports.
const (
	hopByHop           = 0
	routing            = 43
	fragmentHeader     = 44
	destinationOptions = 60

	maxExtensions      = 6
	extensionUnit      = 8
	ipv6MoreFragments  = 1
	ipv6FragmentOffset = 0xfff8
)

func isExtension(next byte) bool {
	return next == hopByHop || next == routing || next == fragmentHeader || next == destinationOptions
}

// readIPv6 reads the header of RFC 8200 and what stands between it and the ports.
func (p *parsed) readIPv6(b []byte) {
	if len(b) < ipv6Size {
		p.unreadable = BadIPHeader
		return
	}
	src, dst := netip.AddrFrom16([16]byte(b[ipv6SrcAt:])), netip.AddrFrom16([16]byte(b[ipv6DstAt:]))
	if src.Is4In6() || dst.Is4In6() { // RFC 4291, section 2.5.5.2: they stand for IPv4 nodes
		p.unreadable = NotOurs
		return
	}
	p.tuple = tuple{src: netip.AddrPortFrom(src, 0), dst: netip.AddrPortFrom(dst, 0)}
	if b[0]>>4 != 6 {
		p.badHeader = BadIPHeader
		return
	}
	total := ipv6Size + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		p.flaw = Truncated
	}
	p.l4, p.end = p.ip+ipv6Size, p.ip+min(total, len(b))
	if p.readExtensions(b[6]) {
		p.readTransport()
	}
}

// readExtensions goes from header to header; false when the ports cannot be reached.
func (p *parsed) readExtensions(next byte) bool {
	for n := 0; isExtension(next); n++ {
		header := p.l4Bytes()
		switch {
		case n == maxExtensions:
			p.badHeader = ManyHeaders
			return false
		case len(header) < extensionUnit:
			p.badHeader = Truncated
			return false
		case next == hopByHop && n > 0: // section 4.1: it must be the first
			p.badHeader = BadIPHeader
			return false
		}
		size := extensionUnit
		if next == fragmentHeader {
			field := binary.BigEndian.Uint16(header[2:])
			if field&(ipv6FragmentOffset|ipv6MoreFragments) != 0 {
				p.note(Fragment)
			}
			if field&ipv6FragmentOffset != 0 {
				p.badHeader = p.flaw
				return false
			}
		} else {
			size += extensionUnit * int(header[1])
		}
		if size > len(header) {
			p.badHeader = Truncated
			return false
		}
		next = header[0]
		p.l4 += size
	}
	p.tuple.protocol = lb.Protocol(next)
	return true
}
