package datapath_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

func everybody() lb.MAC { return lb.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// whoHas asks everybody who has an address (RFC 826).
func whoHas(sender, target netip.Addr) []byte {
	from, to := macOf(sender), everybody()
	return slices.Concat(to[:], from[:], []byte{8, 6}, arpBody(1, from, sender, lb.MAC{}, target))
}

func arpBody(operation byte, senderMAC lb.MAC, sender netip.Addr, targetMAC lb.MAC, target netip.Addr) []byte {
	return slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, operation}, senderMAC[:], sender.AsSlice(), targetMAC[:], target.AsSlice())
}

// solicitation asks who has an address (RFC 4861, section 4.3).
func solicitation(sender, target netip.Addr, options ...byte) packet.Packet {
	p := packet.NewEcho(sender, lb.SolicitedNode(target), 0, 0, "")
	last := target.As16()
	p.SrcMAC, p.DstMAC = macOf(netip.MustParseAddr("198.51.100.7")), lb.MAC{0x33, 0x33, 0xff, last[13], last[14], last[15]}
	p.TTL, p.ICMPType, p.ICMPRest = 255, 135, 0
	p.Payload = append(target.AsSlice(), options...)
	return p
}

// advertisement answers it: flags are solicited and override.
func advertisement(to lb.MAC, receiver, target netip.Addr, flags uint32) packet.Packet {
	p := packet.NewEcho(target, receiver, 0, 0, "")
	own := localMAC()
	p.SrcMAC, p.DstMAC, p.TTL, p.ICMPType, p.ICMPRest = own, to, 255, 136, flags
	p.Payload = slices.Concat(target.AsSlice(), []byte{2, 1}, own[:])
	return p
}

// answering is a balancer whose VIPs are no addresses of the host, but one.
func answering(t *testing.T, own ...netip.Addr) *balancer {
	b := startAt(t, webAndDNS(), datapath.Attachment{MAC: localMAC(), NeighbourMAC: localMAC()})
	b.cfg.Answers.Neighbours = true
	b.reconciler.SetHost(own)
	b.apply(b.cfg)
	return b
}

func (b *balancer) wantFrame(fate string, in, want []byte) {
	b.t.Helper()
	got, out := b.run(in)
	if got.fate() != fate || got.service != "" {
		b.t.Fatalf("got %+v, want %s", got, fate)
	}
	if !bytes.Equal(out, want) {
		b.t.Fatalf("came % x\nleft % x\nwant % x", in, out, want)
	}
}

func TestARP(t *testing.T) {
	b := answering(t)
	asker, vip := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("203.0.113.5")
	mac, own := macOf(asker), localMAC()
	answered := func(sender netip.Addr, tags []byte, padding string) (in, want []byte) {
		in = slices.Concat(own[:0], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac[:], tags, []byte{8, 6}, arpBody(1, mac, sender, lb.MAC{}, vip), []byte(padding))
		want = slices.Concat(mac[:], own[:], tags, []byte{8, 6}, arpBody(2, own, vip, mac, sender), []byte(padding))
		return in, want
	}
	for name, tc := range map[string]struct {
		sender  netip.Addr
		tags    []byte
		padding string
	}{
		"a request":        {asker, nil, "eighteen bytes  .."},
		"a probe":          {netip.IPv4Unspecified(), nil, ""},
		"in a VLAN":        {asker, []byte{0x81, 0, 0xe0, 10}, ""},
		"in a VLAN in one": {asker, []byte{0x88, 0xa8, 0, 10, 0x81, 0, 0, 20}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in, want := answered(tc.sender, tc.tags, tc.padding)
			b.in(t).wantFrame("TX neighbour", in, want)
			copy(in, own[:]) // to verify what it knows
			b.wantFrame("TX neighbour", in, want)
		})
	}
	request := func(change func(frame []byte)) []byte {
		in, _ := answered(asker, nil, "")
		change(in)
		return in
	}
	for name, frame := range map[string][]byte{
		"for another address":    whoHas(asker, netip.MustParseAddr("203.0.113.6")),
		"an announcement":        whoHas(vip, vip),
		"to another machine":     request(func(f []byte) { f[0] = 2 }),
		"an answer":              request(func(f []byte) { f[21] = 2 }),
		"of token ring":          request(func(f []byte) { f[15] = 6 }),
		"of another protocol":    request(func(f []byte) { f[16] = 7 }),
		"with longer MACs":       request(func(f []byte) { f[18] = 8 }),
		"with longer addresses":  request(func(f []byte) { f[19] = 16 }),
		"from a group":           request(func(f []byte) { f[6] |= 1 }),
		"from a group, it says":  request(func(f []byte) { f[22] |= 1 }),
		"cut off":                request(func([]byte) {})[:41],
		"behind three VLAN tags": tripleTagged(request(func([]byte) {})),
	} {
		t.Run(name, func(t *testing.T) { b.in(t).want("PASS not-ip", frame) })
	}
}

func tripleTagged(frame []byte) []byte {
	return slices.Insert(slices.Clone(frame), 12, 0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3)
}

