package reconcile_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/reconcile"
)

// service is a plain one: its VIP and backends follow from its number.
func service(number, backends int) lb.Service {
	s := lb.Service{
		Name: "service-" + string(rune('a'+number)), Address: vip(1+number, 80), Protocols: []lb.Protocol{lb.TCP},
		Forward: lb.ForwardNAT, Scheduler: lb.Maglev, TableSize: 127,
		SNAT: lb.SNAT{Ports: lb.PortRange{First: 1024, Last: 32767}},
	}
	for i := range backends {
		s.Backends = append(s.Backends, lb.Backend{Address: backendAt(10*number+i, 8080), Weight: 1})
	}
	return s
}

// three services with three backends each, at different addresses.
func three() lb.Config {
	return lb.Config{Services: []lb.Service{service(0, 3), service(1, 3), service(2, 3)}}
}

func hopsOf(cfg lb.Config) map[netip.Addr]lb.NextHop {
	hops := map[netip.Addr]lb.NextHop{}
	for _, a := range cfg.BackendAddresses() {
		hops[a] = hopTo(a, 1)
	}
	return hops
}

func mustApply(t testing.TB, r *reconcile.Reconciler, cfg lb.Config, hops map[netip.Addr]lb.NextHop) reconcile.Result {
	t.Helper()
	result, err := r.Apply(cfg, hops)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestOnlyWhatIsNeededIsWritten(t *testing.T) {
	type state struct {
		lb.Config
		hops map[netip.Addr]lb.NextHop
	}
	first := func(s *state) *lb.Service { return &s.Services[0] }
	for _, c := range []struct {
		name   string
		change func(s *state)
		want   string
	}{
		{"nothing", func(*state) {}, ""},
		{"most flows of a backend", func(s *state) { first(s).Backends[0].MaxFlows = 9 }, "PutBackend"},
		{"most flows", func(s *state) { first(s).MaxFlows = 9 }, "PutPolicy"},
		{"sources", func(s *state) { first(s).Deny = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }, "PutSourceRules PutPolicy"},
		{"affinity", func(s *state) { first(s).Affinity.Timeout = time.Hour }, "PutAffinityBackend PutAffinityBackend PutAffinityBackend PutPolicy"},
		{"weight", func(s *state) { first(s).Backends[0].Weight = 2 }, "PutBackendName PutBackend PutTable PutService"},
		{"weight 0", func(s *state) { first(s).Backends[0].Weight = 0 }, "PutBackendName PutBackend PutTable PutService"},
		{"name of a backend", func(s *state) { first(s).Backends[0].Name = "b" }, "PutBackendName"},
		{"order of backends", func(s *state) { slices.Reverse(first(s).Backends) }, ""},
		{"order of services", func(s *state) { slices.Reverse(s.Services) }, ""},
		{"name of a service", func(s *state) { first(s).Name = "renamed" }, "PutServiceName"},
		{"MSS", func(s *state) { first(s).MSS = 1400 }, "PutBackend PutBackend PutBackend"},
		{"reject", func(s *state) { first(s).Silent = true }, "PutService"},
		{"scheduler", func(s *state) { first(s).Scheduler = lb.Random }, "PutService"},
		{"table size", func(s *state) { first(s).TableSize = 251 }, "PutTable PutService"},
		{"source ports", func(s *state) { first(s).SNAT.Ports.First = 2000 }, "PutBackend PutBackend PutBackend"},
		{"source addresses", func(s *state) { first(s).SNAT.Addresses = snatList(1) },
			"SetAddressFilter PutSNATAddress PutSNATAddress PutBackend PutBackend PutBackend"},
		{"source address is a VIP", func(s *state) { s.Services[0].SNAT.Addresses = []netip.Addr{vip(1, 80).Addr} },
			"PutSNATAddress PutBackend PutBackend PutBackend"},
		{"VIP", func(s *state) { first(s).Address = vip(9, 80) },
			"SetAddressFilter PutServiceName PutService DeleteService SetAddressFilter"},
		{"VIP becomes the source address", func(s *state) { first(s).Address = lb.VIPAt(netip.MustParseAddrPort("172.31.0.2:80")) },
			"PutSNATAddress PutServiceName PutService DeleteService SetAddressFilter"},
		{"one more protocol", func(s *state) { first(s).Protocols = []lb.Protocol{lb.TCP, lb.UDP} }, "PutServiceName PutService"},
		{"backend added", func(s *state) {
			first(s).Backends = append(first(s).Backends, lb.Backend{Address: backendAt(100, 80), Weight: 1})
			s.hops[backendAt(100, 80).Addr()] = hopTo(backendAt(100, 80).Addr(), 1)
		}, "PutBackendName PutNextHop PutBackend PutTable PutService"},
		{"backend added without next hop", func(s *state) {
			first(s).Backends = append(first(s).Backends, lb.Backend{Address: backendAt(100, 80), Weight: 1})
		}, "PutBackendName PutNextHop PutBackend"},
		{"backend removed", func(s *state) { first(s).Backends = first(s).Backends[1:] },
			"PutTable PutService PutBackend DeleteBackendName PutNextHop ForgetPath"},
		{"port of a backend", func(s *state) { first(s).Backends[0].Address = backendAt(0, 81) },
			"PutBackendName PutBackend PutTable PutService PutBackend DeleteBackendName"},
		{"backend unusable", func(s *state) { s.hops[backendAt(0, 80).Addr()] = lb.NextHop{Problem: "gone"} },
			"PutNextHop PutTable PutService"},
		{"MAC of a backend", func(s *state) { s.hops[backendAt(0, 80).Addr()] = hopTo(backendAt(0, 80).Addr(), 3) }, "PutNextHop"},
		{"all unusable", func(s *state) {
			for i := range 3 {
				s.hops[backendAt(i, 80).Addr()] = lb.NextHop{Problem: "gone"}
			}
		}, "PutNextHop PutNextHop PutNextHop PutService"},
		{"service removed", func(s *state) { s.Services = s.Services[1:] },
			"DeleteService" + strings.Repeat(" PutBackend DeleteBackendName", 3) + " DeleteServiceName PutNextHop PutNextHop PutNextHop ForgetPath ForgetPath ForgetPath SetAddressFilter"},
		{"service added", func(s *state) { s.Services = append(s.Services, service(3, 1)); maps.Copy(s.hops, hopsOf(s.Config)) },
			"SetAddressFilter PutServiceName PutBackendName PutNextHop PutBackend PutTable PutService"},
		{"seed", func(s *state) { s.Seed = 1 }, "PutTable PutService PutTable PutService PutTable PutService"},
		{"connection ids of QUIC", func(s *state) {
			first(s).QUIC = lb.QUIC{ConfigID: 1, ServerIDLength: 1}
			first(s).ServerIDs = map[netip.AddrPort]string{}
			for i, b := range first(s).Backends {
				first(s).ServerIDs[b.Address] = fmt.Sprintf("0%d", i)
			}
		}, "PutBackend PutBackend PutBackend PutQUICServer PutQUICServer PutQUICServer PutService"},
		{"timeouts", func(s *state) { s.Timeouts.TCPClosed++ }, "SetSettings"},
		{"rate limits", func(s *state) { s.RateLimits.Resets++ }, "SetSettings"},
		{"fragments", func(s *state) { s.Fragments.Held++ }, "SetSettings"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := state{three(), hopsOf(three())}
			m := newMemory(t, testLimits())
			r := m.start()
			mustApply(t, r, s.Config, s.hops)
			m.writes()
			c.change(&s) // in place: the reconciler must not rely on what it was given before
			mustApply(t, r, s.Config, s.hops)
			if got := strings.Join(m.writes(), " "); got != c.want {
				t.Errorf("got the writes\n%s, want\n%s", got, c.want)
			}
			mustApply(t, r, s.Config, s.hops)
			if again := m.writes(); len(again) > 0 {
				t.Errorf("applied again: %v", again)
			}
		})
	}
}

