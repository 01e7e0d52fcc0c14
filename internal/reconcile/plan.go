package reconcile

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/maglev"
)

// maglevSeed is the same on every node, so that all give the same answer.
const maglevSeed = 0

// plan is the desired content of every table.
type plan struct {
	timeouts     lb.Timeouts
	filter       []netip.Addr
	services     map[lb.ServiceKey]lb.ServiceEntry
	serviceNames map[uint32]lb.ServiceName
	backends     map[uint32]lb.BackendEntry
	backendNames map[uint32]lb.BackendName
	hops         map[uint32]lb.NextHop
	snat         map[uint32]lb.SNATAddress
	tables       []table
	fingerprint  map[uint32]string
	result       Result
}

// table is a scheduler table to be written.
type table struct {
	service  uint32
	offset   uint32
	backends []uint32 // ids
}

// planner holds what is known while a plan is made.
type planner struct {
	*plan
	r          *Reconciler
	nextHops   map[netip.Addr]lb.NextHop
	vips       map[netip.Addr]bool
	serviceID  map[string]uint32
	backendID  map[backendKey]uint32
	hopID      map[netip.Addr]uint32
	current    map[uint32]lb.ServiceEntry // by service id
	lists      map[string]uint32          // first index of each SNAT list, by content
	listSpans  *spans
	tableSpans *spans
}

type backendKey struct {
	service uint32
	address netip.AddrPort
}

func (r *Reconciler) plan(cfg lb.Config, hops map[netip.Addr]lb.NextHop) (*plan, error) {
	p := newPlanner(r, cfg, hops)
	for _, s := range cfg.Services {
		if err := p.planService(s); err != nil {
			return nil, fmt.Errorf("service %s: %w", s.Name, err)
		}
	}
	for vip := range p.vips {
		p.filter = append(p.filter, vip)
	}
	for _, a := range p.snat {
		p.filter = append(p.filter, a.Address)
	}
	return p.plan, nil
}

func newPlanner(r *Reconciler, cfg lb.Config, hops map[netip.Addr]lb.NextHop) *planner {
	p := &planner{
		plan: &plan{
			timeouts:     cfg.Timeouts,
			services:     map[lb.ServiceKey]lb.ServiceEntry{},
			serviceNames: map[uint32]lb.ServiceName{},
			backends:     map[uint32]lb.BackendEntry{},
			backendNames: map[uint32]lb.BackendName{},
			hops:         map[uint32]lb.NextHop{},
			snat:         map[uint32]lb.SNATAddress{},
			fingerprint:  map[uint32]string{},
		},
		r: r, nextHops: hops,
		vips:      map[netip.Addr]bool{},
		serviceID: map[string]uint32{},
		backendID: map[backendKey]uint32{},
		hopID:     map[netip.Addr]uint32{},
		current:   map[uint32]lb.ServiceEntry{},
		lists:     map[string]uint32{},
	}
	for _, s := range cfg.Services {
		p.vips[s.Address.Addr()] = true
	}
	p.recall()
	return p
}

// recall finds the ids and the room that the tables use now.
func (p *planner) recall() {
	var tables, lists []span
	services, backends, hops := map[uint32]bool{}, map[uint32]bool{}, map[uint32]bool{}
	for id, name := range p.r.actual.ServiceNames {
		p.serviceID[name.Name] = id
		services[id] = true
	}
	for id, name := range p.r.actual.BackendNames {
		p.backendID[backendKey{name.Service, name.Address}] = id
		backends[id] = true
	}
	for id := range p.r.actual.NextHops {
		hops[id] = true
	}
	for _, entry := range p.r.actual.Services {
		services[entry.ID] = true
		p.current[entry.ID] = entry
		tables = append(tables, span{entry.TableOffset, chunks(entry.TableSize)})
	}
	for id, b := range p.r.actual.Backends {
		if b.SNATCount == 0 {
			continue
		}
		backends[id] = true
		p.hopID[b.Address.Addr()] = b.NextHop
		lists = append(lists, span{b.SNATFirst, uint32(b.SNATCount)})
		p.lists[listKey(p.listAt(b.SNATFirst, b.SNATCount))] = b.SNATFirst
	}
	p.r.serviceIDs.recall(services)
	p.r.backendIDs.recall(backends)
	p.r.hopIDs.recall(hops)
	p.tableSpans = newSpans("table entries (limits.table_entries)", p.r.limits.TableEntries, tables)
	p.listSpans = newSpans("SNAT addresses", max(1024, p.r.limits.Backends), lists)
}

// chunks rounds a table's size up to what it takes in the array.
func chunks(size uint32) uint32 {
	return (size + lb.TableChunk - 1) / lb.TableChunk * lb.TableChunk
}

func (p *planner) planService(s lb.Service) error {
	id, known := p.serviceID[s.Name]
	if !known {
		var err error
		if id, err = p.r.serviceIDs.take(); err != nil {
			return err
		}
		p.serviceID[s.Name] = id
	}
	p.serviceNames[id] = lb.ServiceName{Name: s.Name, Address: s.Address, Protocols: s.Protocols}
	candidates, err := p.planBackends(s, id)
	if err != nil {
		return err
	}
	entry, err := p.planTable(s, id, candidates)
	if err != nil {
		return err
	}
	for _, protocol := range s.Protocols {
		p.services[lb.ServiceKey{Address: s.Address, Protocol: protocol}] = entry
	}
	return nil
}

// candidate is a backend that may take new flows.
type candidate struct {
	id      uint32
	backend lb.Backend
}

