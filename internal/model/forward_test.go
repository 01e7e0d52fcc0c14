package model

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

// The addresses and ports of the tests below: those of clients and VIPs are also
// in TestHashIsAContract, so that what depends on the hash is known.
const (
	client4, client6   = "198.51.100.7:40000", "[2001:db8::1]:1024"
	vip4, vip6         = "203.0.113.5:80", "[2001:db8::2]:443"
	backend4, backend6 = "10.0.0.2:8080", "[2001:db8:a::2]:8080"

	ourMAC, clientMAC, hopMAC, hopSourceMAC = "020000000005", "020000000009", "020000000002", "0200000000aa"
)

// These begin with the client's SYN: an IP header and a segment.
const (
	syn4 = "452e0028123440004006c22d c6336407 cb007105" + segment4
	syn6 = "62eabcde00140640 20010db8000000000000000000000001 20010db8000000000000000000000002" + segment6

	segment4 = "9c400050 01020304 00000000 5002ffff a90b0000"
	segment6 = "040001bb 01020304 00000000 5002ffff 4aad0000"
)

// one is a service with one backend, which the only port 1024 of one source address
// of each family can stand for clients toward.
func one(forward lb.Forward, vip, backend string) lb.Config {
	return lb.Config{
		Services: []lb.Service{{
			Name: "web", Address: lb.VIPAt(netip.MustParseAddrPort(vip)), Protocols: []lb.Protocol{lb.TCP, lb.UDP},
			Forward: forward, Scheduler: lb.Maglev,
			SNAT: lb.SNAT{
				Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8:a::1")},
				Ports:     lb.OnePort(1024),
			},
			Tunnel: lb.Tunnel{
				Sources: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/16"), netip.MustParsePrefix("100::/64")}, Port: 6080,
			},
			Backends: []lb.Backend{{Address: netip.MustParseAddrPort(backend), Weight: 1}},
		}},
		Timeouts: lb.Timeouts{
			TCPUnconfirmed: time.Minute, TCPClosed: time.Minute, TCPEstablished: time.Hour, TCPHalfClosed: time.Hour,
			UDPUnconfirmed: time.Minute, UDPStream: time.Hour,
		},
		RateLimits: lb.RateLimits{Resets: 1000, ICMPErrors: 1000},
		Limits:     lb.Limits{Flows: 16},
	}
}

// running is a data plane at interface 1; backends are behind interface 2.
func running(t *testing.T, cfg lb.Config, opts Options) *Model {
	t.Helper()
	hops := map[netip.Addr]lb.NextHop{}
	for _, a := range cfg.BackendAddresses() {
		hops[a] = lb.NextHop{Interface: 2, MAC: macOf(t, hopMAC), SourceMAC: macOf(t, hopSourceMAC)}
	}
	opts.Interface = 1
	m, err := New(cfg, hops, opts)
	if err != nil {
		t.Fatal(err)
	}
	m.now = start()
	return m
}

func macOf(t *testing.T, text string) lb.MAC { return lb.MAC(unhex(t, text)) }

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ethernet is the frame with an IP packet.
func ethernet(t *testing.T, src, dst, ip string) []byte {
	t.Helper()
	etherType := "0800"
	if ip[0] == '6' {
		etherType = "86dd"
	}
	return unhex(t, dst+src+etherType+ip)
}

func fromClient(t *testing.T, ip string) []byte { return ethernet(t, clientMAC, ourMAC, ip) }

// outcome is that of the only service and its backend.
func (m *Model) outcome(verdict Verdict, why Reason, frame []byte) Outcome {
	s := m.services[0]
	return Outcome{Verdict: verdict, Reason: why, Service: s.config.Name, Backend: s.backends[0].config.Label(), Frame: frame}
}

// mustBe fails the test unless the model, too, says that a frame becomes this.
func (m *Model) mustBe(t *testing.T, frame []byte, got Outcome) {
	t.Helper()
	if err := m.Check(m.now.Add(1), frame, got, m.list); err != nil {
		t.Fatal(err)
	}
}

// list is the flow table of a data plane that agrees with the model.
func (m *Model) list() (all []Flow, err error) {
	for f := range m.flows.all {
		all = append(all, f.listed())
	}
	return all, nil
}

