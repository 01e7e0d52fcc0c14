package bench

import (
	"flag"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/tinylb/tinylb/test/need"
	"github.com/tinylb/tinylb/test/testnet"
)

var (
	forwardRounds = flag.Int("rounds", 0, "how often the contenders of BenchmarkForward take turns; 0: 7 times, once with -benchtime 1x")
	forwardRound  = flag.Duration("round-time", 0, "how long a turn in BenchmarkForward is; 0: 1s, 100ms with -benchtime 1x. wrk and iperf3 round up to seconds")
)

// BenchmarkForward is what goes through tinylb, and through others in its place,
// from a client's network namespace to a backend's: absolute figures, and their
// ratios to the limit, as medians over rounds in which all take turns.
func BenchmarkForward(b *testing.B) {
	need.Root(b)
	dir := b.TempDir()
	if err := testnet.Build(dir); err != nil {
		b.Fatal(err)
	}
	b.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	b.Run("pps", benchmarkPPS)
	b.Run("tcp", benchmarkTCP)
}

func turns() (rounds int, each time.Duration) {
	rounds, each = 7, time.Second
	if flag.Lookup("test.benchtime").Value.String() == "1x" {
		rounds, each = 1, 100*time.Millisecond
	}
	if *forwardRounds > 0 {
		rounds = *forwardRounds
	}
	if *forwardRound > 0 {
		each = *forwardRound
	}
	return rounds, each
}

// figures are what was measured, by unit.
type figures map[string]float64

// contender measures itself once.
type contender struct {
	name string
	turn func(t testing.TB, duration time.Duration) figures
}

// ratio of a figure to the same one of a contender in the same round.
type ratio struct{ unit, of, to string }

// contest is what contenders are compared in.
type contest struct {
	contenders []contender
	ratios     []ratio
	samples    []map[string][]figures // by contender, one of each round
}

// run has a benchmark for each contender. The first takes the turns of all.
func (c *contest) run(b *testing.B) {
	for _, of := range c.contenders {
		sample := -1
		b.Run(of.name, func(b *testing.B) {
			if b.N == 1 { // and not one more try of the same, with a larger N
				sample++
			}
			for len(c.samples) <= sample {
				c.samples = append(c.samples, c.sample(b))
			}
			c.report(b, c.samples[sample], of.name)
		})
	}
}

// sample also shuffles: nobody always follows the same one.
func (c *contest) sample(b *testing.B) map[string][]figures {
	b.Helper()
	rounds, each := turns()
	taken := map[string][]figures{}
	for range rounds {
		for _, i := range rand.Perm(len(c.contenders)) {
			of := c.contenders[i]
			taken[of.name] = append(taken[of.name], of.turn(b, each))
		}
	}
	return taken
}

func (c *contest) report(b *testing.B, taken map[string][]figures, name string) {
	for unit := range taken[name][0] {
		b.ReportMetric(medianOver(taken[name], func(_ int, f figures) float64 { return f[unit] }), unit)
	}
	for _, r := range c.ratios {
		if r.to != name {
			b.ReportMetric(medianOver(taken[name], func(round int, f figures) float64 { return f[r.of] / taken[r.to][round][r.of] }), r.unit)
		}
	}
	b.ReportMetric(0, "ns/op") // left out
}

func medianOver(rounds []figures, value func(round int, f figures) float64) float64 {
	values := make([]float64, len(rounds))
	for i, f := range rounds {
		values[i] = value(i, f)
	}
	return median(values)
}
