package model

import (
	"encoding/binary"
	"slices"

	"github.com/tinylb/tinylb/internal/packet"
)

// send forwards a packet of a flow: a reply to the client, any other to the
// backend. It is dropped if it cannot become what it would have to.
func (m *Model) send(p *parsed, why Reason, f *flow, got observed) decision {
	limit, fits := m.judgeLength(p, why, f)
	if fits == notAtAll {
		return m.answerError(p, tooLarge(p.allowed(why, f, limit)), f.addressOf(p), f.service, f.backend)
	}
	p = m.withSmallerMSS(p, why, f)
	m = m.completing(fits == inPieces)
	ip, problem := m.rewritten(p, why, f, got)
	if problem != "" {
		return p.drop(problem, f.service, f.backend)
	}
	out := m.wayToClient(f, p)
	if why != Reply {
		out = m.wayToBackend(f.backend.hop, p)
	}
	d := decision{
		verdict: m.sentBy(out.by), reason: why, service: f.service, backend: f.backend,
		frame: out.frame(ip, p.trailer()),
	}
	if fits == inPieces {
		d.frame, d.behind = nil, nil
		for _, piece := range m.pieces(p, f, ip, limit, got) {
			d.behind = append(d.behind, out.frame(piece, nil))
		}
		d.frame, d.behind = d.behind[0], d.behind[1:]
	}
	return d
}

// completing is the model of what happens to a packet that leaves in pieces: it needs a
// whole checksum, since the kernel knows nothing of what they are of.
func (m *Model) completing(inPieces bool) *Model {
	if !inPieces || m.opts.Checksums != KeepPartialChecksums {
		return m
	}
	completing := *m
	completing.opts.Checksums = CompleteChecksums
	return &completing
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

// frame is an IP packet on its way out.
func (w wayOut) frame(ip, trailer []byte) []byte {
	etherType := packet.EtherTypeIPv4
	if ip[0]>>4 == 6 {
		etherType = packet.EtherTypeIPv6
	}
	b := slices.Concat(w.dst[:], w.src[:])
	for _, tag := range w.tags {
		b = binary.BigEndian.AppendUint16(b, tag.Type)
		b = binary.BigEndian.AppendUint16(b, tag.Control)
	}
	return slices.Concat(binary.BigEndian.AppendUint16(b, etherType), ip, trailer)
}

// freeID is the identification that an IPv4 packet left with. It serves to put
// fragments together, so where they are allowed any will do (RFC 6864, section 4).
func (p *parsed) freeID(got observed) uint16 {
	if !got.Verdict.sends() || len(got.Frame) < ethernetSize {
		return 0
	}
	out := parse(got.Frame)
	if len(got.Frame) < out.ip+ipv4Size {
		return 0
	}
	return binary.BigEndian.Uint16(got.Frame[out.ip+ipv4IDAt:])
}
