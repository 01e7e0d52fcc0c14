package main

import (
	"os"
	"strings"
	"testing"
)

// allMet is a run that meets every goal. Its figures are made up.
const allMet = "testdata/all-met.txt"

func sample(t *testing.T) results {
	t.Helper()
	file, err := os.Open(allMet)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := parse(file, allMet)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParse(t *testing.T) {
	r, err := parse(strings.NewReader(strings.Join([]string{
		"kernel: 6.18.0",
		"goos: linux",
		"BenchmarkPacket/nat/v4/established/flows=1-2 \t 100 \t 160.6 ns/op \t 5.4 x-empty",
		"BenchmarkPacket/nat/v4/established/flows=1-2 \t 100 \t 170.6 ns/op \t 5.2 x-empty",
		"BenchmarkPacket/nat/v4/established/flows=1-2 \t 100 \t 100.6 ns/op \t 7.0 x-empty",
		"BenchmarkPacket/not-ours \t 1 \t 1.25 x-empty", // GOMAXPROCS=1
		"--- SKIP: BenchmarkForward",
		"BenchmarkControl/memory/services=10k-16 \t 1 \t 52.5 rss-MB",
		"BenchmarkControl/memory/flows=1k-16 \t 1 \t 31 rss-MB \t 2 rss-MB-more",
		"PASS",
	}, "\n")), "test")
	if err != nil {
		t.Fatal(err)
	}
	for f, want := range map[figure]float64{
		{"Packet/nat/v4/established/flows=1", "ns/op"}:   160.6,
		{"Packet/nat/v4/established/flows=1", "x-empty"}: 5.4,
		{"Packet/not-ours", "x-empty"}:                   1.25,
		{"Control/memory/services=10k", "rss-MB"}:        52.5,
		{"Control/memory/flows=1k", "rss-MB"}:            31,
	} {
		if got, ok := r.value(f); !ok || got != want {
			t.Errorf("%v is %v (measured: %v), want %v", f, got, ok, want)
		}
	}
	if _, ok := r.value(figure{"Forward", "ns/op"}); ok {
		t.Error("a skipped benchmark has a figure")
	}
	if got := r.config["kernel"]; got != "6.18.0" {
		t.Errorf("kernel is %q", got)
	}
	if got := strings.Join(r.below("Control/memory/"), " "); got != "services=10k flows=1k" {
		t.Errorf("below Control/memory/: %q", got)
	}
}

func TestParseBroken(t *testing.T) {
	if _, err := parse(strings.NewReader("BenchmarkPacket/empty-2 100 twelve ns/op\n"), "broken.txt"); err == nil || !strings.Contains(err.Error(), "broken.txt") {
		t.Errorf("got %v, want an error that names the file", err)
	}
}

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1}, 5},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 9, 1, 2}, 3},
	} {
		if got := median(tc.values); got != tc.want {
			t.Errorf("median of %v is %v, want %v", tc.values, got, tc.want)
		}
	}
}

func TestDisplay(t *testing.T) {
	for _, tc := range []struct {
		value float64
		unit  string
		want  string
	}{
		{3.416, "x-empty", "3.42 x empty"},
		{4, "x-empty", "4 x empty"},
		{1.058, "p99-x-direct", "1.06 x direct"},
		{0.853, "x-direct-no-tso", "0.85 x direct-no-tso"},
		{1.149, "x", "1.15x"},
		{50.44, "ns/op", "50.4 ns"},
		{9999, "ns/op", "9,999 ns"},
		{940_000, "ns/op", "940 µs"},
		{1.31e6, "ns/op", "1.31 ms"},
		{2.5e9, "ns/op", "2.50 s"},
		{52.46, "rss-MB", "52.5 MB rss"},
		{0.5512, "p50-ms", "0.55 ms p50"},
		{9.996, "Mbit/s", "10.0 Mbit/s"},
		{2_104_567.4, "pps", "2,104,567 pps"},
		{0, "evicted", "0 evicted"},
	} {
		if got := display(tc.value, tc.unit); got != tc.want {
			t.Errorf("%v %s: %q, want %q", tc.value, tc.unit, got, tc.want)
		}
	}
}
