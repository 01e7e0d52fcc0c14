package reconcile_test

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/maglev"
	"github.com/tinylb/tinylb/internal/reconcile"
)

// identity is a backend of a service, whatever the service's name is.
type identity struct {
	service int
	address netip.AddrPort
}

// idAndGeneration is what a flow remembers of its backend.
type idAndGeneration struct {
	id, generation uint32
}

// expectation says what the tables must hold, and remembers what that depends
// on: backends that were reached once stay reachable for their flows.
type expectation struct {
	t       testing.TB
	sources map[identity][]netip.Addr
	ids     map[identity]idAndGeneration
}

func newExpectation(t testing.TB) *expectation {
	return &expectation{t: t, sources: map[identity][]netip.Addr{}, ids: map[identity]idAndGeneration{}}
}

// verify compares the tables with the world, and result with both.
func (e *expectation) verify(m *memory, w *world, result reconcile.Result) {
	e.t.Helper()
	live := e.live(w)
	ids := map[identity]idAndGeneration{}
	var want reconcile.Result
	keys := 0
	for _, s := range w.services {
		keys += len(s.Protocols)
		weights := e.verifyBackends(m, w, s, live, ids, &want)
		if len(weights) == 0 {
			want.Down = append(want.Down, s.Name)
		}
		for _, protocol := range s.Protocols {
			e.verifyService(m, s.Service, protocol, weights)
		}
	}
	e.verifyNothingElse(m, w, live, keys)
	if !slices.Equal(want.Down, result.Down) {
		e.t.Errorf("down: got %v, want %v", result.Down, want.Down)
	}
	if !slices.Equal(want.Unusable, result.Unusable) {
		e.t.Errorf("unusable: got %v, want %v", result.Unusable, want.Unusable)
	}
	for who, now := range ids {
		if before, was := e.ids[who]; was && before != now {
			e.t.Errorf("backend %s of service %d was %+v, now it is %+v: its flows are lost", who.address, who.service, before, now)
		}
	}
	e.sources, e.ids = live, ids
}

// live finds the source addresses of every backend that is or was reachable.
func (e *expectation) live(w *world) map[identity][]netip.Addr {
	live := map[identity][]netip.Addr{}
	for _, s := range w.services {
		for _, b := range s.Backends {
			who := identity{s.number, b.Address}
			hop, known := w.hops[b.Address.Addr()]
			switch {
			case len(s.SNAT.Addresses) > 0:
				live[who] = s.SNAT.Addresses
			case known && hop.Usable() && hop.Source.IsValid():
				live[who] = []netip.Addr{hop.Source}
			case e.sources[who] != nil:
				live[who] = e.sources[who]
			}
		}
	}
	return live
}

// verifyBackends returns the weights of those that may take new flows.
func (e *expectation) verifyBackends(m *memory, w *world, s *worldService, live map[identity][]netip.Addr,
	ids map[identity]idAndGeneration, want *reconcile.Result) map[netip.AddrPort]uint32 {
	e.t.Helper()
	weights := map[netip.AddrPort]uint32{}
	for _, b := range s.Backends {
		who := identity{s.number, b.Address}
		id := m.backendID(s.Name, b.Address)
		if name := m.backendNames[id]; name.Name != b.Name || name.Weight != b.Weight {
			e.t.Errorf("%s: backend %d is named %+v, want %+v", s.Name, id, name, b)
		}
		entry, list := m.backends[id], live[who]
		if got := m.sources(entry); !slices.Equal(got, list) {
			e.t.Errorf("%s: backend %s has the sources %v, want %v", s.Name, b.Address, got, list)
		}
		hop, known := w.hops[b.Address.Addr()]
		if !known {
			hop.Problem = "next hop not looked up yet"
		} else if hop.Usable() && list == nil {
			hop.Problem = "this host has no address toward it"
		}
		if list != nil {
			ids[who] = idAndGeneration{id, entry.Generation}
			if entry.SNATPorts != s.SNAT.Ports {
				e.t.Errorf("%s: backend %s has the ports %v, want %v", s.Name, b.Address, entry.SNATPorts, s.SNAT.Ports)
			}
			got := m.hops[entry.NextHop]
			if got.Usable() != hop.Usable() ||
				hop.Usable() && (got.MAC != hop.MAC || got.Interface != hop.Interface || got.SourceMAC != hop.SourceMAC) {
				e.t.Errorf("%s: backend %s has the next hop %+v, want %+v", s.Name, b.Address, got, hop)
			}
		}
		if !hop.Usable() {
			want.Unusable = append(want.Unusable, reconcile.Unusable{Service: s.Name, Backend: b.Label(), Problem: hop.Problem})
		} else if b.Weight > 0 {
			weights[b.Address] = b.Weight
		}
	}
	return weights
}

