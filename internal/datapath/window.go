package datapath

import (
	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// windowSize is how much of a map's memory is mapped at a time, in bytes: all of it
// would count as this process's own, and mapping each piece for itself takes longer
// than writing it.
const windowSize = 1 << 20

// window is a piece of a memory-mapped array.
type window struct {
	first  int // its first byte's place in the array
	memory []byte
}

// at returns the memory from begin on, until the next call.
func (w *window) at(m *ebpf.Map, begin, length int) ([]byte, error) {
	if begin < w.first || begin+length > w.first+len(w.memory) {
		if err := w.move(m, begin, length); err != nil {
			return nil, err
		}
	}
	return w.memory[begin-w.first:][:length], nil
}

func (w *window) move(m *ebpf.Map, begin, length int) error {
	if err := w.close(); err != nil {
		return err
	}
	page := unix.Getpagesize()
	first := begin / page * page
	mapped := max(windowSize, begin-first+length)
	rest := (int(m.MaxEntries())*int(m.ValueSize())+page-1)/page*page - first
	memory, err := unix.Mmap(m.FD(), int64(first), min(mapped, rest), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err == nil {
		w.first, w.memory = first, memory
	}
	return err
}

func (w *window) close() error {
	if w.memory == nil {
		return nil
	}
	memory := w.memory
	w.memory = nil
	return unix.Munmap(memory)
}
