package reconcile

import (
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// books say who uses which ids and which room. A plan changes them ahead of the
// writes; when it fails, they are made anew from what the tables hold.
type books struct {
	services map[uint32]*service
	byName   map[string]*service
	hopID    map[netip.Addr]uint32
	hopOf    []uint32          // by backend id, as the tables have it; 0: none
	listAt   map[string]uint32 // the first place of a list of source addresses, by listKey

	timeoutsAt map[lb.Timeouts]uint8 // the number of those that services have

	serviceIDs *room[uint32]
	backendIDs *room[uint32]
	hopIDs     *room[uint32] // one user for each backend
	lists      *room[uint32] // one user for each backend
	rules      *room[uint32] // numbers of source rules: one user for each service
	timeouts   *room[uint32] // one user for each backend
	tables     *room[uint8]  // in chunks, one user for each key of a service, before a change and after it: 120 at most
}

// service is what the tables hold of one service.
type service struct {
	id       uint32
	name     string
	keys     []lb.ServiceKey
	near     []lb.NearClient
	affinity []lb.BackendKey
	quic     []lb.QUICServer
	backends []uint32

	wanted   uint64      // the last round of Apply whose config has it
	config   *lb.Service // as last applied; never changed, as others may have it
	complete bool        // config and the next hops of its backends are all in the tables
	unusable []Unusable
	down     bool
}

// minSNATAddresses is the room for source addresses where there are few backends.
const minSNATAddresses = 1024

func newBooks(limits lb.Limits) *books {
	return &books{
		serviceIDs: newIDs("services", "services", limits.Services),
		hopOf:      make([]uint32, limits.Backends+1),
		backendIDs: newIDs("backends", "backends", limits.Backends),
		hopIDs:     newIDs("next hops", "backends", limits.Backends),
		rules:      newIDs("lists of sources", "services", 2*limits.Services), // before and after a change
		timeouts:   newIDs("sets of timeouts", "services", maxTimeouts),
		lists:      newRoom[uint32]("SNAT addresses", "backends", max(minSNATAddresses, limits.Backends)),
		tables:     newRoom[uint8]("chunks of 16 table entries", "table_entries", tableRoom(limits.TableEntries).size),
	}
}

// tableRoom is what a table takes in the array, in chunks.
func tableRoom(entries uint32) stretch {
	return stretch{0, (entries + lb.TableChunk - 1) / lb.TableChunk}
}

func tableStretch(entry lb.ServiceEntry) stretch {
	return stretch{entry.TableOffset / lb.TableChunk, tableRoom(entry.TableSize).size}
}

// maxTimeouts is the last number of timeouts: backends have it in a byte.
const maxTimeouts = 255

func timeoutsStretch(b lb.BackendEntry) stretch {
	return stretch{uint32(b.Timeouts), uint32(min(b.Timeouts, 1))}
}

func listStretch(b lb.BackendEntry) stretch {
	return stretch{b.SNATFirst, uint32(b.SNATCount)}
}

// recall makes the books say what the tables hold. Services that no failed plan
// has touched stay complete.
func (r *Reconciler) recall() {
	b := r.books
	before := b.services
	b.services, b.byName = map[uint32]*service{}, map[string]*service{}
	b.hopID, b.listAt = map[netip.Addr]uint32{}, map[string]uint32{}
	b.timeoutsAt = map[lb.Timeouts]uint8{}
	b.serviceIDs.reset(1)
	b.backendIDs.reset(1)
	b.hopIDs.reset(1)
	b.lists.reset(0)
	b.rules.reset(1)
	b.timeouts.reset(1)
	b.tables.reset(0)

	for id, name := range r.actual.serviceNames {
		s := before[id]
		if s == nil {
			s = &service{}
		}
		s.id, s.name, s.keys, s.near, s.affinity, s.quic, s.backends = id, name.Name, nil, nil, nil, nil, nil
		b.services[id], b.byName[s.name] = s, s
		b.serviceIDs.hold(stretch{id, 1})
	}
	for key, entry := range r.actual.services {
		s := b.service(entry.ID)
		s.keys = append(s.keys, key)
		b.tables.hold(tableStretch(entry))
	}
	for client := range r.actual.nearClients {
		s := b.service(client.Service)
		s.near = append(s.near, client)
	}
	for key := range r.actual.affinity {
		s := b.service(key.Service)
		s.affinity = append(s.affinity, key)
	}
	for number := range r.actual.sourceRules {
		b.rules.hold(stretch{number, 1})
	}
	for server := range r.actual.quicServers {
		s := b.service(server.Service)
		s.quic = append(s.quic, server)
	}
	r.actual.backendNames.all(func(id uint32, name lb.BackendName) {
		s := b.service(name.Service)
		s.backends = append(s.backends, id)
		b.backendIDs.hold(stretch{id, 1})
	})
	clear(b.hopOf)
	r.actual.backends.all(func(id uint32, entry lb.BackendEntry) {
		if entry.Service == 0 {
			return
		}
		b.hopOf[id] = entry.NextHop
		b.hopID[entry.Address.Addr()] = entry.NextHop
		b.hopIDs.hold(stretch{entry.NextHop, 1})
		if entry.Timeouts > 0 {
			b.timeoutsAt[r.actual.timeouts[entry.Timeouts]] = entry.Timeouts
			b.timeouts.hold(timeoutsStretch(entry))
		}
		if entry.SNATCount > 0 {
			b.listAt[listKey(r.sourcesOf(entry))] = entry.SNATFirst
			b.lists.hold(listStretch(entry))
		}
	})
}

// service finds the record of an id. Names are written first and deleted last,
// so only tables that something else has touched lack one.
func (b *books) service(id uint32) *service {
	if b.services[id] == nil {
		b.services[id] = &service{id: id}
		b.serviceIDs.hold(stretch{id, 1})
	}
	return b.services[id]
}
