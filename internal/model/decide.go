package model

import (
	"fmt"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// decision is what has to become of a frame.
type decision struct {
	verdict Verdict
	reason  Reason
	service *service // nil where none is meant
	backend *backend // nil where none was chosen
	frame   []byte
	behind  [][]byte // further ones that go the same way
	carried []uint64 // sizes of those that were held, as they came, if they count for the backend

	toClient bool // an error that goes to the client
}

func (d decision) outcome() Outcome {
	o := Outcome{Verdict: d.verdict, Reason: d.reason, Frame: d.frame, Behind: d.behind}
	if d.service != nil {
		o.Service = d.service.config.Name
	}
	if d.backend != nil {
		o.Backend = d.backend.config.Label()
	}
	return o
}

func (p *parsed) pass(why Reason) decision {
	return decision{verdict: Pass, reason: why, frame: p.frame}
}

func (p *parsed) drop(why Reason, s *service, b *backend) decision {
	return decision{verdict: why.drops(), reason: why, service: s, backend: b, frame: p.frame}
}

// observed is what is known of a packet's fate beside the packet.
type observed struct {
	Outcome
	list func() ([]Flow, error)
}

func (m *Model) decide(p *parsed, got Outcome, list func() ([]Flow, error)) (decision, error) {
	if answer := m.answerNeighbour(p); answer != nil {
		return decision{verdict: m.sentBy(m.opts.Interface), reason: Neighbour, frame: answer}, nil
	}
	if p.unreadable != "" {
		return p.pass(p.unreadable), nil
	}
	if !m.isOurs(p.tuple) { // the filter that says so may let it by all the same
		if d := m.decideStranger(p, observed{got, list}); d.reason != NotOurs {
			return d, nil
		}
		if got.Reason == NotOurs && len(got.Behind) == 0 {
			m.doubt(p)
			m.doubtDatagram(p)
			return p.pass(NotOurs), nil
		}
		m.Imprecise++
	}
	switch mac := p.dstMAC(); {
	case m.opts.MAC != lb.MAC{} && mac != m.opts.MAC:
		return p.pass(OtherMAC), nil
	case p.piece != nil:
		return m.decideFragment(p, observed{got, list})
	case p.badHeader != "":
		return p.pass(p.badHeader), nil
	case p.isICMP():
		return m.decideICMP(p, observed{got, list}), nil
	case p.tuple.protocol != lb.TCP && p.tuple.protocol != lb.UDP:
		return p.pass(OtherProtocol), nil
	case !p.hasPorts:
		return p.pass(p.flaw), nil
	}
	return m.decideByPorts(p, observed{got, list})
}

func (m *Model) decideByPorts(p *parsed, got observed) (decision, error) {
	if f := m.flows.find(p.tuple, m); f != nil && !m.wasCleared(f, p, got.Outcome) {
		if !m.startsAnew(f, p) && !f.isOfAnother(p) {
			return m.follow(f, p, got), nil
		}
		m.flows.remove(f)
	}
	s := m.serviceAt(p.tuple.protocol, p.tuple.dst)
	switch {
	case s == nil && p.flaw != "":
		return p.pass(p.flaw), nil
	case s == nil:
		return p.pass(NotOurs), nil
	case p.flaw != "":
		return p.drop(p.flaw, s, nil), nil
	case !s.welcomes(p.tuple.src.Addr()):
		return p.drop(SourceDenied, s, nil), nil
	case s.config.Forward == lb.ForwardNAT && !opensFlow(p): // elsewhere the backend may know what this node does not
		return m.answerWithReset(p, NoFlow, s), nil
	case s.config.Forward.Translates() && p.expires():
		return m.answerError(p, timeIsOver(), p.tuple.dst.Addr(), s, nil), nil
	}
	return m.open(s, p, got)
}

// opensFlow reports whether a packet is certainly a client's first: any of UDP, and
// the segment that opens a TCP connection (RFC 9293, section 3.5).
func opensFlow(p *parsed) bool {
	return p.tuple.protocol == lb.UDP || p.flags&(packet.SYN|packet.ACK|packet.FIN|packet.RST) == packet.SYN
}

// expires reports whether the packet may not go a hop further (RFC 1812, section
// 5.3.1; RFC 8200, section 3).
func (p *parsed) expires() bool { return p.ttl <= 1 }

// startsAnew reports whether a packet of a flow is the first of another one
// with the same addresses and ports: the old connection is over (RFC 9293,
// section 3.6.1), or its backend is gone.
func (m *Model) startsAnew(f *flow, p *parsed) bool {
	over := f.phase() == Closed || f.backend.gone
	return over && p.tuple == f.request && p.flaw == "" && opensFlow(p)
}

// doubt notes that the end of a flow may have gone unnoticed: the first packet
// of another one with the same addresses and ports was not for a service, and
// the address filter may have said so before the flow was looked up.
func (m *Model) doubt(p *parsed) {
	if f := m.flows.find(p.tuple, m); f != nil && m.startsAnew(f, p) {
		f.doubtful = true
	}
}

// wasCleared reports whether a flow that nobody needs had to make room: it may
// at any time, and then its packets are treated as if it never was.
func (m *Model) wasCleared(f *flow, p *parsed, got Outcome) bool {
	known := []Reason{Forwarded, Reply, NoNextHop, BackendGone}
	switch {
	case m.needed(f), slices.Contains(known, got.Reason):
		return false
	case got.Reason == TTLExpired && got.Backend != "": // of a new flow it would name none
		return false
	case p.flaw != "" && got.String() == m.follow(f, p, observed{Outcome: got}).outcome().String():
		return false
	}
	m.flows.remove(f)
	return true
}

// follow treats a packet of a known flow. Its sender has sent it, so it counts
// for the flow's life even where it cannot be sent on.
func (m *Model) follow(f *flow, p *parsed, got observed) decision {
	s, b, isReply := f.service, f.backend, p.tuple == f.answer
	if b.gone {
		s, b = m.serviceAt(f.request.protocol, f.request.dst), nil
	}
	switch {
	case p.flaw != "":
		return p.drop(p.flaw, s, b)
	case b == nil:
		return p.drop(BackendGone, s, nil)
	case f.forward.Translates() && p.expires():
		return m.answerError(p, timeIsOver(), f.addressOf(p), s, b)
	case isReply:
		f.fromBackend(p, m.now)
		return m.send(p, Reply, f, got)
	}
	f.fromClient(p, m.now)
	if !f.backend.hop.Usable() {
		return p.drop(NoNextHop, s, b)
	}
	return m.send(p, Forwarded, f, got)
}

// open makes a flow of a service's first packet.
func (m *Model) open(s *service, p *parsed, got observed) (decision, error) {
	if why := m.refuses(s, p, got.Outcome); why != "" {
		return p.drop(why, s, nil), nil
	}
	b, refusal, err := m.choose(s, p, got.Outcome)
	if err != nil {
		return decision{}, err
	}
	if b == nil {
		if refusal == NoBackend {
			return m.refuse(p, s), nil
		}
		return p.drop(refusal, s, nil), nil
	}
	f := newFlow(p.tuple, s, b)
	f.sourceNATed = m.mustSourceNAT(f, got)
	why := Reason("")
	if f.sourceNATed {
		f.answer.dst, why, err = m.takeSource(f, p, got)
	}
	if why == "" && err == nil {
		why, err = m.makeRoom(got)
	}
	if why != "" || err != nil {
		return p.drop(why, s, b), err
	}
	if f.forward.Translates() && !f.answer.dst.IsValid() {
		return decision{}, fmt.Errorf("got %v, want a new flow: there is room for it", got.Outcome)
	}
	f.fromClient(p, m.now)
	m.flows.add(f)
	if f.forward == lb.ForwardDNAT && f.sourceNATed {
		return m.send(p, NewFlowSNAT, f, got), nil
	}
	return m.send(p, NewFlow, f, got), nil
}

// mustSourceNAT reports whether a new flow needs a source of its own toward the
// backend. In dnat the client keeps its address and port, unless the backend's
// answers would then not come by here, or be taken for those of another flow.
func (m *Model) mustSourceNAT(f *flow, got observed) bool {
	switch f.forward {
	case lb.ForwardNAT:
		return true
	case lb.ForwardDNAT:
		return f.service.isNear(f.request.src.Addr(), f.backend) || m.isTaken(f.answer, got)
	}
	return false
}

// isTaken reports whether answers with a tuple are those of another flow.
func (m *Model) isTaken(answer tuple, got observed) bool {
	f := m.flows.find(answer, m)
	switch {
	case f == nil || f.backend.gone:
		return false
	case f.doubtful:
		return got.Reason == NewFlowSNAT || got.Reason == SNATExhausted
	}
	return true
}
