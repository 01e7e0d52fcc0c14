package datapath

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lb"
)

// PathMTU is what a router has said of the way to a backend.
type PathMTU struct {
	MTU   uint32
	Until uint64 // ns of the data plane's clock
}

// PathMTUs lists what is known, expired or not, by the backend's address.
func (d *Datapath) PathMTUs() (map[netip.Addr]PathMTU, error) {
	all := map[netip.Addr]PathMTU{}
	err := each(d.maps.PathMtus, func(_ uint32, p lbPathMtu) {
		if p.Mtu != 0 {
			all[addrFromBPF(p.Backend)] = PathMTU{p.Mtu, p.Until}
		}
	})
	return all, err
}

// ReasonCount is how many packets of a service left for one reason.
type ReasonCount struct {
	Service uint32 // 0: no service
	Reason  Reason
	Packets uint64
}

// ReasonCounts reads the counters of the given services and of none; zero counts are left out.
func (d *Datapath) ReasonCounts(services []uint32) ([]ReasonCount, error) {
	var counts []ReasonCount
	for _, service := range append([]uint32{0}, services...) {
		var perCPU []lbReasonCounters
		if err := d.maps.AllReasonCounters.Lookup(service, &perCPU); err != nil {
			return nil, fmt.Errorf("read the reason counters: %w", err)
		}
		for _, reason := range Reasons() {
			total := uint64(0)
			for _, c := range perCPU {
				total += c.Packets[reason]
			}
			if total > 0 {
				counts = append(counts, ReasonCount{Service: service, Reason: reason, Packets: total})
			}
		}
	}
	return counts, nil
}

// BackendCounters reads one backend's counters.
func (d *Datapath) BackendCounters(id uint32) (lb.BackendCounters, error) {
	var perCPU []lbBackendCounters
	if err := d.maps.AllBackendCounters.Lookup(id, &perCPU); err != nil {
		return lb.BackendCounters{}, fmt.Errorf("read the backend counters: %w", err)
	}
	var total lb.BackendCounters
	for _, c := range perCPU {
		total.PacketsIn += c.PacketsIn
		total.BytesIn += c.BytesIn
		total.PacketsOut += c.PacketsOut
		total.BytesOut += c.BytesOut
		total.Flows += c.Flows
	}
	return total, nil
}

// Now is what the data plane's clock shows, in ns.
func Now() (uint64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, fmt.Errorf("read the clock: %w", err)
	}
	return uint64(now.Nano()), nil
}

// FragmentCounts reads what is held of fragments, and how many datagrams had never been
// completed when the data plane's clock showed `now`.
func (d *Datapath) FragmentCounts(now uint64) (lb.FragmentCounts, error) {
	var store lbFrameStore
	if err := d.maps.FrameStores.Lookup(uint32(0), &store); err != nil {
		return lb.FragmentCounts{}, fmt.Errorf("read the count of held fragments: %w", err)
	}
	counts := lb.FragmentCounts{Held: store.Held, Bytes: store.HeldBytes, Incomplete: store.Incomplete}
	for index := range d.maps.Datagrams.MaxEntries() {
		var datagram lbDatagram
		if err := d.maps.Datagrams.Lookup(index, &datagram); err != nil {
			return lb.FragmentCounts{}, fmt.Errorf("read the table of datagrams: %w", err)
		}
		if datagram.isMissed() && int64(now-datagram.Deadline) > 0 {
			counts.Incomplete++
		}
	}
	return counts, nil
}

// isMissed reports whether it counts as never completed when its time is over; as datagram_begin() in bpf/frag.h has it.
func (d lbDatagram) isMissed() bool {
	isComplete := d.End > 0 && d.Received == (d.End+7)/8
	return !isComplete && (d.State == lbDatagramStateDATAGRAM_WAITING || d.State == lbDatagramStateDATAGRAM_FORWARDED)
}
