package reconcile_test

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/reconcile"
)

var errWrite = errors.New("write refused")

// memory stands for the kernel's maps. It has their sizes, and forgets what
// they forget. After every write it looks at everything as a packet would.
type memory struct {
	t         testing.TB
	limits    lb.Limits
	unchecked bool // for benchmarks

	settings      lb.Settings
	filter        map[netip.Addr]bool // destinations
	answering     map[netip.Addr]bool // the filter's sources
	near          map[lb.NearClient]uint32
	foreign       map[netip.Addr]lb.VIPAnswers
	interfaceMTUs map[uint32]uint32
	tunnelEnds    map[lb.TunnelEnd]uint32
	services      map[lb.ServiceKey]lb.ServiceEntry
	backends      map[uint32]lb.BackendEntry
	hops          map[uint32]lb.NextHop // ever written
	snat          map[uint32]lb.SNATAddress
	tables        []uint32
	quic          map[lb.QUICServer]uint32
	policies      map[uint32]lb.ServicePolicy
	rules         map[uint32]lb.SourceRules
	ownTimeouts   map[uint8]lb.Timeouts
	affinity      map[lb.BackendKey]uint32
	serviceNames  map[uint32]lb.ServiceName
	backendNames  map[uint32]lb.BackendName
	health        map[uint32]*lb.Health
	lastLive      map[uint32]lb.BackendEntry // each id's last real backend

	log  []string            // the writes that were tried
	fail func(int) bool      // whether the n-th one, from 1, fails; nil: none
	last map[string]struct{} // violations reported already
	seen map[destination]*sight
}

func newMemory(t testing.TB, limits lb.Limits) *memory {
	return &memory{
		t: t, limits: limits,
		filter:        map[netip.Addr]bool{},
		answering:     map[netip.Addr]bool{},
		near:          map[lb.NearClient]uint32{},
		foreign:       map[netip.Addr]lb.VIPAnswers{},
		interfaceMTUs: map[uint32]uint32{},
		tunnelEnds:    map[lb.TunnelEnd]uint32{},
		services:      map[lb.ServiceKey]lb.ServiceEntry{},
		backends:      map[uint32]lb.BackendEntry{},
		hops:          map[uint32]lb.NextHop{},
		snat:          map[uint32]lb.SNATAddress{},
		tables:        make([]uint32, chunks(limits.TableEntries)),
		quic:          map[lb.QUICServer]uint32{},
		policies:      map[uint32]lb.ServicePolicy{},
		rules:         map[uint32]lb.SourceRules{},
		ownTimeouts:   map[uint8]lb.Timeouts{},
		affinity:      map[lb.BackendKey]uint32{},
		serviceNames:  map[uint32]lb.ServiceName{},
		backendNames:  map[uint32]lb.BackendName{},
		health:        map[uint32]*lb.Health{},
		lastLive:      map[uint32]lb.BackendEntry{},
		last:          map[string]struct{}{},
	}
}

// clone is another memory with the same content, which fails no write.
func (m *memory) clone() *memory {
	c := *m
	c.log, c.fail, c.seen = nil, nil, nil
	c.answering, c.near, c.foreign = maps.Clone(m.answering), maps.Clone(m.near), maps.Clone(m.foreign)
	c.interfaceMTUs = maps.Clone(m.interfaceMTUs)
	c.tunnelEnds = maps.Clone(m.tunnelEnds)
	c.filter, c.services, c.backends = maps.Clone(m.filter), maps.Clone(m.services), maps.Clone(m.backends)
	c.hops, c.snat, c.tables = maps.Clone(m.hops), maps.Clone(m.snat), slices.Clone(m.tables)
	c.policies, c.rules = maps.Clone(m.policies), maps.Clone(m.rules)
	c.ownTimeouts, c.affinity = maps.Clone(m.ownTimeouts), maps.Clone(m.affinity)
	c.quic = maps.Clone(m.quic)
	c.serviceNames, c.backendNames = maps.Clone(m.serviceNames), maps.Clone(m.backendNames)
	c.health = maps.Clone(m.health)
	c.lastLive, c.last = maps.Clone(m.lastLive), map[string]struct{}{}
	return &c
}

func chunks(entries uint32) uint32 {
	return (entries + lb.TableChunk - 1) / lb.TableChunk * lb.TableChunk
}

