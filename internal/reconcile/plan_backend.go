package reconcile

import (
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

func (p *plan) planBackends(c *change) error {
	s := c.service
	var known map[netip.AddrPort]uint32
	if len(s.backends) > 0 {
		known = make(map[netip.AddrPort]uint32, len(s.backends))
	}
	for _, id := range s.backends {
		known[p.r.actual.backendNames.at(id).Address] = id
	}
	s.unusable, s.backends = nil, make([]uint32, 0, len(c.config.Backends))
	c.backends = make([]plannedBackend, 0, len(c.config.Backends))
	usable := 0
	for _, b := range c.config.Backends {
		id, exists := known[b.Address]
		delete(known, b.Address)
		if !exists {
			var err error
			if id, err = p.r.books.backendIDs.take(1); err != nil {
				return err
			}
		}
		s.backends = append(s.backends, id)
		planned, err := p.planBackend(c, id, b)
		if err != nil {
			return err
		}
		c.backends = append(c.backends, planned)
		if planned.problem != "" {
			s.unusable = append(s.unusable, Unusable{s.name, b.Label(), planned.problem, planned.isDown})
		} else if planned.takesFlows() {
			usable++
		}
	}
	c.content.shares = make([]share, 0, usable)
	for _, b := range c.backends {
		if b.takesFlows() {
			c.content.shares = append(c.content.shares, share{b.id, b.entry.Generation, b.name.Weight})
		}
	}
	for _, id := range known {
		p.removeBackend(id)
	}
	s.down = len(c.content.shares) == 0
	return nil
}

func (p *plan) planBackend(c *change, id uint32, b lb.Backend) (plannedBackend, error) {
	address := b.Address.Addr()
	old := p.r.actual.backends.at(id)
	planned := plannedBackend{
		id:   id,
		name: lb.BackendName{Name: b.Name, Address: b.Address, Service: c.service.id, Weight: b.Weight},
		hop:  p.r.hopTo(address),
	}
	hopID, err := p.planHop(address)
	if err != nil {
		return planned, err
	}
	planned.entry = lb.BackendEntry{
		Address: b.Address, Service: c.service.id, NextHop: hopID, Generation: old.Generation, SNATPorts: c.config.SNAT.Ports,
		// flows go on with these while no others are known
		SNATFirst: old.SNATFirst, SNATCount: old.SNATCount, TunnelSource: old.TunnelSource,
		GUEPort: c.config.Tunnel.Port, MSS: c.config.MSS, Timeouts: c.timeouts, MaxFlows: b.MaxFlows,
		Weight: b.Weight, QUIC: c.config.QUIC,
	}
	if source := tunnelSource(c.config.Tunnel, address, planned.hop); source.IsValid() {
		planned.entry.TunnelSource = source
	}
	if sources := snatSources(c.config.SNAT, address, planned.hop); len(sources) > 0 {
		planned.entry.SNATCount = uint16(len(sources))
		if planned.entry.SNATFirst, err = p.planList(sources); err != nil {
			return planned, err
		}
	}
	p.r.books.lists.hold(listStretch(planned.entry))
	p.r.books.timeouts.hold(timeoutsStretch(planned.entry))
	p.release(old)
	if c.config.Check != nil {
		planned.health = p.healthOf(c.config.Name, id, b.Address)
	}
	planned.problem = problem(c.config.Forward, planned)
	// the data plane sees for itself whether there is a next hop
	planned.entry.TakesFlows = b.Weight > 0 && planned.health.Usable() && (planned.problem == "" || !planned.hop.Usable())
	if planned.problem == "" {
		planned.problem = healthProblem(planned.health)
		planned.isDown = planned.problem != ""
	}
	return planned, nil
}

func (b plannedBackend) takesFlows() bool { return b.problem == "" && b.name.Weight > 0 }

// problem says why no new flow can be forwarded to a backend, or "".
func problem(forward lb.Forward, b plannedBackend) string {
	switch {
	case !b.hop.Usable():
		return b.hop.Problem
	case forward == lb.ForwardNAT && b.entry.SNATCount == 0, forward.Tunnels() && !b.entry.TunnelSource.IsValid():
		return "this host has no address toward it"
	case forward == lb.ForwardDSR && b.hop.Routed:
		return "it is behind a router: dsr reaches only machines on the same link"
	}
	return ""
}

// healthProblem says why a backend is not usable as far as its health goes, or "".
func healthProblem(h *lb.Health) string {
	switch {
	case h.Usable():
		return ""
	case h.State == lb.HealthNew:
		return "not checked yet"
	}
	return "check failed: " + h.Last().Cause
}

// snatSources are the addresses of the backend's family that stand for clients
// toward it; none: there is not any.
func snatSources(snat lb.SNAT, backend netip.Addr, hop lb.NextHop) []netip.Addr {
	var sources []netip.Addr
	for _, a := range snat.Addresses {
		if a.Is4() == backend.Is4() {
			sources = append(sources, a)
		}
	}
	if len(sources) == 0 && hop.Usable() && hop.Source.IsValid() {
		sources = []netip.Addr{hop.Source}
	}
	return sources
}

// tunnelSource is the prefix of the backend's family that outer source addresses
// are taken from; the zero one: there is none.
func tunnelSource(tunnel lb.Tunnel, backend netip.Addr, hop lb.NextHop) netip.Prefix {
	for _, prefix := range tunnel.Sources {
		if prefix.Addr().Is4() == backend.Is4() {
			return prefix
		}
	}
	if hop.Usable() && hop.Source.IsValid() {
		return onlyAddress(hop.Source)
	}
	return netip.Prefix{}
}

func onlyAddress(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func (r *Reconciler) hopTo(address netip.Addr) lb.NextHop {
	if hop, known := r.hops[address]; known {
		return hop
	}
	return lb.NextHop{Problem: "next hop not looked up yet"}
}

// release gives back what a backend's old entry refers to.
func (p *plan) release(old lb.BackendEntry) {
	if old.Service == 0 {
		return
	}
	p.r.books.lists.release(listStretch(old))
	p.r.books.timeouts.release(timeoutsStretch(old))
	p.r.books.hopIDs.release(stretch{old.NextHop, 1})
}

func (p *plan) planHop(address netip.Addr) (uint32, error) {
	books := p.r.books
	if id, known := books.hopID[address]; known {
		books.hopIDs.hold(stretch{id, 1})
		return id, nil
	}
	id, err := books.hopIDs.take(1)
	if err == nil {
		books.hopID[address] = id
	}
	return id, err
}

// planList finds a list with these addresses, or room for it.
func (p *plan) planList(addresses []netip.Addr) (uint32, error) {
	books := p.r.books
	key := listKey(addresses)
	if first, known := books.listAt[key]; known {
		return first, nil
	}
	first, err := books.lists.take(uint32(len(addresses)))
	if err != nil {
		return 0, err
	}
	books.lists.release(stretch{first, uint32(len(addresses))}) // each backend holds it itself
	books.listAt[key] = first
	p.lists = append(p.lists, list{first, addresses})
	p.moves = true
	return first, nil
}

func listKey(addresses []netip.Addr) string {
	key := make([]byte, 0, 16*len(addresses))
	for _, a := range addresses {
		bytes := a.As16()
		key = append(key, bytes[:]...)
	}
	return string(key)
}

// sourcesOf reads a backend's list of source addresses.
func (r *Reconciler) sourcesOf(b lb.BackendEntry) []netip.Addr {
	addresses := make([]netip.Addr, b.SNATCount)
	for i := range addresses {
		addresses[i] = r.actual.snatAddresses[b.SNATFirst+uint32(i)].Address
	}
	return addresses
}
