package model

import (
	"fmt"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
)

// schedule picks the backend of a new flow; nil: there is none. Where chance
// decides, the one that was observed is it, if it could be.
func (m *Model) schedule(s *service, p *parsed, observed string) (*backend, error) {
	if named := s.namedBy(p); named != nil {
		return named, nil
	}
	if len(s.table) == 0 {
		return nil, nil
	}
	if s.config.Scheduler == lb.Maglev {
		return s.table[p.tuple.hash()%uint32(len(s.table))], nil
	}
	i := slices.IndexFunc(s.table, func(b *backend) bool { return b.config.Label() == observed })
	if i < 0 {
		return nil, fmt.Errorf("service %s: the backend by chance was %q, which takes no new flows", s.config.Name, observed)
	}
	if s.config.Scheduler == lb.LeastConn && len(s.table) <= searchedWhole {
		return s.table[i], m.mayBeBetter(s, s.table[i])
	}
	return s.table[i], nil
}

// searchedWhole is the largest table in which another candidate than the first one is certainly
// found, where there is any.
const searchedWhole = 256

// mayBeBetter is an error if a backend has, for its weight, more flows than each other one: whatever the second
// candidate was, it had fewer.
func (m *Model) mayBeBetter(s *service, chosen *backend) error {
	fewest, _ := m.flowsOf(chosen)
	others := 0
	for _, b := range s.backends {
		if b == chosen || !slices.Contains(s.table, b) {
			continue
		}
		others++
		if _, most := m.flowsOf(b); most*uint64(chosen.config.Weight) >= fewest*uint64(b.config.Weight) {
			return nil
		}
	}
	if others == 0 {
		return nil
	}
	return fmt.Errorf("service %s: %s was chosen, which has %d flows at least for a weight of %d: each other one has fewer for its own",
		s.config.Name, chosen.config.Label(), fewest, chosen.config.Weight)
}

// flowsOf counts a backend's flows that are not closed: those that must be in the table, and
// those that may be.
func (m *Model) flowsOf(b *backend) (fewest, most uint64) {
	for f := range m.flows.all {
		if f.backend != b || f.phase() == Closed {
			continue
		}
		most++
		if m.needed(f) {
			fewest++
		}
	}
	return fewest, most
}
