package model

import (
	"net/netip"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// Whose answers would not come by here: that of a backend, and of whoever is on its link.
func TestIsNear(t *testing.T) {
	backendAt := func(address string, by int, link, problem string) *backend {
		b := &backend{config: lb.Backend{Address: netip.MustParseAddrPort(address)}, hop: lb.NextHop{Interface: by, Problem: problem}}
		if link != "" {
			b.hop.Link = netip.MustParsePrefix(link)
		}
		return b
	}
	chosen := backendAt("10.1.0.2:80", 1, "10.1.0.0/16", "")
	for name, tc := range map[string]struct {
		client string
		others []*backend
		want   bool
	}{
		"the backend itself":                    {"10.1.0.2", nil, true},
		"another backend, elsewhere":            {"10.2.0.2", []*backend{backendAt("10.2.0.2:80", 2, "", "")}, true},
		"a backend that cannot be reached":      {"10.2.0.2", []*backend{backendAt("10.2.0.2:80", 2, "", "gone")}, true},
		"on the link":                           {"10.1.7.7", nil, true},
		"next to the link":                      {"10.2.0.0", nil, false},
		"of the other family":                   {"2001:db8::1", nil, false},
		"on another one's link":                 {"10.2.7.7", []*backend{backendAt("10.2.0.2:80", 2, "10.2.0.0/16", "")}, false},
		"on another link of the same interface": {"10.2.7.7", []*backend{backendAt("10.2.0.2:80", 1, "10.2.0.0/16", "")}, true},
		"on a link that is no longer there":     {"10.2.7.7", []*backend{backendAt("10.2.0.2:80", 1, "10.2.0.0/16", "gone")}, false},
		"on a smaller link elsewhere":           {"10.1.7.7", []*backend{backendAt("10.1.7.2:80", 2, "10.1.7.0/24", "")}, false},
		"on a larger link elsewhere":            {"10.1.7.7", []*backend{backendAt("10.7.7.2:80", 2, "10.0.0.0/8", "")}, true},
		"on a link of two interfaces": {
			"10.2.7.7", []*backend{backendAt("10.2.0.2:80", 2, "10.2.0.0/16", ""), backendAt("10.2.0.3:80", 3, "10.2.0.0/16", "")}, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &service{backends: append([]*backend{chosen}, tc.others...)}
			if got := s.isNear(netip.MustParseAddr(tc.client), chosen); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// In dnat a client keeps its address until answers would be taken for those of
// another of its flows: here one client port to two VIPs of one backend.
func TestAnswersThatLookAlike(t *testing.T) {
	cfg := one(lb.ForwardDNAT, "203.0.113.5:80", "10.0.0.2:8080")
	second := cfg.Services[0]
	second.Name, second.Address = "other", lb.VIPAt(netip.MustParseAddrPort("203.0.113.6:80"))
	cfg.Services = append(cfg.Services, second)
	to := func(vip, dst string) (in, out packet.Packet) {
		in = packet.NewTCP(netip.MustParseAddrPort(client4), netip.MustParseAddrPort(vip), packet.ACK, "")
		in.SrcMAC, in.DstMAC = macOf(t, clientMAC), macOf(t, ourMAC)
		out = in
		out.SrcMAC, out.DstMAC, out.TTL = macOf(t, hopSourceMAC), macOf(t, hopMAC), in.TTL-1
		out.Dst = netip.MustParseAddrPort(dst)
		return in, out
	}
	in, out := to("203.0.113.5:80", "10.0.0.2:8080")
	for name, tc := range map[string]struct {
		between func(*Model) // the two
		want    Reason
		source  string
	}{
		"the first one lives":     {func(*Model) {}, NewFlowSNAT, "10.0.0.1:1024"},
		"the first one is over":   {func(m *Model) { m.now = m.now.Add(2 * m.timeouts.TCPUnconfirmed) }, NewFlow, client4},
		"its backend is gone":     {func(m *Model) { m.services[0].backends[0].gone = true }, NewFlow, client4},
		"nobody knows, but lives": {func(m *Model) { m.flows.byTuple[tupleOf(in)].doubtful = true }, NewFlowSNAT, "10.0.0.1:1024"},
		"nobody knows, it is over": {
			func(m *Model) { m.flows.byTuple[tupleOf(in)].doubtful = true }, NewFlow, client4,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := running(t, cfg, Options{})
			m.mustBe(t, in.Frame(), m.outcome(Redirect, NewFlow, out.Frame()))
			tc.between(m)
			second, sent := to("203.0.113.6:80", "10.0.0.2:8080")
			sent.Src = netip.MustParseAddrPort(tc.source)
			got := m.outcome(Redirect, tc.want, sent.Frame())
			got.Service = "other"
			m.mustBe(t, second.Frame(), got)
		})
	}
}

func tupleOf(p packet.Packet) tuple { return tuple{p.Protocol, p.Src, p.Dst} }

// A client that is a backend gets a source like everybody in nat; if there is none,
// it gets no flow.
func TestBackendAsClient(t *testing.T) {
	p := packet.NewUDP(netip.MustParseAddrPort("10.0.0.2:5353"), netip.MustParseAddrPort(vip4), "x")
	p.DstMAC = macOf(t, ourMAC)
	for name, tc := range map[string]struct {
		addresses []netip.Addr
		want      Reason
	}{
		"with a source":              {[]netip.Addr{netip.MustParseAddr("10.0.0.1")}, NewFlowSNAT},
		"without":                    {nil, SNATExhausted},
		"with one of another family": {[]netip.Addr{netip.MustParseAddr("2001:db8::1")}, SNATExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := one(lb.ForwardDNAT, vip4, backend4)
			cfg.Services[0].SNAT.Addresses = tc.addresses
			m := running(t, cfg, Options{})
			out := p
			out.Src, out.Dst = netip.MustParseAddrPort("10.0.0.1:1024"), netip.MustParseAddrPort(backend4)
			out.SrcMAC, out.DstMAC, out.TTL = macOf(t, hopSourceMAC), macOf(t, hopMAC), p.TTL-1
			got := m.outcome(Redirect, NewFlowSNAT, out.Frame())
			if tc.want == SNATExhausted {
				got = m.outcome(Drop, SNATExhausted, p.Frame())
			}
			m.mustBe(t, p.Frame(), got)
		})
	}
}
