package model

import "net/netip"

// isNear reports whether a backend would send its answers to a client itself, or
// give them to it over a link that they share, so that they would not come by here:
// the client is a backend of the service, or on the link of one that is reached by
// the interface, and in the VLAN, by which this one is. Of several links with the client the
// smallest is the one that it is on.
func (s *service) isNear(client netip.Addr, b *backend) bool {
	var smallest netip.Prefix
	links := map[uint32]bool{}
	for _, other := range s.backends {
		if other.config.Address.Addr() == client {
			return true
		}
		link := other.hop.Link.Masked()
		if !other.hop.Usable() || !link.IsValid() || !link.Contains(client) || link.Bits() < smallest.Bits() {
			continue
		}
		if link != smallest {
			smallest = link
			clear(links)
		}
		links[other.hop.LinkID()] = true
	}
	// A prefix on several links is taken for the client's whichever it is.
	return links[b.hop.LinkID()] || len(links) > 1
}
