// Package packet builds and reads frames: Ethernet with up to two VLAN tags,
// IPv4 and IPv6, TCP, UDP and ICMP. Frame and Read are exact inverses, so that a
// packet can be taken apart, changed in one field and put together again. A packet
// within another one (IP in IP, GUE, what an ICMP error quotes) is payload to them;
// Inner and Quoted read it, and Verify looks into it.
package packet

import (
	"bytes"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
)

// Protocols beside lb.TCP and lb.UDP whose headers this package knows.
const (
	ICMP     lb.Protocol = 1
	IPv4InIP lb.Protocol = 4  // RFC 2003
	IPv6InIP lb.Protocol = 41 // RFC 2473
	ICMPv6   lb.Protocol = 58
)

// EtherType values (IEEE "EtherType" registry).
const (
	EtherTypeIPv4 uint16 = 0x0800
	EtherTypeIPv6 uint16 = 0x86dd
	EtherTypeVLAN uint16 = 0x8100 // 802.1Q
	EtherTypeQinQ uint16 = 0x88a8 // 802.1ad, the outer of two tags
)

const (
	maxVLANTags   = 2
	defaultTTL    = 64
	defaultWindow = 65535
)

// ICMP types (RFC 792) and ICMPv6 types (RFC 4443).
const (
	EchoReply          uint8 = 0
	Unreachable        uint8 = 3
	EchoRequest        uint8 = 8
	TimeExceeded       uint8 = 11
	ParameterProblem   uint8 = 12
	UnreachableV6      uint8 = 1
	TooBigV6           uint8 = 2
	TimeExceededV6     uint8 = 3
	ParameterProblemV6 uint8 = 4
	EchoRequestV6      uint8 = 128
	EchoReplyV6        uint8 = 129
)

// TCPFlags are the bits between data offset and window (RFC 9293, section 3.1):
// eight flags, and the four bits above them, which are reserved.
type TCPFlags uint16

