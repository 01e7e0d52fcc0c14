package diff

import (
	"encoding/binary"
	"math/rand/v2"

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
)

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

// wrongChecksum makes one of the checksums wrong.
func wrongChecksum(rng *rand.Rand, frame []byte) []byte {
	l4 := ipAt + int(frame[ipAt]&0xf)*4
	at := pick(rng, ipChecksumAt, l4+16)
	if frame[protocolAt] == udp {
		at = pick(rng, ipChecksumAt, l4+6)
	}
	binary.BigEndian.PutUint16(frame[at:], pick(rng, 0, 0xffff, uint16(rng.Uint32())))
	return frame
}

// tagged is the frame with one or two VLAN tags.
func tagged(rng *rand.Rand, p packet.Packet) packet.Packet {
	p.VLAN = []packet.Tag{{Type: pick(rng, packet.EtherTypeVLAN, packet.EtherTypeQinQ), Control: uint16(rng.Uint32())}}
	if chance(rng, 2) {
		p.VLAN = append(p.VLAN, packet.VLAN(uint16(rng.Uint32())))
	}
	return p
}
