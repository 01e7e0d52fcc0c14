package diff

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/tinylb/tinylb/internal/model"
)

// Generate makes up a case with so many packets, by a seed, and runs it as it
// goes. If the two disagree, with ErrDisagree, the case ends there.
func Generate(seed uint64, packets int, tally *Tally) (Case, error) {
	rng := rand.New(rand.NewPCG(seed, 0))
	c := Case{Port: randomPort(rng), Hash: pick(rng, badHashKeys(), badHashKeys(), randomHashKeys(rng))}
	all := ways() // in turn, so that none is left to chance
	c.World = randomWorld(rng, pick[uint32](rng, 8, 8, 16, 16, 64, 90, 1024), all[seed%uint64(len(all))])
	p, err := Open(c)
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

func (t *Tally) count(p *Pair, traffic *Traffic, e Event, got model.Outcome) error {
	t.Packets++
	t.Reasons[got.Reason]++
	if got.Service == "" {
		return nil
	}
	t.ForService++
	k, err := traffic.kind(e.Frame, got, p.listFlows)
	t.Kinds[k]++
	return err
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
		case e.Sweep:
			tally.Sweeps++
		default:
			if err := tally.count(p, traffic, e, got); err != nil {
				return events, err
			}
			traffic.Saw(e, got)
		}
	}
	return events, p.CheckState()
}
