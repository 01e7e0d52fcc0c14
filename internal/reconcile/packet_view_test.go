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
	blocks, onePort := uint32(0), map[netip.Addr]bool{}
	for key, entry := range m.services {
		m.checkService(what, key, entry)
		if key.Block > 0 {
			blocks++
		} else {
			onePort[key.Address.Addr()] = true
		}
	}
	m.inRange("number of ports", uint32(len(m.services))-blocks, 0, 2*m.limits.Services)
	m.inRange("number of blocks of ports", blocks, 0, 64*m.limits.Services)
	m.inRange("number of QUIC servers", uint32(len(m.quic)), 0, m.limits.Backends)
	for server, id := range m.quic {
		if b := m.backends[id]; b.Service != server.Service {
			m.violation("%s: connection ids with %v lead to backend %d, which is %+v", what, server, id, b)
		}
	}
	m.inRange("number of near clients", uint32(len(m.near)), 0, 3*m.limits.Backends)
	for id, b := range m.backends {
		if b.Service != 0 {
			m.checkBackend(what, id, b)
			m.checkSources(what, id, b, onePort)
		}
	}
	rules := 0
	for id, policy := range m.policies {
		if _, named := m.serviceNames[id]; !named {
			m.violation("%s: service %d has a policy, and no name", what, id)
		}
		if _, whole := m.rules[policy.SourceRules]; policy.SourceRules > 0 && !whole {
			m.violation("%s: service %d has source rules that are not there", what, id)
		}
	}
	for _, r := range m.rules {
		rules += r.Size()
	}
	m.inRange("number of source rules", uint32(rules), 0, 2*m.limits.Prefixes)
	m.inRange("number of affinity's backends", uint32(len(m.affinity)), 0, 2*m.limits.Backends)
	for client := range m.near {
		if _, named := m.serviceNames[client.Service]; !named {
			m.violation("%s: near client %v belongs to a service without name", what, client)
		}
		if client.Prefix.IsSingleIP() && !m.answering[client.Prefix.Addr()] {
			m.violation("%s: the filter lacks the source %s", what, client.Prefix)
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
		if b := m.backends[id]; b.Service != entry.ID {
			m.violation("%s: the table of %v (service %d) has backend %d, which is %+v", what, key, entry.ID, id, b)
		}
		m.checkForward(what, entry, id)
	}
}

