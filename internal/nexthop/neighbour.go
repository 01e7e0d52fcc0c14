package nexthop

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/vishvananda/netlink"
)

const (
	// verifyEvery is the age of a confirmation at which a neighbour is probed
	// again. The kernel verifies only neighbours it sends to itself; packets that
	// XDP sends pass it by. With 3 unicast probes of 1 s and the broadcast that
	// follows, a silent change of MAC is noticed within 9 s.
	verifyEvery = 5 * time.Second
	// verifySpread is by how much each neighbour's own period is shorter, so that
	// those found together are not probed together for ever.
	verifySpread = time.Second
	// verifyGap is the least time between two probes of one neighbour.
	verifyGap = time.Second
	// answerWithin is how long a neighbour that answered before may be asked for
	// until its MAC is given up. The kernel's own limit is 3 requests of 1 s, but
	// whoever else asks for it starts that count anew.
	answerWithin = 4 * time.Second
	// lookAgain is when a neighbour that is not ours to touch is read without a
	// notification: insurance only.
	lookAgain = 30 * time.Second

	// changedAgain is when an entry that changed under our hands is read again.
	changedAgain = 100 * time.Millisecond

	askAgainFirst = time.Second
	askAgainMost  = 30 * time.Second
)

// entry is a line of the kernel's neighbour table.
type entry struct {
	exists    bool
	state     int // netlink.NUD_*
	mac       lb.MAC
	confirmed time.Duration // since the neighbour last proved that it is there
	// foreign entries belong to the admin, a routing daemon or another program
	// that keeps them: every write of ours would take away their flags.
	foreign bool
}

const statesWithAddress = netlink.NUD_PERMANENT | netlink.NUD_NOARP | netlink.NUD_REACHABLE |
	netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE

func (e entry) answered() bool { return e.state&statesWithAddress != 0 }

// request is what the kernel should be told about a neighbour.
type request int

const (
	nothing request = iota
	ask             // resolve it: broadcast ARP, multicast ND
	verify          // ask it, by unicast, whether it is still there
)

type phase int

const (
	unknown  phase = iota
	answered       // the kernel has a MAC
	asking         // the kernel is asking for it
	waiting        // it did not answer; asked again when due
)

// neighbour is what the resolver remembers about one neighbour.
type neighbour struct {
	mac      lb.MAC // the last known; zero when there is none to use
	phase    phase
	failures int       // times in a row it did not answer
	since    time.Time // asking: since when
	verified time.Time // when it was last probed
	due      time.Time // when to look at it without a notification
	every    time.Duration
	refused  error // why the kernel would not ask
}

// observe takes in the neighbour's present entry and returns what to request.
// It depends on nothing but its arguments.
func (n *neighbour) observe(e entry, now time.Time) request {
	var want request
	switch {
	case e.answered():
		n.mac, n.phase, n.failures, n.refused = e.mac, answered, 0, nil
		want = n.reverify(e, now)
	case e.state == netlink.NUD_INCOMPLETE:
		n.incomplete(now)
	default:
		want = n.absent(now)
	}
	if e.foreign {
		n.due = now.Add(lookAgain)
		return nothing
	}
	return want
}

// reverify decides whether a neighbour with an address is to be probed.
func (n *neighbour) reverify(e entry, now time.Time) request {
	n.due = now.Add(n.every)
	if e.state == netlink.NUD_PROBE {
		return nothing
	}
	if e.state == netlink.NUD_REACHABLE && e.confirmed < n.every {
		n.due = now.Add(n.every - e.confirmed)
		return nothing
	}
	if next := n.verified.Add(verifyGap); now.Before(next) {
		n.due = next
		return nothing
	}
	n.verified = now
	return verify
}

// incomplete keeps the last known MAC while the kernel asks, but not for ever.
func (n *neighbour) incomplete(now time.Time) {
	if n.phase != asking {
		n.phase, n.since = asking, now
	}
	n.due = n.since.Add(answerWithin)
	if !now.Before(n.due) {
		n.fail()
		n.since, n.due = now, now.Add(answerWithin)
	}
}

// absent handles a neighbour that the kernel has no address for and is not asking for.
func (n *neighbour) absent(now time.Time) request {
	switch n.phase {
	case asking:
		n.fail()
		n.phase, n.due = waiting, now.Add(n.backoff())
		return nothing
	case waiting:
		if now.Before(n.due) {
			return nothing
		}
	}
	n.phase, n.since, n.due = asking, now, now.Add(answerWithin)
	return ask
}

// retry notes that the entry changed before the request reached it.
func (n *neighbour) retry(now time.Time) {
	n.phase, n.due = unknown, now.Add(changedAgain)
}

// refuse notes that the kernel did not do what was requested.
func (n *neighbour) refuse(err error, now time.Time) {
	n.refused = err
	n.fail()
	n.phase, n.due = waiting, now.Add(n.backoff())
}

func (n *neighbour) fail() {
	n.failures++
	n.mac = lb.MAC{}
}

// backoff doubles from askAgainFirst to askAgainMost.
func (n *neighbour) backoff() time.Duration {
	wait := askAgainFirst
	for range n.failures - 1 {
		if wait *= 2; wait >= askAgainMost {
			return askAgainMost
		}
	}
	return wait
}

// problem says why there is no MAC.
func (n *neighbour) problem(addr netip.Addr, device string) string {
	switch {
	case n.refused != nil:
		return fmt.Sprintf("cannot ask for %s on %s: %v", addr, device, n.refused)
	case n.phase == answered:
		return fmt.Sprintf("neighbour %s on %s has no Ethernet address", addr, device)
	case n.failures > 0:
		return fmt.Sprintf("neighbour %s on %s does not answer", addr, device)
	}
	return fmt.Sprintf("asking for %s on %s", addr, device)
}
