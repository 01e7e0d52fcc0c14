package diff

import (
	"math/rand/v2"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// The addresses are few, so that everything happens to be shared now and then:
// a VIP by services, a backend by services, a source port by flows. Both families
// have the same ones.

// family is that of an address.
type family string

const (
	ipv4 family = "v4"
	ipv6 family = "v6"
)

func families() []family { return []family{ipv4, ipv6} }

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

// address is a.b.c.d, or the same below a prefix of IPv6.
func (f family) address(a, b, c, d int) netip.Addr {
	if f == ipv6 {
		return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 12: byte(a), 13: byte(b), 14: byte(c), 15: byte(d)})
	}
	return netip.AddrFrom4([4]byte{byte(a), byte(b), byte(c), byte(d)})
}

// pick is one of all.
func pick[T any](rng *rand.Rand, all ...T) T { return all[rng.IntN(len(all))] }

// chance is true once in n times.
func chance(rng *rand.Rand, n int) bool { return rng.IntN(n) == 0 }

func (f family) vipAddress(rng *rand.Rand) netip.Addr { return f.address(203, 0, 113, 1+rng.IntN(3)) }

func (f family) backendAddress(rng *rand.Rand) netip.Addr { return f.address(10, 0, 0, 2+rng.IntN(7)) }

// hostAddress is the balancer's own.
func (f family) hostAddress() netip.Addr { return f.address(10, 0, 0, 1) }

// elsewhere is an address that differs from another one in what IPv4 does not have.
func elsewhere(rng *rand.Rand, a netip.Addr) netip.Addr {
	bytes := a.As16()
	bytes[4+rng.IntN(8)] ^= 1 << rng.IntN(8)
	return netip.AddrFrom16(bytes)
}

// otherFamily is the same below the prefix of IPv6, or without it.
func otherFamily(a netip.AddrPort) netip.AddrPort {
	f, bytes := ipv6, a.Addr().AsSlice()
	if a.Addr().Is6() {
		f, bytes = ipv4, bytes[12:]
	}
	return netip.AddrPortFrom(f.address(int(bytes[0]), int(bytes[1]), int(bytes[2]), int(bytes[3])), a.Port())
}

// noHost is an address that packets claim to come from, but that nobody has.
func (f family) noHost(rng *rand.Rand) netip.Addr {
	if f == ipv6 {
		return netip.MustParseAddr(pick(rng, "::", "::1", "::2", "ff02::1", "ff05::2:1", "fe80::1"))
	}
	return netip.MustParseAddr(pick(rng, "0.0.0.0", "0.1.2.3", "127.0.0.1", "127.1.2.3", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"))
}

func localMAC() lb.MAC { return lb.MAC{2, 0, 0, 0, 0, 5} }

func randomMAC(rng *rand.Rand) lb.MAC { return lb.MAC{2, 1, 0, 0, 0, byte(rng.IntN(16))} }
