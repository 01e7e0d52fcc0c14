package datapath

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/tinylb/tinylb/internal/lb"
)

const (
	bucketPlaces = uint32(len(lbBucketSlots{}.Slot))
	wordPlaces   = uint32(64 / 16) // 16 bits each
	nobodys      = 0xffff          // marks places that have no slot
)

// flowTable is how large the flow table's maps are.
type flowTable struct {
	slots, flowBuckets, answerBuckets uint32
}

func flowTableFor(limits lb.Limits) flowTable {
	slots := lb.FlowSlots(limits.Flows)
	buckets := (slots + bucketPlaces - 1) / bucketPlaces
	return flowTable{slots: slots, flowBuckets: buckets, answerBuckets: buckets + (buckets+3)/4}
}

// prepareFlowTable makes what the data plane does not make for itself, once: the
// hash's keys, and marks on the places of the last bucket that have no slot.
func (d *Datapath) prepareFlowTable() error {
	var keys lbHashKeys
	if err := d.maps.AllHashKeys.Lookup(uint32(0), &keys); err != nil {
		return fmt.Errorf("read the flow table's hash keys: %w", err)
	}
	if keys == (lbHashKeys{}) {
		for i := range keys.Key {
			var random [4]byte
			rand.Read(random[:]) // never fails
			keys.Key[i] = binary.NativeEndian.Uint32(random[:])
		}
		if err := put(d.maps.AllHashKeys, uint32(0), &keys); err != nil {
			return err
		}
	}
	return d.closePlaces()
}

func (d *Datapath) closePlaces() error {
	slots := d.maps.Flows.MaxEntries()
	if slots%bucketPlaces == 0 {
		return nil
	}
	last := slots / bucketPlaces
	var bucket lbBucket
	if err := d.maps.Buckets.Lookup(last, &bucket); err != nil {
		return fmt.Errorf("read the flow table's last bucket: %w", err)
	}
	first := slots % bucketPlaces
	if bucket.Words[first/wordPlaces]>>(16*(first%wordPlaces))&nobodys == nobodys {
		return nil // since the maps were made; the data plane may be writing next to it
	}
	for place := first; place < bucketPlaces; place++ {
		bucket.Words[place/wordPlaces] |= nobodys << (16 * (place % wordPlaces))
	}
	return put(d.maps.Buckets, last, &bucket)
}
