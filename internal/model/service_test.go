package model

import (
	"net/netip"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
)

// Of the services with a port, the smallest range has it.
func TestServiceAt(t *testing.T) {
	m := &Model{}
	for _, vip := range []string{"203.0.113.5:*", "203.0.113.5:8000-8999", "203.0.113.5:8000-8099", "203.0.113.5:8080", "203.0.113.6:8080"} {
		s := &service{config: lb.Service{Name: vip, Protocols: []lb.Protocol{lb.TCP}}}
		if err := s.config.Address.UnmarshalText([]byte(vip)); err != nil {
			t.Fatal(err)
		}
		m.services = append(m.services, s)
	}
	for dst, want := range map[string]string{
		"203.0.113.5:8080":  "203.0.113.5:8080",
		"203.0.113.5:8000":  "203.0.113.5:8000-8099",
		"203.0.113.5:8099":  "203.0.113.5:8000-8099",
		"203.0.113.5:8100":  "203.0.113.5:8000-8999",
		"203.0.113.5:9000":  "203.0.113.5:*",
		"203.0.113.5:0":     "203.0.113.5:*",
		"203.0.113.5:65535": "203.0.113.5:*",
		"203.0.113.6:8081":  "",
	} {
		got := ""
		if s := m.serviceAt(lb.TCP, netip.MustParseAddrPort(dst)); s != nil {
			got = s.config.Name
		}
		if got != want || m.serviceAt(lb.UDP, netip.MustParseAddrPort(dst)) != nil {
			t.Errorf("%s: got %q, want %q", dst, got, want)
		}
	}
}

// What sources there are, and whether new flows can do without.
func TestSources(t *testing.T) {
	hop := lb.NextHop{Source: netip.MustParseAddr("10.0.0.1")}
	others := []netip.Addr{netip.MustParseAddr("2001:db8::1")}
	own := []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("10.0.0.7")}
	for name, tc := range map[string]struct {
		forward    lb.Forward
		addresses  []netip.Addr
		prefix     string
		hop        lb.NextHop
		source     string // first of them
		tunnel     string
		takesFlows bool
	}{
		"the host's":                  {lb.ForwardNAT, nil, "", hop, "10.0.0.1", "10.0.0.1/32", true},
		"the configured":              {lb.ForwardNAT, own, "172.16.0.0/16", hop, "10.0.0.7", "172.16.0.0/16", true},
		"others' configured":          {lb.ForwardNAT, others, "100::/64", hop, "10.0.0.1", "10.0.0.1/32", true},
		"none, nat":                   {lb.ForwardNAT, others, "172.16.0.0/16", lb.NextHop{}, "", "172.16.0.0/16", false},
		"none, dnat":                  {lb.ForwardDNAT, nil, "", lb.NextHop{}, "", "", true},
		"none, ipip":                  {lb.ForwardIPIP, own, "", lb.NextHop{}, "10.0.0.7", "", false},
		"none, gue":                   {lb.ForwardGUE, nil, "100::/64", lb.NextHop{}, "", "", false},
		"none, dsr":                   {lb.ForwardDSR, nil, "", lb.NextHop{}, "", "", true},
		"behind a router, dsr":        {lb.ForwardDSR, nil, "", lb.NextHop{Routed: true}, "", "", false},
		"behind a router, dnat":       {lb.ForwardDNAT, nil, "", lb.NextHop{Routed: true}, "", "", true},
		"without a next hop":          {lb.ForwardDNAT, own, "", lb.NextHop{Problem: "down"}, "10.0.0.7", "", false},
		"of a next hop with problems": {lb.ForwardNAT, nil, "", lb.NextHop{Source: hop.Source, Problem: "down"}, "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &service{config: lb.Service{Forward: tc.forward, SNAT: lb.SNAT{Addresses: tc.addresses}}}
			if tc.prefix != "" {
				s.config.Tunnel.Sources = []netip.Prefix{netip.MustParsePrefix(tc.prefix)}
			}
			b := &backend{config: lb.Backend{Address: netip.MustParseAddrPort(backend4)}, hop: tc.hop}
			s.findSources(b)
			source, tunnel := "", ""
			if len(b.sources) > 0 {
				source = b.sources[0].String()
			}
			if b.tunnelSource.IsValid() {
				tunnel = b.tunnelSource.String()
			}
			if source != tc.source || tunnel != tc.tunnel || s.takes(b) != tc.takesFlows {
				t.Errorf("got %q, %q, %v", source, tunnel, s.takes(b))
			}
			b.hop = lb.NextHop{Problem: "down"}
			s.config.SNAT, s.config.Tunnel = lb.SNAT{}, lb.Tunnel{}
			s.findSources(b)
			if len(b.sources) > 0 && b.sources[0].String() != tc.source {
				t.Errorf("its flows lose their sources: %v", b.sources)
			}
		})
	}
}

// Only services with one port take it from the pool, and a client's own request is
// never taken for an answer.
func TestPool(t *testing.T) {
	m := &Model{}
	for _, vip := range []string{"10.0.0.1:*", "10.0.0.1:1000-1999", "10.0.0.1:1001", "10.0.0.9:1002"} {
		s := &service{config: lb.Service{Protocols: []lb.Protocol{lb.TCP}, SNAT: lb.SNAT{Ports: lb.PortRange{First: 1000, Last: 1003}}}}
		if err := s.config.Address.UnmarshalText([]byte(vip)); err != nil {
			t.Fatal(err)
		}
		m.services = append(m.services, s)
	}
	b := &backend{config: lb.Backend{Address: netip.MustParseAddrPort(backend4)}, sources: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	for client, want := range map[string]int{client4: 3, backend4: 2, "10.0.0.2:8081": 3} {
		f := newFlow(tuple{lb.TCP, netip.MustParseAddrPort(client), netip.MustParseAddrPort("10.0.0.1:1003")}, m.services[1], b)
		l := m.poolOf(f)
		has := 0
		for port := range uint16(2000) {
			if l.has(netip.AddrPortFrom(b.sources[0], port)) {
				has++
			}
		}
		if l.size() != want || has != want {
			t.Errorf("client %s: the pool has %d places and says %d, want %d", client, has, l.size(), want)
		}
	}
}
