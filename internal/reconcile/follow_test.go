package reconcile_test

import (
	"errors"
	"maps"
	"net/netip"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/reconcile"
)

// What Follow is given is enough, and leaves nothing for Apply.
func TestFollowDoesWhatApplyDoes(t *testing.T) {
	sequences(t, 15, func(t *testing.T, seed uint64) {
		w, m, e := newWorld(seed), newMemory(t, testLimits()), newExpectation(t)
		r := m.start()
		for step := range 50 {
			w.step()
			applyAndVerify(r, m, e, w)
			changed := w.changeHops()
			w.changeSomeHealth()
			w.tell(r)
			m.watch(destinations())
			result, err := r.Follow(changed)
			if err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			m.checkSeen()
			e.verify(m, w, result)
			m.writes()
			applyAndVerify(r, m, e, w)
			if log := m.writes(); len(log) > 0 || t.Failed() {
				t.Fatalf("step %d: Follow has left %v", step, log)
			}
		}
	})
}

// changeHops changes some next hops, and returns them.
func (w *world) changeHops() map[netip.Addr]lb.NextHop {
	before := maps.Clone(w.hops)
	for range 3 {
		s := w.services[w.rng.IntN(len(w.services))]
		w.changeHop(s.Backends[w.rng.IntN(len(s.Backends))].Address.Addr())
	}
	changed := maps.Clone(w.hops)
	maps.DeleteFunc(changed, func(a netip.Addr, hop lb.NextHop) bool { return before[a] == hop })
	return changed
}

func (w *world) changeSomeHealth() {
	for range 3 {
		s := w.services[w.rng.IntN(len(w.services))]
		w.changeHealth(identity{s.number, s.Backends[w.rng.IntN(len(s.Backends))].Address})
	}
}

// The next hops that Follow was given in vain are not lost.
func TestFollowAfterAFailure(t *testing.T) {
	cfg := three()
	m := newMemory(t, testLimits())
	r := m.start()
	address := cfg.Services[0].Backends[0].Address.Addr()
	lost := map[netip.Addr]lb.NextHop{address: {Problem: "no answer"}}
	if _, err := r.Follow(lost); !errors.Is(err, reconcile.ErrBehind) {
		t.Errorf("before the first Apply: got the error %v", err)
	}
	mustApply(t, r, cfg, hopsOf(cfg))
	m.fail = func(int) bool { return true }
	if _, err := r.Follow(lost); !errors.Is(err, errWrite) {
		t.Errorf("got the error %v, want %v", err, errWrite)
	}
	m.fail = nil
	if _, err := r.Follow(nil); !errors.Is(err, reconcile.ErrBehind) {
		t.Errorf("after a failure: got the error %v", err)
	}
	if result := mustApply(t, r, cfg, nil); len(result.Unusable) != 1 {
		t.Errorf("not usable: %v, want %s alone", result.Unusable, address)
	}
}
