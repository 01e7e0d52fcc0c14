package diff

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// conversation is a flow as its two ends know it.
type conversation struct {
	ends            // as the client's packets have them
	forward         lb.Forward
	clientMAC       lb.MAC
	chosen          netip.AddrPort // the backend, as configured
	backend, source netip.AddrPort // of its answers
	seen            time.Time
	stage           stage
	seq, ack        uint32
}

// carried reports whether a packet with these ends is one of the conversation's.
func (c *conversation) carried(e ends) bool { return e == c.ends || e == c.answers() }

func (c *conversation) answers() ends { return ends{c.protocol, c.backend, c.source} }

// lookalike differs from the conversation in one thing only: its protocol, IP's
// version, or a part of the client's address that IPv4 does not have.
func (c conversation) lookalike(rng *rand.Rand) *conversation {
	keepsClient := c.source == c.src
	switch n := rng.IntN(4); {
	case n == 0:
		c.protocol = lb.TCP + lb.UDP - c.protocol
	case n == 1:
		c.src, c.dst, c.backend, c.source = otherFamily(c.src), otherFamily(c.dst), otherFamily(c.backend), otherFamily(c.source)
	case c.src.Addr().Is6():
		c.src = netip.AddrPortFrom(elsewhere(rng, c.src.Addr()), c.src.Port())
		if keepsClient {
			c.source = c.src
		}
	}
	return &c
}

// stage is how far a TCP connection has come.
type stage int

const (
	opened stage = iota
	answered
	established
	halfClosed
	closed
)

// move is a segment that one end may send next.
type move struct {
	likely      int
	fromBackend bool
	flags       packet.TCPFlags
	to          stage
}

// moves lists what may come next: the ways of RFC 9293, section 3.3.2, and
// what retransmission, impatience and confusion make of them.
func moves(s stage) []move {
	const syn, ack, fin, rst, psh = packet.SYN, packet.ACK, packet.FIN, packet.RST, packet.PSH
	switch s {
	case opened:
		return []move{
			{60, true, syn | ack, answered}, {15, false, syn, opened}, {4, true, rst | ack, closed},
			{4, false, ack, opened}, {4, false, rst, closed}, {4, false, fin | ack, halfClosed}, {2, true, syn, answered},
		}
	case answered:
		return []move{
			{60, false, ack, established}, {10, true, syn | ack, answered}, {5, false, syn, answered},
			{5, false, rst, closed}, {5, false, ack | psh, established}, {3, true, fin | ack, halfClosed},
		}
	case established:
		return []move{
			{30, false, ack | psh, established}, {30, true, ack | psh, established}, {10, false, ack, established},
			{10, true, ack, established}, {8, false, fin | ack, halfClosed}, {8, true, fin | ack, halfClosed},
			{3, false, rst, closed}, {3, true, rst | ack, closed}, {3, false, syn, established}, {1, true, syn | ack, established},
		}
	case halfClosed:
		return []move{
			{15, false, fin | ack, closed}, {15, true, fin | ack, closed}, {10, false, ack, halfClosed},
			{10, true, ack | psh, halfClosed}, {4, false, rst, closed}, {6, false, syn, halfClosed}, {2, true, rst, closed},
		}
	}
	return []move{
		{20, false, ack, closed}, {20, true, ack, closed}, {10, false, fin | ack, closed}, {10, true, fin | ack, closed},
		{30, false, syn, opened}, {3, false, syn | rst, closed}, {3, false, rst, closed},
	}
}

// next is the packet that comes next, as good as a real one. The connections of
// patient ends hardly ever close.
func (c *conversation) next(rng *rand.Rand, patient bool) packet.Packet {
	if c.protocol == lb.UDP {
		return c.packet(rng, chance(rng, 2) && c.answersPass(rng), 0)
	}
	m := c.nextMove(rng)
	if patient && m.to > established && c.stage <= established && !chance(rng, 30) {
		m = move{fromBackend: true, flags: packet.SYN | packet.ACK, to: answered}
		if c.stage != opened {
			m = move{flags: packet.ACK, to: established}
		}
	}
	if m.fromBackend && !c.answersPass(rng) { // the client's next packet is what is seen of it
		m.fromBackend, m.flags = false, m.flags&^packet.SYN
	}
	c.stage = m.to
	return c.packet(rng, m.fromBackend, m.flags)
}

