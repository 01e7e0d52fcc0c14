package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
)

// ErrNoInner says that a packet has no other packet inside.
var ErrNoInner = errors.New("there is no packet inside")

// gueSize is that of a GUE header without optional fields.
const gueSize = 4

// Inner is the packet that p was put around: IP in IP, or GUE
// (draft-ietf-intarea-gue, variant 0) to one of some UDP ports. Its MACs are zero.
// Errors are those of Read, and ErrNoInner.
func (p Packet) Inner(guePorts ...uint16) (Packet, error) {
	kind, body, err := p.innerBytes(guePorts)
	if err != nil {
		return Packet{}, err
	}
	var inner Packet
	if err := inner.readPacket(kind, body); err != nil {
		return Packet{}, fmt.Errorf("inner packet: %w", err)
	}
	return inner, nil
}

// innerBytes finds a packet inside and says whether it is IPv4InIP or IPv6InIP.
func (p Packet) innerBytes(guePorts []uint16) (kind lb.Protocol, body []byte, err error) {
	switch {
	case p.IsFragment():
	case p.Protocol == IPv4InIP, p.Protocol == IPv6InIP:
		return p.Protocol, p.Payload, nil
	case p.Protocol == lb.UDP && slices.Contains(guePorts, p.Dst.Port()):
		return gueBody(p.Payload)
	}
	return 0, nil, ErrNoInner
}

func gueBody(b []byte) (kind lb.Protocol, body []byte, err error) {
	if err := atLeast("GUE header", b, gueSize); err != nil {
		return 0, nil, err
	}
	kind = lb.Protocol(b[1])
	if b[0] != 0 || b[2] != 0 || b[3] != 0 || kind != IPv4InIP && kind != IPv6InIP {
		return 0, nil, fmt.Errorf("GUE header %#x: want variant 0 without options, and protocol 4 or 41: %w", b[:gueSize], ErrMalformed)
	}
	return kind, b[gueSize:], nil
}

// IsICMPError reports whether p tells a sender that its packet had an end (RFC 792;
// RFC 4443, section 2.1): it quotes that packet.
func (p Packet) IsICMPError() bool { return isICMPError(p.transport(), p.ICMPType) }

func isICMPError(protocol lb.Protocol, icmpType uint8) bool {
	switch protocol {
	case ICMP:
		return slices.Contains([]uint8{3, 4, 5, TimeExceeded, 12}, icmpType)
	case ICMPv6:
		return icmpType < EchoRequestV6
	}
	return false
}

// Quoted is the packet that an ICMP error is about, as far as it is quoted: its IP
// header, the ports of TCP and UDP, and as payload all that follows the IP header.
// Errors are those of Read, and ErrNoInner.
func (p Packet) Quoted() (Packet, error) {
	if !p.IsICMPError() {
		return Packet{}, ErrNoInner
	}
	var quoted Packet
	header, total, err := quoted.readIPHeader(familyOf(p.Src.Addr()), p.Payload)
	if err != nil {
		return Packet{}, fmt.Errorf("quoted packet: %w", err)
	}
	if total < len(p.Payload) {
		return Packet{}, fmt.Errorf("quoted packet: %d bytes, but it had only %d: %w", len(p.Payload), total, ErrMalformed)
	}
	body := p.Payload[header:]
	if err := atLeast("beginning of what the quoted packet carries", body, min(quotedAtLeast, total-header)); err != nil {
		return Packet{}, err
	}
	quoted.Payload = nonEmpty(body)
	hasPorts := quoted.Protocol == lb.TCP || quoted.Protocol == lb.UDP
	if hasPorts && quoted.FragmentOffset == 0 && len(body) >= quotedAtLeast {
		quoted.readPorts(body)
	}
	return quoted, nil
}

// quotedAtLeast is how many bytes behind the IP header an ICMP error quotes at least,
// if there are as many (RFC 792).
const quotedAtLeast = 8

// Extension headers (RFC 8200, section 4).
const (
	hopByHop           lb.Protocol = 0
	routing            lb.Protocol = 43
	fragmentHeader     lb.Protocol = 44
	destinationOptions lb.Protocol = 60

	extensionUnit  = 8
	fragmentFields = 0xfff9 // offset and "more fragments"
)

func isExtension(p lb.Protocol) bool {
	return p == hopByHop || p == routing || p == fragmentHeader || p == destinationOptions
}

// behindExtensions is an IPv6 packet as if it had no extension headers; ok is false
// for fragments and for packets on their way to another node, whose checksums are
// about more than is here.
func (p Packet) behindExtensions(body []byte) (_ Packet, rest []byte, ok bool, err error) {
	for isExtension(p.Protocol) {
		if err := atLeast("extension header", body, extensionUnit); err != nil {
			return p, nil, false, err
		}
		size := extensionUnit * (1 + int(body[1]))
		switch {
		case p.Protocol == fragmentHeader && binary.BigEndian.Uint16(body[2:])&fragmentFields != 0,
			p.Protocol == routing && body[3] != 0:
			return p, nil, false, nil
		case p.Protocol == fragmentHeader: // the packet is whole (RFC 6946)
			size = extensionUnit
		}
		if err := atLeast("extension header", body, size); err != nil {
			return p, nil, false, err
		}
		p.Protocol, body = lb.Protocol(body[0]), body[size:]
	}
	return p, body, true, p.readTransport(body)
}

// familyOf is the protocol number of packets from an address within others.
func familyOf(a netip.Addr) lb.Protocol {
	if a.Is4() {
		return IPv4InIP
	}
	return IPv6InIP
}
