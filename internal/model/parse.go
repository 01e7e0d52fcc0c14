package model

import (
	"encoding/binary"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// Sizes of headers without options, in bytes, and where fields are in them.
const (
	ethernetSize = 14
	vlanTagSize  = 4
	ipv4Size     = 20
	ipv6Size     = 40
	tcpSize      = 20
	udpSize      = 8
	portsSize    = 4

	macSize             = 6
	etherTypeSize       = 2
	checksumSize        = 2
	ipv4IDAt            = 4
	ipv4FragmentAt      = 6
	ipv4TTLAt           = 8
	ipv4ChecksumAt      = 10
	ipv4SrcAt           = 12
	ipv4DstAt           = 16
	tcpChecksumAt       = 16
	tcpSequenceAt       = 4
	tcpAckAt            = 8
	tcpOffsetAt         = 12
	udpLengthAt         = 4
	udpChecksumAt       = 6
	sourcePortAt        = 0
	destinationPortAt   = 2
	ipv6HopLimitAt      = 7
	ipv6SrcAt           = 8
	ipv6DstAt           = 24
	dontFragment        = 1 << 14
	moreFragments       = 1 << 13
	fragmentOffsetField = 1<<13 - 1
)

// tuple is what a packet says about who talks to whom.
type tuple struct {
	protocol lb.Protocol
	src, dst netip.AddrPort
}

func (t tuple) reversed() tuple { return tuple{t.protocol, t.dst, t.src} }

// parsed is what can be known of a frame.
type parsed struct {
	frame []byte
	// unreadable is why not even the destination address can be known.
	unreadable Reason
	isARP      bool
	badHeader  Reason // the IP header contradicts itself or goes too far, so nothing behind the addresses is known
	tuple      tuple  // ports are 0 unless hasPorts
	hasPorts   bool
	ip, l4     int // where the headers are in the frame
	end        int // of the IP packet, by its total length; at most the frame's
	ttl        uint8
	class      uint8   // TOS, or traffic class
	total      int     // length of the IP packet, as its header has it
	fragmentID *uint32 // of a fragment header (RFC 8200, section 4.5); nil without
	piece      *piece  // of a datagram; nil for a whole packet
	datagram   *datagram
	flags      packet.TCPFlags
	flaw       Reason // what makes it impossible to forward; "" when nothing
}

// udpPayload is what there is of a datagram's.
func (p *parsed) udpPayload() []byte {
	end := p.l4 + int(binary.BigEndian.Uint16(p.frame[p.l4+udpLengthAt:]))
	return p.frame[p.l4+udpSize : min(end, p.end)]
}

func (p *parsed) dstMAC() lb.MAC { return lb.MAC(p.frame[0:macSize]) }
func (p *parsed) srcMAC() lb.MAC { return lb.MAC(p.frame[macSize : 2*macSize]) }

// How many VLAN tags may stand before the IP header of a packet that is sent on,
// and how many are read in order to know who it is for.
const (
	maxTags  = 2
	readTags = 4
)

// parse reads a frame of at least 14 bytes: RFC 894 for Ethernet, IEEE 802.1Q for
// VLAN tags, RFC 791 for IPv4, RFC 9293 for TCP, RFC 768 for UDP; IPv6 is in
// parse6.go. Of several flaws the outermost counts.
func parse(frame []byte) *parsed {
	p := &parsed{frame: frame, ip: ethernetSize}
	etherType := binary.BigEndian.Uint16(frame[2*macSize:])
	for n := range readTags {
		if etherType != packet.EtherTypeVLAN && etherType != packet.EtherTypeQinQ || len(frame) < p.ip+vlanTagSize {
			break
		}
		if n == maxTags {
			p.note(ManyHeaders)
		}
		etherType = binary.BigEndian.Uint16(frame[p.ip+2:])
		p.ip += vlanTagSize
	}
	switch etherType {
	case packet.EtherTypeIPv4:
		p.readIPv4(frame[p.ip:])
	case packet.EtherTypeIPv6:
		p.readIPv6(frame[p.ip:])
	default:
		p.unreadable, p.isARP = NotIP, etherType == etherTypeARP
	}
	return p
}

func (p *parsed) readIPv4(b []byte) {
	if len(b) < ipv4Size {
		p.unreadable = BadIPHeader
		return
	}
	p.tuple = tuple{
		protocol: lb.Protocol(b[9]),
		src:      netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[ipv4SrcAt:])), 0),
		dst:      netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[ipv4DstAt:])), 0),
	}
	version, header, total := b[0]>>4, int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if version != 4 || header < ipv4Size || total < header {
		p.badHeader = BadIPHeader
		return
	}
	p.class, p.ttl = b[1], b[ipv4TTLAt]
	p.l4 = p.ip + header
	p.total, p.end = total, p.ip+min(total, len(b))
	fragment := binary.BigEndian.Uint16(b[ipv4FragmentAt:])
	switch {
	case header > len(b): // the ports cannot be reached
		p.flaw = Truncated
		return
	case total > len(b):
		p.note(Truncated)
	}
	switch isPiece := fragment&(moreFragments|fragmentOffsetField) != 0; {
	case isPiece && p.tuple.protocol != lb.TCP && p.tuple.protocol != lb.UDP:
		p.note(Fragment)
	case isPiece:
		id := binary.BigEndian.Uint16(b[ipv4IDAt:])
		p.readPiece(uint32(id), int(fragment&fragmentOffsetField)*8, fragment&moreFragments != 0, header)
	}
	if !p.isLater() {
		p.readTransport()
	}
}

