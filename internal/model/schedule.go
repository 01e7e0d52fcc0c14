package model

import (
	"fmt"
	"slices"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

// schedule picks the backend that the scheduler gives a new flow, or the next one in the table that is not full; nil:
// there is none, and why. Where chance decides, the one that was observed is it, if it could be.
func (m *Model) schedule(s *service, t tuple, got Outcome) (*backend, Reason, error) {
	if len(s.table) == 0 {
		return nil, NoBackend, nil
	}
	if s.isFull(m, t, got) {
		return nil, MaxFlowsBackend, nil
	}
	byChance := s.config.Scheduler != lb.Maglev
	someMayBeFull := slices.ContainsFunc(s.inOrder(t), func(b *backend) bool { _, may := m.full(b); return may })
	for _, b := range s.inOrder(t) {
		full, mayBeFull := m.full(b)
		if full || b.config.Label() != got.Backend && (mayBeFull || byChance) {
			continue
		}
		if s.config.Scheduler == lb.LeastConn && len(s.table) <= searchedWhole && !someMayBeFull {
			return b, "", m.mayBeBetter(s, b)
		}
		return b, "", nil
	}
	if byChance {
		return nil, "", fmt.Errorf("service %s: the backend by chance was %q, which takes no new flows", s.config.Name, got.Backend)
	}
	return nil, MaxFlowsBackend, nil
}

// isFull reports whether no backend takes a new flow: if there may be one, as was observed.
func (s *service) isFull(m *Model, t tuple, got Outcome) bool {
	all, allMay, some, firstMay := true, true, false, false
	for i, b := range s.inOrder(t) {
		full, mayBeFull := m.full(b)
		all, allMay, some = all && full, allMay && mayBeFull, some || mayBeFull
		firstMay = firstMay || i == 0 && mayBeFull
	}
	if s.config.Scheduler != lb.Maglev {
		firstMay = some
	}
	refused := got.Reason == MaxFlowsBackend
	if all || allMay && refused {
		s.backendsFull = m.now.Add(time.Duration(len(s.table)) * fullFor)
		return true
	}
	return refused && firstMay && m.now.Before(s.backendsFull)
}

// inOrder lists the backends in a service's table, in the order in which a flow would try them.
func (s *service) inOrder(t tuple) []*backend {
	var all []*backend
	start := int(t.hash() % uint32(len(s.table)))
	for i := range s.table {
		if b := s.table[(start+i)%len(s.table)]; !slices.Contains(all, b) {
			all = append(all, b)
		}
	}
	return all
}

// searchedWhole is the largest table in which another candidate than the first one is certainly
// found, where there is any.
const searchedWhole = 256

// mayBeBetter is an error if a backend has, for its weight, more flows than each other one: whatever the second
// candidate was, it had fewer.
func (m *Model) mayBeBetter(s *service, chosen *backend) error {
	fewest := m.flowsOf(chosen).surely
	others := 0
	for _, b := range s.backends {
		if b == chosen || !slices.Contains(s.table, b) {
			continue
		}
		others++
		if most := m.flowsOf(b).atMost; most*int(chosen.config.Weight) >= fewest*int(b.config.Weight) {
			return nil
		}
	}
	if others == 0 {
		return nil
	}
	return fmt.Errorf("service %s: %s was chosen, which has %d flows at least for a weight of %d: each other one has fewer for its own",
		s.config.Name, chosen.config.Label(), fewest, chosen.config.Weight)
}
