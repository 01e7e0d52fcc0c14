package reconcile_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/reconcile"
)

// ranged is a service with one backend at a range of ports of the first VIP.
func ranged(number int, ports lb.PortRange) lb.Service {
	s := service(number, 1)
	s.Address = vipRange(1, ports.First, ports.Last)
	return s
}

func rangedConfig(ranges ...lb.PortRange) lb.Config {
	var cfg lb.Config
	for i, ports := range ranges {
		cfg.Services = append(cfg.Services, ranged(i, ports))
	}
	return cfg
}

// keys counts the entries by block size.
func (m *memory) keys() map[uint32]int {
	counts := map[uint32]int{}
	for key := range m.services {
		counts[key.Block]++
	}
	return counts
}

// Every port of an address leads to the smallest range that has it.
func TestEveryPort(t *testing.T) {
	for _, c := range []struct {
		ranges []lb.PortRange
		want   map[uint32]int // keys by block size
	}{
		{[]lb.PortRange{{First: 80, Last: 80}}, map[uint32]int{0: 1}},
		{[]lb.PortRange{lb.AllPorts()}, map[uint32]int{1 << 16: 1}},
		{[]lb.PortRange{lb.AllPorts(), {First: 80, Last: 80}}, map[uint32]int{1 << 16: 1, 0: 1}},
		{[]lb.PortRange{{First: 1, Last: 65534}}, map[uint32]int{1: 2, 2: 2, 4: 2, 8: 2, 16: 2, 32: 2, 64: 2, 128: 2, 256: 2, 512: 2,
			1024: 2, 2048: 2, 4096: 2, 8192: 2, 16384: 2}},
		{[]lb.PortRange{{First: 65535, Last: 65535}, {First: 65534, Last: 65535}, {First: 1, Last: 65535}}, map[uint32]int{0: 1, 2: 2,
			1: 1, 4: 1, 8: 1, 16: 1, 32: 1, 64: 1, 128: 1, 256: 1, 512: 1, 1024: 1, 2048: 1, 4096: 1, 8192: 1, 16384: 1, 32768: 1}},
		// a block in common; one of a single port; nothing left of the outer range
		{[]lb.PortRange{{First: 8000, Last: 8100}, {First: 8000, Last: 8063}}, map[uint32]int{64: 1, 32: 1, 4: 1, 1: 1}},
		{[]lb.PortRange{{First: 8001, Last: 8002}, {First: 8001, Last: 8001}}, map[uint32]int{1: 2, 0: 1}},
		{[]lb.PortRange{{First: 8001, Last: 8010}, {First: 8001, Last: 8003}, {First: 8004, Last: 8010}}, map[uint32]int{1: 2, 2: 2, 4: 1}},
	} {
		t.Run(fmt.Sprint(c.ranges), func(t *testing.T) {
			cfg := rangedConfig(c.ranges...)
			m := newMemory(t, testLimits())
			mustApply(t, m.start(), cfg, hopsOf(cfg))
			if got := m.keys(); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("keys by size of the block: got %v, want %v", got, c.want)
			}
			w := &world{}
			for _, s := range cfg.Services {
				w.services = append(w.services, &worldService{Service: s})
			}
			for port := range 1 << 16 {
				d := destination{netip.AddrPortFrom(vip(1, 1).Addr, uint16(port)), lb.TCP}
				want := ""
				if s := w.serviceAt(d); s != nil {
					want = s.Name
				}
				if entry, _ := m.serviceAt(d); m.serviceNames[entry.ID].Name != want {
					t.Fatalf("%v leads to %q, want %q", d, m.serviceNames[entry.ID].Name, want)
				}
			}
		})
	}
}

// The outer range has a block in common with the inner one, which comes and goes.
func TestInnerRangeComesAndGoes(t *testing.T) {
	outer, inner := lb.PortRange{First: 8000, Last: 8100}, lb.PortRange{First: 8000, Last: 8063}
	m := newMemory(t, testLimits())
	r := m.start()
	for round, step := range []struct {
		config lb.Config
		want   string // the writes
	}{
		{rangedConfig(outer), ""},
		{rangedConfig(outer, inner), "PutServiceName PutBackendName PutNextHop PutBackend PutTable PutService"},
		{rangedConfig(outer), "PutService PutBackend DeleteBackendName DeleteServiceName PutNextHop ForgetPath"},
	} {
		m.writes()
		before := m.flows("service-a")
		mustApply(t, r, step.config, hopsOf(step.config))
		if got := strings.Join(m.writes(), " "); step.want != "" && got != step.want {
			t.Errorf("round %d: got the writes\n%s, want\n%s", round, got, step.want)
		}
		if after := m.flows("service-a"); round > 0 && fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("round %d: backends of the outer range before %v, after %v", round, before, after)
		}
		again := mustApply(t, r, step.config, hopsOf(step.config))
		if left := m.writes(); len(left) > 0 || len(again.Down) > 0 {
			t.Errorf("round %d, applied again: writes %v, result %+v", round, left, again)
		}
	}
}

// The name is another one, the range is the same.
func TestRangeIsRenamed(t *testing.T) {
	cfg := rangedConfig(lb.PortRange{First: 8000, Last: 8100}, lb.PortRange{First: 8000, Last: 8063})
	m := newMemory(t, testLimits())
	r := m.start()
	mustApply(t, r, cfg, hopsOf(cfg))
	before := [2]map[netip.AddrPort]idAndGeneration{m.flows("service-a"), m.flows("service-b")}
	cfg.Services[0].Name, cfg.Services[1].Name = "outer", "inner"
	mustApply(t, r, cfg, hopsOf(cfg))
	after := [2]map[netip.AddrPort]idAndGeneration{m.flows("outer"), m.flows("inner")}
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("backends before %v, after %v", before, after)
	}
}

// Blocks have a room of their own: single ports still fit when they are full.
func TestNoRoomForBlocks(t *testing.T) {
	widest := lb.PortRange{First: 1, Last: 65534} // 30 blocks for each protocol
	limits := lb.Limits{Services: 1, Backends: 8, TableEntries: 4096}
	cfg := rangedConfig(widest)
	cfg.Services[0].Protocols = []lb.Protocol{lb.TCP, lb.UDP}
	m := newMemory(t, limits)
	r := m.start()
	mustApply(t, r, cfg, hopsOf(cfg))
	m.writes()

	cfg.Services[0].Address = vipRange(2, widest.First, widest.Last)
	_, err := r.Apply(cfg, hopsOf(cfg))
	if want := "no room for 60 new blocks of ports"; !errors.Is(err, reconcile.ErrNoRoom) || !strings.Contains(err.Error(), want) {
		t.Errorf("got the error %v, want %q", err, want)
	}
	if left := m.writes(); len(left) > 0 {
		t.Errorf("written all the same: %v", left)
	}
	cfg.Services[0].Address = vip(2, 80)
	mustApply(t, r, cfg, hopsOf(cfg))
	if got := fmt.Sprint(m.keys()); got != "map[0:2]" {
		t.Errorf("keys by size of the block: %v", got)
	}
}
