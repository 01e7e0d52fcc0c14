package model

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// Protocol numbers of IP in IP (RFC 2003, RFC 2473).
const (
	ipv4InIP lb.Protocol = 4
	ipv6InIP lb.Protocol = 41
)

// tunnelled is the packet within another one to the backend.
func (m *Model) tunnelled(p *parsed, f *flow, got observed) ([]byte, Reason) {
	inner := m.completed(p)
	outer, header := p.outerHeaders(f, p.freeID(got), p.asIfRight(inner))
	if !outer.fits(len(header) + len(inner)) {
		return nil, TooBig
	}
	return outer.before(append(header, inner...)), ""
}

// outerHeaders are those of a packet to the backend with another one inside, or a piece of
// it, and what stands between them, where its checksum is that of the inner one as given.
// The identification is not used if that must not be fragmented.
func (p *parsed) outerHeaders(f *flow, id uint16, inner []byte) (outer ipHeader, between []byte) {
	hash := f.request.hash()
	outer = ipHeader{
		src: spread(f.backend.tunnelSource, hash), dst: f.target.Addr(),
		class:     p.class, // with the ECN bits: RFC 6040, section 4.1, normal mode
		flowLabel: hash & 0xfffff, ttl: defaultTTL, protocol: p.asInner(),
	}
	if outer.dontFragment = p.mustNotBeFragmented(); !outer.dontFragment {
		outer.id = id
	}
	if f.forward == lb.ForwardIPIP {
		return outer, nil
	}
	outer.protocol = lb.UDP
	return outer, p.gueHeaders(outer, hash, f.service.config.Tunnel.Port, inner)
}

// asInner is the protocol number of the packet as the body of another one.
func (p *parsed) asInner() lb.Protocol {
	if p.isIPv4() {
		return ipv4InIP
	}
	return ipv6InIP
}

// mustNotBeFragmented reports whether routers may not do that: in IPv6 they never may.
func (p *parsed) mustNotBeFragmented() bool {
	return p.isIPv6() || binary.BigEndian.Uint16(p.frame[p.ip+ipv4FragmentAt:])&dontFragment != 0
}

const (
	gueSize          = 4
	firstDynamicPort = 0xc000 // RFC 6335, section 6
)

// gueHeaders are those of UDP and of GUE (draft-ietf-intarea-gue-09, section 3.1:
// variant 0, a data message, no optional fields) between an outer header and an inner
// packet as it will finally be. Over IPv4 UDP does without a checksum.
func (p *parsed) gueHeaders(outer ipHeader, hash uint32, port uint16, inner []byte) []byte {
	source := firstDynamicPort | uint16(hash)&^firstDynamicPort
	size := udpSize + gueSize + len(inner)
	b := binary.BigEndian.AppendUint16(nil, source)
	b = binary.BigEndian.AppendUint16(b, port)
	b = binary.BigEndian.AppendUint16(b, uint16(size))
	b = append(b, 0, 0)
	b = append(b, 0, byte(p.asInner()), 0, 0)
	if outer.dst.Is6() {
		pseudo := packet.PseudoHeaderSum(outer.src, outer.dst, lb.UDP, size)
		checksum := packet.Checksum(slices.Concat(b, inner), pseudo)
		if checksum == 0 {
			checksum = 0xffff // RFC 768
		}
		binary.BigEndian.PutUint16(b[udpChecksumAt:], checksum)
	}
	return b
}

// spread is an address of a prefix: its lowest bits, at most 32, are those of a hash.
func spread(prefix netip.Prefix, hash uint32) netip.Addr {
	address := prefix.Addr().AsSlice()
	free := min(prefix.Addr().BitLen()-prefix.Bits(), 32)
	mask := uint32(uint64(1)<<free - 1)
	low := address[len(address)-4:]
	binary.BigEndian.PutUint32(low, binary.BigEndian.Uint32(low)&^mask|hash&mask)
	spread, _ := netip.AddrFromSlice(address)
	return spread
}
