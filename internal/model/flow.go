package model

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// Flow is a line of the flow table.
type Flow struct {
	Protocol    lb.Protocol
	Client, VIP netip.AddrPort
	Forward     lb.Forward
	Backend     netip.AddrPort
	Source      netip.AddrPort // that the backend answers to; zero where its answers do not pass here
	Phase       Phase
	Seen        time.Time // when its last packet came
}

func (f Flow) String() string {
	return fmt.Sprintf("%v %v > %v, %s %v > %v %s, seen %s",
		f.Protocol, f.Client, f.VIP, f.Forward, f.Source, f.Backend, f.Phase, f.Seen.UTC().Format(time.RFC3339Nano))
}

// Phase is how far a flow has come: it decides how long the flow lives without
// packets, and whether it gives way when there is no room.
type Phase string

const (
	Established    Phase = "tcp-established"
	HalfClosed     Phase = "tcp-half-closed" // FIN from one side
	Stream         Phase = "udp-stream"
	UDPUnconfirmed Phase = "udp-unconfirmed"
	TCPUnconfirmed Phase = "tcp-unconfirmed"
	Closed         Phase = "tcp-closed" // FIN from both sides, or RST
)

// givingWay lists the phases whose flows may end early, the first to go first.
func givingWay() []Phase { return []Phase{Closed, TCPUnconfirmed, UDPUnconfirmed, Stream} }

// yields is the turn in which flows of a phase give way; negative: they never do.
func (p Phase) yields() int { return slices.Index(givingWay(), p) }

// flow is one connection.
type flow struct {
	request     tuple // as the client's packets carry it
	answer      tuple // as the backend's do; zero where they do not pass here
	forward     lb.Forward
	service     *service
	backend     *backend
	target      netip.AddrPort // the backend's address, and its port or that of the packets
	sourceNATed bool           // answer.dst stands for the client
	seen        time.Time
	clientMAC   lb.MAC // where the client's last packet came from
	clientVLAN  vlan
	localMAC    lb.MAC // that it was sent to

	answered              bool // the backend has sent something
	confirmed             bool // and the client something after that; or, where answers do not pass here, something more
	finClient, finBackend bool
	reset                 bool

	doubtful bool // it may be gone from the table
}

// newFlow is what a client's first packet opens. In nat the answer's
// destination is still to be chosen.
func newFlow(request tuple, s *service, b *backend) *flow {
	f := &flow{request: request, forward: s.config.Forward, service: s, backend: b, target: b.config.Address}
	if f.target.Port() == 0 {
		f.target = netip.AddrPortFrom(f.target.Addr(), request.dst.Port())
	}
	switch f.forward {
	case lb.ForwardNAT:
		f.answer = tuple{request.protocol, f.target, netip.AddrPort{}}
	case lb.ForwardDNAT:
		f.answer = tuple{request.protocol, f.target, request.src}
	}
	return f
}

// addressOf is the balancer's own address toward the sender of a packet: what it
// was sent to, unless that is the client.
func (f *flow) addressOf(p *parsed) netip.Addr {
	if sentTo := p.tuple.dst.Addr(); sentTo != f.request.src.Addr() {
		return sentTo
	}
	return f.request.dst.Addr()
}

func (f *flow) phase() Phase {
	switch udp := f.request.protocol == lb.UDP; {
	case udp && f.confirmed:
		return Stream
	case udp:
		return UDPUnconfirmed
	case f.reset, f.finClient && f.finBackend, f.finClient && !f.forward.Translates(): // the backend's is not seen
		return Closed
	case !f.confirmed:
		return TCPUnconfirmed
	case f.finClient, f.finBackend:
		return HalfClosed
	}
	return Established
}

// fromClient and fromBackend follow the connection by a packet that was
// forwarded: for TCP the handshake, FIN and RST of RFC 9293, section 3.6.
func (f *flow) fromClient(p *parsed, now time.Time) {
	isFirst := f.seen.IsZero()
	f.seen, f.clientMAC, f.clientVLAN, f.localMAC = now, p.srcMAC(), p.vlan(), p.dstMAC()
	heard := f.answered || !f.forward.Translates() && !isFirst
	if p.flags&packet.SYN == 0 && heard {
		f.confirmed = true
	}
	f.finClient = f.finClient || p.flags&packet.FIN != 0
	f.reset = f.reset || p.flags&packet.RST != 0
}

func (f *flow) fromBackend(p *parsed, now time.Time) {
	f.seen, f.answered = now, true
	f.finBackend = f.finBackend || p.flags&packet.FIN != 0
	f.reset = f.reset || p.flags&packet.RST != 0
}

