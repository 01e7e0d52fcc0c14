package datapath_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// fated is a frame and what must become of it.
type fated struct {
	frame []byte
	want  string
}

// What is not for a service passes, whatever it looks like. (The balancer
// fails the test when a frame that passes has changed.)
func TestNotForUs(t *testing.T) {
	b := start(t, webAndDNS())
	b.conversations(families())
	for _, w := range wires() {
		for name, tc := range strangers(w) {
			t.Run(w.name+" "+name, func(t *testing.T) { b.in(t).want(tc.want, tc.frame) })
		}
	}
	for name, tc := range unreadable() {
		t.Run(name, func(t *testing.T) { b.in(t).want(tc.want, tc.frame) })
	}
}

// strangers are whole packets that are for nobody here.
func strangers(w wire) map[string]fated {
	on := func(address string) netip.AddrPort { return w.at(netip.MustParseAddrPort(address)) }
	from, vip := on(aClient), on(webVIP)
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(vip.Addr(), port) }
	tcp := func(from, to netip.AddrPort, flags packet.TCPFlags) []byte {
		return w.frame(packet.NewTCP(from, to, flags, ""))
	}
	return map[string]fated{
		"another address":           {tcp(from, on("192.0.2.99:80"), packet.SYN), notOurs},
		"another port of the VIP":   {tcp(from, at(22), packet.SYN), notOurs},
		"UDP to a TCP service":      {w.frame(packet.NewUDP(from, at(80), "x")), notOurs},
		"TCP to a UDP service":      {tcp(from, at(53), packet.SYN), notOurs},
		"from the service":          {tcp(at(80), from, packet.ACK), notOurs},
		"to the source address":     {tcp(from, on(source+":1024"), packet.ACK), notOurs},
		"from a backend, its own":   {tcp(on("10.0.0.2:22"), on(source+":1024"), packet.ACK), notOurs},
		"to the backend directly":   {tcp(from, on(backendA), packet.SYN), notOurs},
		"an echo to the host":       {w.frame(packet.NewEcho(from.Addr(), on(source+":1").Addr(), 1, 1, "ping")), "PASS icmp"},
		"an error about a stranger": {w.frame(packet.NewUDP(on("192.0.2.9:53"), from, "").Error(on("192.0.2.9:1").Addr(), packet.Unreachable, 0, 0, 8)), notOurs},
		"a protocol without a name": {w.frame(protocol(253, from.Addr(), vip.Addr())), "PASS other-protocol"},
		"a tunnel to the VIP":       {w.frame(protocol(4, from.Addr(), vip.Addr())), "PASS other-protocol"},
	}
}

func (w wire) frame(p packet.Packet) []byte {
	p.VLAN = w.tags
	return p.Frame()
}

// unreadable are frames in which no service can be found, or none that is known.
func unreadable() map[string]fated {
	from, vip := netip.MustParseAddrPort(aClient), netip.MustParseAddrPort(webVIP).Addr()
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(vip, port) }
	six := func() []byte {
		return packet.NewTCP(families()[1].at(from), families()[1].at(at(80)), packet.SYN, "").Frame()
	}
	four := func() []byte { return packet.NewTCP(from, at(80), packet.SYN, "").Frame() }
	pieces := func(to netip.AddrPort) []packet.Packet {
		return packet.NewUDP(from, to, strings.Repeat("x", 100)).Fragments(60)
	}
	echo := packet.NewEcho(from.Addr(), vip, 1, 1, strings.Repeat("x", 100)).Fragments(60)
	all := map[string]fated{
		"a fragment of an echo":      {echo[0].Frame(), "PASS icmp"},
		"a fragment for another":     {pieces(netip.MustParseAddrPort("192.0.2.99:80"))[0].Frame(), notOurs},
		"ARP for the VIP":            {arpRequest(vip), "PASS not-ip"},
		"an 802.3 length":            {ether(0x0040, make([]byte, 64)), "PASS not-ip"},
		"nothing behind Ethernet":    {ether(0x0800, nil), badIPHeader},
		"IPv6, nothing behind it":    {ether(0x86dd, nil), badIPHeader},
		"IPv6 under IPv4's name":     {ether(0x0800, six()[14:]), notOurs},
		"IPv4 under IPv6's name":     {ether(0x86dd, four()[14:]), notOurs},
		"zeros":                      {make([]byte, 60), "PASS not-ip"},
		"ones":                       {bytes.Repeat([]byte{0xff}, 1514), "PASS not-ip"},
		"broadcast":                  {packet.NewUDP(from, netip.MustParseAddrPort("255.255.255.255:53"), "x").Frame(), notOurs},
		"half an IPv4 header":        {four()[:33], badIPHeader},
		"IPv4 and not even ports":    {four()[:37], "PASS truncated"},
		"an IP header that is short": {put16(four(), 14, 0x4400), badIPHeader},
		"IPv4 with a version of 5":   {put16(four(), 14, 0x5500), badIPHeader},
		"a total length of 0":        {put16(four(), 16, 0), badIPHeader},
		"a total length of 19":       {put16(four(), 16, 19), badIPHeader},
		"a total length of 20":       {put16(four(), 16, 20), "PASS truncated"},
		"a total length of 23":       {put16(four(), 16, 23), "PASS truncated"},
		"half an IPv6 header":        {six()[:53], badIPHeader},
		"IPv6 and not even ports":    {six()[:57], "PASS truncated"},
		"IPv6 with a version of 4":   {put16(six(), 14, 0x4000), badIPHeader},
		"IPv6 with a version of 7":   {put16(six(), 14, 0x7000), badIPHeader},
		"a payload length of 0":      {put16(six(), 18, 0), "PASS truncated"}, // or a jumbogram
		"a payload length of 3":      {put16(six(), 18, 3), "PASS truncated"},
		"no next header":             {put16(six(), 20, 59<<8), "PASS other-protocol"},
		"an authentication header":   {put16(six(), 20, 51<<8), "PASS other-protocol"},
	}
	for _, first := range []uint16{packet.EtherTypeVLAN, packet.EtherTypeQinQ} {
		for _, second := range []uint16{packet.EtherTypeVLAN, packet.EtherTypeQinQ} {
			tags := []packet.Tag{{Type: first, Control: 1}, {Type: second, Control: 2}}
			for name, whole := range map[string][]byte{"IPv4": tagged(four(), tags...), "IPv6": tagged(six(), tags...)} {
				name = fmt.Sprintf("%s behind %#x and %#x", name, first, second)
				all["five tags: "+name] = fated{tagged(whole, tags[0], tags[0], tags[0]), "PASS not-ip"}
				for length := 14; length < 22; length++ {
					all[fmt.Sprintf("%d bytes: %s", length, name)] = fated{whole[:length], "PASS not-ip"}
				}
				all["22 bytes: "+name] = fated{whole[:22], badIPHeader}
			}
		}
	}
	all["an unknown tag"] = fated{tagged(four(), packet.Tag{Type: 0x9100, Control: 1}), "PASS not-ip"}
	return all
}

