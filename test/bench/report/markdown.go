package main

import (
	"fmt"
	"slices"
	"strings"
)

const intro = `# Performance

What tinylb costs, measured by the benchmarks in [test/bench](../test/bench). Times on a machine like this one swing by half within minutes, so the
figures that count are ratios: to an empty XDP program, to a bare redirect, or to no balancer at all, interleaved with them in the same run. Each
is the median of several rounds.

` + "`make bench-report`" + ` made this page and its charts; its raw output is [performance.txt](performance.txt), for benchstat. ` + "`make bench-check`" + ` measures
the goals again and fails where one is missed. Both need root, and the programs that are compared.
`

// page is docs/performance.md. The notes are written by hand.
func page(r results, notes string) string {
	var b strings.Builder
	b.WriteString(intro)
	for _, section := range []string{machineSection(r), goalSection(r), packetSection(r), forwardSection(r), controlSection(r)} {
		b.WriteString("\n" + section)
	}
	b.WriteString("\n" + notes)
	return b.String()
}

func markdownTable(head []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(head)
	fmt.Fprintf(&b, "|%s\n", strings.Repeat("---|", len(head)))
	for _, row := range rows {
		line(row)
	}
	return b.String()
}

func machineSection(r results) string {
	var rows [][]string
	for _, s := range []setting{
		{"cpu", "CPU"},
		{"cores", "cores"},
		{"caches", "caches"},
		{"memory", "memory"},
		{"virtual", "virtual machine"},
		{"kernel", "kernel"},
		{"mitigations", "mitigations"},
		{"bpf-jit", "BPF JIT"},
		{"go", "Go"},
		{"clang", "clang, of the data plane"},
		{"commit", "commit"},
		{"date", "date"},
		{"command", "command"},
	} {
		if v := r.config[s.key]; v != "" {
			rows = append(rows, []string{s.value, v})
		}
	}
	return "## The machine\n\n" + markdownTable([]string{"what", "here"}, rows)
}

func goalSection(r results) string {
	var parts []string
	rows := map[string][][]string{}
	met := 0
	outcomes := judge(goals(), r)
	for _, o := range outcomes {
		if rows[o.part] == nil {
			parts = append(parts, o.part)
		}
		rows[o.part] = append(rows[o.part], []string{o.what, o.limitText(), o.figureText(), o.state(), o.peers})
		if o.ok() {
			met++
		}
	}
	text := fmt.Sprintf("## Goals\n\n%d of %d are met in this run. The figures of others are from machines of the same kind, not from this run.\n",
		met, len(outcomes))
	for _, part := range parts {
		text += fmt.Sprintf("\n### %s\n\n%s", part, markdownTable([]string{"goal", "limit", "measured", "met", "others"}, rows[part]))
	}
	return text
}

func packetSection(r results) string {
	text := "## What a packet costs\n\nThe real program by test-run (`BenchmarkPacket`): ns per packet, the harness's own cost included, and times an empty program. " +
		"`empty` parses Ethernet and sends back, `floor` wraps each packet in a fixed header, with no map.\n\n" +
		"![Cost by forward](performance-packet.svg)\n\n![Cost by number of flows](performance-flows.svg)\n\n"
	var rows [][]string
	for _, name := range r.below("Packet/") {
		if !strings.Contains(name, "/") { // empty, floor and the like; the forwards' have tables of their own
			rows = append(rows, []string{name, r.cost("Packet/" + name)})
		}
	}
	text += markdownTable([]string{"", "cost"}, rows)
	for _, what := range []string{"established", "reply", "udp", "syn-new"} {
		text += fmt.Sprintf("\n### %s\n\n%s", what, r.costTable(what))
	}
	return text + "\n### Others\n\nMeasured on the same kind of machine, by the same kind of harness, not in this run.\n\n" + peerTable()
}

func (r results) costTable(what string) string {
	head := []string{"forward", "family"}
	for _, n := range flowCounts() {
		head = append(head, "flows="+n)
	}
	var rows [][]string
	for _, forward := range forwards() {
		for _, family := range []string{"v4", "v6"} {
			if !slices.Contains(casesOf(forward), what) {
				continue
			}
			row := []string{forward, family}
			for _, n := range flowCounts() {
				row = append(row, r.cost(packet(forward, family, what, n).bench))
			}
			rows = append(rows, row)
		}
	}
	return markdownTable(head, rows)
}

