package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/tinylb/tinylb/internal/lb"
)

const defaultGUEPort = 6080 // IANA "Service Name and Transport Protocol Port Number Registry": gue

// tunnel is an lb.Tunnel and where the file gives it.
type tunnel struct {
	lb.Tunnel
	given []*node // the sources, as far as they are valid; nil: inherited
	port  *node
}

// tunnel reads a "tunnel" map over the values that hold without it.
func (d *decoder) tunnel(n *node, inherited lb.Tunnel) tunnel {
	t := tunnel{Tunnel: inherited}
	d.fields(n, "tunnel",
		field{name: "sources", read: func(n *node) { t.Sources, t.given = d.tunnelSources(n) }},
		field{name: "port", read: func(n *node) {
			t.port = n
			if port, ok := d.number(n, 1, 65535); ok {
				t.Port = uint16(port)
			}
		}},
	)
	return t
}

func (d *decoder) tunnelSources(n *node) (all []netip.Prefix, nodes []*node) {
	for _, item := range d.list(n, 0, "sources: [172.16.0.0/16]") {
		prefix, ok := d.sourcePrefix(item)
		if !ok {
			continue
		}
		isSecond := false
		for i, other := range all {
			if sameFamily(other.Addr(), prefix.Addr()) {
				d.fail(item.position, "remove one of them: each family has one at most",
					"sources: an %s prefix was already given in line %d", family(prefix.Addr()), nodes[i].line)
				isSecond = true
			}
		}
		if !isSecond {
			all, nodes = append(all, prefix), append(nodes, item)
		}
	}
	return all, nodes
}

// sourcePrefix reads "172.16.0.0/16", or an address for a prefix of nothing else.
func (d *decoder) sourcePrefix(n *node) (netip.Prefix, bool) {
	expected := "a prefix such as 172.16.0.0/16"
	text, ok := d.addressText(n, expected, "0100::/64")
	if !ok {
		return netip.Prefix{}, false
	}
	if !strings.Contains(text, "/") {
		addr, ok := d.address(n, text, source)
		return netip.PrefixFrom(addr, addr.BitLen()), ok
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		d.fail(n.position, `as in 172.16.0.0/16 or "0100::/64"`, "sources: expected %s, found %s", expected, quote(text))
		return netip.Prefix{}, false
	}
	if reason := unusablePrefix(prefix); reason != "" {
		d.fail(n.position, "write a prefix that packets can come from", "sources: %s cannot be %s: it has %s", prefix, source, reason)
		return netip.Prefix{}, false
	}
	if prefix != prefix.Masked() {
		d.fail(n.position, fmt.Sprintf("write %s, or %s for this address alone", prefix.Masked(), prefix.Addr()),
			"sources: %s has bits set behind its length", prefix)
		return netip.Prefix{}, false
	}
	return prefix, true
}

// unusablePrefix says which addresses of a prefix packets cannot come from.
func unusablePrefix(prefix netip.Prefix) string {
	for _, bad := range []struct{ prefix, addresses string }{
		{"0.0.0.0/32", "the unspecified address"},
		{"127.0.0.0/8", "loopback addresses"},
		{"224.0.0.0/4", "multicast addresses"},
		{"255.255.255.255/32", "the broadcast address"},
		{"::/96", "the unspecified address and IPv4-compatible ones"},
		{"::ffff:0:0/96", "IPv4 addresses mapped into IPv6"},
		{"fe80::/10", "link-local addresses"},
		{"ff00::/8", "multicast addresses"},
	} {
		if netip.MustParsePrefix(bad.prefix).Overlaps(prefix) {
			return fmt.Sprintf("%s (%s)", bad.addresses, bad.prefix)
		}
	}
	return ""
}

// of is what of it a service uses whose backends are of these families.
func (t tunnel) of(backends families) lb.Tunnel {
	own := lb.Tunnel{Port: t.Port}
	for _, prefix := range t.Sources {
		if backends.have(prefix.Addr()) {
			own.Sources = append(own.Sources, prefix)
		}
	}
	return own
}

// inheritTunnel gives each service what it does not say itself.
func (d *decoder) inheritTunnel(services []service, common tunnel) {
	for i := range services {
		s := &services[i]
		own := common
		if s.tunnel != nil {
			own = d.tunnel(s.tunnel, common.Tunnel)
			d.checkTunnel(s, own)
		}
		s.Tunnel = own.of(s.families())
	}
}

// checkTunnel refuses what can stand in the settings for all services but means
// nothing in a service's own.
func (d *decoder) checkTunnel(s *service, own tunnel) {
	if own.port != nil && s.Forward == lb.ForwardIPIP {
		d.fail(own.port.keyAt, "remove it, or use forward: gue", "port: ipip has no port: this would be ignored")
	}
	backends := s.families()
	for i, n := range own.given {
		if addr := own.Sources[i].Addr(); !backends.have(addr) {
			d.fail(n.position, fmt.Sprintf("write an %s prefix", otherFamily(addr)),
				"sources: %s is an %s prefix, and the backends of this service have %s addresses", own.Sources[i], family(addr), otherFamily(addr))
		}
	}
}
