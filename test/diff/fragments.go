package diff

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// heldAtMost is how many fragments are held in any world.
const heldAtMost = 64

func randomFragments(rng *rand.Rand) lb.Fragments {
	return lb.Fragments{
		Held:    pick[uint32](rng, 0, 1, 2, 5, heldAtMost, heldAtMost, heldAtMost),
		Bytes:   pick[uint32](rng, 0, 3000, 20000, 1<<20, 1<<20, 1<<20),
		Timeout: pick(rng, 10*time.Millisecond, 100*time.Millisecond, time.Second, time.Second, 5*time.Second),
	}
}

// fragmented puts the fragments of a datagram in line, in some order and with something wrong with them now and then.
func (t *Traffic) fragmented() {
	rng := t.rng
	p := t.forAService()
	if chance(rng, 6) {
		p = t.notForAService()
	}
	p.Trailer = nil
	if len(p.Payload) > 9000 || chance(rng, 2) {
		p.Payload = randomBytes(rng, 1+rng.IntN(pick(rng, 30, 200, 3000, 20000)))
	}
	frame := p.Frame()
	if isIPv6(frame) && chance(rng, 8) {
		frame = extended(rng, frame)
	}
	size := pick(rng, 8, 16, 24, 64, 520, 1480, 1480, 9000)
	size = max(size, len(frame)/12)
	id := pick[uint32](rng, 1, 2, rng.Uint32(), rng.Uint32(), rng.Uint32())
	pieces := packet.Cut(frame, size, id)
	if chance(rng, 12) { // one that is as two others
		pieces = append(pieces, pick(rng, packet.Cut(frame, 2*(size/8*8), id)...))
	}
	if chance(rng, 2) {
		pieces = t.spoilt(pieces)
	}
	switch rng.IntN(4) {
	case 0:
		slices.Reverse(pieces)
	case 1:
		rng.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	}
	for i := range pieces {
		if isIPv6(pieces[i]) && chance(rng, 40) {
			pieces[i] = extended(rng, pieces[i])
		}
		if chance(rng, 30) {
			pieces[i] = append(pieces[i], randomBytes(rng, 1+rng.IntN(20))...)
		}
		if chance(rng, 60) {
			pieces[i] = tagged(rng, pieces[i], pick(rng, 1, 1, 2, 3))
		}
	}
	t.line = append(t.line, pieces...)
	if chance(rng, 3) { // another datagram's in between
		rng.Shuffle(len(t.line), func(i, j int) { t.line[i], t.line[j] = t.line[j], t.line[i] })
	}
}

// spoilt are fragments of which some are missing, twice there, elsewhere or too long.
func (t *Traffic) spoilt(pieces [][]byte) [][]byte {
	rng := t.rng
	one := slices.Clone(pick(rng, pieces...))
	switch rng.IntN(10) {
	case 0, 1:
		return slices.Insert(pieces, rng.IntN(len(pieces)), one)
	case 2:
		i := rng.IntN(len(pieces))
		return slices.Delete(pieces, i, i+1)
	case 3, 8, 9:
		return slices.Insert(pieces, rng.IntN(len(pieces)), moved(one, pick(rng, -1, 1, 1, 2, 8000)))
	case 4:
		return slices.Insert(pieces, rng.IntN(len(pieces)), withoutMore(one))
	case 5:
		return slices.Insert(pieces, rng.IntN(len(pieces)), shortened(one, pick(rng, 1, 4, 8)))
	case 6:
		return slices.Insert(pieces, rng.IntN(len(pieces)), damaged(rng, one))
	}
	i := rng.IntN(len(pieces))
	pieces[i] = pieces[i][:max(14, len(pieces[i])-1-rng.IntN(20))]
	return pieces
}

// fragmentField is where offset and flag are, and how many bits lie below the offset; at 0: nowhere.
func fragmentField(frame []byte) (at, shift int) {
	if !isIPv6(frame) {
		return fragmentAt, 0
	}
	if frame[nextHeaderAt] != fragmentHeader || len(frame) < l4At6+8 {
		return 0, 0
	}
	return l4At6 + 2, 3
}

// moved begins so many units later.
func moved(frame []byte, by int) []byte {
	if at, shift := fragmentField(frame); at != 0 && len(frame) >= at+2 {
		field := binary.BigEndian.Uint16(frame[at:])
		binary.BigEndian.PutUint16(frame[at:], field+uint16(by<<shift))
	}
	return frame
}

// withoutMore is the last one, or is not any more.
func withoutMore(frame []byte) []byte {
	at, shift := fragmentField(frame)
	if at == 0 || len(frame) < at+2 {
		return frame
	}
	frame[at] ^= 0x20
	if shift > 0 {
		frame[at] ^= 0x20
		frame[at+1] ^= 1
	}
	return frame
}

// shortened carries fewer bytes, and says so.
func shortened(frame []byte, by int) []byte {
	at := totalLengthAt
	if isIPv6(frame) {
		at = payloadLengthAt
	}
	if length := int(binary.BigEndian.Uint16(frame[at:])); len(frame) > l4At6+8+by && length > by+40 {
		binary.BigEndian.PutUint16(frame[at:], uint16(length-by))
		return frame[:len(frame)-by]
	}
	return frame
}

// datagramOf names the datagram that a frame is a fragment of; "": of none.
func datagramOf(frame []byte) (name string, isLater bool) {
	for len(frame) > 16 && isTag(binary.BigEndian.Uint16(frame[12:])) {
		frame = slices.Concat(frame[:12], frame[16:])
	}
	if !isIPv6(frame) {
		if len(frame) < l4At {
			return "", false
		}
		field := binary.BigEndian.Uint16(frame[fragmentAt:])
		if field&0x3fff == 0 {
			return "", false
		}
		return fmt.Sprintf("%x %x %d", frame[ipAt+12:l4At], frame[ipAt+4:ipAt+6], frame[protocolAt]), field&0x1fff != 0
	}
	next, at := frame[nextHeaderAt], l4At6
	for isExtension(next) && len(frame) >= at+8 {
		if next != fragmentHeader {
			next, at = frame[at], at+8+8*int(frame[at+1])
			continue
		}
		if field := binary.BigEndian.Uint16(frame[at+2:]); field&0xfff9 != 0 {
			return fmt.Sprintf("%x %x", frame[ipAt+8:l4At6], frame[at+4:at+8]), field&0xfff8 != 0
		}
		next, at = frame[at], at+8
	}
	return "", false
}
