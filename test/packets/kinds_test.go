package packets

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// kind is a row of the table: its last packet is the one that the row is about.
type kind struct {
	only   family // "" for both
	change func(*lb.Config)
	last   func(*scene) []byte
}

type family string

const (
	v4 family = "IPv4"
	v6 family = "IPv6"
)

func (f family) is(six bool) bool { return f == "" || (f == v6) == six }

// kinds are the rows of docs/packets.md by their names there.
func kinds() map[string]kind {
	return map[string]kind{
		"TCP SYN":                  {last: func(s *scene) []byte { return s.tcp(packet.SYN, "").Frame() }},
		"UDP datagram":             {last: func(s *scene) []byte { return s.udp("question").Frame() }},
		"UDP without checksum":     {only: v4, last: udpWithoutChecksum},
		"a known flow's packet":    {last: func(s *scene) []byte { s.open(); return s.tcp(packet.ACK, "more").Frame() }},
		"the backend's answer":     {last: func(s *scene) []byte { return s.answer(s.open()).Frame() }},
		"TCP without SYN, no flow": {last: func(s *scene) []byte { return s.tcp(packet.ACK, "from another time").Frame() }},
		"TCP RST, no flow":         {last: func(s *scene) []byte { return s.tcp(packet.RST, "").Frame() }},
		"the client is a backend":  {last: fromBackend},
		"TTL 1, no flow":           {last: func(s *scene) []byte { return withTTL(s.tcp(packet.SYN, ""), 1).Frame() }},
		"TTL 1, known flow":        {last: func(s *scene) []byte { s.open(); return withTTL(s.tcp(packet.ACK, ""), 1).Frame() }},
		"TTL 1, from the backend":  {last: func(s *scene) []byte { return withTTL(s.answer(s.open()), 1).Frame() }},

		"one VLAN tag":                                        {last: func(s *scene) []byte { return tagged(s.tcp(packet.SYN, "").Frame(), 1) }},
		"two VLAN tags":                                       {last: func(s *scene) []byte { return tagged(s.tcp(packet.SYN, "").Frame(), 2) }},
		"three VLAN tags":                                     {last: func(s *scene) []byte { return tagged(s.tcp(packet.SYN, "").Frame(), 3) }},
		"three VLAN tags, to another port":                    {last: func(s *scene) []byte { return tagged(s.toOtherPort(), 3) }},
		"IPv4 options":                                        {only: v4, last: withOptions(1, 1, 1, 0)},
		"IPv4 source route":                                   {only: v4, last: withOptions(sourceRoute()...)},
		"IPv4 source route, to an IPv6 backend":               {only: v4, change: backendOfOtherFamily, last: withOptions(sourceRoute()...)},
		"6 IPv6 extension headers":                            {only: v6, last: func(s *scene) []byte { return extended(s.tcp(packet.SYN, "").Frame(), 6) }},
		"7 IPv6 extension headers":                            {only: v6, last: func(s *scene) []byte { return extended(s.tcp(packet.SYN, "").Frame(), 7) }},
		"7 IPv6 extension headers, to another port":           {only: v6, last: func(s *scene) []byte { return extended(s.toOtherPort(), 7) }},
		"IPv6 routing header, segments left":                  {only: v6, last: withSegmentsLeft},
		"first fragment":                                      {last: func(s *scene) []byte { return s.pieces()[0] }},
		"later fragment, after the first":                     {last: func(s *scene) []byte { s.run(s.pieces()[0]); return s.pieces()[1] }},
		"later fragment, before the first":                    {last: func(s *scene) []byte { return s.pieces()[1] }},
		"first fragment, to another port":                     {last: func(s *scene) []byte { return s.piecesForTheHost()[0] }},
		"later fragment, to another port":                     {last: func(s *scene) []byte { s.run(s.piecesForTheHost()[0]); return s.piecesForTheHost()[1] }},
		"fragment that was there":                             {last: func(s *scene) []byte { s.run(s.pieces()[0]); return s.pieces()[0] }},
		"fragment that overlaps another":                      {last: overlapping},
		"fragment of a datagram that was refused":             {last: func(s *scene) []byte { s.run(overlapping(s)); return s.pieces()[1] }},
		"TCP header in several fragments":                     {last: func(s *scene) []byte { return packet.Cut(s.tcp(packet.SYN, "").Frame(), 16, uint32(s.port))[0] }},
		"fragment of 30 bytes with more to come":              {last: uneven},
		"fragmented UDP without checksum, to an IPv6 backend": {only: v4, change: backendOfOtherFamily, last: piecesWithoutChecksum},
		"no room to hold a fragment":                          {change: holdNothing, last: func(s *scene) []byte { return s.pieces()[1] }},
		"ICMP echo to the VIP":                                {last: func(s *scene) []byte { return s.echo().Frame() }},
		"cut off behind the ports":                            {last: func(s *scene) []byte { f := s.tcp(packet.SYN, "").Frame(); return f[:len(f)-1] }},
		"cut off before the ports":                            {last: func(s *scene) []byte { f := s.tcp(packet.SYN, "").Frame(); return f[:len(f)-tcpSize+3] }},
		"TCP data offset below 5":                             {last: tcpDataOffset4},
		"UDP length below 8":                                  {last: udpLength7},
		"as long as IP allows":                                {last: longest},
		"to another port of the VIP":                          {last: (*scene).toOtherPort},
		"to another address":                                  {last: toOtherAddress},
		"ARP":                                                 {only: v4, last: arp},
		"no backend has weight":                               {change: weightless, last: func(s *scene) []byte { return s.tcp(packet.SYN, "").Frame() }},
	}
}

