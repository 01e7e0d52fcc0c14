package model

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

// fate is what became of a datagram's first fragment, and becomes of the others.
type fate int

const (
	waiting fate = iota // for the first fragment
	forwarded
	passed
	refused
)

// datagram is one of which a fragment has come.
type datagram struct {
	deadline time.Time
	fate     fate
	pieces   []*piece
	held     []*parsed // in the order in which they came
	flaw     Reason    // of one that was held, should it be for a service
	why      Reason    // it is refused
	dst      netip.AddrPort
	protocol lb.Protocol
	flow     *flow
	isReply  bool
	id       *uint32 // that it leaves with, where it is given a new one

	doubtful bool // it may never have been noticed
}

// isDone reports whether nobody waits for anything of it.
func (d *datagram) isDone() bool {
	return d.fate == refused || d.fate != waiting && isWhole(d.pieces)
}

// isMissed reports whether it counts as never completed when its time is over.
func (d *datagram) isMissed() bool {
	return (d.fate == waiting || d.fate == forwarded) && !isWhole(d.pieces)
}

// datagramWays is how many datagrams are sure to have room; of more, those that are done may
// be forgotten, and a new one may be refused if none is.
const datagramWays = 8

// tick is how exactly the time is known to those who look for frames that have been held too long.
const tick = 1 << 20

func ticks(t time.Time) int64 { return t.UnixNano() / tick }

// decideFragment says what becomes of a fragment to or from an address of a service's.
func (m *Model) decideFragment(p *parsed, got observed) (decision, error) {
	m.forgetDatagrams()
	d := m.datagrams[p.piece.key]
	if d != nil && m.mayBeForgotten(d) && !m.isAsKnown(d, p, got) {
		delete(m.datagrams, p.piece.key)
		d = nil
	}
	switch {
	case d == nil && got.Reason == FragmentFull && m.datagramsMayBeFull():
		if p.isLater() {
			return p.drop(FragmentFull, nil, nil), nil
		}
		p.note(FragmentFull)
		return m.decideFirst(p, got)
	case d == nil:
		d = &datagram{deadline: m.now.Add(m.fragments.Timeout)}
		m.datagrams[p.piece.key] = d
	}
	switch d.fate {
	case passed:
		d.deadline = m.now.Add(m.fragments.Timeout)
		if p.flaw == "" && p.piece.beside(d.pieces) == "" {
			d.pieces = append(d.pieces, p.piece)
		}
		return p.pass(Fragment), nil
	case refused:
		return p.drop(d.why, m.serviceAt(d.protocol, netip.AddrPortFrom(p.tuple.dst.Addr(), d.dst.Port())), nil), nil
	case forwarded:
		return m.join(d, p, got)
	}
	return m.wait(d, p, got)
}

// decideFirst treats a first fragment as any packet.
func (m *Model) decideFirst(p *parsed, got observed) (decision, error) {
	switch {
	case p.badHeader != "":
		return p.pass(p.badHeader), nil
	case p.isICMP():
		return p.pass(ICMP), nil
	case p.tuple.protocol != lb.TCP && p.tuple.protocol != lb.UDP:
		return p.pass(OtherProtocol), nil
	case !p.hasPorts:
		return p.pass(Truncated), nil
	}
	return m.decideByPorts(p, got)
}

// forgetDatagrams counts those whose time is over, and forgets them.
func (m *Model) forgetDatagrams() {
	m.expiredHeld = slices.DeleteFunc(m.expiredHeld, func(e expired) bool { return ticks(e.at) < ticks(m.now) })
	for key, d := range m.datagrams {
		if !m.now.After(d.deadline) {
			continue
		}
		if d.isMissed() {
			m.incomplete++
		}
		for _, p := range d.held {
			m.expiredHeld = append(m.expiredHeld, expired{d.deadline, len(p.frame)})
		}
		delete(m.datagrams, key)
	}
	m.expiredHeld = slices.DeleteFunc(m.expiredHeld, func(e expired) bool { return ticks(e.at) < ticks(m.now) })
}

