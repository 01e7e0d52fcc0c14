package diff

import (
	"errors"
	"slices"
	"time"
)

// Replay runs a case. It returns how many events it took until model and data
// plane disagreed, with ErrDisagree; all, if they never did. Counters and flows
// are compared at the end, or, if thorough, after every event.
func Replay(c Case, thorough bool) (int, error) {
	p, err := Open(c)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	for i, e := range c.Events {
		if _, err := p.Step(e); err != nil && !errors.Is(err, ErrRefused) {
			return i + 1, err
		}
		if !thorough {
			continue
		}
		if err := p.CheckState(); err != nil {
			return i + 1, err
		}
	}
	return len(c.Events), p.CheckState()
}

// Shrink leaves out of a case whatever it can disagree without, as far as it
// gets in the given time (Zeller and Hildebrandt, "Simplifying and Isolating
// Failure-Inducing Input", 2002). It returns the case as it is if it does not
// disagree at all when replayed.
func Shrink(c Case, budget time.Duration) Case {
	deadline := time.Now().Add(budget)
	thorough := false // that is slower
	smaller, ok := disagreeing(c, thorough)
	if !ok {
		thorough = true
		if smaller, ok = disagreeing(c, thorough); !ok {
			return c
		}
	}
	for size := (len(smaller.Events) + 1) / 2; size > 0; {
		tried := smaller
		for at := 0; at < len(tried.Events) && time.Now().Before(deadline); {
			if less, ok := disagreeing(tried.without(at, min(at+size, len(tried.Events))), thorough); ok {
				tried = less
			} else {
				at += size
			}
		}
		if size == 1 && len(tried.Events) == len(smaller.Events) || !time.Now().Before(deadline) {
			return tried
		}
		smaller, size = tried, max(1, size/2)
	}
	return smaller
}

// disagreeing is the case up to where it disagrees, if it does.
func disagreeing(c Case, thorough bool) (Case, bool) {
	n, err := Replay(c, thorough)
	if !errors.Is(err, ErrDisagree) {
		return c, false
	}
	c.About, c.Events = err.Error(), c.Events[:n]
	return c, true
}

// without leaves out some events; the others keep their times.
func (c Case) without(from, to int) Case {
	var gap time.Duration
	for _, e := range c.Events[from:to] {
		gap += max(e.After, 1)
	}
	c.Events = slices.Delete(slices.Clone(c.Events), from, to)
	if from < len(c.Events) {
		c.Events[from].After += gap
	}
	return c
}
