package diff

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/model"
	"github.com/tinylb/tinylb/test/need"
)

// tape is a source of chance that a fuzzer can steer: each number begins with
// the next two bytes. Behind the end it goes on by itself.
type tape struct {
	data []byte
	rest *rand.PCG
}

func newTape(data []byte) *tape { return &tape{data, rand.NewPCG(uint64(len(data)), 0)} }

func (t *tape) Uint64() uint64 {
	number := t.rest.Uint64()
	if len(t.data) >= 2 {
		number = number>>16 | uint64(binary.BigEndian.Uint16(t.data))<<48
		t.data = t.data[2:]
	}
	return number
}

// fuzzed are the interfaces and sizes of the flow table that inputs choose from.
func fuzzed() []Case {
	limits := []uint32{16, 90}
	ports := []model.Options{
		{MAC: localMAC()},
		{Checksums: model.CompleteChecksums, TXByRedirect: true},
		{Checksums: model.KeepPartialChecksums},
	}
	var all []Case
	for _, port := range ports {
		for _, flows := range limits {
			w := randomWorld(rand.New(rand.NewPCG(1, 0)), flows, ways()[0])
			w.Config.Limits.Backends = 2 * maxServices * maxBackends // the old ones and the new ones
			all = append(all, Case{Port: port, Hash: badHashKeys(), World: w})
		}
	}
	return all
}

const (
	packetsPerInput = 200
	longEnough      = 10 * time.Hour // for every flow to be over
)

// FuzzDifferential makes up a world and what happens in it from the input. The
// data planes are loaded once: to a packet that comes hours after the last one,
// the flows of the input before are as good as gone.
func FuzzDifferential(f *testing.F) {
	need.Root(f)
	cases := fuzzed()
	pairs := make([]*Pair, len(cases))
	for i, c := range cases {
		p, err := Open(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(p.Close)
		pairs[i] = p
	}
	for seed := range uint64(4 * len(cases)) {
		random := rand.New(rand.NewPCG(seed, 0))
		f.Add(uint8(seed), randomBytes(random, 2000))
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		c := cases[int(which)%len(cases)]
		p := pairs[int(which)%len(cases)]
		rng := rand.New(newTape(data))
		w := randomWorld(rng, c.World.Config.Limits.Flows, pick(rng, ways()...))
		begin := Event{After: longEnough, World: &w}
		if _, err := p.Step(begin); err != nil {
			t.Fatal(err)
		}
		events, err := drive(p, NewTraffic(rng, c.Port, w), packetsPerInput, newTally())
		if errors.Is(err, ErrDisagree) {
			c.Events = append([]Event{begin}, events...)
			keep(t, c, "fuzzed")
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}
