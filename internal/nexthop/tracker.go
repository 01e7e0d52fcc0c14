package nexthop

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

const (
	// lookupPause is the least time between two look-ups of all routes.
	lookupPause = 100 * time.Millisecond
	// lookupShare bounds the time spent on look-ups while routes keep changing, to
	// one part in this many.
	lookupShare = 10
	// retryPause is how long to wait after the kernel refused a look-up.
	retryPause = time.Second
)

// tracker mirrors what the kernel says about the wanted addresses. What it is told
// about a change is only a hint: it always reads the present state from the kernel,
// so late, lost and repeated notifications do no harm. One goroutine owns it.
type tracker struct {
	log    *slog.Logger
	kernel *kernel

	routes     map[netip.Addr]route
	links      map[int]link
	neighbours map[neighbourKey]*neighbour
	users      map[neighbourKey][]netip.Addr
	own        []netip.Addr     // the host's addresses, sorted; nil: not known
	interfaces map[string]sized // the host's by their names; nil: not known
	attached   []string         // names of interfaces with a program

	stale      bool      // routes, links or addresses have changed since the last look-up
	lookupFrom time.Time // not before
}

func newTracker(log *slog.Logger, k *kernel) *tracker {
	return &tracker{
		log: log, kernel: k, stale: true,
		routes:     map[netip.Addr]route{},
		neighbours: map[neighbourKey]*neighbour{},
	}
}

// lookup finds the way to every wanted address, or with all false only to those
// that have none yet, and starts to follow the neighbours on these ways.
func (t *tracker) lookup(wanted []netip.Addr, all bool, now time.Time) {
	failed := errors.Join(t.lookupRoutes(wanted, all), t.lookupLinks())
	if all {
		failed = errors.Join(failed, t.lookupOwn(), t.lookupInterfaces())
	}
	t.followNeighbours(now)
	took := time.Since(now)
	t.log.Debug("routes looked up", "addresses", len(wanted), "all", all, "took", took)
	if failed != nil {
		t.log.Warn("routes not readable, trying again", "error", failed)
		t.stale, t.lookupFrom = true, now.Add(took+retryPause)
		return
	}
	if all {
		t.stale, t.lookupFrom = false, now.Add(took+max(lookupPause, (lookupShare-1)*took))
	}
}

// lookupRoutes keeps what was known about an address whose look-up fails. It gives
// up at the first failure: the others would fail as slowly.
func (t *tracker) lookupRoutes(wanted []netip.Addr, all bool) (failed error) {
	routes := make(map[netip.Addr]route, len(wanted))
	for _, addr := range wanted {
		before, known := t.routes[addr]
		if !known {
			before.problem = problemNotYet
		}
		routes[addr] = before
		if known && !all || failed != nil {
			continue
		}
		found, err := t.kernel.route(addr.Unmap())
		if err != nil {
			failed = err
			continue
		}
		if found.problem == problemNoRoute {
			found.index = before.index // the interface the route went away with
		}
		routes[addr] = found
	}
	t.routes = routes
	return failed
}

// lookupLinks reads the interfaces that routes use, each once.
func (t *tracker) lookupLinks() (failed error) {
	links := map[int]link{}
	for _, r := range t.routes {
		if _, known := links[r.index]; known || r.index == 0 {
			continue
		}
		found, err := t.kernel.link(r.index)
		if err != nil {
			found, failed = t.links[r.index], err
		}
		links[r.index] = found
	}
	t.links = links
	return failed
}

// lookupOwn keeps what was known if it fails.
func (t *tracker) lookupOwn() error {
	prefixes, err := t.kernel.addresses(nil)
	if err != nil {
		return err
	}
	own := make([]netip.Addr, 0, len(prefixes))
	for _, prefix := range prefixes {
		own = append(own, prefix.Addr())
	}
	slices.SortFunc(own, netip.Addr.Compare)
	t.own = slices.Compact(own)
	return nil
}

// lookupInterfaces keeps what was known if it fails.
func (t *tracker) lookupInterfaces() error {
	interfaces, err := t.kernel.interfaces()
	if err == nil {
		t.interfaces = interfaces
	}
	return err
}