func (p *planner) planBackends(s lb.Service, service uint32) ([]candidate, error) {
	var candidates []candidate
	for _, b := range s.Backends {
		id, hop, err := p.planBackend(s, service, b)
		if err != nil {
			return nil, err
		}
		if !hop.Usable() {
			p.result.Unusable = append(p.result.Unusable, Unusable{s.Name, b.Label(), hop.Problem})
		} else if b.Weight > 0 {
			candidates = append(candidates, candidate{id, b})
		}
	}
	if len(candidates) == 0 {
		p.result.Down = append(p.result.Down, s.Name)
	}
	return candidates, nil
}

func (p *planner) planBackend(s lb.Service, service uint32, b lb.Backend) (uint32, lb.NextHop, error) {
	hop, resolved := p.nextHops[b.Address.Addr()]
	if !resolved {
		hop.Problem = "next hop not looked up yet"
	}
	id, known := p.backendID[backendKey{service, b.Address}]
	if !known {
		var err error
		if id, err = p.r.backendIDs.take(); err != nil {
			return 0, hop, err
		}
	}
	p.backendNames[id] = lb.BackendName{Name: b.Name, Address: b.Address, Service: service, Weight: b.Weight}
	old := p.r.actual.Backends[id]
	entry := lb.BackendEntry{
		Address: b.Address, Service: service, Generation: old.Generation, SNATPorts: s.SNAT.Ports,
		SNATFirst: old.SNATFirst, SNATCount: old.SNATCount,
	}
	sources := p.sources(s, hop)
	switch {
	case len(sources) > 0:
		first, err := p.planList(sources)
		if err != nil {
			return 0, hop, err
		}
		entry.SNATFirst, entry.SNATCount = first, uint16(len(sources))
	case entry.SNATCount == 0:
		return id, hop, nil // never reached yet: nothing to write
	default:
		p.keepList(entry.SNATFirst, entry.SNATCount)
	}
	hopID, err := p.planHop(b.Address.Addr(), hop)
	if err != nil {
		return 0, hop, err
	}
	entry.NextHop = hopID
	p.backends[id] = entry
	return id, hop, nil
}

// sources are the addresses that stand for clients toward one backend.
func (p *planner) sources(s lb.Service, hop lb.NextHop) []lb.SNATAddress {
	addresses := s.SNAT.Addresses
	if len(addresses) == 0 && hop.Usable() && hop.Source.IsValid() {
		addresses = []netip.Addr{hop.Source}
	}
	var list []lb.SNATAddress
	for _, a := range addresses {
		list = append(list, lb.SNATAddress{Address: a, IsVIP: p.vips[a]})
	}
	return list
}

func (p *planner) planHop(address netip.Addr, hop lb.NextHop) (uint32, error) {
	id, known := p.hopID[address]
	if !known {
		var err error
		if id, err = p.r.hopIDs.take(); err != nil {
			return 0, err
		}
		p.hopID[address] = id
	}
	p.hops[id] = hop
	return id, nil
}

func listKey(list []lb.SNATAddress) string { return fmt.Sprint(list) }

func (p *planner) listAt(first uint32, count uint16) []lb.SNATAddress {
	var list []lb.SNATAddress
	for i := range uint32(count) {
		list = append(list, p.r.actual.SNATAddresses[first+i])
	}
	return list
}

// planList finds a list with this content, or room for it.
func (p *planner) planList(list []lb.SNATAddress) (uint32, error) {
	first, known := p.lists[listKey(list)]
	if !known {
		var err error
		if first, err = p.listSpans.take(uint32(len(list))); err != nil {
			return 0, err
		}
		p.lists[listKey(list)] = first
	}
	for i, a := range list {
		p.snat[first+uint32(i)] = a
	}
	return first, nil
}

// keepList keeps the list of a backend that cannot be reached now.
func (p *planner) keepList(first uint32, count uint16) {
	for i, a := range p.listAt(first, count) {
		p.snat[first+uint32(i)] = a
	}
}

// planTable reuses the service's table or plans a new one beside it.
func (p *planner) planTable(s lb.Service, id uint32, candidates []candidate) (lb.ServiceEntry, error) {
	entry := lb.ServiceEntry{ID: id, Random: s.Scheduler == lb.Random}
	if len(candidates) == 0 {
		p.fingerprint[id] = ""
		return entry, nil
	}
	var print strings.Builder
	fmt.Fprint(&print, s.TableSize)
	entries := make([]maglev.Entry, len(candidates))
	for i, c := range candidates {
		fmt.Fprintf(&print, " %d*%d", c.id, c.backend.Weight)
		entries[i] = maglev.Entry{Key: c.backend.Address.String(), Weight: c.backend.Weight}
	}
	p.fingerprint[id] = print.String()
	current, exists := p.current[id]
	if exists && p.r.fingerprint[id] == print.String() {
		entry.TableOffset, entry.TableSize = current.TableOffset, current.TableSize
		return entry, nil
	}
	offset, err := p.tableSpans.take(chunks(s.TableSize))
	if err != nil {
		return entry, err
	}
	slots, err := maglev.Build(entries, s.TableSize, maglevSeed)
	if err != nil {
		return entry, fmt.Errorf("build the maglev table: %w", err)
	}
	backends := make([]uint32, len(slots))
	for i, slot := range slots {
		backends[i] = candidates[slot].id
	}
	p.tables = append(p.tables, table{id, offset, backends})
	entry.TableOffset, entry.TableSize = offset, s.TableSize
	return entry, nil
}
