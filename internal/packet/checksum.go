package packet

import (
	"encoding/binary"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// Sum adds the 16-bit words of b to initial (RFC 1071). An odd byte at the end
// counts as if a zero followed, so only the last of several parts may be odd.
// B may be as long as an IP packet.
func Sum(b []byte, initial uint32) uint32 {
	sum := initial
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

// Fold brings a sum to 16 bits by adding the carries (RFC 1071).
func Fold(sum uint32) uint16 {
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum)
}

// Checksum is the Internet checksum of b (RFC 1071): the complement of its
// folded sum. Initial is the sum of what comes before, such as a pseudo-header.
func Checksum(b []byte, initial uint32) uint16 { return ^Fold(Sum(b, initial)) }

// PseudoHeaderSum is the sum of the pseudo-header of TCP, UDP and ICMPv6 (RFC
// 9293, section 3.1; RFC 8200, section 8.1) for length bytes after the IP
// headers. Folded, it is what the checksum field of a packet holds that a local
// sender left for the network card to complete (Linux: CHECKSUM_PARTIAL).
func PseudoHeaderSum(src, dst netip.Addr, protocol lb.Protocol, length int) uint32 {
	sum := Sum(src.AsSlice(), 0)
	sum = Sum(dst.AsSlice(), sum)
	return sum + uint32(length)>>16 + uint32(length)&0xffff + uint32(protocol)
}
