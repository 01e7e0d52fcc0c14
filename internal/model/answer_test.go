package model

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// Resets byte by byte (RFC 9293, section 3.10.7.1).
func TestReset(t *testing.T) {
	for name, tc := range map[string]struct{ vip, in, out string }{
		"with an acknowledgement": {
			vip4, "452e0028123440004006c22d c6336407 cb007105 9c400050 01020304 0a0b0c0d 5010ffff 92e50000",
			"450000280000 40004006d48f cb007105 c6336407 00509c40 0a0b0c0d 00000000 50040000 96f70000",
		},
		"SYN, FIN and 3 bytes without one, over the end of the numbers": {
			vip6, "62eabcde00170640 20010db8000000000000000000000001 20010db8000000000000000000000002" +
				"040001bb fffffffe 77777777 5003ffff 9b5e0000 616263",
			"6000000000140640 20010db8000000000000000000000002 20010db8000000000000000000000001" +
				"01bb0400 00000000 00000003 50140000 4e9e0000",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := running(t, one(lb.ForwardNAT, tc.vip, backend4), Options{})
			got := m.outcome(TX, NoFlow, ethernet(t, ourMAC, clientMAC, tc.out))
			got.Backend = ""
			m.mustBe(t, fromClient(t, tc.in), got)
		})
	}
}

func TestNoAnswer(t *testing.T) {
	segment := func(src, dst string, flags packet.TCPFlags) packet.Packet {
		p := packet.NewTCP(netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst), flags, "")
		p.DstMAC = lb.MAC{2, 0, 0, 0, 0, 5}
		return p
	}
	for name, tc := range map[string]struct {
		src    string
		change func(*packet.Packet)
		want   Verdict
	}{
		"to a host":                 {client4, nil, TX},
		"to a host of IPv6":         {client6, nil, TX},
		"to a group's MAC":          {client4, func(p *packet.Packet) { p.DstMAC[0] |= 1 }, Drop},
		"to this network":           {"0.1.2.3:1", nil, Drop},
		"to loopback":               {"127.0.0.1:1", nil, Drop},
		"to the highest host":       {"223.255.255.255:1", nil, TX},
		"to a group":                {"224.0.0.1:1", nil, Drop},
		"to all":                    {"255.255.255.255:1", nil, Drop},
		"to the unspecified of v6":  {"[::]:1", nil, Drop},
		"to the loopback of v6":     {"[::1]:1", nil, Drop},
		"to a group of v6":          {"[ff02::1]:1", nil, Drop},
		"a reset to a reset":        {client4, func(p *packet.Packet) { p.Flags = packet.RST }, Drop},
		"a reset behind two tags":   {client4, func(p *packet.Packet) { p.VLAN = []packet.Tag{packet.VLAN(1), packet.VLAN(2)} }, TX},
		"time exceeded, to a reset": {client4, func(p *packet.Packet) { p.Flags, p.TTL = packet.RST, 1 }, Drop},
	} {
		t.Run(name, func(t *testing.T) {
			vip := vip4
			if strings.HasPrefix(tc.src, "[") {
				vip = vip6
			}
			p := segment(tc.src, vip, packet.ACK)
			if tc.change != nil {
				tc.change(&p)
			}
			m := running(t, one(lb.ForwardNAT, vip, backend4), Options{})
			d, err := m.decide(parse(p.Frame()), Outcome{}, m.list)
			if err != nil || d.verdict != tc.want || d.reason != NoFlow {
				t.Fatalf("got %v, error %v", d.outcome(), err)
			}
			if want := (rateLimit{}); tc.want == Drop && m.resets != want {
				t.Error("what is not answered counts against the limit")
			}
			if err := packet.Verify(d.frame); tc.want == TX && err != nil {
				t.Error(err)
			}
		})
	}
}

