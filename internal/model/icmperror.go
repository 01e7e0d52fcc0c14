package model

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// translatedError is an error about a packet that the balancer has sent on with other
// addresses and ports, and that its sender knows only with its own.
type translatedError struct {
	*parsed         // as it arrived
	quoted  *parsed // what it quotes
	sent    tuple   // the packet, as its sender sent it
	from    netip.Addr
}

func newTranslatedError(f *flow, p, q *parsed) translatedError {
	e := translatedError{parsed: p, quoted: q, sent: f.answer}
	if q.tuple.reversed() == f.answer {
		e.sent = f.request
	}
	// The sender knows nothing of who is behind the address that it sent the packet
	// to. Only a backend that sees its client's own address sees who is on the way
	// there, too.
	e.from = e.sent.dst.Addr()
	if e.sent == f.answer && f.answer.dst.Addr() == f.request.src.Addr() {
		e.from = p.tuple.src.Addr()
	}
	return e
}

// to is who the error goes to.
func (e translatedError) to() netip.Addr { return e.sent.src.Addr() }

// readdressed is the IP packet in the same family (RFC 5508, section 4), a hop further.
func (e translatedError) readdressed() []byte {
	header := e.quoted.headerWith(e.sent.src.Addr(), e.sent.dst.Addr(), e.quoted.ttl)
	message := slices.Concat(e.l4Bytes()[:icmpSize], header, e.quotedL4(), e.frame[e.quoted.end:e.end])
	e.carryICMPChecksum(message, e.from, e.to())
	return append(e.headerWith(e.from, e.to(), e.ttl-1), message...)
}

// quotedL4 is what is quoted behind the IP header, with its sender's ports, and with
// a checksum, if that is part of it, that is as right as it was.
func (e translatedError) quotedL4() []byte {
	l4 := slices.Clone(e.quoted.l4Bytes())
	binary.BigEndian.PutUint16(l4[sourcePortAt:], e.sent.src.Port())
	binary.BigEndian.PutUint16(l4[destinationPortAt:], e.sent.dst.Port())
	at := e.quoted.checksumAt()
	if len(l4) < at+checksumSize || e.quoted.hasNoChecksum() {
		return l4
	}
	field := l4[at:]
	checksum := carryError(binary.BigEndian.Uint16(field), ^ends(e.quoted.tuple), ^ends(e.sent))
	if checksum == 0 && e.sent.protocol == lb.UDP {
		checksum = 0xffff // RFC 768
	}
	binary.BigEndian.PutUint16(field, checksum)
	return l4
}

// ends is the sum over what of a tuple a checksum covers that may change.
func ends(t tuple) uint16 {
	b := slices.Concat(t.src.Addr().AsSlice(), t.dst.Addr().AsSlice())
	b = binary.BigEndian.AppendUint16(b, t.src.Port())
	b = binary.BigEndian.AppendUint16(b, t.dst.Port())
	return packet.Fold(packet.Sum(b, 0))
}

// converted is the IP packet in the other family (RFC 7915, sections 4.2, 4.3, 5.2 and
// 5.3), a hop further, and what follows it; or why there is none.
func (e translatedError) converted(got observed) (ip, trailer []byte, problem Reason) {
	first, ok := e.convertedFirst()
	if !ok {
		return nil, nil, ICMPError
	}
	inner := ipHeader{
		src: e.sent.src.Addr(), dst: e.sent.dst.Addr(), class: e.quoted.class, ttl: e.quoted.ttl,
		protocol: e.sent.protocol, dontFragment: e.quoted.fragmentID == nil,
	}
	if id := e.quoted.fragmentID; id != nil {
		inner.id = uint16(*id)
	}
	carried := e.quoted.said() - (e.quoted.l4 - e.quoted.ip)
	if !inner.fits(carried) {
		return nil, nil, ICMPError
	}
	if e.hasSourceRoute() {
		return nil, nil, SourceRoute
	}
	l4 := e.quotedL4()
	l4 = l4[:e.quotedOn(len(l4))]
	message := slices.Concat(first, inner.counting(carried), l4)
	outer := ipHeader{src: e.from, dst: e.to(), class: e.class, ttl: e.ttl - 1, protocol: packet.ICMP}
	if outer.dst.Is6() {
		outer.protocol = packet.ICMPv6
	}
	outer.dontFragment, outer.id = e.fragmentation(len(message), got)
	e.carryICMPChecksum(message, e.from, e.to())
	if e.quoted.l4+len(l4) == e.end { // nothing has been left out
		trailer = e.trailer()
	}
	return outer.before(message), trailer, ""
}