func (m *memory) ReadTables() (lb.Tables, error) {
	t := lb.Tables{
		Services:         maps.Clone(m.services),
		Backends:         map[uint32]lb.BackendEntry{},
		NextHops:         map[uint32]lb.NextHop{},
		SNATAddresses:    maps.Clone(m.snat),
		NearClients:      maps.Clone(m.near),
		ForeignVIPs:      maps.Clone(m.foreign),
		InterfaceMTUs:    maps.Clone(m.interfaceMTUs),
		TunnelEnds:       maps.Clone(m.tunnelEnds),
		QUICServers:      maps.Clone(m.quic),
		Policies:         maps.Clone(m.policies),
		SourceRules:      maps.Clone(m.rules),
		Timeouts:         maps.Clone(m.ownTimeouts),
		AffinityBackends: maps.Clone(m.affinity),
		ServiceNames:     maps.Clone(m.serviceNames),
		BackendNames:     maps.Clone(m.backendNames),
		Health:           maps.Clone(m.health),
	}
	for id, b := range m.backends {
		if b != (lb.BackendEntry{}) {
			t.Backends[id] = b
		}
	}
	for id, hop := range m.hops {
		if hop.Usable() { // an array cannot tell a cleared entry from none
			t.NextHops[id] = lb.NextHop{Interface: hop.Interface, MAC: hop.MAC, SourceMAC: hop.SourceMAC, VLAN: hop.VLAN, MTU: hop.MTU}
		}
	}
	return t, nil
}

// write does one write, unless it is to fail. It looks at what is to be
// overwritten, and at the outcome.
func (m *memory) write(what string, allowed func(), do func()) error {
	m.log = append(m.log, what)
	if m.fail != nil && m.fail(len(m.log)) {
		return errWrite
	}
	if m.unchecked {
		do()
		return nil
	}
	allowed()
	do()
	m.check(what)
	return nil
}

func always() {}

func (m *memory) SetSettings(s lb.Settings) error {
	return m.write("SetSettings", always, func() { m.settings = s })
}

func (m *memory) PutInterfaceMTU(index, mtu uint32) error {
	return m.write("PutInterfaceMTU", always, func() { m.interfaceMTUs[index] = mtu })
}

func (m *memory) DeleteInterfaceMTU(index uint32) error {
	return m.write("DeleteInterfaceMTU", always, func() { delete(m.interfaceMTUs, index) })
}

func (m *memory) SetAddressFilter(destinations, sources []netip.Addr) error {
	return m.write("SetAddressFilter", always, func() { m.filter, m.answering = setOf(destinations), setOf(sources) })
}

func setOf(addresses []netip.Addr) map[netip.Addr]bool {
	set := map[netip.Addr]bool{}
	for _, a := range addresses {
		set[a] = true
	}
	return set
}

func (m *memory) PutNearClient(client lb.NearClient, by uint32) error {
	return m.write("PutNearClient", always, func() { m.near[client] = by })
}

func (m *memory) DeleteNearClient(client lb.NearClient) error {
	return m.write("DeleteNearClient", always, func() { delete(m.near, client) })
}

func (m *memory) PutQUICServer(server lb.QUICServer, backend uint32) error {
	return m.write("PutQUICServer", always, func() { m.quic[server] = backend })
}

func (m *memory) DeleteQUICServer(server lb.QUICServer) error {
	return m.write("DeleteQUICServer", always, func() { delete(m.quic, server) })
}

func (m *memory) ForgetPath(hop uint32) error {
	return m.write("ForgetPath", func() { m.inRange("next hop", hop, 1, m.limits.Backends) }, func() {})
}

func (m *memory) PutTunnelEnd(end lb.TunnelEnd, backend uint32) error {
	return m.write("PutTunnelEnd", func() { m.inRange("tunnel end", backend, 1, m.limits.Backends) }, func() { m.tunnelEnds[end] = backend })
}

func (m *memory) DeleteTunnelEnd(end lb.TunnelEnd) error {
	return m.write("DeleteTunnelEnd", always, func() { delete(m.tunnelEnds, end) })
}

func (m *memory) PutForeignVIP(vip netip.Addr, answers lb.VIPAnswers) error {
	return m.write("PutForeignVIP", always, func() { m.foreign[vip] = answers })
}

func (m *memory) DeleteForeignVIP(vip netip.Addr) error {
	return m.write("DeleteForeignVIP", always, func() { delete(m.foreign, vip) })
}

// each writes many entries one by one.
func each[V any](ids []uint32, values []V, write func(uint32, V) error) (written int, err error) {
	for i, id := range ids {
		if err := write(id, values[i]); err != nil {
			return i, err
		}
	}
	return len(ids), nil
}

func (m *memory) PutNextHops(ids []uint32, hops []lb.NextHop) (int, error) {
	return each(ids, hops, m.putNextHop)
}

func (m *memory) PutBackends(ids []uint32, entries []lb.BackendEntry) (int, error) {
	return each(ids, entries, m.putBackend)
}

func (m *memory) PutBackendNames(ids []uint32, names []lb.BackendName) (int, error) {
	return each(ids, names, m.putBackendName)
}

