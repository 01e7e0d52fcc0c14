package diff

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// Where things are in a frame without VLAN tags and IP options.
const (
	typeAt        = 12
	ipAt          = 14
	totalLengthAt = ipAt + 2
	fragmentAt    = ipAt + 6
	protocolAt    = ipAt + 9
	ipChecksumAt  = ipAt + 10
	l4At          = ipAt + 20
	udpLengthAt   = l4At + 4
	tcpOffsetAt   = l4At + 12
	udp           = 17

	payloadLengthAt = ipAt + 4
	nextHeaderAt    = ipAt + 6
	l4At6           = ipAt + 40
)

func isIPv6(frame []byte) bool {
	return len(frame) >= l4At6 && binary.BigEndian.Uint16(frame[typeAt:]) == packet.EtherTypeIPv6
}

// damaged is a good frame with something wrong with it, sometimes twice.
func damaged(rng *rand.Rand, frame []byte) []byte {
	frame = append([]byte(nil), frame...)
	for range 1 + rng.IntN(5)/4 {
		if len(frame) > l4At+20 {
			frame = damage(rng, frame)
		}
	}
	return frame
}

func damage(rng *rand.Rand, frame []byte) []byte {
	if isIPv6(frame) && len(frame) > l4At6+8 && !chance(rng, 4) {
		return damageIPv6(rng, frame)
	}
	put := func(at int, value int) { binary.BigEndian.PutUint16(frame[at:], uint16(value)) }
	total := int(binary.BigEndian.Uint16(frame[totalLengthAt:]))
	switch rng.IntN(12) {
	case 0: // bits of the headers
		for range 1 + rng.IntN(3) {
			frame[rng.IntN(l4At+20)] ^= 1 << rng.IntN(8)
		}
	case 1: // any bit
		frame[rng.IntN(len(frame))] ^= 1 << rng.IntN(8)
	case 2: // the end is missing
		return frame[:ipAt+rng.IntN(len(frame)-ipAt)]
	case 3:
		return frame[:ipAt+rng.IntN(l4At+20-ipAt)]
	case 4: // lying lengths
		put(totalLengthAt, pick(rng, 0, 19, 20, 23, 24, 27, 28, 39, 40, total-1, total+1, total+rng.IntN(100), rng.IntN(65536)))
	case 5:
		frame[ipAt] = 0x40 | byte(rng.IntN(16))
	case 6:
		if frame[protocolAt] == udp {
			length := int(binary.BigEndian.Uint16(frame[udpLengthAt:]))
			put(udpLengthAt, pick(rng, 0, 1, 7, 8, 9, length-1, length+1, rng.IntN(65536)))
		} else {
			frame[tcpOffsetAt] = byte(rng.IntN(16))<<4 | frame[tcpOffsetAt]&0xf
		}
	case 7: // fragments
		put(fragmentAt, pick(rng, 0x2000, 0x2001, 0x0001, rng.IntN(65536)))
	case 8:
		put(fragmentAt, 0x2000)
	case 9:
		frame[protocolAt] = byte(pick(rng, 6, udp, 1, 47, 4, 41, 132, rng.IntN(256)))
	case 10:
		frame[ipAt] = byte(rng.Uint32())
	case 11: // a shorter frame that admits it
		if total > l4At-ipAt {
			size := rng.IntN(min(total, 48) + 1)
			put(totalLengthAt, size)
			return frame[:max(ipAt+size, ipAt)]
		}
	}
	return frame
}

// damageIPv6 is what damage does not do to IPv6 by chance.
func damageIPv6(rng *rand.Rand, frame []byte) []byte {
	put := func(at int, value int) { binary.BigEndian.PutUint16(frame[at:], uint16(value)) }
	length := int(binary.BigEndian.Uint16(frame[payloadLengthAt:]))
	switch rng.IntN(5) {
	case 0:
		put(payloadLengthAt, pick(rng, 0, 3, 4, 7, 8, 19, 20, length-1, length+1, rng.IntN(65536)))
	case 1:
		frame[nextHeaderAt] = pick[byte](rng, hopByHop, 6, udp, routingHeader, fragmentHeader, 50, 51, 58, 59, destinationOptions)
	case 2:
		if frame[nextHeaderAt] == udp {
			put(l4At6+4, pick(rng, 0, 7, 8, 9, rng.IntN(65536)))
		} else if len(frame) > l4At6+12 {
			frame[l4At6+12] = byte(rng.IntN(256))
		}
	case 3: // IPv4-mapped addresses
		copy(frame[pick(rng, ipAt+8, ipAt+24):], []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff})
	case 4:
		return frame[:ipAt+rng.IntN(len(frame)-ipAt)]
	}
	return frame
}

