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

	maxExtensions      = 6  // of a packet that is sent on
	readExtensions     = 32 // in order to know who it is for
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
	p.class, p.ttl = b[0]<<4|b[1]>>4, b[ipv6HopLimitAt]
	if total > len(b) {
		p.note(Truncated)
	}
	p.total, p.l4, p.end = total, p.ip+ipv6Size, p.ip+min(total, len(b))
	next, reached := b[6], true
	for n := 0; reached && isExtension(next); n++ {
		next, reached = p.readExtension(next, n)
	}
	if p.piece != nil && p.l4 == p.piece.at && !isExtension(next) && next != byte(lb.TCP) && next != byte(lb.UDP) {
		p.piece = nil // no datagram of which any part could be for a service
		p.note(Fragment)
		p.tuple.protocol = lb.Protocol(next)
		return
	}
	if reached {
		p.tuple.protocol = lb.Protocol(next)
		p.readTransport()
	}
}

// readExtension reads the n-th extension header, counted from 0, and says what
// kind of header follows; false when the ports cannot be reached.
func (p *parsed) readExtension(kind byte, n int) (next byte, reached bool) {
	if n == maxExtensions {
		p.note(ManyHeaders)
	}
	header := p.l4Bytes()
	switch {
	case n == readExtensions:
		p.badHeader = ManyHeaders
	case len(header) < extensionUnit:
		p.badHeader = Truncated
	case kind == hopByHop && n > 0: // section 4.1: it must be the first
		p.badHeader = BadIPHeader
	case kind == fragmentHeader && p.piece != nil: // a fragment of a fragment
		p.badHeader = BadIPHeader
	case kind == fragmentHeader:
		p.l4 += extensionUnit
		p.readFragmentHeader(header)
		return header[0], !p.isLater()
	default:
		size := extensionUnit * (1 + int(header[1]))
		if size > len(header) {
			p.badHeader = Truncated
		} else if kind == routing && header[3] != 0 { // segments left: it is on its way to another node
			p.badHeader = NotOurs
		}
		p.l4 += size
	}
	if p.badHeader != "" {
		return 0, false
	}
	return header[0], true
}

// readFragmentHeader reads the header of RFC 8200, section 4.5. One that says
// that the packet is whole is as good as none (RFC 6946).
func (p *parsed) readFragmentHeader(header []byte) {
	field := binary.BigEndian.Uint16(header[2:])
	id := binary.BigEndian.Uint32(header[4:])
	p.fragmentID = &id
	p.tuple.protocol = lb.Protocol(header[0])
	p.readPiece(id, int(field&ipv6FragmentOffset), field&ipv6MoreFragments != 0, p.l4-p.ip-ipv6Size-extensionUnit)
}
