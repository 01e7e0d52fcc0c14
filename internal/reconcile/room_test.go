package reconcile_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/reconcile"
)

func TestNoRoom(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits lb.Limits
		change func(cfg *lb.Config)
		want   string // in the error
	}{
		{"services", lb.Limits{Services: 3, Backends: 64, TableEntries: 4096},
			func(cfg *lb.Config) { cfg.Services = append(cfg.Services, service(3, 1)) }, "service service-d: no room for 1 more services: raise limits.services"},
		{"a service in place of another", lb.Limits{Services: 3, Backends: 64, TableEntries: 4096},
			func(cfg *lb.Config) { cfg.Services[2] = service(3, 1) }, "limits.services"},
		{"backends", lb.Limits{Services: 8, Backends: 10, TableEntries: 4096},
			func(cfg *lb.Config) { cfg.Services = append(cfg.Services, service(3, 2)) }, "service service-d: no room for 1 more backends: raise limits.backends"},
		{"table entries", lb.Limits{Services: 8, Backends: 64, TableEntries: 4 * 128},
			func(cfg *lb.Config) { cfg.Services = append(cfg.Services, service(3, 2), service(4, 2)) }, "limits.table_entries"},
		{"a larger table", lb.Limits{Services: 8, Backends: 64, TableEntries: 4 * 128},
			func(cfg *lb.Config) { cfg.Services[0].TableSize = 251 }, "service service-a: no room for 16 more chunks of 16 table entries: raise limits.table_entries"},
		{"source addresses", lb.Limits{Services: 8, Backends: 64, TableEntries: 4096},
			func(cfg *lb.Config) {
				cfg.Services = append(cfg.Services, service(3, 1), service(4, 1))
				for i := range cfg.Services {
					cfg.Services[i].SNAT.Addresses = snatList(200 + i)
				}
			}, "service service-d: no room for 300 more SNAT addresses: raise limits.backends"},
		{"VIPs beside the old ones", lb.Limits{Services: 3, Backends: 64, TableEntries: 4096},
			func(cfg *lb.Config) {
				for i := range cfg.Services {
					cfg.Services[i].Address = vip(20+i, 80)
					cfg.Services[i].Protocols = []lb.Protocol{lb.TCP, lb.UDP}
				}
			}, "no room for 6 new VIPs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := three()
			m := newMemory(t, c.limits)
			r := m.start()
			mustApply(t, r, cfg, hopsOf(cfg))
			before := m.clone()
			m.writes()
			full := three()
			c.change(&full)
			for range 3 {
				_, err := r.Apply(full, hopsOf(full))
				if !errors.Is(err, reconcile.ErrNoRoom) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got the error %v, want %q", err, c.want)
				}
			}
			if len(m.log) > 0 || !sameTables(before, m) {
				t.Errorf("the tables have changed: %v", m.log)
			}
			mustApply(t, r, cfg, hopsOf(cfg))
			if len(m.log) > 0 {
				t.Errorf("back to what was there: %v", m.log)
			}
			cfg.Services[0].Backends = cfg.Services[0].Backends[:2] // a change that fits
			mustApply(t, r, cfg, hopsOf(cfg))
		})
	}
}

// Room for one table more than there are is enough to replace them all, again
// and again, and to start anew.
func TestAllTablesInLittleRoom(t *testing.T) {
	m := newMemory(t, lb.Limits{Services: 8, Backends: 64, TableEntries: 4 * 128})
	cfg := three()
	r := m.start()
	for round := range 10 {
		for i := range cfg.Services {
			cfg.Services[i].Backends[0].Weight = uint32(1 + round%2)
		}
		mustApply(t, r, cfg, hopsOf(cfg))
		if round%3 == 2 {
			r = m.start()
		}
	}
}

// What was given back is used again as late as possible.
func TestReuseGoesRound(t *testing.T) {
	m := newMemory(t, lb.Limits{Services: 8, Backends: 20, TableEntries: 4096})
	r := m.start()
	used := map[uint32]int{}
	for n := range 40 {
		cfg := lb.Config{Services: []lb.Service{service(0, 1)}}
		cfg.Services[0].Backends[0].Address = backendAt(n, 80)
		mustApply(t, r, cfg, hopsOf(cfg))
		for _, flow := range m.flows("service-a") {
			if last, again := used[flow.id]; again && n-last < 20 {
				t.Errorf("backend id %d was used in round %d and again in round %d", flow.id, last, n)
			}
			used[flow.id] = n
		}
	}
}

// Services come and go in room that would not last if any of it got lost.
func TestNoRoomIsLost(t *testing.T) {
	m := newMemory(t, lb.Limits{Services: 2, Backends: 4, TableEntries: 4 * 128})
	r := m.start()
	for n := range 50 {
		cfg := lb.Config{Services: []lb.Service{service(0, 1)}}
		for i := range n % 2 {
			cfg.Services = append(cfg.Services, service(1+i, 2))
		}
		if n%3 == 0 {
			cfg.Services[0].Protocols = []lb.Protocol{lb.TCP, lb.UDP}
		}
		cfg.Services[0].Backends[0].Address = backendAt(n%7, 80)
		mustApply(t, r, cfg, hopsOf(cfg))
	}
}

// There is room for three of these lists at a time.
func TestSourceListsGoRound(t *testing.T) {
	m := newMemory(t, testLimits())
	r := m.start()
	cfg := three()
	for n := range 20 {
		want := snatList(200 + n%5)
		for i := range cfg.Services {
			cfg.Services[i].SNAT.Addresses = want
		}
		mustApply(t, r, cfg, hopsOf(cfg))
		for id, b := range m.backends {
			if got := m.sources(b); b.Address.Addr().Is4() && !slices.Equal(got, want) {
				t.Fatalf("round %d: backend %d has the sources %v, want %v", n, id, got, want)
			}
		}
	}
}

func TestSourceListsAreShared(t *testing.T) {
	m := newMemory(t, testLimits())
	cfg := three()
	for restart := range 2 {
		r := m.start()
		mustApply(t, r, cfg, hopsOf(cfg))
		if len(m.snat) != 2 { // the host's own address of each family
			t.Errorf("got the source addresses %v, want each once", m.snat)
		}
		cfg.Services[0].Backends = append(cfg.Services[0].Backends, lb.Backend{Address: backendAt(100+restart, 80), Weight: 1})
	}
}