const (
	ethernetSize = 14
	ipv6Size     = 40
	tcpSize      = 20
)

func withTTL(p packet.Packet, ttl uint8) packet.Packet {
	p.TTL = ttl
	return p
}

func udpWithoutChecksum(s *scene) []byte {
	p := s.udp("question")
	p.NoUDPChecksum = true
	return p.Frame()
}

func fromBackend(s *scene) []byte {
	p := s.tcp(packet.SYN, "")
	p.Src = netip.AddrPortFrom(s.backend().Addr(), p.Src.Port())
	return p.Frame()
}

func toOtherAddress(s *scene) []byte {
	p := s.tcp(packet.SYN, "")
	p.Dst = netip.AddrPortFrom(p.Dst.Addr().Next().Next(), p.Dst.Port())
	return p.Frame()
}

// sourceRoute is a strict one with a hop to go (RFC 791, 3.1).
func sourceRoute() []byte { return []byte{137, 7, 4, 192, 0, 2, 1, 0} }

func withOptions(options ...byte) func(*scene) []byte {
	return func(s *scene) []byte {
		p := s.tcp(packet.SYN, "")
		p.IPOptions = options
		return p.Frame()
	}
}

// tagged is the frame behind so many VLAN tags.
func tagged(frame []byte, tags int) []byte {
	tag := []byte{0x81, 0x00, 0, 10}
	return slices.Insert(slices.Clone(frame), ethernetSize-2, slices.Repeat(tag, tags)...)
}

// extended is the frame with so many empty destination option headers.
func extended(frame []byte, headers int) []byte {
	const options = 60
	frame = slices.Clone(frame)
	next := frame[ethernetSize+6]
	frame[ethernetSize+6] = options
	var all []byte
	for n := range headers {
		after := byte(options)
		if n == headers-1 {
			after = next
		}
		all = append(all, after, 0, 1, 4, 0, 0, 0, 0) // PadN
	}
	return withIPv6Headers(frame, all)
}

func withIPv6Headers(frame, headers []byte) []byte {
	length := frame[ethernetSize+4:]
	binary.BigEndian.PutUint16(length, binary.BigEndian.Uint16(length)+uint16(len(headers)))
	return slices.Insert(frame, ethernetSize+ipv6Size, headers...)
}

func withSegmentsLeft(s *scene) []byte {
	const routing, segmentsLeft = 43, 1
	frame := s.tcp(packet.SYN, "").Frame()
	header := append([]byte{frame[ethernetSize+6], 2, 0, segmentsLeft, 0, 0, 0, 0}, s.backend().Addr().AsSlice()...)
	frame[ethernetSize+6] = routing
	return withIPv6Headers(frame, header)
}

// pieces are the fragments of a SYN with data.
func (s *scene) pieces() [][]byte {
	return packet.Cut(s.tcp(packet.SYN, strings.Repeat("x", 200)).Frame(), 80, uint32(s.port))
}

func (s *scene) piecesForTheHost() [][]byte {
	p := s.udp(strings.Repeat("x", 200))
	p.Dst = netip.AddrPortFrom(p.Dst.Addr(), 8080)
	return packet.Cut(p.Frame(), 80, uint32(s.port))
}

// overlapping begins in the midst of the first fragment, which has come.
func overlapping(s *scene) []byte {
	first := s.pieces()[0]
	s.run(first)
	at, units := ethernetSize+6, uint16(1<<13|5)
	if s.six {
		at, units = ethernetSize+ipv6Size+2, 5<<3|1
	}
	binary.BigEndian.PutUint16(first[at:], units)
	return first
}

// uneven is a first fragment whose length says that nothing can follow.
func uneven(s *scene) []byte {
	frame := packet.Cut(s.tcp(packet.SYN, strings.Repeat("x", 200)).Frame(), 32, uint32(s.port))[0]
	at := ethernetSize + 2
	if s.six {
		at = ethernetSize + 4
	}
	binary.BigEndian.PutUint16(frame[at:], binary.BigEndian.Uint16(frame[at:])-2)
	return frame
}

func piecesWithoutChecksum(s *scene) []byte {
	p := s.udp(strings.Repeat("x", 200))
	p.NoUDPChecksum = true
	return packet.Cut(p.Frame(), 80, uint32(s.port))[0]
}

func holdNothing(cfg *lb.Config) { cfg.Fragments.Held = 0 }

func tcpDataOffset4(s *scene) []byte {
	frame := s.tcp(packet.SYN, "").Frame()
	frame[len(frame)-tcpSize+12] = 4 << 4
	return frame
}

func udpLength7(s *scene) []byte {
	frame := s.udp("question").Frame()
	frame[len(frame)-len("question")-3] = 7
	return frame
}

func longest(s *scene) []byte {
	most := 65535 - tcpSize
	if !s.six {
		most -= 20
	}
	return s.tcp(packet.SYN, strings.Repeat("x", most)).Frame()
}

func arp(s *scene) []byte {
	frame := s.tcp(packet.SYN, "").Frame()
	binary.BigEndian.PutUint16(frame[ethernetSize-2:], 0x0806)
	return frame
}

func weightless(cfg *lb.Config) {
	for i := range cfg.Services {
		cfg.Services[i].Backends[0].Weight = 0
	}
}

// backendOfOtherFamily exchanges the services' backends.
func backendOfOtherFamily(cfg *lb.Config) {
	for i := range cfg.Services {
		cfg.Services[i].Backends = []lb.Backend{{Address: backendOf(cfg.Services[i].Address.Addr.Is4()), Weight: 1}}
	}
}
