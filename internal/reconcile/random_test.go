package reconcile_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
)

func testLimits() lb.Limits {
	return lb.Limits{Services: 64, Backends: 256, TableEntries: 32768, Prefixes: 64}
}

// sequences runs f with many seeds.
func sequences(t *testing.T, count uint64, f func(t *testing.T, seed uint64)) {
	for seed := range count {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { f(t, seed) })
	}
}

func TestRandomSequences(t *testing.T) {
	sequences(t, 15, func(t *testing.T, seed uint64) {
		w, m, e := newWorld(seed), newMemory(t, testLimits()), newExpectation(t)
		r := m.start()
		for step := range 100 {
			w.step()
			cfg, hops := w.snapshot()
			w.tell(r)
			m.watch(destinations())
			result, err := r.Apply(cfg, hops)
			if err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			m.checkSeen()
			e.verify(m, w, result)
			m.writes()
			if again, err := r.Apply(cfg, hops); err != nil || len(m.log) > 0 || fmt.Sprint(again) != fmt.Sprint(result) {
				t.Errorf("step %d: applied again: %v, %d writes, result %v and then %v", step, err, len(m.log), result, again)
			}
			if t.Failed() {
				t.Fatalf("in step %d", step)
			}
		}
	})
}

// Each write fails with a probability of 10 %; now and then the daemon restarts.
func TestUnreliableWrites(t *testing.T) {
	for name, restart := range map[string]int{"restarts": 2, "one daemon": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			sequences(t, 15, func(t *testing.T, seed uint64) {
				w, m, e := newWorld(seed), newMemory(t, testLimits()), newExpectation(t)
				luck := rand.New(rand.NewPCG(seed, 1))
				m.fail = func(int) bool { return luck.IntN(10) == 0 }
				r := m.start()
				for step := range 50 {
					w.step()
					cfg, hops := w.snapshot()
					w.tell(r)
					tries := 1
					m.watch(destinations())
					result, err := r.Apply(cfg, hops)
					for ; err != nil && tries < 1000; tries++ {
						if luck.IntN(restart) == 1 {
							r = m.start()
							w.tell(r)
						}
						result, err = r.Apply(cfg, hops)
					}
					if err != nil {
						t.Fatalf("step %d: %v after %d tries", step, err, tries)
					}
					m.checkSeen()
					e.verify(m, w, result)
					if t.Failed() {
						t.Fatalf("in step %d", step)
					}
				}
			})
		})
	}
}

// Of many desired states only the last is reached: it does not show by what way.
func TestHistoryDoesNotShow(t *testing.T) {
	sequences(t, 15, func(t *testing.T, seed uint64) {
		w, m := newWorld(seed), newMemory(t, testLimits())
		luck := rand.New(rand.NewPCG(seed, 1))
		m.fail = func(int) bool { return luck.IntN(10) == 0 }
		r := m.start()
		for range 30 {
			w.step()
			cfg, hops := w.snapshot()
			w.tell(r)
			_, err := r.Apply(cfg, hops) // may fail: the next state comes all the same
			_ = err
		}
		m.fail = nil
		cfg, hops := w.snapshot()
		w.tell(r)
		for address, hop := range hops {
			if hop.Usable() { // else it depends on whether the backend was ever reached
				hops[address] = hopTo(address, 1)
			}
		}
		if _, err := r.Apply(cfg, hops); err != nil {
			t.Fatal(err)
		}
		fresh := newMemory(t, testLimits())
		anew := fresh.start()
		w.tell(anew)
		if _, err := anew.Apply(cfg, hops); err != nil {
			t.Fatal(err)
		}
		for key, entry := range fresh.services {
			got := m.services[key]
			if got.TableSize != entry.TableSize {
				t.Errorf("%v: %d slots, want %d", key, got.TableSize, entry.TableSize)
				continue
			}
			for slot := range entry.TableSize {
				got := m.backends[m.tables[got.TableOffset+slot]].Address
				want := fresh.backends[fresh.tables[entry.TableOffset+slot]].Address
				if got != want {
					t.Fatalf("%v slot %d: %s, want %s", key, slot, got, want)
				}
			}
		}
	})
}
