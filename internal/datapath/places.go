package datapath

import (
	"errors"
	"fmt"
	"slices"
)

// LiveFlows is Flows, for tests, while no packets come. It fails unless every live flow has its places, in the table and where
// answers lead to it, nothing else has one, no two flows have the same tuple, no lock is held, and flows are rightly counted.
func (d *Datapath) LiveFlows() ([]Flow, error) {
	table, err := d.readTable()
	if err != nil {
		return nil, err
	}
	var live []Flow
	var wrong []error
	owners := map[lbTuple]uint32{}
	claim := func(slot uint32, t lbTuple) {
		if other, taken := owners[t]; taken {
			wrong = append(wrong, fmt.Errorf("slots %d and %d both have the tuple %+v", other, slot, t))
		}
		owners[t] = slot
	}
	err = d.eachFlow(func(slot uint32, f lbFlow, p lbFlowPrefixes) {
		live = append(live, flowFromBPF(f, p))
		request, answer := tuplesFromBPF(f, p)
		claim(slot, request)
		if !table.takeFlow(slot, request) {
			wrong = append(wrong, fmt.Errorf("slot %d is not where its flow belongs: %+v", slot, live[len(live)-1]))
		}
		if !forwardFromBPF(f.Life.Forward).Translates() {
			return
		}
		claim(slot, answer)
		if !table.takeAnswer(slot, answer) {
			wrong = append(wrong, fmt.Errorf("answers do not lead to slot %d: %+v", slot, live[len(live)-1]))
		}
	})
	if err != nil {
		return nil, err
	}
	return live, errors.Join(append(wrong, table.left(), d.locksAreFree(), d.countsAddUp())...)
}

// tableState is what the flow table says of who is where. What has been accounted for is removed.
type tableState struct {
	table   flowTable
	keys    lbHashKeys
	tags    [][bucketPlaces]uint16 // of the flows' buckets, then of the answers'
	answers [][bucketPlaces]uint32
}

func (d *Datapath) readTable() (*tableState, error) {
	s := &tableState{table: flowTableFor(d.limits)}
	err := d.maps.AllHashKeys.Lookup(uint32(0), &s.keys)
	if err != nil {
		return nil, err
	}
	err = each(d.maps.Buckets, func(i uint32, b lbBucket) {
		var tags [bucketPlaces]uint16
		for place := range bucketPlaces {
			tags[place] = uint16(b.Words[place/wordPlaces] >> (16 * (place % wordPlaces)))
			if i*bucketPlaces+place >= s.table.slots && i < s.table.flowBuckets && tags[place] == nobodys {
				tags[place] = 0 // there is no such slot
			}
		}
		s.tags = append(s.tags, tags)
	})
	if err != nil {
		return nil, err
	}
	return s, each(d.maps.AnswerSlots, func(_ uint32, slots lbBucketSlots) {
		s.answers = append(s.answers, slots.Slot)
	})
}

// takeFlow removes a flow from its place, if that is where it belongs.
func (s *tableState) takeFlow(slot uint32, request lbTuple) bool {
	hash := s.keys.hash(request)
	at := &s.tags[slot/bucketPlaces][slot%bucketPlaces]
	if *at != hashTag(hash) || !slices.Contains(bucketsOf(hash, s.table.flowBuckets), slot/bucketPlaces) {
		return false
	}
	*at = 0
	return true
}

// takeAnswer removes the way from a flow's answers to it, if there is one.
func (s *tableState) takeAnswer(slot uint32, answer lbTuple) bool {
	hash := s.keys.hash(answer)
	for _, bucket := range bucketsOf(hash, s.table.answerBuckets) {
		tags := &s.tags[s.table.flowBuckets+bucket]
		for place, to := range s.answers[bucket] {
			if to == slot+1 && tags[place] == hashTag(hash) {
				tags[place], s.answers[bucket][place] = 0, 0
				return true
			}
		}
	}
	return false
}

// left is an error if anything is taken by nobody.
func (s *tableState) left() error {
	var places []string
	for bucket, tags := range s.tags {
		for place, tag := range tags {
			if tag != 0 {
				places = append(places, fmt.Sprintf("%d/%d", bucket, place))
			}
		}
	}
	for bucket, slots := range s.answers {
		for place, to := range slots {
			if to != 0 {
				places = append(places, fmt.Sprintf("answer %d/%d to %#x", bucket, place, to))
			}
		}
	}
	if len(places) > 0 {
		return fmt.Errorf("places without a flow: %v", places)
	}
	return nil
}

// hash is hash_tuple() in bpf/hash.h.
func (k lbHashKeys) hash(t lbTuple) uint64 {
	pair := func(a, b uint32, n int) uint64 {
		return uint64(a+k.Key[2*n]) * uint64(b+k.Key[2*n+1])
	}
	src, dst := t.Src.Word, t.Dst.Word
	sum := pair(src[3], dst[3], 0) + pair(uint32(t.Sport)|uint32(t.Dport)<<16, uint32(t.Protocol), 1)
	if [3]uint32(dst[:3]) != v4Prefix().Word {
		sum += pair(src[0], dst[0], 2) + pair(src[1], dst[1], 3) + pair(src[2], dst[2], 4)
	}
	sum = (sum ^ sum>>32) * 0x9e3779b97f4a7c15
	return sum ^ sum>>32
}

func hashTag(hash uint64) uint16 { return max(uint16(hash), 1) }

// bucketsOf are both that a hash may lie in, as in bpf/bucket.h.
func bucketsOf(hash uint64, n uint32) []uint32 {
	below := func(hash, n uint32) uint32 { return uint32(uint64(hash) * uint64(n) >> 32) }
	first := below(uint32(hash>>32), n)
	if n == 1 {
		return []uint32{first}
	}
	return []uint32{first, (first + 1 + below(uint32(hash), n-1)) % n}
}

func (d *Datapath) locksAreFree() error {
	var held []uint32
	err := each(d.maps.Locks, func(i uint32, lock uint32) {
		if lock%2 == 1 {
			held = append(held, i)
		}
	})
	if err == nil && len(held) > 0 {
		err = fmt.Errorf("the locks %v are held", held)
	}
	return err
}