func (m *memory) putNextHop(id uint32, hop lb.NextHop) error {
	return m.write("PutNextHop", func() { m.inRange("next hop", id, 1, m.limits.Backends) }, func() { m.hops[id] = hop })
}

func (m *memory) PutSNATAddress(index uint32, a lb.SNATAddress) error {
	return m.write("PutSNATAddress", func() { m.checkSNATWrite(index, a) }, func() { m.snat[index] = a })
}

func (m *memory) putBackend(id uint32, b lb.BackendEntry) error {
	return m.write("PutBackend", func() { m.checkBackendWrite(id, b) }, func() {
		m.backends[id] = b
		if b.Service != 0 {
			m.lastLive[id] = b
		}
	})
}

func (m *memory) PutTable(offset uint32, backends []uint32) error {
	return m.write("PutTable", func() { m.checkTableWrite(offset, backends) }, func() { copy(m.tables[offset:], backends) })
}

func (m *memory) PutService(key lb.ServiceKey, entry lb.ServiceEntry) error {
	return m.write("PutService", func() { m.checkKey(key) }, func() { m.services[key] = entry; m.look(key) })
}

func (m *memory) DeleteService(key lb.ServiceKey) error {
	return m.write("DeleteService", always, func() { delete(m.services, key); m.look(key) })
}

func (m *memory) PutPolicy(id uint32, p lb.ServicePolicy) error {
	return m.write("PutPolicy", func() { m.inRange("service", id, 1, m.limits.Services) }, func() {
		m.policies[id] = p
		if p == (lb.ServicePolicy{}) { // an array cannot tell it from none
			delete(m.policies, id)
		}
	})
}

func (m *memory) PutTimeouts(number uint8, t lb.Timeouts) error {
	return m.write("PutTimeouts", func() { m.checkTimeoutsWrite(number) }, func() { m.ownTimeouts[number] = t })
}

// PutSourceRules that fails has written some.
func (m *memory) PutSourceRules(number uint32, rules lb.SourceRules) error {
	m.rules[number] = lb.SourceRules{Allow: rules.Allow[:len(rules.Allow)/2], Deny: rules.Deny[:len(rules.Deny)/2]}
	return m.write("PutSourceRules", func() { m.checkRulesWrite(number) }, func() { m.rules[number] = rules })
}

func (m *memory) DeleteSourceRules(number uint32, rules lb.SourceRules) error {
	return m.write("DeleteSourceRules", func() { m.checkRulesWrite(number) }, func() {
		if has := m.rules[number]; len(has.Allow) > len(rules.Allow) || len(has.Deny) > len(rules.Deny) {
			m.violation("not all of the source rules %d are removed", number)
		}
		delete(m.rules, number)
	})
}

func (m *memory) PutAffinityBackend(key lb.BackendKey, id uint32) error {
	return m.write("PutAffinityBackend", always, func() { m.affinity[key] = id })
}

func (m *memory) DeleteAffinityBackend(key lb.BackendKey) error {
	return m.write("DeleteAffinityBackend", always, func() { delete(m.affinity, key) })
}

func (m *memory) PutServiceName(id uint32, name lb.ServiceName) error {
	return m.write("PutServiceName", func() { m.checkServiceNameWrite(id, name) }, func() { m.serviceNames[id] = name })
}

func (m *memory) DeleteServiceName(id uint32) error {
	return m.write("DeleteServiceName", always, func() { delete(m.serviceNames, id) })
}

func (m *memory) putBackendName(id uint32, name lb.BackendName) error {
	return m.write("PutBackendName", func() { m.checkBackendNameWrite(id, name) }, func() { m.backendNames[id] = name })
}

func (m *memory) DeleteBackendName(id uint32) error {
	return m.write("DeleteBackendName", always, func() {
		delete(m.backendNames, id)
		delete(m.health, id)
	})
}

func (m *memory) PutBackendHealth(ids []uint32, health []*lb.Health) (int, error) {
	return each(ids, health, m.putBackendHealth)
}

func (m *memory) putBackendHealth(id uint32, health *lb.Health) error {
	return m.write("PutBackendHealth", func() { m.inRange("health", id, 1, m.limits.Backends) }, func() { m.health[id] = health })
}

func (m *memory) DeleteBackendHealth(id uint32) error {
	return m.write("DeleteBackendHealth", always, func() { delete(m.health, id) })
}

// start is what a daemon does when it begins.
func (m *memory) start() *reconcile.Reconciler {
	m.t.Helper()
	r, err := reconcile.New(m, m.limits)
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// writes returns what was written since the last call.
func (m *memory) writes() []string {
	log := m.log
	m.log = nil
	return log
}