// flawed is a frame whose ports can be read, but that cannot be forwarded.
func flawed(rng *rand.Rand, frame []byte) []byte {
	l4, protocol := ipAt+int(frame[ipAt]&0xf)*4, frame[protocolAt]
	if isIPv6(frame) {
		l4, protocol = l4At6, frame[nextHeaderAt]
	}
	switch rng.IntN(6) {
	case 0, 1:
		if protocol == udp {
			binary.BigEndian.PutUint16(frame[l4+4:], uint16(rng.IntN(8)))
		} else {
			frame[l4+12] = byte(rng.IntN(5)) << 4
		}
	case 2, 3:
		return firstFragment(rng, frame)
	case 4, 5:
		return frame[:l4+4+rng.IntN(len(frame)-l4-4)]
	}
	return frame
}

func firstFragment(rng *rand.Rand, frame []byte) []byte {
	if !isIPv6(frame) {
		binary.BigEndian.PutUint16(frame[fragmentAt:], 0x2000)
		return frame
	}
	length := binary.BigEndian.Uint16(frame[payloadLengthAt:])
	header := randomBytes(rng, 8)
	header[0], header[2], header[3] = frame[nextHeaderAt], 0, 1
	if int(length)+len(header) > 65535 {
		return frame
	}
	frame[nextHeaderAt] = fragmentHeader
	binary.BigEndian.PutUint16(frame[payloadLengthAt:], length+uint16(len(header)))
	return slices.Insert(frame, l4At6, header...)
}

// wrongChecksum makes one of the checksums wrong.
func wrongChecksum(rng *rand.Rand, frame []byte) []byte {
	l4, protocol := ipAt+int(frame[ipAt]&0xf)*4, frame[protocolAt]
	if isIPv6(frame) {
		l4, protocol = l4At6, frame[nextHeaderAt]
	}
	at := l4 + 16
	if protocol == udp {
		at = l4 + 6
	}
	if !isIPv6(frame) && chance(rng, 2) {
		at = ipChecksumAt
	}
	binary.BigEndian.PutUint16(frame[at:], pick(rng, 0, 0xffff, uint16(rng.Uint32())))
	return frame
}

// inVLAN is the frame with one tag: of a VLAN where next hops are, too, or only of a
// priority.
func inVLAN(rng *rand.Rand, frame []byte) []byte {
	tag := binary.BigEndian.AppendUint16(nil, packet.EtherTypeVLAN)
	tag = binary.BigEndian.AppendUint16(tag, pick[uint16](rng, 0, 10, 20, lb.MaxVLAN)|pick[uint16](rng, 0, 0, 7<<13, 1<<12))
	return slices.Insert(slices.Clone(frame), typeAt, tag...)
}

// tagged is the frame with so many VLAN tags.
func tagged(rng *rand.Rand, frame []byte, tags int) []byte {
	var all []byte
	for range tags {
		all = binary.BigEndian.AppendUint16(all, pick(rng, packet.EtherTypeVLAN, packet.EtherTypeQinQ))
		all = binary.BigEndian.AppendUint16(all, uint16(rng.Uint32()))
	}
	return slices.Insert(slices.Clone(frame), typeAt, all...)
}

// mostExtensions is in bytes: a driver may have the first few kilobytes of a frame
// in one piece, and that is how far headers are read.
const mostExtensions = 2000

// extended is the frame with IPv6 extension headers before whatever it carries.
func extended(rng *rand.Rand, frame []byte) []byte {
	frame = slices.Clone(frame)
	var headers []byte
	next := frame[nextHeaderAt]
	count := pick(rng, 1, 1, 1, 2, 3, 6, 7, 8, 20, 31, 32, 33)
	for n := range count {
		// from the last to the first: only that one may be a hop-by-hop header
		var header []byte
		header, next = extension(rng, next, n == count-1)
		if len(headers)+len(header) > mostExtensions {
			break
		}
		headers = append(header, headers...)
	}
	length := int(binary.BigEndian.Uint16(frame[payloadLengthAt:])) + len(headers)
	if length > 65535 {
		return frame
	}
	frame[nextHeaderAt] = next
	if !chance(rng, 20) {
		binary.BigEndian.PutUint16(frame[payloadLengthAt:], uint16(length))
	}
	return slices.Insert(frame, l4At6, headers...)
}

// extension is a header before next, and what it is.
func extension(rng *rand.Rand, next byte, first bool) (header []byte, kind byte) {
	header = randomBytes(rng, 8*(1+pick(rng, 0, 0, 0, 0, 1, 2, pick(rng, 2, 30))))
	header[0], header[1] = next, byte(len(header)/8-1)
	switch n := rng.IntN(100); {
	case first && n < 25 || n < 2:
		return header, hopByHop
	case n < 40:
		header = randomBytes(rng, 8)
		header[0] = next
		binary.BigEndian.PutUint16(header[2:], 0)
		if chance(rng, 6) {
			binary.BigEndian.PutUint16(header[2:], pick[uint16](rng, 1, 6, 8, 0xfff9))
		}
		return header, fragmentHeader
	case n < 60:
		if header[3] = 0; chance(rng, 12) {
			header[3] = byte(rng.Uint32())
		}
		return header, routingHeader
	}
	return header, destinationOptions
}
