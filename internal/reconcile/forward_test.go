package reconcile_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/reconcile"
)

// oneService is two backends, an IPv4 and an IPv6 one, behind a forward mode.
func oneService(forward lb.Forward) lb.Config {
	s := service(0, 0)
	s.Forward, s.Tunnel.Port = forward, 6080
	s.Backends = []lb.Backend{{Address: backendAt(0, 80), Weight: 1}, {Address: backendAt(3, 80), Weight: 1}}
	return lb.Config{Services: []lb.Service{s}}
}

// A changed mode is for new flows: the ids, which the old ones go by, stay.
func TestForwardChanges(t *testing.T) {
	for _, from := range lb.Forwards() {
		for _, to := range lb.Forwards() {
			t.Run(fmt.Sprint(from, " to ", to), func(t *testing.T) {
				m := newMemory(t, testLimits())
				r := m.start()
				cfg := oneService(from)
				mustApply(t, r, cfg, hopsOf(cfg))
				before, backends, answering := m.flows("service-a"), maps.Clone(m.backends), maps.Clone(m.answering)
				m.writes()
				cfg = oneService(to)
				mustApply(t, r, cfg, hopsOf(cfg))
				if after := m.flows("service-a"); !maps.Equal(before, after) {
					t.Errorf("backends before %v, after %v", before, after)
				}
				if !maps.Equal(backends, m.backends) {
					t.Errorf("entries before %v, after %v", backends, m.backends)
				}
				for a := range answering {
					if !m.answering[a] {
						t.Errorf("answers from %s are not looked at any more", a)
					}
				}
				for _, entry := range m.services {
					if entry.Forward != to {
						t.Errorf("got %+v, want %s", entry, to)
					}
				}
				if got := len(m.near); (got == 4) != (to == lb.ForwardDNAT) {
					t.Errorf("near clients: %v", m.near)
				}
			})
		}
	}
}

// Whoever is near is known before the first flow in dnat is opened.
func TestDNATIsWrittenInOrder(t *testing.T) {
	m := newMemory(t, testLimits())
	r := m.start()
	cfg := oneService(lb.ForwardNAT)
	hops := hopsOf(cfg)
	mustApply(t, r, cfg, hops)
	for _, c := range []struct {
		what   string
		change func()
		want   string
	}{
		{"from nat to dnat", func() { cfg = oneService(lb.ForwardDNAT) },
			"SetAddressFilter PutNearClient PutNearClient PutNearClient PutNearClient PutService"},
		{"another interface", func() { // any, while the next hop may be either one
			hop := hops[backendAt(0, 80).Addr()]
			hop.Interface++
			hops[backendAt(0, 80).Addr()] = hop
		}, "PutNearClient PutNextHop PutNearClient"},
		{"another link", func() {
			hop := hops[backendAt(0, 80).Addr()]
			hop.Link = netip.MustParsePrefix("192.168.0.0/29")
			hops[backendAt(0, 80).Addr()] = hop
		}, "PutNearClient DeleteNearClient"},
		{"unreachable", func() { hops[backendAt(0, 80).Addr()] = lb.NextHop{Problem: "gone"} },
			"PutNextHop PutTable PutService DeleteNearClient"},
		{"one backend less", func() { cfg.Services[0].Backends = cfg.Services[0].Backends[1:] },
			"DeleteNearClient PutBackend DeleteBackendName PutNextHop ForgetPath SetAddressFilter"},
		{"from dnat to nat", func() { cfg.Services[0].Forward = lb.ForwardNAT }, "PutService DeleteNearClient"},
		{"no service", func() { cfg.Services = nil },
			"DeleteService DeleteNearClient PutBackend DeleteBackendName DeleteServiceName PutNextHop ForgetPath SetAddressFilter"},
	} {
		m.writes()
		c.change()
		mustApply(t, r, cfg, hops)
		if got := strings.Join(m.writes(), " "); got != c.want {
			t.Errorf("%s: got the writes\n%s, want\n%s", c.what, got, c.want)
		}
	}
	if len(m.near)+len(m.answering) > 0 {
		t.Errorf("left over: near clients %v, sources %v", m.near, m.answering)
	}
}

// Two backends share a link, but not the interface to it.
func TestLinkByTwoInterfaces(t *testing.T) {
	m := newMemory(t, testLimits())
	r := m.start()
	cfg := lb.Config{Services: []lb.Service{service(0, 2)}}
	cfg.Services[0].Forward = lb.ForwardDNAT
	hops := hopsOf(cfg)
	link := lb.NearClient{Service: 1, Prefix: netip.MustParsePrefix("192.168.0.0/24")}
	second := backendAt(1, 80).Addr()
	for _, c := range []struct{ second, want int }{{2, 2}, {1, 0}, {2, 2}} {
		hop := hops[second]
		hop.Interface = c.second
		hops[second] = hop
		mustApply(t, r, cfg, hops)
		if by, exists := m.near[link]; !exists || by != uint32(c.want) {
			t.Errorf("by interfaces 2 and %d: the link is %d (%v), want %d", c.second, by, exists, c.want)
		}
	}
}

// At a start the next hops are not known at once: who is near stays so.
func TestNearClientsAtStart(t *testing.T) {
	m := newMemory(t, testLimits())
	cfg := oneService(lb.ForwardDNAT)
	mustApply(t, m.start(), cfg, hopsOf(cfg))
	before := maps.Clone(m.near)
	r := m.start()
	mustApply(t, r, cfg, nil)
	if !maps.Equal(before, m.near) || len(before) != 4 {
		t.Errorf("near clients before %v, after %v", before, m.near)
	}
	mustApply(t, r, cfg, hopsOf(cfg))
	if !maps.Equal(before, m.near) {
		t.Errorf("near clients before %v, then %v", before, m.near)
	}
}

