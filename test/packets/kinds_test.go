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

		"QUIC, names a backend that takes no new flow": {change: quicBackends, last: func(s *scene) []byte { return s.quic(1) }},
		"QUIC, names its flow's backend":               {change: quicBackends, last: func(s *scene) []byte { s.run(s.quic(2)); return s.quic(2) }},
		"QUIC, names another backend than its flow's":  {change: quicBackends, last: func(s *scene) []byte { s.run(s.quic(2)); return s.quic(1) }},
		"QUIC, names nobody, known flow":               {change: quicBackends, last: func(s *scene) []byte { s.run(s.quic(2)); return s.quic(3) }},

		"one VLAN tag":                                              {last: func(s *scene) []byte { return tagged(s.tcp(packet.SYN, "").Frame(), 1) }},
		"two VLAN tags":                                             {last: func(s *scene) []byte { return tagged(s.tcp(packet.SYN, "").Frame(), 2) }},
		"three VLAN tags":                                           {last: func(s *scene) []byte { return tagged(s.tcp(packet.SYN, "").Frame(), 3) }},
		"three VLAN tags, to another port":                          {last: func(s *scene) []byte { return tagged(s.toOtherPort(), 3) }},
		"IPv4 options":                                              {only: v4, last: withOptions(1, 1, 1, 0)},
		"IPv4 source route":                                         {only: v4, last: withOptions(sourceRoute()...)},
		"IPv4 source route, to an IPv6 backend":                     {only: v4, change: backendOfOtherFamily, last: withOptions(sourceRoute()...)},
		"6 IPv6 extension headers":                                  {only: v6, last: func(s *scene) []byte { return extended(s.tcp(packet.SYN, "").Frame(), 6) }},
		"7 IPv6 extension headers":                                  {only: v6, last: func(s *scene) []byte { return extended(s.tcp(packet.SYN, "").Frame(), 7) }},
		"7 IPv6 extension headers, to another port":                 {only: v6, last: func(s *scene) []byte { return extended(s.toOtherPort(), 7) }},
		"IPv6 routing header, segments left":                        {only: v6, last: withSegmentsLeft},
		"first fragment":                                            {last: func(s *scene) []byte { return s.pieces()[0] }},
		"later fragment, after the first":                           {last: func(s *scene) []byte { s.run(s.pieces()[0]); return s.pieces()[1] }},
		"later fragment, before the first":                          {last: func(s *scene) []byte { return s.pieces()[1] }},
		"first fragment, to another port":                           {last: func(s *scene) []byte { return s.piecesForTheHost()[0] }},
		"later fragment, to another port":                           {last: func(s *scene) []byte { s.run(s.piecesForTheHost()[0]); return s.piecesForTheHost()[1] }},
		"fragment that was there":                                   {last: func(s *scene) []byte { s.run(s.pieces()[0]); return s.pieces()[0] }},
		"fragment that overlaps another":                            {last: overlapping},
		"fragment of a datagram that was refused":                   {last: func(s *scene) []byte { s.run(overlapping(s)); return s.pieces()[1] }},
		"TCP header in several fragments":                           {last: func(s *scene) []byte { return packet.Cut(s.tcp(packet.SYN, "").Frame(), 16, uint32(s.port))[0] }},
		"fragment of 30 bytes with more to come":                    {last: uneven},
		"fragmented UDP without checksum, to an IPv6 backend":       {only: v4, change: backendOfOtherFamily, last: piecesWithoutChecksum},
		"no room to hold a fragment":                                {change: holdNothing, last: func(s *scene) []byte { return s.pieces()[1] }},
		"ICMP echo to the VIP":                                      {last: func(s *scene) []byte { return s.echo().Frame() }},
		"ICMP echo, a fragment":                                     {last: func(s *scene) []byte { return asFragment(s, s.echo().Frame()) }},
		"ICMP error about an answer":                                {last: func(s *scene) []byte { s.open(); return s.aboutAnswer(8).Frame() }},
		"ICMP error about an answer, TTL 1":                         {last: func(s *scene) []byte { s.open(); return withTTL(s.aboutAnswer(8), 1).Frame() }},
		"ICMP error about an answer, no flow":                       {last: func(s *scene) []byte { return s.aboutAnswer(20).Frame() }},
		"ICMP error about what a backend got":                       {last: func(s *scene) []byte { return s.aboutWhatLeft(packet.TimeExceeded, packet.TimeExceededV6, 0, 0) }},
		"fragmentation needed for that":                             {last: func(s *scene) []byte { return s.aboutWhatLeft(packet.Unreachable, packet.TooBigV6, 4, 1400) }},
		"ICMP error about nobody's packet":                          {last: func(s *scene) []byte { s.port++; return s.aboutNobody() }},
		"cut off behind the ports":                                  {last: func(s *scene) []byte { f := s.tcp(packet.SYN, "").Frame(); return f[:len(f)-1] }},
		"cut off before the ports":                                  {last: func(s *scene) []byte { f := s.tcp(packet.SYN, "").Frame(); return f[:len(f)-tcpSize+3] }},
		"TCP data offset below 5":                                   {last: tcpDataOffset4},
		"UDP length below 8":                                        {last: udpLength7},
		"as long as the MTU":                                        {last: sized(1500, true)},
		"as long as the MTU, may be fragmented":                     {only: v4, last: sized(1500, false)},
		"as long as the MTU, to an IPv6 backend":                    {only: v4, change: backendOfOtherFamily, last: sized(1500, true)},
		"as long as the MTU, may be fragmented, to an IPv6 backend": {only: v4, change: backendOfOtherFamily, last: sized(1500, false)},
		"longer than the MTU":                                       {last: sized(1501, true)},
		"as long as IP allows":                                      {last: longest},
		"to another port of the VIP":                                {last: (*scene).toOtherPort},
		"to another address":                                        {last: toOtherAddress},
		"ARP request for the VIP":                                   {only: v4, last: func(s *scene) []byte { return s.arp(s.client(), s.vip()) }},
		"ARP probe for the VIP":                                     {only: v4, last: func(s *scene) []byte { return s.arp(netip.IPv4Unspecified(), s.vip()) }},
		"ARP announcement of the VIP":                               {only: v4, last: func(s *scene) []byte { return s.arp(s.vip(), s.vip()) }},
		"ARP request for another address":                           {only: v4, last: func(s *scene) []byte { return s.arp(s.client(), s.vip().Next()) }},
		"neighbour solicitation for the VIP":                        {only: v6, last: func(s *scene) []byte { return s.solicitation(s.client()).Frame() }},
		"is the VIP free (DAD)":                                     {only: v6, last: func(s *scene) []byte { return s.solicitation(netip.IPv6Unspecified()).Frame() }},
		"neighbour solicitation, hop limit 64":                      {only: v6, last: func(s *scene) []byte { return withTTL(s.solicitation(s.client()), 64).Frame() }},
		"no backend has weight: TCP SYN":                            {change: weightless, last: func(s *scene) []byte { return s.tcp(packet.SYN, "").Frame() }},
		"no backend has weight: TCP without SYN":                    {change: weightless, last: func(s *scene) []byte { return s.tcp(packet.ACK, "").Frame() }},
		"no backend has weight: TCP RST":                            {change: weightless, last: func(s *scene) []byte { return s.tcp(packet.RST, "").Frame() }},
		"no backend has weight: UDP datagram":                       {change: weightless, last: func(s *scene) []byte { return s.udp("question").Frame() }},
		"no backend has weight, reject: drop":                       {change: silent, last: func(s *scene) []byte { return s.tcp(packet.SYN, "").Frame() }},
		"from a source that is denied":                              {change: denyAll, last: func(s *scene) []byte { return s.tcp(packet.ACK, "").Frame() }},
		"the second new flow within a client's rate of one":         {change: asking(func(s *lb.Service) { s.PerClient = lb.ClientRate{NewFlowsPerSecond: 1} }), last: second},
		"the second new flow within a service's rate of one":        {change: asking(func(s *lb.Service) { s.NewFlowsPerSecond = 1 }), last: second},
		"the second new flow of a service that may have one":        {change: asking(func(s *lb.Service) { s.MaxFlows = 1 }), last: second},
		"the second new flow of a backend that may have one":        {change: asking(func(s *lb.Service) { s.Backends[0].MaxFlows = 1 }), last: second},
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

