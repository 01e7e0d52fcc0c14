package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"sync"

	"github.com/tinylb/tinylb/internal/lb"
)

// plan is what has to be written. Services that stay as they are have no part in it.
type plan struct {
	r        *Reconciler
	services []*service // of the whole config, in its order
	changes  []*change  // in the order in which they have to be written
	spare    []change   // to be used next
	lists    []list
	timeouts []timeouts             // new ones
	keys     map[lb.ServiceKey]bool // of the changes
	records  []healthRecord         // of services without changes
	moves    bool                   // an address comes or goes that the address filter may have to know
	ends     bool                   // a tunnel's end comes or goes

	goneKeys     []lb.ServiceKey
	goneNear     []lb.NearClient
	goneRules    []uint32
	goneAffinity []lb.BackendKey
	goneQUIC     []lb.QUICServer
	goneBackends []uint32
	goneHops     []uint32
	goneHosts    []netip.Addr // addresses that no backend has any more
	goneServices []uint32
}

// change is the desired content of one service.
type change struct {
	service  *service
	config   lb.Service
	keys     []lb.ServiceKey
	entry    lb.ServiceEntry
	policy   lb.ServicePolicy
	rules    lb.SourceRules // to be written before the policy, which has their number
	timeouts uint8
	content  content // of the table
	// isNewTable: the table has to be built and written before the entry.
	isNewTable bool
	table      []uint32 // backend ids, once it is built
	backends   []plannedBackend
	near       map[netip.Prefix]uint32 // as in lb.Tables.NearClients
	affinity   map[lb.BackendKey]uint32
	quic       map[lb.QUICServer]uint32
}

type plannedBackend struct {
	id      uint32
	name    lb.BackendName
	entry   lb.BackendEntry
	hop     lb.NextHop
	health  *lb.Health // nil: it is not checked, or not yet
	problem string     // why it takes no new flow; "" when it may
	isDown  bool       // that is the problem
}

// list is a new list of source addresses.
type list struct {
	first     uint32
	addresses []netip.Addr
}

// plan finds out what to write. It changes the books, whether it succeeds or not.
func (r *Reconciler) plan(cfg lb.Config, hops map[netip.Addr]lb.NextHop) (*plan, error) {
	rangesChanged := r.ports.learn(cfg.Services)
	p := &plan{r: r, services: r.match(cfg.Services), keys: map[lb.ServiceKey]bool{}}
	r.learn(hops)
	r.compare(p.services, cfg.Services, rangesChanged)
	if r.seed != cfg.Seed {
		r.seed = cfg.Seed
		for _, s := range p.services {
			if s != nil {
				s.complete = false
			}
		}
	}
	p.noteHealth()
	var due []int
	for i, s := range p.services {
		if s == nil || !s.complete {
			due = append(due, i)
		}
	}
	// A port that is in several ranges must at no time lead to one that is neither
	// the smallest that it was in nor the smallest that it will be in.
	slices.SortStableFunc(due, func(a, b int) int {
		return cmp.Compare(cfg.Services[a].Address.Ports.Size(), cfg.Services[b].Address.Ports.Size())
	})
	for _, i := range due {
		if p.services[i] == nil {
			var err error
			if p.services[i], err = r.newService(cfg.Services[i].Name); err != nil {
				return nil, err
			}
		}
		if err := p.planService(p.services[i], cfg.Services[i]); err != nil {
			return nil, fmt.Errorf("service %s: %w", cfg.Services[i].Name, err)
		}
	}
	p.planRemovals()
	return p, p.checkKeys()
}

// planHops is plan for the config as it is.
func (r *Reconciler) planHops(hops map[netip.Addr]lb.NextHop) (*plan, error) {
	p := &plan{r: r, services: r.applied, keys: map[lb.ServiceKey]bool{}}
	for _, s := range append(r.learn(hops), p.noteHealth()...) {
		if err := p.planService(s, *s.config); err != nil {
			return nil, fmt.Errorf("service %s: %w", s.name, err)
		}
	}
	p.planRemovals()
	return p, nil
}

// match finds each service by its name or, after it was renamed, by its VIP;
// nil where it is new.
func (r *Reconciler) match(services []lb.Service) []*service {
	r.round++
	matched := make([]*service, len(services))
	claim := func(i int, s *service) {
		if s != nil && s.wanted != r.round {
			matched[i], s.wanted = s, r.round
		}
	}
	for i := range services {
		if i < len(r.applied) && r.applied[i].name == services[i].Name {
			claim(i, r.applied[i]) // most stay where they are
		} else {
			claim(i, r.books.byName[services[i].Name])
		}
	}
	for i := range services {
		if matched[i] != nil {
			continue
		}
		for _, key := range r.ports.keysOf(&services[i]) {
			entry, exists := r.actual.services[key]
			// a block may be part of several ranges
			if exists && matched[i] == nil && (key.Block == 0 || r.actual.serviceNames[entry.ID].Address == services[i].Address) {
				claim(i, r.books.services[entry.ID])
			}
		}
	}
	return matched
}

