package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/maglev"
)

const maxWeight = 65535

// The MSS that every host takes (RFC 9293, section 3.7.1), and the largest of IPv4.
const minMSS, maxMSS = 536, 65495

// service is an lb.Service and where the file says what.
type service struct {
	lb.Service
	name     *node
	address  *node
	backends []*node // the address of each of Service.Backends
	snat     *node
	tunnel   *node
	timeouts *node
	affinity *node
	quic     *node
	servers  []serverID // of each of Service.Backends
	mss      *node
}

func (d *decoder) services(n *node) []service {
	var all []service
	first := map[string]position{}
	for _, item := range d.list(n, 1, "a list of services, each starting with \"- name:\"") {
		s := d.service(item)
		if before, twice := first[s.Name]; twice && s.Name != "" {
			d.fail(s.name.position, "give each service its own name", "services: the name %q was already given in line %d", s.Name, before.line)
		} else {
			first[s.Name] = item.position
		}
		all = append(all, s)
	}
	return all
}

func (d *decoder) service(n *node) service {
	s := service{Service: lb.Service{
		Protocols: []lb.Protocol{lb.TCP},
		Forward:   lb.ForwardNAT,
		Scheduler: lb.Maglev,
	}}
	var tableSize, check *node
	given := prefixes{}
	d.fields(n, "a service",
		field{name: "name", required: true, read: func(n *node) {
			s.name = n
			s.Name, _ = d.identifier(n)
		}},
		field{name: "address", required: true, read: func(n *node) {
			s.address = n
			s.Address = d.vip(n)
		}},
		field{name: "protocol", read: func(n *node) { s.Protocols = d.protocols(n) }},
		field{name: "forward", read: func(n *node) { s.Forward = d.forward(n) }},
		field{name: "scheduler", read: func(n *node) {
			var words []string
			for _, scheduler := range lb.Schedulers() {
				words = append(words, string(scheduler))
			}
			word, _ := d.choice(n, words, nil)
			s.Scheduler = lb.Scheduler(word)
		}},
		field{name: "table_size", read: func(n *node) { tableSize = n }},
		field{name: "allow", read: func(n *node) { s.Allow = d.clientPrefixes(n, given) }},
		field{name: "deny", read: func(n *node) { s.Deny = d.clientPrefixes(n, given) }},
		field{name: "max_flows", read: func(n *node) { s.MaxFlows = d.maxFlows(n) }},
		field{name: "new_flows_per_second", read: func(n *node) { s.NewFlowsPerSecond = d.flowRate(n) }},
		field{name: "per_client", read: func(n *node) { s.PerClient = d.perClient(n) }},
		field{name: "affinity", read: func(n *node) { s.affinity, s.Affinity = n, d.affinity(n) }},
		field{name: "timeouts", read: func(n *node) { s.timeouts = n }},
		field{name: "quic", read: func(n *node) { d.quic(n, &s) }},
		field{name: "reject", read: func(n *node) {
			word, _ := d.choice(n, []string{"reset", "drop"}, nil)
			s.Silent = word == "drop"
		}},
		field{name: "mss", read: func(n *node) {
			s.mss = n
			s.MSS = d.mss(n)
		}},
		field{name: "snat", read: func(n *node) { s.snat = n }},
		field{name: "tunnel", read: func(n *node) { s.tunnel = n }},
		field{name: "backends", required: true, read: func(n *node) { d.backends(n, &s) }},
		field{name: "check", read: func(n *node) {
			check = n
			s.Check = d.check(n)
		}},
	)
	s.TableSize = d.tableSize(tableSize, len(s.Backends))
	d.checkBackends(s)
	d.checkServerIDs(&s)
	d.checkForward(&s)
	d.checkPort(s, check)
	if s.MSS != 0 && !slices.Contains(s.Protocols, lb.TCP) && len(s.Protocols) > 0 {
		d.fail(s.mss.keyAt, "remove it", "mss: only TCP has segments: this would be ignored")
	}
	return s
}

// mss reads what a segment may have at most.
func (d *decoder) mss(n *node) uint16 {
	if n.kind == scalar && !n.quoted {
		switch size, err := strconv.ParseUint(n.text, 10, 16); {
		case n.text == "auto":
			return lb.MSSAuto
		case n.text == "off":
			return 0
		case err == nil && size >= minMSS && size <= maxMSS:
			return uint16(size)
		}
	}
	d.fail(n.position, "auto is what fits", "mss: expected auto, off or a whole number from %d to %d, found %s", minMSS, maxMSS, n.found())
	return 0
}

