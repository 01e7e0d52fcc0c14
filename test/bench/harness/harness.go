package harness

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
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
	objects benchObjects
	frame   []byte
}

// Sizes of frames, and where the addresses begin in them; the ports follow.
const (
	frameSize4, frameSize6 = 64, 80
	endsAt4, endsAt6       = 14 + 12, 14 + 8
	endsSize4, endsSize6   = 4 + 4 + 4, 16 + 16 + 4
	slotSize               = 40 // of an entry in the map all_ends
)

// New loads the program that makes packets. Close frees it.
func New(t Traffic) (*Harness, error) {
	six := len(t.Frame) == frameSize6
	if len(t.Frame) != frameSize4 && !six || len(t.Ends) == 0 {
		return nil, fmt.Errorf("a frame of %d bytes for %d flows: want 64 or 80 bytes and at least one flow", len(t.Frame), len(t.Ends))
	}
	spec, err := loadBench()
	if err != nil {
		return nil, err
	}
	size, at := uint32(endsSize4), uint32(endsAt4)
	if six {
		size, at = endsSize6, endsAt6
	}
	err = errors.Join(
		spec.Variables["frame_size"].Set(uint32(len(t.Frame))), spec.Variables["ends_offset"].Set(at),
		spec.Variables["ends_size"].Set(size), spec.Variables["flows"].Set(uint32(len(t.Ends))),
	)
	if err != nil {
		return nil, err
	}
	spec.Maps["all_ends"].MaxEntries = uint32(len(t.Ends))
	h := &Harness{frame: t.Frame}
	if err := spec.LoadAndAssign(&h.objects, nil); err != nil {
		return nil, fmt.Errorf("load the harness: %w", err)
	}
	if err := h.fill(t); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// SetFrame changes what the frames carry beside the ends of their flows; they stay as long as they are.
func (h *Harness) SetFrame(frame []byte) error {
	if len(frame) != len(h.frame) {
		return fmt.Errorf("a frame of %d bytes, want %d", len(frame), len(h.frame))
	}
	h.frame = frame
	template := make([]byte, frameSize6)
	copy(template, frame)
	return h.objects.Templates.Put(uint32(0), template)
}

func (h *Harness) fill(t Traffic) error {
	if err := h.SetFrame(t.Frame); err != nil {
		return err
	}
	memory, err := h.objects.AllEnds.Memory()
	if err != nil {
		return err
	}
	all := make([]byte, 0, slotSize*len(t.Ends))
	for _, e := range t.Ends {
		before := len(all)
		all = append(append(all, e.Src.Addr().AsSlice()...), e.Dst.Addr().AsSlice()...)
		all = binary.BigEndian.AppendUint16(all, e.Src.Port())
		all = binary.BigEndian.AppendUint16(all, e.Dst.Port())
		all = append(all, make([]byte, slotSize-(len(all)-before))...)
	}
	_, err = memory.WriteAt(all, 0)
	return err
}

// Close frees the programs and maps.
func (h *Harness) Close() { h.objects.Close() }

// Empty is the program that all are compared with, and Floor one that encapsulates without looking anything up.
func (h *Harness) Empty() *ebpf.Program { return h.objects.Empty }

// Floor encapsulates each packet in the same header.
func (h *Harness) Floor() *ebpf.Program { return h.objects.Encapsulate }

// Run gives a program so many packets, at least two, of the flows that come next.
// It returns how long one took, in ns, and the last verdict.
func (h *Harness) Run(program *ebpf.Program, packets int) (perPacket float64, verdict uint32, err error) {
	if err := h.objects.Behind.Put(uint32(0), program); err != nil {
		return 0, 0, fmt.Errorf("put the program behind the harness: %w", err)
	}
	var run benchRun
	if err := h.objects.Runs.Lookup(uint32(0), &run); err != nil {
		return 0, 0, err
	}
	run = benchRun{Next: run.Next, Packets: uint32(packets)}
	if err := h.objects.Runs.Put(uint32(0), &run); err != nil {
		return 0, 0, err
	}
	verdict, err = h.objects.Fresh.Run(&ebpf.RunOptions{Data: h.frame, Repeat: uint32(packets)})
	if err != nil {
		return 0, 0, fmt.Errorf("test-run: %w", err)
	}
	if err := h.objects.Runs.Lookup(uint32(0), &run); err != nil {
		return 0, 0, err
	}
	if run.Made < run.Packets {
		return 0, 0, fmt.Errorf("the test-run made %d packets, want %d", run.Made, run.Packets)
	}
	return float64(run.Ended-run.Began) / float64(packets-1), verdict, nil
}
