package stresstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/datapath"
)

// Kind is of a packet: TCP flags, and these.
type Kind uint16

const (
	Answer Kind = 0x100 // a backend sends it, to whom it got one from of late
	UDP    Kind = 0x200 // of answers, what they answer decides
)

// Plan is what packets there are.
type Plan struct {
	Clients, VIPs uint32 // at most 2^22, 2
	Kinds         []Kind // 16, each as likely as the others
	V6            bool
	Together      bool // every two packets are of the same client, most likely on two CPUs
	Tunnels       bool // what leaves is encapsulated
}

// Role is what an address is for.
type Role int

// Who has addresses.
const (
	Client Role = iota
	VIP
	Backend
	Source
)

// Port is that of VIPs and backends.
const Port = 80

const (
	numbers    = 0x1ffff
	portShift  = 17
	clientPort = 10000
)

// Address is the nth of a role, as in stress.bpf.c.
func (p Plan) Address(role Role, n uint32) netip.Addr {
	var bytes [16]byte
	if !p.V6 {
		base := []uint32{0xc6120000, 0xcb007105, 0x0a010000, 0x0a020000}[role]
		binary.BigEndian.PutUint32(bytes[:], base+n)
		return netip.AddrFrom4([4]byte(bytes[:4]))
	}
	binary.BigEndian.PutUint32(bytes[0:], 0x20010db8)
	binary.BigEndian.PutUint32(bytes[4:], uint32(role)<<28|n*0x01000193&0x0fffffff)
	binary.BigEndian.PutUint32(bytes[8:], ^n)
	binary.BigEndian.PutUint32(bytes[12:], n)
	return netip.AddrFrom16(bytes)
}

// Has reports whether an address is one of a role.
func (p Plan) Has(role Role, a netip.Addr) bool {
	bytes := a.AsSlice()
	n := binary.BigEndian.Uint32(bytes[len(bytes)-4:])
	if !p.V6 {
		first := p.Address(role, 0).As4()
		n -= binary.BigEndian.Uint32(first[:])
	}
	return n <= numbers && p.Address(role, n) == a
}

// Stress is a data plane with a plan.
type Stress struct {
	objects *ebpf.Collection
	program *ebpf.Program
}

const programName = "stress"

// Load has the kernel verify the data plane's program behind the one that makes packets. Close frees them.
func Load(behind datapath.Unloaded, p Plan) (*Stress, error) {
	spec, err := loadStress()
	if err != nil {
		return nil, err
	}
	plan := stressTraffic{
		Clients: p.Clients, Vips: p.VIPs,
		IsV6: number(p.V6), Together: number(p.Together), Tunnels: number(p.Tunnels),
	}
	if len(p.Kinds) != len(plan.Kinds) {
		return nil, fmt.Errorf("%d kinds of packets, want %d", len(p.Kinds), len(plan.Kinds))
	}
	for i, kind := range p.Kinds {
		plan.Kinds[i] = uint16(kind)
	}
	if err := spec.Variables["plan"].Set(&plan); err != nil {
		return nil, err
	}
	spec.Maps["homes"].MaxEntries = 2 * p.Clients * p.VIPs
	theirs := behind.Spec.Copy()
	maps.Copy(spec.Maps, theirs.Maps)
	maps.Copy(spec.Variables, theirs.Variables)
	program := spec.Programs[programName]
	if program.Instructions, err = inPlaceOf(program.Instructions, theirs.Programs[behind.Program].Instructions); err != nil {
		return nil, err
	}
	objects, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: behind.Maps})
	if err != nil {
		return nil, fmt.Errorf("load the stress test: %w", err)
	}
	return &Stress{objects: objects, program: objects.Programs[programName]}, nil
}

// Close frees the programs.
func (s *Stress) Close() { s.objects.Close() }

