package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestMedianCounts(t *testing.T) {
	atMost := goal{figure: figure{"Packet/empty", "x-empty"}, limit: 4}
	atLeast := goal{figure: figure{"Packet/empty", "x-empty"}, limit: 4, atLeast: true}
	for _, tc := range []struct {
		goal goal
		runs []float64
		want string
	}{
		{atMost, []float64{4}, "ok"},
		{atMost, []float64{5}, "MISSED"},
		{atMost, []float64{5, 3.9, 3.8}, "ok"},
		{atMost, []float64{5, 3.9, 4.1}, "MISSED"},
		{atLeast, []float64{4}, "ok"},
		{atLeast, []float64{3, 4.1, 4.2}, "ok"},
		{atLeast, []float64{3, 3.9, 9}, "MISSED"},
		{atLeast, nil, "NOT MEASURED"},
	} {
		var runs []results
		for _, v := range tc.runs {
			runs = append(runs, results{values: map[figure][]float64{tc.goal.figure: {v}}})
		}
		if got := judge([]goal{tc.goal}, runs...)[0].state(); got != tc.want {
			t.Errorf("%v, limit %v, at least %v: %s, want %s", tc.runs, tc.goal.limit, tc.goal.atLeast, got, tc.want)
		}
	}
}

func TestPattern(t *testing.T) {
	got := pattern([]goal{
		{figure: figure{"Packet/nat/v6/udp/flows=1", "x-empty"}, over: figure{"Packet/nat/v4/udp/flows=1", "x-empty"}},
		{figure: figure{"Packet/nat/v4/udp/flows=1", "x-empty"}},
		{figure: figure{"Control/load.config", "ns/op"}},
	})
	want := `^BenchmarkControl$/^load\.config$|^BenchmarkPacket$/^nat$/^v4$/^udp$/^flows=1$|^BenchmarkPacket$/^nat$/^v6$/^udp$/^flows=1$`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// fakeGo is a go command that answers the nth time with the nth output, or
// the last, and fails if it is told to. It returns what it was asked.
func fakeGo(t *testing.T, fails bool, outputs ...string) (suite, func() []string) {
	t.Helper()
	dir := t.TempDir()
	for i, text := range outputs {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("out%d", i+1)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	exit := "exit 0"
	if fails {
		exit = "exit 1"
	}
	script := fmt.Sprintf("#!/bin/sh\ncd %s\ncase $1 in test) ;; *) exit 0 ;; esac\necho \"$*\" >>asked\ncat out$(wc -l <asked) 2>/dev/null || cat out%d\n%s\n",
		dir, len(outputs), exit)
	program := filepath.Join(dir, "go")
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	asked := func() []string {
		text, err := os.ReadFile(filepath.Join(dir, "asked"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	return suite{goTool: program, progress: io.Discard, flags: []string{"-benchtime", "1x"}}, asked
}

func sampleText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(allMet)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const notOurs = "BenchmarkPacket/not-ours-2 1 %s x-empty\n"

// text is the sample with another figure for packets that are not ours.
func withNotOurs(t *testing.T, value string) string {
	t.Helper()
	return regexp.MustCompile(`BenchmarkPacket/not-ours-2.*\n`).ReplaceAllString(sampleText(t), fmt.Sprintf(notOurs, value))
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		name    string
		outputs []string
		fails   bool
		runs    int
		err     string // "" for a check that is passed
		says    string
	}{
		{name: "all met", outputs: []string{sampleText(t)}, runs: 1, says: `not for a service +<= 1.50 x empty +1.41 x empty +ok`},
		{
			name: "missed by chance", runs: 3, says: `not for a service .* 1.45 x empty \(median of 1.60x, 1.45x, 1.40x\) +ok`,
			outputs: []string{withNotOurs(t, "1.6"), fmt.Sprintf(notOurs, "1.45"), fmt.Sprintf(notOurs, "1.4")},
		},
		{
			name: "missed", runs: 3, err: "1 of 64 goals", says: `not for a service .* 1.60 x empty \(median of .*\) +MISSED`,
			outputs: []string{withNotOurs(t, "1.6"), fmt.Sprintf(notOurs, "1.45"), fmt.Sprintf(notOurs, "1.7")},
		},
		{
			name: "not measured", runs: 1, err: "1 of 64 goals", says: `not for a service +<= 1.50 x empty +- +NOT MEASURED`,
			outputs: []string{regexp.MustCompile(`BenchmarkPacket/not-ours.*\n`).ReplaceAllString(sampleText(t), "")},
		},
		{name: "nothing at all", runs: 1, err: "64 of 64 goals", outputs: []string{"PASS\n"}, says: "NOT MEASURED"},
		{name: "a benchmark that fails", runs: 1, err: "run the benchmarks", fails: true, outputs: []string{sampleText(t)}, says: " ok\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, asked := fakeGo(t, tc.fails, tc.outputs...)
			var out strings.Builder
			err := options{suite: s}.check(t.Context(), &out)
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %v, want %q", err, tc.err)
			}
			if !regexp.MustCompile(tc.says).MatchString(out.String()) {
				t.Errorf("nothing matches %s in\n%s", tc.says, out.String())
			}
			runs := asked()
			if len(runs) != tc.runs {
				t.Fatalf("go was run %d times, want %d: %q", len(runs), tc.runs, runs)
			}
			for i, got := range runs {
				which := "."
				if i > 0 {
					which = "^BenchmarkPacket$/^not-ours$"
				}
				want := "test ./test/bench -run ^$ -bench " + which + " -timeout 0 -benchtime 1x"
				if got != want {
					t.Errorf("run %d: go %s, want go %s", i+1, got, want)
				}
			}
		})
	}
}
