package model

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

const (
	vip           = "203.0.113.5:2000"
	onlyBackend   = "10.0.0.2:80"
	aClient       = "198.51.100.7:40000"
	anotherClient = "198.51.100.8:40000"
)

func start() time.Time { return time.Unix(1_000_000, 0) }

// small has room for two flows, and three sources: the fourth is the VIP.
func small(t *testing.T) *Model {
	t.Helper()
	cfg := lb.Config{
		Services: []lb.Service{{
			Name: "web", Address: lb.VIPAt(netip.MustParseAddrPort(vip)), Protocols: []lb.Protocol{lb.TCP},
			Forward: lb.ForwardNAT, Scheduler: lb.Maglev,
			SNAT: lb.SNAT{
				Addresses: []netip.Addr{netip.MustParseAddrPort(vip).Addr()},
				Ports:     lb.PortRange{First: 1999, Last: 2002},
			},
			Backends: []lb.Backend{{Address: netip.MustParseAddrPort(onlyBackend), Weight: 1}},
		}},
		Timeouts: lb.Timeouts{TCPUnconfirmed: time.Minute, TCPClosed: time.Minute, TCPEstablished: time.Hour, TCPHalfClosed: time.Hour},
		Limits:   lb.Limits{Flows: 2},
	}
	hop := lb.NextHop{Interface: 1, MAC: lb.MAC{2, 0, 0, 0, 0, 2}}
	m, err := New(cfg, map[netip.Addr]lb.NextHop{netip.MustParseAddr("10.0.0.2"): hop}, Options{Interface: 1})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func syn(client string) packet.Packet {
	p := packet.NewTCP(netip.MustParseAddrPort(client), netip.MustParseAddrPort(vip), packet.SYN, "")
	p.SrcMAC, p.DstMAC = lb.MAC{2, 0, 0, 0, 0, 9}, lb.MAC{2, 0, 0, 0, 0, 5}
	return p
}

// opened is a new flow that goes to the backend with a source.
func opened(in packet.Packet, source string) Outcome {
	out := in
	out.SrcMAC, out.DstMAC = in.DstMAC, lb.MAC{2, 0, 0, 0, 0, 2}
	out.TTL--
	out.Src, out.Dst = netip.MustParseAddrPort(source), netip.MustParseAddrPort(onlyBackend)
	return Outcome{Verdict: TX, Reason: NewFlow, Service: "web", Backend: onlyBackend, Frame: out.Frame()}
}

// What a data plane may not do: the model must say so.
func TestWrongChoices(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Outcome)
		source string
		want   string // part of the explanation; "" where all is well
	}{
		"a free source":         {source: "203.0.113.5:2001"},
		"a source in use":       {source: "203.0.113.5:1999", want: "had to give way, although only 1 of 3"},
		"a port out of range":   {source: "203.0.113.5:2003", want: "want one of [203.0.113.5], ports 1999-2002"},
		"another address":       {source: "203.0.113.6:2001", want: "want one of [203.0.113.5]"},
		"the service itself":    {source: vip, want: "and no service"},
		"another verdict":       {source: "203.0.113.5:2001", change: func(o *Outcome) { o.Verdict = Redirect }, want: "want TX"},
		"another reason":        {source: "203.0.113.5:2001", change: func(o *Outcome) { o.Reason = Forwarded }, want: "want TX new-flow"},
		"another backend":       {source: "203.0.113.5:2001", change: func(o *Outcome) { o.Backend = "b" }, want: `backend="` + onlyBackend},
		"a byte of the TTL":     {source: "203.0.113.5:2001", change: func(o *Outcome) { o.Frame[22]-- }, want: "ipv4 ttl: want 63, got 62"},
		"a bit of the checksum": {source: "203.0.113.5:2001", change: func(o *Outcome) { o.Frame[50] ^= 1 }, want: "tcp checksum"},
		"a drop though there is room": {
			source: "203.0.113.5:2001", want: "want a new flow",
			change: func(o *Outcome) { o.Verdict, o.Reason, o.Frame = Drop, SNATExhausted, syn(anotherClient).Frame() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := small(t)
			first := syn(aClient)
			if err := m.Check(start(), first.Frame(), opened(first, "203.0.113.5:1999"), nil); err != nil {
				t.Fatal(err)
			}
			second := syn(anotherClient)
			got := opened(second, tc.source)
			if tc.change != nil {
				tc.change(&got)
			}
			err := m.Check(start().Add(1), second.Frame(), got, nil)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// When the flow table is full the longest idle of the flows has to go, and only that.
func TestWrongVictims(t *testing.T) {
	clients := []string{aClient, anotherClient, "198.51.100.9:40000"}
	sources := []string{"203.0.113.5:1999", "203.0.113.5:2001", "203.0.113.5:2002"}
	for name, tc := range map[string]struct {
		left []int // flows in the table after the third
		want string
	}{
		"the first one":     {[]int{1, 2}, ""},
		"the second one":    {[]int{0, 2}, "it was the turn of tcp " + aClient},
		"both":              {[]int{2}, "2 flows had to give way"},
		"none, by a wonder": {[]int{0, 1, 2}, "0 flows had to give way"},
	} {
		t.Run(name, func(t *testing.T) {
			m := small(t)
			list := func() (left []Flow, err error) {
				for _, i := range tc.left {
					left = append(left, Flow{Protocol: lb.TCP, Client: netip.MustParseAddrPort(clients[i]), VIP: netip.MustParseAddrPort(vip)})
				}
				return left, nil
			}
			var err error
			for i, client := range clients {
				if err != nil {
					t.Fatal(err)
				}
				p := syn(client)
				err = m.Check(start().Add(time.Duration(i)), p.Frame(), opened(p, sources[i]), list)
			}
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// Counters and flows that are not as they should be are named.
func TestWrongState(t *testing.T) {
	m := small(t)
	p := syn(aClient)
	if err := m.Check(start(), p.Frame(), opened(p, "203.0.113.5:1999"), nil); err != nil {
		t.Fatal(err)
	}
	right := Flow{
		Protocol: lb.TCP, Client: p.Src, VIP: p.Dst, Forward: lb.ForwardNAT, Backend: netip.MustParseAddrPort(onlyBackend),
		Source: netip.MustParseAddrPort("203.0.113.5:1999"), Phase: TCPUnconfirmed, Seen: start(),
	}
	confirmed, stranger := right, right
	confirmed.Phase, stranger.Client = Established, netip.MustParseAddrPort(anotherClient)
	counters := func() Counters { return m.counters() }
	miscounted := counters()
	miscounted.Reasons[ReasonOf{"web", NewFlow}] = 2

	if err := m.CheckFlows([]Flow{right}); err != nil {
		t.Error(err)
	}
	if err := m.CheckCounters(counters()); err != nil {
		t.Error(err)
	}
	for want, err := range map[string]error{
		"tcp-unconfirmed": m.CheckFlows([]Flow{confirmed}),
		"a flow too many": m.CheckFlows([]Flow{right, stranger}),
		"want 1, got 2":   m.CheckCounters(miscounted),
		"lacks a flow":    m.CheckFlows(nil),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
