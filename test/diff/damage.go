package diff

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/tinylb/tinylb/internal/packet"
)

// Where things are in a frame without VLAN tags and IP options.
const (
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

func isIPv6(frame []byte) bool { return frame[ipAt]>>4 == 6 }

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
		frame[nextHeaderAt] = pick[byte](rng, 0, 6, udp, 43, 44, 50, 51, 58, 59, 60)
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

// tagged is the frame with one or two VLAN tags.
func tagged(rng *rand.Rand, frame []byte) []byte {
	const at = 12
	tag := binary.BigEndian.AppendUint16(nil, uint16(pick(rng, packet.EtherTypeVLAN, packet.EtherTypeQinQ)))
	tag = binary.BigEndian.AppendUint16(tag, uint16(rng.Uint32()))
	frame = slices.Insert(slices.Clone(frame), at, tag...)
	if chance(rng, 3) {
		return tagged(rng, frame)
	}
	return frame
}

// extended is the frame with IPv6 extension headers before whatever it carries.
func extended(rng *rand.Rand, frame []byte) []byte {
	if len(frame) < l4At6 {
		return frame
	}
	frame = slices.Clone(frame)
	var headers []byte
	next := frame[nextHeaderAt]
	for n := range pick(rng, 1, 1, 2, 3, 6, 7, 8) {
		// from the last to the first: only that one may be a hop-by-hop header
		kind := pick[byte](rng, 43, 60, 60, 60)
		if n > 0 && chance(rng, 3) || chance(rng, 30) {
			kind = 0
		}
		header := randomBytes(rng, 8*(1+pick(rng, 0, 0, 0, 1, 2, 30)))
		header[1] = byte(len(header)/8 - 1)
		if chance(rng, 20) {
			kind, header = 44, make([]byte, 8)
			binary.BigEndian.PutUint16(header[2:], pick[uint16](rng, 0, 0, 1, 6, 8, 0xfff9))
		}
		header[0], next = next, kind
		headers = append(header, headers...)
	}
	frame[nextHeaderAt] = next
	if length := int(binary.BigEndian.Uint16(frame[payloadLengthAt:])) + len(headers); !chance(rng, 20) {
		binary.BigEndian.PutUint16(frame[payloadLengthAt:], uint16(length))
	}
	return slices.Insert(frame, l4At6, headers...)
}
