package reconcile

import "github.com/tinylb/tinylb/internal/lb"

// endOf is what outer packets to a backend of a service have in common; false: there are none.
func endOf(b lb.BackendEntry, forward lb.Forward) (lb.TunnelEnd, bool) {
	if b.Service == 0 || !forward.Tunnels() || !b.TunnelSource.IsValid() {
		return lb.TunnelEnd{}, false
	}
	end := lb.TunnelEnd{Backend: b.Address.Addr(), Source: b.TunnelSource.Masked()}
	if forward == lb.ForwardGUE {
		end.GUEPort = b.GUEPort
	}
	return end, true
}

// forwardOf is the mode of a service in the tables; "" while it has no entry there.
func (r *Reconciler) forwardOf(s *service) lb.Forward {
	if s == nil || len(s.keys) == 0 {
		return ""
	}
	return r.actual.services[s.keys[0]].Forward
}

// endsMove reports whether a service's outer packets get other ends.
func (p *plan) endsMove(c *change) bool {
	before := p.r.forwardOf(c.service)
	for _, b := range c.backends {
		was, had := endOf(p.r.actual.backends.at(b.id), before)
		is, has := endOf(b.entry, c.config.Forward)
		if was != is || had != has {
			return true
		}
	}
	return false
}

// setTunnelEnds makes the table have exactly the ends of the backends that there are. Nothing but errors about
// packets of theirs is looked up in it, so it may be late.
func (r *Reconciler) setTunnelEnds() error {
	wanted := map[lb.TunnelEnd]uint32{}
	forwards := map[uint32]lb.Forward{}
	for id, s := range r.books.services {
		forwards[id] = r.forwardOf(s)
	}
	r.actual.backends.all(func(id uint32, b lb.BackendEntry) {
		end, exists := endOf(b, forwards[b.Service])
		if first, twice := wanted[end]; exists && (!twice || id < first) {
			wanted[end] = id
		}
	})
	for end := range r.actual.tunnelEnds {
		if _, stays := wanted[end]; !stays {
			if err := drop(r.actual.tunnelEnds, end, r.tables.DeleteTunnelEnd); err != nil {
				return err
			}
		}
	}
	for end, id := range wanted {
		if err := put(r.actual.tunnelEnds, end, id, same, r.tables.PutTunnelEnd); err != nil {
			return err
		}
	}
	return nil
}
