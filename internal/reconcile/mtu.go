package reconcile

import (
	"math"

	"github.com/tinylb/tinylb/internal/lb"
)

// mtus are those of all ways out.
type mtus struct {
	ofHops       map[int]int       // how many next hops have it
	ofInterfaces map[uint32]uint32 // by index; nil: not known
}

// exchange counts a next hop instead of another one.
func (m *mtus) exchange(before, now lb.NextHop) {
	if m.ofHops[before.MTU]--; m.ofHops[before.MTU] <= 0 {
		delete(m.ofHops, before.MTU)
	}
	if now.MTU > 0 {
		m.ofHops[now.MTU]++
	}
}

// smallest is that of all that are known.
func (m *mtus) smallest() uint32 {
	smallest := uint32(math.MaxUint32)
	for mtu := range m.ofHops {
		smallest = min(smallest, uint32(mtu))
	}
	for _, mtu := range m.ofInterfaces {
		smallest = min(smallest, mtu)
	}
	return smallest
}

// SetInterfaceMTUs says how large IP packets may be on the interfaces that they come in by, by the
// index of each, from the next Apply or Follow on. Until then the tables keep what they have.
func (r *Reconciler) SetInterfaceMTUs(all map[int]int) {
	r.mtus.ofInterfaces = map[uint32]uint32{}
	for index, mtu := range all {
		r.mtus.ofInterfaces[uint32(index)] = uint32(mtu)
	}
}

func (r *Reconciler) setInterfaceMTUs() error {
	if r.mtus.ofInterfaces == nil {
		return nil
	}
	for index := range r.actual.interfaceMTUs {
		if _, wanted := r.mtus.ofInterfaces[index]; !wanted {
			if err := drop(r.actual.interfaceMTUs, index, r.tables.DeleteInterfaceMTU); err != nil {
				return err
			}
		}
	}
	for index, mtu := range r.mtus.ofInterfaces {
		if err := put(r.actual.interfaceMTUs, index, mtu, same, r.tables.PutInterfaceMTU); err != nil {
			return err
		}
	}
	return nil
}
