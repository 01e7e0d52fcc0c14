package model

import (
	"encoding/binary"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// ipHeader is an IP header of the balancer's own making, without options (RFC 791)
// or extension headers (RFC 8200). The addresses decide which of the two it is.
type ipHeader struct {
	src, dst     netip.Addr
	class        uint8  // TOS, or traffic class
	flowLabel    uint32 // IPv6 only
	id           uint16 // IPv4 only
	dontFragment bool   // IPv4 only
	fragment     uint16 // IPv4 only: offset in units of 8 bytes, and flag
	ttl          uint8
	protocol     lb.Protocol
}

const (
	defaultTTL  = 64
	maxIPLength = 65535
)

// fits reports whether the header's length field can count a body of a size. IPv4
// counts the header too.
func (h ipHeader) fits(body int) bool {
	if h.dst.Is4() {
		body += ipv4Size
	}
	return body <= maxIPLength
}

// before is the IP packet with a body.
func (h ipHeader) before(body []byte) []byte {
	if h.dst.Is4() {
		return append(h.ipv4(len(body)), body...)
	}
	return append(h.ipv6(len(body)), body...)
}

func (h ipHeader) ipv4(body int) []byte {
	fragment := h.fragment
	if h.dontFragment {
		fragment |= dontFragment
	}
	b := []byte{4<<4 | ipv4Size/4, h.class}
	b = binary.BigEndian.AppendUint16(b, uint16(ipv4Size+body))
	b = binary.BigEndian.AppendUint16(b, h.id)
	b = binary.BigEndian.AppendUint16(b, fragment)
	b = append(b, h.ttl, byte(h.protocol), 0, 0)
	b = append(b, h.src.AsSlice()...)
	b = append(b, h.dst.AsSlice()...)
	binary.BigEndian.PutUint16(b[ipv4ChecksumAt:], packet.Checksum(b, 0))
	return b
}

func (h ipHeader) ipv6(body int) []byte {
	b := binary.BigEndian.AppendUint32(nil, 6<<28|uint32(h.class)<<20|h.flowLabel)
	b = binary.BigEndian.AppendUint16(b, uint16(body))
	b = append(b, byte(h.protocol), h.ttl)
	b = append(b, h.src.AsSlice()...)
	return append(b, h.dst.AsSlice()...)
}
