package reconcile_test

import (
	"fmt"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// violation reports what no packet must ever meet.
func (m *memory) violation(format string, args ...any) {
	m.t.Helper()
	text := fmt.Sprintf(format, args...)
	if _, known := m.last[text]; known || len(m.last) > 20 {
		return // one is enough, the next write finds it again
	}
	m.last[text] = struct{}{}
	m.t.Errorf("after write %d: %s", len(m.log), text)
}

func (m *memory) inRange(what string, value, first, last uint32) {
	m.t.Helper()
	if value < first || value > last {
		m.violation("%s %d is not between %d and %d", what, value, first, last)
	}
}

// check follows every reference that a packet may follow.
func (m *memory) check(what string) {
	m.t.Helper()
	m.inRange("number of service entries", uint32(len(m.services)), 0, 2*m.limits.Services)
	for key, entry := range m.services {
		m.checkService(what, key, entry)
	}
	for id, b := range m.backends {
		if b.SNATCount > 0 {
			m.checkBackend(what, id, b)
		}
	}
}

func (m *memory) checkService(what string, key lb.ServiceKey, entry lb.ServiceEntry) {
	m.t.Helper()
	if !m.filter[key.Address.Addr()] {
		m.violation("%s: the filter lacks the VIP %s", what, key.Address)
	}
	if _, named := m.serviceNames[entry.ID]; !named {
		m.violation("%s: service %d at %v has no name", what, entry.ID, key)
	}
	if entry.TableOffset%lb.TableChunk != 0 || int(entry.TableOffset)+int(entry.TableSize) > len(m.tables) {
		m.violation("%s: %v has a table out of bounds: %+v", what, key, entry)
		return
	}
	checked := map[uint32]bool{}
	for _, id := range m.tables[entry.TableOffset : entry.TableOffset+entry.TableSize] {
		if checked[id] {
			continue
		}
		checked[id] = true
		b := m.backends[id]
		if b.SNATCount == 0 || b.Service != entry.ID {
			m.violation("%s: the table of %v (service %d) has backend %d, which is %+v", what, key, entry.ID, id, b)
		}
	}
}

func (m *memory) checkBackend(what string, id uint32, b lb.BackendEntry) {
	m.t.Helper()
	if _, named := m.serviceNames[b.Service]; !named {
		m.violation("%s: backend %d belongs to service %d, which has no name", what, id, b.Service)
	}
	if name := m.backendNames[id]; name.Address != b.Address || name.Service != b.Service {
		m.violation("%s: backend %d is %+v, but its name is %+v", what, id, b, name)
	}
	if b.SNATPorts.First == 0 || b.SNATPorts.Last < b.SNATPorts.First {
		m.violation("%s: backend %d has the source ports %v", what, id, b.SNATPorts)
	}
	hop, written := m.hops[b.NextHop]
	if !written || b.NextHop == 0 {
		m.violation("%s: backend %d refers to next hop %d, which was never written", what, id, b.NextHop)
	}
	if hop.Usable() && !leadsTo(hop, b.Address.Addr()) {
		m.violation("%s: backend %d at %s has another one's next hop: %+v", what, id, b.Address, hop)
	}
	list := m.sources(b)
	if !isList(list) {
		m.violation("%s: backend %d has source addresses that nobody asked for: %v", what, id, list)
	}
	for i, a := range list {
		if !m.filter[a] {
			m.violation("%s: the filter lacks the source address %s of backend %d", what, a, id)
		}
		for key := range m.services {
			if key.Address.Addr() == a && !m.snat[b.SNATFirst+uint32(i)].IsVIP {
				m.violation("%s: the source address %s of backend %d is a VIP and not marked as one", what, a, id)
			}
		}
	}
}

func (m *memory) sources(b lb.BackendEntry) []netip.Addr {
	var list []netip.Addr
	for i := range uint32(b.SNATCount) {
		list = append(list, m.snat[b.SNATFirst+i].Address)
	}
	return list
}

// checkTableWrite: a packet may be reading the tables of all current services.
func (m *memory) checkTableWrite(offset uint32, backends []uint32) {
	m.t.Helper()
	size := uint32(len(backends))
	if m.inRange("end of a table", offset+size, 1, uint32(len(m.tables))); size == 0 || offset%lb.TableChunk != 0 {
		m.violation("PutTable %d+%d", offset, size)
	}
	for key, entry := range m.services {
		if entry.TableSize > 0 && offset < entry.TableOffset+entry.TableSize && entry.TableOffset < offset+size {
			m.violation("PutTable %d+%d overwrites the table of %v: %+v", offset, size, key, entry)
		}
	}
}

// checkSNATWrite: a list that a backend uses may only change its marks.
func (m *memory) checkSNATWrite(index uint32, a lb.SNATAddress) {
	m.t.Helper()
	m.inRange("source address", index, 0, max(1024, m.limits.Backends)-1)
	for id, b := range m.backends {
		if index >= b.SNATFirst && index < b.SNATFirst+uint32(b.SNATCount) && m.snat[index].Address != a.Address {
			m.violation("PutSNATAddress %d replaces %s, which backend %d uses, by %s", index, m.snat[index].Address, id, a.Address)
		}
	}
}

// checkBackendWrite: an id stays with its backend, and flows to the last one
// under this id must not be taken for flows to the next.
func (m *memory) checkBackendWrite(id uint32, b lb.BackendEntry) {
	m.t.Helper()
	m.inRange("backend", id, 1, m.limits.Backends)
	old, before := m.backends[id], m.lastLive[id]
	switch {
	case b.SNATCount == 0: // check finds tables that still have it
	case old.SNATCount > 0 && (b.Address != old.Address || b.Service != old.Service || b.Generation != old.Generation):
		m.violation("PutBackend %d replaces %+v by %+v", id, old, b)
	case old.SNATCount == 0 && before.SNATCount > 0 && b.Generation <= before.Generation:
		m.violation("PutBackend %d: %+v has the generation of its predecessor %+v", id, b, before)
	}
}

// checkServiceNameWrite: an id stays with its service, by name or by VIP.
func (m *memory) checkServiceNameWrite(id uint32, name lb.ServiceName) {
	m.t.Helper()
	m.inRange("service", id, 1, m.limits.Services)
	old, used := m.serviceNames[id]
	if !used || old.Name == name.Name {
		return
	}
	for key, entry := range m.services {
		if key.Address == name.Address && entry.ID == id {
			return
		}
	}
	m.violation("PutServiceName %d replaces %+v by %+v", id, old, name)
}

func (m *memory) checkBackendNameWrite(id uint32, name lb.BackendName) {
	m.t.Helper()
	m.inRange("backend", id, 1, m.limits.Backends)
	if old, used := m.backendNames[id]; used && (old.Address != name.Address || old.Service != name.Service) {
		m.violation("PutBackendName %d replaces %+v by %+v", id, old, name)
	}
}
