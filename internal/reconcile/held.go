package reconcile

import (
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// held is what the tables hold: read back at the start, then kept in step with every
// write that succeeded.
type held struct {
	services      map[lb.ServiceKey]lb.ServiceEntry
	backends      backendColumn
	nextHops      map[uint32]lb.NextHop
	snatAddresses map[uint32]lb.SNATAddress
	nearClients   map[lb.NearClient]uint32
	quicServers   map[lb.QUICServer]uint32
	policies      map[uint32]lb.ServicePolicy
	sourceRules   map[uint32]lb.SourceRules // some may be written in part only: those that no policy has
	timeouts      map[uint8]lb.Timeouts
	affinity      map[lb.BackendKey]uint32
	tunnelEnds    map[lb.TunnelEnd]uint32
	foreignVIPs   map[netip.Addr]lb.VIPAnswers
	interfaceMTUs map[uint32]uint32
	serviceNames  map[uint32]lb.ServiceName
	backendNames  nameColumn
	health        map[uint32]*lb.Health // by backend id
}

func newHeld(t lb.Tables) held {
	h := held{
		services: t.Services, nextHops: t.NextHops, snatAddresses: t.SNATAddresses, nearClients: t.NearClients,
		policies: t.Policies, sourceRules: t.SourceRules, timeouts: t.Timeouts, affinity: t.AffinityBackends, quicServers: t.QUICServers,
		tunnelEnds: t.TunnelEnds, foreignVIPs: t.ForeignVIPs, interfaceMTUs: t.InterfaceMTUs, serviceNames: t.ServiceNames,
		health: t.Health,
	}
	h.backends.sourceAt = map[netip.Prefix]uint32{}
	for id, entry := range t.Backends {
		h.backends.set(id, entry)
	}
	for id, name := range t.BackendNames {
		h.backendNames.set(id, name)
	}
	return h
}

// column has values by id; an id without one has the zero value. Maps of the many
// backends of a large config would take twice the memory and several times as long.
type column[V comparable] struct {
	pages []*[pageSize]V
}

const pageSize = 512

func (c *column[V]) at(id uint32) (value V) {
	if page := int(id / pageSize); page < len(c.pages) && c.pages[page] != nil {
		value = c.pages[page][id%pageSize]
	}
	return value
}

func (c *column[V]) set(id uint32, value V) {
	page := int(id / pageSize)
	for len(c.pages) <= page {
		c.pages = append(c.pages, nil)
	}
	if c.pages[page] == nil {
		c.pages[page] = new([pageSize]V)
	}
	c.pages[page][id%pageSize] = value
}

// all calls f with every value that is not zero.
func (c *column[V]) all(f func(id uint32, value V)) {
	var zero V
	for i, page := range c.pages {
		if page == nil {
			continue
		}
		for j, value := range page {
			if value != zero {
				f(uint32(i*pageSize+j), value)
			}
		}
	}
}

// packedAddress is a netip.AddrPort in two thirds of its size. There are none with
// zones, and IPv4 addresses are not mapped ones.
type packedAddress struct {
	addr  [16]byte
	port  uint16
	isSet bool
}

func packAddress(a netip.AddrPort) packedAddress {
	if !a.Addr().IsValid() {
		return packedAddress{}
	}
	return packedAddress{a.Addr().As16(), a.Port(), true}
}

func (p packedAddress) unpack() netip.AddrPort {
	if !p.isSet {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom16(p.addr).Unmap(), p.port)
}

// backendColumn keeps backends in half of their size: the tunnel's source is the same
// for most of them.
type backendColumn struct {
	column   column[packedBackend]
	sources  []netip.Prefix          // of tunnels
	sourceAt map[netip.Prefix]uint32 // in sources, from 1
}

type packedBackend struct {
	address packedAddress
	lb.PortRange
	source                                  uint32 // in sources, from 1
	service, nextHop, generation, snatFirst uint32
	maxFlows                                uint32
	snatCount, guePort, mss, weight         uint16
	timeouts                                uint8
	takesFlows                              bool
	quic                                    lb.QUIC
}

func (c *backendColumn) at(id uint32) lb.BackendEntry { return c.unpack(c.column.at(id)) }

func (c *backendColumn) unpack(p packedBackend) lb.BackendEntry {
	b := lb.BackendEntry{
		Address: p.address.unpack(), Service: p.service, NextHop: p.nextHop, Generation: p.generation,
		SNATFirst: p.snatFirst, SNATCount: p.snatCount, SNATPorts: p.PortRange, GUEPort: p.guePort, MSS: p.mss,
		Timeouts: p.timeouts, TakesFlows: p.takesFlows, MaxFlows: p.maxFlows,
		Weight: uint32(p.weight), QUIC: p.quic,
	}
	if p.source > 0 {
		b.TunnelSource = c.sources[p.source-1]
	}
	return b
}

func (c *backendColumn) set(id uint32, b lb.BackendEntry) {
	p := packedBackend{
		address: packAddress(b.Address), service: b.Service, nextHop: b.NextHop, generation: b.Generation,
		snatFirst: b.SNATFirst, snatCount: b.SNATCount, PortRange: b.SNATPorts, guePort: b.GUEPort, mss: b.MSS,
		timeouts: b.Timeouts, takesFlows: b.TakesFlows, maxFlows: b.MaxFlows,
		weight: uint16(b.Weight), quic: b.QUIC,
	}
	if b.TunnelSource.IsValid() {
		p.source = c.learn(b.TunnelSource)
	}
	c.column.set(id, p)
}

func (c *backendColumn) learn(source netip.Prefix) uint32 {
	at, known := c.sourceAt[source]
	if !known {
		c.sources = append(c.sources, source)
		at = uint32(len(c.sources))
		c.sourceAt[source] = at
	}
	return at
}

func (c *backendColumn) all(f func(id uint32, b lb.BackendEntry)) {
	c.column.all(func(id uint32, p packedBackend) { f(id, c.unpack(p)) })
}

// nameColumn keeps names of backends in less than their size.
type nameColumn struct {
	column column[packedName]
}

type packedName struct {
	name            string
	address         packedAddress
	service, weight uint32
}

func (p packedName) unpack() lb.BackendName {
	return lb.BackendName{Name: p.name, Address: p.address.unpack(), Service: p.service, Weight: p.weight}
}

func (c *nameColumn) at(id uint32) lb.BackendName { return c.column.at(id).unpack() }

func (c *nameColumn) set(id uint32, n lb.BackendName) {
	c.column.set(id, packedName{n.Name, packAddress(n.Address), n.Service, n.Weight})
}

func (c *nameColumn) all(f func(id uint32, n lb.BackendName)) {
	c.column.all(func(id uint32, p packedName) { f(id, p.unpack()) })
}
