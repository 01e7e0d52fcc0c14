package datapath

import (
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/tinylb/tinylb/internal/lb"
)

// RunThrough makes r give its frames to the program that wrap puts before the
// data plane's.
func (r *Runner) RunThrough(wrap func(*ebpf.Program) (*ebpf.Program, error)) error {
	before, err := wrap(r.program)
	if err != nil {
		return err
	}
	behind := r.program
	r.program = before
	return behind.Close()
}

// hashOf is the hash of a flow's requests.
func (d *Datapath) hashOf(protocol lb.Protocol, client, vip netip.AddrPort) (uint64, error) {
	var keys lbHashKeys
	err := d.maps.AllHashKeys.Lookup(uint32(0), &keys)
	return keys.hash(lbTuple{
		Src: addrToBPF(client.Addr()), Dst: addrToBPF(vip.Addr()),
		Sport: network(client.Port()), Dport: network(vip.Port()), Protocol: uint8(protocol),
	}), err
}

// Buckets are those of the flow table that a flow may lie in, in ascending order.
func (d *Datapath) Buckets(protocol lb.Protocol, client, vip netip.AddrPort) ([]uint32, error) {
	hash, err := d.hashOf(protocol, client, vip)
	buckets := bucketsOf(hash, flowTableFor(d.limits).flowBuckets)
	slices.Sort(buckets)
	return buckets, err
}

// FreeSlots counts them in some of the flow table's buckets.
func (d *Datapath) FreeSlots(buckets []uint32) (free int, err error) {
	s, err := d.readTable()
	if err != nil {
		return 0, err
	}
	for place := range s.table.slots {
		if slices.Contains(buckets, place/bucketPlaces) && s.tags[place/bucketPlaces][place%bucketPlaces] == 0 {
			free++
		}
	}
	return free, nil
}

// Slots is how many flows the table has room for.
func (d *Datapath) Slots() int { return int(d.maps.Flows.MaxEntries()) }

// TurnLock takes the lock of a flow's requests, as if another CPU opened that flow, or lets go of it.
func (d *Datapath) TurnLock(protocol lb.Protocol, client, vip netip.AddrPort) error {
	hash, err := d.hashOf(protocol, client, vip)
	if err != nil {
		return err
	}
	index := uint32(hash>>19) % d.maps.Locks.MaxEntries()
	var lock uint32
	if err := d.maps.Locks.Lookup(index, &lock); err != nil {
		return err
	}
	lock++
	return put(d.maps.Locks, index, &lock)
}

// MoveClients makes it look as if every flow's client came in by the given interface.
func (d *Datapath) MoveClients(index uint32) error {
	moved := map[uint32]lbFlow{}
	err := d.eachFlow(func(slot uint32, f lbFlow, _ lbFlowPrefixes) {
		f.ClientLink = index
		moved[slot] = f
	})
	if err != nil {
		return err
	}
	for slot, f := range moved {
		if err := put(d.maps.Flows, slot, &f); err != nil {
			return err
		}
	}
	return nil
}

// Knobs are the constants that a program is loaded with.
type Knobs struct {
	Attachment                 Attachment
	TestClock, RecordDecisions bool
}

// LoadWith loads and unloads a program.
func (d *Datapath) LoadWith(k Knobs) error {
	program, err := d.load(knobs{
		checksum: k.Attachment.checksumHandling(), mac: k.Attachment.MAC, txByRedirect: k.Attachment.TXByRedirect,
		testClock: k.TestClock, recordDecisions: k.RecordDecisions,
	})
	if err != nil {
		return err
	}
	return program.Close()
}
