package main

import (
	"math"
	"slices"
	"strings"
)

// charts are the pictures of a run, by the name of their file.
func charts(r results) map[string]string {
	return map[string]string{
		"performance-packet.svg":  svg(packetChart(r)),
		"performance-flows.svg":   svg(flowsChart(r)),
		"performance-forward.svg": svg(ppsChart(r), tcpChart(r)),
	}
}

// or NaN, which a chart leaves out.
func (r results) orNaN(f figure) float64 {
	if v, ok := r.value(f); ok {
		return v
	}
	return math.NaN()
}

// bounds are what a packet costs that is only sent back, and one that is also wrapped.
func bounds(r results) []reference {
	var all []reference
	for _, name := range []string{"empty", "floor"} {
		if v, ok := r.value(figure{"Packet/" + name, timesEmpty}); ok {
			all = append(all, reference{name, v})
		}
	}
	return all
}

func packetChart(r results) chart {
	c := chart{title: "What a packet costs (TCP over IPv4)", yLabel: "times an empty XDP program", references: bounds(r)}
	one, million := series{name: "1 flow"}, series{name: "1M flows"}
	for _, forward := range forwards() {
		for _, what := range []string{"established", "reply"} {
			if !slices.Contains(casesOf(forward), what) {
				continue
			}
			c.groups = append(c.groups, forward+strings.TrimSuffix(" "+what, " established"))
			one.values = append(one.values, r.orNaN(packet(forward, "v4", what, "1")))
			million.values = append(million.values, r.orNaN(packet(forward, "v4", what, "1M")))
		}
	}
	c.series = []series{one, million}
	return c
}

func flowsChart(r results) chart {
	c := chart{
		title: "What a packet costs as flows grow (established TCP over IPv4)", yLabel: "times an empty XDP program",
		lines: true, references: bounds(r),
	}
	for _, n := range flowCounts() {
		c.groups = append(c.groups, n+strings.TrimSuffix(" flows", map[string]string{"1": "s"}[n]))
	}
	for _, forward := range forwards() {
		s := series{name: forward}
		for _, n := range flowCounts() {
			s.values = append(s.values, r.orNaN(packet(forward, "v4", "established", n)))
		}
		c.series = append(c.series, s)
	}
	return c
}

func flowCounts() []string { return []string{"1", "10k", "100k", "1M"} }

// ppsChart is in millions, one bar for each that was measured.
func ppsChart(r results) chart {
	c := chart{title: "Packets per second over veth, on one core", yLabel: "million packets/s"}
	s := series{name: "packets per second"}
	for _, who := range r.below("Forward/pps/") {
		c.groups = append(c.groups, who)
		s.values = append(s.values, r.orNaN(figure{"Forward/pps/" + who, "pps"})/1e6)
	}
	c.series = []series{s}
	if direct, ok := r.value(figure{"Forward/pps/redirect", "pps"}); ok {
		c.references = []reference{{"redirect", direct / 1e6}}
	}
	return c
}

// tcpChart also shows what direct routing sends without TSO: tinylb's sender has none.
func tcpChart(r results) chart {
	kinds := []string{"requests", "connections", "throughput"}
	c := chart{
		title: "TCP over veth: tinylb (nat) and others", yLabel: "times direct",
		groups:     []string{"requests/s", "new connections/s", "throughput"},
		references: []reference{{"direct", 1}},
	}
	for _, who := range r.below("Forward/tcp/throughput/") { // the longest list
		if who == "direct" {
			continue
		}
		s := series{name: who}
		if who == "nat" {
			s.name = "tinylb"
		}
		for _, kind := range kinds {
			s.values = append(s.values, r.orNaN(figure{"Forward/tcp/" + kind + "/" + who, "x-direct"}))
		}
		c.series = append(c.series, s)
	}
	return c
}

// below are the last parts of the names of benchmarks, in the order of the run.
func (r results) below(prefix string) []string {
	var all []string
	for _, f := range r.order {
		if name, ok := strings.CutPrefix(f.bench, prefix); ok && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}
