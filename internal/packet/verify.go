package packet

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tinylb/tinylb/internal/lb"
)

// ErrChecksum says that a checksum is not, to the last bit, what a sender
// computes. A field of 0xffff, which receivers take for 0, is also wrong: no
// sum of a real packet has it, except in UDP, where it stands for 0.
var ErrChecksum = errors.New("wrong checksum")

// Verify checks what a frame says about itself: that its lengths agree, and
// that the checksums of the IPv4 header, TCP, UDP, ICMP and ICMPv6 are right, also
// behind extension headers and in a packet inside: IP in IP, or GUE to one of some
// UDP ports. UDP over IPv4 may have no checksum. Of what an ICMP error quotes, the
// IP header is checked. Fragments are checked no further than IP. Errors are those
// of Read, and ErrChecksum.
func Verify(frame []byte, guePorts ...uint16) error {
	p, err := Read(frame)
	if err != nil {
		return err
	}
	return p.verify(frame[ethernetSize+vlanSize*len(p.VLAN):len(frame)-len(p.Trailer)], guePorts)
}

// verify checks an IP packet that p has been read from.
func (p Packet) verify(ip []byte, guePorts []uint16) error {
	header := ipv6Size
	if p.Src.Addr().Is4() {
		header = ipv4Size + len(p.IPOptions)
		if err := verifyIPv4Header(ip[:header]); err != nil {
			return err
		}
	}
	body := ip[header:]
	if !p.Src.Addr().Is4() {
		var ok bool
		var err error
		if p, body, ok, err = p.behindExtensions(body); !ok || err != nil {
			return err
		}
	}
	if err := p.verifyTransport(body); err != nil {
		return err
	}
	return p.verifyInside(guePorts)
}

func verifyIPv4Header(header []byte) error { return verifyChecksum("IPv4 header", header, 10, 0) }

func (p Packet) verifyTransport(body []byte) error {
	pseudo := PseudoHeaderSum(p.Src.Addr(), p.Dst.Addr(), p.Protocol, len(body))
	switch p.transport() {
	case lb.TCP:
		return verifyChecksum("TCP", body, 16, pseudo)
	case lb.UDP:
		return p.verifyUDP(body, pseudo)
	case ICMP:
		return verifyChecksum("ICMP", body, 2, 0)
	case ICMPv6:
		return verifyChecksum("ICMPv6", body, 2, pseudo)
	}
	return nil
}

// verifyInside checks a packet within p, if there is one.
func (p Packet) verifyInside(guePorts []uint16) error {
	if p.IsICMPError() {
		return p.verifyQuote()
	}
	_, body, err := p.innerBytes(guePorts)
	if errors.Is(err, ErrNoInner) {
		return nil
	}
	if err != nil {
		return err
	}
	inner, err := p.Inner(guePorts...)
	if err != nil {
		return err
	}
	if len(inner.Trailer) > 0 {
		return fmt.Errorf("inner packet: %d bytes follow it: %w", len(inner.Trailer), ErrMalformed)
	}
	if err := inner.verify(body, guePorts); err != nil {
		return fmt.Errorf("inner packet: %w", err)
	}
	return nil
}

func (p Packet) verifyQuote() error {
	quoted, err := p.Quoted()
	if err != nil || !quoted.Src.Addr().Is4() {
		return err
	}
	if err := verifyIPv4Header(p.Payload[:ipv4Size+len(quoted.IPOptions)]); err != nil {
		return fmt.Errorf("quoted packet: %w", err)
	}
	return nil
}

func (p Packet) verifyUDP(body []byte, pseudo uint32) error {
	switch got := binary.BigEndian.Uint16(body[6:]); {
	case got == 0 && p.Src.Addr().Is4():
		return nil
	case got == 0:
		return fmt.Errorf("UDP over IPv6: %w: there is none (RFC 8200, section 8.1)", ErrChecksum)
	case got == 0xffff && Fold(Sum(body, pseudo)) == 0xffff:
		return nil
	}
	return verifyChecksum("UDP", body, 6, pseudo)
}

// verifyChecksum compares the checksum field at an offset of b with the sum of
// everything else in b.
func verifyChecksum(what string, b []byte, field int, initial uint32) error {
	got := binary.BigEndian.Uint16(b[field:])
	want := Checksum(b[field+2:], Sum(b[:field], initial))
	if got != want {
		return fmt.Errorf("%s: %w: got %#04x, want %#04x", what, ErrChecksum, got, want)
	}
	return nil
}