// Every byte that leaves, for each mode and mix of families: written from RFC 791,
// 8200, 7915, 2003, 2473, 768 and the draft of GUE; the checksums were computed by
// another program.
func TestForward(t *testing.T) {
	const (
		snat4 = "04001f90 01020304 00000000 5002ffff 744a0000" // 10.0.0.1:1024 > 10.0.0.2:8080
		snat6 = "04001f90 01020304 00000000 5002ffff 2cc40000"
		b6    = "20010db8000a00000000000000000002"
		s6    = "20010db8000a00000000000000000001"
		gue4  = "f69a17c0 0034 0000 00040000" // 0xc000 | 0xe6dbf69a & 0x3fff
		gue6  = "d41c17c0 0048 0000 00290000" // 0xc000 | 0xa0ff941c & 0x3fff
	)
	for name, tc := range map[string]struct {
		forward      lb.Forward
		vip, backend string
		in, out      string
	}{
		"nat, 4 to 4": {lb.ForwardNAT, vip4, backend4, syn4, "452e0028123440003f06156c 0a000001 0a000002" + snat4},
		"nat, 6 to 6": {lb.ForwardNAT, vip6, backend6, syn6, "62eabcde0014063f" + s6 + b6 + snat6},
		"nat, 4 to 6": {lb.ForwardNAT, vip4, backend6, syn4, "62e000000014063f" + s6 + b6 + snat6},
		"nat, 6 to 4": {lb.ForwardNAT, vip6, backend4, syn6, "452e0028567800003f061128 0a000001 0a000002" + snat4},
		"dnat, 4":     {lb.ForwardDNAT, vip4, backend4, syn4, "452e0028123440003f06f531 c6336407 0a000002 9c401f90 01020304 00000000 5002ffff bbcf0000"},
		"dnat, 6": {
			lb.ForwardDNAT, vip6, backend6, syn6,
			"62eabcde0014063f 20010db8000000000000000000000001" + b6 + "04001f90 01020304 00000000 5002ffff 2cce0000",
		},
		"dsr, 4":       {lb.ForwardDSR, vip4, "10.0.0.2:80", syn4, syn4},
		"dsr, 6":       {lb.ForwardDSR, vip6, "10.0.0.2:0", syn6, syn6},
		"ipip, 4 in 4": {lb.ForwardIPIP, vip4, "10.0.0.2:0", syn4, "452e003c0000400040048de3 ac10f69a 0a000002" + syn4},
		"ipip, 6 in 4": {lb.ForwardIPIP, vip6, "10.0.0.2:0", syn6, "452e0050000040004029f028 ac10941c 0a000002" + syn6},
		"ipip, 4 in 6": {lb.ForwardIPIP, vip4, "[2001:db8:a::2]:0", syn4, "62ebf69a00280440 010000000000000000000000e6dbf69a" + b6 + syn4},
		"ipip, 6 in 6": {lb.ForwardIPIP, vip6, "[2001:db8:a::2]:0", syn6, "62ef941c003c2940 010000000000000000000000a0ff941c" + b6 + syn6},
		"gue, 4 in 4":  {lb.ForwardGUE, vip4, "10.0.0.2:0", syn4, "452e0048000040004011 8dca ac10f69a 0a000002" + gue4 + syn4},
		"gue, 6 in 4":  {lb.ForwardGUE, vip6, "10.0.0.2:0", syn6, "452e005c000040004011 f034 ac10941c 0a000002" + gue6 + syn6},
		"gue, 4 in 6": {
			lb.ForwardGUE, vip4, "[2001:db8:a::2]:0", syn4,
			"62ebf69a00341140 010000000000000000000000e6dbf69a" + b6 + strings.Replace(gue4, "0034 0000", "0034 4b47", 1) + syn4,
		},
		"gue, 6 in 6": {
			lb.ForwardGUE, vip6, "[2001:db8:a::2]:0", syn6,
			"62ef941c00481140 010000000000000000000000a0ff941c" + b6 + strings.Replace(gue6, "0048 0000", "0048 8974", 1) + syn6,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := running(t, one(tc.forward, tc.vip, tc.backend), Options{})
			const padding = "0000"
			m.mustBe(t, fromClient(t, tc.in+padding), m.outcome(Redirect, NewFlow, ethernet(t, hopSourceMAC, hopMAC, tc.out+padding)))
		})
	}
}

