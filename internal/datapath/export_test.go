package datapath

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// RunThrough makes r give its frames to the program that wrap puts before the
// data plane's.
func (r *Runner) RunThrough(wrap func(*ebpf.Program) (*ebpf.Program, error)) error {
	before, err := wrap(r.program)
	if err != nil {
		return err
	}
	behind := r.program
	r.program = before
	return behind.Close()
}

// LiveFlows is Flows. It fails unless the index finds every live flow by all of
// its tuples, and nothing else.
func (d *Datapath) LiveFlows() ([]Flow, error) {
	index := map[lbTuple]lbFlowRef{}
	if err := each(d.maps.FlowIndex, func(t lbTuple, ref lbFlowRef) { index[t] = ref }); err != nil {
		return nil, err
	}
	var live []Flow
	var wrong error
	entries := 0
	err := each(d.maps.Flows, func(slot uint32, f lbFlow) {
		switch f.State {
		case lbFlowStateFLOW_FREE:
			return
		case lbFlowStateFLOW_BUSY:
			wrong = fmt.Errorf("slot %d was left half-filled", slot)
			return
		}
		flow := flowFromBPF(f)
		live = append(live, flow)
		tuples := f.Tuple[:]
		if !flow.Forward.Translates() {
			tuples = tuples[:1] // answers do not pass
		}
		entries += len(tuples)
		for direction, tuple := range tuples {
			want := lbFlowRef{Slot: slot, Direction: uint32(direction)}
			if ref, ok := index[tuple]; !ok || ref != want {
				wrong = fmt.Errorf("the index has %v (found: %v) for %v, want %v", ref, ok, flow, want)
			}
		}
	})
	if err == nil {
		err = wrong
	}
	if err == nil && len(index) != entries {
		err = fmt.Errorf("the index has %d entries for %d live flows", len(index), len(live))
	}
	return live, err
}

// MoveClients makes it look as if every flow's client came in by the given interface.
func (d *Datapath) MoveClients(index uint32) error {
	moved := map[uint32]lbFlow{}
	err := each(d.maps.Flows, func(slot uint32, f lbFlow) {
		if f.State == lbFlowStateFLOW_LIVE {
			f.ClientInterface = index
			moved[slot] = f
		}
	})
	if err != nil {
		return err
	}
	for slot, f := range moved {
		if err := put(d.maps.Flows, slot, &f); err != nil {
			return err
		}
	}
	return nil
}

// Knobs are the constants that a program is loaded with.
type Knobs struct {
	Attachment                 Attachment
	TestClock, RecordDecisions bool
}

// LoadWith loads and unloads a program.
func (d *Datapath) LoadWith(k Knobs) error {
	program, err := d.load(knobs{
		checksum: k.Attachment.checksumHandling(), mac: k.Attachment.MAC, txByRedirect: k.Attachment.TXByRedirect,
		testClock: k.TestClock, recordDecisions: k.RecordDecisions,
	})
	if err != nil {
		return err
	}
	return program.Close()
}
