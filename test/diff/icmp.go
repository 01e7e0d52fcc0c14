package diff

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/model"
	"github.com/tinylb/tinylb/internal/packet"
)

// maxLeft bounds how many packets that have left are remembered: errors come soon.
const maxLeft = 40

// remember keeps what has left, for errors about it.
func (t *Traffic) remember(got model.Outcome) {
	if got.Verdict != model.TX && got.Verdict != model.Redirect {
		return
	}
	if ip := ipPacket(got.Frame); ip != nil {
		t.left = append(t.left, ip)
		t.left = t.left[max(0, len(t.left)-maxLeft):]
	}
}

// ipPacket is what a frame carries behind its tags; nil: it is not IP.
func ipPacket(frame []byte) []byte {
	at := typeAt
	for len(frame) >= at+2 && isTag(binary.BigEndian.Uint16(frame[at:])) {
		at += 4
	}
	if len(frame) < at+2+l4At-ipAt {
		return nil
	}
	switch ip := frame[at+2:]; binary.BigEndian.Uint16(frame[at:]) {
	case packet.EtherTypeIPv4:
		return ip[:min(len(ip), int(binary.BigEndian.Uint16(ip[2:])))]
	case packet.EtherTypeIPv6:
		return ip[:min(len(ip), 40+int(binary.BigEndian.Uint16(ip[4:])))]
	}
	return nil
}

// endsOf are the addresses of an IP packet.
func endsOf(ip []byte) (src, dst netip.Addr) {
	if ip[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
	}
	return netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
}

// longestQuote leaves room for headers, with options, of an error about an error.
const longestQuote = 65000

// icmp is a message: an error about what has left, mostly.
func (t *Traffic) icmp() []byte {
	if chance(t.rng, 6) {
		return t.echo()
	}
	about := t.answerPastUs()
	if about == nil || len(t.left) > 0 && chance(t.rng, 3) {
		if len(t.left) == 0 {
			return t.echo()
		}
		about = pick(t.rng, t.left...)
	}
	frame := t.errorAbout(about)
	if chance(t.rng, 12) {
		frame = damaged(t.rng, frame)
	}
	return frame
}

// answerPastUs is what a client got from a backend, whether it came by or not; nil:
// nobody is known.
func (t *Traffic) answerPastUs() []byte {
	c := t.someone()
	if c == nil && len(t.world.Config.Services) > 0 && chance(t.rng, 2) { // of another node's flow
		s := pick(t.rng, t.world.Config.Services...)
		c = &conversation{ends: ends{pick(t.rng, s.Protocols...), t.clientOf(s), t.randomDestination(s.Address)}}
	}
	if c == nil {
		return nil
	}
	from, to := c.dst, c.src
	if chance(t.rng, 20) { // the wrong way round
		from, to = to, from
	}
	p := packet.NewUDP(from, to, "answer")
	if c.protocol == lb.TCP {
		p = packet.NewTCP(from, to, packet.ACK, "answer")
	}
	vary(t.rng, &p)
	return ipPacket(p.Frame())
}

// echo is a request, or, now and then, something else that is no error.
func (t *Traffic) echo() []byte {
	s := pick(t.rng, t.world.Config.Services...)
	client := t.randomClient(clients(s)).Addr()
	p := packet.NewEcho(client, s.Address.Addr, uint16(t.rng.Uint32()), uint16(t.rng.Uint32()), "")
	if chance(t.rng, 12) {
		p.ICMPCode = uint8(t.rng.IntN(3))
	}
	if chance(t.rng, 12) {
		p.ICMPType = uint8(t.rng.Uint32())
	}
	p.SrcMAC, p.DstMAC = randomMAC(t.rng), localMAC()
	t.varyICMP(&p)
	p.Payload = randomBytes(t.rng, pick(t.rng, 0, 1, 56, 57, 1400, t.rng.IntN(100), t.rng.IntN(9000)))
	if chance(t.rng, 30) {
		p.DstMAC = lb.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	}
	if chance(t.rng, 40) {
		p.Src = p.Dst
	}
	frame := p.Frame()
	if chance(t.rng, 20) {
		frame = damaged(t.rng, frame)
	}
	return frame
}

func (t *Traffic) varyICMP(p *packet.Packet) {
	p.TOS, p.ID, p.TTL = uint8(t.rng.Uint32()), uint16(t.rng.Uint32()), uint8(2+t.rng.IntN(254))
	if chance(t.rng, 15) {
		p.TTL = pick[uint8](t.rng, 0, 1, 2)
	}
	p.DontFragment = chance(t.rng, 2)
	if chance(t.rng, 8) {
		p.Trailer = randomBytes(t.rng, 1+t.rng.IntN(20))
	}
	if chance(t.rng, 12) {
		p.IPOptions = randomOptions(t.rng)
	}
}

