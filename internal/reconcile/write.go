package reconcile

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
)

// settings is what SetSettings is told.
type settings struct {
	// SmallestMTU comes before what has it: that a packet is looked at once too often does no harm.
	lb.Settings
	answers lb.VIPAnswers
}

// filter is what SetAddressFilter is told: each list sorted, without duplicates.
type filter struct {
	destinations, sources []netip.Addr
}

// write carries out a plan: first everything new, of each service its entries
// last, as they are the switch; then the removals, in the reverse order.
func (r *Reconciler) write(p *plan, settings settings) error {
	addressesDue := p.moves || r.untidy || r.settings.answers != settings.answers || r.host != nil && r.host.isNew
	if err := r.setSettings(settings); err != nil {
		return err
	}
	if err := r.setInterfaceMTUs(); err != nil {
		return err
	}
	if r.untidy {
		if err := r.clearStrayRules(); err != nil {
			return err
		}
	}
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
	if err := r.writeTimeouts(p); err != nil {
		return err
	}
	if err := r.writeBackends(p.changes); err != nil {
		return err
	}
	if err := r.makeQUICRoom(p); err != nil {
		return err
	}
	if err := r.writeServices(p.changes); err != nil {
		return err
	}
	if err := r.writeHealth(p); err != nil {
		return err
	}
	if err := r.remove(p); err != nil {
		return err
	}
	if p.ends || r.untidy {
		if err := r.setTunnelEnds(); err != nil {
			return err
		}
	}
	if addressesDue {
		return r.setAddresses(&plan{})
	}
	return nil
}

func (r *Reconciler) setSettings(wanted settings) error {
	if r.settings.Settings != wanted.Settings {
		if err := r.tables.SetSettings(wanted.Settings); err != nil {
			return err
		}
	}
	r.settings = wanted
	return nil
}

