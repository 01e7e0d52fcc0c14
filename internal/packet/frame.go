package packet

import (
	"encoding/binary"
	"fmt"

	"github.com/tinylb/tinylb/internal/lb"
)

// Sizes of headers without options, in bytes.
const (
	ethernetSize = 14
	vlanSize     = 4
	ipv4Size     = 20
	ipv6Size     = 40
	tcpSize      = 20
	udpSize      = 8
	icmpSize     = 8

	maxOptions  = 40
	maxIPLength = 65535
)

// checksumKind is what goes into the checksum field of TCP and UDP.
type checksumKind int

const (
	fullChecksum checksumKind = iota
	partialChecksum
)

// Frame is the packet on the wire, with all lengths and checksums right. It
// panics if no frame can say what p says: with addresses of two families or of
// none, more than two tags, or more bytes than a length field can count.
func (p Packet) Frame() []byte { return p.frame(fullChecksum) }

// PartialFrame is the packet as a local sender on Linux hands it to a virtual
// interface, to be completed by hardware that is not there (CHECKSUM_PARTIAL):
// the TCP or UDP checksum is only the folded sum of the pseudo-header. It
// panics as Frame does.
func (p Packet) PartialFrame() []byte { return p.frame(partialChecksum) }

func (p Packet) frame(kind checksumKind) []byte {
	p.mustBePossible()
	body := p.appendTransport(nil, kind)
	frame := p.appendIP(p.appendEthernet(nil), len(body))
	frame = append(frame, body...)
	return append(frame, p.Trailer...)
}

func (p Packet) mustBePossible() {
	src, dst := p.Src.Addr(), p.Dst.Addr()
	switch {
	case !src.IsValid() || !dst.IsValid() || src.Is4() != dst.Is4():
		panic(fmt.Sprintf("packet: no frame from %v to %v: both must be IPv4 or both IPv6", src, dst))
	case len(p.VLAN) > maxVLANTags:
		panic(fmt.Sprintf("packet: %d VLAN tags, at most %d are possible", len(p.VLAN), maxVLANTags))
	case len(p.IPOptions) > maxOptions:
		panic(fmt.Sprintf("packet: %d bytes of IP options, at most %d are possible", len(p.IPOptions), maxOptions))
	case len(p.TCPOptions) > maxOptions:
		panic(fmt.Sprintf("packet: %d bytes of TCP options, at most %d are possible", len(p.TCPOptions), maxOptions))
	}
}

func (p Packet) appendEthernet(frame []byte) []byte {
	frame = append(frame, p.DstMAC[:]...)
	frame = append(frame, p.SrcMAC[:]...)
	for _, tag := range p.VLAN {
		frame = binary.BigEndian.AppendUint16(frame, tag.Type)
		frame = binary.BigEndian.AppendUint16(frame, tag.Control)
	}
	if p.Src.Addr().Is4() {
		return binary.BigEndian.AppendUint16(frame, EtherTypeIPv4)
	}
	return binary.BigEndian.AppendUint16(frame, EtherTypeIPv6)
}

func (p Packet) appendIP(frame []byte, bodySize int) []byte {
	counted := bodySize // IPv6 does not count its own header
	if p.Src.Addr().Is4() {
		counted += ipv4Size + len(padded(p.IPOptions))
	}
	if counted > maxIPLength {
		panic(fmt.Sprintf("packet: %d bytes are too many for the length field of IP", counted))
	}
	if p.Src.Addr().Is4() {
		return p.appendIPv4(frame, counted)
	}
	return p.appendIPv6(frame, counted)
}

func (p Packet) appendIPv4(frame []byte, total int) []byte {
	options := padded(p.IPOptions)
	header := make([]byte, ipv4Size, ipv4Size+len(options))
	header[0] = 4<<4 | byte((ipv4Size+len(options))/4)
	header[1] = p.TOS
	binary.BigEndian.PutUint16(header[2:], uint16(total))
	binary.BigEndian.PutUint16(header[4:], p.ID)
	binary.BigEndian.PutUint16(header[6:], p.fragmentField())
	header[8] = p.TTL
	header[9] = byte(p.Protocol)
	copy(header[12:], p.Src.Addr().AsSlice())
	copy(header[16:], p.Dst.Addr().AsSlice())
	header = append(header, options...)
	binary.BigEndian.PutUint16(header[10:], Checksum(header, 0))
	return append(frame, header...)
}

