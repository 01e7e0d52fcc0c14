package model

import "encoding/binary"

// hash is the specified hash of a packet: together with a service's table it
// says which backend a new flow gets, on every node and in every version.
//
// It starts from the protocol, a zero byte, source port, destination port and
// two zero bytes, read as one little-endian number. Then, for each of the four
// 32-bit words of the addresses (IPv4 as ::ffff:a.b.c.d, RFC 4291), the source's
// word above the destination's is mixed in by exclusive or and a multiplication
// with 2^64 divided by the golden ratio. The finalizer is that of MurmurHash3
// (Appleby), and the low half is the hash. Ports are in network byte order; the
// words of the addresses are read little-endian.
func (t tuple) hash() uint32 {
	h := uint64(t.protocol) |
		uint64(swapped(t.src.Port()))<<16 |
		uint64(swapped(t.dst.Port()))<<32
	src, dst := t.src.Addr().As16(), t.dst.Addr().As16()
	for i := 0; i < len(src); i += 4 {
		word := uint64(binary.LittleEndian.Uint32(src[i:]))<<32 | uint64(binary.LittleEndian.Uint32(dst[i:]))
		h = (h ^ word) * 0x9e3779b97f4a7c15
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return uint32(h ^ h>>33)
}

// swapped is a port's two bytes in network order, read little-endian.
func swapped(port uint16) uint16 { return port>>8 | port<<8 }
