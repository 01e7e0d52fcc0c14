package model

import (
	"net/netip"
	"time"
)

// client is whoever has an address with the same first bits, to a service or a group of services.
type client struct {
	of     string
	prefix netip.Prefix
}

func clientOf(of string, a netip.Addr, v4, v6 uint8) client {
	bits := int(v6)
	if a.Is4() {
		bits = int(v4)
	}
	prefix, _ := a.Prefix(bits) // fails only for lengths that no config has
	return client{of, prefix}
}

// welcomes reports whether a source may open flows: the longest prefix that has it says so, in both
// lists; without any, who is in none may not if some are named that may.
func (s *service) welcomes(source netip.Addr) bool {
	longest := func(prefixes []netip.Prefix) int {
		most := -1
		for _, prefix := range prefixes {
			if prefix.Contains(source) {
				most = max(most, prefix.Bits())
			}
		}
		return most
	}
	allowed, denied := longest(s.config.Allow), longest(s.config.Deny)
	if allowed < 0 && denied < 0 {
		return len(s.config.Allow) == 0
	}
	return allowed > denied
}

// count is how many active flows there are: surely, and at most. A flow that is over, or whose backend is
// gone, counts until somebody has cleared it, and then perhaps for whoever got its backend's number.
type count struct{ surely, atMost int }

func (m *Model) countFlows(of func(*flow) bool) count {
	var c count
	for f := range m.flows.all {
		switch {
		case f.phase() == Closed:
		case f.backend.gone:
			c.atMost++
		case !of(f):
		case m.needed(f):
			c.surely, c.atMost = c.surely+1, c.atMost+1
		default:
			c.atMost++
		}
	}
	return c
}

// reaches reports whether a limit is reached, and whether it may be; a limit of 0 never is.
func (c count) reaches(limit uint32) (does, may bool) {
	return limit > 0 && c.surely >= int(limit), limit > 0 && c.atMost >= int(limit)
}

// refuses says why a service takes no new flow now; "" if it does.
func (m *Model) refuses(s *service, p *parsed, got Outcome) Reason {
	full, mayBeFull := m.countFlows(func(f *flow) bool { return f.service == s }).reaches(s.config.MaxFlows)
	if full || mayBeFull && got.Reason == MaxFlowsService {
		return MaxFlowsService
	}
	if rate := s.config.PerClient; rate.NewFlowsPerSecond > 0 {
		who := clientOf(s.config.Name, p.tuple.src.Addr(), rate.PrefixV4, rate.PrefixV6)
		if m.clientRates[who] == nil {
			m.clientRates[who] = &rateLimit{}
		}
		if !m.clientRates[who].allowSecond(m.now, rate.NewFlowsPerSecond) {
			return ClientRate
		}
	}
	if rate := s.config.NewFlowsPerSecond; rate > 0 && !s.rate.allowSecond(m.now, rate) {
		return ServiceRate
	}
	return ""
}

// keptBackend is the one that a client's next flow goes to.
type keptBackend struct {
	backend *backend
	until   time.Time
}

// keeps is the client that affinity knows a source by.
func (s *service) keeps(source netip.Addr) client {
	of := "service " + s.config.Name
	if s.config.Affinity.Group != "" {
		of = "group " + s.config.Affinity.Group
	}
	return clientOf(of, source, s.config.Affinity.PrefixV4, s.config.Affinity.PrefixV6)
}

// choose finds the backend of a new flow; nil: there is none, and why.
func (m *Model) choose(s *service, p *parsed, got Outcome) (*backend, Reason, error) {
	if named := s.namedBy(p); named != nil {
		return named, "", nil
	}
	if s.config.Affinity.Timeout == 0 {
		return m.schedule(s, p.tuple, got)
	}
	who := s.keeps(p.tuple.src.Addr())
	b, why, err := m.keptFor(s, who, got), Reason(""), error(nil)
	if b == nil {
		b, why, err = m.schedule(s, p.tuple, got)
	}
	if b != nil {
		m.kept[who] = &keptBackend{b, m.now.Add(s.config.Affinity.Timeout)}
	}
	return b, why, err
}

// keptFor is the backend that a client had before or, if that is another service's or takes no
// flows, the first with the same address; nil: none that takes flows.
func (m *Model) keptFor(s *service, who client, got Outcome) *backend {
	kept := m.kept[who]
	if kept == nil || !kept.until.After(m.now) {
		return nil
	}
	var candidates []*backend
	for _, b := range s.backends {
		if b == kept.backend {
			candidates = append(candidates, b)
		}
	}
	for _, b := range s.backends {
		if b.config.Address.Addr() == kept.backend.config.Address.Addr() && s.wouldTake(b) {
			candidates = append(candidates, b)
			break
		}
	}
	for _, b := range candidates {
		full, mayBeFull := m.full(b)
		if s.takes(b) && b.config.Weight > 0 && !full && (!mayBeFull || b.config.Label() == got.Backend) {
			return b
		}
	}
	return nil
}

// wouldTake reports whether new flows can be forwarded to a backend once it has a next hop.
func (s *service) wouldTake(b *backend) bool {
	return b.config.Weight > 0 && (!b.hop.Usable() || s.takes(b))
}

func (m *Model) full(b *backend) (is, may bool) {
	if b.config.MaxFlows == 0 {
		return false, false
	}
	return m.flowsOf(b).reaches(b.config.MaxFlows)
}

func (m *Model) flowsOf(b *backend) count {
	return m.countFlows(func(f *flow) bool { return f.backend == b })
}

// fullFor is how long a search that found all backends full may be believed, for each entry of the table.
const fullFor = 100 * time.Nanosecond
