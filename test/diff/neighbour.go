package diff

import (
	"encoding/binary"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

func neighbourMAC() lb.MAC { return lb.MAC{2, 0, 0, 0, 0, 6} }

// question is somebody's who wants to know who has an address, mostly a VIP. Some are
// not quite what a question has to be.
func (t *Traffic) question() []byte {
	f := pick(t.rng, families()...)
	target := f.vipAddress(t.rng)
	if chance(t.rng, 6) {
		target = pick(t.rng, f.hostAddress(), f.backendAddress(t.rng))
	}
	frame := t.arpRequest(target)
	if f == ipv6 {
		frame = t.solicitation(target)
	}
	if chance(t.rng, 4) { // in any of its bytes
		frame[t.rng.IntN(len(frame))] ^= 1 << t.rng.IntN(8)
	}
	if chance(t.rng, 12) {
		frame = frame[:14+t.rng.IntN(len(frame)-13)]
	}
	return append(frame, randomBytes(t.rng, pick(t.rng, 0, 0, 4, 18, 1500))...)
}

// link are the Ethernet addresses of a question to everybody, or to one.
func (t *Traffic) link(everybody lb.MAC) (src, dst lb.MAC) {
	src, dst = randomMAC(t.rng), pick(t.rng, everybody, everybody, everybody, localMAC(), randomMAC(t.rng))
	if chance(t.rng, 20) {
		src[0] |= 1
	}
	return src, dst
}

// arpRequest is one of RFC 826, or a probe or an announcement of RFC 5227.
func (t *Traffic) arpRequest(target netip.Addr) []byte {
	src, dst := t.link(lb.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	senderMAC, sender := src, ipv4.address(198, 51, 100, t.rng.IntN(60))
	switch t.rng.IntN(10) {
	case 0:
		sender = netip.IPv4Unspecified()
	case 1:
		sender = target
	case 2:
		senderMAC = pick(t.rng, randomMAC(t.rng), lb.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, lb.MAC{})
	}
	operation := pick[byte](t.rng, 1, 1, 1, 1, 1, 1, 2, 3)
	header := []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, operation}
	if chance(t.rng, 6) { // of other hardware or another protocol
		header[2+t.rng.IntN(6)] = byte(t.rng.IntN(8))
	}
	frame := append(append(dst[:], src[:]...), header...)
	frame = append(append(frame, senderMAC[:]...), sender.AsSlice()...)
	return append(append(frame, randomBytes(t.rng, len(lb.MAC{}))...), target.AsSlice()...)
}

// solicitation is one of RFC 4861.
func (t *Traffic) solicitation(target netip.Addr) []byte {
	dst := lb.SolicitedNode(target)
	last := target.As16()
	group := lb.MAC{0x33, 0x33, 0xff, last[13], last[14], last[15]}
	p := packet.NewEcho(ipv6.address(198, 51, 100, t.rng.IntN(60)), dst, 0, 0, "")
	p.SrcMAC, p.DstMAC = t.link(group)
	switch t.rng.IntN(10) {
	case 0, 1:
		p.Src = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	case 2:
		p.Src = netip.AddrPortFrom(netip.MustParseAddr("fe80::1"), 0)
	case 3:
		p.Src = netip.AddrPortFrom(ipv6.noHost(t.rng), 0)
	}
	if chance(t.rng, 4) {
		p.Dst = netip.AddrPortFrom(pick(t.rng, target, target, netip.MustParseAddr("ff02::1"), lb.SolicitedNode(ipv6.vipAddress(t.rng))), 0)
	}
	p.TTL = pick[uint8](t.rng, 255, 255, 255, 255, 255, 255, 255, 254)
	p.ICMPType, p.ICMPCode, p.ICMPRest = pick[uint8](t.rng, 135, 135, 135, 135, 135, 135, 136), pick[uint8](t.rng, 0, 0, 0, 0, 0, 0, 1), 0
	p.Payload = append(target.AsSlice(), t.options(p)...)
	return p.Frame()
}

// options are mostly the sender's MAC, where it has an address; and others, that
// nobody knows.
func (t *Traffic) options(p packet.Packet) (b []byte) {
	if p.Src.Addr().IsUnspecified() == chance(t.rng, 5) && !chance(t.rng, 5) {
		b = append([]byte{1, 1}, p.SrcMAC[:]...)
	}
	for chance(t.rng, 6) {
		size := pick(t.rng, 1, 1, 2, 0, 70)
		option := make([]byte, max(size, 1)*8)
		binary.BigEndian.PutUint16(option, 14<<8|uint16(size))
		b = append(b, option...)
	}
	for range pick(t.rng, 0, 0, 0, 0, 0, 0, 0, 0, 0, 15, 16, 17) {
		b = append(b, 14, 1, 0, 0, 0, 0, 0, 0)
	}
	if chance(t.rng, 30) {
		b = append(b, randomBytes(t.rng, t.rng.IntN(8))...)
	}
	return b
}
