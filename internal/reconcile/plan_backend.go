package reconcile

import (
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

func (p *plan) planBackends(c *change) error {
	s := c.service
	known := make(map[netip.AddrPort]uint32, len(s.backends))
	for _, id := range s.backends {
		known[p.r.actual.BackendNames[id].Address] = id
	}
	s.unusable, s.backends = nil, nil
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
		if !planned.hop.Usable() {
			s.unusable = append(s.unusable, Unusable{s.name, b.Label(), planned.hop.Problem})
		} else if b.Weight > 0 {
			c.content.shares = append(c.content.shares, share{id, b.Address, b.Weight})
		}
	}
	for _, id := range known {
		p.removeBackend(id)
	}
	s.down = len(c.content.shares) == 0
	return nil
}

func (p *plan) planBackend(c *change, id uint32, b lb.Backend) (plannedBackend, error) {
	old := p.r.actual.Backends[id]
	planned := plannedBackend{
		id:   id,
		name: lb.BackendName{Name: b.Name, Address: b.Address, Service: c.service.id, Weight: b.Weight},
		entry: lb.BackendEntry{
			Address: b.Address, Service: c.service.id, Generation: old.Generation, SNATPorts: c.config.SNAT.Ports,
			SNATFirst: old.SNATFirst, SNATCount: old.SNATCount,
		},
		hop: p.r.hopTo(b.Address.Addr()),
	}
	sources := c.config.SNAT.Addresses
	if len(sources) == 0 && planned.hop.Usable() && planned.hop.Source.IsValid() {
		sources = []netip.Addr{planned.hop.Source}
	}
	if len(sources) > 0 {
		first, err := p.planList(sources)
		if err != nil {
			return planned, err
		}
		planned.entry.SNATFirst, planned.entry.SNATCount = first, uint16(len(sources))
	}
	if planned.entry.SNATCount == 0 {
		if planned.hop.Usable() {
			planned.hop.Problem = "this host has no address toward it"
		}
		return planned, nil
	}
	p.r.books.lists.hold(listStretch(planned.entry))
	hop, err := p.planHop(b.Address.Addr())
	planned.entry.NextHop = hop
	p.release(old)
	return planned, err
}

func (r *Reconciler) hopTo(address netip.Addr) lb.NextHop {
	if hop, known := r.hops[address]; known {
		return hop
	}
	return lb.NextHop{Problem: "next hop not looked up yet"}
}

// release gives back what a backend's old entry refers to.
func (p *plan) release(old lb.BackendEntry) {
	if old.SNATCount == 0 {
		return
	}
	p.r.books.lists.release(listStretch(old))
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
		addresses[i] = r.actual.SNATAddresses[b.SNATFirst+uint32(i)].Address
	}
	return addresses
}
