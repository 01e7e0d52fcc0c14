package reconcile

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
)

// settings is what SetSettings is told.
type settings struct {
	timeouts lb.Timeouts
	limits   lb.RateLimits
}

// filter is what SetAddressFilter is told: each list sorted, without duplicates.
type filter struct {
	destinations, sources []netip.Addr
}

// write carries out a plan: first everything new, of each service its entries
// last, as they are the switch; then the removals, in the reverse order.
func (r *Reconciler) write(p *plan, settings settings) error {
	if err := r.setSettings(settings); err != nil {
		return err
	}
	addressesDue := p.moves || r.untidy
	if addressesDue {
		if err := r.setAddresses(p); err != nil {
			return err
		}
	}
	// before any next hop, which services may have in common
	for _, c := range p.changes {
		if err := r.anticipate(c); err != nil {
			return fmt.Errorf("service %s: %w", c.config.Name, err)
		}
	}
	for _, c := range p.changes {
		if err := r.writeService(c); err != nil {
			return fmt.Errorf("service %s: %w", c.config.Name, err)
		}
	}
	if err := r.remove(p); err != nil {
		return err
	}
	if addressesDue {
		return r.setAddresses(&plan{})
	}
	return nil
}

func (r *Reconciler) setSettings(wanted settings) error {
	if r.settings == wanted {
		return nil
	}
	if err := r.tables.SetSettings(wanted.timeouts, wanted.limits); err != nil {
		return err
	}
	r.settings = wanted
	return nil
}

// setAddresses makes the address filter and the lists of source addresses fit
// the services that are there and what a plan is about to add. Source addresses
// that no backend uses any more stay in the filter: flows may still use them.
func (r *Reconciler) setAddresses(p *plan) error {
	vips := map[netip.Addr]bool{} // true: it has a service on a single port
	for key := range r.actual.Services {
		vips[key.Address.Addr()] = vips[key.Address.Addr()] || key.Block == 0
	}
	for key := range p.keys {
		vips[key.Address.Addr()] = vips[key.Address.Addr()] || key.Block == 0
	}
	snat := map[uint32]lb.SNATAddress{}
	for index, a := range r.actual.SNATAddresses {
		snat[index] = lb.SNATAddress{Address: a.Address, IsVIP: vips[a.Address]}
	}
	for _, list := range p.lists {
		for i, address := range list.addresses {
			snat[list.first+uint32(i)] = lb.SNATAddress{Address: address, IsVIP: vips[address]}
		}
	}
	wanted := filter{sources: r.dnatBackends(p.changes)}
	for vip := range vips {
		wanted.destinations = append(wanted.destinations, vip)
	}
	for _, a := range snat {
		wanted.destinations = append(wanted.destinations, a.Address)
	}
	if err := r.setFilter(wanted); err != nil {
		return err
	}
	for index, a := range snat {
		if err := put(r.actual.SNATAddresses, index, a, same, r.tables.PutSNATAddress); err != nil {
			return err
		}
	}
	return nil
}

// dnatBackends are the addresses whose packets may be answers with the backend's
// own source: each is a near client of its service.
func (r *Reconciler) dnatBackends(changes []*change) []netip.Addr {
	var addresses []netip.Addr
	for client := range r.actual.NearClients {
		if client.Prefix.IsSingleIP() {
			addresses = append(addresses, client.Prefix.Addr())
		}
	}
	for _, c := range changes {
		for prefix := range c.near {
			if prefix.IsSingleIP() {
				addresses = append(addresses, prefix.Addr())
			}
		}
	}
	return addresses
}

func (r *Reconciler) setFilter(wanted filter) error {
	wanted = filter{sortedOnce(wanted.destinations), sortedOnce(wanted.sources)}
	if r.filter != nil && slices.Equal(wanted.destinations, r.filter.destinations) && slices.Equal(wanted.sources, r.filter.sources) {
		return nil
	}
	if err := r.tables.SetAddressFilter(wanted.destinations, wanted.sources); err != nil {
		return err
	}
	r.filter = &wanted
	return nil
}

func sortedOnce(addresses []netip.Addr) []netip.Addr {
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses)
}

// anticipate writes a service's name and adds the near clients to come to those that
// are there.
func (r *Reconciler) anticipate(c *change) error {
	name := lb.ServiceName{Name: c.config.Name, Address: c.config.Address, Protocols: c.config.Protocols}
	if err := put(r.actual.ServiceNames, c.service.id, name, sameServiceName, r.tables.PutServiceName); err != nil {
		return err
	}
	return r.anticipateNear(c)
}

func (r *Reconciler) writeService(c *change) error {
	for _, b := range c.backends {
		if err := r.writeBackend(b); err != nil {
			return err
		}
	}
	if c.table != nil {
		if err := r.tables.PutTable(c.entry.TableOffset, c.table); err != nil {
			return err
		}
		r.contents[c.entry.TableOffset] = c.content
	}
	for _, key := range c.keys {
		if err := put(r.actual.Services, key, c.entry, same, r.tables.PutService); err != nil {
			return err
		}
	}
	return r.settleNear(c)
}

func (r *Reconciler) writeBackend(b plannedBackend) error {
	if err := put(r.actual.BackendNames, b.id, b.name, same, r.tables.PutBackendName); err != nil {
		return err
	}
	if err := put(r.actual.NextHops, b.entry.NextHop, b.hop, sameHop, r.tables.PutNextHop); err != nil {
		return err
	}
	return put(r.actual.Backends, b.id, b.entry, same, r.tables.PutBackend)
}

func (r *Reconciler) remove(p *plan) error {
	for _, key := range p.goneKeys {
		if err := drop(r.actual.Services, key, r.tables.DeleteService); err != nil {
			return err
		}
	}
	if err := r.dropNear(p.goneNear); err != nil {
		return err
	}
	for _, id := range p.goneBackends {
		if err := r.removeBackend(id); err != nil {
			return err
		}
	}
	// last, so that whatever has a service's id finds its name
	for _, id := range p.goneServices {
		if err := drop(r.actual.ServiceNames, id, r.tables.DeleteServiceName); err != nil {
			return err
		}
	}
	if len(p.goneBackends) == 0 && !r.untidy {
		return nil
	}
	return r.clearHops()
}

func (r *Reconciler) removeBackend(id uint32) error {
	if b := r.actual.Backends[id]; b.Service != 0 {
		// the next one under this id has another generation: flows to this one are not its own
		empty := lb.BackendEntry{Generation: b.Generation + 1}
		if err := put(r.actual.Backends, id, empty, same, r.tables.PutBackend); err != nil {
			return err
		}
	}
	return drop(r.actual.BackendNames, id, r.tables.DeleteBackendName)
}

func (r *Reconciler) clearHops() error {
	for id := range r.actual.NextHops {
		if r.books.hopIDs.used(id) {
			continue
		}
		if err := r.tables.PutNextHop(id, lb.NextHop{Problem: "unused"}); err != nil {
			return err
		}
		delete(r.actual.NextHops, id)
	}
	return nil
}

// put writes an entry if it differs, and notes it.
func put[K comparable, V any](held map[K]V, key K, value V, equal func(a, b V) bool, write func(K, V) error) error {
	if old, exists := held[key]; exists && equal(old, value) {
		return nil
	}
	if err := write(key, value); err != nil {
		return err
	}
	held[key] = value
	return nil
}

// drop deletes an entry and notes it.
func drop[K comparable, V any](held map[K]V, key K, remove func(K) error) error {
	if err := remove(key); err != nil {
		return err
	}
	delete(held, key)
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
