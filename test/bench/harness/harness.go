package harness

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/tinylb/tinylb/internal/datapath"
)

// Ends are the two ends of a flow, as its packets name them.
type Ends struct {
	Src, Dst netip.AddrPort
}

// Traffic is a frame, and whose flows its copies belong to.
type Traffic struct {
	Frame []byte // of 64 bytes, or of 80 over IPv6; untagged, without options
	Ends  []Ends // in the order of use; after the last the first comes again
}

// Harness gives traffic to programs. It is for one goroutine.
type Harness struct {
	bench   *ebpf.CollectionSpec
	shared  *ebpf.Collection // the maps of all rounds
	layout  layout
	frame   []byte
	bare    *ebpf.Program
	Empty   *Program // looks at Ethernet and sends back; all are compared with it
	Floor   *Program // encapsulates each packet in the same header, without looking anything up
	loaded  []*Program
	current *ebpf.Variable
}

// Program is one that the harness can measure; it is closed with the harness.
type Program struct {
	around *ebpf.Program
	flow   uint32 // of its next packet
}

// layout says where a frame has what differs between flows. See bench.bpf.c.
type layout struct {
	frameSize int
	from, to  int
	ends      string // the map
}

var (
	layoutV4 = layout{frameSize: 64, from: 26, to: 42, ends: benchMapAllEndsV4}
	layoutV6 = layout{frameSize: 80, from: 22, to: 62, ends: benchMapAllEndsV6}
)

// New makes a harness for traffic of at most as many flows as there are now.
func New(t Traffic) (*Harness, error) {
	bench, err := loadBench()
	if err != nil {
		return nil, err
	}
	h := &Harness{bench: bench, layout: layoutV4}
	if len(t.Frame) == layoutV6.frameSize {
		h.layout = layoutV6
	}
	bench.Maps[h.layout.ends].MaxEntries = uint32(len(t.Ends))
	shared := bench.Copy()
	shared.Programs = map[string]*ebpf.ProgramSpec{benchProgBare: shared.Programs[benchProgBare]}
	if h.shared, err = ebpf.NewCollection(shared); err != nil {
		return nil, fmt.Errorf("load the harness: %w", err)
	}
	h.bare, h.current = h.shared.Programs[benchProgBare], h.shared.Variables[benchVarCurrent]
	if err := h.prepare(t); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

func (h *Harness) prepare(t Traffic) (err error) {
	if err := h.Give(t); err != nil {
		return err
	}
	ours := &ebpf.CollectionSpec{Programs: h.bench.Programs}
	if h.Empty, err = h.Load(datapath.Unloaded{Spec: ours, Program: benchProgEmpty}); err != nil {
		return err
	}
	h.Floor, err = h.Load(datapath.Unloaded{Spec: ours, Program: benchProgEncapsulate})
	return err
}

// Close frees the programs and maps.
func (h *Harness) Close() {
	for _, p := range h.loaded {
		p.around.Close()
	}
	h.shared.Close()
}

// Load builds a program into the harness.
func (h *Harness) Load(program datapath.Unloaded) (*Program, error) {
	around, err := h.load(program)
	if err != nil {
		return nil, err
	}
	p := &Program{around: around}
	h.loaded = append(h.loaded, p)
	return p, nil
}

// Give changes the traffic; each program's next packet is of the first flow.
func (h *Harness) Give(t Traffic) error {
	most := int(h.bench.Maps[h.layout.ends].MaxEntries)
	if len(t.Frame) != h.layout.frameSize || len(t.Ends) == 0 || len(t.Ends) > most {
		return fmt.Errorf("a frame of %d bytes for %d flows: want %d bytes and 1 to %d flows", len(t.Frame), len(t.Ends), h.layout.frameSize, most)
	}
	h.frame = t.Frame
	run := benchRun{Flows: uint32(len(t.Ends))}
	copy(run.Frame[:], t.Frame)
	if err := h.current.Set(&run); err != nil {
		return err
	}
	for _, p := range h.loaded {
		p.flow = 0
	}
	memory, err := h.shared.Maps[h.layout.ends].Memory()
	if err != nil {
		return err
	}
	_, err = memory.WriteAt(h.layout.words(t), 0)
	return err
}

// words are what the flows' packets have where they differ. The checksums stay the first flow's.
func (l layout) words(t Traffic) []byte {
	all := make([]byte, 0, (l.to-l.from)*len(t.Ends))
	for _, e := range t.Ends {
		before := len(all)
		all = append(append(all, e.Src.Addr().AsSlice()...), e.Dst.Addr().AsSlice()...)
		all = binary.BigEndian.AppendUint16(all, e.Src.Port())
		all = binary.BigEndian.AppendUint16(all, e.Dst.Port())
		all = append(all, t.Frame[l.from+len(all)-before:l.to]...)
	}
	return all
}

// Result is of one run.
type Result struct {
	PerPacket float64 // ns; 0 for less packets than Fewest
	Packets   int     // more than were wanted if a signal ended the test-run: it was begun again
	Verdicts  [verdicts]uint64
	Last      []byte // frame, as the program left it
}

// Fewest packets of a run that is timed.
const Fewest = stretch + 1

const (
	verdicts = len(benchRun{}.Verdicts)
	clocks   = len(benchRun{}.Clocks)
	stretch  = 500 // packets; as in bench.bpf.c
	maxFrame = 256 // with all that a program puts before it
)

// All reports whether every packet had this verdict.
func (r Result) All(verdict datapath.Verdict) bool {
	return int(verdict) < verdicts && r.Verdicts[verdict] == uint64(r.Packets)
}

// Run gives a program so many packets, of the flows that come after those of its last run.
func (h *Harness) Run(program *Program, packets int) (Result, error) {
	var run benchRun
	if err := h.current.Get(&run); err != nil {
		return Result{}, err
	}
	run = benchRun{Frame: run.Frame, Flow: program.flow, Flows: run.Flows}
	if err := h.current.Set(&run); err != nil {
		return Result{}, err
	}
	options := ebpf.RunOptions{Data: h.frame, DataOut: make([]byte, maxFrame), Repeat: uint32(packets)}
	if _, err := program.around.Run(&options); err != nil {
		return Result{}, fmt.Errorf("test-run: %w", err)
	}
	if err := h.current.Get(&run); err != nil {
		return Result{}, err
	}
	if run.Made < uint64(packets) {
		return Result{}, fmt.Errorf("the test-run made %d packets, want %d", run.Made, packets)
	}
	program.flow = run.Flow
	return Result{PerPacket: perPacket(run), Packets: int(run.Made), Verdicts: run.Verdicts, Last: options.DataOut}, nil
}

// perPacket is by the median of all stretches, for what else goes on on the machine meets only some of them.
func perPacket(run benchRun) float64 {
	var took []uint64
	for i := 1; i < min(int(run.Made-1)/stretch+1, clocks); i++ {
		took = append(took, run.Clocks[i]-run.Clocks[i-1])
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return float64(took[len(took)/2]) / stretch
}

// Bare is ns per packet, whole ones, of a program that sends back whatever comes, without the harness.
func (h *Harness) Bare(packets int) (perPacket float64, err error) {
	_, took, err := h.bare.Benchmark(h.frame, packets, nil)
	return float64(took.Nanoseconds()), err
}