// What RFC 7915 says about headers that have no like in the other family.
func TestTranslate(t *testing.T) {
	const (
		to6   = "20010db8000a00000000000000000001 20010db8000a00000000000000000002"
		from6 = "20010db8000000000000000000000001 20010db8000000000000000000000002"
		snat4 = "04001f90 01020304 00000000 5002ffff 744a0000"
		snat6 = "04001f90 01020304 00000000 5002ffff 2cc40000"
	)
	for name, tc := range map[string]struct {
		vip, backend string
		in, out      string
	}{
		"options of IPv4 are left out": {
			vip4, backend6, "462e002c123440004006bd1e c6336407 cb007105 01070304" + segment4, "62e000000014063f" + to6 + snat6,
		},
		"extension headers are left out": {
			vip6, backend4, "62eabcde001c3c40" + from6 + "0600010400000000" + segment6, "452e0028567800003f061128 0a000001 0a000002" + snat4,
		},
		"a fragment header gives its identification": {
			vip6, backend4, "62eabcde001c2c40" + from6 + "06000000aabbccdd" + segment6, "452e0028ccdd00003f069ac2 0a000001 0a000002" + snat4,
		},
		"UDP gets a checksum": {
			vip4, backend6, "4500001e000000004011148f c6336407 cb007105 9c400050000a0000 6869", "60000000000a113f" + to6 + "04001f90000a1858 6869",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := running(t, one(lb.ForwardNAT, tc.vip, tc.backend), Options{})
			m.mustBe(t, fromClient(t, tc.in), m.outcome(Redirect, NewFlow, ethernet(t, hopSourceMAC, hopMAC, tc.out)))
		})
	}
}

// The way back across families.
func TestTranslateReply(t *testing.T) {
	for name, tc := range map[string]struct {
		vip, backend, in, opened, reply, back string
	}{
		"4 to 6": {
			vip6, backend4, syn6, "452e0028567800003f061128 0a000001 0a000002 04001f90 01020304 00000000 5002ffff 744a0000",
			"450100289999400040068d33 0a000002 0a000001 1f900400 00000005 01020305 5012ffff 74340000",
			"601000000014063f 20010db8000000000000000000000002 20010db8000000000000000000000001 01bb0400 00000005 01020305 5012ffff 4a970000",
		},
		"6 to 4": {
			vip4, backend6, syn4,
			"62e000000014063f 20010db8000a00000000000000000001 20010db8000a00000000000000000002 04001f90 01020304 00000000 5002ffff 2cc40000",
			"6011111100140640 20010db8000a00000000000000000002 20010db8000a00000000000000000001 1f900400 00000005 01020305 5012ffff 2cae0000",
			"45010028432100003f06d26d cb007105 c6336407 00509c40 00000005 01020305 5012ffff a8f50000",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := running(t, one(lb.ForwardNAT, tc.vip, tc.backend), Options{})
			m.mustBe(t, fromClient(t, tc.in), m.outcome(Redirect, NewFlow, ethernet(t, hopSourceMAC, hopMAC, tc.opened)))
			m.mustBe(t, ethernet(t, hopMAC, ourMAC, tc.reply), m.outcome(TX, Reply, ethernet(t, ourMAC, clientMAC, tc.back)))
		})
	}
}

// Where fragments are allowed the identification is free; where they are not it is 0.
func TestIdentification(t *testing.T) {
	mayBeCut := strings.Replace(syn4, "123440004006c22d", "123400004006022e", 1)
	for name, tc := range map[string]struct {
		in, out string
		wrong   bool
	}{
		"any":                {mayBeCut, "452e003c 4242 0000 40048ba1 ac10f69a 0a000002" + mayBeCut, false},
		"another one":        {mayBeCut, "452e003c 0001 0000 4004cde2 ac10f69a 0a000002" + mayBeCut, false},
		"one without a need": {syn4, "452e003c 0001 4000 40048de2 ac10f69a 0a000002" + syn4, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := running(t, one(lb.ForwardIPIP, vip4, "10.0.0.2:0"), Options{})
			got := m.outcome(Redirect, NewFlow, ethernet(t, hopSourceMAC, hopMAC, tc.out))
			if err := m.Check(start(), fromClient(t, tc.in), got, m.list); (err != nil) != tc.wrong {
				t.Errorf("got error %v", err)
			}
		})
	}
}

func TestSpread(t *testing.T) {
	for _, tc := range []struct{ prefix, want string }{
		{"172.16.0.0/16", "172.16.190.239"},
		{"172.16.3.0/30", "172.16.3.3"},
		{"172.16.3.9/32", "172.16.3.9"},
		{"0.0.0.0/0", "222.173.190.239"},
		{"100::/64", "100::dead:beef"},
		{"100::/120", "100::ef"},
		{"2001:db8::7/128", "2001:db8::7"},
	} {
		if got := spread(netip.MustParsePrefix(tc.prefix), 0xdeadbeef); got.String() != tc.want {
			t.Errorf("%s: got %v, want %s", tc.prefix, got, tc.want)
		}
	}
}

