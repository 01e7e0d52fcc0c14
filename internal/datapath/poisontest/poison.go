package poisontest

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// Entry is a program that fills the headroom with 0xff and then runs another.
type Entry struct {
	Program *ebpf.Program
	behind  *ebpf.Map
}

// Before puts an Entry before a program of type xdp.frags.
func Before(program *ebpf.Program) (*Entry, error) {
	var loaded poisonObjects
	if err := loadPoisonObjects(&loaded, nil); err != nil {
		return nil, fmt.Errorf("load the poison program: %w", err)
	}
	loaded.Uncover.Close()
	e := &Entry{Program: loaded.Poison, behind: loaded.Behind}
	if err := e.behind.Put(uint32(0), program); err != nil {
		e.Close()
		return nil, fmt.Errorf("put the program behind the poison: %w", err)
	}
	return e, nil
}

// Close frees the Entry; the kernel empties the map of programs when its last
// descriptor goes, so the Entry does not work any longer.
func (e *Entry) Close() {
	e.Program.Close()
	e.behind.Close()
}
