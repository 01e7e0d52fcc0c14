package diff

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/model"
	"github.com/tinylb/tinylb/internal/packet"
)

// maxConversations bounds how many flows the traffic remembers; beyond, it
// forgets some, which end by their timeouts.
const maxConversations = 150

// Traffic makes up what happens next, from a source of chance and from what
// became of the packets before.
type Traffic struct {
	rng     *rand.Rand
	world   World
	port    model.Options
	patient bool // connections last, so that tables and pools get full for good
	now     time.Time
	known   []*conversation
}

// NewTraffic is traffic through a balancer.
func NewTraffic(rng *rand.Rand, port model.Options, w World) *Traffic {
	return &Traffic{rng: rng, world: w, port: port, patient: chance(rng, 2), now: start()}
}

// Next is what happens next.
func (t *Traffic) Next() Event {
	if chance(t.rng, 150) && (!t.patient || chance(t.rng, 4)) {
		w := t.world.changed(t.rng)
		return Event{After: t.pause(), World: &w}
	}
	e := Event{After: t.pause()}
	if c := t.someone(); c != nil && !t.patient && chance(t.rng, 100) {
		if wait := t.untilItsEnd(c); wait > 0 {
			e.After = wait
			e.Frame = c.packet(t.rng, chance(t.rng, 2), pick(t.rng, packet.ACK, packet.SYN, packet.ACK|packet.PSH)).Frame()
		}
	}
	if e.Frame == nil {
		e.Frame = t.frame()
	}
	t.now = t.now.Add(max(e.After, 1))
	return e
}

// pause is how long nothing happens: mostly some milliseconds.
func (t *Traffic) pause() time.Duration {
	switch n := t.rng.IntN(2000); {
	case t.patient && n < 25 && !chance(t.rng, 40):
		return time.Duration(t.rng.Int64N(int64(100 * time.Millisecond)))
	case n < 20:
		return time.Duration(t.rng.Int64N(int64(3 * time.Second)))
	case n < 19:
		return time.Duration(t.rng.Int64N(int64(5 * time.Minute)))
	case n < 16:
		return time.Duration(t.rng.Int64N(int64(3 * time.Hour)))
	case n < 100:
		return 1
	case n < 400: // less than searches are remembered
		return time.Duration(t.rng.Int64N(int64(20 * time.Microsecond)))
	}
	return time.Duration(t.rng.Int64N(int64(10 * time.Millisecond)))
}

// untilItsEnd is how long it takes until one of the timeouts is over for a
// conversation, or a nanosecond more. Not positive: it is over already.
func (t *Traffic) untilItsEnd(c *conversation) time.Duration {
	all := t.world.Config.Timeouts
	timeout := pick(t.rng, all.TCPUnconfirmed, all.TCPClosed, all.UDPUnconfirmed, all.UDPStream, all.TCPHalfClosed)
	if chance(t.rng, 10) {
		timeout = all.TCPEstablished
	}
	return c.seen.Add(timeout).Sub(t.now) + time.Duration(t.rng.IntN(2))
}

func (t *Traffic) someone() *conversation {
	if len(t.known) == 0 {
		return nil
	}
	// mostly one of the latest: connections get somewhere before they are forgotten
	return pick(t.rng, t.known[max(0, len(t.known)-pick(t.rng, 6, 20, maxConversations)):]...)
}

func (t *Traffic) frame() []byte {
	if chance(t.rng, 40) {
		return t.noIP()
	}
	frame := t.packet()
	if t.world.Family == ipv6 && chance(t.rng, 10) {
		frame = extended(t.rng, frame)
	}
	if chance(t.rng, 10) {
		frame = tagged(t.rng, frame)
	}
	return frame
}

