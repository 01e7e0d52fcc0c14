package reconcile

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// Reconciler makes Tables hold what is desired. It is for one goroutine.
type Reconciler struct {
	tables   Tables
	limits   lb.Limits
	actual   held
	settings settings
	filter   *filter            // nil: not known
	contents map[uint32]content // of the scheduler tables written by this process, by offset
	untidy   bool               // there may be remains: at the start, and after a write failed
	host     *host              // nil: not known

	books   *books
	applied []*service // of the config that the tables hold, in its order; nil: they are behind
	ports   portOwners
	hops    map[netip.Addr]lb.NextHop // as last known
	mtus    mtus
	// healthNews is what the tables do not hold yet.
	healthNews map[lb.CheckedBackend]*lb.Health
	round      uint64 // counts calls of Apply
	seed       uint32 // of the scheduler tables to come
}

// New reads back what the tables hold. The limits are those that the tables
// were made with.
func New(tables Tables, limits lb.Limits) (*Reconciler, error) {
	actual, err := tables.ReadTables()
	if err != nil {
		return nil, fmt.Errorf("read back the tables: %w", err)
	}
	r := &Reconciler{
		tables: tables, limits: limits, actual: newHeld(actual),
		contents: map[uint32]content{},
		untidy:   true,
		books:    newBooks(limits),
		hops:     map[netip.Addr]lb.NextHop{},
		mtus:     mtus{ofHops: map[int]int{}},

		healthNews: map[lb.CheckedBackend]*lb.Health{},
	}
	r.recall()
	r.recallHops()
	return r, nil
}

// recallHops finds out what the tables say about the next hops.
func (r *Reconciler) recallHops() {
	links := map[uint32][]netip.Prefix{} // by service
	for client := range r.actual.nearClients {
		if !client.Prefix.IsSingleIP() {
			links[client.Service] = append(links[client.Service], client.Prefix)
		}
	}
	r.actual.backends.all(func(_ uint32, b lb.BackendEntry) {
		hop, exists := r.actual.nextHops[b.NextHop]
		if b.Service == 0 || !exists {
			return
		}
		address := b.Address.Addr()
		hop.Link = r.hops[address].Link // known from another service with this address
		for _, link := range links[b.Service] {
			shared := r.actual.nearClients[lb.NearClient{Service: b.Service, Prefix: link}]
			if link.Contains(address) && (shared == 0 || shared == uint32(hop.Interface)) &&
				(!hop.Link.IsValid() || link.Bits() > hop.Link.Bits()) {
				hop.Link = link
			}
		}
		r.mtus.exchange(r.hops[address], hop)
		r.hops[address] = hop
	})
}

// SetHost says what addresses the host has, all of them, from the next Apply or Follow on. Until
// it is known which VIPs are among them, what the tables say of that stays.
func (r *Reconciler) SetHost(addresses []netip.Addr) {
	if r.host == nil || !r.host.has(addresses) {
		r.host = newHost(addresses)
	}
}

// Unusable is a backend that takes no new flows, and why.
type Unusable struct {
	Service string
	Backend string
	Problem string
	IsDown  bool // the problem is what its health check has found
}

// Result says what Apply made of the desired state.
type Result struct {
	Unusable []Unusable
	// Down lists the services without any usable backend.
	Down []string
}

// Apply makes the tables hold cfg, with backends reached by hops. An address
// that hops lacks keeps the next hop it has, so that a start stops no traffic
// before the first look-up, and that it is enough to hand over what has changed;
// they are remembered even if Apply fails. ErrNoRoom means that nothing was written. After
// another error the tables hold a state between the old and the new one in
// which every packet is still forwarded rightly; Apply again goes on from there.
func (r *Reconciler) Apply(cfg lb.Config, hops map[netip.Addr]lb.NextHop) (Result, error) {
	p, err := r.plan(cfg, hops)
	return r.carryOut(p, err, settings{
		Settings: lb.Settings{Timeouts: cfg.Timeouts, RateLimits: cfg.RateLimits, Fragments: cfg.Fragments}, answers: cfg.Answers,
	})
}

// Services are those that Apply was given last, if it succeeded; the caller must not
// change them. Who keeps these instead of its own has them in memory once.
func (r *Reconciler) Services() []lb.Service {
	services := make([]lb.Service, len(r.applied))
	for i, s := range r.applied {
		services[i] = *s.config
		s.config = &services[i]
	}
	return services
}

// ErrBehind says that the tables do not hold the last config yet.
var ErrBehind = errors.New("the last config has not been applied")

// Follow is Apply with the config that was applied last. It takes a time that depends
// on the number of backends with other next hops, not on all that there are. After an
// error, which may be ErrBehind, Apply goes on.
func (r *Reconciler) Follow(hops map[netip.Addr]lb.NextHop) (Result, error) {
	if r.applied == nil {
		r.learn(hops)
		return Result{}, ErrBehind
	}
	p, err := r.planHops(hops)
	return r.carryOut(p, err, r.settings)
}

func (r *Reconciler) carryOut(p *plan, err error, settings settings) (Result, error) {
	r.applied = nil
	if err != nil {
		r.recall()
		return Result{}, err
	}
	settings.SmallestMTU = r.mtus.smallest()
	err = r.write(p, settings)
	result := p.result() // after the writes: it looks at every service
	if err != nil {
		r.untidy = true
		r.recall()
		return result, err
	}
	configs := make([]lb.Service, len(p.changes))
	for i, c := range p.changes {
		configs[i] = c.config
		c.service.config, c.service.complete = &configs[i], true
	}
	for _, address := range p.goneHosts {
		r.mtus.exchange(r.hops[address], lb.NextHop{})
		delete(r.hops, address)
	}
	clear(r.healthNews)
	r.untidy, r.applied = false, p.services
	if r.host != nil {
		r.host.isNew = false
	}
	return result, nil
}

func (p *plan) result() Result {
	var result Result
	for _, s := range p.services {
		result.Unusable = append(result.Unusable, s.unusable...)
		if s.down {
			result.Down = append(result.Down, s.name)
		}
	}
	return result
}
