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
	Protocol        lb.Protocol
	Client, VIP     netip.AddrPort
	Backend, Source netip.AddrPort
	Phase           Phase
	Seen            time.Time // when its last packet came
}

func (f Flow) String() string {
	return fmt.Sprintf("%v %v > %v, %v > %v %s, seen %s",
		f.Protocol, f.Client, f.VIP, f.Source, f.Backend, f.Phase, f.Seen.UTC().Format(time.RFC3339Nano))
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
	request, answer tuple // as the client's and the backend's packets carry them
	service         *service
	backend         *backend
	seen            time.Time
	clientMAC       lb.MAC // where the client's last packet came from

	answered              bool // the backend has sent something
	confirmed             bool // and the client something after that
	finClient, finBackend bool
	reset                 bool

	doubtful bool // it may be gone from the table
}

func (f *flow) phase() Phase {
	switch udp := f.request.protocol == lb.UDP; {
	case udp && f.confirmed:
		return Stream
	case udp:
		return UDPUnconfirmed
	case f.reset, f.finClient && f.finBackend:
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
	f.seen, f.clientMAC = now, p.srcMAC()
	if p.flags&packet.SYN == 0 && f.answered {
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

func (m *Model) timeout(p Phase) time.Duration {
	switch p {
	case Established:
		return m.timeouts.TCPEstablished
	case HalfClosed:
		return m.timeouts.TCPHalfClosed
	case Stream:
		return m.timeouts.UDPStream
	case UDPUnconfirmed:
		return m.timeouts.UDPUnconfirmed
	case Closed:
		return m.timeouts.TCPClosed
	}
	return m.timeouts.TCPUnconfirmed
}

func (m *Model) alive(f *flow) bool { return m.now.Sub(f.seen) <= m.timeout(f.phase()) }

// needed reports whether a flow must not be lost.
func (m *Model) needed(f *flow) bool { return m.alive(f) && !f.backend.gone && !f.doubtful }

func (f *flow) listed() Flow {
	return Flow{
		Protocol: f.request.protocol,
		Client:   f.request.src, VIP: f.request.dst, Backend: f.answer.src, Source: f.answer.dst,
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

func (t *flowTable) add(f *flow) {
	for _, key := range []tuple{f.request, f.answer} {
		if old := t.byTuple[key]; old != nil {
			t.remove(old)
		}
	}
	t.byTuple[f.request], t.byTuple[f.answer] = f, f
}

func (t *flowTable) remove(f *flow) {
	delete(t.byTuple, f.request)
	delete(t.byTuple, f.answer)
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

// answersTo reports whether a living flow with a backend has an address as its source.
func (t *flowTable) answersTo(dst netip.Addr, m *Model) bool {
	for f := range t.all {
		if f.answer.dst.Addr() == dst && m.needed(f) {
			return true
		}
	}
	return false
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
