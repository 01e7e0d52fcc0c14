package diff

import (
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
	// ways has how every flow that ever was goes, by both of its ends.
	ways map[ends]way
	// line has fragments that come next, and firsts the ends of the datagrams whose first has come.
	line   [][]byte
	firsts map[string]ends
	opened map[netip.Addr]time.Time // when a client opened its last flow
	// orphans are those known whose backends a change took away, for a while.
	orphans []*conversation
	// left are the IP packets that have left of late.
	left [][]byte
}

// NewTraffic is traffic through a balancer.
func NewTraffic(rng *rand.Rand, port model.Options, w World) *Traffic {
	isSmall := w.Config.Limits.Flows <= 16 // such a table does get full
	return &Traffic{rng: rng, world: w, port: port, patient: chance(rng, 3) || isSmall && chance(rng, 2), now: start(), ways: map[ends]way{}, firsts: map[string]ends{}, opened: map[netip.Addr]time.Time{}}
}

// Next is what happens next.
func (t *Traffic) Next() Event {
	if chance(t.rng, 80) && (!t.patient || chance(t.rng, 4)) {
		w := t.world.changed(t.rng)
		if c := t.someone(); c != nil {
			w.orphan(t.rng, c.chosen)
		}
		return Event{After: t.pause(), World: &w}
	}
	if chance(t.rng, 200) {
		e := Event{After: t.pause(), Sweep: true}
		t.now = t.now.Add(max(e.After, 1))
		return e
	}
	e := Event{After: t.pause()}
	if c := t.someone(); c != nil && !t.patient && chance(t.rng, 100) {
		if wait := t.untilItsEnd(c); wait > 0 {
			e.After = wait
			e.Frame = c.packet(t.rng, chance(t.rng, 2) && c.answersPass(t.rng), pick(t.rng, packet.ACK, packet.SYN, packet.ACK|packet.PSH)).Frame()
		}
	}
	if c := t.someone(); c != nil && e.Frame == nil && chance(t.rng, 40) {
		if wait := t.untilItsAffinityEnds(c); wait > 0 {
			e.After, e.Frame = wait, t.another(c).Frame()
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
	case n < 1:
		return time.Duration(t.rng.Int64N(int64(3 * time.Hour)))
	case n < 4:
		return time.Duration(t.rng.Int64N(int64(5 * time.Minute)))
	case n < 20:
		return time.Duration(t.rng.Int64N(int64(3 * time.Second)))
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
	all := t.world.timeoutsOf(c)
	timeout := pick(t.rng, all.TCPUnconfirmed, all.TCPClosed, all.UDPUnconfirmed, all.UDPStream, all.TCPHalfClosed)
	if chance(t.rng, 10) {
		timeout = all.TCPEstablished
	}
	return c.seen.Add(timeout).Sub(t.now) + time.Duration(t.rng.IntN(2))
}

// untilItsAffinityEnds is how long it takes until a conversation's client keeps its backend no longer, or a
// nanosecond less. Not positive: it does not, or nobody knows.
func (t *Traffic) untilItsAffinityEnds(c *conversation) time.Duration {
	for _, s := range t.world.Config.Services {
		if last, known := t.opened[c.src.Addr()]; known && s.Affinity.Timeout > 0 && s.Address.Contains(c.dst) {
			return last.Add(s.Affinity.Timeout).Sub(t.now) - time.Duration(t.rng.IntN(2))
		}
	}
	return 0
}

// another is the first packet of another flow of a conversation's client.
func (t *Traffic) another(c *conversation) packet.Packet {
	next := *c
	next.src = netip.AddrPortFrom(c.src.Addr(), uint16(t.rng.Uint32()))
	return next.packet(t.rng, false, packet.SYN)
}

// timeoutsOf are those of a conversation's service, or some service with its VIP.
func (w World) timeoutsOf(c *conversation) lb.Timeouts {
	for _, s := range w.Config.Services {
		if own := s.Timeouts; own != (lb.Timeouts{}) && s.Address.Contains(c.dst) {
			return own
		}
	}
	return w.Config.Timeouts
}

func (t *Traffic) someone() *conversation {
	if len(t.orphans) > 0 && chance(t.rng, 2) {
		if chance(t.rng, 70) {
			t.orphans = nil
			return nil
		}
		return pick(t.rng, t.orphans...)
	}
	if len(t.known) == 0 {
		return nil
	}
	// mostly one of the latest: connections get somewhere before they are forgotten
	return pick(t.rng, t.known[max(0, len(t.known)-pick(t.rng, 6, 20, maxConversations)):]...)
}

func (t *Traffic) frame() []byte {
	if len(t.line) == 0 && chance(t.rng, 12) || chance(t.rng, 100) {
		t.fragmented()
	}
	if len(t.line) > 0 && !chance(t.rng, 4) {
		frame := t.line[0]
		t.line = t.line[1:]
		return frame
	}
	if chance(t.rng, 60) {
		return t.noIP()
	}
	frame := t.packet()
	if chance(t.rng, 40) {
		frame = t.question()
	} else if isIPv6(frame) && chance(t.rng, 8) {
		frame = extended(t.rng, frame)
	}
	switch {
	case chance(t.rng, 6):
		frame = inVLAN(t.rng, frame)
	case chance(t.rng, 12):
		frame = tagged(t.rng, frame, pick(t.rng, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5))
	}
	return frame
}

func (t *Traffic) packet() []byte {
	switch n := t.rng.IntN(100); {
	case n < 2:
		return t.notForAService().Frame()
	case n < 3, n > 91:
		return t.icmp()
	case n < 11:
		return damaged(t.rng, t.forAService().Frame())
	case n < 21:
		return flawed(t.rng, t.forAService().Frame())
	case n < 23:
		return wrongChecksum(t.rng, t.forAService().Frame())
	case n < 31:
		return t.forAService().PartialFrame()
	case n < 32:
		p := t.forAService()
		p.DstMAC = pick(t.rng, randomMAC(t.rng), lb.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, lb.MAC{1, 0, 0x5e, 0, 0, 1})
		return p.Frame()
	case n < 33: // gone around too long, sent to many or by nobody, and yet for a service
		p := t.opening()
		p.TTL, p.DstMAC = 1, pick(t.rng, localMAC(), lb.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		return p.Frame()
	}
	return t.forAService().Frame()
}

// forAService is a packet of a conversation, or one that opens one.
func (t *Traffic) forAService() packet.Packet { return t.named(t.nextForAService()) }

func (t *Traffic) nextForAService() packet.Packet {
	c := t.someone()
	if c == nil || chance(t.rng, 4) {
		return t.opening()
	}
	if chance(t.rng, 25) {
		return c.lookalike(t.rng).next(t.rng, t.patient)
	}
	p := c.next(t.rng, t.patient)
	if chance(t.rng, 30) { // the client comes by another way now
		c.clientMAC = randomMAC(t.rng)
	}
	if !chance(t.rng, 60) {
		return p
	}
	switch {
	case !c.forward.Translates():
		return zeroChecksum(p, p.Src, p.Dst)
	case p.Src == c.src:
		return zeroChecksum(p, c.source, c.backend)
	}
	return zeroChecksum(p, c.dst, c.src)
}

func (t *Traffic) opening() packet.Packet {
	s := pick(t.rng, t.world.Config.Services...)
	c := conversation{
		ends:      ends{pick(t.rng, s.Protocols...), t.clientOf(s), t.randomDestination(s.Address)},
		forward:   s.Forward,
		clientMAC: randomMAC(t.rng), seq: t.rng.Uint32(), ack: t.rng.Uint32(),
	}
	if mayAnswerItself(s) && chance(t.rng, 4) {
		c.src, c.dst = t.asItself(s)
	}
	flags := packet.SYN
	if chance(t.rng, 4) { // of a connection that others have, or had
		const syn, ack, fin, rst, psh = packet.SYN, packet.ACK, packet.FIN, packet.RST, packet.PSH
		flags = pick(t.rng, ack, ack|psh, syn|ack, fin|ack, fin, rst, rst|ack, syn|fin, packet.TCPFlags(t.rng.Uint32()&0xff))
	}
	return c.packet(t.rng, false, flags)
}

// asItself is a backend as a client of its own service, to what its answers could go to.
func (t *Traffic) asItself(s lb.Service) (src, dst netip.AddrPort) {
	first := max(s.Address.Ports.First, s.SNAT.Ports.First)
	last := min(s.Address.Ports.Last, s.SNAT.Ports.Last)
	dst = netip.AddrPortFrom(s.Address.Addr, first+uint16(t.rng.IntN(min(int(last-first)+1, 4))))
	src = pick(t.rng, s.Backends...).Address
	if familyOf(src.Addr()) != familyOf(dst.Addr()) { // it has no address for that
		src = t.clientOf(s)
	}
	if src.Port() == 0 {
		src = netip.AddrPortFrom(src.Addr(), dst.Port())
	}
	return src, dst
}

// randomDestination has one of the first ports of a VIP, or a later one.
func (t *Traffic) randomDestination(v lb.VIP) netip.AddrPort {
	size := v.Ports.Size()
	offset := pick(t.rng, 0, t.rng.IntN(min(size, 8)), size-1, t.rng.IntN(size))
	port := v.Ports.First + uint16(offset)
	if usual := pick[uint16](t.rng, 53, 80, 443, 1026); v.Ports.Contains(usual) && chance(t.rng, 2) {
		port = usual
	}
	return netip.AddrPortFrom(v.Addr, port)
}

// clientOf is anyone; of services where it matters often one near to a backend.
func (t *Traffic) clientOf(s lb.Service) netip.AddrPort {
	if s.Forward != lb.ForwardDNAT || !chance(t.rng, 2) {
		return t.randomClient(clients(s))
	}
	return netip.AddrPortFrom(clients(s).address(10, 0, 0, 2+t.rng.IntN(60)), uint16(t.rng.Uint32()))
}

// randomClient is one of a few, or anyone, or a backend, or on a link with one.
func (t *Traffic) randomClient(f family) netip.AddrPort {
	port := pick[uint16](t.rng, 1024, 40000, 65535)
	switch n := t.rng.IntN(40); {
	case n < 4:
		word := t.rng.Uint32()
		return netip.AddrPortFrom(f.address(1+int(word>>24)%223, int(word>>16), int(word>>8), int(word)), uint16(t.rng.Uint32()))
	case n < 7:
		return netip.AddrPortFrom(f.backendAddress(t.rng), pick[uint16](t.rng, 53, 80, 8080))
	case n < 12:
		return netip.AddrPortFrom(f.address(10, 0, 0, 9+t.rng.IntN(60)), port)
	case n < 13:
		return netip.AddrPortFrom(f.noHost(t.rng), port)
	case n < 16:
		return oftenClient(f)
	case n < 17:
		return netip.AddrPortFrom(f.vipAddress(t.rng), pick[uint16](t.rng, 53, 80, 1026))
	}
	return netip.AddrPortFrom(f.address(198, 51, 100, t.rng.IntN(60)), port)
}

func (t *Traffic) notForAService() packet.Packet {
	s := pick(t.rng, t.world.Config.Services...)
	f, vip := clients(s), s.Address.Addr
	client := t.randomClient(f)
	p := packet.NewUDP(client, netip.AddrPortFrom(vip, 5353), "x")
	switch t.rng.IntN(6) {
	case 0: // someone else's
		p = packet.NewTCP(client, netip.AddrPortFrom(f.address(192, 0, 2, t.rng.IntN(256)), 80), packet.SYN, "x")
	case 1: // perhaps another port of the VIP
		p = packet.NewTCP(client, netip.AddrPortFrom(vip, 22), packet.SYN, "x")
	case 2:
		p = packet.NewEcho(client.Addr(), vip, 1, 2, "ping")
	case 3: // the host's own address
		p = packet.NewUDP(client, netip.AddrPortFrom(f.hostAddress(), uint16(t.rng.Uint32())), "x")
	case 4: // an answer to nobody
		backend := netip.AddrPortFrom(f.backendAddress(t.rng), 80)
		p = packet.NewTCP(backend, pick(t.rng, client, netip.AddrPortFrom(f.hostAddress(), 1030)), packet.ACK, "x")
	}
	p.SrcMAC, p.DstMAC = randomMAC(t.rng), localMAC()
	return p
}

func (t *Traffic) noIP() []byte {
	switch t.rng.IntN(3) {
	case 0: // garbage
		return randomBytes(t.rng, 14+t.rng.IntN(100))
	case 1: // the beginning of a tag
		return tagged(t.rng, t.forAService().Frame(), 5)[:14+t.rng.IntN(20)]
	}
	local := localMAC()
	const arp = 0x0806
	frame := append(append(append([]byte{}, local[:]...), 2, 1, 0, 0, 0, 1), arp>>8, arp&0xff)
	return append(frame, randomBytes(t.rng, 28)...)
}

// Changed tells that the world has changed.
func (t *Traffic) Changed(w World) {
	t.world = w
	isGone := func(c *conversation) bool {
		return !slices.ContainsFunc(w.Config.Services, func(s lb.Service) bool { return hasBackend(s, c.chosen) })
	}
	t.orphans = slices.DeleteFunc(slices.Clone(t.known), func(c *conversation) bool {
		return !isGone(c) && w.Hops[c.chosen.Addr()].Usable()
	})
	if chance(t.rng, 2) && slices.ContainsFunc(t.orphans, isGone) { // rarer than those cut off
		t.orphans = slices.DeleteFunc(t.orphans, func(c *conversation) bool { return c.protocol == lb.UDP || !isGone(c) })
	}
}

// Saw tells what became of the event's frame.
func (t *Traffic) Saw(e Event, got model.Outcome) {
	t.remember(got)
	from, ok := readEnds(e.Frame)
	if !ok {
		return
	}
	i := slices.IndexFunc(t.known, func(c *conversation) bool { return c.carried(from) })
	switch {
	case got.Reason == model.NewFlow, got.Reason == model.NewFlowSNAT:
		t.meet(from, lb.MAC(e.Frame[6:12]), got)
	case i < 0:
	case got.Reason == model.Forwarded, got.Reason == model.Reply:
		t.known[i].seen = t.now
	case (got.Reason == model.NotOurs || got.Reason == model.NoFlow) && (t.known[i].forward.Translates() || from == t.known[i].ends):
		t.known = slices.Delete(t.known, i, i+1) // it has ended
	}
}

// meet remembers a new flow.
func (t *Traffic) meet(from ends, mac lb.MAC, got model.Outcome) {
	c := &conversation{ends: from, clientMAC: mac, seen: t.now, seq: t.rng.Uint32(), ack: t.rng.Uint32()}
	t.opened[from.src.Addr()] = t.now
	s, b := t.world.named(got)
	c.forward, c.chosen, c.source, c.backend = s.Forward, b.Address, from.src, b.Address
	if b.Address.Port() == 0 {
		c.backend = netip.AddrPortFrom(b.Address.Addr(), from.dst.Port())
	}
	if c.forward.Translates() {
		out, ok := readEnds(got.Frame)
		if !ok {
			return
		}
		c.source = out.src
	}
	if c.source.Addr().Is4() != c.backend.Addr().Is4() { // there is nothing that such a backend could answer
		c.backend = c.dst
	}
	t.known = slices.DeleteFunc(t.known, func(o *conversation) bool { return o.ends == c.ends || o.answers() == c.answers() })
	if len(t.known) == maxConversations {
		t.known = slices.Delete(t.known, 0, 1+t.rng.IntN(maxConversations/2))
	}
	t.known = append(t.known, c)
}

// named are the service and the backend that an outcome names; zero: they are not there.
func (w World) named(got model.Outcome) (lb.Service, lb.Backend) {
	for _, s := range w.Config.Services {
		if s.Name != got.Service {
			continue
		}
		for _, b := range s.Backends {
			if b.Label() == got.Backend {
				return s, b
			}
		}
		return s, lb.Backend{}
	}
	return lb.Service{}, lb.Backend{}
}
