package reconcile

import "fmt"

// ids hands out numbers from 1 to last, going round, so that a number that was
// given back is used again as late as possible.
type ids struct {
	what string
	last uint32
	next uint32
	used map[uint32]bool
}

func newIDs(what string, last uint32) *ids { return &ids{what: what, last: last, next: 1} }

// recall says which numbers are in use, whatever was handed out since.
func (s *ids) recall(used map[uint32]bool) {
	s.used = used
	for id := range used {
		if id >= s.next {
			s.next = id%s.last + 1
		}
	}
}

func (s *ids) take() (uint32, error) {
	for range s.last {
		id := s.next
		s.next = s.next%s.last + 1
		if !s.used[id] {
			s.used[id] = true
			return id, nil
		}
	}
	return 0, fmt.Errorf("no room for another %s: all %d are in use; raise limits.%ss and restart", s.what, s.last, s.what)
}
