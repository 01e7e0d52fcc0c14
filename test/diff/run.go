package diff

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/tinylb/tinylb/internal/model"
)

// Tally is what happened to how many packets.
type Tally struct {
	Packets    int
	ForService int // for a service or one of its flows
	Imprecise  uint64
	Reasons    map[model.Reason]int
}

func (t *Tally) count(got model.Outcome) {
	t.Packets++
	if got.Service != "" {
		t.ForService++
	}
	if t.Reasons == nil {
		t.Reasons = map[model.Reason]int{}
	}
	t.Reasons[got.Reason]++
}

func (t *Tally) String() string {
	var lines strings.Builder
	fmt.Fprintf(&lines, "%d packets, %d for a service\n", t.Packets, t.ForService)
	reasons := model.Reasons()
	slices.SortFunc(reasons, func(a, b model.Reason) int { return t.Reasons[b] - t.Reasons[a] })
	for _, why := range reasons {
		fmt.Fprintf(&lines, "%8d %s\n", t.Reasons[why], why)
	}
	return lines.String()
}

// Generate makes up a case with so many packets, by a seed, and runs it as it
// goes. If the two disagree, with ErrDisagree, the case ends there.
func Generate(seed uint64, packets int, tally *Tally) (Case, error) {
	rng := rand.New(rand.NewPCG(seed, 0))
	c := Case{Port: randomPort(rng)}
	c.World = randomWorld(rng, pick[uint32](rng, 16, 16, 64, 90, 1024))
	p, err := Open(c.Port, c.World)
	if err != nil {
		return c, err
	}
	defer p.Close()
	c.Events, err = drive(p, NewTraffic(rng, c.Port, c.World), packets, tally)
	tally.Imprecise += p.model.Imprecise
	if errors.Is(err, ErrDisagree) {
		c.About = fmt.Sprintf("seed %d: %v", seed, err)
	}
	return c, err
}

// drive makes things happen to both until there were so many packets.
func drive(p *Pair, traffic *Traffic, packets int, tally *Tally) (events []Event, err error) {
	for last := tally.Packets + packets; tally.Packets < last; {
		e := traffic.Next()
		events = append(events, e)
		got, err := p.Step(e)
		switch {
		case errors.Is(err, ErrRefused):
		case err != nil:
			return events, err
		case e.World != nil:
			traffic.Changed(*e.World)
		default:
			tally.count(got)
			traffic.Saw(e, got)
		}
	}
	return events, p.CheckState()
}
