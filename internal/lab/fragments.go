package lab

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// Fragments waits for those of IP datagrams. The zero value waits for the first one.
type Fragments struct{ waiting map[string]datagram }

// Add takes an Ethernet frame. If there is a fragment in it, of IPv4 (RFC 791) or of
// IPv6 with no other extension header before the fragment header (RFC 8200, section
// 4.5), it is kept; and all frames of its datagram are returned once they are there,
// in the datagram's order.
func (f *Fragments) Add(frame []byte) (whole [][]byte, isFragment bool) {
	piece, isFragment := readFragment(frame)
	if !isFragment {
		return nil, false
	}
	piece.frame = slices.Clone(frame)
	if f.waiting == nil {
		f.waiting = map[string]datagram{}
	}
	if f.waiting[piece.datagram] == nil {
		f.waiting[piece.datagram] = datagram{}
	}
	f.waiting[piece.datagram][piece.offset] = piece
	if whole = f.waiting[piece.datagram].whole(); whole != nil {
		delete(f.waiting, piece.datagram)
	}
	return whole, true
}

// datagram is what has come of one, by offset.
type datagram map[int]fragment

// whole returns the frames in order, or nil while some are missing.
func (d datagram) whole() (frames [][]byte) {
	for offset := 0; ; {
		f, ok := d[offset]
		if !ok || f.size == 0 {
			return nil
		}
		frames = append(frames, f.frame)
		if f.last {
			return frames
		}
		offset += f.size
	}
}

type fragment struct {
	datagram     string // which one
	offset, size int    // in bytes
	last         bool
	frame        []byte
}

const fragmentHeader = 8 // of IPv6, in bytes

func readFragment(frame []byte) (f fragment, ok bool) {
	packet := frame[ethernetHeader:]
	switch etherType := binary.BigEndian.Uint16(frame[ethernetHeader-2:]); {
	case etherType == unix.ETH_P_IP && len(packet) >= ipv4Header:
		field := binary.BigEndian.Uint16(packet[6:])
		f.offset, f.last = int(field&0x1fff)*8, field&0x2000 == 0
		f.size = int(binary.BigEndian.Uint16(packet[2:])) - int(packet[0]&0xf)*4
		f.datagram = string(packet[4:6]) + string(packet[9:10]) + string(packet[12:20])
	case etherType == unix.ETH_P_IPV6 && len(packet) >= ipv6Header+fragmentHeader && packet[6] == unix.IPPROTO_FRAGMENT:
		header := packet[ipv6Header:]
		field := binary.BigEndian.Uint16(header[2:])
		f.offset, f.last = int(field&0xfff8), field&1 == 0
		f.size = int(binary.BigEndian.Uint16(packet[4:])) - fragmentHeader
		f.datagram = string(packet[8:40]) + string(header[4:8])
	default:
		return f, false
	}
	return f, f.offset > 0 || !f.last
}

// join makes one frame of those of a datagram, whose headers have no options.
func join(frames [][]byte) []byte {
	joined := slices.Clone(frames[0][:ethernetHeader+ipv4Header])
	isIPv6 := joined[ethernetHeader]>>4 == 6
	if isIPv6 {
		joined = slices.Clone(frames[0][:ethernetHeader+ipv6Header])
		joined[ethernetHeader+6] = frames[0][ethernetHeader+ipv6Header] // what the fragment header is before
	}
	for _, frame := range frames {
		end := ethernetHeader + ipLength(frame[ethernetHeader:])
		start := ethernetHeader + ipv4Header
		if isIPv6 {
			start = ethernetHeader + ipv6Header + fragmentHeader
		}
		joined = append(joined, frame[start:end]...)
	}
	packet := joined[ethernetHeader:]
	if isIPv6 {
		binary.BigEndian.PutUint16(packet[4:], uint16(len(packet)-ipv6Header))
	} else {
		binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
		binary.BigEndian.PutUint16(packet[6:], 0)
	}
	return joined
}