const (
	FIN TCPFlags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// Tag is a VLAN tag (IEEE 802.1Q, section 9.6).
type Tag struct {
	Type    uint16 // EtherTypeVLAN or EtherTypeQinQ
	Control uint16 // priority (3 bits), drop eligible (1 bit), VLAN id (12 bits)
}

// VLAN is an 802.1Q tag without priority.
func VLAN(id uint16) Tag { return Tag{Type: EtherTypeVLAN, Control: id & 0x0fff} }

// ID is the number of the VLAN, 0 to 4095.
func (t Tag) ID() uint16 { return t.Control & 0x0fff }

// Packet is what a frame says, except for lengths and checksums, which follow
// from the rest. The families of Src and Dst, which must be the same, decide
// between IPv4 and IPv6. Fields that the packet's headers do not have are zero.
//
// NewTCP, NewUDP and NewEcho start from sensible defaults; a literal Packet has
// none, so a TTL of 0 is a TTL of 0.
type Packet struct {
	SrcMAC, DstMAC lb.MAC
	VLAN           []Tag // outermost first, at most 2

	Src, Dst netip.AddrPort // port 0 where there are no ports
	Protocol lb.Protocol    // in IPv6 the first next-header: extension headers are part of Payload
	TOS      uint8          // traffic class in IPv6
	TTL      uint8          // hop limit in IPv6

	// IPv4 only.
	ID             uint16
	ReservedFlag   bool // must be zero by RFC 791, but routers do not look
	DontFragment   bool
	MoreFragments  bool
	FragmentOffset uint16 // in units of 8 bytes
	IPOptions      []byte // at most 40 bytes; Frame pads them to a multiple of 4

	FlowLabel uint32 // IPv6 only, 20 bits

	// TCP only.
	Flags      TCPFlags
	Seq, Ack   uint32
	Window     uint16
	Urgent     uint16
	TCPOptions []byte // at most 40 bytes; Frame pads them to a multiple of 4

	NoUDPChecksum bool // the checksum field is zero (RFC 768; RFC 6935 for IPv6)

	// ICMP and ICMPv6 only.
	ICMPType, ICMPCode uint8
	ICMPRest           uint32 // the second word: id and sequence, or the MTU, or unused

	// Payload is what follows the last header above. A fragment has none of the
	// headers after IP, not even the first one: there it is all that follows IP.
	Payload []byte
	Trailer []byte // bytes behind the IP packet, such as Ethernet padding
}

// NewTCP is a segment with a TTL of 64 and a window of 65535. Src and dst must
// be of one family.
func NewTCP(src, dst netip.AddrPort, flags TCPFlags, payload string) Packet {
	return Packet{
		Src: src, Dst: dst, Protocol: lb.TCP, TTL: defaultTTL, DontFragment: src.Addr().Is4(),
		Flags: flags, Window: defaultWindow, Payload: nonEmpty([]byte(payload)),
	}
}

// NewUDP is a datagram with a TTL of 64. Src and dst must be of one family.
func NewUDP(src, dst netip.AddrPort, payload string) Packet {
	return Packet{Src: src, Dst: dst, Protocol: lb.UDP, TTL: defaultTTL, Payload: nonEmpty([]byte(payload))}
}

// NewEcho is an echo request, ICMP or ICMPv6 by the family of src and dst.
func NewEcho(src, dst netip.Addr, id, sequence uint16, payload string) Packet {
	p := Packet{
		Src: netip.AddrPortFrom(src, 0), Dst: netip.AddrPortFrom(dst, 0), Protocol: ICMP, TTL: defaultTTL,
		ICMPType: EchoRequest, ICMPRest: uint32(id)<<16 | uint32(sequence), Payload: nonEmpty([]byte(payload)),
	}
	if !src.Is4() {
		p.Protocol, p.ICMPType = ICMPv6, EchoRequestV6
	}
	return p
}

// Reply is what the receiver of p would send back: MACs, addresses and ports
// are swapped, an echo request becomes an echo reply, and TCP goes on where p
// says, acknowledging all of p if flags has ACK. Options and trailer are not
// repeated; flags are for TCP only.
func (p Packet) Reply(flags TCPFlags, payload string) Packet {
	reply := Packet{
		SrcMAC: p.DstMAC, DstMAC: p.SrcMAC, VLAN: slices.Clone(p.VLAN),
		Src: p.Dst, Dst: p.Src, Protocol: p.Protocol, TTL: defaultTTL, DontFragment: p.DontFragment,
		Payload: nonEmpty([]byte(payload)),
	}
	switch {
	case p.Protocol == lb.TCP:
		reply.Flags, reply.Window, reply.Seq = flags, defaultWindow, p.Ack
		if flags&ACK != 0 {
			reply.Ack = p.Seq + p.sequenceLength()
		}
	case p.Protocol == ICMP && p.ICMPType == EchoRequest:
		reply.ICMPType, reply.ICMPRest = EchoReply, p.ICMPRest
	case p.Protocol == ICMPv6 && p.ICMPType == EchoRequestV6:
		reply.ICMPType, reply.ICMPRest = EchoReplyV6, p.ICMPRest
	}
	return reply
}

// Error is what the node at an address says to the sender of p about it (RFC 792, RFC
// 4443), quoting so many bytes behind its IP header, or all that there are. MACs are
// swapped.
func (p Packet) Error(from netip.Addr, kind, code uint8, rest uint32, quoted int) Packet {
	header, protocol := ipv6Size, ICMPv6
	if from.Is4() {
		header, protocol = ipv4Size+len(padded(p.IPOptions)), ICMP
	}
	frame := p.Frame()
	ip := frame[ethernetSize+vlanSize*len(p.VLAN) : len(frame)-len(p.Trailer)]
	return Packet{
		SrcMAC: p.DstMAC, DstMAC: p.SrcMAC, VLAN: slices.Clone(p.VLAN),
		Src: netip.AddrPortFrom(from, 0), Dst: withoutPort(p.Src), Protocol: protocol, TTL: defaultTTL,
		ICMPType: kind, ICMPCode: code, ICMPRest: rest,
		Payload: slices.Clone(ip[:min(len(ip), header+quoted)]),
	}
}

// sequenceLength is how far the segment moves the sequence number.
func (p Packet) sequenceLength() uint32 {
	length := uint32(len(p.Payload))
	if p.Flags&SYN != 0 {
		length++
	}
	if p.Flags&FIN != 0 {
		length++
	}
	return length
}

// IsFragment reports whether p is part of a larger IPv4 packet.
func (p Packet) IsFragment() bool { return p.MoreFragments || p.FragmentOffset != 0 }

// transport is the protocol whose header the packet has after IP, or 0.
func (p Packet) transport() lb.Protocol {
	if p.IsFragment() {
		return 0
	}
	v4 := p.Src.Addr().Is4()
	switch p.Protocol {
	case lb.TCP, lb.UDP:
		return p.Protocol
	case ICMP:
		if v4 {
			return ICMP
		}
	case ICMPv6:
		if !v4 {
			return ICMPv6
		}
	}
	return 0
}

// nonEmpty is a copy of b, or nil if it is empty, so that equal packets are
// also equal for reflect.DeepEqual.
func nonEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return bytes.Clone(b)
}

func withoutPort(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), 0) }
