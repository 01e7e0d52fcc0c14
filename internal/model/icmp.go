package model

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// Messages of RFC 792 and RFC 4443 that are not only sent.
const (
	unreachable      = 3
	parameterProblem = 12
	echoRequest      = 8
	echoReply        = 0

	unreachableV6      = 1
	packetTooBigV6     = 2
	parameterProblemV6 = 4
	echoRequestV6      = 128
	echoReplyV6        = 129

	icmpTypeAt     = 0
	icmpCodeAt     = 1
	icmpChecksumAt = 2
	icmpRestAt     = 4
)

// decideICMP is about a message that came to an address that matters here.
func (m *Model) decideICMP(p *parsed, got observed) decision {
	switch {
	case p.flaw != "" || len(p.l4Bytes()) < icmpSize:
		return p.pass(ICMP)
	case p.isEchoRequest():
		return m.answerEcho(p)
	case p.isICMPError():
		return m.decideError(p, got)
	}
	return p.pass(ICMP)
}

// decideStranger is about a packet to and from addresses that do not matter here. An
// error may still be about one that does: routers have addresses of their own, and
// of a flow that keeps the client's address errors go there.
func (m *Model) decideStranger(p *parsed, got observed) decision {
	mine := m.opts.MAC == lb.MAC{} || p.dstMAC() == m.opts.MAC
	if !mine || p.badHeader != "" || !p.isICMP() || p.hasExtensions() || p.flaw != "" ||
		len(p.l4Bytes()) < icmpSize || !p.isICMPError() {
		return p.pass(NotOurs)
	}
	if d := m.decideError(p, got); d.reason != ICMP {
		return d
	}
	return p.pass(NotOurs)
}

// hasExtensions reports whether something stands between an IPv6 header and what the
// packet carries.
func (p *parsed) hasExtensions() bool { return p.isIPv6() && p.l4 != p.ip+ipv6Size }

func (p *parsed) icmpType() byte { return p.l4Bytes()[icmpTypeAt] }
func (p *parsed) icmpCode() byte { return p.l4Bytes()[icmpCodeAt] }

func (p *parsed) isEchoRequest() bool {
	if p.icmpCode() != 0 {
		return false
	}
	return p.isIPv4() && p.icmpType() == echoRequest || p.isIPv6() && p.icmpType() == echoRequestV6
}

// isICMPError reports whether it says that a packet could not be delivered. A source
// quench (RFC 6633) or a redirect does not.
func (p *parsed) isICMPError() bool {
	if p.isIPv4() {
		return slices.Contains([]byte{unreachable, timeExceeded, parameterProblem}, p.icmpType())
	}
	return slices.Contains([]byte{unreachableV6, packetTooBigV6, timeExceededV6, parameterProblemV6}, p.icmpType())
}

// SetHost says what addresses the balancer's host has. Until then nothing is answered for VIPs.
func (m *Model) SetHost(addresses []netip.Addr) { m.host, m.hostKnown = addresses, true }

// isForeign reports whether an address is a VIP that the host does not have.
func (m *Model) isForeign(a netip.Addr) bool {
	isVIP := slices.ContainsFunc(m.services, func(s *service) bool { return s.config.Address.Addr == a })
	return isVIP && m.hostKnown && !slices.Contains(m.host, a)
}

// answerEcho answers an echo request (RFC 792; RFC 4443, section 4.2) to an address
// that only the balancer has: the same packet, the other way.
func (m *Model) answerEcho(p *parsed) decision {
	vip, sender := p.tuple.dst.Addr(), p.tuple.src.Addr()
	if !m.answers.Echo || !m.isForeign(vip) || p.hasSourceRoute() { // which would have to be reversed (RFC 1122, section 3.2.2.6)
		return p.pass(ICMP)
	}
	if !p.mayBeAnswered() || sender == vip || !m.echoes.allow(m.now, m.rates.EchoReplies) {
		return p.drop(Echo, nil, nil)
	}
	message := slices.Clone(p.l4Bytes())
	message[icmpTypeAt] = echoReply
	if p.isIPv6() {
		message[icmpTypeAt] = echoReplyV6
	}
	p.carryICMPChecksum(message, vip, sender)
	ip := append(p.headerWith(vip, sender, defaultTTL), message...)
	return decision{
		verdict: m.sentBy(m.opts.Interface), reason: Echo,
		frame: m.wayBack(p).frame(ip, p.trailer()),
	}
}

// headerWith is the packet's IP header, with whatever follows it up to the message,
// with other addresses and another TTL or hop limit.
func (p *parsed) headerWith(src, dst netip.Addr, ttl uint8) []byte {
	header := slices.Clone(p.frame[p.ip:p.l4])
	if p.isIPv6() {
		copy(header[ipv6SrcAt:], src.AsSlice())
		copy(header[ipv6DstAt:], dst.AsSlice())
		header[ipv6HopLimitAt] = ttl
		return header
	}
	copy(header[ipv4SrcAt:], src.AsSlice())
	copy(header[ipv4DstAt:], dst.AsSlice())
	header[ipv4TTLAt] = ttl
	was, is := right(p.frame[p.ip:p.l4], ipv4ChecksumAt, 0), right(header, ipv4ChecksumAt, 0)
	field := header[ipv4ChecksumAt:]
	binary.BigEndian.PutUint16(field, carryError(binary.BigEndian.Uint16(field), was, is))
	return header
}

