package model

import (
	"encoding/binary"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// Options of TCP (RFC 9293, section 3.2).
const (
	endOfTCPOptions   = 0
	noTCPOperation    = 1
	maximumSegment    = 2
	maximumSegmentLen = 4
)

// withSmallerMSS is the packet with a maximum segment size that its flow's service
// allows, if it is a SYN that says a larger one.
func (m *Model) withSmallerMSS(p *parsed, why Reason, f *flow) *parsed {
	most := m.mssFor(p, why, f)
	if p.tuple.protocol != lb.TCP || p.flags&packet.SYN == 0 || most <= 0 {
		return p
	}
	segment := slices.Clone(p.segment())
	for _, at := range sizesIn(segment) {
		value := segment[at:]
		binary.BigEndian.PutUint16(value, min(binary.BigEndian.Uint16(value), uint16(most)))
	}
	if slices.Equal(segment, p.segment()) {
		return p
	}
	if !m.isPartial(p) {
		pseudo := pseudoHeader(p.tuple, len(segment))
		was, is := right(p.segment(), tcpChecksumAt, pseudo), right(segment, tcpChecksumAt, pseudo)
		binary.BigEndian.PutUint16(segment[tcpChecksumAt:], carryError(p.checksumField(), was, is))
	}
	changed := *p
	changed.frame = slices.Concat(p.frame[:p.l4], segment, p.frame[p.l4+len(segment):])
	return &changed
}

// sizesIn lists where in a segment a maximum segment size is, up to the first option
// that contradicts itself.
func sizesIn(segment []byte) (all []int) {
	end := int(segment[tcpOffsetAt]>>4) * 4
	for at := tcpSize; at < end && segment[at] != endOfTCPOptions; {
		if segment[at] == noTCPOperation {
			at++
			continue
		}
		if at+1 == end {
			break
		}
		length := int(segment[at+1])
		if length < 2 || at+length > end {
			break
		}
		if segment[at] == maximumSegment && length == maximumSegmentLen {
			all = append(all, at+2)
		}
		at += length
	}
	return all
}

// mssFor is what a SYN of a flow may say; 0: anything. Where both directions pass here,
// what fits must fit on both sides.
func (m *Model) mssFor(p *parsed, why Reason, f *flow) int {
	switch given := f.service.config.MSS; {
	case given != lb.MSSAuto:
		return int(given)
	case f.forward.Translates():
		client := roomForSegment(m.mtus[m.opts.Interface], headerSize(f.request.src.Addr()))
		backend := roomForSegment(f.backend.hop.MTU, headerSize(f.target.Addr()))
		if !f.backend.hop.Usable() || backend == 0 {
			return client
		}
		if client == 0 {
			return backend
		}
		return min(client, backend)
	}
	outer := p.sizeOut(why, f) - p.size()
	return roomForSegment(m.wayOf(why, f).mtu, outer+headerSize(p.tuple.dst.Addr()))
}

// roomForSegment is what is left of a packet behind IP headers and TCP's (RFC 6691,
// section 2); 0: nothing, or nobody knows.
func roomForSegment(mtu, headers int) int { return max(0, mtu-headers-tcpSize) }
