package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
)

// listener is where packets arrive, but for their port.
type listener struct {
	address  netip.Addr
	protocol lb.Protocol
}

// owners are the services of one listener, by first port, the largest first.
type owners struct {
	services []*service
	furthest []*service // the one that reaches the highest port, of each and those before it
}

// overlapping is a service that has some of these ports, or nil.
func (o owners) overlapping(ports lb.PortRange) *service {
	begin, _ := slices.BinarySearchFunc(o.services, ports.Last, func(s *service, last uint16) int {
		if s.Address.Ports.First > last {
			return 1
		}
		return -1
	})
	if begin == 0 || !o.furthest[begin-1].Address.Ports.Overlaps(ports) {
		return nil
	}
	return o.furthest[begin-1]
}

// checkAddresses finds VIPs of which packets could be for either, and backends
// that are VIPs: their packets would come back to the balancer without end.
func (d *decoder) checkAddresses(services []service) {
	all := map[listener]*owners{}
	var inOrder []listener
	for i := range services {
		s := &services[i]
		if !s.Address.Addr.IsValid() {
			continue
		}
		for _, protocol := range s.Protocols {
			key := listener{s.Address.Addr, protocol}
			if all[key] == nil {
				all[key] = &owners{}
				inOrder = append(inOrder, key)
			}
			all[key].services = append(all[key].services, s)
		}
	}
	for _, key := range inOrder {
		all[key].sort()
		d.checkPorts(all[key].services, key.protocol)
	}
	for i := range services {
		d.checkLoops(&services[i], all)
	}
}

func (o *owners) sort() {
	slices.SortStableFunc(o.services, func(a, b *service) int {
		p, q := a.Address.Ports, b.Address.Ports
		return cmp.Or(cmp.Compare(p.First, q.First), cmp.Compare(q.Last, p.Last))
	})
	for i, s := range o.services {
		if i > 0 && o.furthest[i-1].Address.Ports.Last >= s.Address.Ports.Last {
			s = o.furthest[i-1]
		}
		o.furthest = append(o.furthest, s)
	}
}

// checkPorts takes the services of one listener. A range may contain another,
// which then has its ports.
func (d *decoder) checkPorts(services []*service, protocol lb.Protocol) {
	var open []*service // each within the one before it
	for _, s := range services {
		ports := s.Address.Ports
		for len(open) > 0 && open[len(open)-1].Address.Ports.Last < ports.First {
			open = open[:len(open)-1]
		}
		if len(open) > 0 {
			outer := open[len(open)-1]
			switch {
			case outer.Address.Ports == ports:
				d.fail(s.address.position, "put the backends of both into one service",
					"address: %s %s already belongs to the service in line %d", s.Address, protocol, outer.address.line)
				continue
			case outer.Address.Ports.Last < ports.Last:
				d.failOverlap(outer, s, protocol)
			}
		}
		open = append(open, s)
	}
}

func (d *decoder) failOverlap(a, b *service, protocol lb.Protocol) {
	common := fmt.Sprintf("ports %d-%d", b.Address.Ports.First, a.Address.Ports.Last)
	if b.Address.Ports.First == a.Address.Ports.Last {
		common = fmt.Sprintf("port %d", b.Address.Ports.First)
	}
	if a.address.line > b.address.line || a.address.line == b.address.line && a.address.column > b.address.column {
		a, b = b, a
	}
	d.fail(b.address.position, fmt.Sprintf("take the %s out of one of them, or make one range contain the other", common),
		"address: %s %s overlaps %s of the service in line %d", b.Address, protocol, a.Address, a.address.line)
}

// checkLoops looks for VIPs that packets to the backends of a service are for.
func (d *decoder) checkLoops(s *service, all map[listener]*owners) {
	for i, b := range s.Backends {
		if n := s.backends[i]; n != nil {
			d.checkLoop(s, n, b.Address, all)
		}
	}
}

func (d *decoder) checkLoop(s *service, n *node, b netip.AddrPort, all map[listener]*owners) {
	ownerOf := func(protocol lb.Protocol, ports lb.PortRange) *service {
		if o := all[listener{b.Addr(), protocol}]; o != nil {
			return o.overlapping(ports)
		}
		return nil
	}
	ports := lb.OnePort(b.Port())
	if b.Port() == 0 {
		ports = s.Address.Ports
	}
	const hint = "write the address of the server itself"
	for _, protocol := range s.Protocols {
		switch other := ownerOf(protocol, ports); {
		case other == nil:
			continue
		case b.Port() != 0 && other.Address.IsOnePort():
			d.fail(n.position, hint, "address: the backend %s is the VIP of the service in line %d: packets would go round in a loop",
				b, other.address.line)
		default:
			d.fail(n.position, hint,
				"address: packets to the backend %s would be for the VIP %s of the service in line %d: they would go round in a loop",
				written(b), other.Address, other.address.line)
		}
		return
	}
	if s.Forward != lb.ForwardGUE {
		return
	}
	if other := ownerOf(lb.UDP, lb.OnePort(s.Tunnel.Port)); other != nil {
		d.fail(n.position, hint,
			"address: GUE packets to the backend %s (UDP port %d) would be for the VIP %s of the service in line %d: they would go round in a loop",
			written(b), s.Tunnel.Port, other.Address, other.address.line)
	}
}
