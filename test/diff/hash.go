package diff

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// HashKeys are those of the flow table's hash; see bpf/hash.h. Zero: a secret of this host.
type HashKeys [10]uint32

func randomHashKeys(rng *rand.Rand) (keys HashKeys) {
	for i := range keys {
		keys[i] = rng.Uint32()
	}
	return keys
}

// badHashKeys are what an attacker would like them to be: tuples meet in one place that have
// the same last words of their addresses, and the same ports. With a source of oftenClient and
// a port of oftenPort the other address does not matter, nor does the protocol; the hash is 0.
func badHashKeys() HashKeys {
	word := func(a netip.Addr, at int) uint32 { return binary.NativeEndian.Uint32(a.AsSlice()[at:]) }
	ports := binary.NativeEndian.Uint32(binary.BigEndian.AppendUint16(
		binary.BigEndian.AppendUint16(nil, oftenClient(ipv4).Port()), oftenPort))
	return HashKeys{
		0: -word(oftenClient(ipv4).Addr(), 0), 1: -word(ipv4.address(10, 0, 0, 100), 0),
		2: -ports,
		4: -word(ipv6.address(0, 0, 0, 0), 0),
	}
}

const oftenPort = 80

// oftenClient is one whose packets come more often than others'.
func oftenClient(f family) netip.AddrPort {
	return netip.AddrPortFrom(f.address(198, 51, 100, 7), 1024)
}