func TestNeighbourSolicitation(t *testing.T) {
	b := answering(t)
	six := families()[1]
	asker, vip := six.of(netip.MustParseAddr("198.51.100.7")), six.of(netip.MustParseAddr("203.0.113.5"))
	const solicited, override = 1 << 30, 1 << 29
	mac := macOf(netip.MustParseAddr("198.51.100.7"))
	known := append([]byte{1, 1}, mac[:]...)
	nonce := []byte{14, 1, 1, 2, 3, 4, 5, 6} // RFC 3971, as in RFC 7527
	unicast := solicitation(asker, vip, known...)
	unicast.DstMAC, unicast.Dst = localMAC(), netip.AddrPortFrom(vip, 0)
	tagged := solicitation(asker, vip, known...)
	tagged.VLAN = []packet.Tag{packet.VLAN(10)}
	inVLAN := advertisement(mac, asker, vip, solicited|override)
	inVLAN.VLAN = tagged.VLAN
	all := advertisement(lb.MAC{0x33, 0x33, 5: 1}, netip.MustParseAddr("ff02::1"), vip, override)
	padded := solicitation(asker, vip)
	padded.Trailer = make([]byte, 1000)
	for name, tc := range map[string]struct{ in, want packet.Packet }{
		"a solicitation":             {solicitation(asker, vip, known...), advertisement(mac, asker, vip, solicited|override)},
		"without options":            {solicitation(asker, vip), advertisement(mac, asker, vip, solicited|override)},
		"from the link alone":        {solicitation(netip.MustParseAddr("fe80::7"), vip, known...), advertisement(mac, netip.MustParseAddr("fe80::7"), vip, solicited|override)},
		"to one":                     {unicast, advertisement(mac, asker, vip, solicited|override)},
		"is the address free":        {solicitation(netip.IPv6Unspecified(), vip), all},
		"is the address free, nonce": {solicitation(netip.IPv6Unspecified(), vip, nonce...), all},
		"in a VLAN":                  {tagged, inVLAN},
		"padded":                     {padded, advertisement(mac, asker, vip, solicited|override)},
	} {
		t.Run(name, func(t *testing.T) { b.in(t).wantFrame("TX neighbour", tc.in.Frame(), tc.want.Frame()) })
	}
	asks := func(change func(*packet.Packet)) []byte {
		p := solicitation(asker, vip, known...)
		change(&p)
		return p.Frame()
	}
	wrong := asks(func(*packet.Packet) {})
	wrong[ethernetSize+40+2]++
	for name, tc := range map[string]fated{
		"routed":                 {asks(func(p *packet.Packet) { p.TTL = 254 }), "PASS other-mac"},
		"of another code":        {asks(func(p *packet.Packet) { p.ICMPCode = 1 }), "PASS other-mac"},
		"an advertisement":       {asks(func(p *packet.Packet) { p.ICMPType = 136 }), "PASS other-mac"},
		"an option of no length": {asks(func(p *packet.Packet) { p.Payload[17] = 0 }), "PASS other-mac"},
		"an option too long":     {asks(func(p *packet.Packet) { p.Payload[17] = 2 }), "PASS other-mac"},
		"cut off":                {asks(func(p *packet.Packet) { p.Payload = p.Payload[:15] }), "PASS other-mac"},
		"a wrong checksum":       {wrong, "PASS other-mac"},
		"to all nodes":           {asks(func(p *packet.Packet) { p.Dst = netip.MustParseAddrPort("[ff02::1]:0") }), "PASS not-ours"},
		"for another address":    {solicitation(asker, vip.Next(), known...).Frame(), "PASS not-ours"},
		"without an address, with a MAC": {solicitation(netip.IPv6Unspecified(), vip, known...).Frame(),
			"PASS other-mac"},
		"from a group": {asks(func(p *packet.Packet) { p.Src = netip.MustParseAddrPort("[ff02::1]:0") }), "PASS other-mac"},
	} {
		t.Run(name, func(t *testing.T) { b.in(t).want(tc.want, tc.frame) })
	}
}

const ethernetSize = 14

// The host says itself who has its addresses, and where it is told to say nothing, so does the data plane.
func TestNobodyIsAnswered(t *testing.T) {
	asker, vip := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("203.0.113.5")
	six := families()[1]
	questions := []fated{
		{whoHas(asker, vip), "PASS not-ip"},
		{solicitation(six.of(asker), six.of(vip)).Frame(), "PASS other-mac"},
	}
	for name, prepare := range map[string]func(*balancer){
		"the host's own":    func(b *balancer) { b.reconciler.SetHost([]netip.Addr{vip, six.of(vip)}) },
		"answer_arp: false": func(b *balancer) { b.cfg.Answers.Neighbours = false },
	} {
		t.Run(name, func(t *testing.T) {
			b := answering(t)
			prepare(b)
			b.apply(b.cfg)
			for _, q := range questions {
				b.want(q.want, q.frame)
			}
		})
	}
}