func (c *conversation) nextMove(rng *rand.Rand) move {
	all := moves(c.stage)
	total := 0
	for _, m := range all {
		total += m.likely
	}
	n := rng.IntN(total)
	for _, m := range all {
		if n -= m.likely; n < 0 {
			return m
		}
	}
	panic("unreachable: n is below the total")
}

// answersPass reports whether the backend's next answer comes by; where it need
// not, now and then it does all the same.
func (c *conversation) answersPass(rng *rand.Rand) bool {
	return c.forward.Translates() || chance(rng, 20)
}

// packet is what one end sends to the other, or to who it thinks that is.
func (c *conversation) packet(rng *rand.Rand, fromBackend bool, flags packet.TCPFlags) packet.Packet {
	from, mac := c.ends, c.clientMAC
	if fromBackend {
		from, mac = c.answers(), randomMAC(rng)
	}
	p := packet.NewUDP(from.src, from.dst, "")
	if c.protocol == lb.TCP {
		p = packet.NewTCP(from.src, from.dst, flags, "")
		p.Seq, p.Ack = c.seq, c.ack
		c.seq, c.ack = c.ack, c.seq+1
	}
	p.SrcMAC, p.DstMAC = mac, localMAC()
	vary(rng, &p)
	if c.grows() && chance(rng, 12) { // what IPv6 cannot say
		p.IPOptions = []byte{looseRoute, 7, 4, 192, 0, 2, 1}
	}
	if chance(rng, 5) {
		p.Payload, p.DontFragment = randomBytes(rng, payloadAboutMTU(rng, p)), !chance(rng, 3)
	}
	if chance(rng, 200) || c.grows() && chance(rng, 7) {
		p.Payload, p.Trailer = randomBytes(rng, hugePayload(rng, p)), nil
	}
	return p
}

// grows reports whether its packets get another IP header, and may become too long.
func (c *conversation) grows() bool {
	return c.forward.Tunnels() || c.src.Addr().Is4() != c.backend.Addr().Is4()
}

// vary changes what must not matter, or not for where the packet goes.
func vary(rng *rand.Rand, p *packet.Packet) {
	p.TOS, p.ID, p.TTL = uint8(rng.Uint32()), uint16(rng.Uint32()), uint8(2+rng.IntN(254))
	if chance(rng, 10) {
		p.TTL = pick[uint8](rng, 0, 1, 1, 2)
	}
	p.FlowLabel = rng.Uint32()
	p.DontFragment = chance(rng, 2)
	if chance(rng, 10) {
		p.Trailer = randomBytes(rng, 1+rng.IntN(20))
	}
	if chance(rng, 5) {
		p.IPOptions = randomOptions(rng)
	}
	p.ReservedFlag = chance(rng, 50)
	if p.Protocol == lb.UDP {
		p.NoUDPChecksum = chance(rng, 10)
	} else {
		varyTCP(rng, p)
	}
	p.Payload = randomBytes(rng, payloadSize(rng))
}

func varyTCP(rng *rand.Rand, p *packet.Packet) {
	p.Window, p.Urgent = uint16(rng.Uint32()), uint16(rng.IntN(2))
	if chance(rng, 5) {
		p.TCPOptions = randomBytes(rng, 4*(1+rng.IntN(10)))
	}
	if p.Flags&packet.SYN != 0 && chance(rng, 2) {
		p.TCPOptions = randomTCPOptions(rng)
	}
	if chance(rng, 10) {
		p.Flags |= pick(rng, packet.ECE, packet.CWR, packet.URG, packet.PSH, 0x100)
	}
}

// randomTCPOptions are a SYN's (RFC 9293, section 3.2), now and then broken.
func randomTCPOptions(rng *rand.Rand) []byte {
	const end, none, segmentSize, windowScale, sackPermitted, timestamps = 0, 1, 2, 3, 4, 8
	var options []byte
	for range 1 + rng.IntN(4) {
		size := pick[uint16](rng, 1460, 1460, 1440, 536, 535, 1200, 8960, 0, 0xffff, uint16(rng.Uint32()))
		option := pick(rng, []byte{none}, []byte{none}, []byte{sackPermitted, 2}, []byte{windowScale, 3, 7},
			[]byte{timestamps, 10, 0, 0, 0, 1, 0, 0, 0, 0}, []byte{segmentSize, 3, byte(size)},
			[]byte{segmentSize, 4, byte(size >> 8), byte(size)}, []byte{segmentSize, 4, byte(size >> 8), byte(size)},
			[]byte{segmentSize, 4, byte(size >> 8), byte(size)})
		if chance(rng, 12) {
			option = []byte{pick[byte](rng, segmentSize, timestamps, end), pick[byte](rng, 0, 1, 4, 40, 255)}
		}
		options = append(options, option...)
	}
	return append(options, make([]byte, -len(options)&3)...)[:min((len(options)+3)&^3, 40)]
}

