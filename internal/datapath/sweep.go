package datapath

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
)

// StartSweeper has the kernel clear dead flows from now on, also without this process, for as
// long as the maps are pinned, or held.
func (d *Datapath) StartSweeper() error {
	program, err := d.loadSweeper(knobs{}, sweepProgSweepStart)
	if err != nil {
		return err
	}
	defer program.Close()
	return runSweeper(program)
}

// Sweep clears all flows that are dead at the given time.
func (r *Runner) Sweep(at time.Time) error {
	if r.sweeper == nil {
		var err error
		if r.sweeper, err = r.d.loadSweeper(knobs{testClock: true}, sweepProgSweepAll); err != nil {
			return err
		}
	}
	if err := r.setClock(at); err != nil {
		return err
	}
	return runSweeper(r.sweeper)
}

func (d *Datapath) loadSweeper(k knobs, name string) (*ebpf.Program, error) {
	spec, err := loadSweep()
	if err != nil {
		return nil, fmt.Errorf("read the BPF object: %w", err)
	}
	maps := map[string]*ebpf.Map{}
	for name, m := range spec.Maps {
		if ours := d.all[name]; ours != nil {
			m.Pinning, m.MaxEntries, maps[name] = ebpf.PinNone, ours.MaxEntries(), ours
		}
	}
	if err := d.setKnobs(spec, k); err != nil {
		return nil, err
	}
	program := spec.Programs[name]
	spec.Programs = map[string]*ebpf.ProgramSpec{name: program}
	loaded, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: maps})
	if err != nil {
		return nil, fmt.Errorf("load the program that clears dead flows: %w", err)
	}
	defer loaded.Close()
	return loaded.DetachProgram(name), nil
}

// leastFrame is the shortest that the kernel runs a program with.
const leastFrame = 14

func runSweeper(program *ebpf.Program) error {
	code, err := program.Run(&ebpf.RunOptions{Data: make([]byte, leastFrame)})
	if err == nil && code != 0 {
		err = errors.New("it failed at step " + fmt.Sprint(code))
	}
	if err != nil {
		return fmt.Errorf("run the program that clears dead flows: %w", err)
	}
	return nil
}
