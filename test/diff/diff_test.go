package diff

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/model"
	"github.com/tinylb/tinylb/test/need"
)

var (
	packets   = flag.Int("packets", 200_000, "how many packets TestDifferential runs")
	firstSeed = flag.Uint64("seed", 1, "the first of its seeds")
	shrink    = flag.Duration("shrink", time.Minute, "how long it may take to make a failure smaller")
)

const (
	packetsPerSeed = 1000
	enoughPackets  = 200_000 // for the following to hold
	leastOfAKind   = 1
	leastForUs     = 0.65
	mostImprecise  = 0.01
)

// Whatever happens, model and data plane say the same.
func TestDifferential(t *testing.T) {
	need.Root(t)
	tally := newTally()
	for seed := *firstSeed; tally.Packets < *packets; seed++ {
		c, err := Generate(seed, min(packetsPerSeed, *packets-tally.Packets), tally)
		switch {
		case errors.Is(err, ErrDisagree):
			keep(t, c, fmt.Sprintf("seed-%d", seed))
			t.Fatalf("seed %d, after %d packets: %v", seed, tally.Packets, err)
		case err != nil:
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	t.Logf("%v", tally)
	if *packets >= enoughPackets {
		checkTally(t, tally)
	}
}

func checkTally(t *testing.T, tally *Tally) {
	for _, why := range model.Reasons() {
		if n := tally.Reasons[why]; n < leastOfAKind && why != model.FlowTableBusy { // that takes two CPUs
			t.Errorf("%s occurred %d times, want %d", why, n, leastOfAKind)
		}
	}
	for _, k := range Kinds() {
		switch n, why := tally.Kinds[k], k.Impossible(); {
		case why != "" && n > 0:
			t.Errorf("%v: occurred %d times, although %s", k, n, why)
		case why == "" && n < leastOfAKind:
			t.Errorf("%v: occurred %d times, want %d", k, n, leastOfAKind)
		}
	}
	if share := float64(tally.ForService) / float64(tally.Packets); share < leastForUs {
		t.Errorf("%.0f %% of the packets were for a service, want %.0f %%", 100*share, 100*leastForUs)
	}
	if share := float64(tally.Imprecise) / float64(tally.Packets); share > mostImprecise {
		t.Errorf("the address filter let %.1f %% of the packets by, want at most %.1f %%", 100*share, 100*mostImprecise)
	}
}

// keep makes a failure as small as it can and adds it to the corpus.
func keep(t *testing.T, c Case, name string) {
	t.Helper()
	if *shrink == 0 {
		return
	}
	c = Shrink(c, *shrink)
	path := filepath.Join("testdata", name+".json")
	if err := c.Write(path); err != nil {
		t.Error(err)
		return
	}
	t.Logf("%s has the %d events that are enough for it; when it is mended, commit them:\n%s", path, len(c.Events), c.About)
}

// What once went wrong never does again.
func TestCorpus(t *testing.T) {
	need.Root(t)
	paths, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c, err := ReadCase(path)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := Replay(c, true); err != nil {
				t.Errorf("event %d of %d: %v\n% x", n, len(c.Events), err, c.Events[max(0, n-1)].Frame)
			}
		})
	}
}

func TestCaseIsKeptWhole(t *testing.T) {
	need.Root(t)
	want, err := Generate(1, 300, newTally())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "case.json")
	if err := want.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := ReadCase(path)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%+v", got.World) != fmt.Sprintf("%+v", want.World) || len(got.Events) != len(want.Events) {
		t.Errorf("the case was written as\n%+v\nand read as\n%+v", want.World, got.World)
	}
	for i, e := range got.Events {
		if e.After != want.Events[i].After || string(e.Frame) != string(want.Events[i].Frame) || (e.World == nil) != (want.Events[i].World == nil) {
			t.Fatalf("event %d was written as\n%+v\nand read as\n%+v", i, want.Events[i], e)
		}
	}
}
