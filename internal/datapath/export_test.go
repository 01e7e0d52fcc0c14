package datapath

import "github.com/cilium/ebpf"

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

// MoveClients makes it look as if every flow's client came in by the given interface.
func (d *Datapath) MoveClients(index uint32) error {
	moved := map[uint32]lbFlow{}
	err := d.eachFlow(func(slot uint32, f lbFlow, _ lbFlowPrefixes) {
		f.ClientInterface = index
		moved[slot] = f
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
