package reconcile_test

import (
	"cmp"
	"maps"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

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

// addressOf is an address of a service, whatever the service's name is.
type addressOf struct {
	service int
	address netip.Addr
}

// expectation says what the tables must hold, and remembers what that depends
// on: backends that were reached once stay reachable for their flows.
type expectation struct {
	t       testing.TB
	known   map[identity]sources
	answers map[addressOf]bool // backends that were or are behind dnat
	ids     map[identity]idAndGeneration
	// An attempt to reach another state may have left what stays for flows.
	attempted bool
}

// sources is what stands for clients toward a backend, and in outer headers.
type sources struct {
	snat   []netip.Addr
	tunnel netip.Prefix
}

func newExpectation(t testing.TB) *expectation {
	return &expectation{t: t, known: map[identity]sources{}, answers: map[addressOf]bool{}, ids: map[identity]idAndGeneration{}}
}

// verify compares the tables with the world, and result with both.
func (e *expectation) verify(m *memory, w *world, result reconcile.Result) {
	e.t.Helper()
	known := e.sources(m, w)
	ids := map[identity]idAndGeneration{}
	var want reconcile.Result
	for _, s := range w.services {
		weights := e.verifyBackends(m, w, s, known, ids, &want)
		if len(weights) == 0 {
			want.Down = append(want.Down, s.Name)
		}
		e.verifyService(m, s.Service, weights)
	}
	e.verifyTable(m, w)
	e.verifyPorts(m, w)
	e.verifyNear(m, w)
	e.verifyQUIC(m, w)
	e.verifyTunnelEnds(m, w)
	e.verifyNothingElse(m, w)
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
	e.known, e.ids, e.attempted = known, ids, false
}

// sources finds them for every backend.
func (e *expectation) sources(m *memory, w *world) map[identity]sources {
	all := map[identity]sources{}
	for _, s := range w.services {
		for _, b := range s.Backends {
			who, address := identity{s.number, b.Address}, b.Address.Addr()
			found := e.known[who]
			if e.attempted {
				entry := m.backends[m.backendID(s.Name, b.Address)]
				found = sources{m.sources(entry), entry.TunnelSource}
			}
			if own := w.hops[address].Source; w.hops[address].Usable() && own.IsValid() {
				found = sources{[]netip.Addr{own}, netip.PrefixFrom(own, own.BitLen())}
			}
			if i := slices.IndexFunc(s.SNAT.Addresses, func(a netip.Addr) bool { return a.Is6() == address.Is6() }); i >= 0 {
				found.snat = slices.DeleteFunc(slices.Clone(s.SNAT.Addresses), func(a netip.Addr) bool { return a.Is6() != address.Is6() })
			}
			for _, prefix := range s.Tunnel.Sources {
				if prefix.Addr().Is6() == address.Is6() {
					found.tunnel = prefix
				}
			}
			all[who] = found
		}
	}
	return all
}

// verifyBackends returns the weights of those that may take new flows.
func (e *expectation) verifyBackends(m *memory, w *world, s *worldService, known map[identity]sources,
	ids map[identity]idAndGeneration, want *reconcile.Result) map[netip.AddrPort]uint32 {
	e.t.Helper()
	weights := map[netip.AddrPort]uint32{}
	for _, b := range s.Backends {
		who := identity{s.number, b.Address}
		id := m.backendID(s.Name, b.Address)
		if got := m.backends[id].Weight; got != b.Weight {
			e.t.Errorf("%s: backend %s has the weight %d, want %d", s.Name, b.Address, got, b.Weight)
		}
		if name := m.backendNames[id]; name.Name != b.Name || name.Weight != b.Weight {
			e.t.Errorf("%s: backend %d is named %+v, want %+v", s.Name, id, name, b)
		}
		entry, list := m.backends[id], known[who]
		if got := (sources{m.sources(entry), entry.TunnelSource}); !slices.Equal(got.snat, list.snat) || got.tunnel != list.tunnel {
			e.t.Errorf("%s: backend %s has the sources %v, want %v", s.Name, b.Address, got, list)
		}
		ids[who] = idAndGeneration{id, entry.Generation}
		if got := m.ownTimeouts[entry.Timeouts]; got != s.Timeouts || entry.MaxFlows != b.MaxFlows {
			e.t.Errorf("%s: backend %s has the timeouts %v and %d flows at most, want %v and %d", s.Name, b.Address, got, entry.MaxFlows, s.Timeouts, b.MaxFlows)
		}
		if entry.SNATPorts != s.SNAT.Ports || entry.GUEPort != s.Tunnel.Port {
			e.t.Errorf("%s: backend %s is %+v, want the ports %v and %d", s.Name, b.Address, entry, s.SNAT.Ports, s.Tunnel.Port)
		}
		hop, hopKnown := w.hops[b.Address.Addr()]
		if !hopKnown {
			hop.Problem = "next hop not looked up yet"
		}
		got := m.hops[entry.NextHop]
		if got.Usable() != hop.Usable() ||
			hop.Usable() && (got.MAC != hop.MAC || got.Interface != hop.Interface || got.SourceMAC != hop.SourceMAC || got.VLAN != hop.VLAN || got.MTU != hop.MTU) {
			e.t.Errorf("%s: backend %s has the next hop %+v, want %+v", s.Name, b.Address, got, hop)
		}
		health := w.health[who]
		if s.Check == nil {
			health = nil
		}
		if m.health[id] != health {
			e.t.Errorf("%s: backend %s has the health %+v, want %+v", s.Name, b.Address, m.health[id], health)
		}
		if problem := problemOf(s.Forward, hop, list); problem != "" {
			want.Unusable = append(want.Unusable, reconcile.Unusable{Service: s.Name, Backend: b.Label(), Problem: problem})
		} else if !health.Usable() {
			problem := map[lb.HealthState]string{lb.HealthNew: "not checked yet", lb.HealthDown: "check failed: connection refused"}[health.State]
			want.Unusable = append(want.Unusable, reconcile.Unusable{Service: s.Name, Backend: b.Label(), Problem: problem, IsDown: true})
			if entry.TakesFlows {
				e.t.Errorf("%s: backend %s takes new flows, and is %s", s.Name, b.Address, health.State)
			}
		} else {
			if b.Weight > 0 {
				weights[b.Address] = b.Weight
			}
			if entry.TakesFlows != (b.Weight > 0) {
				e.t.Errorf("%s: backend %s takes new flows: %v, with weight %d", s.Name, b.Address, entry.TakesFlows, b.Weight)
			}
		}
	}
	return weights
}

func problemOf(forward lb.Forward, hop lb.NextHop, known sources) string {
	sourced := true
	switch forward {
	case lb.ForwardNAT:
		sourced = len(known.snat) > 0
	case lb.ForwardIPIP, lb.ForwardGUE:
		sourced = known.tunnel.IsValid()
	}
	switch {
	case hop.Problem != "":
		return hop.Problem
	case !sourced:
		return "this host has no address toward it"
	case hop.Routed && forward == lb.ForwardDSR:
		return "it is behind a router: dsr reaches only machines on the same link"
	}
	return ""
}

// verifyService: who has how many slots?
func (e *expectation) verifyService(m *memory, s lb.Service, weights map[netip.AddrPort]uint32) {
	e.t.Helper()
	size := cmp.Or(s.TableSize, maglev.SizeFor(len(s.Backends)))
	if len(weights) == 0 {
		size = 0
	}
	e.verifyPolicy(m, s)
	var first lb.ServiceEntry
	for key, entry := range m.services {
		if m.serviceNames[entry.ID].Name != s.Name {
			continue
		}
		if first.ID == 0 {
			first = entry
		}
		if entry != first || entry.Scheduler != s.Scheduler || entry.QUIC != s.QUIC || entry.Forward != s.Forward || entry.Silent != s.Silent || entry.TableSize != size {
			e.t.Errorf("%v: got %+v, elsewhere %+v, want %d slots, forward %s, scheduler %s", key, entry, first, size, s.Forward, s.Scheduler)
		}
	}
	if first.ID == 0 {
		return // all its ports are others'; verifyPorts knows
	}
	sum, slots := uint32(0), map[netip.AddrPort]uint32{}
	for _, id := range m.tables[first.TableOffset : first.TableOffset+first.TableSize] {
		slots[m.backends[id].Address]++
	}
	for _, weight := range weights {
		sum += weight
	}
	for address, got := range slots {
		share := float64(size) * float64(weights[address]) / float64(sum)
		if math.Abs(float64(got)-share) >= 1 {
			e.t.Errorf("%s: backend %s has %d of %d slots, want %.1f", s.Name, address, got, size, share)
		}
	}
	if len(slots) != len(weights) {
		e.t.Errorf("%s: %d backends in the table, want %d", s.Name, len(slots), len(weights))
	}
}

// verifyPolicy: what is asked of new flows to the service?
func (e *expectation) verifyPolicy(m *memory, s lb.Service) {
	e.t.Helper()
	perSecond := func(n uint32) time.Duration { return time.Second / time.Duration(max(n, 1)) * time.Duration(min(n, 1)) }
	for id, name := range m.serviceNames {
		if name.Name != s.Name {
			continue
		}
		got := m.policies[id]
		rules := m.rules[got.SourceRules]
		if !slices.Equal(rules.Allow, s.Allow) || !slices.Equal(rules.Deny, s.Deny) || got.OnlyAllowed != (len(s.Allow) > 0) {
			e.t.Errorf("%s: the source rules are %v, want %v and not %v", s.Name, rules, s.Allow, s.Deny)
		}
		if got.MaxFlows != s.MaxFlows || got.Interval != perSecond(s.NewFlowsPerSecond) ||
			got.ClientInterval != perSecond(s.PerClient.NewFlowsPerSecond) || got.AffinityTimeout != s.Affinity.Timeout {
			e.t.Errorf("%s: the policy is %+v, want one for %+v", s.Name, got, s)
		}
		if s.PerClient.NewFlowsPerSecond > 0 && (got.Name == 0 || got.ClientV4 != s.PerClient.PrefixV4 || got.ClientV6 != s.PerClient.PrefixV6) {
			e.t.Errorf("%s: the policy is %+v, want one for %+v", s.Name, got, s.PerClient)
		}
		e.verifyAffinity(m, s, id)
	}
}

// verifyAffinity: whom do clients keep?
func (e *expectation) verifyAffinity(m *memory, s lb.Service, id uint32) {
	e.t.Helper()
	for other, policy := range m.policies {
		same := policy.AffinityGroup == m.policies[id].AffinityGroup && policy.AffinityGroup != 0
		if same && (s.Affinity.Timeout == 0 || other != id && s.Affinity.Group == "") {
			e.t.Errorf("%s shares its affinity with another service", s.Name)
		}
	}
	takes := map[netip.Addr]bool{}
	for _, b := range m.backends {
		if b.Service != id {
			continue
		}
		takes[b.Address.Addr()] = takes[b.Address.Addr()] || b.TakesFlows && s.Affinity.Timeout > 0
		kept := m.affinity[lb.BackendKey{Service: id, Address: b.Address.Addr()}]
		if kept != 0 && (m.backends[kept].Service != id || m.backends[kept].Address.Addr() != b.Address.Addr() || !m.backends[kept].TakesFlows) {
			e.t.Errorf("%s: clients of %s are led to %+v", s.Name, b.Address, m.backends[kept])
		}
	}
	for key := range m.affinity {
		if key.Service == id && !takes[key.Address] {
			e.t.Errorf("%s: clients are led to %s", s.Name, key.Address)
		}
	}
	for address, does := range takes {
		if _, leads := m.affinity[lb.BackendKey{Service: id, Address: address}]; does && !leads {
			e.t.Errorf("%s: no client is led to %s", s.Name, address)
		}
	}
}

// verifyPorts: each port leads to the smallest range that has it, by as few keys as can be.
func (e *expectation) verifyPorts(m *memory, w *world) {
	e.t.Helper()
	for _, d := range destinations() {
		want := ""
		if s := w.serviceAt(d); s != nil {
			want = s.Name
		}
		if entry, _ := m.serviceAt(d); m.serviceNames[entry.ID].Name != want {
			e.t.Errorf("%v leads to %q, want %q", d, m.serviceNames[entry.ID].Name, want)
		}
	}
	for key, entry := range m.services {
		i := slices.IndexFunc(w.services, func(s *worldService) bool { return s.Name == m.serviceNames[entry.ID].Name })
		if i < 0 {
			e.t.Errorf("%v leads to a service that is gone: %+v", key, entry)
			continue
		}
		ports := w.services[i].Address.Ports
		inside := func(first, size uint32) bool {
			return uint32(ports.First) <= first && first+size-1 <= uint32(ports.Last)
		}
		first, double := uint32(key.Address.Port()), 2*key.Block
		if !inside(first, max(key.Block, 1)) || (key.Block == 0) != w.services[i].Address.IsOnePort() ||
			key.Block > 0 && inside(first/double*double, double) {
			e.t.Errorf("%v is none of the fewest blocks that make up %v", key, ports)
		}
	}
}

// verifyNear: whose answers would miss the balancer, and whose sources are looked at?
func (e *expectation) verifyNear(m *memory, w *world) {
	e.t.Helper()
	answers, want, answering := map[addressOf]bool{}, map[lb.NearClient]uint32{}, map[netip.Addr]bool{}
	for _, s := range w.services {
		for _, b := range s.Backends {
			who := addressOf{s.number, b.Address.Addr()}
			id := m.backendNames[m.backendID(s.Name, b.Address)].Service
			itself := lb.NearClient{Service: id, Prefix: netip.PrefixFrom(who.address, who.address.BitLen())}
			_, there := m.near[itself]
			if s.Forward == lb.ForwardDNAT || e.answers[who] || e.attempted && there {
				answers[who], answering[who.address] = true, true
				want[itself] = 0
			}
			hop, known := w.hops[who.address]
			if s.Forward != lb.ForwardDNAT || !known || !hop.Usable() || hop.Routed {
				continue
			}
			link := lb.NearClient{Service: id, Prefix: hop.Link}
			if by, twice := want[link]; twice && by != hop.LinkID() {
				want[link] = 0
			} else {
				want[link] = hop.LinkID()
			}
		}
	}
	if !maps.Equal(m.near, want) {
		e.t.Errorf("near clients: got %v, want %v", m.near, want)
	}
	if !maps.Equal(m.answering, answering) {
		e.t.Errorf("sources in the filter: got %v, want %v", m.answering, answering)
	}
	e.answers = answers
}

// verifyQUIC: whom do connection ids name?
func (e *expectation) verifyQUIC(m *memory, w *world) {
	e.t.Helper()
	want := map[lb.QUICServer]uint32{}
	for _, s := range w.services {
		for _, b := range s.Backends {
			id := m.backendID(s.Name, b.Address)
			entry := m.backends[id]
			if entry.QUIC != s.QUIC {
				e.t.Errorf("%s: backend %s has %+v, want %+v", s.Name, b.Address, entry.QUIC, s.QUIC)
			}
			hop, known := w.hops[b.Address.Addr()]
			sent := known && problemOf(s.Forward, hop, sources{m.sources(entry), entry.TunnelSource}) == ""
			if name, has := s.ServerIDs[b.Address]; sent && has {
				want[lb.QUICServer{Service: entry.Service, ID: name}] = id
			}
		}
	}
	if !maps.Equal(m.quic, want) {
		e.t.Errorf("QUIC servers: got %v, want %v", m.quic, want)
	}
}

// verifyTunnelEnds: every backend that packets are encapsulated for is known by what they have outside.
func (e *expectation) verifyTunnelEnds(m *memory, w *world) {
	e.t.Helper()
	want := map[lb.TunnelEnd]bool{}
	for _, s := range w.services {
		for _, b := range s.Backends {
			source := m.backends[m.backendID(s.Name, b.Address)].TunnelSource
			if !s.Forward.Tunnels() || !source.IsValid() {
				continue
			}
			end := lb.TunnelEnd{Backend: b.Address.Addr(), Source: source}
			if s.Forward == lb.ForwardGUE {
				end.GUEPort = s.Tunnel.Port
			}
			want[end] = true
		}
	}
	for end, id := range m.tunnelEnds {
		if !want[end] {
			e.t.Errorf("a tunnel's end is left over: %+v", end)
		}
		if b := m.backends[id]; b.Service == 0 || b.Address.Addr() != end.Backend {
			e.t.Errorf("the tunnel's end %+v is said to be backend %d, which is %+v", end, id, b)
		}
	}
	for end := range want {
		if _, exists := m.tunnelEnds[end]; !exists {
			e.t.Errorf("a tunnel's end is not known: %+v", end)
		}
	}
}

// verifyNothingElse: no remains of what was there before.
func (e *expectation) verifyNothingElse(m *memory, w *world) {
	e.t.Helper()
	if m.settings.Timeouts != w.timeouts || m.settings.RateLimits != w.limits {
		e.t.Errorf("settings: got %v and %v, want %v and %v", m.settings.Timeouts, m.settings.RateLimits, w.timeouts, w.limits)
	}
	used := map[uint32]bool{}
	for _, policy := range m.policies {
		used[policy.SourceRules] = true
	}
	for number := range m.rules {
		if !used[number] {
			e.t.Errorf("source rules %d are left over", number)
		}
	}
	for key := range m.affinity {
		if _, named := m.serviceNames[key.Service]; !named {
			e.t.Errorf("affinity to %v is left over", key)
		}
	}
	if len(m.serviceNames) != len(w.services) {
		e.t.Errorf("%d services, want %d", len(m.serviceNames), len(w.services))
	}
	backends := 0
	for _, s := range w.services {
		backends += len(s.Backends)
	}
	hops, entries := map[uint32]bool{}, 0
	for _, b := range m.backends {
		if b.Service != 0 {
			entries++
			hops[b.NextHop] = true
		}
	}
	if len(m.backendNames) != backends || entries != backends {
		e.t.Errorf("%d backend names and %d entries, want %d", len(m.backendNames), entries, backends)
	}
	for id, hop := range m.hops {
		if hop.Usable() && !hops[id] {
			e.t.Errorf("next hop %d is left over: %+v", id, hop)
		}
	}
	needed, single := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for key := range m.services {
		needed[key.Address.Addr()] = true
		single[key.Address.Addr()] = single[key.Address.Addr()] || key.Block == 0
	}
	for index, a := range m.snat {
		if a.IsVIP && !single[a.Address] {
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

// verifyTable: the first service's depends on backends, weights and seed alone.
func (e *expectation) verifyTable(m *memory, w *world) {
	e.t.Helper()
	s := w.services[0].Service
	for _, entry := range m.services {
		if m.serviceNames[entry.ID].Name != s.Name || entry.TableSize == 0 {
			continue
		}
		table := m.tables[entry.TableOffset : entry.TableOffset+entry.TableSize]
		used := map[netip.AddrPort]bool{}
		for _, id := range table {
			used[m.backends[id].Address] = true
		}
		var entries []maglev.Entry
		for _, b := range s.Backends {
			if used[b.Address] {
				entries = append(entries, maglev.Entry{Key: b.Address.String(), Weight: b.Weight})
			}
		}
		want, err := maglev.Build(entries, entry.TableSize, uint64(w.seed))
		if err != nil {
			e.t.Fatal(err)
		}
		for i, slot := range want {
			if got := m.backends[table[i]].Address.String(); got != entries[slot].Key {
				e.t.Errorf("%s: entry %d of the table is %s, want %s", s.Name, i, got, entries[slot].Key)
				return
			}
		}
		return
	}
}
