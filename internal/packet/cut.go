package packet

import (
	"encoding/binary"
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
	ip := 12
	for tag := binary.BigEndian.Uint16(frame[ip:]); tag == EtherTypeVLAN || tag == EtherTypeQinQ; tag = binary.BigEndian.Uint16(frame[ip:]) {
		ip += vlanSize
	}
	ip += 2
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
