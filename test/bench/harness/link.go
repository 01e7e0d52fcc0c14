package harness

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/tinylb/tinylb/internal/datapath"
)

// placeholder is the function in bench.bpf.c that the program to be measured takes the place of.
const placeholder = "measured"

// linked is a spec of the given round alone, with the program in it.
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

// inPlaceOf has the program's entry function follow the caller's code. A jump leads
// there in place of the call of the placeholder, and jumps lead back in place of its exits:
// so there is no return, the dearest instruction of all where the kernel guards them (SRSO).
func inPlaceOf(caller, program asm.Instructions) (asm.Instructions, error) {
	end := slices.IndexFunc(caller, func(i asm.Instruction) bool { return i.Symbol() == placeholder })
	call := slices.IndexFunc(caller, func(i asm.Instruction) bool { return i.Reference() == placeholder })
	if end < 0 || call < 0 || call > end {
		return nil, fmt.Errorf("the round does not call the function %s behind it", placeholder)
	}
	caller = slices.Clone(caller[:end])
	behind := length(caller[call+1:])
	caller[call] = jump(behind)

	entry, others := entryFunction(program)
	entry[0] = btf.WithFuncMetadata(entry[0].WithSymbol(""), nil)
	for i, instruction := range entry {
		if instruction.OpCode.JumpOp() == asm.Exit {
			entry[i] = jump(-behind - length(entry[:i+1]))
		}
	}
	return slices.Concat(caller, entry, others), nil
}

// entryFunction is a copy of the first of a program's functions.
func entryFunction(program asm.Instructions) (entry, others asm.Instructions) {
	end := 1 + slices.IndexFunc(program[1:], func(i asm.Instruction) bool { return i.Symbol() != "" })
	if end == 0 {
		end = len(program)
	}
	return slices.Clone(program[:end]), program[end:]
}

// jump skips instructions, in the kernel's count.
func jump(over int) asm.Instruction {
	return asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Ja), Offset: int16(over)}
}

// length is in the kernel's count, where some instructions are two.
func length(instructions asm.Instructions) int {
	return int(instructions.Size() / asm.InstructionSize)
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