// Time exceeded byte by byte (RFC 792, RFC 4443).
func TestTimeExceeded(t *testing.T) {
	const (
		in4 = "452e0028123440000106012e c6336407 cb007105" + segment4
		in6 = "62eabcde00140601 20010db8000000000000000000000001 20010db8000000000000000000000002" + segment6
	)
	for name, tc := range map[string]struct{ vip, in, out string }{
		"IPv4": {vip4, in4, "45c0004400004000 4001d3b8 cb007105 c6336407 0b005b5b 00000000" + in4},
		"IPv6": {
			vip6, in6, "6000000000443a40 20010db8000000000000000000000002 20010db8000000000000000000000001" +
				"03007b48 00000000" + in6,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := running(t, one(lb.ForwardDNAT, tc.vip, backend4), Options{TXByRedirect: true})
			got := m.outcome(Redirect, TTLExpired, ethernet(t, ourMAC, clientMAC, tc.out))
			got.Backend = ""
			m.mustBe(t, fromClient(t, tc.in), got)
		})
	}
}

// How much is quoted: what makes 576 bytes with IPv4, and 1280 with IPv6.
func TestQuote(t *testing.T) {
	for name, tc := range map[string]struct {
		src, vip string
		size     int // of the payload
		want     int // of the quote
	}{
		"a short packet of IPv4": {client4, vip4, 7, 47},
		"the longest whole one":  {client4, vip4, 508, 548},
		"a longer one":           {client4, vip4, 509, 548},
		"a short packet of IPv6": {client6, vip6, 7, 67},
		"its longest whole one":  {client6, vip6, 1172, 1232},
		"its longer one":         {client6, vip6, 1173, 1232},
	} {
		t.Run(name, func(t *testing.T) {
			p := packet.NewTCP(netip.MustParseAddrPort(tc.src), netip.MustParseAddrPort(tc.vip), packet.SYN, strings.Repeat("x", tc.size))
			p.TTL, p.DstMAC, p.Trailer = 1, lb.MAC{2}, []byte{1, 2, 3}
			m := running(t, one(lb.ForwardNAT, tc.vip, backend4), Options{})
			d, err := m.decide(parse(p.Frame()), Outcome{}, m.list)
			if err != nil {
				t.Fatal(err)
			}
			if err := packet.Verify(d.frame); err != nil {
				t.Error(err)
			}
			answer, err := packet.Read(d.frame)
			if err != nil || len(answer.Payload) != tc.want || len(answer.Trailer) > 0 {
				t.Errorf("got a quote of %d bytes, error %v", len(answer.Payload), err)
			}
		})
	}
}

// A backend is told by the address that it sent to, unless that is the client's.
func TestTimeExceededToABackend(t *testing.T) {
	for name, tc := range map[string]struct {
		forward lb.Forward
		sentTo  string
		want    string
	}{
		"nat":  {lb.ForwardNAT, "10.0.0.1:1024", "10.0.0.1"},
		"dnat": {lb.ForwardDNAT, client4, "203.0.113.5"},
	} {
		t.Run(name, func(t *testing.T) {
			m := running(t, one(tc.forward, vip4, backend4), Options{})
			s := m.services[0]
			f := newFlow(tuple{lb.TCP, netip.MustParseAddrPort(client4), netip.MustParseAddrPort(vip4)}, s, s.backends[0])
			f.answer.dst, f.seen = netip.MustParseAddrPort(tc.sentTo), m.now
			m.flows.add(f)
			p := packet.NewTCP(netip.MustParseAddrPort(backend4), netip.MustParseAddrPort(tc.sentTo), packet.SYN|packet.ACK, "")
			p.TTL, p.DstMAC = 1, lb.MAC{2}
			m.now = m.now.Add(time.Second)
			d, err := m.decide(parse(p.Frame()), Outcome{}, m.list)
			if err != nil || d.reason != TTLExpired || d.backend != s.backends[0] || f.answered {
				t.Fatalf("got %v, error %v", d.outcome(), err)
			}
			answer, err := packet.Read(d.frame)
			if err != nil || answer.Src.Addr().String() != tc.want || answer.Dst.Addr() != p.Src.Addr() {
				t.Errorf("got %v, error %v", answer, err)
			}
		})
	}
}