// carryICMPChecksum gives the message that takes the place of the packet's own a
// checksum: right, if that of the other one is.
func (p *parsed) carryICMPChecksum(message []byte, src, dst netip.Addr) {
	was := rightICMP(p.l4Bytes(), p.tuple.src.Addr(), p.tuple.dst.Addr())
	is := rightICMP(message, src, dst)
	field := binary.BigEndian.Uint16(p.l4Bytes()[icmpChecksumAt:])
	binary.BigEndian.PutUint16(message[icmpChecksumAt:], carryError(field, was, is))
}

// rightICMP is the checksum of a message; that of ICMPv6 has a pseudo-header (RFC
// 4443, section 2.3).
func rightICMP(message []byte, src, dst netip.Addr) uint16 {
	pseudo := uint32(0)
	if dst.Is6() {
		pseudo = packet.PseudoHeaderSum(src, dst, packet.ICMPv6, len(message))
	}
	return right(message, icmpChecksumAt, pseudo)
}

// quotedAtLeast is how many bytes behind the IP header an error quotes (RFC 792).
const quotedAtLeast = 8

// quote reads what an error says about the packet that it is about, as if it was one
// in a frame that ends where the error does; nil: it is not to be believed. An error
// goes back to where the packet came from.
func (p *parsed) quote() *parsed {
	q := &parsed{frame: p.frame[:p.end], ip: p.l4 + icmpSize}
	if p.isIPv4() {
		q.readIPv4(q.frame[q.ip:])
	} else {
		q.readIPv6(q.frame[q.ip:])
	}
	if !p.mayBeAnswered() || q.unreadable != "" || q.badHeader != "" || q.tuple.src.Addr() != p.tuple.dst.Addr() {
		return nil
	}
	q.hasPorts = q.hasPorts && len(q.l4Bytes()) >= quotedAtLeast
	return q
}

// decideError sends an error on to whoever sent the packet that it is about. What is
// about nobody's packet is none of the balancer's business.
func (m *Model) decideError(p *parsed, got observed) decision {
	q := p.quote()
	if q == nil {
		return p.pass(ICMP)
	}
	if q.hasPorts {
		answer := q.tuple.reversed()
		if f := m.flowOfError(answer, got); f != nil {
			return m.followError(f, p, q, got)
		}
		if f := m.flowOfAnyNode(answer); f != nil {
			return m.followError(f, p, q, got)
		}
	}
	if d, ok := m.learnPathMTU(p, q, got); ok {
		return d
	}
	return p.pass(ICMP)
}

// flowOfError finds the flow that packets with a tuple belong to; nil: there is none,
// or it has made room.
func (m *Model) flowOfError(t tuple, got observed) *flow {
	f := m.flows.find(t, m)
	if f == nil || m.needed(f) {
		return f
	}
	known := []Reason{ICMPError, NoNextHop, BackendGone, TTLExpired, SourceRoute, TooBig}
	if slices.Contains(known, got.Reason) && (got.Backend == "" || got.Backend == f.backend.config.Label()) {
		return f
	}
	m.flows.remove(f)
	return nil
}

// flowOfAnyNode is the flow that another node has, or this one had, if all of them
// choose the same backend for it and its answers do not come by here.
func (m *Model) flowOfAnyNode(request tuple) *flow {
	s := m.serviceAt(request.protocol, request.dst)
	if s == nil || s.config.Forward.Translates() || s.config.Scheduler != lb.Maglev || len(s.table) == 0 {
		return nil
	}
	return newFlow(request, s, s.inOrder(request)[0])
}

// followError sends an error about a packet of a flow on. It is none of the flow's
// packets, so the flow does not live longer for it.
func (m *Model) followError(f *flow, p, q *parsed, got observed) decision {
	s, b, toClient := f.service, f.backend, q.tuple.reversed() == f.answer
	switch {
	case b.gone:
		return p.drop(BackendGone, m.serviceAt(f.request.protocol, f.request.dst), nil)
	case f.forward.Translates() && p.expires(): // nobody is told of an error about an error (RFC 1122, section 3.2.2)
		return p.drop(TTLExpired, s, b)
	case !toClient && !b.hop.Usable():
		return p.drop(NoNextHop, s, b)
	}
	ip, trailer, problem := m.rewrittenError(f, p, q, got)
	if problem != "" {
		return p.drop(problem, s, b)
	}
	out := m.wayToClient(f, p)
	if !toClient {
		out = m.wayToBackend(b.hop, p)
	}
	return decision{
		verdict: m.sentBy(out.by), reason: ICMPError, service: s, backend: b, toClient: toClient,
		frame: out.frame(ip, trailer),
	}
}

// rewrittenError is the IP packet that an error becomes, and what follows it.
func (m *Model) rewrittenError(f *flow, p, q *parsed, got observed) (ip, trailer []byte, problem Reason) {
	if !f.forward.Translates() {
		ip, problem = p.ipBytes(), ""
		if f.forward.Tunnels() {
			ip, problem = m.tunnelled(p, f, got)
		}
		return ip, p.trailer(), problem
	}
	e := newTranslatedError(f, p, q)
	if e.sent.src.Addr().Is4() == p.isIPv4() {
		return e.readdressed(), p.trailer(), ""
	}
	return e.converted(got)
}
