package health

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

func at(n int) time.Time { return time.Unix(int64(n), 0) }

func TestRiseAndFall(t *testing.T) {
	for _, test := range []struct {
		name       string
		rise, fall uint32
		before     lb.HealthState
		results    string // . is good, x is failed, ! is failed for want of something here
		states     string // u is up, d is down, ? is unknown or new
		fast       string // f where the faster interval applies afterwards
	}{
		{"the first decides", 2, 3, lb.HealthUnknown, ".", "u", "-"},
		{"the first decides against it", 2, 3, lb.HealthUnknown, "x", "d", "-"},
		{"a new one", 2, 3, lb.HealthNew, ".", "u", "-"},
		{"a new one that fails", 2, 3, lb.HealthNew, "x", "d", "-"},
		{"fall", 2, 3, lb.HealthUp, "xx.xxx", "uuuuud", "ff-ff-"},
		{"rise", 3, 2, lb.HealthDown, "..x...", "dddddu", "ff-ff-"},
		{"one is enough", 1, 1, lb.HealthUp, "x.x", "dud", "---"},
		{"there and back", 2, 2, lb.HealthUp, "xx..xx", "udduud", "f-f-f-"},
		{"not the backend's fault", 2, 2, lb.HealthUp, "!!!!x!x", "uuuuuud", "----ff-"},
		{"not the backend's fault at first", 2, 2, lb.HealthUnknown, "!!.", "??u", "ff-"},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := verdict{health: &lb.Health{State: test.before}}
			states, fast := "", ""
			for i, r := range test.results {
				failure := map[rune]string{'x': "refused", '!': "no port"}[r]
				v.note(result{at(i), failure, r == '!'}, lb.Check{Rise: test.rise, Fall: test.fall})
				states += map[lb.HealthState]string{lb.HealthUp: "u", lb.HealthDown: "d", lb.HealthUnknown: "?", lb.HealthNew: "?"}[v.health.State]
				fast += map[bool]string{true: "f", false: "-"}[v.isChanging()]
			}
			if states != test.states || fast != test.fast {
				t.Errorf("%s: got %s %s, want %s %s", test.results, states, fast, test.states, test.fast)
			}
		})
	}
}

func TestTransitions(t *testing.T) {
	v := verdict{health: &lb.Health{State: lb.HealthUnknown}}
	check := lb.Check{Rise: 1, Fall: 1}
	var want []lb.Transition
	for i := range 25 {
		r, state := result{at: at(i)}, lb.HealthUp
		if i%2 == 0 {
			r.failure, state = fmt.Sprint("refused ", i), lb.HealthDown
		}
		before := v.health
		seen := *before
		v.note(r, check)
		want = append(want, lb.Transition{At: r.at, State: state, Cause: r.failure})
		if !slices.Equal(before.Transitions, seen.Transitions) {
			t.Fatal("what was handed over has changed")
		}
	}
	if got := v.health.Transitions; !slices.Equal(got, want[len(want)-lb.MostTransitions:]) {
		t.Errorf("got %v", got)
	}
	if got := v.health.Last(); got != want[24] {
		t.Errorf("the last one is %v", got)
	}
}

// An error is told once, with the time at which checks began to fail that way.
func TestLastError(t *testing.T) {
	v := verdict{health: &lb.Health{State: lb.HealthUp}}
	check := lb.Check{Rise: 1, Fall: 3}
	for i, step := range []struct {
		failure string
		error   string
		errorAt int
		isNews  bool
	}{
		{"", "", 0, false},
		{"refused", "refused", 1, true},
		{"refused", "refused", 1, false},
		{"", "refused", 1, false},
		{"refused", "refused", 4, true},
		{"timeout", "timeout", 5, true},
		{"timeout", "timeout", 5, true}, // it is down now
		{"timeout", "timeout", 5, false},
	} {
		before := v.health
		v.note(result{at: at(i), failure: step.failure}, check)
		got := v.health
		if got.Error != step.error || step.error != "" && !got.ErrorAt.Equal(at(step.errorAt)) || (got != before) != step.isNews {
			t.Errorf("step %d: %+v, told: %v; want %+v", i, got, got != before, step)
		}
	}
}
