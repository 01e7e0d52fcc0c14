package main

import (
	"maps"
	"testing"
)

func TestGoalsMet(t *testing.T) {
	for _, o := range judge(goals(), sample(t)) {
		if o.state() != "ok" {
			t.Errorf("%s: %s is %s, limit %s", o.what, o.figureText(), o.state(), o.limitText())
		}
	}
}

func TestGoalsDiffer(t *testing.T) {
	names, figures := map[string]bool{}, map[[2]figure]bool{}
	for _, g := range goals() {
		if names[g.what] || figures[[2]figure{g.figure, g.over}] {
			t.Errorf("twice: %s, of %v over %v", g.what, g.figure, g.over)
		}
		names[g.what], figures[[2]figure{g.figure, g.over}] = true, true
	}
}

// with is a run in which one figure is another.
func with(r results, f figure, values ...float64) results {
	changed := results{order: r.order, values: maps.Clone(r.values), config: r.config}
	changed.values[f] = values
	return changed
}

func TestEachGoal(t *testing.T) {
	r := sample(t)
	for _, g := range goals() {
		t.Run(g.what, func(t *testing.T) {
			over := 1.0
			if g.over != (figure{}) {
				over, _ = r.value(g.over)
			}
			margin := g.limit/1000 + 1e-6
			worse, better := g.limit+margin, g.limit-margin
			if g.atLeast {
				worse, better = better, worse
			}
			for want, run := range map[string]results{
				"MISSED":       with(r, g.figure, worse*over),
				"ok":           with(r, g.figure, better*over),
				"NOT MEASURED": with(r, g.figure),
			} {
				if got := judge([]goal{g}, run)[0]; got.state() != want || got.ok() != (want == "ok") {
					t.Errorf("%s is %s, want %s; limit %s", got.figureText(), got.state(), want, got.limitText())
				}
			}
			if g.over == (figure{}) {
				return
			}
			for _, none := range [][]float64{nil, {0}} {
				if got := judge([]goal{g}, with(r, g.over, none...))[0].state(); got != "NOT MEASURED" {
					t.Errorf("over %v it is %s", none, got)
				}
			}
		})
	}
}