// flows are what the flows of the service at a VIP know of their backends.
func (m *memory) flows(name string) map[netip.AddrPort]idAndGeneration {
	flows := map[netip.AddrPort]idAndGeneration{}
	for id, b := range m.backends {
		if b.Service != 0 && m.serviceNames[b.Service].Name == name {
			flows[b.Address] = idAndGeneration{id, b.Generation}
		}
	}
	return flows
}

func TestFlowsKeepTheirBackend(t *testing.T) {
	for name, change := range map[string]func(cfg *lb.Config){
		"service renamed":       func(cfg *lb.Config) { cfg.Services[0].Name = "renamed" },
		"VIP changed":           func(cfg *lb.Config) { cfg.Services[0].Address = vip(9, 80) },
		"VIP port changed":      func(cfg *lb.Config) { cfg.Services[0].Address = vip(1, 81) },
		"VIPs swapped":          func(cfg *lb.Config) { swapVIPs(&cfg.Services[0], &cfg.Services[1]) },
		"drained":               func(cfg *lb.Config) { cfg.Services[0].Backends[1].Weight = 0 },
		"renamed and reordered": func(cfg *lb.Config) { cfg.Services[0].Name = "renamed"; slices.Reverse(cfg.Services) },
		"source addresses":      func(cfg *lb.Config) { cfg.Services[0].SNAT.Addresses = snatList(2) },
		"neighbours gone":       func(cfg *lb.Config) { cfg.Services = cfg.Services[:1] },
		"table size":            func(cfg *lb.Config) { cfg.Services[0].TableSize = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := three()
			m := newMemory(t, testLimits())
			r := m.start()
			mustApply(t, r, cfg, hopsOf(cfg))
			before, filter := m.flows("service-a"), m.filter
			change(&cfg)
			mustApply(t, r, cfg, hopsOf(cfg))
			i := slices.IndexFunc(cfg.Services, func(s lb.Service) bool { return s.Backends[0].Address == backendAt(0, 8080) })
			if after := m.flows(cfg.Services[i].Name); !maps.Equal(before, after) {
				t.Errorf("backends before %v, after %v", before, after)
			}
			for a := range filter {
				if !m.filter[a] && !isVIP(a) {
					t.Errorf("answers to %s are not recognised any more", a)
				}
			}
		})
	}
}