// followNeighbours keeps one neighbour for each gateway or on-link address in use,
// whatever the number of addresses behind it.
func (t *tracker) followNeighbours(now time.Time) {
	t.users = map[neighbourKey][]netip.Addr{}
	neighbours := map[neighbourKey]*neighbour{}
	for addr, r := range t.routes {
		if r.problem != "" || t.linkAt(r.index).problem() != "" {
			continue
		}
		key := neighbourKey{index: r.index, addr: r.via}
		t.users[key] = append(t.users[key], addr)
		if n, known := t.neighbours[key]; known {
			neighbours[key] = n
		} else if neighbours[key] == nil {
			neighbours[key] = &neighbour{due: now, every: verifyEvery - rand.N(verifySpread)}
		}
	}
	t.neighbours = neighbours
}

// expedite makes neighbours due at once; unknown ones are not ours to follow.
func (t *tracker) expedite(keys map[neighbourKey]struct{}, now time.Time) {
	for key := range keys {
		if n, known := t.neighbours[key]; known {
			n.due = now
		}
	}
}

// reread makes every neighbour due at once.
func (t *tracker) reread(now time.Time) {
	for _, n := range t.neighbours {
		n.due = now
	}
}

// examineDue reads the neighbours that are due, requests what they need, and returns
// the addresses whose next hop may have changed by it.
func (t *tracker) examineDue(now time.Time) []netip.Addr {
	var touched []netip.Addr
	for key, n := range t.neighbours {
		if n.due.After(now) {
			continue
		}
		before := *n
		t.examine(key, n, now)
		touched = append(touched, t.users[key]...)
		// With several gateways the kernel prefers one that answers, without
		// telling anyone that its choice has changed.
		if gained, lost := before.mac == (lb.MAC{}), n.mac == (lb.MAC{}); gained != lost && t.isGateway(key) {
			t.stale = true
		}
	}
	return touched
}

func (t *tracker) examine(key neighbourKey, n *neighbour, now time.Time) {
	e, err := t.kernel.neighbour(key)
	if err != nil { // says nothing about the neighbour: keep what is known
		t.log.Debug("neighbour not readable", "address", key.addr, "error", err)
		n.due = now.Add(retryPause)
		return
	}
	switch n.observe(e, now) {
	case ask:
		err = t.kernel.ask(key, e.exists)
		if err != nil && !errors.Is(err, errChanged) {
			n.refuse(err, now)
		}
	case verify:
		err = t.kernel.verify(key)
	}
	if errors.Is(err, errChanged) {
		n.retry(now)
	} else if err != nil {
		t.log.Debug("neighbour request refused", "address", key.addr, "error", err)
	}
}

// isGateway reports whether the neighbour forwards for others.
func (t *tracker) isGateway(key neighbourKey) bool {
	for _, addr := range t.users[key] {
		if addr.Unmap() != key.addr {
			return true
		}
	}
	return false
}

// next is when there is something to do without a notification; false: never.
func (t *tracker) next() (when time.Time, ok bool) {
	if t.stale {
		when, ok = t.lookupFrom, true
	}
	for _, n := range t.neighbours {
		if !ok || n.due.Before(when) {
			when, ok = n.due, true
		}
	}
	return when, ok
}

// linkAt is an interface that routes use. A VLAN interface that a program is attached
// to is one like others: frames arrive there without its tag, and leave so.
func (t *tracker) linkAt(index int) link {
	l := t.links[index]
	if slices.Contains(t.attached, l.name) {
		l.vlan = vlan{}
	}
	return l
}

// out are the interfaces that packets to the wanted addresses leave by.
func (t *tracker) out() []int {
	var all []int
	for index := range t.links {
		l := t.linkAt(index)
		if l.name == "" || l.problem() != "" {
			continue
		}
		if l.vlan.parent != 0 {
			index = l.vlan.parent
		}
		all = append(all, index)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// hop is the next hop to a wanted address as far as it is known.
func (t *tracker) hop(addr netip.Addr) lb.NextHop {
	r, known := t.routes[addr]
	if !known {
		return lb.NextHop{Problem: problemNotYet}
	}
	var n neighbour
	if found, known := t.neighbours[neighbourKey{index: r.index, addr: r.via}]; known {
		n = *found
	}
	return decide(r, t.linkAt(r.index), n)
}