func number(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// placeholder is the function that the data plane's program takes the place of.
const placeholder = "measured"

// inPlaceOf has the program follow the caller's code. A jump leads there in place of the call of the
// placeholder, and jumps lead back in place of its exits.
func inPlaceOf(caller, program asm.Instructions) (asm.Instructions, error) {
	end := slices.IndexFunc(caller, func(i asm.Instruction) bool { return i.Symbol() == placeholder })
	call := slices.IndexFunc(caller, func(i asm.Instruction) bool { return i.Reference() == placeholder })
	if end < 0 || call < 0 || call > end {
		return nil, errors.New("nothing calls the function " + placeholder + " behind it")
	}
	caller = slices.Clone(caller[:end])
	behind := length(caller[call+1:])
	caller[call] = jump(behind)

	entry := 1 + slices.IndexFunc(program[1:], func(i asm.Instruction) bool { return i.Symbol() != "" })
	program = slices.Clone(program)
	program[0] = btf.WithFuncMetadata(program[0].WithSymbol(""), nil)
	for i, instruction := range program[:entry] {
		if instruction.OpCode.JumpOp() == asm.Exit {
			program[i] = jump(-behind - length(program[:i+1]))
		}
	}
	return slices.Concat(caller, program), nil
}

// jump skips instructions, in the kernel's count.
func jump(over int) asm.Instruction {
	return asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Ja), Offset: int16(over)}
}

// length is in the kernel's count, where some instructions are two.
func length(instructions asm.Instructions) int {
	return int(instructions.Size() / asm.InstructionSize)
}

// Run makes packets on one CPU. Its goroutine's thread is bound to that from then on, so the
// goroutine should end soon after.
func (s *Stress) Run(cpu int, packets int) error {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("bind a thread to CPU %d: %w", cpu, err)
	}
	options := ebpf.RunOptions{Data: make([]byte, 74), Repeat: uint32(packets)}
	if _, err := s.program.Run(&options); err != nil {
		return fmt.Errorf("test-run: %w", err)
	}
	return nil
}

// CPUs are those that this process may use.
func CPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("which CPUs there are: %w", err)
	}
	var all []int
	for cpu := 0; len(all) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			all = append(all, cpu)
		}
	}
	return all, nil
}

// Results are what became of packets.
type Results struct {
	Made, Sent, Dropped, Passed uint64
	// Of those sent, all but the last of each Run is judged.
	ToBackend, ToClient, Unjudged uint64
	// Wrong is what must not be.
	Wrong map[string]uint64
}

// Results adds up those of all CPUs.
func (s *Stress) Results() (Results, error) {
	sum := func(r stressResult) (n uint64, err error) {
		var perCPU []uint64
		err = s.objects.Maps["results"].Lookup(uint32(r), &perCPU)
		for _, of := range perCPU {
			n += of
		}
		return n, err
	}
	r := Results{Wrong: map[string]uint64{}}
	var errs []error
	for result, to := range map[stressResult]*uint64{
		stressResultRESULT_MADE: &r.Made, stressResultRESULT_SENT: &r.Sent,
		stressResultRESULT_TO_BACKEND: &r.ToBackend, stressResultRESULT_TO_CLIENT: &r.ToClient,
		stressResultRESULT_DROP: &r.Dropped, stressResultRESULT_PASS: &r.Passed,
	} {
		var err error
		*to, err = sum(result)
		errs = append(errs, err)
	}
	for result, name := range map[stressResult]string{
		stressResultRESULT_OTHER_VERDICT: "another verdict", stressResultRESULT_NO_BACKEND: "sent to what is no backend",
		stressResultRESULT_OTHER_BACKEND: "sent to another backend than before", stressResultRESULT_WRONG_SOURCE: "sent with a wrong source",
		stressResultRESULT_NO_CLIENT: "answer sent to what is no client", stressResultRESULT_OTHER_CLIENT: "answer sent to another client",
		stressResultRESULT_OTHER_MAC: "answer sent to another MAC", stressResultRESULT_COUNT: "not judged",
	} {
		n, err := sum(result)
		errs = append(errs, err)
		if n > 0 {
			r.Wrong[name] = n
		}
	}
	r.Unjudged = r.Sent - r.ToBackend - r.ToClient
	for _, n := range r.Wrong {
		r.Unjudged -= n
	}
	return r, errors.Join(errs...)
}
