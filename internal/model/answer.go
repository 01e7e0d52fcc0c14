package model

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// answer sends an IP packet of the balancer's own back to where p came from.
func (m *Model) answer(p *parsed, ip []byte, why Reason, s *service, b *backend) decision {
	return decision{
		verdict: m.sentBy(m.opts.Interface), reason: why, service: s, backend: b,
		frame: m.wayBack(p).frame(ip, nil),
	}
}

// mayBeAnswered reports whether the packet was for this node alone and from one that
// an answer can be sent to (RFC 1122, section 3.2.2; RFC 4443, section 2.4).
func (p *parsed) mayBeAnswered() bool {
	const groupBit = 1
	nobody := []string{"0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/128", "::1/128", "ff00::/8"}
	return p.dstMAC()[0]&groupBit == 0 && !p.isLater() && !slices.ContainsFunc(nobody, func(prefix string) bool {
		return netip.MustParsePrefix(prefix).Contains(p.tuple.src.Addr())
	})
}

// refuse treats a packet that none of a service's backends takes: its sender is told
// what a host would say on which nobody listens (RFC 9293, section 3.10.7.1; RFC 1122,
// section 4.1.3.1).
func (m *Model) refuse(p *parsed, s *service) decision {
	switch {
	case s.config.Silent:
		return p.drop(NoBackend, s, nil)
	case p.tuple.protocol == lb.TCP:
		return m.answerWithReset(p, NoBackend, s)
	}
	return m.answerError(p, portUnreachable(), p.tuple.dst.Addr(), s, nil)
}

// answerWithReset tells the sender of a segment that its connection does not exist
// (RFC 9293, section 3.10.7.1).
func (m *Model) answerWithReset(p *parsed, why Reason, s *service) decision {
	if p.piece != nil || p.flags&packet.RST != 0 || !p.mayBeAnswered() || !m.resets.allow(m.now, m.rates.Resets) {
		return p.drop(why, s, nil)
	}
	reset := packet.Packet{
		Src: p.tuple.dst, Dst: p.tuple.src, Protocol: lb.TCP, TTL: defaultTTL, DontFragment: p.isIPv4(),
		Flags: packet.RST | packet.ACK, Ack: p.nextSequence(),
	}
	if p.flags&packet.ACK != 0 {
		reset.Flags, reset.Seq, reset.Ack = packet.RST, binary.BigEndian.Uint32(p.segment()[tcpAckAt:]), 0
	}
	frame := reset.Frame()
	if m.staysPartial(p) { // the kernel's mark stays too
		frame = reset.PartialFrame()
	}
	return m.answer(p, frame[ethernetSize:], why, s, nil)
}

// nextSequence is the sequence number behind the segment.
func (p *parsed) nextSequence() uint32 {
	segment := p.segment()
	header := int(segment[tcpOffsetAt]>>4) * 4
	next := binary.BigEndian.Uint32(segment[tcpSequenceAt:]) + uint32(len(segment)-header)
	for _, flag := range []packet.TCPFlags{packet.SYN, packet.FIN} {
		if p.flags&flag != 0 {
			next++
		}
	}
	return next
}

// How long an error message may be, and how it is marked.
const (
	maxICMPSize     = 576  // with the IP header (RFC 1812, section 4.3.2.3)
	internetworkTOS = 0xc0 // precedence 6 (RFC 1812, section 4.3.2.5)
	maxICMPv6Size   = 1280 // RFC 4443, section 2.4
	icmpSize        = 8

	timeExceeded   = 11 // RFC 792
	timeExceededV6 = 3  // RFC 4443, section 3.3
)

// icmpError is what the sender of a packet is told, in ICMP (RFC 792) and in ICMPv6
// (RFC 4443).
type icmpError struct {
	why    Reason
	v4, v6 struct{ kind, code uint8 }
	rest   uint32 // the header's second word
}

func timeIsOver() icmpError {
	e := icmpError{why: TTLExpired}
	e.v4.kind, e.v6.kind = timeExceeded, timeExceededV6 // code 0: in transit
	return e
}

func portUnreachable() icmpError {
	e := icmpError{why: NoBackend}
	e.v4.kind, e.v4.code = unreachable, 3
	e.v6.kind, e.v6.code = unreachableV6, 4
	return e
}

// tooLarge says how long packets may be (RFC 1191, section 4; RFC 4443, section 3.2).
func tooLarge(mtu int) icmpError {
	e := icmpError{why: MTUExceeded, rest: uint32(mtu)}
	e.v4.kind, e.v4.code = unreachable, 4
	e.v6.kind = packetTooBigV6
	return e
}

// answerError tells the sender of a packet, from an address, why it does not get
// further.
func (m *Model) answerError(p *parsed, e icmpError, from netip.Addr, s *service, b *backend) decision {
	if !p.mayBeAnswered() || !m.icmpErrors.allow(m.now, m.rates.ICMPErrors) {
		return p.drop(e.why, s, b)
	}
	message := packet.Packet{
		Src: netip.AddrPortFrom(from, 0), Dst: netip.AddrPortFrom(p.tuple.src.Addr(), 0),
		Protocol: packet.ICMPv6, TTL: defaultTTL, ICMPType: e.v6.kind, ICMPCode: e.v6.code, ICMPRest: e.rest,
	}
	room := maxICMPv6Size - ipv6Size - icmpSize
	if p.isIPv4() {
		message.Protocol, message.ICMPType, message.ICMPCode = packet.ICMP, e.v4.kind, e.v4.code
		message.TOS, message.DontFragment = internetworkTOS, true
		room = maxICMPSize - ipv4Size - icmpSize
	}
	quote := p.ipBytes()
	quote = quote[:min(len(quote), room)]
	message.Payload = m.asCompleted(p, quote, len(quote))
	ip := message.Frame()[ethernetSize:]
	copy(ip[len(ip)-len(quote):], quote)
	return m.answer(p, ip, e.why, s, b)
}
