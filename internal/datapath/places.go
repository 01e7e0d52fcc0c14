package datapath

import "fmt"

// LiveFlows is Flows, for tests. It fails unless every live flow has its places, in the table and
// where answers lead to it, and nothing else has one; no packets may come meanwhile.
func (d *Datapath) LiveFlows() ([]Flow, error) {
	answers, err := d.answerPlaces()
	if err != nil {
		return nil, err
	}
	var live []Flow
	var wrong error
	err = d.eachFlow(func(slot uint32, f lbFlow, p lbFlowPrefixes) {
		flow := flowFromBPF(f, p)
		live = append(live, flow)
		want := 0
		if flow.Forward.Translates() {
			want = 1
		}
		if answers[slot] != want {
			wrong = fmt.Errorf("%d answers lead to slot %d, want %d: %+v", answers[slot], slot, want, flow)
		}
		delete(answers, slot)
	})
	if err == nil {
		err = wrong
	}
	if err == nil && len(answers) > 0 {
		err = fmt.Errorf("answers lead to slots without a flow: %v", answers)
	}
	buckets := flowTableFor(d.limits).flowBuckets
	taken, placesErr := d.takenPlaces(0, buckets)
	if err == nil {
		err = placesErr
	}
	closed := buckets*bucketPlaces - d.maps.Flows.MaxEntries()
	if err == nil && taken != len(live)+int(closed) {
		err = fmt.Errorf("%d places are taken, %d of them for good, by %d flows", taken, closed, len(live))
	}
	return live, err
}

// answerPlaces counts the places that lead to each slot.
func (d *Datapath) answerPlaces() (map[uint32]int, error) {
	count := map[uint32]int{}
	leading := 0
	err := each(d.maps.AnswerSlots, func(_ uint32, slots lbBucketSlots) {
		for _, slot := range slots.Slot {
			if slot != 0 {
				count[slot-1]++
				leading++
			}
		}
	})
	if err != nil {
		return nil, err
	}
	taken, err := d.takenPlaces(flowTableFor(d.limits).flowBuckets, d.maps.Buckets.MaxEntries())
	if err == nil && taken != leading {
		err = fmt.Errorf("%d answers' places are taken, but %d lead somewhere", taken, leading)
	}
	return count, err
}

// takenPlaces counts those of a stretch of buckets.
func (d *Datapath) takenPlaces(from, to uint32) (n int, err error) {
	err = each(d.maps.Buckets, func(i uint32, b lbBucket) {
		if i < from || i >= to {
			return
		}
		for _, word := range b.Words {
			for ; word != 0; word >>= 16 {
				if word&0xffff != 0 {
					n++
				}
			}
		}
	})
	return n, err
}