// errorAbout is what a router, or the end of the way, says about a packet.
func (t *Traffic) errorAbout(ip []byte) []byte {
	src, dst := endsOf(ip)
	f := familyOf(src)
	p := packet.Packet{
		SrcMAC: randomMAC(t.rng), DstMAC: localMAC(), Protocol: packet.ICMP,
		Src:     netip.AddrPortFrom(pick(t.rng, dst, dst, f.address(192, 0, 2, t.rng.IntN(256)), f.backendAddress(t.rng)), 0),
		Dst:     netip.AddrPortFrom(src, 0),
		Payload: t.quote(ip),
	}
	t.varyICMP(&p)
	if f == ipv6 {
		p.Protocol = packet.ICMPv6
	}
	p.ICMPType, p.ICMPCode = t.errorKind(f)
	p.ICMPRest = t.errorRest(f)
	switch t.rng.IntN(40) {
	case 0:
		p.Dst = netip.AddrPortFrom(f.vipAddress(t.rng), 0) // somebody else's packet
	case 1:
		p.Src = netip.AddrPortFrom(f.noHost(t.rng), 0)
	case 2:
		p.DstMAC = pick(t.rng, randomMAC(t.rng), lb.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	}
	frame := p.Frame()
	if chance(t.rng, 20) {
		frame[len(frame)-len(p.Trailer)-len(p.Payload)-6] ^= 1 << t.rng.IntN(8) // the checksum
	}
	return frame
}

func (t *Traffic) errorKind(f family) (kind, code uint8) {
	if chance(t.rng, 15) {
		return uint8(t.rng.IntN(20)), uint8(t.rng.IntN(20))
	}
	if f == ipv4 {
		kind = pick[uint8](t.rng, 3, 3, 3, 11, 12)
		return kind, pick(t.rng, 0, 1, 3, 4, 4, 4, uint8(t.rng.IntN(17)))
	}
	kind = pick[uint8](t.rng, 1, 2, 2, 3, 4)
	return kind, pick(t.rng, 0, 0, 1, 4, uint8(t.rng.IntN(8)))
}

// errorRest is an MTU, a pointer, a length, or nothing.
func (t *Traffic) errorRest(f family) uint32 {
	mtu := pick[uint32](t.rng, 0, 68, 576, 1259, 1260, 1279, 1280, 1281, 1300, 1400, 1480, 1492, 1500, 9000, 65515, 65516, 65535, t.rng.Uint32()>>16)
	switch n := t.rng.IntN(20); {
	case n < 10:
		return mtu
	case n < 14 && f == ipv4:
		return uint32(t.rng.IntN(45)) << 24
	case n < 14:
		return uint32(t.rng.IntN(50))
	case n < 16: // RFC 4884
		return uint32(t.rng.IntN(40)) << pick(t.rng, 16, 24)
	case n < 17:
		return t.rng.Uint32()
	}
	return 0
}

// quote is as much of a packet as an error has of it, and sometimes more.
func (t *Traffic) quote(ip []byte) []byte {
	header := 20
	if ip[0]>>4 == 6 {
		header = 40
	} else if ip[0]&0xf > 5 {
		header = 4 * int(ip[0]&0xf)
	}
	size := pick(t.rng, header+8, header+8, header+8, header+20, header+t.rng.IntN(40), 128, 528, 548, 1232, len(ip), t.rng.IntN(len(ip)+1))
	quote := slices.Clone(ip[:min(size, len(ip), longestQuote)])
	switch t.rng.IntN(25) {
	case 0: // it was cut to what is quoted
		if len(quote) > header {
			lengthAt, length := 2, len(quote)
			if header == 40 {
				lengthAt, length = 4, len(quote)-header
			}
			binary.BigEndian.PutUint16(quote[lengthAt:], uint16(length))
		}
	case 1: // extensions, or what somebody left there
		quote = append(quote, randomBytes(t.rng, 1+t.rng.IntN(200))...)
	case 2:
		if len(quote) > 0 {
			quote[t.rng.IntN(min(len(quote), header+20))] ^= 1 << t.rng.IntN(8)
		}
	case 3: // a fragment
		if header != 40 && len(quote) >= 20 {
			binary.BigEndian.PutUint16(quote[6:], pick[uint16](t.rng, 0x2000, 0x2001, 1, 0x1fff))
		}
	case 4: // the header's checksum as the router had not corrected it
		if header != 40 && len(quote) >= 20 {
			binary.BigEndian.PutUint16(quote[10:], pick(t.rng, 0, 0xffff, uint16(t.rng.Uint32())))
		}
	case 5: // an error about an error
		if again := t.errorAboutQuote(ip); again != nil {
			return again
		}
	case 6:
		if header == 40 && len(quote) >= 48 {
			quote = extendedQuote(t.rng, quote)
		}
	}
	return quote
}

// errorAboutQuote is an error about a packet as a packet itself.
func (t *Traffic) errorAboutQuote(ip []byte) []byte {
	if chance(t.rng, 2) {
		return ipPacket(t.errorAbout(ip))
	}
	return nil
}

// extendedQuote is a quoted IPv6 packet with extension headers.
func extendedQuote(rng *rand.Rand, ip []byte) []byte {
	frame := slices.Concat(make([]byte, typeAt), []byte{0x86, 0xdd}, ip)
	return extended(rng, frame)[ipAt:]
}

// readQuotedEnds finds who the packet that an ICMP message is about was from and for;
// false: it is about none.
func readQuotedEnds(frame []byte) (ends, bool) {
	ip := ipPacket(frame)
	if ip == nil {
		return ends{}, false
	}
	at, protocol, etherType := 4*int(ip[0]&0xf), ip[9], packet.EtherTypeIPv4
	if ip[0]>>4 == 6 {
		at, protocol, etherType = 40, ip[6], packet.EtherTypeIPv6
	}
	for isExtension(protocol) && len(ip) >= at+8 && etherType == packet.EtherTypeIPv6 {
		size := 8 * (1 + int(ip[at+1]))
		if protocol == fragmentHeader {
			size = 8
		}
		protocol, at = ip[at], at+size
	}
	const header = 8
	if lb.Protocol(protocol) != packet.ICMP && lb.Protocol(protocol) != packet.ICMPv6 || len(ip) < at+header {
		return ends{}, false
	}
	quoted := binary.BigEndian.AppendUint16(make([]byte, typeAt), etherType)
	return readEnds(append(quoted, ip[at+header:]...))
}
