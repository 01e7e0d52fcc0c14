package config

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/tinylb/tinylb/internal/lb"
)

const (
	maxInterfaceName = 15 // IFNAMSIZ without its final zero
	maxSNATAddresses = 64
	minTimeout       = time.Second
	maxTimeout       = 30 * 24 * time.Hour
)

func defaultPorts() lb.PortRange { return lb.PortRange{First: 1024, Last: 32767} }

func defaultTimeouts() lb.Timeouts {
	return lb.Timeouts{
		TCPUnconfirmed: 60 * time.Second,
		TCPEstablished: 2*time.Hour + 4*time.Minute, // RFC 5382, REQ-5
		TCPHalfClosed:  4 * time.Minute,
		TCPClosed:      60 * time.Second,
		UDPUnconfirmed: 30 * time.Second,
		UDPStream:      2 * time.Minute, // RFC 4787, REQ-5
	}
}

func defaultLimits() lb.Limits {
	return lb.Limits{Flows: 262144, Services: 4096, Backends: 65536, TableEntries: 4194304}
}

func (d *decoder) interfaces(n *node) []string {
	var all []string
	first := map[string]position{}
	for _, item := range d.list(n, 1, "interfaces: [eth0]") {
		name, ok := d.text(item, "the name of a network interface")
		if !ok {
			continue
		}
		if problem := interfaceProblem(name); problem != "" {
			d.fail(item.position, "`ip link` lists the names", "interfaces: %s is not the name of an interface: %s", quote(name), problem)
			continue
		}
		if before, twice := first[name]; twice {
			d.fail(item.position, "remove one of them", "interfaces: %q was already given in line %d", name, before.line)
			continue
		}
		first[name] = item.position
		all = append(all, name)
	}
	return all
}

// interfaceProblem says what the kernel's dev_valid_name would not accept.
func interfaceProblem(name string) string {
	switch {
	case len(name) > maxInterfaceName:
		return fmt.Sprintf("longer than %d characters", maxInterfaceName)
	case name == "." || name == "..":
		return "it names a directory"
	case strings.ContainsAny(name, "/:") || strings.ContainsFunc(name, unicode.IsSpace):
		return "slashes, colons and spaces are not allowed"
	}
	return ""
}

// snat is an lb.SNAT and what of it the file gives.
type snat struct {
	lb.SNAT
	at       position // of the key snat
	given    []*node  // the addresses, as far as they are valid; nil: inherited
	hasPorts bool
	isGiven  bool
}

// of is what of it a service with this VIP uses: the addresses of its family.
func (s snat) of(vip netip.Addr) lb.SNAT {
	own := lb.SNAT{Ports: s.Ports}
	for _, addr := range s.Addresses {
		if sameFamily(addr, vip) {
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

func (d *decoder) timeouts(n *node) lb.Timeouts {
	t := defaultTimeouts()
	timeout := func(name string, to *time.Duration) field {
		return field{name: name, read: func(n *node) {
			if value, ok := d.duration(n, minTimeout, maxTimeout); ok {
				*to = value
			}
		}}
	}
	d.fields(n, "timeouts",
		timeout("tcp_unconfirmed", &t.TCPUnconfirmed),
		timeout("tcp_established", &t.TCPEstablished),
		timeout("tcp_half_closed", &t.TCPHalfClosed),
		timeout("tcp_closed", &t.TCPClosed),
		timeout("udp_unconfirmed", &t.UDPUnconfirmed),
		timeout("udp_stream", &t.UDPStream),
	)
	return t
}

// limits are lb.Limits and where the file gives them.
type limits struct {
	lb.Limits
	at map[string]position
}

func (d *decoder) limits(n *node) limits {
	l := limits{Limits: defaultLimits(), at: map[string]position{}}
	limit := func(name string, to *uint32, least, most uint32) field {
		return field{name: name, read: func(n *node) {
			if value, ok := d.number(n, least, most); ok {
				*to = value
				l.at[name] = n.position
			}
		}}
	}
	d.fields(n, "limits",
		limit("flows", &l.Flows, 16, 16777216),
		limit("services", &l.Services, 1, 65536),
		limit("backends", &l.Backends, 1, 1048576),
		limit("table_entries", &l.TableEntries, 64, 67108864),
	)
	return l
}
