package model

import (
	"encoding/binary"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// segment is what the checksum of TCP or UDP covers. A datagram has a length of its
// own, which IP's may exceed (RFC 8200, section 8.1).
func (p *parsed) segment() []byte {
	l4 := p.l4Bytes()
	if p.tuple.protocol == lb.UDP && p.piece == nil {
		return l4[:binary.BigEndian.Uint16(l4[udpLengthAt:])]
	}
	return l4
}

// checksumAt is where the checksum is in the segment.
func (p *parsed) checksumAt() int {
	if p.tuple.protocol == lb.UDP {
		return udpChecksumAt
	}
	return tcpChecksumAt
}

func (p *parsed) checksumField() uint16 { return binary.BigEndian.Uint16(p.l4Bytes()[p.checksumAt():]) }

// hasNoChecksum reports whether the sender of a datagram made none (RFC 768).
func (p *parsed) hasNoChecksum() bool { return p.tuple.protocol == lb.UDP && p.checksumField() == 0 }

// isPartial reports whether only the pseudo-header is in the checksum. A fragment's is always whole.
func (m *Model) isPartial(p *parsed) bool {
	return m.opts.Checksums != FullChecksums && p.piece == nil && !p.hasNoChecksum() &&
		p.checksumField() == packet.Fold(pseudoHeader(p.tuple, len(p.segment())))
}

// staysPartial reports whether the kernel will complete the packet's checksum.
func (m *Model) staysPartial(p *parsed) bool {
	return m.opts.Checksums == KeepPartialChecksums && m.isPartial(p)
}

// checksumFor is the checksum of the packet's segment after its addresses and ports
// have become those of a tuple.
func (m *Model) checksumFor(p *parsed, segment []byte, t tuple) uint16 {
	at := p.checksumAt()
	pseudo := pseudoHeader(t, len(segment))
	is := right(segment, at, pseudo)
	switch {
	case p.hasNoChecksum() && p.isIPv4() && t.dst.Addr().Is6(): // there it must have one (RFC 7915, section 4.5)
	case p.hasNoChecksum():
		return 0
	case m.staysPartial(p):
		return packet.Fold(pseudo)
	case !m.isPartial(p):
		was := right(p.segment(), at, pseudoHeader(p.tuple, len(segment)))
		is = carryError(p.checksumField(), was, is)
	}
	if is == 0 && p.tuple.protocol == lb.UDP {
		return 0xffff // zero would say that there is none (RFC 768)
	}
	return is
}

// completed is the IP packet with a whole checksum, where nobody else will see to it.
func (m *Model) completed(p *parsed) []byte {
	if p.isICMP() || m.opts.Checksums != CompleteChecksums || !m.isPartial(p) { // the kernel never leaves ICMP's to others
		return p.ipBytes()
	}
	return append(slices.Clone(p.frame[p.ip:p.l4]), m.l4For(p, p.tuple)...)
}

// asCompleted is a packet, or the beginning of one, as it will be when the kernel
// has completed its partial checksum over what is between its L4 header and end.
// Whatever checksum is around it must be that of this.
func (m *Model) asCompleted(p *parsed, ip []byte, end int) []byte {
	l4 := p.l4 - p.ip
	at := l4 + p.checksumAt()
	if !m.staysPartial(p) || len(ip) < at+checksumSize {
		return ip
	}
	ip = slices.Clone(ip)
	binary.BigEndian.PutUint16(ip[at:], packet.Checksum(ip[l4:end], 0))
	return ip
}

// asIfRight is the packet with the right checksum, if it has any: what is derived
// from a sender's wrong one is wrong by as much, as with the kernel's local
// checksum offload.
func (p *parsed) asIfRight(ip []byte) []byte {
	if p.piece != nil || p.isICMP() || p.hasNoChecksum() {
		return ip
	}
	segment := p.segment()
	ip = slices.Clone(ip)
	checksum := right(segment, p.checksumAt(), pseudoHeader(p.tuple, len(segment)))
	binary.BigEndian.PutUint16(ip[p.l4-p.ip+p.checksumAt():], checksum)
	return ip
}

func pseudoHeader(t tuple, length int) uint32 {
	return packet.PseudoHeaderSum(t.src.Addr(), t.dst.Addr(), t.protocol, length)
}

// right computes the checksum that belongs in the field at an offset of b.
func right(b []byte, at int, initial uint32) uint16 {
	return packet.Checksum(b[at+checksumSize:], packet.Sum(b[:at], initial))
}

// carryError is the checksum of a changed packet: the right one, or, if the
// field was wrong, one that is wrong by as much in one's complement. That is
// what the incremental update of RFC 1624 amounts to.
func carryError(field, wasRight, isRight uint16) uint16 {
	const modulus = 0xffff
	wrongBy := (uint32(field) + modulus - uint32(wasRight)) % modulus
	return uint16((uint32(isRight) + wrongBy) % modulus)
}