func TestSourceRoute(t *testing.T) {
	for name, tc := range map[string]struct {
		options string
		want    bool
	}{
		"none":                       {"", false},
		"loose":                      {"83070401020304 00", true},
		"strict, behind others":      {"01 0704 0400 89070401020304", true},
		"at the last address":        {"83070701020304 00", true},
		"expired":                    {"83070801020304 00", false},
		"behind the end of the list": {"00 83070401020304", false},
		"record route":               {"07070401020304 00", false},
		"without a pointer":          {"8302 0100", false},
		"behind a length of 1":       {"0701 83070401020304 000000", false},
		"longer than the header":     {"83090401020304 00", false},
		"cut behind its kind":        {"010101 83", false},
	} {
		t.Run(name, func(t *testing.T) {
			options := unhex(t, tc.options)
			p := &parsed{frame: append(make([]byte, ethernetSize+ipv4Size), options...), ip: ethernetSize}
			p.l4 = len(p.frame)
			p.tuple.dst = netip.MustParseAddrPort(vip4)
			if got := p.hasSourceRoute(); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
	m := running(t, one(lb.ForwardNAT, vip4, backend6), Options{})
	frame := fromClient(t, "472e0030123440004006b32a c6336407 cb007105 8307040102030400"+segment4)
	// the flow is there, although its packet cannot be sent
	listed := m.listOf(client4, "[2001:db8:a::1]:1024")
	if err := m.Check(start(), frame, m.outcome(Drop, SourceRoute, frame), listed); err != nil {
		t.Error(err)
	}
}

// The longest packets that just fit, and those that do not.
func TestTooBig(t *testing.T) {
	for name, tc := range map[string]struct {
		header ipHeader
		fits   int
	}{
		"IPv4": {ipHeader{dst: netip.MustParseAddr("10.0.0.2")}, 65515},
		"IPv6": {ipHeader{dst: netip.MustParseAddr("2001:db8::2")}, 65535},
	} {
		if !tc.header.fits(tc.fits) || tc.header.fits(tc.fits+1) {
			t.Errorf("%s: the limit is not %d", name, tc.fits)
		}
	}
	for name, tc := range map[string]struct {
		forward lb.Forward
		backend string
		size    int // of the IPv4 packet
		want    Reason
	}{
		"in IPv4":            {lb.ForwardIPIP, "10.0.0.2:0", 65515, NewFlow},
		"not in IPv4":        {lb.ForwardIPIP, "10.0.0.2:0", 65516, TooBig},
		"in IPv6":            {lb.ForwardIPIP, "[2001:db8:a::2]:0", 65535, NewFlow},
		"GUE in IPv4":        {lb.ForwardGUE, "10.0.0.2:0", 65503, NewFlow},
		"GUE, not in IPv4":   {lb.ForwardGUE, "10.0.0.2:0", 65504, TooBig},
		"GUE in IPv6":        {lb.ForwardGUE, "[2001:db8:a::2]:0", 65523, NewFlow},
		"GUE, not in IPv6":   {lb.ForwardGUE, "[2001:db8:a::2]:0", 65524, TooBig},
		"translated to IPv6": {lb.ForwardNAT, "[2001:db8:a::2]:0", 65535, NewFlow},
	} {
		t.Run(name, func(t *testing.T) {
			m := running(t, one(tc.forward, vip4, tc.backend), Options{})
			frame := fromClient(t, syn4)
			frame[ethernetSize+2], frame[ethernetSize+3] = byte(tc.size>>8), byte(tc.size)
			frame = append(frame, make([]byte, ethernetSize+tc.size-len(frame))...)
			d, err := m.open(m.services[0], parse(frame), observed{Outcome{Verdict: Drop, Reason: TooBig}, m.listOf(client4, "[2001:db8:a::1]:1024")})
			if err != nil || d.reason != tc.want {
				t.Errorf("got %v, error %v", d.outcome(), err)
			}
		})
	}
}

// listOf is a flow table with one flow of a client.
func (m *Model) listOf(client, source string) func() ([]Flow, error) {
	return func() ([]Flow, error) {
		return []Flow{{
			Protocol: lb.TCP, Client: netip.MustParseAddrPort(client), VIP: netip.MustParseAddrPort(vip4),
			Source: netip.MustParseAddrPort(source),
		}}, nil
	}
}
