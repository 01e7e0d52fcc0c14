package datapath

import (
	"fmt"
	"iter"
	"unsafe"

	"github.com/cilium/ebpf"
)

// mappedArray is an array map in this process's memory: reading it costs no system calls.
type mappedArray[V any] struct {
	memory *ebpf.Memory
	count  uint32
}

func mapped[V any](m *ebpf.Map) (mappedArray[V], error) {
	memory, err := m.Memory()
	if err != nil {
		return mappedArray[V]{}, fmt.Errorf("map %s into memory: %w", mapName(m), err)
	}
	return mappedArray[V]{memory: memory, count: m.MaxEntries()}, nil
}

// all copies one entry after the other.
func (a mappedArray[V]) all() iter.Seq2[uint32, V] {
	return func(yield func(uint32, V) bool) {
		for i := range a.count {
			if !yield(i, a.at(i)) {
				return
			}
		}
	}
}

// at copies an entry; one that is not there is zero.
func (a mappedArray[V]) at(i uint32) V {
	var v V
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v))
	if _, err := a.memory.ReadAt(bytes, int64(i)*int64(len(bytes))); err != nil {
		return *new(V)
	}
	return v
}