// cost is "31 ns, 3.8x", or what there is of it.
func (r results) cost(bench string) string {
	return r.cells(bench, nsPerOp, timesEmpty)
}

// cells are some figures of a benchmark in one cell.
func (r results) cells(bench string, units ...string) string {
	var all []string
	for _, unit := range units {
		if v, ok := r.value(figure{bench, unit}); ok {
			all = append(all, display(v, bareUnit(unit)))
		}
	}
	if len(all) == 0 {
		return "-"
	}
	return strings.Join(all, ", ")
}

func peerTable() string {
	return markdownTable([]string{"", "1 flow", "more flows"}, [][]string{
		{"Katran, ipip", "108-141 ns, 8.5x", "380-399 ns, 23x (1M)"},
		{"Katran, gue", "250 ns, 16x", ""},
		{"xvs, dsr", "257 ns, 13x", "460 ns (100k)"},
		{"Katran, new flow", "", "40-46x (1M)"},
		{"Katran, not for a service", "3.8x", ""},
		{"a look-up in an LRU_HASH alone, key of 16 bytes", "22 ns", "180 ns (100k), 240 ns (1M)"},
	})
}

func forwardSection(r results) string {
	text := "## Over veth\n\n`BenchmarkForward`: network namespaces joined by veths. Packets come as live frames of 64 bytes and stay on one core; TCP comes from wrk " +
		"and iperf3. `redirect` is an XDP program that does nothing else, `direct` is the kernel's routing without a balancer, `direct-no-tso` the same where the sender's " +
		"TSO and GSO are off: native XDP turns TSO off at its veth's peer.\n\n![Over veth](performance-forward.svg)\n"
	for _, part := range []struct {
		title, prefix string
		units         []string
	}{
		{"Packets per second", "Forward/pps/", []string{"pps", "x-redirect", "x-nftables"}},
		{"TCP requests", "Forward/tcp/requests/", []string{"requests/s", "x-direct", "p50-ms", "p99-ms", "p99-x-direct"}},
		{"TCP connections", "Forward/tcp/connections/", []string{"connections/s", "x-direct", "x-haproxy", "x-nginx-stream", "p99-ms"}},
		{"TCP throughput", "Forward/tcp/throughput/", []string{"Mbit/s", "x-direct", "x-direct-no-tso"}},
	} {
		text += fmt.Sprintf("\n### %s\n\n%s", part.title, r.unitTable(part.prefix, part.units))
	}
	return text
}

// unitTable has a row for each benchmark and a column for each unit.
func (r results) unitTable(prefix string, units []string) string {
	var rows [][]string
	for _, who := range r.below(prefix) {
		row := []string{who}
		for _, unit := range units {
			cell := "-"
			if v, ok := r.value(figure{prefix + who, unit}); ok {
				cell = short(v) // the head has the unit
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	return markdownTable(append([]string{""}, units...), rows)
}

func controlSection(r results) string {
	const memory = "memory/"
	var times, sizes [][]string
	for _, name := range r.below("Control/") {
		switch bench := "Control/" + name; {
		case strings.HasPrefix(name, memory), strings.HasPrefix(name, "flow-table/"):
			sizes = append(sizes, []string{name, r.all(bench)})
		default:
			times = append(times, []string{name, r.all(bench)})
		}
	}
	return "## The control plane\n\n`BenchmarkControl`: a config has 10,000 services 10x backends where nothing else is said.\n\n" +
		markdownTable([]string{"", "takes"}, times) + "\n## Memory\n\n" + markdownTable([]string{"", "measured"}, sizes)
}

// all are the figures of a benchmark, except the time of one that measures something else.
func (r results) all(bench string) string {
	var cells []string
	others := slices.ContainsFunc(r.order, func(f figure) bool { return f.bench == bench && !ofGoTest(f.unit) })
	for _, f := range r.order {
		if f.bench != bench || others && ofGoTest(f.unit) {
			continue
		}
		v, _ := r.value(f)
		cells = append(cells, display(v, f.unit))
	}
	return strings.Join(cells, ", ")
}

func ofGoTest(unit string) bool {
	return slices.Contains([]string{nsPerOp, "B/op", "allocs/op"}, unit)
}
