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
	protocol        lb.Protocol
	client, vip     netip.AddrPort
	clientMAC       lb.MAC
	backend, source netip.AddrPort // as read from its first packet that left
	seen            time.Time
	stage           stage
	seq, ack        uint32
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
		return c.packet(rng, chance(rng, 2), 0)
	}
	all := moves(c.stage)
	total := 0
	for _, m := range all {
		total += m.likely
	}
	n := rng.IntN(total)
	for _, m := range all {
		if n -= m.likely; n < 0 {
			if patient && m.to > established && c.stage <= established && !chance(rng, 30) {
				m = move{fromBackend: true, flags: packet.SYN | packet.ACK, to: answered}
				if c.stage != opened {
					m = move{flags: packet.ACK, to: established}
				}
			}
			c.stage = m.to
			return c.packet(rng, m.fromBackend, m.flags)
		}
	}
	panic("unreachable: n is below the total")
}

// packet is what one end sends to the other, or to who it thinks that is.
func (c *conversation) packet(rng *rand.Rand, fromBackend bool, flags packet.TCPFlags) packet.Packet {
	src, dst, mac := c.client, c.vip, c.clientMAC
	if fromBackend {
		src, dst, mac = c.backend, c.source, randomMAC(rng)
	}
	p := packet.NewUDP(src, dst, "")
	if c.protocol == lb.TCP {
		p = packet.NewTCP(src, dst, flags, "")
		p.Seq, p.Ack = c.seq, c.ack
		c.seq, c.ack = c.ack, c.seq+1
	}
	p.SrcMAC, p.DstMAC = mac, localMAC()
	vary(rng, &p)
	return p
}

// vary changes what must not matter.
func vary(rng *rand.Rand, p *packet.Packet) {
	p.TOS, p.ID, p.TTL = uint8(rng.Uint32()), uint16(rng.Uint32()), uint8(2+rng.IntN(254))
	p.DontFragment = chance(rng, 2)
	p.Payload = randomBytes(rng, payloadSize(rng))
	if chance(rng, 10) {
		p.Trailer = randomBytes(rng, 1+rng.IntN(20))
	}
	if chance(rng, 20) {
		p.IPOptions = randomBytes(rng, 4*(1+rng.IntN(10)))
	}
	p.ReservedFlag = chance(rng, 50)
	if p.Protocol == lb.UDP {
		p.NoUDPChecksum = chance(rng, 10)
		return
	}
	p.Window, p.Urgent = uint16(rng.Uint32()), uint16(rng.IntN(2))
	if chance(rng, 5) {
		p.TCPOptions = randomBytes(rng, 4*(1+rng.IntN(10)))
	}
	if chance(rng, 10) {
		p.Flags |= pick(rng, packet.ECE, packet.CWR, packet.URG, packet.PSH, 0x100)
	}
}

func payloadSize(rng *rand.Rand) int {
	switch n := rng.IntN(400); {
	case n < 150:
		return 0
	case n < 380:
		return rng.IntN(100)
	case n < 399:
		return rng.IntN(1461)
	}
	return rng.IntN(9000)
}

// randomBytes costs the source of chance the same whatever the size.
func randomBytes(rng *rand.Rand, size int) []byte {
	if size == 0 {
		return nil
	}
	own := rand.New(rand.NewPCG(rng.Uint64(), 0))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(own.Uint32())
	}
	return b
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
