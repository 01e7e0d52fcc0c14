package reconcile

import "github.com/tinylb/tinylb/internal/lb"

// planQUIC finds whom the connection ids of a service's packets may name: all backends
// that can be sent to, also those that take no new flows or are down: who names them has a connection there.
func (p *plan) planQUIC(c *change) {
	before := c.service.quic
	c.service.quic = nil
	if c.config.QUIC.ServerIDLength > 0 {
		c.quic = map[lb.QUICServer]uint32{}
	}
	for i, b := range c.config.Backends {
		id, has := c.config.ServerIDs[b.Address]
		if c.quic == nil || !has || c.backends[i].problem != "" && !c.backends[i].isDown {
			continue
		}
		server := lb.QUICServer{Service: c.service.id, ID: id}
		c.quic[server] = c.backends[i].id
		c.service.quic = append(c.service.quic, server)
	}
	for _, server := range before {
		if _, stays := c.quic[server]; !stays {
			p.goneQUIC = append(p.goneQUIC, server)
		}
	}
}

// anticipateQUIC has each id lead to who has it now, before the service is told to look. Those
// that nobody has any more go after that.
func (r *Reconciler) anticipateQUIC(c *change) error {
	for server, backend := range c.quic {
		if err := put(r.actual.quicServers, server, backend, same, r.tables.PutQUICServer); err != nil {
			return err
		}
	}
	return nil
}

// makeQUICRoom drops the ids that nobody has any more before others are written, where there is no room
// for both: packets with them go by the hash a moment earlier.
func (r *Reconciler) makeQUICRoom(p *plan) error {
	more := len(r.actual.quicServers)
	for _, c := range p.changes {
		more += len(c.quic)
	}
	if len(p.goneQUIC) == 0 || more <= int(r.limits.Backends) {
		return nil
	}
	return r.dropQUIC(p.goneQUIC)
}

func (r *Reconciler) dropQUIC(servers []lb.QUICServer) error {
	for _, server := range servers {
		if err := drop(r.actual.quicServers, server, r.tables.DeleteQUICServer); err != nil {
			return err
		}
	}
	return nil
}