func (t *Traffic) packet() []byte {
	switch n := t.rng.IntN(100); {
	case n < 3:
		return t.notForAService().Frame()
	case n < 16:
		return damaged(t.rng, t.forAService().Frame())
	case n < 19:
		return wrongChecksum(t.rng, t.forAService().Frame())
	case n < 27:
		return t.forAService().PartialFrame()
	case n < 28 && t.port.MAC != lb.MAC{}:
		p := t.forAService()
		p.DstMAC = pick(t.rng, randomMAC(t.rng), lb.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		return p.Frame()
	}
	return t.forAService().Frame()
}

// forAService is a packet of a conversation, or one that opens one.
func (t *Traffic) forAService() packet.Packet {
	c := t.someone()
	if c == nil || chance(t.rng, 4) {
		return t.opening()
	}
	p := c.next(t.rng, t.patient)
	if chance(t.rng, 30) { // the client comes by another way now
		c.clientMAC = randomMAC(t.rng)
	}
	if chance(t.rng, 60) {
		if p.Src == c.client {
			return zeroChecksum(p, pick(t.rng, p.Src, c.source), c.backend)
		}
		return zeroChecksum(p, c.vip, c.client)
	}
	return p
}

func (t *Traffic) opening() packet.Packet {
	s := pick(t.rng, t.world.Config.Services...)
	c := conversation{protocol: pick(t.rng, s.Protocols...), client: t.randomClient(), vip: s.Address, clientMAC: randomMAC(t.rng)}
	flags := packet.SYN
	if chance(t.rng, 15) {
		flags = packet.TCPFlags(t.rng.Uint32() & 0xff)
	}
	return c.packet(t.rng, false, flags)
}

// randomClient is one of a few, or anyone, or a backend.
func (t *Traffic) randomClient() netip.AddrPort {
	switch t.rng.IntN(10) {
	case 0:
		word := t.rng.Uint32()
		return netip.AddrPortFrom(t.world.Family.address(1+int(word>>24)%223, int(word>>16), int(word>>8), int(word)), uint16(t.rng.Uint32()))
	case 1:
		return t.world.Family.randomBackendAddress(t.rng)
	}
	return netip.AddrPortFrom(t.world.Family.address(198, 51, 100, t.rng.IntN(60)), pick[uint16](t.rng, 1024, 40000, 65535))
}

func (t *Traffic) notForAService() packet.Packet {
	client := t.randomClient()
	var p packet.Packet
	switch s := pick(t.rng, t.world.Config.Services...); t.rng.IntN(6) {
	case 0: // someone else's
		p = packet.NewTCP(client, netip.AddrPortFrom(t.world.Family.address(192, 0, 2, t.rng.IntN(256)), 80), packet.SYN, "x")
	case 1: // another port of the VIP
		p = packet.NewTCP(client, netip.AddrPortFrom(s.Address.Addr(), 22), packet.SYN, "x")
	case 2:
		p = packet.NewEcho(client.Addr(), s.Address.Addr(), 1, 2, "ping")
	case 3: // the host's own address
		p = packet.NewUDP(client, netip.AddrPortFrom(t.world.Family.address(10, 0, 0, 1), uint16(t.rng.Uint32())), "x")
	case 4: // an answer to nobody
		p = packet.NewTCP(t.world.Family.randomBackendAddress(t.rng), netip.AddrPortFrom(t.world.Family.address(10, 0, 0, 1), 1030), packet.ACK, "x")
	default:
		p = packet.NewUDP(client, netip.AddrPortFrom(s.Address.Addr(), 5353), "x")
	}
	p.SrcMAC, p.DstMAC = randomMAC(t.rng), localMAC()
	return p
}

func (t *Traffic) noIP() []byte {
	switch t.rng.IntN(3) {
	case 0: // garbage
		return randomBytes(t.rng, 14+t.rng.IntN(100))
	case 1: // a tag too many, or the beginning of one
		return tagged(t.rng, tagged(t.rng, tagged(t.rng, t.forAService().Frame())))[:14+t.rng.IntN(12)]
	}
	local := localMAC()
	const arp = 0x0806
	frame := append(append(append([]byte{}, local[:]...), 2, 1, 0, 0, 0, 1), arp>>8, arp&0xff)
	return append(frame, randomBytes(t.rng, 28)...)
}

// Changed tells that the world has changed.
func (t *Traffic) Changed(w World) { t.world = w }

// Saw tells what became of the event's frame.
func (t *Traffic) Saw(e Event, got model.Outcome) {
	i := slices.IndexFunc(t.known, func(c *conversation) bool { return c.carried(e.Frame) })
	switch {
	case got.Reason == model.NewFlow:
		t.meet(e.Frame, got.Frame)
	case i < 0:
	case got.Reason == model.Forwarded, got.Reason == model.Reply:
		t.known[i].seen = t.now
	case got.Reason == model.NotOurs, got.Reason == model.NoFlow:
		t.known = slices.Delete(t.known, i, i+1) // it has ended
	}
}

// meet remembers a new flow.
func (t *Traffic) meet(in, out []byte) {
	before, err := packet.Read(in)
	if err != nil {
		return // UDP with bytes behind it: a flow all the same, but nobody's who goes on
	}
	after, err := packet.Read(out)
	if err != nil {
		return
	}
	c := &conversation{
		protocol: before.Protocol, client: before.Src, vip: before.Dst, clientMAC: before.SrcMAC,
		backend: after.Dst, source: after.Src, seen: t.now, seq: before.Seq,
	}
	t.known = slices.DeleteFunc(t.known, func(o *conversation) bool {
		return o.protocol == c.protocol && (o.client == c.client && o.vip == c.vip || o.backend == c.backend && o.source == c.source)
	})
	if len(t.known) == maxConversations {
		t.known = slices.Delete(t.known, 0, 1+t.rng.IntN(maxConversations/2))
	}
	t.known = append(t.known, c)
}

// carried reports whether a frame was one of the conversation's.
func (c *conversation) carried(frame []byte) bool {
	if len(frame) < l4At {
		return false
	}
	l4, protocol, srcAt, size := ipAt+int(frame[ipAt]&0xf)*4, frame[protocolAt], ipAt+12, 4
	if c.vip.Addr().Is6() {
		l4, protocol, srcAt, size = l4At6, frame[nextHeaderAt], ipAt+8, 16
	}
	if len(frame) < max(l4, srcAt+2*size)+4 || lb.Protocol(protocol) != c.protocol {
		return false
	}
	end := func(address, port int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(frame[address : address+size])
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(frame[port:]))
	}
	src, dst := end(srcAt, l4), end(srcAt+size, l4+2)
	return src == c.client && dst == c.vip || src == c.backend && dst == c.source
}
