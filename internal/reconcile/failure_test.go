package reconcile_test

import (
	"errors"
	"maps"
	"reflect"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/reconcile"
)

// transition is a change from one desired state to another.
type transition struct {
	from, to *world
}

func newTransition(seed uint64) transition {
	w := newWorld(seed)
	for range 5 {
		w.step()
	}
	tr := transition{from: w.clone(), to: w}
	w.step()
	for range 3 { // many changes at once: every kind of write
		w.changeSome()
	}
	return tr
}

// begin is a daemon that has reached the first state.
func (tr transition) begin(t *testing.T) (*memory, *reconcile.Reconciler, *expectation) {
	t.Helper()
	m, e := newMemory(t, testLimits()), newExpectation(t)
	r := m.start()
	applyAndVerify(r, m, e, tr.from)
	m.writes()
	return m, r, e
}

// eachWrite runs f for every write of several transitions: the n-th one fails.
func eachWrite(t *testing.T, f func(t *testing.T, tr transition, n int)) {
	sequences(t, 10, func(t *testing.T, seed uint64) {
		tr := newTransition(seed)
		m, r, _ := tr.begin(t)
		tr.to.tell(r)
		if _, err := r.Apply(tr.to.snapshot()); err != nil {
			t.Fatal(err)
		}
		writes := len(m.writes())
		for n := 1; n <= writes && !t.Failed(); n++ {
			f(t, tr, n)
			if t.Failed() {
				t.Fatalf("when write %d failed", n)
			}
		}
	})
}

func failAt(n int) func(int) bool { return func(write int) bool { return write == n } }

func applyAndVerify(r *reconcile.Reconciler, m *memory, e *expectation, w *world) {
	e.t.Helper()
	m.watch(destinations())
	w.tell(r)
	result, err := r.Apply(w.snapshot())
	if err != nil {
		e.t.Fatal(err)
	}
	m.checkSeen()
	e.verify(m, w, result)
}

func mustFail(t *testing.T, r *reconcile.Reconciler, w *world) {
	t.Helper()
	w.tell(r)
	if _, err := r.Apply(w.snapshot()); !errors.Is(err, errWrite) {
		t.Fatalf("got the error %v, want %v", err, errWrite)
	}
}

func TestFailureAtEveryWrite(t *testing.T) {
	eachWrite(t, func(t *testing.T, tr transition, n int) {
		m, r, e := tr.begin(t)
		m.fail = failAt(n)
		mustFail(t, r, tr.to)
		applyAndVerify(r, m, e, tr.to)
	})
}

func TestFailureThenBack(t *testing.T) {
	eachWrite(t, func(t *testing.T, tr transition, n int) {
		m, r, e := tr.begin(t)
		m.fail = failAt(n)
		mustFail(t, r, tr.to)
		from := tr.from.clone()
		for address, hop := range tr.to.hops { // once known, it stays known
			if _, known := from.hops[address]; !known {
				from.hops[address] = hop
			}
		}
		kept := tr.to.identities() // what was half gone may have got another generation
		maps.DeleteFunc(e.ids, func(who identity, _ idAndGeneration) bool { return !kept[who] })
		e.attempted = true
		applyAndVerify(r, m, e, from)
	})
}

func TestRestartAfterEveryWrite(t *testing.T) {
	eachWrite(t, func(t *testing.T, tr transition, n int) {
		m, r, e := tr.begin(t)
		m.fail = failAt(n)
		mustFail(t, r, tr.to)
		applyAndVerify(m.start(), m, e, tr.to)
	})
}

// Nothing can be written for a while: the last good state stays, and what was
// wanted last comes as soon as it can.
func TestNothingCanBeWritten(t *testing.T) {
	sequences(t, 10, func(t *testing.T, seed uint64) {
		tr := newTransition(seed)
		m, r, e := tr.begin(t)
		before := m.clone()
		m.fail = func(int) bool { return true }
		for range 5 {
			mustFail(t, r, tr.to)
		}
		if !sameTables(before, m) {
			t.Error("the tables have changed")
		}
		m.fail = nil
		applyAndVerify(r, m, e, tr.to)
	})
}

func sameTables(a, b *memory) bool {
	return reflect.DeepEqual(a.services, b.services) && reflect.DeepEqual(a.backends, b.backends) &&
		reflect.DeepEqual(a.hops, b.hops) && reflect.DeepEqual(a.snat, b.snat) && reflect.DeepEqual(a.tables, b.tables) &&
		reflect.DeepEqual(a.health, b.health) && reflect.DeepEqual(a.serviceNames, b.serviceNames) && reflect.DeepEqual(a.backendNames, b.backendNames) &&
		reflect.DeepEqual(a.filter, b.filter) && reflect.DeepEqual(a.answering, b.answering) &&
		reflect.DeepEqual(a.near, b.near) && reflect.DeepEqual(a.quic, b.quic) && a.settings.Timeouts == b.settings.Timeouts && a.settings.RateLimits == b.settings.RateLimits
}

// unreadable are tables that cannot be read back.
type unreadable struct{ *memory }

func (unreadable) ReadTables() (lb.Tables, error) { return lb.Tables{}, errWrite }

func TestTablesCannotBeRead(t *testing.T) {
	if _, err := reconcile.New(unreadable{newMemory(t, testLimits())}, testLimits()); !errors.Is(err, errWrite) {
		t.Errorf("got the error %v, want %v", err, errWrite)
	}
}

// A restart finds everything as it was: each write repeats what is there, but
// for the scheduler tables, which nobody reads back.
func TestRestart(t *testing.T) {
	sequences(t, 10, func(t *testing.T, seed uint64) {
		w, m, e := newWorld(seed), newMemory(t, testLimits()), newExpectation(t)
		r := m.start()
		for step := range 20 {
			w.step()
			applyAndVerify(r, m, e, w)
			before := m.clone()
			r = m.start()
			applyAndVerify(r, m, e, w)
			if !maps.Equal(before.backends, m.backends) || !maps.Equal(before.snat, m.snat) || !maps.Equal(before.backendNames, m.backendNames) {
				t.Errorf("step %d: the restart changed backends", step)
			}
			if t.Failed() {
				t.FailNow()
			}
		}
	})
}
