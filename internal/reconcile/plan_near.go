package reconcile

import (
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// planNear finds the clients of a dnat service whose answers would not come by here:
// the backends themselves, and who shares a link with one.
func (p *plan) planNear(c *change) {
	if c.config.Forward == lb.ForwardDNAT || len(c.service.near) > 0 {
		c.near = map[netip.Prefix]uint32{}
	}
	for _, b := range c.backends {
		address := onlyAddress(b.entry.Address.Addr())
		// Flows that were opened in dnat go on after the service has changed to
		// another forward mode: their answers must still be looked at.
		_, was := p.r.actual.nearClients[lb.NearClient{Service: c.service.id, Prefix: address}]
		if was || c.config.Forward == lb.ForwardDNAT {
			c.near[address] = 0
		}
	}
	if c.config.Forward == lb.ForwardDNAT {
		for _, b := range c.backends {
			if b.hop.Usable() && b.hop.Link.IsValid() {
				addLink(c.near, b.hop.Link, b.hop.LinkID())
			}
		}
	}
	before := c.service.near
	c.service.near = nil
	for prefix := range c.near {
		client := lb.NearClient{Service: c.service.id, Prefix: prefix}
		c.service.near = append(c.service.near, client)
		if _, exists := p.r.actual.nearClients[client]; !exists {
			p.moves = true
		}
	}
	for _, client := range before {
		if _, stays := c.near[client.Prefix]; !stays {
			p.goneNear = append(p.goneNear, client)
			p.moves = true
		}
	}
}

// addLink adds a prefix that is on a link; on several: on any.
func addLink(near map[netip.Prefix]uint32, prefix netip.Prefix, by uint32) {
	if before, exists := near[prefix]; exists && before != by {
		by = 0
	}
	near[prefix] = by
}

// anticipateNear sees to it that no near client is missed while next hops change.
func (r *Reconciler) anticipateNear(c *change) error {
	for prefix, by := range c.near {
		client := lb.NearClient{Service: c.service.id, Prefix: prefix}
		if before, exists := r.actual.nearClients[client]; exists && before != by {
			by = 0
		}
		if err := put(r.actual.nearClients, client, by, same, r.tables.PutNearClient); err != nil {
			return err
		}
	}
	return nil
}

// settleNear says of a service's near clients what is so now. Those that are none any
// more go when no key leads to a table from before the change.
func (r *Reconciler) settleNear(c *change) error {
	for prefix, by := range c.near {
		client := lb.NearClient{Service: c.service.id, Prefix: prefix}
		if err := put(r.actual.nearClients, client, by, same, r.tables.PutNearClient); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) dropNear(clients []lb.NearClient) error {
	for _, client := range clients {
		if err := drop(r.actual.nearClients, client, r.tables.DeleteNearClient); err != nil {
			return err
		}
	}
	return nil
}