// expired is a frame that has been held too long, in this tick.
type expired struct {
	at   time.Time
	size int
}

func (m *Model) mayBeForgotten(d *datagram) bool {
	return d.doubtful || d.isDone() && len(m.datagrams) >= datagramWays
}

// doubtDatagram notes that a first fragment to an address of nobody's was not for a service: the address filter may have
// said so, and then nobody knows of it.
func (m *Model) doubtDatagram(p *parsed) {
	m.forgetDatagrams()
	if p.piece != nil && !p.isLater() && p.badHeader == "" && m.datagrams[p.piece.key] == nil {
		m.datagrams[p.piece.key] = &datagram{deadline: m.now.Add(m.fragments.Timeout), fate: passed, doubtful: true}
	}
}

// isAsKnown reports whether the fragment of a datagram that is done was treated as one of that.
func (m *Model) isAsKnown(d *datagram, p *parsed, got observed) bool {
	switch {
	case d.fate == passed:
		return got.Reason == Fragment
	case d.fate == refused:
		return got.Reason == d.why
	case p.flaw != "":
		return got.Reason == p.flaw || got.Reason == NoFlow
	}
	return got.Reason == p.piece.beside(d.pieces) || got.Reason == NoFlow
}

func (m *Model) datagramsMayBeFull() bool {
	waited := 0
	for _, d := range m.datagrams {
		if !d.isDone() {
			waited++
		}
	}
	return waited >= datagramWays
}

// wait treats a fragment of a datagram of which the first is not there yet, or is this one.
func (m *Model) wait(d *datagram, p *parsed, got observed) (decision, error) {
	flaw := p.flaw
	if flaw == "" {
		flaw = p.piece.beside(d.pieces)
	}
	if flaw == FragmentDuplicate {
		return p.drop(flaw, nil, nil), nil
	}
	if p.isLater() && !m.hasRoomFor(p, got) {
		if len(d.pieces) == 0 && d.flaw == "" {
			delete(m.datagrams, p.piece.key)
		}
		return p.drop(FragmentFull, nil, nil), nil
	}
	if d.flaw == "" {
		d.flaw = flaw
	}
	if flaw == "" {
		d.pieces = append(d.pieces, p.piece)
	}
	if p.isLater() {
		d.held = append(d.held, p)
		return p.drop(FragmentHeld, nil, nil), nil
	}
	if d.flaw != "" {
		p.note(d.flaw)
	}
	p.datagram = d
	decided, err := m.decideFirst(p, got)
	if err != nil {
		return decided, err
	}
	return m.settle(d, p, decided, got), nil
}

// hasRoomFor reports whether one more fragment can be held.
func (m *Model) hasRoomFor(p *parsed, got observed) bool {
	if len(p.frame) > maxHeldFrame || p.piece.at > maxPieceHeaders {
		return false
	}
	frames, bytes := 1, len(p.frame)
	for _, d := range m.datagrams {
		for _, held := range d.held {
			frames, bytes = frames+1, bytes+len(held.frame)
		}
	}
	fits := func() bool { return frames <= int(m.fragments.Held) && bytes <= int(m.fragments.Bytes) }
	if !fits() {
		return false
	}
	for _, e := range m.expiredHeld {
		frames, bytes = frames+1, bytes+e.size
	}
	return fits() || got.Reason != FragmentFull
}

// settle lets the others of a datagram have the fate of the first.
func (m *Model) settle(d *datagram, p *parsed, first decision, got observed) decision {
	held := d.held
	d.deadline, d.held = m.now.Add(m.fragments.Timeout), nil
	d.dst, d.protocol = p.tuple.dst, p.tuple.protocol
	switch {
	case first.verdict == Pass:
		d.fate = passed
		if len(p.frame) <= maxHeldFrame {
			for _, h := range held {
				first.behind = append(first.behind, h.frame)
			}
		}
	case !first.reason.forwards():
		d.fate, d.why = refused, first.reason
	default:
		d.fate, d.flow = forwarded, m.flows.byTuple[p.tuple]
		d.isReply = p.tuple == d.flow.answer
		isCut := len(first.behind) > 0
		if len(held) > 0 && (isCut && !m.canCutStored(p, d.flow) || len(p.frame) > maxHeldFrame) {
			return p.drop(FragmentFull, first.service, first.backend)
		}
		m.lead(d, p, &first, held, got)
	}
	return first
}

