package reconcile

import (
	"errors"
	"fmt"
)

// ErrNoRoom says that the data plane's tables are too small for a config.
var ErrNoRoom = errors.New("no room")

// room hands out stretches of an array: ids one by one, lists and tables as
// long as they are. It goes round, so that what was given back is used again as
// late as possible: packets under way and flows may still refer to it.
type room[N uint8 | uint32] struct {
	what     string // in the plural
	limit    string // the knob that makes it larger
	users    []N    // of each place; N counts as many as there can be
	next     uint32 // where the next search starts
	released []stretch
}

type stretch struct {
	first, size uint32
}

func newRoom[N uint8 | uint32](what, limit string, size uint32) *room[N] {
	return &room[N]{what: what, limit: limit, users: make([]N, size)}
}

// newIDs has room for the ids from 1 to last; 0 is nobody.
func newIDs(what, limit string, last uint32) *room[uint32] {
	r := newRoom[uint32](what, limit, last+1)
	r.reset(1)
	return r
}

// reset takes the first places for good and gives all others back.
func (r *room[N]) reset(reserved uint32) {
	clear(r.users)
	r.released = nil
	r.hold(stretch{0, reserved})
}

// take finds a stretch that nobody uses, and makes the caller its user.
func (r *room[N]) take(size uint32) (uint32, error) {
	for _, start := range []uint32{r.next, 0} {
		free := uint32(0)
		for at := start; at < uint32(len(r.users)); at++ {
			if free++; r.users[at] > 0 {
				free = 0
			}
			if free == size {
				r.next = at + 1
				r.hold(stretch{r.next - size, size})
				return r.next - size, nil
			}
		}
	}
	return 0, fmt.Errorf("%w for %d more %s: raise limits.%s and restart", ErrNoRoom, size, r.what, r.limit)
}

// hold adds a user.
func (r *room[N]) hold(s stretch) {
	for at := range s.size {
		r.users[s.first+at]++
	}
}

// release announces that a user goes; settle lets it go.
func (r *room[N]) release(s stretch) { r.released = append(r.released, s) }

// settle lets all go that were released, and tells freed of each stretch that
// then has no user.
func (r *room[N]) settle(freed func(stretch)) {
	for _, s := range r.released {
		for at := range s.size {
			r.users[s.first+at]--
		}
		if s.size > 0 && r.users[s.first] == 0 {
			freed(s)
		}
	}
	r.released = nil
}

func (r *room[N]) used(at uint32) bool { return r.users[at] > 0 }