// tagged puts tags before whatever a frame has behind its addresses.
func tagged(frame []byte, tags ...packet.Tag) []byte {
	var between []byte
	for _, tag := range tags {
		between = binary.BigEndian.AppendUint16(between, tag.Type)
		between = binary.BigEndian.AppendUint16(between, tag.Control)
	}
	return slices.Insert(slices.Clone(frame), 12, between...)
}

// An IPv4 address stands for an IPv4 packet's in every table: in an IPv6
// header it must not be taken for one (RFC 4291, 2.5.5.2).
func TestIPv4AddressesInIPv6(t *testing.T) {
	b := start(t, webAndDNS())
	for _, c := range []*conversation{b.tcp(aClient, webVIP).establish(), b.udp(aClient, dnsVIP).establish()} {
		for _, p := range []packet.Packet{
			c.request(packet.SYN, ""), c.request(packet.ACK, "data"), c.answer(packet.ACK, "data"),
			b.converse(c.protocol, clientAt(1), c.vip.String()).request(packet.SYN, ""),
		} {
			for name, change := range map[string]func(netip.AddrPort) netip.AddrPort{
				"mapped":     func(a netip.AddrPort) netip.AddrPort { return embedded(a, 0xffff) },
				"compatible": func(a netip.AddrPort) netip.AddrPort { return embedded(a, 0) },
				"real":       families()[1].at,
			} {
				for _, w := range wires() {
					if !w.six {
						continue
					}
					t.Run(fmt.Sprintf("%v, source %s, over %s", p, name, w.name), func(t *testing.T) {
						p := p
						p.Src, p.Dst = change(p.Src), embedded(p.Dst, 0xffff)
						b.in(t).want(notOurs, w.frame(p))
					})
				}
			}
			p.Src, p.Dst = embedded(p.Src, 0xffff), families()[1].at(p.Dst)
			b.want(notOurs, p.Frame()) // an answer to it would be for the IPv4 host
		}
		c.stays()
	}
}

// embedded is an IPv4 address written into the end of an IPv6 address.
func embedded(a netip.AddrPort, before uint16) netip.AddrPort {
	six := [16]byte{10: byte(before >> 8), 11: byte(before)}
	copy(six[12:], a.Addr().AsSlice())
	return netip.AddrPortFrom(netip.AddrFrom16(six), a.Port())
}

func ether(etherType uint16, payload []byte) []byte {
	mac := localMAC()
	frame := append(mac[:], 2, 1, 198, 51, 100, 7)
	return append(binary.BigEndian.AppendUint16(frame, etherType), payload...)
}

func arpRequest(target netip.Addr) []byte {
	body := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, make([]byte, 16)...)
	return ether(0x0806, append(body, target.AsSlice()...))
}

func protocol(number lb.Protocol, from, to netip.Addr) packet.Packet {
	p := packet.NewUDP(netip.AddrPortFrom(from, 0), netip.AddrPortFrom(to, 0), "some payload")
	p.Protocol = number
	return p
}

func TestGarbage(t *testing.T) {
	b := start(t, webAndDNS())
	b.conversations(families())
	random := rand.New(rand.NewPCG(5, 6))
	for range 5000 {
		frame := make([]byte, 14+random.IntN(200))
		for i := range frame {
			frame[i] = byte(random.Uint32())
		}
		if types := []uint16{0x0800, 0x86dd, 0x8100, 0x88a8}; random.IntN(2) == 0 {
			put16(frame, 12, types[random.IntN(len(types))])
		}
		if got, _ := b.run(frame); got.verdict != "PASS" {
			t.Fatalf("garbage left as %+v: % x", got, frame)
		}
	}
}
