package datapath

import (
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/tinylb/tinylb/internal/lb"
)

// Multipliers of the filters' hashes, as in bpf/parse.h.
const (
	filterDestination = 0x9e3779b1
	filterSource      = 0x85ebca6b
	filterPort        = 0xc2b2ae35
)

const (
	portFilterBits    = uint32(8 * unsafe.Sizeof(lbAddressFilter{}.Ports))
	portFilterAt      = int64(unsafe.Offsetof(lbAddressFilter{}.Ports))
	addressFilterSize = unsafe.Sizeof(lbAddressFilter{}.Bits)
)

// filters writes the data plane's Bloom filters. Of each bit of the second one it
// counts who needs it, so that it can be cleared.
type filters struct {
	memory *ebpf.Memory
	needed [portFilterBits]uint16
	ports  lbAddressFilter // its field Ports as written
}

func (d *Datapath) openFilters() error {
	memory, err := d.maps.AddressFilters.Memory()
	if err != nil {
		return fmt.Errorf("map the address filter into memory: %w", err)
	}
	d.filters = &filters{memory: memory}
	there := unsafe.Slice((*byte)(unsafe.Pointer(&d.filters.ports.Ports)), unsafe.Sizeof(d.filters.ports.Ports))
	if _, err := memory.ReadAt(there, portFilterAt); err != nil {
		return fmt.Errorf("read the filter of ports: %w", err)
	}
	err = each(d.maps.Services, func(key lbServiceKey, _ lbService) {
		d.filters.needed[portFilterBit(serviceKeyFromBPF(key).Address)]++
	})
	if err != nil {
		return err
	}
	for bit, n := range d.filters.needed {
		if err := d.filters.set(uint32(bit), n > 0); err != nil {
			return err
		}
	}
	return nil
}

// SetAddressFilter says which packets are worth a look-up: those to a VIP or a SNAT
// address, or to the group that asks for its MAC, and those from a backend that answers clients by their own addresses.
func (d *Datapath) SetAddressFilter(destinations, sources []netip.Addr) error {
	var filter lbAddressFilter
	addAddresses(&filter, destinations, filterDestination)
	addAddresses(&filter, groupsOf(destinations), filterDestination)
	addAddresses(&filter, sources, filterSource)
	bits := unsafe.Slice((*byte)(unsafe.Pointer(&filter.Bits)), addressFilterSize)
	if _, err := d.filters.memory.WriteAt(bits, 0); err != nil {
		return fmt.Errorf("write the address filter: %w", err)
	}
	return nil
}

func groupsOf(addrs []netip.Addr) (groups []netip.Addr) {
	for _, a := range addrs {
		if a.Is6() {
			groups = append(groups, lb.SolicitedNode(a))
		}
	}
	return groups
}

// addressHash folds an address as addr_mix() in bpf/packet.h does.
func addressHash(a netip.Addr) uint32 {
	w := addrToBPF(a).Word
	return w[0] ^ w[1]*3 ^ w[2]*5 ^ w[3]
}

func addAddresses(filter *lbAddressFilter, addrs []netip.Addr, multiplier uint32) {
	for _, a := range addrs {
		hash := addressHash(a) * multiplier
		for _, bit := range []uint32{hash >> 23, hash >> 14 & 511} {
			filter.Bits[bit>>6] |= 1 << (bit & 63)
		}
	}
}

func portFilterBit(a netip.AddrPort) uint32 {
	hash := (addressHash(a.Addr()) + uint32(network(a.Port()))*filterPort) * filterDestination
	return uint32(uint64(hash) * uint64(portFilterBits) >> 32)
}

// expect lets requests to a port be known as such, or, as far as nobody else needs it, no more.
func (f *filters) expect(key lb.ServiceKey, requests bool) error {
	if key.Block > 0 {
		return nil
	}
	bit := portFilterBit(key.Address)
	if !requests {
		f.needed[bit] = max(f.needed[bit], 1) - 1
		return f.set(bit, f.needed[bit] > 0)
	}
	f.needed[bit]++
	return f.set(bit, true)
}

func (f *filters) set(bit uint32, on bool) error {
	word := &f.ports.Ports[bit>>6]
	if was := *word>>(bit&63)&1 == 1; was == on {
		return nil
	}
	*word ^= 1 << (bit & 63)
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(word)), 8)
	if _, err := f.memory.WriteAt(bytes, portFilterAt+int64(bit>>6)*8); err != nil {
		return fmt.Errorf("write the filter of ports: %w", err)
	}
	return nil
}
