package model

import (
	"encoding/binary"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// send forwards a packet of a flow: a reply to the client, any other to the
// backend. It is dropped if it cannot become what it would have to.
func (m *Model) send(p *parsed, why Reason, f *flow, got observed) decision {
	ip, problem := m.rewritten(p, why, f, got)
	if problem != "" {
		return p.drop(problem, f.service, f.backend)
	}
	by, src, dst := m.opts.Interface, p.dstMAC(), f.clientMAC
	if why != Reply {
		by, dst = f.backend.hop.Interface, f.backend.hop.MAC
	}
	if own := f.backend.hop.SourceMAC; by != m.opts.Interface && own != (lb.MAC{}) {
		src = own
	}
	return decision{
		verdict: m.sentBy(by), reason: why, service: f.service, backend: f.backend,
		frame: p.frameWith(src, dst, ip, p.trailer()),
	}
}

func (m *Model) sentBy(by int) Verdict {
	if by != m.opts.Interface || m.opts.TXByRedirect {
		return Redirect
	}
	return TX
}

// rewritten is the IP packet that leaves, or why there is none.
func (m *Model) rewritten(p *parsed, why Reason, f *flow, got observed) (ip []byte, problem Reason) {
	switch {
	case !f.forward.Translates() && !f.forward.Tunnels(): // dsr: the backend has the VIP itself
		return m.completed(p), ""
	case f.forward.Tunnels():
		return m.tunnelled(p, f, got)
	}
	t := f.answer.reversed()
	if why == Reply {
		t = f.request.reversed()
	}
	crosses := t.src.Addr().Is4() != p.isIPv4()
	switch {
	case p.piece != nil && crosses:
		return m.translatedPiece(p, t, got)
	case p.piece != nil:
		return m.readdressedPiece(p, t, got), ""
	case crosses:
		return m.translated(p, t, got)
	}
	return m.readdressed(p, t), ""
}

// ipBytes is the IP packet, by its own length.
func (p *parsed) ipBytes() []byte { return p.frame[p.ip:p.end] }

// trailer is what follows the IP packet, such as Ethernet's padding.
func (p *parsed) trailer() []byte { return p.frame[p.end:] }

// frameWith is the frame with other MACs and another IP packet, behind the same
// VLAN tags.
func (p *parsed) frameWith(src, dst lb.MAC, ip, trailer []byte) []byte {
	etherType := packet.EtherTypeIPv4
	if ip[0]>>4 == 6 {
		etherType = packet.EtherTypeIPv6
	}
	tags := p.frame[2*macSize : p.ip-etherTypeSize]
	return slices.Concat(dst[:], src[:], tags, binary.BigEndian.AppendUint16(nil, etherType), ip, trailer)
}

// freeID is the identification that an IPv4 packet left with. It serves to put
// fragments together, so where they are allowed any will do (RFC 6864, section 4).
func (p *parsed) freeID(got observed) uint16 {
	if !got.Verdict.sends() || len(got.Frame) < p.ip+ipv4Size {
		return 0
	}
	return binary.BigEndian.Uint16(got.Frame[p.ip+ipv4IDAt:])
}