// asFragment is the frame as the first of several.
func asFragment(s *scene, frame []byte) []byte {
	if !s.six {
		binary.BigEndian.PutUint16(frame[ethernetSize+6:], 1<<13)
		binary.BigEndian.PutUint16(frame[ethernetSize+10:], 0)
		binary.BigEndian.PutUint16(frame[ethernetSize+10:], packet.Checksum(frame[ethernetSize:ethernetSize+20], 0))
		return frame
	}
	const fragmentHeader = 44
	header := []byte{frame[ethernetSize+6], 0, 0, 1, 0, 0, 0, 1}
	frame[ethernetSize+6] = fragmentHeader
	return withIPv6Headers(frame, header)
}

// router is on the way to anybody.
func router(six bool) netip.Addr {
	if six {
		return netip.MustParseAddr("2001:db8:f::9")
	}
	return netip.MustParseAddr("192.0.2.9")
}

// aboutAnswer is what a router near the client says of the VIP's answer to it.
func (s *scene) aboutAnswer(quoted int) packet.Packet {
	client, vip := s.ends()
	answer := packet.NewTCP(vip, client, packet.SYN|packet.ACK, "")
	kind := packet.TimeExceeded
	if s.six {
		kind = packet.TimeExceededV6
	}
	return fromClient(answer.Error(router(s.six), kind, 0, 0, quoted))
}

