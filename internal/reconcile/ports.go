package reconcile

import (
	"math/bits"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
)

// portOwners knows the services with ranges of ports. Such a range is looked up as
// aligned blocks. Of two ranges one lies inside the other or they share no port, so
// a port's block in the inner one lies inside its block in the outer one, and leads
// before that. Where both are the same block it belongs to the inner one.
type portOwners struct {
	ranges []portRanges
	owner  map[lb.ServiceKey]lb.PortRange // the smallest range that has the block
}

// portRanges are those of one service.
type portRanges struct {
	vip      lb.VIP
	tcp, udp bool
}

// learn takes note of all services and reports whether any range has changed.
func (o *portOwners) learn(services []lb.Service) bool {
	var ranges []portRanges
	for i := range services {
		if s := &services[i]; !s.Address.IsOnePort() {
			ranges = append(ranges, portRanges{s.Address, slices.Contains(s.Protocols, lb.TCP), slices.Contains(s.Protocols, lb.UDP)})
		}
	}
	if slices.Equal(ranges, o.ranges) {
		return false
	}
	o.ranges, o.owner = ranges, map[lb.ServiceKey]lb.PortRange{}
	for i := range services {
		s := &services[i]
		for _, key := range allKeys(s) {
			if before, taken := o.owner[key]; key.Block > 0 && (!taken || s.Address.Ports.Size() < before.Size()) {
				o.owner[key] = s.Address.Ports
			}
		}
	}
	return true
}

// keysOf lists the keys that are the service's own.
func (o *portOwners) keysOf(s *lb.Service) []lb.ServiceKey {
	return slices.DeleteFunc(allKeys(s), func(key lb.ServiceKey) bool {
		return key.Block > 0 && o.owner[key] != s.Address.Ports
	})
}

// allKeys lists a service's keys as if it were alone.
func allKeys(s *lb.Service) []lb.ServiceKey {
	var keys []lb.ServiceKey
	add := func(port uint16, block uint32) {
		for _, protocol := range s.Protocols {
			keys = append(keys, lb.ServiceKey{Address: netip.AddrPortFrom(s.Address.Addr, port), Protocol: protocol, Block: block})
		}
	}
	if s.Address.IsOnePort() {
		add(s.Address.Ports.First, 0)
		return keys
	}
	end := uint32(s.Address.Ports.Last) + 1
	for first := uint32(s.Address.Ports.First); first < end; {
		size := largestBlock(first, end-first)
		add(uint16(first), size)
		first += size
	}
	return keys
}

// largestBlock is the size of the largest aligned block that starts at first and
// has at most so many ports.
func largestBlock(first, most uint32) uint32 {
	const allPorts = 1 << 16
	aligned := uint32(1) << bits.TrailingZeros32(first|allPorts)
	return min(aligned, 1<<(bits.Len32(most)-1))
}