func (p *parsed) readTransport() {
	switch p.tuple.protocol {
	case lb.TCP:
		p.readTCP(p.l4Bytes())
	case lb.UDP:
		p.readUDP(p.l4Bytes())
	}
}

// isIPv4 and isIPv6 say which of the two the packet is.
func (p *parsed) isIPv4() bool { return p.tuple.dst.Addr().Is4() }
func (p *parsed) isIPv6() bool { return !p.isIPv4() }

// isICMP reports whether it carries ICMP (RFC 792) or ICMPv6 (RFC 4443).
func (p *parsed) isICMP() bool {
	if p.isIPv4() {
		return p.tuple.protocol == packet.ICMP
	}
	return p.tuple.protocol == packet.ICMPv6
}

// l4Bytes is what the IP packet carries, as far as it is there.
func (p *parsed) l4Bytes() []byte { return p.frame[min(p.l4, p.end):p.end] }

func (p *parsed) readPorts(b []byte) {
	if len(b) < portsSize {
		if p.piece == nil { // of a fragment's flaws the first counts
			p.flaw = ""
		}
		p.note(Truncated)
		return
	}
	p.hasPorts = true
	p.tuple.src = netip.AddrPortFrom(p.tuple.src.Addr(), binary.BigEndian.Uint16(b[sourcePortAt:]))
	p.tuple.dst = netip.AddrPortFrom(p.tuple.dst.Addr(), binary.BigEndian.Uint16(b[destinationPortAt:]))
}

func (p *parsed) readTCP(b []byte) {
	cut := Truncated
	if p.piece != nil {
		cut = FragmentTiny
	}
	p.readPorts(b)
	if len(b) < tcpSize {
		p.note(cut)
		return
	}
	p.flags = packet.TCPFlags(b[13])
	header := int(b[tcpOffsetAt]>>4) * 4
	switch {
	case header < tcpSize:
		p.note(Malformed)
	case header > len(b):
		p.note(cut)
	}
}

func (p *parsed) readUDP(b []byte) {
	p.readPorts(b)
	if len(b) < udpSize {
		p.note(Truncated)
		return
	}
	length := int(binary.BigEndian.Uint16(b[udpLengthAt:]))
	switch {
	case length < udpSize:
		p.note(Malformed)
	case length > len(b) && p.piece == nil: // of a fragment's it is the whole datagram's
		p.note(Truncated)
	}
}

// note remembers a flaw unless there is one already.
func (p *parsed) note(flaw Reason) {
	if p.flaw == "" {
		p.flaw = flaw
	}
}