// counting is the header of a packet with a body of a size that is not here.
func (h ipHeader) counting(body int) []byte {
	if h.dst.Is4() {
		return h.ipv4(body)
	}
	return h.ipv6(body)
}

// quotedOn is how much of what is quoted behind the IP header goes on: not the
// extensions behind it (RFC 4884), and no more than an error may have.
func (e translatedError) quotedOn(have int) int {
	if size := e.originalDatagram(); size >= e.quoted.l4-e.quoted.ip+quotedAtLeast {
		have = min(have, size-(e.quoted.l4-e.quoted.ip))
	}
	if e.isIPv4() {
		have = min(have, maxICMPv6Size-ipv6Size-icmpSize-ipv6Size)
	}
	return have
}

// originalDatagram is how many bytes the error says that it quotes (RFC 4884, section
// 3); 0: it does not say.
func (e translatedError) originalDatagram() int {
	rest := e.l4Bytes()[icmpRestAt:]
	switch {
	case e.isIPv4():
		return 4 * int(rest[1])
	case e.icmpType() == unreachableV6, e.icmpType() == timeExceededV6:
		return 8 * int(rest[0])
	}
	return 0
}

// convertedFirst is the first eight bytes of the message in the other family, without
// a checksum; false: it has no such error.
func (e translatedError) convertedFirst() ([]byte, bool) {
	kind, code, rest, ok := e.fromIPv6()
	if e.isIPv4() {
		kind, code, rest, ok = e.fromIPv4()
	}
	return binary.BigEndian.AppendUint32([]byte{kind, code, 0, 0}, rest), ok
}

const (
	leastMTU     = 1280 // RFC 8200, section 5
	headersApart = ipv6Size - ipv4Size
	nextHeaderAt = 6
)

// fromIPv4 is RFC 7915, section 4.2.
func (e translatedError) fromIPv4() (kind, code byte, rest uint32, ok bool) {
	switch e.icmpType() {
	case timeExceeded:
		return timeExceededV6, e.icmpCode(), 0, true
	case parameterProblem:
		pointers := map[byte]uint32{
			0: 0, 1: 1, 2: 4, 3: 4, 8: 7, 9: 6,
			12: 8, 13: 8, 14: 8, 15: 8, 16: 24, 17: 24, 18: 24, 19: 24,
		}
		pointer, known := pointers[e.l4Bytes()[icmpRestAt]]
		return parameterProblemV6, 0, pointer, known && (e.icmpCode() == 0 || e.icmpCode() == 2)
	}
	switch e.icmpCode() {
	case 0, 1, 5, 6, 7, 8, 11, 12: // no way there
		return unreachableV6, 0, 0, true
	case 9, 10, 13, 15: // prohibited
		return unreachableV6, 1, 0, true
	case 2: // no such protocol: no such next header
		return parameterProblemV6, 1, nextHeaderAt, true
	case 3: // no such port
		return unreachableV6, 4, 0, true
	case fragmentation:
		return packetTooBigV6, 0, uint32(max(e.toldMTU(e.quoted)+headersApart, leastMTU)), true
	}
	return 0, 0, 0, false
}

// fromIPv6 is RFC 7915, section 5.2.
func (e translatedError) fromIPv6() (kind, code byte, rest uint32, ok bool) {
	switch e.icmpType() {
	case timeExceededV6:
		return timeExceeded, e.icmpCode(), 0, true
	case packetTooBigV6:
		mtu := max(binary.BigEndian.Uint32(e.l4Bytes()[icmpRestAt:]), leastMTU) - headersApart
		return unreachable, fragmentation, min(mtu, maxIPLength), true
	case parameterProblemV6:
		return e.problemFromIPv6()
	}
	switch e.icmpCode() {
	case 0, 2, 3: // no route, beyond the scope, no such address
		return unreachable, 1, 0, true
	case 1: // prohibited
		return unreachable, 10, 0, true
	case 4: // no such port
		return unreachable, 3, 0, true
	}
	return 0, 0, 0, false
}

func (e translatedError) problemFromIPv6() (kind, code byte, rest uint32, ok bool) {
	pointer := binary.BigEndian.Uint32(e.l4Bytes()[icmpRestAt:])
	switch {
	case e.icmpCode() == 1: // no such next header: no such protocol
		return unreachable, 2, 0, true
	case e.icmpCode() != 0 || pointer == 2 || pointer == 3 || pointer >= ipv6Size:
		return 0, 0, 0, false
	case pointer >= 24:
		pointer = 16
	case pointer >= 8:
		pointer = 12
	default:
		pointer = []uint32{0, 1, 0, 0, 2, 2, 9, 8}[pointer]
	}
	return parameterProblem, 0, pointer << 24, true
}