// timeout is how long a flow lives without packets: as its service says, if that says anything and
// the flow's backend is still there.
func (m *Model) timeout(f *flow) time.Duration {
	t := m.timeouts
	if own := f.service.config.Timeouts; own != (lb.Timeouts{}) && !f.backend.gone {
		t = own
	}
	switch f.phase() {
	case Established:
		return t.TCPEstablished
	case HalfClosed:
		return t.TCPHalfClosed
	case Stream:
		return t.UDPStream
	case UDPUnconfirmed:
		return t.UDPUnconfirmed
	case Closed:
		return t.TCPClosed
	}
	return t.TCPUnconfirmed
}

func (m *Model) alive(f *flow) bool { return m.now.Sub(f.seen) <= m.timeout(f) }

// needed reports whether a flow must not be lost.
func (m *Model) needed(f *flow) bool { return m.alive(f) && !f.backend.gone && !f.doubtful }

func (f *flow) listed() Flow {
	return Flow{
		Protocol: f.request.protocol,
		Client:   f.request.src, VIP: f.request.dst, Forward: f.forward, Backend: f.target, Source: f.answer.dst,
		Phase: f.phase(), Seen: f.seen,
	}
}

// flowTable finds a flow by both of its tuples. It keeps expired flows until
// their tuples are needed, or CheckFlows finds that the data plane has cleared
// them: a longer timeout brings back those that it has not.
type flowTable struct {
	byTuple map[tuple]*flow
}

func newFlowTable() *flowTable { return &flowTable{byTuple: map[tuple]*flow{}} }

// keys are the tuples that a flow is found by.
func (f *flow) keys() []tuple {
	if !f.forward.Translates() {
		return []tuple{f.request}
	}
	return []tuple{f.request, f.answer}
}

func (t *flowTable) add(f *flow) {
	for _, key := range f.keys() {
		if old := t.byTuple[key]; old != nil {
			t.remove(old)
		}
		t.byTuple[key] = f
	}
}

func (t *flowTable) remove(f *flow) {
	for _, key := range f.keys() {
		delete(t.byTuple, key)
	}
}

// all lists each flow once, in no order.
func (t *flowTable) all(yield func(*flow) bool) {
	for key, f := range t.byTuple {
		if key == f.request && !yield(f) {
			return
		}
	}
}

// find returns the living flow that a tuple belongs to, or nil.
func (t *flowTable) find(key tuple, m *Model) *flow {
	if f := t.byTuple[key]; f != nil && m.alive(f) {
		return f
	}
	return nil
}

// hasAnswersLike reports whether an address filter must know one of a tuple's
// addresses for the sake of a flow that must not be lost: the destination, if it
// stands for a client; the source, if it answers to the client's own address.
func (t *flowTable) hasAnswersLike(answer tuple, m *Model) bool {
	for f := range t.all {
		if !f.forward.Translates() || !m.needed(f) {
			continue
		}
		if f.sourceNATed && f.answer.dst.Addr() == answer.dst.Addr() {
			return true
		}
		if f.forward == lb.ForwardDNAT && f.target.Addr() == answer.src.Addr() {
			return true
		}
	}
	return false
}

// CheckSwept is CheckFlows just after the data plane has cleared all that nobody needs.
func (m *Model) CheckSwept(now time.Time, listed []Flow) error {
	m.now = now
	if err := m.CheckFlows(listed); err != nil {
		return err
	}
	for f := range m.flows.all {
		if !m.alive(f) || f.backend.gone {
			return fmt.Errorf("a flow was not cleared: %v", f.listed())
		}
	}
	return nil
}

// CheckFlows compares a list of the flow table with what it has to hold: every
// needed flow, and none that never was or has ended. Others may be there or not,
// until they are in the way.
func (m *Model) CheckFlows(listed []Flow) error {
	var wrong []string
	there := map[*flow]bool{}
	for _, got := range listed {
		f := m.flows.byTuple[tuple{got.Protocol, got.Client, got.VIP}]
		if f == nil || there[f] {
			wrong = append(wrong, fmt.Sprintf("the flow table has a flow too many: %v", got))
			continue
		}
		there[f] = true
		if want := f.listed(); want != got {
			wrong = append(wrong, fmt.Sprintf("the flow table: want %v\n got %v", want, got))
		}
	}
	for f := range m.flows.all {
		if there[f] {
			continue
		}
		if m.needed(f) {
			wrong = append(wrong, fmt.Sprintf("the flow table lacks a flow: %v", f.listed()))
		}
		m.flows.remove(f)
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return fmt.Errorf("%s", strings.Join(wrong, "\n"))
}
