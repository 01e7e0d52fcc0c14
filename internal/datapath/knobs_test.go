package datapath_test

import (
	"fmt"
	"testing"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/test/need"
)

// The verifier sees another program for each combination of knobs.
func TestEveryKnobCombinationLoads(t *testing.T) {
	need.Root(t)
	for slots, all := range map[uint32][]datapath.Knobs{1: someKnobs(), 16: someKnobs(), 262144: allKnobs()} {
		if testing.Short() && len(all) > len(someKnobs()) {
			all = someKnobs()
		}
		t.Run(fmt.Sprintf("%d slots", slots), func(t *testing.T) {
			t.Parallel()
			limits := config().Limits
			limits.Flows = slots
			d, err := datapath.Open(datapath.Options{Limits: limits})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			for _, knobs := range all {
				if err := d.LoadWith(knobs); err != nil {
					t.Errorf("%+v: %v", knobs, err)
				}
			}
		})
	}
}

// someKnobs have each value of each knob.
func someKnobs() (some []datapath.Knobs) {
	all := allKnobs()
	for i := range len(checksumModes()) {
		some = append(some, all[i*len(all)/len(checksumModes())+7*i])
	}
	return some
}

func allKnobs() []datapath.Knobs {
	var all []datapath.Knobs
	for _, mode := range checksumModes() {
		for bits := range 16 {
			k := datapath.Knobs{Attachment: mode.attachment, TestClock: bits&1 != 0, RecordDecisions: bits&2 != 0}
			k.Attachment.TXByRedirect = bits&4 != 0
			if bits&8 != 0 {
				k.Attachment.MAC = localMAC()
			}
			all = append(all, k)
		}
	}
	return all
}

// One slot is enough for one flow at a time.
func TestOneSlot(t *testing.T) {
	cfg := config(web(backendA))
	cfg.Limits.Flows = 1
	b := start(t, cfg)
	first := b.tcp(clientAt(1), webVIP).establish()
	second := b.tcp(clientAt(2), webVIP)
	second.expect("DROP flow-table-full", second.request(packet.SYN, ""))
	first.expect(forwarded, first.request(packet.RST, ""))
	second.establish()
}
