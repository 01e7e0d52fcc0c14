package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

const (
	maxPrefixes      = 100_000    // in a list
	maxFlows         = 16_777_216 // as many as a flow table has at most
	maxTimeouts      = 127        // sets of them that services have: half of what there is room for
	maxAffinity      = 30 * 24 * time.Hour
	defaultAffinity  = 3 * time.Hour
	clientPrefixV6   = 64 // what a network gives to one customer at least (RFC 6177)
	wholeV4, wholeV6 = 32, 128
)

// prefixes are those that a service lists, and where.
type prefixes map[netip.Prefix]position

// clientPrefixes reads a list of sources, sorted.
func (d *decoder) clientPrefixes(n *node, given prefixes) []netip.Prefix {
	items := d.list(n, 1, n.name+": [192.0.2.0/24]")
	if len(items) > maxPrefixes {
		d.fail(items[maxPrefixes].position, "remove some", "%s: expected at most %d prefixes, found %d", n.name, maxPrefixes, len(items))
		return nil
	}
	all := make([]netip.Prefix, 0, len(items))
	for _, item := range items {
		prefix, ok := d.clientPrefix(item)
		if !ok {
			continue
		}
		if before, twice := given[prefix]; twice {
			d.fail(item.position, "remove one of them", "%s: the prefix %s was already given in line %d", n.name, prefix, before.line)
			continue
		}
		given[prefix] = item.position
		all = append(all, prefix)
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	return all
}

// clientPrefix reads "192.0.2.0/24", or an address for a prefix of nothing else.
func (d *decoder) clientPrefix(n *node) (netip.Prefix, bool) {
	expected := "a prefix such as 192.0.2.0/24"
	text, ok := d.addressText(n, expected, "2001:db8::/32")
	if !ok {
		return netip.Prefix{}, false
	}
	if !strings.Contains(text, "/") {
		text = withLength(text)
	}
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		d.fail(n.position, `as in 192.0.2.0/24 or "2001:db8::/32"`, "%s: expected %s, found %s", n.name, expected, n.found())
	case prefix.Addr().Is4In6():
		d.fail(n.position, "write it as an IPv4 prefix", "%s: %s has IPv4 addresses mapped into IPv6", n.name, prefix)
	case prefix != prefix.Masked():
		d.fail(n.position, fmt.Sprintf("write %s, or %s for this address alone", prefix.Masked(), prefix.Addr()),
			"%s: %s has bits set behind its length", n.name, prefix)
	default:
		return prefix, true
	}
	return netip.Prefix{}, false
}

// withLength makes a prefix of an address; of anything else nothing sensible.
func withLength(text string) string {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return text
	}
	return fmt.Sprintf("%s/%d", text, address.BitLen())
}

func (d *decoder) maxFlows(n *node) uint32 {
	most, _ := d.number(n, 1, maxFlows)
	return most
}

func (d *decoder) flowRate(n *node) uint32 {
	rate, _ := d.number(n, 1, maxRate)
	return rate
}

// clientFields are the keys that say how much of an address makes a client.
func (d *decoder) clientFields(v4, v6 *uint8) []field {
	length := func(name string, to *uint8, most uint32) field {
		return field{name: name, read: func(n *node) {
			if bits, ok := d.number(n, 1, most); ok {
				*to = uint8(bits)
			}
		}}
	}
	return []field{length("prefix_v4", v4, wholeV4), length("prefix_v6", v6, wholeV6)}
}

func (d *decoder) perClient(n *node) lb.ClientRate {
	r := lb.ClientRate{PrefixV4: wholeV4, PrefixV6: clientPrefixV6}
	d.fields(n, "per_client", append(d.clientFields(&r.PrefixV4, &r.PrefixV6),
		field{name: "new_flows_per_second", required: true, read: func(n *node) { r.NewFlowsPerSecond = d.flowRate(n) }})...)
	return r
}

func (d *decoder) affinity(n *node) lb.Affinity {
	a := lb.Affinity{Timeout: defaultAffinity, PrefixV4: wholeV4, PrefixV6: wholeV6}
	d.fields(n, "affinity", append(d.clientFields(&a.PrefixV4, &a.PrefixV6),
		field{name: "by", required: true, read: func(n *node) { d.choice(n, []string{"client"}, nil) }},
		field{name: "timeout", read: func(n *node) {
			if timeout, ok := d.duration(n, time.Second, maxAffinity); ok {
				a.Timeout = timeout
			}
		}},
		field{name: "group", read: func(n *node) { a.Group, _ = d.identifier(n) }})...)
	return a
}

// checkGroups sees to it that the services of a group mean the same by a client, and for as long.
func (d *decoder) checkGroups(services []service) {
	first := map[string]*service{}
	for i := range services {
		s := &services[i]
		if s.affinity == nil || s.Affinity.Group == "" {
			continue
		}
		other := first[s.Affinity.Group]
		if other == nil {
			first[s.Affinity.Group] = s
			continue
		}
		if s.Affinity != other.Affinity {
			d.fail(s.affinity.position, "give all services of a group the same timeout and prefixes",
				"affinity: not the same as in line %d, of the same group %q", other.affinity.line, s.Affinity.Group)
		}
	}
}

// inheritTimeouts gives each service with timeouts of its own those for all where it does not say.
func (d *decoder) inheritTimeouts(services []service, common lb.Timeouts) {
	sets := map[lb.Timeouts]bool{}
	for i := range services {
		s := &services[i]
		if s.timeouts == nil {
			continue
		}
		s.Timeouts = d.timeouts(s.timeouts, common)
		if sets[s.Timeouts] = true; len(sets) == maxTimeouts+1 {
			d.fail(s.timeouts.position, "give some services the same timeouts",
				"timeouts: services have more than %d different sets of them", maxTimeouts)
		}
	}
}
