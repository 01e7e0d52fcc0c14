package reconcile

import (
	"cmp"
	"fmt"
	"slices"
)

type span struct {
	first, size uint32
}

// spans finds room in an array that tables or lists lie in, one beside the other.
type spans struct {
	what string
	size uint32 // of the array
	used []span // sorted by first
}

func newSpans(what string, size uint32, used []span) *spans {
	used = slices.DeleteFunc(used, func(s span) bool { return s.size == 0 })
	slices.SortFunc(used, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	return &spans{what: what, size: size, used: used}
}

// take finds the first gap of the given size.
func (s *spans) take(size uint32) (uint32, error) {
	var end uint32
	for i, u := range s.used {
		if u.first >= end && u.first-end >= size {
			s.used = slices.Insert(s.used, i, span{end, size})
			return end, nil
		}
		end = max(end, u.first+u.size)
	}
	if s.size < end || s.size-end < size {
		return 0, fmt.Errorf("no room for %d more %s: the array has %d", size, s.what, s.size)
	}
	s.used = append(s.used, span{end, size})
	return end, nil
}
