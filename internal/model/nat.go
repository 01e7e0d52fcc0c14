package model

import (
	"encoding/binary"
	"slices"
)

// readdressed is the IP packet with the addresses and ports of a tuple of its own
// family (RFC 3022, section 2.2), a hop further.
func (m *Model) readdressed(p *parsed, t tuple) []byte {
	header := slices.Clone(p.frame[p.ip:p.l4])
	srcAt, dstAt, ttlAt := ipv6SrcAt, ipv6DstAt, ipv6HopLimitAt
	if p.isIPv4() {
		srcAt, dstAt, ttlAt = ipv4SrcAt, ipv4DstAt, ipv4TTLAt
	}
	copy(header[srcAt:], t.src.Addr().AsSlice())
	copy(header[dstAt:], t.dst.Addr().AsSlice())
	header[ttlAt]--
	if p.isIPv4() {
		was := right(p.frame[p.ip:p.l4], ipv4ChecksumAt, 0)
		is := right(header, ipv4ChecksumAt, 0)
		field := header[ipv4ChecksumAt:]
		binary.BigEndian.PutUint16(field, carryError(binary.BigEndian.Uint16(field), was, is))
	}
	return append(header, m.l4For(p, t)...)
}

// l4For is what the packet carries with the ports of a tuple, and with a checksum
// that is right for the tuple if it was for the packet's own.
func (m *Model) l4For(p *parsed, t tuple) []byte {
	l4 := slices.Clone(p.l4Bytes())
	binary.BigEndian.PutUint16(l4[sourcePortAt:], t.src.Port())
	binary.BigEndian.PutUint16(l4[destinationPortAt:], t.dst.Port())
	binary.BigEndian.PutUint16(l4[p.checksumAt():], m.checksumFor(p, l4[:len(p.segment())], t))
	return l4
}
