package datapath

import (
	"errors"
	"fmt"

	"github.com/tinylb/tinylb/internal/lb"
)

// FlowCount is how many of a backend's flows are in the table and not closed. Flows whose time is
// over are counted until they are cleared, within ten seconds or so.
func (d *Datapath) FlowCount(id uint32, b lb.BackendEntry) (uint32, error) {
	var count lbFlowCount
	if err := d.maps.FlowCounts.Lookup(flowCountIndex(id, b.Generation), &count); err != nil {
		return 0, fmt.Errorf("read a backend's count of flows: %w", err)
	}
	return count.Active, nil
}

func flowCountIndex(backend, generation uint32) uint32 { return 2*backend + generation&1 }

// countsAddUp is an error unless the counts of flows are what is in the table. For tests, while no packets come.
func (d *Datapath) countsAddUp() error {
	active := map[uint32]uint32{} // by flowCountIndex
	err := d.eachFlow(func(_ uint32, f lbFlow, _ lbFlowPrefixes) {
		if f.Life.Phase != lbFlowPhasePHASE_TCP_CLOSED {
			active[flowCountIndex(f.Backend, f.BackendGeneration)]++
		}
	})
	if err != nil {
		return err
	}
	var wrong []error
	ofService := map[uint32]uint32{}
	err = each(d.maps.FlowCounts, func(i uint32, count lbFlowCount) {
		ofService[count.Service] += count.Active
		if count.Active != active[i] {
			wrong = append(wrong, fmt.Errorf("backend %d has %d flows, and %d are counted for it", i/2, active[i], count.Active))
		}
	})
	if err != nil {
		return err
	}
	err = each(d.maps.ServiceFlowCounts, func(id uint32, count uint32) {
		if count != ofService[id] {
			wrong = append(wrong, fmt.Errorf("the backends of service %d have %d flows, and %d are counted for it", id, ofService[id], count))
		}
	})
	return errors.Join(append(wrong, err)...)
}