func payloadSize(rng *rand.Rand) int {
	switch n := rng.IntN(400); {
	case n < 150:
		return 0
	case n < 370:
		return rng.IntN(100)
	case n < 380: // about where IPv4 need not be fragmented any more
		return 1180 + rng.IntN(80)
	case n < 399:
		return rng.IntN(1461)
	}
	return rng.IntN(9000)
}

// hugePayload makes the packet as long as its length field can say, or so much
// shorter that another header just fits, or just does not.
func hugePayload(rng *rand.Rand, p packet.Packet) int {
	headers := headersOf(p)
	if p.Src.Addr().Is6() {
		headers -= l4At6 - ipAt
	}
	headroom := pick(rng, 0, 0, 0, 10, 20, 32, 40, 52, 60, 72, rng.IntN(100))
	return 65535 - headers - max(0, headroom+pick(rng, -1, 0, 0, 1))
}

// headersOf is how long the IP packet is without its payload.
func headersOf(p packet.Packet) int {
	p.Payload, p.Trailer = nil, nil
	return len(p.Frame()) - ipAt
}

// payloadAboutMTU makes the packet as long as some link allows, or so much longer or shorter
// that it just does not fit with other headers, or just does.
func payloadAboutMTU(rng *rand.Rand, p packet.Packet) int {
	size := pick(rng, usualMTUs()[1:]...) - pick(rng, 0, 0, -20, 20, 32, 40, 52) + pick(rng, -1, 0, 0, 1, 1)
	return max(0, size-headersOf(p))
}

// looseRoute is the option of a packet that is to go by way of others.
const looseRoute = 131

// randomOptions are IPv4 options (RFC 791, section 3.1), now and then broken.
func randomOptions(rng *rand.Rand) []byte {
	if chance(rng, 4) {
		return randomBytes(rng, 4*(1+rng.IntN(10)))
	}
	const end, none, recordRoute, timestamp, strictRoute, routerAlert = 0, 1, 7, 68, 137, 148
	var options []byte
	for range 1 + rng.IntN(3) {
		kind := pick[byte](rng, end, none, none, recordRoute, timestamp, looseRoute, looseRoute, strictRoute, routerAlert)
		if kind == end && chance(rng, 2) || kind == none {
			options = append(options, kind)
			continue
		}
		option := randomBytes(rng, 3+4*rng.IntN(3))
		length := byte(len(option))
		option[0], option[1], option[2] = kind, length, pick(rng, 4, 4, length, length+1, 0, byte(rng.Uint32()))
		if chance(rng, 8) {
			option[1] = pick(rng, 0, 1, 2, length+4, 255)
		}
		options = append(options, option...)
	}
	return options[:min(len(options), 40)]
}

// randomBytes costs the source of chance the same whatever the size.
func randomBytes(rng *rand.Rand, size int) []byte {
	if size == 0 {
		return nil
	}
	own := rand.NewPCG(rng.Uint64(), 0)
	b := make([]byte, 0, size+8)
	for len(b) < size {
		b = binary.LittleEndian.AppendUint64(b, own.Uint64())
	}
	return b[:size]
}

// zeroChecksum gives a packet the payload with which its checksum comes out as
// zero, or does after the packet has been sent on with other addresses.
func zeroChecksum(p packet.Packet, src, dst netip.AddrPort) packet.Packet {
	sent := p
	sent.Payload, sent.IPOptions, sent.Trailer, sent.NoUDPChecksum = []byte{0, 0}, nil, nil, false
	sent.Src, sent.Dst = src, dst
	frame := sent.Frame()
	at := len(frame) - 2 - 2 // of UDP
	if sent.Protocol == lb.TCP {
		at = len(frame) - 2 - len(sent.TCPOptions) - 4
	}
	p.NoUDPChecksum = false
	p.Payload = binary.BigEndian.AppendUint16(nil, binary.BigEndian.Uint16(frame[at:]))
	return p
}