// canCutStored reports whether a fragment that was stored can leave in pieces: where all headers before its part of the
// datagram are made anew.
func (m *Model) canCutStored(p *parsed, f *flow) bool {
	crosses := f.target.Addr().Is4() != f.request.dst.Addr().Is4()
	return f.forward.Translates() && (crosses || p.isIPv4() && p.piece.at == p.ip+ipv4Size)
}

// lead lets the fragments that were held follow the first.
func (m *Model) lead(d *datagram, p *parsed, first *decision, held []*parsed, got observed) {
	out := m.wayToClient(d.flow, p)
	if first.reason != Reply {
		out = m.wayToBackend(d.flow.backend.hop, p)
	}
	for _, h := range held {
		if d.flow.forward.Translates() && h.expires() {
			continue
		}
		h.datagram = d
		seen := observed{Outcome: Outcome{Verdict: got.Verdict}}
		if n := len(first.behind); n < len(got.Behind) {
			seen.Frame = got.Behind[n]
		}
		ip, problem := m.rewritten(h, first.reason, d.flow, seen)
		limit, fits := m.judgeLength(h, first.reason, d.flow)
		switch {
		case problem != "", fits == notAtAll, fits == inPieces && !m.canCutStored(h, d.flow):
			continue
		case fits == inPieces:
			for _, piece := range fragments(ip, limit, 0) {
				first.behind = append(first.behind, out.frame(piece, nil))
			}
		default:
			first.behind = append(first.behind, out.frame(ip, h.trailer()))
		}
		first.carried = append(first.carried, uint64(len(h.frame)))
	}
}

// join treats a later fragment of a datagram that goes on with a flow.
func (m *Model) join(d *datagram, p *parsed, got observed) (decision, error) {
	f, flaw := d.flow, p.flaw
	if flaw == "" {
		flaw = p.piece.beside(d.pieces)
	}
	switch flaw {
	case "":
		d.pieces = append(d.pieces, p.piece)
		d.deadline = m.now.Add(m.fragments.Timeout)
	case FragmentDuplicate:
	default:
		d.fate, d.why = refused, flaw
	}
	p.datagram = d
	if m.flows.byTuple[f.request] != f || !m.needed(f) && got.Reason == NoFlow {
		return p.drop(NoFlow, nil, nil), nil
	}
	s, b := f.service, f.backend
	if b.gone {
		s, b = m.serviceAt(f.request.protocol, f.request.dst), nil
	}
	switch {
	case flaw != "":
		return p.drop(flaw, s, b), nil
	case b == nil:
		return p.drop(BackendGone, s, nil), nil
	case f.forward.Translates() && p.expires(): // and nobody is told of a later fragment (RFC 1122, section 3.2.2)
		return p.drop(TTLExpired, s, b), nil
	case d.isReply:
		return m.send(p, Reply, f, got), nil
	}
	f.clientMAC, f.clientVLAN, f.localMAC = p.srcMAC(), p.vlan(), p.dstMAC()
	if !b.hop.Usable() {
		return p.drop(NoNextHop, s, b), nil
	}
	return m.send(p, Forwarded, f, got), nil
}

