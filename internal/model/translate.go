package model

import "github.com/tinylb/tinylb/internal/lb"

// translated is the IP packet in the family of a tuple's addresses, which is not its
// own (RFC 7915): the header is another one, and what stands between it and the
// ports is left out.
func (m *Model) translated(p *parsed, t tuple, got observed) ([]byte, Reason) {
	if p.hasSourceRoute() { // section 4.1
		return nil, SourceRoute
	}
	body := m.l4For(p, t)
	header := ipHeader{
		src: t.src.Addr(), dst: t.dst.Addr(), class: p.class, ttl: p.ttl - 1, protocol: lb.Protocol(t.protocol),
	}
	header.dontFragment, header.id = p.fragmentation(len(body), got)
	if !header.fits(len(body)) {
		return nil, TooBig
	}
	return header.before(body), ""
}

// wholeSize is up to which size a packet may be fragmented that was not in IPv6: the
// least MTU there, 1280, less what its header is longer (RFC 7915, section 5.1).
const wholeSize = 1260

// fragmentation is what an IPv6 packet says in the IPv4 header about fragments, if it
// has a body of a size there (RFC 7915, sections 5.1 and 5.1.1).
func (p *parsed) fragmentation(body int, got observed) (dontFragment bool, id uint16) {
	switch {
	case p.fragmentID != nil:
		return false, uint16(*p.fragmentID)
	case ipv4Size+body > wholeSize:
		return true, 0
	}
	return false, p.freeID(got)
}

// Options of IPv4 (RFC 791, section 3.1).
const (
	endOfOptions      = 0
	noOperation       = 1
	looseSourceRoute  = 131
	strictSourceRoute = 137

	optionLengthAt  = 1
	optionPointerAt = 2
)

// hasSourceRoute reports whether an IPv4 packet has still to go by nodes that its
// options name.
func (p *parsed) hasSourceRoute() bool {
	if p.isIPv6() {
		return false
	}
	options := p.frame[p.ip+ipv4Size : p.l4]
	for len(options) > 0 {
		size := 1
		if kind := options[0]; kind == endOfOptions {
			return false
		} else if kind != noOperation {
			if len(options) <= optionLengthAt {
				return false
			}
			size = int(options[optionLengthAt])
			if size <= optionLengthAt || size > len(options) {
				return false
			}
			isRoute := kind == looseSourceRoute || kind == strictSourceRoute
			if isRoute && size > optionPointerAt && int(options[optionPointerAt]) <= size {
				return true
			}
		}
		options = options[size:]
	}
	return false
}
