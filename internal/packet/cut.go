package packet

import (
	"encoding/binary"
	"fmt"
	"slices"
)

const (
	ipv6Fragment       = 44
	fragmentHeaderSize = 8
	fragmentUnit       = 8
)

// Cut makes fragments of a frame with an IP packet behind any VLAN tags: each but the last carries size bytes,
// rounded down to a multiple of 8, and all have the same id (RFC 791, section 3.2; RFC 8200, section 4.5).
// All carry the first one's IPv4 options; IPv6 extension headers are cut with the rest, behind a fragment header. What
// follows the IP packet stays behind each.
func Cut(frame []byte, size int, id uint32) [][]byte {
	ip := ipOf(frame)
	isIPv6 := frame[ip]>>4 == 6
	header, total := ip+int(frame[ip]&0xf)*4, ip+int(binary.BigEndian.Uint16(frame[ip+2:]))
	if isIPv6 {
		header, total = ip+ipv6Size, ip+ipv6Size+int(binary.BigEndian.Uint16(frame[ip+4:]))
	}
	size = max(fragmentUnit, size/fragmentUnit*fragmentUnit)
	var all [][]byte
	for at := header; at < total; at += size {
		end := min(at+size, total)
		piece := slices.Concat(frame[:header], frame[at:end], frame[total:])
		place := uint16(at - header)
		if isIPv6 {
			piece = withFragmentHeader(piece, ip, end-at, place, end < total, id)
		} else {
			asIPv4Fragment(piece[ip:header], end-at, place, end < total, uint16(id))
		}
		all = append(all, piece)
	}
	return all
}

func withFragmentHeader(piece []byte, ip, size int, place uint16, more bool, id uint32) []byte {
	if more {
		place |= 1
	}
	header := binary.BigEndian.AppendUint16([]byte{piece[ip+6], 0}, place)
	header = binary.BigEndian.AppendUint32(header, id)
	piece[ip+6] = ipv6Fragment
	binary.BigEndian.PutUint16(piece[ip+4:], uint16(size+fragmentHeaderSize))
	return slices.Insert(piece, ip+ipv6Size, header...)
}

func asIPv4Fragment(header []byte, size int, place uint16, more bool, id uint16) {
	place /= fragmentUnit
	if more {
		place |= moreFragmentsBit
	}
	binary.BigEndian.PutUint16(header[2:], uint16(len(header)+size))
	binary.BigEndian.PutUint16(header[4:], id)
	binary.BigEndian.PutUint16(header[6:], place)
	binary.BigEndian.PutUint16(header[10:], 0)
	binary.BigEndian.PutUint16(header[10:], Checksum(header, 0))
}

// Join is the inverse of Cut, for fragments in any order that are all there and good. An error says that some are missing.
func Join(frames [][]byte) ([]byte, error) {
	var first []byte
	parts := map[int][]byte{}
	size := 0
	for _, frame := range frames {
		ip := ipOf(frame)
		header, end := ip+int(frame[ip]&0xf)*4, ip+int(binary.BigEndian.Uint16(frame[ip+2:]))
		offset, body := int(binary.BigEndian.Uint16(frame[ip+6:])&fragmentOffsetBits)*fragmentUnit, header
		if frame[ip]>>4 == 6 {
			header, end = ip+ipv6Size, ip+ipv6Size+int(binary.BigEndian.Uint16(frame[ip+4:]))
			offset, body = int(binary.BigEndian.Uint16(frame[header+2:])&^7), header+fragmentHeaderSize
		}
		parts[offset] = frame[body:end]
		size += end - body
		if offset == 0 {
			first = slices.Clone(frame[:header])
			if frame[ip]>>4 == 6 {
				first[ip+6] = frame[header]
			}
		}
	}
	if first == nil {
		return nil, fmt.Errorf("the first fragment: %w", ErrTruncated)
	}
	header := len(first)
	for part := parts[0]; part != nil; part = parts[len(first)-header] {
		first = append(first, part...)
	}
	if len(first)-header != size {
		return nil, fmt.Errorf("fragments of %d bytes make %d: %w", size, len(first)-header, ErrTruncated)
	}
	if ip := ipOf(first); first[ip]>>4 == 6 {
		binary.BigEndian.PutUint16(first[ip+4:], uint16(size))
	} else {
		asIPv4Fragment(first[ip:header], size, 0, false, binary.BigEndian.Uint16(first[ip+4:]))
	}
	return first, nil
}

// ipOf is where the IP header is, behind any VLAN tags.
func ipOf(frame []byte) int {
	at := ethernetSize - 2
	for {
		etherType := binary.BigEndian.Uint16(frame[at:])
		if etherType != EtherTypeVLAN && etherType != EtherTypeQinQ {
			return at + 2
		}
		at += vlanSize
	}
}