// verifyService: who has how many slots?
func (e *expectation) verifyService(m *memory, s lb.Service, protocol lb.Protocol, weights map[netip.AddrPort]uint32) {
	e.t.Helper()
	key := lb.ServiceKey{Address: s.Address, Protocol: protocol}
	entry, exists := m.services[key]
	if !exists || m.serviceNames[entry.ID].Name != s.Name || entry.Random != (s.Scheduler == lb.Random) {
		e.t.Errorf("%v: got %+v of %q, want one of %q with scheduler %s", key, entry, m.serviceNames[entry.ID].Name, s.Name, s.Scheduler)
	}
	size := cmp.Or(s.TableSize, maglev.SizeFor(len(s.Backends)))
	if len(weights) == 0 {
		size = 0
	}
	if entry.TableSize != size {
		e.t.Errorf("%v: the table has %d slots, want %d", key, entry.TableSize, size)
	}
	sum, slots := uint32(0), map[netip.AddrPort]uint32{}
	for _, id := range m.tables[entry.TableOffset : entry.TableOffset+entry.TableSize] {
		slots[m.backends[id].Address]++
	}
	for _, weight := range weights {
		sum += weight
	}
	for address, got := range slots {
		share := float64(size) * float64(weights[address]) / float64(sum)
		if math.Abs(float64(got)-share) >= 1 {
			e.t.Errorf("%v: backend %s has %d of %d slots, want %.1f", key, address, got, size, share)
		}
	}
	if len(slots) != len(weights) {
		e.t.Errorf("%v: %d backends in the table, want %d", key, len(slots), len(weights))
	}
}

// verifyNothingElse: no remains of what was there before.
func (e *expectation) verifyNothingElse(m *memory, w *world, live map[identity][]netip.Addr, keys int) {
	e.t.Helper()
	if m.timeouts != w.timeouts {
		e.t.Errorf("timeouts: got %v, want %v", m.timeouts, w.timeouts)
	}
	if len(m.services) != keys || len(m.serviceNames) != len(w.services) {
		e.t.Errorf("%d service entries of %d services, want %d of %d", len(m.services), len(m.serviceNames), keys, len(w.services))
	}
	backends := 0
	for _, s := range w.services {
		backends += len(s.Backends)
	}
	hops, entries := map[uint32]bool{}, 0
	for _, b := range m.backends {
		if b.SNATCount > 0 {
			entries++
			hops[b.NextHop] = true
		}
	}
	if len(m.backendNames) != backends || entries != len(live) {
		e.t.Errorf("%d backend names and %d entries, want %d and %d", len(m.backendNames), entries, backends, len(live))
	}
	for id, hop := range m.hops {
		if hop.Usable() && !hops[id] {
			e.t.Errorf("next hop %d is left over: %+v", id, hop)
		}
	}
	needed := map[netip.Addr]bool{}
	for key := range m.services {
		needed[key.Address.Addr()] = true
	}
	for index, a := range m.snat {
		if a.IsVIP != needed[a.Address] && a.IsVIP {
			e.t.Errorf("source address %d, %s, is marked as a VIP", index, a.Address)
		}
	}
	for _, a := range m.snat {
		needed[a.Address] = true
	}
	for a := range m.filter {
		if !needed[a] {
			e.t.Errorf("%s is left over in the filter", a)
		}
	}
}

func (m *memory) backendID(service string, address netip.AddrPort) uint32 {
	for id, name := range m.backendNames {
		if name.Address == address && m.serviceNames[name.Service].Name == service {
			return id
		}
	}
	m.t.Errorf("%s has no backend %s", service, address)
	return 0
}
