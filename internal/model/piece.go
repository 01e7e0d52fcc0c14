package model

import (
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// datagramKey is what the fragments of a datagram have in common: RFC 791, section 3.2; RFC 8200, section 4.5.
type datagramKey struct {
	src, dst netip.Addr
	id       uint32
	protocol lb.Protocol // IPv4 only
}

// piece is what a fragment says of itself.
type piece struct {
	key    datagramKey
	offset int // bytes
	size   int
	more   bool
	at     int // where in the frame it begins
}

func (p *piece) end() int { return p.offset + p.size }

// Limits of what a fragment may be.
const (
	maxPieceHeaders = 1000 // bytes before it, to be held or handled at all
	maxHeldFrame    = 9216
)

// readPiece notes that a packet is a fragment, unless it is whole (RFC 6946). Counted are
// the bytes of the headers before it that the length of the whole packet counts.
func (p *parsed) readPiece(id uint32, offset int, more bool, counted int) {
	if offset == 0 && !more {
		return
	}
	p.piece = &piece{
		key:    datagramKey{src: p.tuple.src.Addr(), dst: p.tuple.dst.Addr(), id: id},
		offset: offset, size: p.ip + p.total - p.l4, more: more, at: p.l4,
	}
	if p.isIPv4() {
		p.piece.key.protocol = p.tuple.protocol
	}
	if p.piece.size == 0 || more && p.piece.size%fragmentUnit != 0 || counted+p.piece.end() > maxIPLength { // RFC 8200, section 4.5
		p.note(Malformed)
	}
	if offset == fragmentUnit && p.tuple.protocol == lb.TCP { // RFC 1858, section 4; RFC 3128
		p.note(FragmentTiny)
	}
	if p.piece.at > maxPieceHeaders {
		p.note(ManyHeaders)
	}
}

// isLater reports whether a packet is a fragment but the first.
func (p *parsed) isLater() bool { return p.piece != nil && p.piece.offset > 0 }

// beside says what is wrong with a fragment if others have been there: nothing, it was there,
// or it contradicts them (RFC 5722; RFC 8200, section 4.5).
func (p *piece) beside(others []*piece) Reason {
	overlaps := false
	for _, other := range others {
		if p.offset == other.offset && units(p.end()) == units(other.end()) {
			if p.isLast() == other.isLast() && p.end() == other.end() {
				return FragmentDuplicate
			}
			overlaps = true
		}
		overlaps = overlaps || p.offset < units(other.end())*fragmentUnit && other.offset < units(p.end())*fragmentUnit ||
			p.isLast() && other.isLast() && p.end() != other.end() ||
			p.isLast() && !other.isLast() && other.end() >= p.end() ||
			other.isLast() && p.end() >= other.end()
	}
	if overlaps {
		return FragmentOverlap
	}
	return ""
}

func (p *piece) isLast() bool { return !p.more }

// units is how many units of 8 bytes there are up to an offset, the last one maybe not whole.
func units(end int) int { return (end + fragmentUnit - 1) / fragmentUnit }

// isWhole reports whether there is nothing missing between fragments that do not contradict
// each other.
func isWhole(pieces []*piece) bool {
	end, there := 0, 0
	for _, p := range pieces {
		there += units(p.end()) - p.offset/fragmentUnit
		if p.isLast() {
			end = p.end()
		}
	}
	return end > 0 && there == units(end)
}