// A name that another service had before is a name like any other.
func TestNameIsUsedAgain(t *testing.T) {
	cfg := three()
	m := newMemory(t, testLimits())
	r := m.start()
	mustApply(t, r, cfg, hopsOf(cfg))
	before := m.flows("service-a")
	cfg.Services[0].Name = "renamed"
	mustApply(t, r, cfg, hopsOf(cfg))
	other := service(4, 2)
	other.Name = "service-a"
	cfg.Services = append([]lb.Service{other}, cfg.Services...)
	mustApply(t, r, cfg, hopsOf(cfg))
	if after := m.flows("renamed"); !maps.Equal(before, after) {
		t.Errorf("backends before %v, after %v", before, after)
	}
}

func swapVIPs(a, b *lb.Service) { a.Address, b.Address = b.Address, a.Address }

// A backend that comes back is another one: its old flows were told that it is gone.
func TestGenerationGrows(t *testing.T) {
	cfg := three()
	hops := hopsOf(cfg)
	m := newMemory(t, lb.Limits{Services: 3, Backends: 9, TableEntries: 4096}) // no other ids are free
	r := m.start()
	last := map[netip.AddrPort]idAndGeneration{}
	for round := range 5 {
		mustApply(t, r, cfg, hops)
		for address, now := range m.flows("service-a") {
			before, was := last[address]
			if was && now.id == before.id && now.generation <= before.generation {
				t.Errorf("round %d: %s had %+v and now has %+v", round, address, before, now)
			}
			last[address] = now
		}
		mustApply(t, r, lb.Config{Services: cfg.Services[1:]}, hops)
		if round == 2 {
			r = m.start()
		}
	}
}

// At a start the next hops are not known at once. Traffic must not wait for them.
func TestStartBeforeTheFirstLookUp(t *testing.T) {
	cfg := three()
	m := newMemory(t, testLimits())
	mustApply(t, m.start(), cfg, hopsOf(cfg))
	before := m.clone()

	r := m.start()
	result := mustApply(t, r, cfg, nil)
	if len(result.Unusable) > 0 || len(result.Down) > 0 {
		t.Errorf("%+v", result)
	}
	for id, hop := range before.hops {
		if now := m.hops[id]; now.MAC != hop.MAC || !now.Usable() {
			t.Errorf("next hop %d was %+v and is %+v", id, hop, now)
		}
	}
	if !maps.Equal(before.backends, m.backends) {
		t.Error("the backends have changed")
	}

	hops := hopsOf(cfg)
	gone := backendAt(0, 8080).Addr()
	hops[gone] = lb.NextHop{Problem: "no answer"}
	result = mustApply(t, r, cfg, hops)
	if want := []reconcile.Unusable{{Service: "service-a", Backend: "192.168.0.1:8080", Problem: "no answer"}}; !slices.Equal(result.Unusable, want) {
		t.Errorf("got %v, want %v", result.Unusable, want)
	}
}

// A backend that cannot be reached now keeps its flows' way back.
func TestUnreachableBackend(t *testing.T) {
	cfg := lb.Config{Services: []lb.Service{service(0, 2)}}
	hops := hopsOf(cfg)
	m := newMemory(t, testLimits())
	r := m.start()
	unreached := backendAt(1, 8080).Addr()
	hops[unreached] = lb.NextHop{Problem: "no answer"}
	mustApply(t, r, cfg, hops)
	for _, id := range m.tables[:127] {
		if m.backends[id].Address.Addr() == unreached {
			t.Fatal("a backend that was never reached takes new flows")
		}
	}

	hops[unreached] = hopTo(unreached, 1)
	mustApply(t, r, cfg, hops)
	before := m.flows("service-a")
	hops[unreached] = lb.NextHop{Problem: "no answer"}
	result := mustApply(t, r, cfg, hops)
	if after := m.flows("service-a"); len(after) != 2 || !maps.Equal(before, after) {
		t.Errorf("backends before %v, after %v", before, after)
	}
	if len(result.Unusable) != 1 || len(result.Down) != 0 {
		t.Errorf("%+v", result)
	}
}
