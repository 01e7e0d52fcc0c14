package reconcile_test

import (
	"maps"
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
)

// The smallest MTU is that of any way out, and is there before the way has it.
func TestSmallestMTU(t *testing.T) {
	cfg := three()
	hops := hopsOf(cfg)
	set := func(mtus ...int) {
		for i, address := range cfg.BackendAddresses() {
			hop := hops[address]
			hop.MTU = mtus[min(i, len(mtus)-1)]
			hops[address] = hop
		}
	}
	m := newMemory(t, testLimits())
	r := m.start()
	for _, step := range []struct {
		name       string
		hops       []int // of the first backends; the last is that of all others
		interfaces map[int]int
		smallest   uint32
		writes     string
	}{
		{"nobody knows any", []int{0}, nil, math.MaxUint32, ""},
		{"one is known", []int{0, 1500, 0}, nil, 1500, "SetSettings PutNextHop"},
		{"and a smaller one", []int{1400, 1500, 0}, nil, 1400, "SetSettings PutNextHop"},
		{"it is an interface's", []int{1400, 1500, 0}, map[int]int{1: 1300}, 1300, "SetSettings PutInterfaceMTU"},
		{"which grows", []int{1400, 1500, 0}, map[int]int{1: 9000}, 1400, "SetSettings PutInterfaceMTU"},
		{"another interface instead", []int{1400, 1500, 0}, map[int]int{2: 9000}, 1400, "DeleteInterfaceMTU PutInterfaceMTU"},
		{"the way grows", []int{1500, 1500, 0}, map[int]int{2: 9000}, 1500, "SetSettings PutNextHop"},
	} {
		set(step.hops...)
		if step.interfaces != nil {
			r.SetInterfaceMTUs(step.interfaces)
		}
		mustApply(t, r, cfg, maps.Clone(hops))
		if writes := strings.Join(m.writes(), " "); step.writes != "" && writes != step.writes {
			t.Errorf("%s: got the writes %s, want %s", step.name, writes, step.writes)
		}
		if m.settings.SmallestMTU != step.smallest {
			t.Errorf("%s: the smallest MTU is %d, want %d", step.name, m.settings.SmallestMTU, step.smallest)
		}
	}
	if want := map[uint32]uint32{2: 9000}; !maps.Equal(m.interfaceMTUs, want) {
		t.Errorf("MTUs of interfaces %v, want %v", m.interfaceMTUs, want)
	}
}

// A backend that goes takes its MTU along, and a start finds out what the tables say.
func TestSmallestMTUIsForgotten(t *testing.T) {
	cfg := three()
	hops := hopsOf(cfg)
	address := cfg.Services[2].Backends[0].Address.Addr()
	for a, hop := range hops {
		hop.MTU = 1500
		if a == address {
			hop.MTU = 1280
		}
		hops[a] = hop
	}
	m := newMemory(t, testLimits())
	mustApply(t, m.start(), cfg, hops)
	r := m.start()
	mustApply(t, r, cfg, map[netip.Addr]lb.NextHop{})
	if m.settings.SmallestMTU != 1280 {
		t.Errorf("the smallest MTU is %d after another start, want 1280", m.settings.SmallestMTU)
	}
	cfg.Services = cfg.Services[:2]
	mustApply(t, r, cfg, map[netip.Addr]lb.NextHop{})
	mustApply(t, r, cfg, map[netip.Addr]lb.NextHop{}) // what has gone was still in use when the settings were written
	if m.settings.SmallestMTU != 1500 {
		t.Errorf("the smallest MTU is %d without the backend that had it, want 1500", m.settings.SmallestMTU)
	}
}
