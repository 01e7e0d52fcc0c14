package nexthop

import (
	"errors"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/vishvananda/netlink"
)

var (
	oldMAC = lb.MAC{2, 0, 0, 0, 0, 1}
	newMAC = lb.MAC{2, 0, 0, 0, 0, 2}
)

// moment is one observation in a neighbour's life.
type moment struct {
	at   time.Duration
	see  entry
	want request
	mac  lb.MAC
	due  time.Duration // when to look again without a notification
}

func inState(state int, mac lb.MAC) entry { return entry{exists: true, state: state, mac: mac} }

func TestNeighbourLife(t *testing.T) {
	var none lb.MAC
	missing := entry{}
	failed := inState(netlink.NUD_FAILED, none)
	incomplete := inState(netlink.NUD_INCOMPLETE, none)
	reachable := inState(netlink.NUD_REACHABLE, oldMAC)
	foreign := func(e entry) entry {
		e.foreign = true
		return e
	}
	confirmed := func(ago time.Duration) entry {
		e := reachable
		e.confirmed = ago
		return e
	}
	const s = time.Second

	tests := map[string][]moment{
		"answers, and is verified every 5 s": {
			{0, missing, ask, none, 4 * s},
			{s, reachable, nothing, oldMAC, 6 * s},
			{6 * s, confirmed(5 * s), verify, oldMAC, 11 * s},
			{6 * s, inState(netlink.NUD_PROBE, oldMAC), nothing, oldMAC, 11 * s},
			{6 * s, reachable, nothing, oldMAC, 11 * s},
		},
		"traffic of the kernel's own confirms it": {
			{0, reachable, nothing, oldMAC, 5 * s},
			{5 * s, confirmed(2 * s), nothing, oldMAC, 8 * s},
		},
		"a stale entry is used and verified at once, but not too often": {
			{10 * s, inState(netlink.NUD_STALE, oldMAC), verify, oldMAC, 15 * s},
			{10*s + 100*time.Millisecond, inState(netlink.NUD_STALE, newMAC), nothing, newMAC, 11 * s},
			{11 * s, inState(netlink.NUD_STALE, newMAC), verify, newMAC, 16 * s},
		},
		"the last MAC stays while a lost neighbour is asked for once more": {
			{0, reachable, nothing, oldMAC, 5 * s},
			{8 * s, failed, ask, oldMAC, 12 * s},
			{8 * s, incomplete, nothing, oldMAC, 12 * s},
			{9 * s, inState(netlink.NUD_REACHABLE, newMAC), nothing, newMAC, 14 * s},
		},
		"a lost neighbour that stays silent loses its MAC and is asked for less and less": {
			{0, reachable, nothing, oldMAC, 5 * s},
			{8 * s, failed, ask, oldMAC, 12 * s},
			{11 * s, failed, nothing, none, 12 * s},
			{11 * s, failed, nothing, none, 12 * s},
			{12 * s, failed, ask, none, 16 * s},
			{15 * s, failed, nothing, none, 17 * s},
			{16 * s, missing, nothing, none, 17 * s}, // collected as garbage
			{17 * s, missing, ask, none, 21 * s},
		},
		"an entry deleted by the admin is asked for at once": {
			{0, reachable, nothing, oldMAC, 5 * s},
			{s, missing, ask, oldMAC, 5 * s},
		},
		"somebody else who asks for ever does not keep the last MAC alive": {
			{0, reachable, nothing, oldMAC, 5 * s},
			{5 * s, incomplete, nothing, oldMAC, 9 * s},
			{8 * s, incomplete, nothing, oldMAC, 9 * s},
			{9 * s, incomplete, nothing, none, 13 * s},
		},
		"entries of others are used and never written": {
			{0, foreign(inState(netlink.NUD_PERMANENT, oldMAC)), nothing, oldMAC, 30 * s},
			{30 * s, foreign(inState(netlink.NUD_STALE, newMAC)), nothing, newMAC, 60 * s},
			{60 * s, foreign(failed), nothing, newMAC, 90 * s},
			{63 * s, foreign(failed), nothing, none, 93 * s},
		},
	}
	for name, moments := range tests {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			n := neighbour{due: start, every: verifyEvery}
			for i, m := range moments {
				now := start.Add(m.at)
				if got := n.observe(m.see, now); got != m.want {
					t.Errorf("moment %d: requests %v, want %v", i, got, m.want)
				}
				if n.mac != m.mac {
					t.Errorf("moment %d: MAC %x, want %x", i, n.mac, m.mac)
				}
				if due := n.due.Sub(start); due != m.due {
					t.Errorf("moment %d: due at %v, want %v", i, due, m.due)
				}
			}
		})
	}
}

func TestNeighbourBackoff(t *testing.T) {
	start := time.Now()
	var n neighbour
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		n.refuse(errors.New("no"), start)
		if got := n.due.Sub(start); got != want*time.Second {
			t.Errorf("after %d failures: asks again in %v, want %v", i+1, got, want*time.Second)
		}
	}
}
