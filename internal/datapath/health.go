package datapath

import (
	"slices"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

// healthStates lists the states by their numbers in the map.
func healthStates() []lb.HealthState {
	return []lb.HealthState{
		lbHealthStateHEALTH_UNKNOWN: lb.HealthUnknown,
		lbHealthStateHEALTH_NEW:     lb.HealthNew,
		lbHealthStateHEALTH_UP:      lb.HealthUp,
		lbHealthStateHEALTH_DOWN:    lb.HealthDown,
	}
}

func stateToBPF(s lb.HealthState) lbHealthState {
	return lbHealthState(max(0, slices.Index(healthStates(), s)))
}

// stateFromBPF is unknown for a state that this version does not know.
func stateFromBPF(s lbHealthState) lb.HealthState {
	if all := healthStates(); int(s) < len(all) {
		return all[s]
	}
	return lb.HealthUnknown
}

func healthToBPF(h *lb.Health) (out lbBackendHealth) {
	out.State = stateToBPF(h.State)
	if h.Error != "" {
		out.Error.At = uint64(h.ErrorAt.UnixNano())
		causeToBPF(out.Error.Cause[:], h.Error)
	}
	most := len(out.Transitions)
	for i, t := range h.Transitions[max(0, len(h.Transitions)-most):] {
		to := &out.Transitions[i]
		to.At, to.State = uint64(t.At.UnixNano()), uint8(stateToBPF(t.State))
		causeToBPF(to.Cause[:], t.Cause)
	}
	return out
}

func healthFromBPF(in lbBackendHealth) *lb.Health {
	h := &lb.Health{State: stateFromBPF(in.State)}
	if in.Error.At != 0 {
		h.Error, h.ErrorAt = textFromBPF(in.Error.Cause[:]), time.Unix(0, int64(in.Error.At))
	}
	for _, t := range in.Transitions {
		if t.At != 0 {
			h.Transitions = append(h.Transitions, lb.Transition{
				At: time.Unix(0, int64(t.At)), State: stateFromBPF(lbHealthState(t.State)), Cause: textFromBPF(t.Cause[:]),
			})
		}
	}
	return h
}

// causeToBPF shows where a cause was cut.
func causeToBPF(out []int8, cause string) {
	const cut = "..."
	if most := len(out) - 1; len(cause) > most {
		cause = cause[:most-len(cut)] + cut
	}
	textToBPF(out, cause)
}