// Bits of the IPv4 header's fragment field (RFC 791, section 3.1).
const (
	reservedBit        = 1 << 15
	dontFragmentBit    = 1 << 14
	moreFragmentsBit   = 1 << 13
	fragmentOffsetBits = 1<<13 - 1
)

func (p Packet) fragmentField() uint16 {
	field := p.FragmentOffset & fragmentOffsetBits
	if p.ReservedFlag {
		field |= reservedBit
	}
	if p.DontFragment {
		field |= dontFragmentBit
	}
	if p.MoreFragments {
		field |= moreFragmentsBit
	}
	return field
}

func (p Packet) appendIPv6(frame []byte, length int) []byte {
	frame = binary.BigEndian.AppendUint32(frame, 6<<28|uint32(p.TOS)<<20|p.FlowLabel&0xfffff)
	frame = binary.BigEndian.AppendUint16(frame, uint16(length))
	frame = append(frame, byte(p.Protocol), p.TTL)
	frame = append(frame, p.Src.Addr().AsSlice()...)
	return append(frame, p.Dst.Addr().AsSlice()...)
}

// appendTransport appends everything that follows the IP header.
func (p Packet) appendTransport(body []byte, kind checksumKind) []byte {
	switch p.transport() {
	case lb.TCP:
		body = p.appendTCP(body)
		p.putChecksum(body, 16, kind)
	case lb.UDP:
		body = p.appendUDP(body)
		if p.NoUDPChecksum {
			return body
		}
		p.putChecksum(body, 6, kind)
		if kind == fullChecksum && body[6] == 0 && body[7] == 0 {
			body[6], body[7] = 0xff, 0xff // zero would mean no checksum (RFC 768)
		}
	case ICMP:
		body = p.appendICMP(body)
		binary.BigEndian.PutUint16(body[2:], Checksum(body, 0))
	case ICMPv6:
		body = p.appendICMP(body)
		p.putChecksum(body, 2, fullChecksum)
	default:
		body = append(body, p.Payload...)
	}
	return body
}

// putChecksum fills in the checksum field of body, which must be zero until then.
func (p Packet) putChecksum(body []byte, field int, kind checksumKind) {
	pseudo := PseudoHeaderSum(p.Src.Addr(), p.Dst.Addr(), p.Protocol, len(body))
	checksum := Fold(pseudo)
	if kind == fullChecksum {
		checksum = Checksum(body, pseudo)
	}
	binary.BigEndian.PutUint16(body[field:], checksum)
}

func (p Packet) appendTCP(body []byte) []byte {
	options := padded(p.TCPOptions)
	words := uint16(tcpSize+len(options)) / 4
	body = binary.BigEndian.AppendUint16(body, p.Src.Port())
	body = binary.BigEndian.AppendUint16(body, p.Dst.Port())
	body = binary.BigEndian.AppendUint32(body, p.Seq)
	body = binary.BigEndian.AppendUint32(body, p.Ack)
	body = binary.BigEndian.AppendUint16(body, words<<12|uint16(p.Flags)&0xfff)
	body = binary.BigEndian.AppendUint16(body, p.Window)
	body = binary.BigEndian.AppendUint16(body, 0)
	body = binary.BigEndian.AppendUint16(body, p.Urgent)
	body = append(body, options...)
	return append(body, p.Payload...)
}

func (p Packet) appendUDP(body []byte) []byte {
	body = binary.BigEndian.AppendUint16(body, p.Src.Port())
	body = binary.BigEndian.AppendUint16(body, p.Dst.Port())
	body = binary.BigEndian.AppendUint16(body, uint16(udpSize+len(p.Payload)))
	body = binary.BigEndian.AppendUint16(body, 0)
	return append(body, p.Payload...)
}

func (p Packet) appendICMP(body []byte) []byte {
	body = append(body, p.ICMPType, p.ICMPCode, 0, 0)
	body = binary.BigEndian.AppendUint32(body, p.ICMPRest)
	return append(body, p.Payload...)
}

// padded is options and as many zeros (End of Option List) as a header that
// is counted in 32-bit words needs.
func padded(options []byte) []byte {
	size := (len(options) + 3) / 4 * 4
	return append(options[:len(options):len(options)], make([]byte, size-len(options))...)
}