func TestProblems(t *testing.T) {
	const sourceless, routed = "this host has no address toward it", "it is behind a router: dsr reaches only machines on the same link"
	six := backendAt(3, 80).Addr()
	for _, c := range []struct {
		name    string
		forward lb.Forward
		change  func(s *lb.Service, hops map[netip.Addr]lb.NextHop)
		want    []string // of the IPv4 backend and the IPv6 one
	}{
		{"nat without source", lb.ForwardNAT, noSources, []string{sourceless, sourceless}},
		{"nat with source addresses of one family", lb.ForwardNAT, func(s *lb.Service, hops map[netip.Addr]lb.NextHop) {
			noSources(s, hops)
			s.SNAT.Addresses = snatListSix(1)
		}, []string{sourceless, ""}},
		{"dnat needs no source", lb.ForwardDNAT, noSources, []string{"", ""}},
		{"dsr needs no source", lb.ForwardDSR, noSources, []string{"", ""}},
		{"ipip without source", lb.ForwardIPIP, noSources, []string{sourceless, sourceless}},
		{"gue with an outer source of one family", lb.ForwardGUE, func(s *lb.Service, hops map[netip.Addr]lb.NextHop) {
			noSources(s, hops)
			s.Tunnel.Sources = []netip.Prefix{netip.MustParsePrefix("172.20.0.0/16")}
		}, []string{"", sourceless}},
		{"nat behind a router", lb.ForwardNAT, behindRouter, []string{"", ""}},
		{"dnat behind a router", lb.ForwardDNAT, behindRouter, []string{"", ""}},
		{"dsr behind a router", lb.ForwardDSR, behindRouter, []string{routed, routed}},
		{"ipip behind a router", lb.ForwardIPIP, behindRouter, []string{"", ""}},
		{"dsr without next hop", lb.ForwardDSR, func(_ *lb.Service, hops map[netip.Addr]lb.NextHop) {
			hops[six] = lb.NextHop{Problem: "no answer"}
		}, []string{"", "no answer"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := oneService(c.forward)
			hops := hopsOf(cfg)
			c.change(&cfg.Services[0], hops)
			m := newMemory(t, testLimits())
			result := mustApply(t, m.start(), cfg, hops)
			var want []reconcile.Unusable
			for i, b := range cfg.Services[0].Backends {
				if c.want[i] != "" {
					want = append(want, reconcile.Unusable{Service: "service-a", Backend: b.Label(), Problem: c.want[i]})
				}
			}
			if !slices.Equal(result.Unusable, want) {
				t.Errorf("got %v, want %v", result.Unusable, want)
			}
			// What one mode cannot use must not stop the flows of another.
			for _, b := range m.backends {
				if hop := hops[b.Address.Addr()]; m.hops[b.NextHop].Usable() != hop.Usable() {
					t.Errorf("the next hop of %s is %+v, want %+v", b.Address, m.hops[b.NextHop], hop)
				}
			}
		})
	}
}

func noSources(_ *lb.Service, hops map[netip.Addr]lb.NextHop) {
	for address, hop := range hops {
		hop.Source = netip.Addr{}
		hops[address] = hop
	}
}

func behindRouter(_ *lb.Service, hops map[netip.Addr]lb.NextHop) {
	for address, hop := range hops {
		hop.Link, hop.Routed = netip.Prefix{}, true
		hops[address] = hop
	}
}

// Sources in a backend's entry are of its family, whatever the VIP's is.
func TestSourcesByFamily(t *testing.T) {
	cfg := oneService(lb.ForwardGUE)
	s := &cfg.Services[0]
	s.Tunnel = lb.Tunnel{Port: 6081, Sources: []netip.Prefix{netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("172.20.0.0/16")}}
	s.SNAT.Addresses = append(snatListSix(2), snatList(1)...)
	m := newMemory(t, testLimits())
	r := m.start()
	mustApply(t, r, cfg, hopsOf(cfg))
	entries := map[bool]lb.BackendEntry{} // by whether it is IPv4
	for _, b := range m.backends {
		entries[b.Address.Addr().Is4()] = b
	}
	four, six := entries[true], entries[false]
	if got := m.sources(four); !slices.Equal(got, snatList(1)) || four.TunnelSource != s.Tunnel.Sources[1] || four.GUEPort != 6081 {
		t.Errorf("the IPv4 backend is %+v, with the sources %v", four, got)
	}
	if got := m.sources(six); !slices.Equal(got, snatListSix(2)) || six.TunnelSource != s.Tunnel.Sources[0] || six.GUEPort != 6081 {
		t.Errorf("the IPv6 backend is %+v, with the sources %v", six, got)
	}

	s.Tunnel.Sources, s.SNAT.Addresses = nil, nil // the host's own
	mustApply(t, r, cfg, hopsOf(cfg))
	for _, b := range m.backends {
		own := hopTo(b.Address.Addr(), 1).Source
		if got := m.sources(b); !slices.Equal(got, []netip.Addr{own}) || b.TunnelSource != netip.PrefixFrom(own, own.BitLen()) {
			t.Errorf("backend %+v has the sources %v, want %s", b, got, own)
		}
	}
}
