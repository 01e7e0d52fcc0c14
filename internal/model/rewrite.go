package model

import (
	"encoding/binary"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// send rewrites a packet of a flow: a client's gets the backend as destination
// and the flow's source, an answer the VIP as source and the client as
// destination (RFC 3022, section 2.2).
func (m *Model) send(p *parsed, why Reason, f *flow) decision {
	out := rewriting{parsed: p, frame: slices.Clone(p.frame), checksums: m.opts.Checksums}
	by := m.opts.Interface
	if why == Reply {
		out.setMACs(p.dstMAC(), f.clientMAC)
		out.setAddresses(f.request.reversed())
	} else {
		hop := f.backend.hop
		by = hop.Interface
		src := p.dstMAC()
		if by != m.opts.Interface && hop.SourceMAC != (lb.MAC{}) {
			src = hop.SourceMAC
		}
		out.setMACs(src, hop.MAC)
		out.setAddresses(f.answer.reversed())
	}
	d := decision{verdict: TX, reason: why, service: f.service, backend: f.backend, frame: out.frame}
	if by != m.opts.Interface || m.opts.TXByRedirect {
		d.verdict = Redirect
	}
	return d
}

// rewriting is a frame on its way out.
type rewriting struct {
	*parsed   // as it came in
	frame     []byte
	checksums Checksums
}

func (r *rewriting) setMACs(src, dst lb.MAC) {
	copy(r.frame, dst[:])
	copy(r.frame[macSize:], src[:])
}

// setAddresses writes addresses and ports and mends the checksums.
func (r *rewriting) setAddresses(t tuple) {
	ip, l4 := r.frame[r.ip:], r.frame[r.l4:]
	srcAt, dstAt := ipv4SrcAt, ipv4DstAt
	if t.src.Addr().Is6() {
		srcAt, dstAt = ipv6SrcAt, ipv6DstAt
	}
	copy(ip[srcAt:], t.src.Addr().AsSlice())
	copy(ip[dstAt:], t.dst.Addr().AsSlice())
	binary.BigEndian.PutUint16(l4[sourcePortAt:], t.src.Port())
	binary.BigEndian.PutUint16(l4[destinationPortAt:], t.dst.Port())
	if t.src.Addr().Is4() {
		r.mendIPv4()
	}
	r.mendTransport(t)
}

func (r *rewriting) mendIPv4() {
	field := r.ip + ipv4ChecksumAt
	was := right(r.parsed.frame[r.ip:r.l4], ipv4ChecksumAt, 0)
	is := right(r.frame[r.ip:r.l4], ipv4ChecksumAt, 0)
	binary.BigEndian.PutUint16(r.frame[field:], carryError(binary.BigEndian.Uint16(r.frame[field:]), was, is))
}

func (r *rewriting) mendTransport(t tuple) {
	at, udp := tcpChecksumAt, t.protocol == lb.UDP
	if udp {
		at = udpChecksumAt
	}
	before, after := r.parsed.frame[r.l4:r.end], r.frame[r.l4:r.end]
	field := binary.BigEndian.Uint16(before[at:])
	if udp && field == 0 {
		return // the sender made none (RFC 768)
	}
	oldPseudo, newPseudo := pseudoHeader(r.tuple, len(before)), pseudoHeader(t, len(after))
	is := right(after, at, newPseudo)
	partial := r.checksums != FullChecksums && field == packet.Fold(oldPseudo)
	switch {
	case partial && r.checksums == KeepPartialChecksums:
		binary.BigEndian.PutUint16(after[at:], packet.Fold(newPseudo))
		return
	case !partial:
		is = carryError(field, right(before, at, oldPseudo), is)
	}
	if udp && is == 0 {
		is = 0xffff // zero would say that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(after[at:], is)
}

func pseudoHeader(t tuple, length int) uint32 {
	return packet.PseudoHeaderSum(t.src.Addr(), t.dst.Addr(), t.protocol, length)
}

// right computes the checksum that belongs in the field at an offset of b.
func right(b []byte, at int, initial uint32) uint16 {
	return packet.Checksum(b[at+2:], packet.Sum(b[:at], initial))
}

// carryError is the checksum of a changed packet: the right one, or, if the
// field was wrong, one that is wrong by as much in one's complement. That is
// what the incremental update of RFC 1624 amounts to.
func carryError(field, wasRight, isRight uint16) uint16 {
	const modulus = 0xffff
	wrongBy := (uint32(field) + modulus - uint32(wasRight)) % modulus
	return uint16((uint32(isRight) + wrongBy) % modulus)
}
