package lab

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// unwrapping is what has been found out about a packet.
type unwrapping int

const (
	unwrapped    unwrapping = iota
	notTunnelled            // not for the decapsulator
	malformed
)

// Sizes of headers without options, in bytes.
const (
	ethernetHeader = 14
	ipv4Header     = 20
	ipv6Header     = 40
	udpHeader      = 8
	gueHeader      = 4
)

// unwrapIPIP returns where the inner packet starts.
func unwrapIPIP(packet []byte) (inner int, verdict unwrapping) {
	header, protocol := outerHeader(packet)
	if header == 0 {
		return 0, notTunnelled
	}
	return checkInner(packet, header, protocol)
}

// unwrapGUE returns where the inner packet starts, behind a GUE header of
// variant 0 without any option, private data or flag.
func unwrapGUE(port uint16) func(packet []byte) (inner int, verdict unwrapping) {
	return func(packet []byte) (int, unwrapping) {
		header, protocol := outerHeader(packet)
		if header == 0 || len(packet) < header+udpHeader {
			return 0, notTunnelled
		}
		udp := packet[header:]
		if protocol != unix.IPPROTO_UDP || binary.BigEndian.Uint16(udp[2:]) != port {
			return 0, notTunnelled
		}
		if int(binary.BigEndian.Uint16(udp[4:])) != len(udp) || len(udp) < udpHeader+gueHeader {
			return 0, malformed
		}
		gue := udp[udpHeader:]
		if gue[0] != 0 || gue[2] != 0 || gue[3] != 0 {
			return 0, malformed
		}
		return checkInner(packet, header+udpHeader+gueHeader, gue[1])
	}
}

// checkInner wants an IP packet of the family that the protocol says, which
// fills the outer packet.
func checkInner(packet []byte, inner int, protocol uint8) (int, unwrapping) {
	if inner == len(packet) || ipLength(packet[inner:]) != len(packet)-inner {
		return 0, malformed
	}
	switch version := packet[inner] >> 4; {
	case version == 4 && protocol == unix.IPPROTO_IPIP, version == 6 && protocol == unix.IPPROTO_IPV6:
		return inner, unwrapped
	}
	return 0, malformed
}

// outerHeader returns the length of an IP header without options, 0 for another,
// and the protocol behind it.
func outerHeader(packet []byte) (length int, protocol uint8) {
	switch {
	case ipLength(packet) == 0:
		return 0, 0
	case packet[0] == 4<<4|5:
		return ipv4Header, packet[9]
	case packet[0]>>4 == 6:
		return ipv6Header, packet[6]
	}
	return 0, 0
}

// ipLength is an IP packet's length by its header; 0 if it is cut short.
func ipLength(packet []byte) int {
	length := 0
	switch {
	case len(packet) >= ipv4Header && packet[0]>>4 == 4:
		length = int(binary.BigEndian.Uint16(packet[2:]))
	case len(packet) >= ipv6Header && packet[0]>>4 == 6:
		length = ipv6Header + int(binary.BigEndian.Uint16(packet[4:]))
	}
	if length > len(packet) {
		return 0
	}
	return length
}

// offloadHeader is what the kernel says of a packet beside its bytes: struct
// virtio_net_hdr of linux/virtio_net.h, whose numbers are little-endian.
type offloadHeader []byte

const (
	offloadHeaderSize = 10
	needsChecksum     = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
)

// behind is the same of the packet that starts so many bytes later. What is said
// of the bytes before is left out, and that a checksum has been verified.
func (h offloadHeader) behind(offset int) offloadHeader {
	inner := make(offloadHeader, offloadHeaderSize)
	summedFrom := int(binary.LittleEndian.Uint16(h[6:]))
	if h[0]&needsChecksum == 0 || summedFrom < offset {
		return inner
	}
	copy(inner, h)
	inner[0] = needsChecksum
	headers := int(binary.LittleEndian.Uint16(h[2:]))
	binary.LittleEndian.PutUint16(inner[2:], uint16(max(0, headers-offset)))
	binary.LittleEndian.PutUint16(inner[6:], uint16(summedFrom-offset))
	return inner
}
