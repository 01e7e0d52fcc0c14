package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// Errors of Read and Verify.
var (
	ErrTruncated = errors.New("the frame ends too early") // a header or a length points behind the end
	ErrNotIP     = errors.New("not IP")                   // neither IPv4 nor IPv6 behind at most two VLAN tags
	ErrMalformed = errors.New("malformed")                // a header contradicts itself or the one before
)

// Read takes a frame apart. It is the inverse of Frame for every frame whose
// checksums are right, which it does not check: Verify does. The packet shares
// no memory with the frame.
func Read(frame []byte) (Packet, error) {
	var p Packet
	etherType, rest, err := p.readEthernet(frame)
	if err != nil {
		return Packet{}, err
	}
	switch etherType {
	case EtherTypeIPv4:
		err = p.readPacket(IPv4InIP, rest)
	case EtherTypeIPv6:
		err = p.readPacket(IPv6InIP, rest)
	default:
		err = fmt.Errorf("EtherType %#04x: %w", etherType, ErrNotIP)
	}
	if err != nil {
		return Packet{}, err
	}
	return p, nil
}

// readPacket reads an IP packet, which is IPv4InIP or IPv6InIP, and what follows it.
func (p *Packet) readPacket(kind lb.Protocol, b []byte) error {
	header, total, err := p.readIPHeader(kind, b)
	if err != nil {
		return err
	}
	if err := atLeast("IP packet", b, total); err != nil {
		return err
	}
	p.Trailer = nonEmpty(b[total:])
	return p.readTransport(b[header:total])
}

// readIPHeader says how long the header and the packet are.
func (p *Packet) readIPHeader(kind lb.Protocol, b []byte) (header, total int, err error) {
	if kind == IPv4InIP {
		return p.readIPv4(b)
	}
	return p.readIPv6(b)
}

func (p *Packet) readEthernet(b []byte) (etherType uint16, rest []byte, err error) {
	if err := atLeast("Ethernet header", b, ethernetSize); err != nil {
		return 0, nil, err
	}
	copy(p.DstMAC[:], b)
	copy(p.SrcMAC[:], b[6:])
	etherType, rest = binary.BigEndian.Uint16(b[12:]), b[ethernetSize:]
	for len(p.VLAN) < maxVLANTags && (etherType == EtherTypeVLAN || etherType == EtherTypeQinQ) {
		if err := atLeast("VLAN tag", rest, vlanSize); err != nil {
			return 0, nil, err
		}
		p.VLAN = append(p.VLAN, Tag{Type: etherType, Control: binary.BigEndian.Uint16(rest)})
		etherType, rest = binary.BigEndian.Uint16(rest[2:]), rest[vlanSize:]
	}
	return etherType, rest, nil
}

func (p *Packet) readIPv4(b []byte) (header, total int, err error) {
	if err := atLeast("IPv4 header", b, ipv4Size); err != nil {
		return 0, 0, err
	}
	header, total = int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if b[0]>>4 != 4 || header < ipv4Size || total < header {
		return 0, 0, fmt.Errorf("IPv4 header: version %d, header length %d, total length %d: %w",
			b[0]>>4, header, total, ErrMalformed)
	}
	if err := atLeast("IPv4 header with its options", b, header); err != nil {
		return 0, 0, err
	}
	p.TOS = b[1]
	p.ID = binary.BigEndian.Uint16(b[4:])
	fragment := binary.BigEndian.Uint16(b[6:])
	p.ReservedFlag = fragment&reservedBit != 0
	p.DontFragment = fragment&dontFragmentBit != 0
	p.MoreFragments = fragment&moreFragmentsBit != 0
	p.FragmentOffset = fragment & fragmentOffsetBits
	p.TTL = b[8]
	p.Protocol = lb.Protocol(b[9])
	p.Src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:])), 0)
	p.Dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:])), 0)
	p.IPOptions = nonEmpty(b[ipv4Size:header])
	return header, total, nil
}

func (p *Packet) readIPv6(b []byte) (header, total int, err error) {
	if err := atLeast("IPv6 header", b, ipv6Size); err != nil {
		return 0, 0, err
	}
	first := binary.BigEndian.Uint32(b)
	if first>>28 != 6 {
		return 0, 0, fmt.Errorf("IPv6 header: version %d: %w", first>>28, ErrMalformed)
	}
	p.TOS = uint8(first >> 20)
	p.FlowLabel = first & 0xfffff
	p.Protocol = lb.Protocol(b[6])
	p.TTL = b[7]
	p.Src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:])), 0)
	p.Dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:])), 0)
	return ipv6Size, ipv6Size + int(binary.BigEndian.Uint16(b[4:])), nil
}

func (p *Packet) readTransport(b []byte) error {
	switch p.transport() {
	case lb.TCP:
		return p.readTCP(b)
	case lb.UDP:
		return p.readUDP(b)
	case ICMP, ICMPv6:
		return p.readICMP(b)
	}
	p.Payload = nonEmpty(b)
	return nil
}

func (p *Packet) readTCP(b []byte) error {
	if err := atLeast("TCP header", b, tcpSize); err != nil {
		return err
	}
	header := int(b[12]>>4) * 4
	if header < tcpSize {
		return fmt.Errorf("TCP header: data offset of %d bytes: %w", header, ErrMalformed)
	}
	if err := atLeast("TCP options", b, header); err != nil {
		return err
	}
	p.readPorts(b)
	p.Seq = binary.BigEndian.Uint32(b[4:])
	p.Ack = binary.BigEndian.Uint32(b[8:])
	p.Flags = TCPFlags(binary.BigEndian.Uint16(b[12:]) & 0xfff)
	p.Window = binary.BigEndian.Uint16(b[14:])
	p.Urgent = binary.BigEndian.Uint16(b[18:])
	p.TCPOptions = nonEmpty(b[tcpSize:header])
	p.Payload = nonEmpty(b[header:])
	return nil
}

func (p *Packet) readUDP(b []byte) error {
	if err := atLeast("UDP header", b, udpSize); err != nil {
		return err
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if err := atLeast("UDP datagram", b, length); err != nil {
		return err
	}
	if length != len(b) {
		return fmt.Errorf("UDP header: length %d, but IP carries %d bytes: %w", length, len(b), ErrMalformed)
	}
	p.readPorts(b)
	p.NoUDPChecksum = binary.BigEndian.Uint16(b[6:]) == 0
	p.Payload = nonEmpty(b[udpSize:])
	return nil
}

func (p *Packet) readICMP(b []byte) error {
	if err := atLeast("ICMP header", b, icmpSize); err != nil {
		return err
	}
	p.ICMPType, p.ICMPCode = b[0], b[1]
	p.ICMPRest = binary.BigEndian.Uint32(b[4:])
	p.Payload = nonEmpty(b[icmpSize:])
	return nil
}

func (p *Packet) readPorts(b []byte) {
	p.Src = netip.AddrPortFrom(p.Src.Addr(), binary.BigEndian.Uint16(b))
	p.Dst = netip.AddrPortFrom(p.Dst.Addr(), binary.BigEndian.Uint16(b[2:]))
}

func atLeast(what string, b []byte, size int) error {
	if len(b) < size {
		return fmt.Errorf("%s: %d of %d bytes: %w", what, len(b), size, ErrTruncated)
	}
	return nil
}