// aboutWhatLeft is what a router near the backend says of the packet that went there.
func (s *scene) aboutWhatLeft(four, six, code uint8, rest uint32) []byte {
	s.t.Helper()
	left, err := packet.Read(s.run(s.tcp(packet.SYN, "").Frame()).Frame)
	if err != nil {
		s.t.Fatal(err)
	}
	if left.Src.Addr().Is6() {
		four, code = six, 0
	}
	return fromClient(left.Error(router(left.Src.Addr().Is6()), four, code, rest, 8)).Frame()
}

func (s *scene) aboutNobody() []byte {
	client, vip := s.ends()
	other := packet.NewUDP(netip.AddrPortFrom(vip.Addr(), 4444), client, "")
	return fromClient(other.Error(router(s.six), packet.Unreachable, 0, 0, 8)).Frame()
}

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

// sized is a datagram of so many bytes with its IP header.
func sized(size int, dontFragment bool) func(*scene) []byte {
	const udpSize = 8
	return func(s *scene) []byte {
		payload := size - 20 - udpSize
		if s.six {
			payload = size - ipv6Size - udpSize
		}
		p := s.udp(strings.Repeat("x", payload))
		p.DontFragment = dontFragment && !s.six
		return p.Frame()
	}
}

func (s *scene) client() netip.Addr { client, _ := s.ends(); return client.Addr() }
func (s *scene) vip() netip.Addr    { _, vip := s.ends(); return vip.Addr() }

// arp asks everybody who has an address (RFC 826).
func (s *scene) arp(sender, target netip.Addr) []byte {
	from := fromClient(packet.Packet{}).SrcMAC
	frame := slices.Concat([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, from[:], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1})
	return slices.Concat(frame, from[:], sender.AsSlice(), make([]byte, 6), target.AsSlice())
}

// solicitation asks everybody who has the VIP (RFC 4861, 4.3).
func (s *scene) solicitation(sender netip.Addr) packet.Packet {
	vip := s.vip()
	p := fromClient(packet.NewEcho(sender, lb.SolicitedNode(vip), 0, 0, ""))
	last := vip.As16()
	p.DstMAC = lb.MAC{0x33, 0x33, 0xff, last[13], last[14], last[15]}
	p.TTL, p.ICMPType, p.ICMPRest, p.Payload = 255, 135, 0, vip.AsSlice()
	return p
}

func weightless(cfg *lb.Config) {
	for i := range cfg.Services {
		cfg.Services[i].Backends[0].Weight = 0
	}
}

// asking changes what each service asks of new flows.
func asking(change func(*lb.Service)) func(*lb.Config) {
	return func(cfg *lb.Config) {
		for i := range cfg.Services {
			change(&cfg.Services[i])
		}
	}
}

func denyAll(cfg *lb.Config) {
	asking(func(s *lb.Service) {
		s.Deny = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	})(cfg)
}

// second is the first packet of a second flow.
func second(s *scene) []byte {
	other := *s
	other.port += 1000
	other.open()
	return s.tcp(packet.SYN, "").Frame()
}

func silent(cfg *lb.Config) {
	weightless(cfg)
	for i := range cfg.Services {
		cfg.Services[i].Silent = true
	}
}

// backendOfOtherFamily exchanges the services' backends.
func backendOfOtherFamily(cfg *lb.Config) {
	for i := range cfg.Services {
		cfg.Services[i].Backends = []lb.Backend{{Address: backendOf(cfg.Services[i].Address.Addr.Is4()), Weight: 1}}
	}
}

// quicBackends gives the services QUIC connection ids and two backends; the first takes no new flows.
func quicBackends(cfg *lb.Config) {
	for i := range cfg.Services {
		s := &cfg.Services[i]
		s.Protocols, s.QUIC = []lb.Protocol{lb.UDP}, lb.QUIC{ConfigID: 2, ServerIDLength: 1}
		first := s.Backends[0].Address
		s.Backends = []lb.Backend{
			{Address: first, Weight: 0},
			{Address: netip.AddrPortFrom(first.Addr().Next(), first.Port()), Weight: 1},
		}
		s.ServerIDs = map[netip.AddrPort]string{s.Backends[0].Address: "01", s.Backends[1].Address: "02"}
	}
}

// quic is a packet with a short header whose connection id has a server id.
func (s *scene) quic(server byte) []byte {
	return s.udp(string([]byte{0x40, 2<<5 | 1, server}) + "nonce, and more").Frame()
}