// compare marks the services that are not what the config says as incomplete. It
// reads all that there is of both, which takes longer than all else that a small change of
// a large config needs: so every processor takes a part.
func (r *Reconciler) compare(services []*service, config []lb.Service, rangesChanged bool) {
	const fewest = 256 // are compared in the time that it takes to start a goroutine
	var parts sync.WaitGroup
	size := max(fewest, (len(services)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	for begin := 0; begin < len(services); begin += size {
		end := min(begin+size, len(services))
		parts.Go(func() {
			for i := begin; i < end; i++ {
				if s := services[i]; s != nil && s.complete &&
					(!sameService(s.config, &config[i]) || rangesChanged && !r.hasKeys(s, &config[i])) {
					s.complete = false
				}
			}
		})
	}
	parts.Wait()
}

// hasKeys reports whether the tables have exactly a service's keys for it.
func (r *Reconciler) hasKeys(s *service, config *lb.Service) bool {
	if config.Address.IsOnePort() {
		return true
	}
	keys := r.ports.keysOf(config)
	return len(keys) == len(s.keys) &&
		!slices.ContainsFunc(keys, func(key lb.ServiceKey) bool { return r.actual.services[key].ID != s.id })
}

// learn remembers the next hops, marks the services with backends where they have
// changed as incomplete, and returns them.
func (r *Reconciler) learn(hops map[netip.Addr]lb.NextHop) (touched []*service) {
	changed := make([]bool, len(r.books.hopIDs.users))
	some := false
	for address, hop := range hops {
		if known, ok := r.hops[address]; ok && known == hop {
			continue
		}
		r.mtus.exchange(r.hops[address], hop)
		r.hops[address] = hop
		if id, used := r.books.hopID[address]; used {
			changed[id], some = true, true
		}
	}
	if !some {
		return nil
	}
	for id, hop := range r.books.hopOf {
		if !changed[hop] {
			continue
		}
		if s := r.books.services[r.actual.backends.at(uint32(id)).Service]; s != nil && s.complete {
			s.complete = false
			touched = append(touched, s)
		}
	}
	return touched
}

func sameService(a, b *lb.Service) bool {
	return a.Name == b.Name && a.Address == b.Address && slices.Equal(a.Protocols, b.Protocols) &&
		a.Forward == b.Forward && a.Scheduler == b.Scheduler && a.TableSize == b.TableSize && a.Silent == b.Silent && a.MSS == b.MSS &&
		slices.Equal(a.Allow, b.Allow) && slices.Equal(a.Deny, b.Deny) &&
		a.MaxFlows == b.MaxFlows && a.NewFlowsPerSecond == b.NewFlowsPerSecond && a.PerClient == b.PerClient &&
		a.Affinity == b.Affinity && a.Timeouts == b.Timeouts && a.QUIC == b.QUIC && maps.Equal(a.ServerIDs, b.ServerIDs) &&
		slices.Equal(a.SNAT.Addresses, b.SNAT.Addresses) && a.SNAT.Ports == b.SNAT.Ports &&
		slices.Equal(a.Tunnel.Sources, b.Tunnel.Sources) && a.Tunnel.Port == b.Tunnel.Port &&
		slices.Equal(a.Backends, b.Backends) && lb.SameCheck(a.Check, b.Check)
}

func (r *Reconciler) newService(name string) (*service, error) {
	id, err := r.books.serviceIDs.take(1)
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", name, err)
	}
	s := &service{id: id, name: name, wanted: r.round}
	r.books.services[id] = s
	return s, nil
}

func (p *plan) planService(s *service, config lb.Service) error {
	books := p.r.books
	if books.byName[s.name] == s {
		delete(books.byName, s.name) // another service may have it now
	}
	s.name = config.Name
	books.byName[s.name] = s
	// the caller may change what it handed over
	config.Backends = slices.Clone(config.Backends)
	config.Protocols = slices.Clone(config.Protocols)
	config.ServerIDs = maps.Clone(config.ServerIDs)
	config.SNAT.Addresses = slices.Clone(config.SNAT.Addresses)
	config.Tunnel.Sources = slices.Clone(config.Tunnel.Sources)
	config.Allow, config.Deny = slices.Clone(config.Allow), slices.Clone(config.Deny)
	if config.Check != nil {
		check := *config.Check
		config.Check = &check
	}
	c := p.newChange()
	c.service, c.config, c.keys = s, config, p.r.ports.keysOf(&config)
	if err := p.planPolicy(c); err != nil {
		return err
	}
	if err := p.planBackends(c); err != nil {
		return err
	}
	p.ends = p.ends || p.endsMove(c)
	p.planNear(c)
	p.planAffinity(c)
	p.planQUIC(c)
	return p.planTable(c)
}

// newChange takes one from an array of many: alone they would leave holes between the
// services, which stay.
func (p *plan) newChange() *change {
	const together = 64
	if len(p.spare) == 0 {
		p.spare = make([]change, min(together, len(p.services)))
	}
	c := &p.spare[0]
	p.spare = p.spare[1:]
	p.changes = append(p.changes, c)
	return c
}

func (p *plan) planRemovals() {
	r, books := p.r, p.r.books
	for _, c := range p.changes {
		p.removeKeys(c.service.keys)
		c.service.keys = c.keys
	}
	if len(books.services) > len(p.services) {
		for _, s := range books.services {
			if s.wanted != r.round {
				p.removeService(s)
			}
		}
	}
	// A port that is in several ranges leads to the smallest until all others are as they will be.
	slices.SortStableFunc(p.goneKeys, func(a, b lb.ServiceKey) int { return cmp.Compare(b.Block, a.Block) })
	books.serviceIDs.settle(func(stretch) {})
	books.backendIDs.settle(func(stretch) {})
	books.tables.settle(r.forgetTable)
	books.lists.settle(func(s stretch) {
		key := listKey(r.sourcesOf(lb.BackendEntry{SNATFirst: s.first, SNATCount: uint16(s.size)}))
		if books.listAt[key] == s.first {
			delete(books.listAt, key)
		}
	})
	books.hopIDs.settle(func(stretch) {})
	books.rules.settle(func(stretch) {})
	books.timeouts.settle(func(s stretch) { delete(books.timeoutsAt, r.actual.timeouts[uint8(s.first)]) })
	for _, id := range p.goneBackends {
		address := r.actual.backendNames.at(id).Address.Addr()
		if hop, known := books.hopID[address]; known && !books.hopIDs.used(hop) {
			delete(books.hopID, address)
			p.goneHops = append(p.goneHops, hop)
			p.goneHosts = append(p.goneHosts, address)
		}
	}
}

func (p *plan) removeKeys(keys []lb.ServiceKey) {
	for _, key := range keys {
		if !p.keys[key] {
			p.goneKeys = append(p.goneKeys, key)
			p.moves = true
			p.r.books.tables.release(tableStretch(p.r.actual.services[key]))
		}
	}
}

func (p *plan) removeBackend(id uint32) {
	p.goneBackends = append(p.goneBackends, id)
	_, hadEnd := endOf(p.r.actual.backends.at(id), p.r.forwardOf(p.r.books.services[p.r.actual.backends.at(id).Service]))
	p.ends = p.ends || hadEnd
	p.release(p.r.actual.backends.at(id))
	p.r.books.backendIDs.release(stretch{id, 1})
}

func (p *plan) removeService(s *service) {
	books := p.r.books
	p.removeKeys(s.keys)
	p.goneNear = append(p.goneNear, s.near...)
	p.goneAffinity = append(p.goneAffinity, s.affinity...)
	p.dropRules(p.r.actual.policies[s.id].SourceRules)
	p.goneQUIC = append(p.goneQUIC, s.quic...)
	p.moves = p.moves || len(s.near) > 0
	for _, id := range s.backends {
		p.removeBackend(id)
	}
	p.goneServices = append(p.goneServices, s.id)
	books.serviceIDs.release(stretch{s.id, 1})
	delete(books.services, s.id)
	if books.byName[s.name] == s {
		delete(books.byName, s.name)
	}
}

// blocksOfService is how many blocks the data plane has room for, for each service:
// what two protocols need at worst.
const blocksOfService = 64

// checkKeys sees to it that the service entries to come have room beside those
// that go after them. Single ports and blocks of them have a room each.
func (p *plan) checkKeys() error {
	var ports, blocks int
	count := func(key lb.ServiceKey, by int) {
		if key.Block == 0 {
			ports += by
		} else {
			blocks += by
		}
	}
	for key := range p.keys {
		if _, exists := p.r.actual.services[key]; !exists {
			count(key, 1)
		}
	}
	if ports == 0 && blocks == 0 {
		return nil
	}
	addedPorts, addedBlocks := ports, blocks
	for key := range p.r.actual.services {
		count(key, 1)
	}
	limit := int(p.r.limits.Services)
	if addedPorts > 0 && ports > 2*limit {
		return fmt.Errorf("%w for %d new VIPs beside those they replace: raise limits.services and restart", ErrNoRoom, addedPorts)
	}
	if addedBlocks > 0 && blocks > blocksOfService*limit {
		return fmt.Errorf("%w for %d new blocks of ports beside those they replace: raise limits.services and restart", ErrNoRoom, addedBlocks)
	}
	return nil
}
