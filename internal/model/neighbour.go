package model

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

const (
	etherTypeARP = 0x0806
	arpSize      = 28
	groupBit     = 1 // of an Ethernet address's first byte

	neighbourSolicitation = 135 // RFC 4861, section 4.3
	solicitationSize      = 24  // without options
	sourceLinkLayer       = 1   // options (RFC 4861, section 4.6.1)
	targetLinkLayer       = 2
	ownLink               = 255 // hop limit that no router leaves a packet with
	maxSolicitation       = 512 // longer ones are not answered,
	maxOptions            = 16  // nor are those with more options
	solicited             = 1 << 30
	override              = 1 << 29
)

// answersNeighbours reports whether an address is one that only the data plane can
// answer for: a VIP, and none of the host's own addresses.
func (m *Model) answersNeighbours(a netip.Addr) bool {
	return m.answers.Neighbours && m.isForeign(a)
}

// answerNeighbour answers who asks for the MAC of a VIP. Nil: the frame is no valid
// question, or none for this node.
func (m *Model) answerNeighbour(p *parsed) []byte {
	mac := m.macAsked(p)
	if mac == (lb.MAC{}) || p.srcMAC()[0]&groupBit != 0 || len(p.tags()) > maxTags {
		return nil
	}
	if p.isARP {
		return m.answerARP(p, mac)
	}
	if p.unreadable == "" && p.isIPv6() {
		return m.answerSolicitation(p, mac)
	}
	return nil
}

// macAsked is the address that the interface is known by: that which the question
// was sent to, if it was sent to one.
func (m *Model) macAsked(p *parsed) lb.MAC {
	switch to := p.dstMAC(); {
	case to[0]&groupBit != 0:
		return m.opts.NeighbourMAC
	case m.opts.MAC != lb.MAC{} && to != m.opts.MAC:
		return lb.MAC{}
	default:
		return to
	}
}

// answerARP is for RFC 826. A request with no sender's address is a probe, and one
// with the wanted address as that an announcement (RFC 5227, section 1.1).
func (m *Model) answerARP(p *parsed, mac lb.MAC) []byte {
	const request, reply = 1, 2
	b := p.frame[p.ip:]
	ethernetForIPv4 := []byte{0, 1, 8, 0, 6, 4, 0, request}
	if len(b) < arpSize || !bytes.Equal(b[:8], ethernetForIPv4) {
		return nil
	}
	senderMAC, sender, target := b[8:14], b[14:18], b[24:28]
	vip := netip.AddrFrom4([4]byte(target))
	if senderMAC[0]&groupBit != 0 || bytes.Equal(sender, target) || !m.answersNeighbours(vip) {
		return nil
	}
	out := slices.Clone(p.frame)
	copy(out, p.frame[macSize:2*macSize])
	copy(out[macSize:], mac[:])
	answer := slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, reply}, mac[:], target, senderMAC, sender)
	copy(out[p.ip:], answer)
	return out
}

// answerSolicitation is for RFC 4861, section 7.
func (m *Model) answerSolicitation(p *parsed, mac lb.MAC) []byte {
	header := p.frame[p.ip : p.ip+ipv6Size]
	length := int(binary.BigEndian.Uint16(header[4:]))
	body := p.frame[p.ip+ipv6Size:]
	src, dst := p.tuple.src.Addr(), p.tuple.dst.Addr()
	switch {
	case header[0]>>4 != 6, lb.Protocol(header[6]) != packet.ICMPv6, header[7] != ownLink,
		length < solicitationSize, length > maxSolicitation, length > len(body):
		return nil
	}
	body = body[:length]
	if body[0] != neighbourSolicitation || body[1] != 0 || src.IsMulticast() ||
		packet.Checksum(body, packet.PseudoHeaderSum(src, dst, packet.ICMPv6, length)) != 0 {
		return nil
	}
	target := netip.AddrFrom16([16]byte(body[8:24]))
	namesSender, valid := readOptions(body[solicitationSize:])
	toGroup := dst == solicitedNode(target)
	switch {
	case !valid, !toGroup && dst != target, src.IsUnspecified() && (namesSender || !toGroup), !m.answersNeighbours(target):
		return nil
	}
	return m.advertisement(p, target, mac)
}

// solicitedNode is the group of RFC 4291, section 2.7.1.
func solicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// readOptions reports whether one of them is the sender's link-layer address.
func readOptions(b []byte) (namesSender, valid bool) {
	for range maxOptions {
		if len(b) == 0 {
			break
		}
		if len(b) < 8 || b[1] == 0 || len(b) < int(b[1])*8 {
			return false, false
		}
		namesSender = namesSender || b[0] == sourceLinkLayer
		b = b[int(b[1])*8:]
	}
	return namesSender, len(b) == 0
}

// advertisement is to the one who asked, or, if it has no address yet, to all.
func (m *Model) advertisement(p *parsed, target netip.Addr, mac lb.MAC) []byte {
	toMAC, to, flags := p.srcMAC(), p.tuple.src, uint32(solicited|override)
	if to.Addr().IsUnspecified() {
		toMAC, to, flags = lb.MAC{0x33, 0x33, 5: 1}, netip.MustParseAddrPort("[ff02::1]:0"), override
	}
	options := slices.Concat([]byte{targetLinkLayer, 1}, mac[:])
	message := packet.Packet{
		Src: netip.AddrPortFrom(target, 0), Dst: to, Protocol: packet.ICMPv6, TTL: ownLink,
		ICMPType: 136, ICMPRest: flags, Payload: append(target.AsSlice(), options...),
	}
	out := wayOut{src: mac, dst: toMAC, tags: p.tags()}
	return out.frame(message.Frame()[ethernetSize:], nil)
}