func TestRateLimit(t *testing.T) {
	var l rateLimit
	allowed := func(at time.Time, perSecond uint32, n int) (allowed int) {
		for range n {
			if l.allow(at, perSecond) {
				allowed++
			}
		}
		return allowed
	}
	for _, step := range []struct {
		after     time.Duration
		perSecond uint32
		want      int // of 1000 at once
	}{
		{0, 0, 0},
		{0, 1000, 101}, // a tenth, and the one that makes it one too many
		{time.Millisecond - 1, 1000, 0},
		{time.Millisecond, 1000, 1},
		{50 * time.Millisecond, 1000, 49},
		{time.Hour, 1000, 101},
		{2 * time.Hour, 3, 1},
		{2*time.Hour + 200*time.Millisecond, 3, 0},
		{2*time.Hour + 234*time.Millisecond, 3, 1},
	} {
		if got := allowed(start().Add(step.after), step.perSecond, 1000); got != step.want {
			t.Errorf("%d a second after %v: %d are allowed, want %d", step.perSecond, step.after, got, step.want)
		}
	}
}

// Resets and ICMP errors have a limit each.
func TestLimitsAreApart(t *testing.T) {
	cfg := one(lb.ForwardNAT, vip4, backend4)
	cfg.RateLimits.Resets = 0
	m := running(t, cfg, Options{})
	for ttl, want := range map[uint8]Outcome{
		64: {Verdict: Drop, Reason: NoFlow, Service: "web"},
		1:  {Verdict: TX, Reason: TTLExpired, Service: "web"},
	} {
		p := packet.NewUDP(netip.MustParseAddrPort(client4), netip.MustParseAddrPort(vip4), "")
		if ttl == 64 {
			p = packet.NewTCP(p.Src, p.Dst, packet.ACK, "")
		}
		p.TTL, p.DstMAC = ttl, lb.MAC{2}
		d, err := m.decide(parse(p.Frame()), Outcome{}, m.list)
		if err != nil || d.outcome().String() != want.String() {
			t.Errorf("got %v, error %v", d.outcome(), err)
		}
	}
}

// Port unreachable byte by byte (RFC 792, RFC 4443), and who is told what.
func TestNobodyTakesIt(t *testing.T) {
	const datagram4 = "4500001f000040004011d48d c6336407 cb007105" + "9c400050000b0000616263"
	const datagram6 = "60000000000b1140 20010db8000000000000000000000001 20010db8000000000000000000000002" + "040001bb000b1234616263"
	for name, tc := range map[string]struct {
		vip, in, out string
		change       func(*lb.Service)
	}{
		"a datagram of IPv4": {
			vip4, datagram4, "45c0003b00004000 4001d3c1 cb007105 c6336407 03039bfe 00000000" + datagram4, nil,
		},
		"a datagram of IPv6": {
			vip6, datagram6, "60000000003b3a40 20010db8000000000000000000000002 20010db8000000000000000000000001" +
				"0104f9f3 00000000" + datagram6, nil,
		},
		"a SYN":                           {vip4, syn4, "450000280000 40004006d48f cb007105 c6336407 00509c40 00000000 01020305 50140000 a8f80000", nil},
		"a SYN that nobody is told about": {vip4, syn4, "", func(s *lb.Service) { s.Silent = true }},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := one(lb.ForwardIPIP, tc.vip, backend4)
			cfg.Services[0].Backends[0].Weight = 0
			if tc.change != nil {
				tc.change(&cfg.Services[0])
			}
			m := running(t, cfg, Options{})
			in := fromClient(t, tc.in)
			got := m.outcome(Drop, NoBackend, in)
			if tc.out != "" {
				got = m.outcome(TX, NoBackend, ethernet(t, ourMAC, clientMAC, tc.out))
			}
			got.Backend = ""
			m.mustBe(t, in, got)
		})
	}
}
