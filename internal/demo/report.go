package demo

import (
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
)

// WriteResult prints who answered and how fast.
func WriteResult(w io.Writer, r Result) {
	fmt.Fprintf(w, "%d requests: %d ok, %d failed\n", r.Requests, r.OK, r.Failed)
	for _, text := range slices.Sorted(maps.Keys(r.Errors)) {
		fmt.Fprintf(w, "  %d x %s\n", r.Errors[text], text)
	}
	if r.OK == 0 {
		return
	}
	names := [][]string{{"backend", "answers", "share", ""}}
	for _, name := range slices.Sorted(maps.Keys(r.Backends)) {
		share := float64(r.Backends[name]) / float64(r.OK)
		names = append(names, []string{
			name, strconv.Itoa(r.Backends[name]), fmt.Sprintf("%.1f%%", 100*share), bar(share)})
	}
	writeTable(w, "lrrl", names)

	l := r.Latency
	writeTable(w, "rrrrr", [][]string{
		{"fastest", "p50", "p90", "p99", "slowest"},
		{inMS(l.Min), inMS(l.P50), inMS(l.P90), inMS(l.P99), inMS(l.Max)},
	})
}

// WriteReasons prints what the data plane did with the packets.
func WriteReasons(w io.Writer, reasons []lb.ReasonStatus) {
	rows := [][]string{{"the data plane", "service", "packets"}}
	for _, r := range reasons {
		if r.Packets > 0 {
			rows = append(rows, []string{r.Reason, r.Service, strconv.FormatUint(r.Packets, 10)})
		}
	}
	writeTable(w, "llr", rows)
}

const barLength = 40

func bar(share float64) string { return strings.Repeat("#", int(share*barLength+0.5)) }

func inMS(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

// writeTable prints an empty line and the rows; align has an l (left) or an r
// (right) for each column.
func writeTable(w io.Writer, align string, rows [][]string) {
	widths := make([]int, len(align))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	fmt.Fprintln(w)
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			width := widths[i]
			if align[i] == 'l' {
				width = -width
			}
			fmt.Fprintf(&line, "%*s  ", width, cell)
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// WriteGuide prints the commands to look around with.
func (d *Demo) WriteGuide(w io.Writer, program string) {
	inside := func(node *lab.Node, command string) string {
		if _, err := exec.LookPath("ip"); err == nil {
			return "ip netns exec " + node.Namespace() + " " + command
		}
		return "nsenter --net=" + node.Path() + " " + command
	}
	request := "curl " + URL
	if _, err := exec.LookPath("curl"); err != nil {
		request = program + " demo-client --url " + URL
	}
	fmt.Fprintf(w, `
It stands until Ctrl-C. In another terminal:

  a request       %s
  client's shell  %s
  balancer        %s
  its config      %s (change it and see)
`,
		inside(d.network.client, request),
		inside(d.network.client, "bash"),
		// Not ip netns exec, which would cover /sys/fs/bpf.
		"nsenter --net="+d.network.balancer.Path()+" "+program+" status --pin "+d.pinDir(),
		d.configFile())
}
