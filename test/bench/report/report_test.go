package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const someNotes = "## Notes\n\n| by | hand |\n|---|---|\n| this | that |\n"

// newReport writes one of a fake run to a directory.
func newReport(t *testing.T, fails bool) (dir string, err error) {
	t.Helper()
	dir = t.TempDir()
	notes := filepath.Join(t.TempDir(), "notes.md")
	if err := os.WriteFile(notes, []byte(someNotes), 0o644); err != nil {
		t.Fatal(err)
	}
	s, _ := fakeGo(t, fails, sampleText(t))
	return dir, options{docs: dir, notes: notes, suite: s}.write(t.Context())
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestWrite(t *testing.T) {
	dir, err := newReport(t, false)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"performance-flows.svg", "performance-forward.svg", "performance-packet.svg", "performance.md", "performance.txt"}
	if got := files(t, dir); !slices.Equal(got, want) {
		t.Errorf("wrote %q, want %q", got, want)
	}
	raw, page := read(t, dir, "performance.txt"), read(t, dir, "performance.md")
	if !strings.HasSuffix(raw, sampleText(t)) || !strings.HasPrefix(raw, "date: ") {
		t.Error("performance.txt is not the machine's description and then all that go test printed")
	}
	if !strings.HasSuffix(page, someNotes) {
		t.Error("the page does not end with the notes")
	}
	if want := "\ncommand: go test ./test/bench -run '^$' -bench . -timeout 0 -benchtime 1x\n"; !strings.Contains(raw, want) {
		t.Errorf("performance.txt lacks %q", want)
	}
	for _, part := range []string{
		"64 of 64 are met",
		"| kernel | ",
		"| command | made up for the tests",
		"| ipip, established, 1 flow | <= 4 x empty | 3.80 x empty | ok | Katran 8.5 |",
		"| nat | v4 | 50.4 ns, 4.20x | 93 ns, 7.75x | 126 ns, 10.5x | 145 ns, 12.1x |",
		"| nat | v4 | - | 235 ns, 19.6x |",
		"| nat | 1,870,000 | 0.89 | 3.90 |",
		"| nat | 73,720 | 0.97 | 0.57 | 1.06 | 1.06 |",
		"| load-config | 712 ms |",
		"| memory/flows=1M | 33 MB rss, 96 MB map |",
	} {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %s", part)
		}
	}
	for _, link := range regexp.MustCompile(`\]\((performance[^)]*)\)`).FindAllStringSubmatch(page, -1) {
		if !slices.Contains(want, link[1]) {
			t.Errorf("the page links to %s, which is not written", link[1])
		}
	}
}

// A run of an hour that fails at its end is kept, but no report is made of it.
func TestWriteFailed(t *testing.T) {
	dir, err := newReport(t, true)
	if err == nil || !strings.Contains(err.Error(), "performance.txt.new") {
		t.Errorf("got %v, want an error that names the file", err)
	}
	if got := files(t, dir); !slices.Equal(got, []string{"performance.txt.new"}) {
		t.Errorf("wrote %q", got)
	}
	if !strings.Contains(read(t, dir, "performance.txt.new"), "BenchmarkPacket/empty") {
		t.Error("the figures are lost")
	}
}

// A table's rows must have as many cells as its head, or it is not shown as one.
func TestPageTables(t *testing.T) {
	for name, r := range map[string]results{"all measured": sample(t), "nothing measured": {}} {
		columns := 0
		for _, line := range strings.Split(page(r, someNotes), "\n") {
			cells := strings.Count(line, "|")
			if strings.HasPrefix(line, "|") && columns != 0 && cells != columns {
				t.Errorf("%s: %d columns, want %d: %s", name, cells-1, columns-1, line)
			}
			columns = cells
		}
	}
}

func TestCharts(t *testing.T) {
	for name, r := range map[string]results{"all measured": sample(t), "nothing measured": {}} {
		for file, text := range charts(r) {
			for decoder := xml.NewDecoder(strings.NewReader(text)); ; {
				if _, err := decoder.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("%s of %s: %v", file, name, err)
				}
			}
			if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
				t.Errorf("%s of %s has what is no number", file, name)
			}
		}
	}
}

func TestBars(t *testing.T) {
	text := svg(chart{
		title: "a < b", yLabel: "y", groups: []string{"one", "two"},
		series:     []series{{"first", []float64{1, math.NaN()}}, {"second", []float64{2, 10}}},
		references: []reference{{"limit", 4}},
	})
	if got := strings.Count(text, "<rect"); got != 1+2+3 {
		t.Errorf("%d rectangles, want the card, two of the legend and three bars", got)
	}
	for _, part := range []string{"a &lt; b", ">limit 4<", ">first<", ">second<", ">one<", ">two<", ">10<"} {
		if !strings.Contains(text, part) {
			t.Errorf("the chart lacks %s", part)
		}
	}
}

func TestAxis(t *testing.T) {
	for _, tc := range []struct{ highest, end, step float64 }{
		{0, 1, 0.25},
		{0.98, 1.2, 0.2},
		{2.1, 2.5, 0.5},
		{12.1, 14, 2},
		{100, 120, 20},
	} {
		end, step := axis(tc.highest)
		if math.Abs(end-tc.end) > 1e-9 || math.Abs(step-tc.step) > 1e-9 {
			t.Errorf("up to %v: ends at %v in steps of %v, want %v and %v", tc.highest, end, step, tc.end, tc.step)
		}
	}
}

func TestSpread(t *testing.T) {
	got := spread([]label{{y: 100}, {y: 103}, {y: 50}, {y: 101}})
	var ys []float64
	for _, l := range got {
		ys = append(ys, l.y)
	}
	if want := []float64{103, 103 - labelHeight, 103 - 2*labelHeight, 50}; !slices.Equal(ys, want) {
		t.Errorf("labels at %v, want %v", ys, want)
	}
}

func TestMachine(t *testing.T) {
	t.Chdir("../../..")
	known := map[string]string{}
	for _, s := range machine(t.Context(), "go", "go test") {
		known[s.key] = s.value
		if strings.ContainsAny(s.value, "\n") {
			t.Errorf("%s has more than one line: %q", s.key, s.value)
		}
	}
	for _, key := range []string{"date", "command", "cores", "memory", "virtual", "kernel", "go", "clang"} {
		if known[key] == "" {
			t.Errorf("%s is not known", key)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"draw", "-from", allMet}, {"check", "-from", "testdata/none.txt"}, {"check", "-wrong"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}
