package reconcile

import (
	"maps"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// healthRecord is what is to be written about a backend.
type healthRecord struct {
	id     uint32
	health *lb.Health
}

// LearnHealth hands over what is newly known about backends' health. The next Apply or
// Follow writes it and what follows from it; until one has, it is remembered.
func (r *Reconciler) LearnHealth(news map[lb.CheckedBackend]*lb.Health) {
	maps.Copy(r.healthNews, news)
}

// Health is what the tables say about the backends of the services that are checked,
// which it finds as Apply would. Those that the tables do not have are missing; one
// that they have without a word on its health is lb.HealthUnknown.
func (r *Reconciler) Health(services []lb.Service) map[lb.CheckedBackend]*lb.Health {
	known := map[lb.CheckedBackend]*lb.Health{}
	unknown := &lb.Health{State: lb.HealthUnknown}
	for i := range services {
		s := r.findService(&services[i])
		if services[i].Check == nil || s == nil {
			continue
		}
		for _, id := range s.backends {
			health := r.actual.health[id]
			if health == nil {
				health = unknown
			}
			known[lb.CheckedBackend{Service: services[i].Name, Address: r.actual.backendNames.at(id).Address}] = health
		}
	}
	return known
}

// findService finds it by its name or, after it was renamed, by its VIP.
func (r *Reconciler) findService(config *lb.Service) *service {
	if s := r.books.byName[config.Name]; s != nil {
		return s
	}
	for _, key := range allKeys(config) {
		entry, exists := r.actual.services[key]
		if exists && r.actual.serviceNames[entry.ID].Address == config.Address {
			return r.books.services[entry.ID]
		}
	}
	return nil
}

// healthOf is what is known about a backend of a service that is checked; nil: nothing.
func (p *plan) healthOf(service string, id uint32, address netip.AddrPort) *lb.Health {
	if health, isNew := p.r.healthNews[lb.CheckedBackend{Service: service, Address: address}]; isNew {
		return health
	}
	return p.r.actual.health[id]
}

// noteHealth marks the services with backends that are now usable or not any more, or
// for another reason, as incomplete, and returns them. Of the others it notes what is to be written.
func (p *plan) noteHealth() (touched []*service) {
	r := p.r
	news := map[string]map[netip.AddrPort]*lb.Health{}
	for key, health := range r.healthNews {
		if news[key.Service] == nil {
			news[key.Service] = map[netip.AddrPort]*lb.Health{}
		}
		news[key.Service][key.Address] = health
	}
	for name, of := range news {
		s := r.books.byName[name]
		if s == nil || !s.complete || s.config.Check == nil {
			continue
		}
		records, changes := r.healthOfService(s, of)
		if changes {
			s.complete = false
			touched = append(touched, s)
			continue
		}
		p.records = append(p.records, records...)
	}
	return touched
}

// healthOfService compares what is new about a service's backends with what the tables
// hold; changes: one of them is now usable or not any more, or for another reason.
func (r *Reconciler) healthOfService(s *service, news map[netip.AddrPort]*lb.Health) (records []healthRecord, changes bool) {
	for _, id := range s.backends {
		health, isNew := news[r.actual.backendNames.at(id).Address]
		held := r.actual.health[id]
		if !isNew || health == held {
			continue
		}
		changes = changes || healthProblem(health) != healthProblem(held)
		records = append(records, healthRecord{id, health})
	}
	return records, changes
}

// writeHealth comes after what packets are waiting for.
func (r *Reconciler) writeHealth(p *plan) error {
	due := batch[*lb.Health]{write: r.tables.PutBackendHealth, note: func(id uint32, h *lb.Health) { r.actual.health[id] = h }}
	for _, record := range p.records {
		due.add(record.id, record.health)
	}
	for _, c := range p.changes {
		for _, b := range c.backends {
			held := r.actual.health[b.id]
			switch {
			case b.health == held:
			case b.health != nil:
				due.add(b.id, b.health)
			default:
				if err := drop(r.actual.health, b.id, r.tables.DeleteBackendHealth); err != nil {
					return err
				}
			}
		}
	}
	return due.flush()
}
