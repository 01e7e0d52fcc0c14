package model

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// How far a flow has come after some of a client's packets, and with an answer after
// the first where answers pass here.
func TestPhases(t *testing.T) {
	const syn, ack, fin, rst = packet.SYN, packet.ACK, packet.FIN, packet.RST
	for name, tc := range map[string]struct {
		forward  lb.Forward
		protocol lb.Protocol
		answered bool
		flags    []packet.TCPFlags
		want     Phase
	}{
		"nat, SYN":                      {lb.ForwardNAT, lb.TCP, false, []packet.TCPFlags{syn}, TCPUnconfirmed},
		"nat, no answer":                {lb.ForwardNAT, lb.TCP, false, []packet.TCPFlags{syn, ack}, TCPUnconfirmed},
		"nat, handshake":                {lb.ForwardNAT, lb.TCP, true, []packet.TCPFlags{syn, ack}, Established},
		"dnat, in the midst":            {lb.ForwardDNAT, lb.TCP, false, []packet.TCPFlags{ack}, TCPUnconfirmed},
		"dnat, answered":                {lb.ForwardDNAT, lb.TCP, true, []packet.TCPFlags{ack, ack}, Established},
		"dnat, first a reset":           {lb.ForwardDNAT, lb.TCP, false, []packet.TCPFlags{rst}, Closed},
		"dnat, first a FIN":             {lb.ForwardDNAT, lb.TCP, true, []packet.TCPFlags{fin | ack, ack}, HalfClosed},
		"dsr, SYN":                      {lb.ForwardDSR, lb.TCP, false, []packet.TCPFlags{syn}, TCPUnconfirmed},
		"dsr, SYN again":                {lb.ForwardDSR, lb.TCP, false, []packet.TCPFlags{syn, syn}, TCPUnconfirmed},
		"dsr, handshake":                {lb.ForwardDSR, lb.TCP, false, []packet.TCPFlags{syn, ack}, Established},
		"dsr, in the midst":             {lb.ForwardDSR, lb.TCP, false, []packet.TCPFlags{ack}, TCPUnconfirmed},
		"ipip, first a FIN":             {lb.ForwardIPIP, lb.TCP, false, []packet.TCPFlags{fin | ack}, Closed},
		"ipip, first a FIN, then more":  {lb.ForwardIPIP, lb.TCP, false, []packet.TCPFlags{fin | ack, ack}, Closed},
		"gue, a reset at any time":      {lb.ForwardGUE, lb.TCP, false, []packet.TCPFlags{syn, ack, rst}, Closed},
		"nat, one datagram":             {lb.ForwardNAT, lb.UDP, false, []packet.TCPFlags{0}, UDPUnconfirmed},
		"nat, two without an answer":    {lb.ForwardNAT, lb.UDP, false, []packet.TCPFlags{0, 0}, UDPUnconfirmed},
		"gue, one datagram":             {lb.ForwardGUE, lb.UDP, false, []packet.TCPFlags{0}, UDPUnconfirmed},
		"gue, two":                      {lb.ForwardGUE, lb.UDP, false, []packet.TCPFlags{0, 0}, Stream},
		"nat, two around an answer":     {lb.ForwardNAT, lb.UDP, true, []packet.TCPFlags{0, 0}, Stream},
		"nat, FIN from the client only": {lb.ForwardNAT, lb.TCP, true, []packet.TCPFlags{syn, fin | ack}, HalfClosed},
	} {
		t.Run(name, func(t *testing.T) {
			f := &flow{forward: tc.forward, request: tuple{protocol: tc.protocol}}
			p := &parsed{frame: make([]byte, ethernetSize), ip: ethernetSize}
			for i, flags := range tc.flags {
				p.flags = flags
				f.fromClient(p, start().Add(time.Duration(i)))
				if i == 0 && tc.answered {
					p.flags = 0
					f.fromBackend(p, start())
				}
			}
			if got := f.phase(); got != tc.want {
				t.Errorf("got %s", got)
			}
		})
	}
}

// A one-way flow and one of plain dnat as they are listed; both follow the packet's
// port where the backend has none, and what comes back is nobody's in the first case.
func TestListed(t *testing.T) {
	for forward, source := range map[lb.Forward]netip.AddrPort{
		lb.ForwardDNAT: netip.MustParseAddrPort(client4),
		lb.ForwardDSR:  {},
	} {
		m := running(t, one(forward, vip4, "10.0.0.2:0"), Options{})
		d, err := m.decide(parse(fromClient(t, syn4)), Outcome{}, m.list)
		if err != nil || d.reason != NewFlow {
			t.Fatalf("got %v, error %v", d.outcome(), err)
		}
		want := Flow{
			Protocol: lb.TCP, Client: netip.MustParseAddrPort(client4), VIP: netip.MustParseAddrPort(vip4), Forward: forward,
			Backend: netip.MustParseAddrPort("10.0.0.2:80"), Source: source, Phase: TCPUnconfirmed, Seen: m.now,
		}
		if err := m.CheckFlows([]Flow{want}); err != nil {
			t.Error(err)
		}
		answer := packet.NewTCP(want.Backend, want.Client, packet.ACK, "")
		answer.DstMAC = macOf(t, ourMAC)
		reason := map[lb.Forward]Reason{lb.ForwardDNAT: Reply, lb.ForwardDSR: NotOurs}[forward]
		if d, err = m.decide(parse(answer.Frame()), Outcome{Reason: NotOurs}, m.list); err != nil || d.reason != reason {
			t.Errorf("%s: the answer: got %v, error %v", forward, d.outcome(), err)
		}
	}
}

// A flow keeps the mode that it was opened with.
func TestForwardOfAFlowStays(t *testing.T) {
	cfg := one(lb.ForwardDSR, vip4, "10.0.0.2:0")
	m := running(t, cfg, Options{})
	frame := fromClient(t, syn4)
	sent := ethernet(t, hopSourceMAC, hopMAC, syn4)
	m.mustBe(t, frame, m.outcome(Redirect, NewFlow, sent))
	cfg.Services[0].Forward = lb.ForwardIPIP
	hops := map[netip.Addr]lb.NextHop{netip.MustParseAddr("10.0.0.2"): m.services[0].backends[0].hop}
	if err := m.Apply(cfg, hops); err != nil {
		t.Fatal(err)
	}
	m.mustBe(t, frame, m.outcome(Redirect, Forwarded, sent))
}
