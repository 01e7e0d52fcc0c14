package harness

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/tinylb/tinylb/internal/datapath"
)

// placeholder is the function in bench.bpf.c that the measured program takes the place of.
const placeholder = "measured"

// linked is a spec of the given round alone, with the program as the function that
// it calls. A call costs a tenth of a tail call, which is an indirect jump.
func linked(bench *ebpf.CollectionSpec, round string, program datapath.Unloaded) (*ebpf.CollectionSpec, error) {
	spec, theirs := bench.Copy(), program.Spec.Copy()
	if err := add(spec.Maps, theirs.Maps); err != nil {
		return nil, err
	}
	if err := add(spec.Variables, theirs.Variables); err != nil {
		return nil, err
	}
	around := spec.Programs[round]
	instructions, err := inPlaceOf(around.Instructions, theirs.Programs[program.Program].Instructions)
	if err != nil {
		return nil, err
	}
	around.Instructions = instructions
	spec.Programs = map[string]*ebpf.ProgramSpec{round: around}
	return spec, nil
}

func add[T any](ours, theirs map[string]T) error {
	for name, m := range theirs {
		if _, both := ours[name]; both {
			return fmt.Errorf("the harness and the program both have a %s", name)
		}
		ours[name] = m
	}
	return nil
}

// inPlaceOf has all of a program's functions in the place of the placeholder, which is the caller's last.
func inPlaceOf(caller, program asm.Instructions) (asm.Instructions, error) {
	at := slices.IndexFunc(caller, func(i asm.Instruction) bool { return i.Symbol() == placeholder })
	if at < 0 {
		return nil, fmt.Errorf("the round calls no function %s", placeholder)
	}
	program = slices.Clone(program)
	program[0] = program[0].WithSymbol(placeholder)
	return slices.Concat(caller[:at], program), nil
}

// load has the kernel verify a round with a program in it.
func (h *Harness) load(program datapath.Unloaded) (*ebpf.Program, error) {
	round := "round_v4"
	if h.layout == layoutV6 {
		round = "round_v6"
	}
	spec, err := linked(h.bench, round, program)
	if err != nil {
		return nil, err
	}
	replacements := maps.Clone(h.shared.Maps)
	maps.Copy(replacements, program.Maps)
	collection, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replacements})
	if err != nil {
		return nil, fmt.Errorf("load the program with the harness around it: %w", err)
	}
	defer collection.Close()
	return collection.DetachProgram(round), nil
}