// readdressedPiece is a fragment with the addresses of a tuple of its own family, a hop further, as one
// of a datagram with another id.
func (m *Model) readdressedPiece(p *parsed, t tuple, got observed) []byte {
	at := p.piece.at - p.ip
	ip := slices.Clone(p.ipBytes())
	if !p.isLater() {
		copy(ip[p.l4-p.ip:], m.l4For(p, t))
	}
	header := ip[:at]
	if p.isIPv6() {
		id := m.newID(p, got, at-ipv6IDSize, ipv6IDSize)
		binary.BigEndian.PutUint32(header[at-ipv6IDSize:], id)
		copy(header[ipv6SrcAt:], t.src.Addr().AsSlice())
		copy(header[ipv6DstAt:], t.dst.Addr().AsSlice())
		header[ipv6HopLimitAt]--
		return ip
	}
	was := right(header, ipv4ChecksumAt, 0)
	binary.BigEndian.PutUint16(header[ipv4IDAt:], uint16(m.newID(p, got, ipv4IDAt, ipv4IDSize)))
	copy(header[ipv4SrcAt:], t.src.Addr().AsSlice())
	copy(header[ipv4DstAt:], t.dst.Addr().AsSlice())
	header[ipv4TTLAt]--
	field := header[ipv4ChecksumAt:]
	binary.BigEndian.PutUint16(field, carryError(binary.BigEndian.Uint16(field), was, right(header, ipv4ChecksumAt, 0)))
	return ip
}

const (
	ipv4IDSize = 2
	ipv6IDSize = 4
)

// newID is the one that all fragments of the datagram leave with, read from the first that does, at an offset from its IP header on. Several senders may
// look like one from here on, so it must not be the sender's own.
func (m *Model) newID(p *parsed, got observed, at, size int) uint32 {
	d := p.datagram
	if d.id != nil {
		return *d.id
	}
	if !got.Verdict.sends() || len(got.Frame) < ethernetSize {
		return 0
	}
	at += parse(got.Frame).ip
	if len(got.Frame) < at+size {
		return 0
	}
	id := uint32(binary.BigEndian.Uint16(got.Frame[at:]))
	if size == ipv6IDSize {
		id = binary.BigEndian.Uint32(got.Frame[at:])
	}
	d.id = &id
	m.checkIsNew(uint16(id) == uint16(p.piece.key.id))
	return id
}

// checkIsNew complains of ids that stay what they were more often than by chance.
func (m *Model) checkIsNew(isKept bool) {
	if !isKept {
		m.idsKept = 0
		return
	}
	if m.idsKept++; m.idsKept > 2 {
		m.complaint = fmt.Errorf("%d datagrams in a row kept their id", m.idsKept)
	}
}

// translatedPiece is a fragment in the family of a tuple's addresses, which is not its own (RFC 7915, sections 4.1 and 5.1.1).
func (m *Model) translatedPiece(p *parsed, t tuple, got observed) ([]byte, Reason) {
	body := slices.Clone(p.frame[p.piece.at:p.end])
	if !p.isLater() {
		switch {
		case p.l4 != p.piece.at: // IPv4 has no such headers, and the others count their bytes
			return nil, ManyHeaders
		case p.hasSourceRoute():
			return nil, SourceRoute
		case p.isIPv4() && p.hasNoChecksum(): // section 4.5
			return nil, NoChecksum
		}
		body = m.l4For(p, t)
	}
	protocol := p.datagram.protocol
	if !p.isLater() {
		protocol = p.tuple.protocol
	}
	header := ipHeader{src: t.src.Addr(), dst: t.dst.Addr(), class: p.class, ttl: p.ttl - 1, protocol: protocol}
	place := uint16(p.piece.offset)
	if p.isIPv4() {
		if p.piece.more {
			place |= ipv6MoreFragments
		}
		id := m.newID(p, got, ipv6Size+fragmentHeaderSize-ipv6IDSize, ipv6IDSize)
		fragment := binary.BigEndian.AppendUint16([]byte{byte(protocol), 0}, place)
		header.protocol = fragmentHeader
		body = append(binary.BigEndian.AppendUint32(fragment, id), body...)
	} else {
		header.fragment = place / fragmentUnit
		if p.piece.more {
			header.fragment |= moreFragments
		}
		header.id = uint16(m.newID(p, got, ipv4IDAt, ipv4IDSize))
	}
	if !header.fits(len(body)) {
		return nil, TooBig
	}
	return header.before(body), ""
}
