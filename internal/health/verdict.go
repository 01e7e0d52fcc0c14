package health

import (
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

// verdict is what the checks of one target have come to so far.
type verdict struct {
	health  *lb.Health
	against uint32 // checks in a row that speak against the state
	failing bool   // the last check has failed
}

// result is what came of a check.
type result struct {
	at      time.Time
	failure string // "": it was good
	isLocal bool   // it failed for want of something that this host lacks
}

// note takes note of a result. A first one decides at once. Where there is something
// new to say, health is another one then.
func (v *verdict) note(r result, check lb.Check) {
	health := *v.health
	if r.failure != "" && (!v.failing || health.Error != r.failure) {
		health.Error, health.ErrorAt = r.failure, r.at
	}
	v.failing = r.failure != ""
	if !r.isLocal {
		v.weigh(&health, r, check)
	}
	if health.State != v.health.State || health.Error != v.health.Error || !health.ErrorAt.Equal(v.health.ErrorAt) {
		v.health = &health
	}
}

func (v *verdict) weigh(health *lb.Health, r result, check lb.Check) {
	state, needed := lb.HealthUp, check.Rise
	if r.failure != "" {
		state, needed = lb.HealthDown, check.Fall
	}
	if health.State == state {
		v.against = 0
		return
	}
	v.against++
	if v.against < needed && health.State != lb.HealthUnknown && health.State != lb.HealthNew {
		return
	}
	v.against = 0
	health.State = state
	health.Transitions = append(lastOf(health.Transitions, lb.MostTransitions-1), lb.Transition{At: r.at, State: state, Cause: r.failure})
}

// lastOf copies the last few.
func lastOf(transitions []lb.Transition, most int) []lb.Transition {
	last := transitions[max(0, len(transitions)-most):]
	return append(make([]lb.Transition, 0, len(last)+1), last...)
}

// isChanging reports whether a few more results may change the state.
func (v *verdict) isChanging() bool {
	return v.against > 0 || v.health.State == lb.HealthUnknown || v.health.State == lb.HealthNew
}
