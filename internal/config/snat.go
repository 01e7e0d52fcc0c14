package config

import (
	"fmt"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

const maxSNATAddresses = 64

func defaultPorts() lb.PortRange { return lb.PortRange{First: 1024, Last: 32767} }

// snat is an lb.SNAT and what of it the file gives.
type snat struct {
	lb.SNAT
	at       position // of the key snat
	given    []*node  // the addresses, as far as they are valid; nil: inherited
	hasPorts bool
	isGiven  bool
}

// of is what of it a service uses whose backends are of these families.
func (s snat) of(backends families) lb.SNAT {
	own := lb.SNAT{Ports: s.Ports}
	for _, addr := range s.Addresses {
		if backends.have(addr) {
			own.Addresses = append(own.Addresses, addr)
		}
	}
	return own
}

// snat reads a "snat" map over the values that hold without it.
func (d *decoder) snat(n *node, inherited lb.SNAT) snat {
	s := snat{SNAT: inherited, at: n.keyAt, isGiven: true}
	d.fields(n, "snat",
		field{name: "addresses", read: func(n *node) { s.Addresses, s.given = d.snatAddresses(n) }},
		field{name: "ports", read: func(n *node) {
			s.hasPorts = true
			if ports, ok := d.ports(n); ok {
				s.Ports = ports
				d.checkLocalPorts(n.position, ports)
			}
		}},
	)
	return s
}

func (d *decoder) snatAddresses(n *node) (all []netip.Addr, nodes []*node) {
	first := map[netip.Addr]position{}
	items := d.list(n, 0, "addresses: [192.17.0.5]")
	if len(items) > maxSNATAddresses {
		d.fail(items[maxSNATAddresses].position, "remove some", "addresses: expected at most %d, found %d", maxSNATAddresses, len(items))
	}
	for _, item := range items {
		text, ok := d.addressText(item, "an IP address such as 192.17.0.5", "2001:db8::5")
		if !ok {
			continue
		}
		addr, ok := d.address(item, text, snatAddress)
		if !ok {
			continue
		}
		if before, twice := first[addr]; twice {
			d.fail(item.position, "remove one of them", "addresses: %s was already given in line %d", addr, before.line)
			continue
		}
		first[addr] = item.position
		all, nodes = append(all, addr), append(nodes, item)
	}
	return all, nodes
}

// checkLocalPorts refuses SNAT ports that the kernel gives to its own
// connections from the same address: a reply could belong to either.
func (d *decoder) checkLocalPorts(at position, ports lb.PortRange) {
	local := d.opt.LocalPorts
	if local == (lb.PortRange{}) || !ports.Overlaps(local) {
		return
	}
	d.fail(at, portsHint(ports, local),
		"snat: the ports %d-%d overlap %d-%d, from which the kernel takes ports for this host's own connections, health checks among them: the two would collide",
		ports.First, ports.Last, local.First, local.Last)
}

func portsHint(ports, local lb.PortRange) string {
	here := fmt.Sprintf("a range outside %d-%d", local.First, local.Last)
	switch {
	case local.First > 1024:
		here = fmt.Sprintf("{ports: 1024-%d}", local.First-1)
	case local.Last < 65535:
		here = fmt.Sprintf("{ports: %d-65535}", local.Last+1)
	}
	kernel := ""
	switch {
	case ports.Last < 60000:
		kernel = fmt.Sprintf(", or move the kernel's: sysctl -w net.ipv4.ip_local_port_range='%d 65535'", ports.Last+1)
	case ports.First > 2048:
		kernel = fmt.Sprintf(", or move the kernel's: sysctl -w net.ipv4.ip_local_port_range='1024 %d'", ports.First-1)
	default:
		kernel = ", or make it smaller and move the kernel's with sysctl net.ipv4.ip_local_port_range"
	}
	return "set snat: " + here + kernel
}

// inheritSNAT gives each service what it does not say itself.
func (d *decoder) inheritSNAT(services []service, common snat, servicesAt position) {
	usesDefault := false
	for i := range services {
		s := &services[i]
		own := common
		if s.snat != nil {
			own = d.snat(s.snat, common.SNAT)
			d.checkSNATFamily(s, own)
		}
		s.SNAT = own.of(s.families())
		usesDefault = usesDefault || s.Forward.Translates() && !own.hasPorts && !common.hasPorts
	}
	if !usesDefault {
		return
	}
	at := servicesAt
	if common.isGiven {
		at = common.at
	}
	d.checkLocalPorts(at, defaultPorts())
}

// checkSNATFamily refuses what can stand in the list for all services, where it
// is for others, but means nothing in a service's own.
func (d *decoder) checkSNATFamily(s *service, own snat) {
	backends := s.families()
	for i, n := range own.given {
		if addr := own.Addresses[i]; !backends.have(addr) {
			d.fail(n.position, fmt.Sprintf("write an %s address of this host", otherFamily(addr)),
				"addresses: %s is an %s address, and the backends of this service have %s ones", addr, family(addr), otherFamily(addr))
		}
	}
}