// setAddresses makes the address filter, what is said of VIPs and the lists of source addresses fit
// the services that are there and what a plan is about to add. Source addresses
// that no backend uses any more stay in the filter: flows may still use them.
func (r *Reconciler) setAddresses(p *plan) error {
	vips := map[netip.Addr]bool{} // true: it has a service on a single port
	for key := range r.actual.services {
		vips[key.Address.Addr()] = vips[key.Address.Addr()] || key.Block == 0
	}
	for key := range p.keys {
		vips[key.Address.Addr()] = vips[key.Address.Addr()] || key.Block == 0
	}
	snat := map[uint32]lb.SNATAddress{}
	for index, a := range r.actual.snatAddresses {
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
	if err := r.setForeign(vips); err != nil {
		return err
	}
	for index, a := range snat {
		if err := put(r.actual.snatAddresses, index, a, same, r.tables.PutSNATAddress); err != nil {
			return err
		}
	}
	return nil
}

// dnatBackends are the addresses whose packets may be answers with the backend's
// own source: each is a near client of its service.
func (r *Reconciler) dnatBackends(changes []*change) []netip.Addr {
	var addresses []netip.Addr
	for client := range r.actual.nearClients {
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
	if err := put(r.actual.serviceNames, c.service.id, name, sameServiceName, r.tables.PutServiceName); err != nil {
		return err
	}
	return r.anticipateNear(c)
}

// writeBackends writes what service entries will lead to, of all services together:
// many entries cost little more than one.
func (r *Reconciler) writeBackends(changes []*change) error {
	names := batch[lb.BackendName]{write: r.tables.PutBackendNames, note: r.actual.backendNames.set}
	hops, entries := r.hopBatch(), r.backendBatch()
	hopsDue := map[uint32]bool{} // several backends may have one
	for _, c := range changes {
		for _, b := range c.backends {
			if r.actual.backendNames.at(b.id) != b.name {
				names.add(b.id, b.name)
			}
			hop := b.entry.NextHop
			if old, exists := r.actual.nextHops[hop]; (!exists || !sameHop(old, b.hop)) && !hopsDue[hop] {
				hops.add(hop, b.hop)
				hopsDue[hop] = true
			}
			if r.actual.backends.at(b.id) != b.entry {
				entries.add(b.id, b.entry)
			}
		}
	}
	for _, flush := range []func() error{names.flush, hops.flush, entries.flush} {
		if err := flush(); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) hopBatch() batch[lb.NextHop] {
	return batch[lb.NextHop]{write: r.tables.PutNextHops, note: func(id uint32, hop lb.NextHop) { r.actual.nextHops[id] = hop }}
}

func (r *Reconciler) backendBatch() batch[lb.BackendEntry] {
	return batch[lb.BackendEntry]{write: r.tables.PutBackends, note: func(id uint32, entry lb.BackendEntry) {
		r.actual.backends.set(id, entry)
		r.books.hopOf[id] = entry.NextHop
	}}
}

// batch are entries of one table that are to be written together, each once.
type batch[V any] struct {
	write  func(ids []uint32, values []V) (written int, err error)
	note   func(id uint32, value V) // is told what has been written
	ids    []uint32
	values []V
}

func (b *batch[V]) add(id uint32, value V) {
	b.ids, b.values = append(b.ids, id), append(b.values, value)
}

// flush writes the entries and notes those that have been written.
func (b *batch[V]) flush() error {
	if len(b.ids) == 0 {
		return nil
	}
	written, err := b.write(b.ids, b.values)
	for i, id := range b.ids[:written] {
		b.note(id, b.values[i])
	}
	return err
}

// tablesAtOnce is how many tables are built side by side, and in memory at a time.
const tablesAtOnce = 64

// writeServices writes tables and service entries, one service after the other: a
// table may lie where one of a service before it has been.
func (r *Reconciler) writeServices(changes []*change) error {
	for some := range slices.Chunk(changes, tablesAtOnce) {
		if err := buildTables(some); err != nil {
			return err
		}
		for _, c := range some {
			if err := r.writeService(c); err != nil {
				return fmt.Errorf("service %s: %w", c.config.Name, err)
			}
			c.table = nil
		}
	}
	return nil
}

func (r *Reconciler) writeService(c *change) error {
	if c.table != nil {
		if err := r.tables.PutTable(c.entry.TableOffset, c.table); err != nil {
			return err
		}
		r.contents[c.entry.TableOffset] = c.content
	}
	if err := r.writePolicy(c); err != nil {
		return err
	}
	if err := r.anticipateQUIC(c); err != nil {
		return err
	}
	for _, key := range c.keys {
		if err := put(r.actual.services, key, c.entry, same, r.tables.PutService); err != nil {
			return err
		}
	}
	return r.settleNear(c)
}

func (r *Reconciler) remove(p *plan) error {
	for _, key := range p.goneKeys {
		if err := drop(r.actual.services, key, r.tables.DeleteService); err != nil {
			return err
		}
	}
	if err := r.dropNear(p.goneNear); err != nil {
		return err
	}
	for _, key := range p.goneAffinity {
		if err := drop(r.actual.affinity, key, r.tables.DeleteAffinityBackend); err != nil {
			return err
		}
	}
	if err := r.dropQUIC(p.goneQUIC); err != nil {
		return err
	}
	for _, id := range p.goneBackends {
		if err := r.removeBackend(id); err != nil {
			return err
		}
	}
	// last, so that whatever has a service's id finds its name
	for _, id := range p.goneServices {
		if err := r.setPolicy(id, lb.ServicePolicy{}); err != nil {
			return err
		}
		if err := drop(r.actual.serviceNames, id, r.tables.DeleteServiceName); err != nil {
			return err
		}
	}
	if err := r.clearRules(p.goneRules); err != nil {
		return err
	}
	if r.untidy {
		return r.clearHops(slices.Collect(maps.Keys(r.actual.nextHops)))
	}
	return r.clearHops(p.goneHops)
}

func (r *Reconciler) removeBackend(id uint32) error {
	if b := r.actual.backends.at(id); b.Service != 0 {
		// the next one under this id has another generation: flows to this one are not its own
		empty := lb.BackendEntry{Generation: b.Generation + 1}
		entries := r.backendBatch()
		entries.add(id, empty)
		if err := entries.flush(); err != nil {
			return err
		}
	}
	if err := r.tables.DeleteBackendName(id); err != nil {
		return err
	}
	r.actual.backendNames.set(id, lb.BackendName{})
	delete(r.actual.health, id)
	return nil
}

// clearHops clears those of the next hops that no backend uses.
func (r *Reconciler) clearHops(ids []uint32) error {
	unused := r.hopBatch()
	for _, id := range ids {
		if _, exists := r.actual.nextHops[id]; exists && !r.books.hopIDs.used(id) {
			unused.add(id, lb.NextHop{Problem: "unused"})
		}
	}
	err := unused.flush()
	for _, id := range unused.ids {
		if r.actual.nextHops[id].Problem != "unused" {
			continue
		}
		if err := r.tables.ForgetPath(id); err != nil {
			return err
		}
		delete(r.actual.nextHops, id)
	}
	return err
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
	return a.Interface == b.Interface && a.MAC == b.MAC && a.SourceMAC == b.SourceMAC &&
		a.VLAN == b.VLAN && a.MTU == b.MTU
}