// checkForward: can a new flow be forwarded to the backend in the service's way?
func (m *memory) checkForward(what string, entry lb.ServiceEntry, id uint32) {
	m.t.Helper()
	b := m.backends[id]
	switch entry.Forward {
	case lb.ForwardNAT:
		if b.SNATCount == 0 {
			m.violation("%s: backend %d of a nat service has no source address: %+v", what, id, b)
		}
	case lb.ForwardIPIP, lb.ForwardGUE:
		if !b.TunnelSource.IsValid() {
			m.violation("%s: backend %d of a tunnel service has no outer source: %+v", what, id, b)
		}
	case lb.ForwardDNAT:
		itself := lb.NearClient{Service: entry.ID, Prefix: netip.PrefixFrom(b.Address.Addr(), b.Address.Addr().BitLen())}
		if by, exists := m.near[itself]; !exists || by != 0 {
			m.violation("%s: backend %d of a dnat service is no near client of it", what, id)
		}
	case lb.ForwardDSR:
	default:
		m.violation("%s: service %d is to be forwarded by %q", what, entry.ID, entry.Forward)
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
	if _, written := m.ownTimeouts[b.Timeouts]; b.Timeouts > 0 && !written {
		m.violation("%s: backend %d refers to timeouts %d, which were never written", what, id, b.Timeouts)
	}
	if b.TunnelSource.IsValid() && b.TunnelSource.Addr().Is4() != b.Address.Addr().Is4() {
		m.violation("%s: backend %d at %s has an outer source of the other family: %s", what, id, b.Address, b.TunnelSource)
	}
}

// checkSources: onePort has the addresses with a service on a single port.
func (m *memory) checkSources(what string, id uint32, b lb.BackendEntry, onePort map[netip.Addr]bool) {
	m.t.Helper()
	list := m.sources(b)
	if !isList(list) {
		m.violation("%s: backend %d has source addresses that nobody asked for: %v", what, id, list)
	}
	for i, a := range list {
		if a.Is4() != b.Address.Addr().Is4() {
			m.violation("%s: backend %d at %s has a source address of the other family: %s", what, id, b.Address, a)
		}
		if !m.filter[a] {
			m.violation("%s: the filter lacks the source address %s of backend %d", what, a, id)
		}
		if onePort[a] && !m.snat[b.SNATFirst+uint32(i)].IsVIP {
			m.violation("%s: the source address %s of backend %d is a VIP and not marked as one", what, a, id)
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

// checkRulesWrite: no packet may be looking at them.
func (m *memory) checkRulesWrite(number uint32) {
	m.t.Helper()
	m.inRange("number of source rules", number, 1, 2*m.limits.Services)
	for id, policy := range m.policies {
		if policy.SourceRules == number {
			m.violation("service %d has source rules %d, which are written", id, number)
		}
	}
}

// checkTimeoutsWrite: no flow may have them.
func (m *memory) checkTimeoutsWrite(number uint8) {
	m.t.Helper()
	m.inRange("number of timeouts", uint32(number), 1, 255)
	for id, b := range m.backends {
		if b.Service != 0 && b.Timeouts == number {
			m.violation("backend %d has timeouts %d, which are written", id, number)
		}
	}
}

// checkKey: a block is a power of two, and starts at a multiple of it.
func (m *memory) checkKey(key lb.ServiceKey) {
	m.t.Helper()
	if b := key.Block; b > 0 && (b&(b-1) != 0 || b > 1<<16 || uint32(key.Address.Port())%b != 0) {
		m.violation("%v is not an aligned block of ports", key)
	}
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
	case b.Service == 0: // check finds tables that still have it
	case old.Service != 0 && (b.Address != old.Address || b.Service != old.Service || b.Generation != old.Generation):
		m.violation("PutBackend %d replaces %+v by %+v", id, old, b)
	case old.Service == 0 && before.Service != 0 && b.Generation <= before.Generation:
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
		if name.Address.Contains(key.Address) && entry.ID == id {
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

// destination is what a packet's service is found by.
type destination struct {
	netip.AddrPort
	protocol lb.Protocol
}

// serviceAt finds a packet's service as the data plane does.
func (m *memory) serviceAt(d destination) (entry lb.ServiceEntry, exists bool) {
	if entry, exists = m.services[lb.ServiceKey{Address: d.AddrPort, Protocol: d.protocol}]; exists {
		return entry, true
	}
	for block := uint32(1); block <= 1<<16; block *= 2 {
		first := netip.AddrPortFrom(d.Addr(), uint16(uint32(d.Port())/block*block))
		if entry, exists = m.services[lb.ServiceKey{Address: first, Protocol: d.protocol, Block: block}]; exists {
			return entry, true
		}
	}
	return entry, false
}

// sight is the services that a destination was seen to lead to.
type sight struct {
	first, last uint32 // 0: none
	between     []uint32
}

// watch looks at some destinations after each write of a service key from now on.
func (m *memory) watch(destinations []destination) {
	m.seen = map[destination]*sight{}
	for _, d := range destinations {
		entry, _ := m.serviceAt(d)
		m.seen[d] = &sight{first: entry.ID, last: entry.ID}
	}
}

func (m *memory) look(key lb.ServiceKey) {
	first, ports := uint32(key.Address.Port()), max(key.Block, 1)
	for d, sight := range m.seen {
		if port := uint32(d.Port()); d.Addr() != key.Address.Addr() || d.protocol != key.Protocol || port < first || port >= first+ports {
			continue
		}
		if entry, _ := m.serviceAt(d); entry.ID != sight.last {
			sight.between = append(sight.between, sight.last)
			sight.last = entry.ID
		}
	}
}

// checkSeen: a destination leads to where it led before, and then to where it
// leads to now, but at no time anywhere else.
func (m *memory) checkSeen() {
	m.t.Helper()
	for d, sight := range m.seen {
		for _, id := range sight.between {
			if id != sight.first && id != sight.last {
				m.t.Errorf("%v led to service %d for a while, between %d and %d", d, id, sight.first, sight.last)
			}
		}
	}
	m.seen = nil
}
