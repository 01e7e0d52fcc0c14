package datapath

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/need"
)

// store is a data plane whose slots for frames a test fills by itself.
type store struct {
	t      *testing.T
	d      *Datapath
	runner *Runner
}

func openStore(t *testing.T) store {
	t.Helper()
	need.Root(t)
	d, err := Open(Options{Limits: lb.Limits{Flows: 16, Services: 1, Backends: 1, TableEntries: 64, Held: 8}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	runner, err := d.NewRunner(RunnerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runner.Close() })
	return store{t, d, runner}
}

// put stores a frame of which the first bytes are the head, before those of the next one.
func (s store) put(index, turn uint32, head, rest []byte, next uint32, to uint32) {
	s.t.Helper()
	slot := emitFrameSlot{Interface: to, HeadLength: uint16(len(head)), Offset: 7, Length: uint16(len(rest)), Bytes: index}
	slot.Life.Turn, slot.Next.Index, slot.Next.Turn = turn, next, turn
	copy(slot.Head[:], head)
	var frame emitFrameBytes
	copy(frame.Bytes[slot.Offset:], rest)
	for m, value := range map[*ebpf.Map]any{s.d.maps.FrameSlots: &slot, s.d.maps.StoredFrames: &frame} {
		if err := m.Put(index, value); err != nil {
			s.t.Fatal(err)
		}
	}
}

// parcel is the frame that says where the first one is.
func parcel(index, turn uint32) []byte {
	frame := make([]byte, 64)
	copy(frame[12:], []byte{0x88, 0xb5})
	copy(frame[14:], "tnyl")
	binary.NativeEndian.PutUint32(frame[18:], index)
	binary.NativeEndian.PutUint32(frame[22:], turn)
	return frame
}

func (s store) turn(index uint32) uint32 {
	s.t.Helper()
	var slot emitFrameSlot
	if err := s.d.maps.FrameSlots.Lookup(index, &slot); err != nil {
		s.t.Fatal(err)
	}
	return slot.Life.Turn
}

// TestEmit: the frames of a parcel leave in order, whatever their sizes, and their slots are free then.
func TestEmit(t *testing.T) {
	s := openStore(t)
	head, sizes := bytes.Repeat([]byte{2}, 34), []int{1, 9216, 100}
	for i, size := range sizes {
		s.put(uint32(i), 5, head, bytes.Repeat([]byte{byte(i)}, size), uint32(i+1), uint32(i))
	}
	frames, err := s.runner.runEmit(parcel(0, 5))
	if err != nil {
		t.Fatal(err)
	}
	if len(frames) != len(sizes) {
		t.Fatalf("%d frames, want %d", len(frames), len(sizes))
	}
	for i, size := range sizes {
		if want := slices.Concat(head, bytes.Repeat([]byte{byte(i)}, size)); !bytes.Equal(frames[i].Data, want) {
			t.Errorf("frame %d: %d bytes, want %d", i, len(frames[i].Data), len(want))
		}
		if want := i == 0; frames[i].ToHost != want {
			t.Errorf("frame %d went up to the host: %t, want %t", i, frames[i].ToHost, want)
		}
		if turn := s.turn(uint32(i)); turn != 8 {
			t.Errorf("frame %d: its slot has turn %d, want 8", i, turn)
		}
	}
	if frames, err = s.runner.runEmit(parcel(0, 5)); err != nil || len(frames) > 0 {
		t.Errorf("%d frames left twice: %v", len(frames), err)
	}
}

// TestEmitStale: what is known by an earlier turn is not sent, nor what stands behind it.
func TestEmitStale(t *testing.T) {
	s := openStore(t)
	s.put(0, 5, make([]byte, 14), make([]byte, 20), 1, 1)
	s.put(1, 7, make([]byte, 14), make([]byte, 20), 2, 1)
	for first, want := range map[uint32]int{3: 0, 6: 0, 5: 1} {
		frames, err := s.runner.runEmit(parcel(0, first))
		if err != nil || len(frames) != want {
			t.Errorf("turn %d: %d frames, want %d: %v", first, len(frames), want, err)
		}
	}
	if turn := s.turn(1); turn != 7 {
		t.Errorf("a stranger's slot has turn %d, want 7", turn)
	}
}

// TestEmitForeign: what is not ours goes on as it was.
func TestEmitForeign(t *testing.T) {
	s := openStore(t)
	const unspecified = -1 // TC_ACT_UNSPEC
	other := parcel(0, 5)
	other[14]++
	for name, frame := range map[string][]byte{"IPv4": append([]byte{11: 0, 12: 8, 13: 0}, make([]byte, 50)...), "of the same EtherType": other} {
		action, out, err := s.runner.runProgram(s.runner.emit, frame)
		if err != nil || int32(action) != unspecified || !bytes.Equal(out, frame) {
			t.Errorf("%s: action %d, %v:\n in % x\nout % x", name, int32(action), err, frame, out)
		}
	}
}
