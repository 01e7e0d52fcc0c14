package main

import (
	"fmt"
	"io"
	"slices"

	"golang.org/x/perf/benchfmt"
)

// figure names one number of a benchmark's line, without "Benchmark" and the number of CPUs, as benchstat does:
// {"Packet/ipip/v4/established/flows=1", "x-empty"}.
type figure struct {
	bench, unit string
}

// results are the figures of one run of go test -bench.
type results struct {
	order  []figure
	values map[figure][]float64 // several with -count
	config map[string]string    // the "key: value" lines
}

// parse reads what go test -bench prints. Lines of other things are skipped;
// a benchmark's line that cannot be read is an error.
func parse(r io.Reader, name string) (results, error) {
	all := results{values: map[figure][]float64{}, config: map[string]string{}}
	for lines := benchfmt.NewReader(r, name); ; {
		if !lines.Scan() {
			return all, lines.Err()
		}
		switch line := lines.Result().(type) {
		case *benchfmt.Result:
			all.add(line)
		case *benchfmt.SyntaxError:
			return all, fmt.Errorf("read benchmarks: %w", line)
		}
	}
}

func (r *results) add(line *benchfmt.Result) {
	for _, c := range line.Config {
		r.config[c.Key] = string(c.Value)
	}
	for _, v := range line.Values {
		f, value := figure{nameOf(line), v.Unit}, v.Value
		if v.OrigUnit != "" { // ns/op, not benchfmt's sec/op: the names in the code of the benchmarks
			f.unit, value = v.OrigUnit, v.OrigValue
		}
		if r.values[f] == nil {
			r.order = append(r.order, f)
		}
		r.values[f] = append(r.values[f], value)
	}
}

func nameOf(line *benchfmt.Result) string {
	name, parts := line.Name.Parts()
	for _, part := range parts {
		if part[0] == '/' { // the other kind is the number of CPUs
			name = append(name[:len(name):len(name)], part...)
		}
	}
	return string(name)
}

// value is the median of a figure.
func (r results) value(f figure) (float64, bool) {
	if len(r.values[f]) == 0 {
		return 0, false
	}
	return median(r.values[f]), true
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