func (d *decoder) protocols(n *node) []lb.Protocol {
	items := []*node{n}
	if n.kind == list {
		items = d.list(n, 1, "protocol: [tcp, udp]")
	}
	var all []lb.Protocol
	for _, item := range items {
		word, ok := d.choice(item, []string{"tcp", "udp"}, nil)
		if !ok {
			continue
		}
		protocol := lb.TCP
		if word == "udp" {
			protocol = lb.UDP
		}
		if slices.Contains(all, protocol) {
			d.fail(item.position, "remove one of them", "protocol: %q is given twice", word)
			continue
		}
		all = append(all, protocol)
	}
	slices.Sort(all)
	return all
}

// tableSize reads the length of the look-up table; n is nil for auto.
func (d *decoder) tableSize(n *node, backends int) uint32 {
	auto := maglev.SizeFor(backends)
	if n == nil || n.kind == scalar && n.text == "auto" {
		return auto
	}
	size, err := strconv.ParseUint(n.text, 10, 32)
	if n.kind != scalar || n.quoted || err != nil || !slices.Contains(maglev.Sizes(), uint32(size)) {
		known := strings.ReplaceAll(strings.Trim(fmt.Sprint(maglev.Sizes()), "[]"), " ", ", ")
		d.fail(n.position, fmt.Sprintf("auto is %d here", auto), "table_size: expected auto or one of %s, found %s", known, n.found())
		return auto
	}
	if int(size) < backends {
		d.fail(n.position, fmt.Sprintf("auto is %d here", auto), "table_size: %d slots are too few for %d backends", size, backends)
	}
	return uint32(size)
}

func (d *decoder) backends(n *node, s *service) {
	firstName := map[string]position{}
	allZero := true
	items := d.list(n, 1, "backends: [{address: 192.17.0.2:80}]")
	s.Backends = slices.Grow(s.Backends, len(items))
	for _, item := range items {
		b, name, address, id := d.backend(item)
		allZero = allZero && b.Weight == 0
		if before, twice := firstName[b.Name]; twice && b.Name != "" {
			d.fail(name.position, "give each backend of a service its own name", "backends: the name %q was already given in line %d", b.Name, before.line)
		} else {
			firstName[b.Name] = item.position
		}
		s.Backends = append(s.Backends, b)
		s.backends = append(s.backends, address)
		s.servers = append(s.servers, serverID{item, id})
	}
	if allZero && len(s.Backends) > 0 {
		d.warn(n.keyAt, "give at least one a weight of 1 or more", "backends: all have weight 0: the service takes no new flow")
	}
}

// checkBackends finds backends given twice: the same address and, toward it, the
// same port.
func (d *decoder) checkBackends(s service) {
	first := map[netip.AddrPort]position{}
	for i, n := range s.backends {
		if n == nil {
			continue
		}
		b := s.Backends[i].Address
		key := b
		if b.Port() == 0 && s.Address.IsOnePort() {
			key = netip.AddrPortFrom(b.Addr(), s.Address.Ports.First)
		}
		if before, twice := first[key]; twice {
			d.fail(n.position, "remove one of them; for more traffic give it a higher weight",
				"backends: the address %s was already given in line %d", written(b), before.line)
			continue
		}
		first[key] = n.position
	}
}

// backend returns the backend and the nodes of its name and address, each nil if
// there is none, or none that is valid, and that of its server id.
func (d *decoder) backend(n *node) (b lb.Backend, name, address, server *node) {
	b = lb.Backend{Weight: 1}
	if n.kind == scalar {
		d.fail(n.position, "write it as {address: 192.17.0.2:80}", "backends: expected a map, found %s", n.found())
		return b, nil, nil, nil
	}
	d.fields(n, "a backend",
		field{name: "name", read: func(n *node) {
			if text, ok := d.identifier(n); ok {
				b.Name, name = text, n
			}
		}},
		field{name: "address", required: true, read: func(n *node) {
			if endpoint, ok := d.backendAddress(n); ok {
				b.Address, address = endpoint, n
			}
		}},
		field{name: "max_flows", read: func(n *node) { b.MaxFlows = d.maxFlows(n) }},
		field{name: "weight", read: func(n *node) {
			if weight, ok := d.number(n, 0, maxWeight); ok {
				b.Weight = weight
			}
		}},
		field{name: "server_id", read: func(n *node) { server = n }},
	)
	return b, name, address, server
}
