package main

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
)

// outcome is what became of a goal in one or several runs.
type outcome struct {
	goal
	runs []float64 // empty where no run has measured it
}

// judge looks a goal up in every run. Noise here is larger than many a margin,
// so several runs count by their median.
func judge(goals []goal, runs ...results) []outcome {
	outcomes := make([]outcome, len(goals))
	for i, g := range goals {
		outcomes[i].goal = g
		for _, r := range runs {
			if v, ok := g.value(r); ok {
				outcomes[i].runs = append(outcomes[i].runs, v)
			}
		}
	}
	return outcomes
}

func (o outcome) measured() bool { return len(o.runs) > 0 }

// ok is false for a goal that was not measured: nothing shows that it is met.
func (o outcome) ok() bool { return o.measured() && o.met(median(o.runs)) }

func (o outcome) state() string {
	switch {
	case !o.measured():
		return "NOT MEASURED"
	case !o.ok():
		return "MISSED"
	}
	return "ok"
}

func (o outcome) limitText() string {
	sign := "<="
	if o.atLeast {
		sign = ">="
	}
	return sign + " " + display(o.limit, o.unit())
}

// figureText is the median and, of several runs, each.
func (o outcome) figureText() string {
	if !o.measured() {
		return "-"
	}
	text := display(median(o.runs), o.unit())
	if len(o.runs) == 1 {
		return text
	}
	each := make([]string, len(o.runs))
	for i, v := range o.runs {
		each[i] = display(v, bareUnit(o.unit()))
	}
	return fmt.Sprintf("%s (median of %s)", text, strings.Join(each, ", "))
}

// missed are the goals that were measured and not met.
func missed(outcomes []outcome) []goal {
	var goals []goal
	for _, o := range outcomes {
		if o.measured() && !o.ok() {
			goals = append(goals, o.goal)
		}
	}
	return goals
}

// printOutcomes writes the table and reports how many goals are not met.
func printOutcomes(w io.Writer, outcomes []outcome) (failed int, err error) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "goal\tlimit\tmeasured\t")
	for _, o := range outcomes {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", o.what, o.limitText(), o.figureText(), o.state())
		if !o.ok() {
			failed++
		}
	}
	return failed, table.Flush()
}

// pattern is a -bench argument that selects exactly the benchmarks of some goals.
func pattern(goals []goal) string {
	var all []string
	for _, g := range goals {
		for _, bench := range g.benches() {
			levels := strings.Split("Benchmark"+bench, "/")
			for i, level := range levels {
				levels[i] = "^" + regexp.QuoteMeta(level) + "$"
			}
			all = append(all, strings.Join(levels, "/"))
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), "|")
}
