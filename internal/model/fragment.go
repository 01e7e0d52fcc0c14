package model

import (
	"encoding/binary"
	"slices"
)

// mostStored is how much of a packet one frame that is stored can carry behind its headers.
const mostStored = 9088

// fragmentUnit is what offsets of fragments count in, in bytes (RFC 791, section 3.1; RFC
// 8200, section 4.5).
const fragmentUnit = 8

const (
	fragmentHeaderSize = 8
	optionCopied       = 0x80
)

// pieces are the packets that leave instead of one that is too long for the path: ip is
// that one, as it would leave, which is of p. A tunnel's packet with IPv4 inside has
// whole packets around the pieces of what is inside.
func (m *Model) pieces(p *parsed, f *flow, ip []byte, limit int, got observed) (all [][]byte) {
	frames := got.frames()
	if !f.forward.Tunnels() || p.isIPv6() {
		return fragments(ip, limit, idIn(frames[0]))
	}
	inner := ip[len(ip)-p.size():]
	for i, piece := range fragments(inner, limit-(len(ip)-len(inner)), 0) {
		id := uint16(0)
		if i < len(frames) {
			id = uint16(idIn(frames[i]))
		}
		outer, header := p.outerHeaders(f, id, piece)
		all = append(all, outer.before(slices.Concat(header, piece)))
	}
	return all
}

// frames are all that left, the first of them even if there is none.
func (o observed) frames() [][]byte { return append([][]byte{o.Frame}, o.Behind...) }

// idIn is the identification of a frame's IP packet, of IPv6 that in its fragment header.
// It serves to put fragments together, so any will do.
func idIn(frame []byte) uint32 {
	if len(frame) < ethernetSize {
		return 0
	}
	switch p := parse(frame); {
	case p.unreadable != "":
	case p.isIPv4():
		return uint32(binary.BigEndian.Uint16(frame[p.ip+ipv4IDAt:]))
	case len(frame) >= p.ip+ipv6Size+fragmentHeaderSize:
		return binary.BigEndian.Uint32(frame[p.ip+ipv6Size+4:])
	}
	return 0
}

// fragments cuts an IP packet into some of at most so many bytes. The identification
// counts where the packet has none.
func fragments(ip []byte, limit int, id uint32) [][]byte {
	if ip[0]>>4 == 4 {
		return fragmentsV4(ip, limit, uint16(id))
	}
	return fragmentsV6(ip, limit, id)
}

// evenly is how much of a body each piece has but the last, so that they are as few as
// there can be behind headers, and of about the same length.
func evenly(body, limit, headers int) int {
	most := min(limit-headers, mostStored) / fragmentUnit * fragmentUnit
	pieces := (body + most - 1) / most
	each := (body + pieces - 1) / pieces
	return (each + fragmentUnit - 1) / fragmentUnit * fragmentUnit
}

func fragmentsV4(ip []byte, limit int, id uint16) (all [][]byte) {
	size := int(ip[0]&0xf) * 4
	header, body := slices.Clone(ip[:size]), ip[size:]
	field := binary.BigEndian.Uint16(header[ipv4FragmentAt:])
	offset, more := field&fragmentOffsetField, field&moreFragments
	if field&dontFragment != 0 { // of a packet that is outside
		changeWord(header, ipv4IDAt, id)
	}
	for part := range slices.Chunk(body, evenly(len(body), limit, size)) {
		length := len(part)
		flag := uint16(moreFragments)
		if body = body[length:]; len(body) == 0 {
			flag = more
		}
		changeWord(header, 2, uint16(size+length))
		changeWord(header, ipv4FragmentAt, offset|flag)
		all = append(all, slices.Concat(header, part))
		if len(all) == 1 {
			forgetOptions(header)
		}
		offset += uint16(length / fragmentUnit)
	}
	return all
}

// changeWord changes a word of an IPv4 header. A wrong checksum stays as wrong as it was.
func changeWord(header []byte, at int, value uint16) {
	was := right(header, ipv4ChecksumAt, 0)
	binary.BigEndian.PutUint16(header[at:], value)
	is := right(header, ipv4ChecksumAt, 0)
	field := header[ipv4ChecksumAt:]
	binary.BigEndian.PutUint16(field, carryError(binary.BigEndian.Uint16(field), was, is))
}

// forgetOptions makes nothing of the options of a header that only first fragments carry
// (RFC 791, section 3.1, the copied flag).
func forgetOptions(header []byte) {
	before := slices.Clone(header)
	for at := ipv4Size; at < len(header) && header[at] != endOfOptions; {
		length := 1
		if header[at] != noOperation {
			if at+optionLengthAt == len(header) {
				break
			}
			length = int(header[at+optionLengthAt])
			if length <= optionLengthAt || at+length > len(header) {
				break
			}
		}
		if header[at]&optionCopied == 0 {
			copy(header[at:at+length], slices.Repeat([]byte{noOperation}, length))
		}
		at += length
	}
	field := header[ipv4ChecksumAt:]
	was, is := right(before, ipv4ChecksumAt, 0), right(header, ipv4ChecksumAt, 0)
	binary.BigEndian.PutUint16(field, carryError(binary.BigEndian.Uint16(field), was, is))
}

// fragmentsV6 is for packets without extension headers but that of a fragment.
func fragmentsV6(ip []byte, limit int, id uint32) (all [][]byte) {
	header, body, offset, last := slices.Clone(ip[:ipv6Size]), ip[ipv6Size:], 0, 0
	next := header[6]
	header[6] = byte(fragmentHeader)
	if next == fragmentHeader {
		place := int(binary.BigEndian.Uint16(body[2:]))
		next, id, body = body[0], binary.BigEndian.Uint32(body[4:]), body[fragmentHeaderSize:]
		offset, last = place&ipv6FragmentOffset, place&ipv6MoreFragments
	}
	for part := range slices.Chunk(body, evenly(len(body), limit, ipv6Size+fragmentHeaderSize)) {
		more := 1
		if body = body[len(part):]; len(body) == 0 {
			more = last
		}
		binary.BigEndian.PutUint16(header[4:], uint16(fragmentHeaderSize+len(part)))
		fragment := binary.BigEndian.AppendUint16([]byte{next, 0}, uint16(offset|more))
		fragment = binary.BigEndian.AppendUint32(fragment, id)
		all = append(all, slices.Concat(header, fragment, part))
		offset += len(part)
	}
	return all
}
