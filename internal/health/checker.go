// Package health finds out which backends work: it asks each of them again and again
// over connections of this host's own, and judges by several answers in a row.
package health

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

const (
	// mostAtOnce bounds the checks under way, and with them sockets and memory.
	mostAtOnce = 4096
	// firstChecks is how many targets that are new at the same time are checked in a
	// second for the first time, on average.
	firstChecks = 4000
	// grain gathers checks that fall due at about the same time: to wake a sleeping
	// processor for each would cost as much as all that tinylb does for a check.
	grain = 10 * time.Millisecond
)

// Target is a backend that is to be checked.
type Target struct {
	lb.CheckedBackend
	Address netip.AddrPort // where it is checked
	Check   *lb.Check      // must not change any more
	Before  *lb.Health     // what is known of a target that Set meets for the first time
}

// Checker checks a set of targets. Its methods may be called from any goroutine.
type Checker struct {
	log     *slog.Logger
	probeBy func(lb.Check) (probe, error)
	changed chan struct{} // capacity 1: see Changed
	slots   chan struct{} // one for each check under way
	ctx     context.Context
	cancel  context.CancelFunc
	pending sync.WaitGroup // timers that run and checks under way

	mu      sync.Mutex
	watched map[lb.CheckedBackend]*watch
	fresh   map[lb.CheckedBackend]struct{} // see Changes
	unknown int                            // of watched
}

// watch is a target as long as Set says the same of it.
type watch struct {
	Target
	verdict
	probe probe
	timer *time.Timer // runs, or a check is under way

	isSpread bool // its checks fall on a time of their own
	over     bool
}

// New makes a checker without targets.
func New(log *slog.Logger) *Checker { return newChecker(log, newProbe) }

func newChecker(log *slog.Logger, probeBy func(lb.Check) (probe, error)) *Checker {
	ctx, cancel := context.WithCancel(context.Background())
	return &Checker{
		log: log, probeBy: probeBy, ctx: ctx, cancel: cancel,
		changed: make(chan struct{}, 1),
		slots:   make(chan struct{}, mostAtOnce),
		watched: map[lb.CheckedBackend]*watch{},
		fresh:   map[lb.CheckedBackend]struct{}{},
	}
}

// Close ends all checks and waits for those under way.
func (c *Checker) Close() {
	c.cancel()
	c.Set(nil)
	c.pending.Wait()
}

// Set says what the targets are, all of them, each key once. Those that are known keep
// what has been found out about them, and, unless they are checked in another way now,
// the time of their next check.
func (c *Checker) Set(targets []Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	watched := make(map[lb.CheckedBackend]*watch, len(targets))
	probes := map[*lb.Check]probe{}
	var begin []*watch
	c.unknown = 0
	for _, t := range targets {
		w, known := c.watched[t.CheckedBackend]
		switch {
		case !known:
			w = &watch{Target: t, verdict: verdict{health: t.Before}}
			c.fresh[t.CheckedBackend] = struct{}{}
			begin = append(begin, w)
		case w.Address != t.Address || !lb.SameCheck(w.Check, t.Check):
			w = &watch{Target: t, verdict: verdict{health: w.health}}
			begin = append(begin, w)
		}
		watched[t.CheckedBackend] = w
		if w.health.State == lb.HealthUnknown {
			c.unknown++
		}
	}
	for key, w := range c.watched {
		if watched[key] != w {
			c.end(w)
		}
	}
	c.watched = watched
	for _, w := range begin {
		if probes[w.Check] == nil {
			probes[w.Check] = c.newProbe(*w.Check)
		}
		w.probe = probes[w.Check]
		c.schedule(w, rand.N(time.Duration(len(begin))*time.Second/firstChecks))
	}
}

// newProbe makes one that fails where there is none.
func (c *Checker) newProbe(check lb.Check) probe {
	p, err := c.probeBy(check)
	if err != nil {
		return func(context.Context, netip.AddrPort) error { return err }
	}
	return p
}

// Changes returns what is known of those targets about which something else is known
// than at the last call. It is for one caller.
func (c *Checker) Changes() map[lb.CheckedBackend]*lb.Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	changes := make(map[lb.CheckedBackend]*lb.Health, len(c.fresh))
	for key := range c.fresh {
		if w := c.watched[key]; w != nil {
			changes[key] = w.health
		}
	}
	clear(c.fresh)
	return changes
}

// Changed receives a value when there are Changes that do not come from Set. Several
// may be reported by one value.
func (c *Checker) Changed() <-chan struct{} { return c.changed }

// Unknown is of how many targets the state is lb.HealthUnknown.
func (c *Checker) Unknown() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unknown
}

// schedule needs the lock.
func (c *Checker) schedule(w *watch, after time.Duration) {
	c.pending.Add(1)
	now := time.Now()
	after = max(0, now.Add(after).Truncate(grain).Sub(now))
	if w.timer == nil {
		w.timer = time.AfterFunc(after, func() { c.check(w) })
		return
	}
	w.timer.Reset(after)
}

// end needs the lock.
func (c *Checker) end(w *watch) {
	w.over = true
	if w.timer.Stop() {
		c.pending.Done()
	}
}

func (c *Checker) check(w *watch) {
	defer c.pending.Done()
	select {
	case c.slots <- struct{}{}:
	case <-c.ctx.Done():
		return
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(c.ctx, w.Check.Timeout)
	err := w.probe(ctx, w.Address)
	cancel()
	<-c.slots
	c.note(w, began, err)
}

// note draws the conclusions from a check and schedules the next one.
func (c *Checker) note(w *watch, began time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.over || c.ctx.Err() != nil {
		return
	}
	before := w.health
	w.verdict.note(result{time.Now(), cause(err, w.Check.Timeout), isLocal(err)}, *w.Check)
	if w.health != before {
		c.publish(w, before.State)
	}
	c.schedule(w, max(0, w.pause()-time.Since(began)))
}

func (c *Checker) publish(w *watch, before lb.HealthState) {
	if before == lb.HealthUnknown && w.health.State != lb.HealthUnknown {
		c.unknown--
	}
	switch {
	case w.health.State == before:
	case w.health.State == lb.HealthDown:
		c.log.Warn("backend down", "service", w.Service, "backend", w.CheckedBackend.Address, "check", w.Check.Type, "cause", w.health.Error)
	case before == lb.HealthUnknown:
		c.log.Debug("backend up", "service", w.Service, "backend", w.CheckedBackend.Address, "check", w.Check.Type)
	default:
		c.log.Info("backend up", "service", w.Service, "backend", w.CheckedBackend.Address, "check", w.Check.Type)
	}
	c.fresh[w.CheckedBackend] = struct{}{}
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// pause is how long after the begin of a check the next one begins. The first checks
// of many targets are close together, those that follow are spread evenly.
func (w *watch) pause() time.Duration {
	interval := w.Check.Interval
	switch {
	case w.isChanging():
		interval = w.Check.FastInterval
	case !w.isSpread:
		w.isSpread = true
		return rand.N(interval)
	}
	jitter := time.Duration(w.Check.Jitter) * interval / 100
	return interval - jitter + rand.N(2*jitter+1)
}
