package reconcile

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
)

// Reconciler makes Tables hold what is desired. It is for one goroutine.
type Reconciler struct {
	tables Tables
	limits lb.Limits
	// actual is what the tables hold: read back at the start, then kept in
	// step with every write that succeeded.
	actual      lb.Tables
	timeouts    lb.Timeouts
	filter      []netip.Addr
	fingerprint map[uint32]string // of each service's scheduler table, by service id
	serviceIDs  *ids
	backendIDs  *ids
	hopIDs      *ids
}

// New reads back what the tables hold.
func New(tables Tables, limits lb.Limits) (*Reconciler, error) {
	actual, err := tables.ReadTables()
	if err != nil {
		return nil, fmt.Errorf("read back the tables: %w", err)
	}
	return &Reconciler{
		tables: tables, limits: limits, actual: actual,
		fingerprint: map[uint32]string{},
		serviceIDs:  newIDs("service", limits.Services),
		backendIDs:  newIDs("backend", limits.Backends),
		hopIDs:      newIDs("backend", limits.Backends),
	}, nil
}

// Unusable is a backend that takes no new flows, and why.
type Unusable struct {
	Service string
	Backend string
	Problem string
}

// Result says what Apply made of the desired state.
type Result struct {
	Unusable []Unusable
	// Down lists the services without any usable backend.
	Down []string
}

// Apply makes the tables hold cfg, with backends reached by hops. After an
// error the tables hold a state between the old and the new one in which every
// packet is still forwarded rightly; Apply again goes on from there.
func (r *Reconciler) Apply(cfg lb.Config, hops map[netip.Addr]lb.NextHop) (Result, error) {
	p, err := r.plan(cfg, hops)
	if err != nil {
		return Result{}, err
	}
	return p.result, firstError(
		func() error { return r.add(p) },
		func() error { return r.remove(p) },
	)
}

// add writes everything new, the service entries last: each is the switch.
func (r *Reconciler) add(p *plan) error {
	return firstError(
		func() error { return r.setTimeouts(p.timeouts) },
		func() error { return r.setFilter(append(slices.Clone(r.filter), p.filter...)) },
		func() error {
			return putChanged(r.actual.ServiceNames, p.serviceNames, sameServiceName, r.tables.PutServiceName)
		},
		func() error { return putChanged(r.actual.BackendNames, p.backendNames, same, r.tables.PutBackendName) },
		func() error { return putChanged(r.actual.NextHops, p.hops, sameHop, r.tables.PutNextHop) },
		func() error { return putChanged(r.actual.SNATAddresses, p.snat, same, r.tables.PutSNATAddress) },
		func() error { return putChanged(r.actual.Backends, p.backends, same, r.tables.PutBackend) },
		func() error { return r.switchTables(p) },
	)
}

func (r *Reconciler) setTimeouts(timeouts lb.Timeouts) error {
	if r.timeouts == timeouts {
		return nil
	}
	if err := r.tables.SetTimeouts(timeouts); err != nil {
		return err
	}
	r.timeouts = timeouts
	return nil
}

// switchTables writes the new scheduler tables beside the old ones, and then
// the service entries that point to them.
func (r *Reconciler) switchTables(p *plan) error {
	for _, t := range p.tables {
		if err := r.tables.PutTable(t.offset, t.backends); err != nil {
			return err
		}
		delete(r.fingerprint, t.service) // unknown until the service has been switched
	}
	if err := putChanged(r.actual.Services, p.services, same, r.tables.PutService); err != nil {
		return err
	}
	maps.Copy(r.fingerprint, p.fingerprint)
	return nil
}

// remove takes away what is no longer wanted, in the reverse order.
func (r *Reconciler) remove(p *plan) error {
	return firstError(
		func() error { return r.removeServices(p) },
		func() error { return r.removeBackends(p) },
		func() error { return r.clearHops(p) },
		func() error { return r.setFilter(p.filter) },
	)
}

func (r *Reconciler) removeServices(p *plan) error {
	for key := range r.actual.Services {
		if _, wanted := p.services[key]; wanted {
			continue
		}
		if err := r.tables.DeleteService(key); err != nil {
			return err
		}
		delete(r.actual.Services, key)
	}
	for id := range r.actual.ServiceNames {
		if _, wanted := p.serviceNames[id]; wanted {
			continue
		}
		if err := r.tables.DeleteServiceName(id); err != nil {
			return err
		}
		delete(r.actual.ServiceNames, id)
		delete(r.fingerprint, id)
	}
	return nil
}

func (r *Reconciler) removeBackends(p *plan) error {
	for id, b := range r.actual.Backends {
		if _, wanted := p.backends[id]; wanted || b.SNATCount == 0 {
			continue
		}
		// the next one under this id has another generation: flows to this one are not its own
		empty := lb.BackendEntry{Generation: b.Generation + 1}
		if err := r.tables.PutBackend(id, empty); err != nil {
			return err
		}
		r.actual.Backends[id] = empty
	}
	for id := range r.actual.BackendNames {
		if _, wanted := p.backendNames[id]; wanted {
			continue
		}
		if err := r.tables.DeleteBackendName(id); err != nil {
			return err
		}
		delete(r.actual.BackendNames, id)
	}
	return nil
}

func (r *Reconciler) clearHops(p *plan) error {
	for id := range r.actual.NextHops {
		if _, wanted := p.hops[id]; wanted {
			continue
		}
		if err := r.tables.PutNextHop(id, lb.NextHop{Problem: "unused"}); err != nil {
			return err
		}
		delete(r.actual.NextHops, id)
	}
	return nil
}

func (r *Reconciler) setFilter(addrs []netip.Addr) error {
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	if r.filter != nil && slices.Equal(addrs, r.filter) {
		return nil
	}
	if err := r.tables.SetAddressFilter(addrs); err != nil {
		return err
	}
	r.filter = addrs
	return nil
}

// putChanged writes each wanted entry that differs, and notes it in actual.
func putChanged[K comparable, V any](actual, wanted map[K]V, equal func(a, b V) bool, put func(K, V) error) error {
	for key, value := range wanted {
		if old, ok := actual[key]; ok && equal(old, value) {
			continue
		}
		if err := put(key, value); err != nil {
			return err
		}
		actual[key] = value
	}
	return nil
}

func same[V comparable](a, b V) bool { return a == b }

func sameServiceName(a, b lb.ServiceName) bool {
	return a.Name == b.Name && a.Address == b.Address && slices.Equal(a.Protocols, b.Protocols)
}

// sameHop compares what a packet sees of a next hop.
func sameHop(a, b lb.NextHop) bool {
	if !a.Usable() || !b.Usable() {
		return a.Usable() == b.Usable()
	}
	return a.Interface == b.Interface && a.MAC == b.MAC && a.SourceMAC == b.SourceMAC
}

func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
