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

// What is not for a service passes, whatever it looks like. (The balancer
// fails the test when a frame that passes has changed.)
func TestNotForUs(t *testing.T) {
	vip, other := netip.MustParseAddr("203.0.113.5"), netip.MustParseAddrPort("192.0.2.99:80")
	from := netip.MustParseAddrPort(aClient)
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(vip, port) }
	tagged := packet.NewTCP(from, at(80), packet.SYN, "")
	tagged.VLAN = []packet.Tag{packet.VLAN(7)}
	six := netip.MustParseAddrPort("[2001:db8::5]:80")
	mapped := netip.MustParseAddrPort("[::ffff:203.0.113.5]:80")
	echoFragment := packet.NewEcho(from.Addr(), vip, 1, 1, strings.Repeat("x", 100)).Fragments(60)[0]

	b := start(t, config(web(backendA), dns("10.0.0.2:53")))
	b.tcp(aClient, webVIP).establish()
	for name, tc := range map[string]struct {
		frame []byte
		want  string
	}{
		"another address":            {packet.NewTCP(from, other, packet.SYN, "").Frame(), notOurs},
		"another port of the VIP":    {packet.NewTCP(from, at(22), packet.SYN, "").Frame(), notOurs},
		"UDP to a TCP service":       {packet.NewUDP(from, at(80), "x").Frame(), notOurs},
		"TCP to a UDP service":       {packet.NewTCP(from, at(53), packet.SYN, "").Frame(), notOurs},
		"from the service":           {packet.NewTCP(at(80), from, packet.ACK, "").Frame(), notOurs},
		"to the source address":      {packet.NewTCP(from, netip.MustParseAddrPort(source+":1024"), packet.ACK, "").Frame(), notOurs},
		"from a backend, its own":    {packet.NewTCP(netip.MustParseAddrPort("10.0.0.2:22"), netip.MustParseAddrPort(source+":1024"), packet.ACK, "").Frame(), notOurs},
		"to the backend directly":    {packet.NewTCP(from, netip.MustParseAddrPort(backendA), packet.SYN, "").Frame(), notOurs},
		"an echo to the VIP":         {packet.NewEcho(from.Addr(), vip, 1, 1, "ping").Frame(), "PASS other-protocol"},
		"a fragment of an echo":      {echoFragment.Frame(), "PASS other-protocol"},
		"a fragment for another":     {packet.NewUDP(from, other, strings.Repeat("x", 100)).Fragments(60)[0].Frame(), notOurs},
		"a fragment, another port":   {packet.NewUDP(from, at(54), strings.Repeat("x", 100)).Fragments(60)[0].Frame(), "PASS fragment"},
		"a later fragment":           {packet.NewUDP(from, at(53), strings.Repeat("x", 100)).Fragments(60)[1].Frame(), "PASS fragment"},
		"IPv6":                       {packet.NewTCP(six, six, packet.SYN, "").Frame(), "PASS not-ip"},
		"the VIP as IPv4 in IPv6":    {packet.NewTCP(mapped, mapped, packet.SYN, "").Frame(), "PASS not-ip"},
		"a VLAN tag":                 {tagged.Frame(), "PASS not-ip"},
		"ARP for the VIP":            {arpRequest(vip), "PASS not-ip"},
		"an 802.3 length":            {ether(0x0040, make([]byte, 64)), "PASS not-ip"},
		"nothing behind Ethernet":    {ether(0x0800, nil), "PASS bad-ip-header"},
		"IPv6 under IPv4's name":     {ether(0x0800, packet.NewTCP(six, six, packet.SYN, "").Frame()[14:]), notOurs},
		"a protocol without a name":  {protocol(253, from.Addr(), vip), "PASS other-protocol"},
		"IPIP to the VIP":            {protocol(4, from.Addr(), vip), "PASS other-protocol"},
		"zeros":                      {make([]byte, 60), "PASS not-ip"},
		"ones":                       {bytes.Repeat([]byte{0xff}, 1514), "PASS not-ip"},
		"broadcast":                  {packet.NewUDP(from, netip.MustParseAddrPort("255.255.255.255:53"), "x").Frame(), notOurs},
		"half an IPv4 header":        {packet.NewTCP(from, at(80), packet.SYN, "").Frame()[:33], "PASS bad-ip-header"},
		"IPv4 and not even ports":    {packet.NewTCP(from, at(80), packet.SYN, "").Frame()[:37], "PASS truncated"},
		"an IP header that is short": {put16(packet.NewTCP(from, at(80), packet.SYN, "").Frame(), 14, 0x4400), "PASS bad-ip-header"},
		"an IP version of 5":         {put16(packet.NewTCP(from, at(80), packet.SYN, "").Frame(), 14, 0x5500), "PASS bad-ip-header"},
		"a total length of 0":        {put16(packet.NewTCP(from, at(80), packet.SYN, "").Frame(), 16, 0), "PASS bad-ip-header"},
		"a total length of 19":       {put16(packet.NewTCP(from, at(80), packet.SYN, "").Frame(), 16, 19), "PASS bad-ip-header"},
		"a total length of 20":       {put16(packet.NewTCP(from, at(80), packet.SYN, "").Frame(), 16, 20), "PASS truncated"},
		"a total length of 23":       {put16(packet.NewTCP(from, at(80), packet.SYN, "").Frame(), 16, 23), "PASS truncated"},
	} {
		t.Run(name, func(t *testing.T) { b.in(t).want(tc.want, tc.frame) })
	}
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

func protocol(number lb.Protocol, from, to netip.Addr) []byte {
	p := packet.NewUDP(netip.AddrPortFrom(from, 0), netip.AddrPortFrom(to, 0), "some payload")
	p.Protocol = number
	return p.Frame()
}

// Lengths that lie, in packets for a service.
func TestFlawedPacketsForAService(t *testing.T) {
	const aborted, malformed, fragment = "ABORTED truncated", "DROP malformed", "DROP fragment"
	const ip, l4 = 14, 14 + 20
	b := start(t, config(web(backendA), dns("10.0.0.2:53")))
	tcp, udp := b.tcp(aClient, webVIP), b.udp(aClient, dnsVIP)
	syn := func() []byte { return tcp.request(packet.SYN, "0123456789").Frame() }
	datagram := func() []byte { return udp.request(0, "0123456789").Frame() }
	type flawed struct {
		frame []byte
		want  string
	}
	cases := map[string]flawed{
		"IP says one byte more":         {put16(syn(), ip+2, 51), aborted},
		"IP says 65535 bytes":           {put16(syn(), ip+2, 65535), aborted},
		"IP says less than TCP's":       {put16(syn(), ip+2, 39), aborted},
		"IP says only ports":            {put16(syn(), ip+2, 24), aborted},
		"the IP header eats TCP":        {put16(syn(), ip, 0x4a00), "PASS truncated"}, // other bytes are the ports now
		"TCP data offset 15":            {put16(syn(), l4+12, 0xf002), aborted},
		"TCP data offset to the end":    {put16(syn(), l4+12, 0x7002), newFlow},
		"TCP data offset behind it":     {put16(syn(), l4+12, 0x8002), aborted},
		"UDP length 0":                  {put16(datagram(), l4+4, 0), malformed},
		"UDP length 7":                  {put16(datagram(), l4+4, 7), malformed},
		"UDP length of one byte more":   {put16(datagram(), l4+4, 19), aborted},
		"UDP length 65535":              {put16(datagram(), l4+4, 65535), aborted},
		"IP cuts the UDP header":        {put16(datagram(), ip+2, 27), aborted},
		"the first fragment of TCP":     {put16(syn(), ip+6, 0x2000), fragment},
		"the first fragment of UDP":     {put16(datagram(), ip+6, 0x2000), fragment},
		"a middle fragment":             {put16(datagram(), ip+6, 0x2001), "PASS fragment"},
		"the last fragment":             {put16(datagram(), ip+6, 0x1fff), "PASS fragment"},
		"the first fragment, cut short": {put16(datagram(), ip+6, 0x2000)[:l4+8], aborted},
	}
	for offset := range uint16(5) {
		cases[fmt.Sprintf("TCP data offset %d", offset)] = flawed{put16(syn(), l4+12, offset<<12|2), malformed}
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, _ := b.in(t).run(tc.frame)
			if got.fate() != tc.want {
				t.Fatalf("got %s, want %s", got.fate(), tc.want)
			}
			if passes := got.verdict == "PASS"; passes == (got.service != "") {
				t.Errorf("%s for service %q", got.fate(), got.service)
			}
		})
	}
}

// A frame cut off at every length: passed until the ports can be read, then
// refused, whole forwarded.
func TestCutFrames(t *testing.T) {
	b := start(t, config(web(backendA), dns("10.0.0.2:53")))
	for _, c := range []*conversation{b.tcp(aClient, webVIP), b.udp(aClient, dnsVIP)} {
		c.establish()
		for _, p := range []packet.Packet{c.request(packet.ACK, "payload"), c.answer(packet.ACK, "payload")} {
			for _, options := range [][]byte{nil, bytes.Repeat([]byte{1}, 40)} {
				p.IPOptions = options
				frame := p.Frame()
				ports := 14 + 20 + len(options) + 4
				for length := 14; length < len(frame); length++ {
					want := "ABORTED truncated"
					switch {
					case length < 14+20:
						want = "PASS bad-ip-header"
					case length < ports:
						want = "PASS truncated"
					}
					b.want(want, frame[:length])
				}
			}
		}
		other := c.request(packet.ACK, "payload")
		other.Dst = netip.AddrPortFrom(other.Dst.Addr(), 9999)
		for length := 14 + 20; length < len(other.Frame()); length++ {
			b.want("PASS truncated", other.Frame()[:length])
		}
	}
}

// UDP shorter than what IP carries: the rest is nobody's, but travels along.
func TestBytesBetweenUDPAndIP(t *testing.T) {
	for name, mode := range checksumModes() {
		t.Run(name, func(t *testing.T) {
			c := startAt(t, config(dns("10.0.0.2:53")), mode.attachment).udp(aClient, dnsVIP).open()
			for _, extra := range []string{"x", "extra", strings.Repeat("extra", 200)} {
				full, partial := longer(packet.Packet.Frame, extra), longer(packet.Packet.PartialFrame, extra)
				c.expectEncoded(forwarded, c.request(0, "odd"), full, full)
				c.expectEncoded(reply, c.answer(0, "even"), full, full)
				if mode.partial != nil {
					c.expectEncoded(forwarded, c.request(0, "odd"), partial, longer(mode.partial, extra))
					c.expectEncoded(reply, c.answer(0, "even"), partial, longer(mode.partial, extra))
				}
			}
		})
	}
}

// longer makes IP, not UDP, carry some more bytes.
func longer(encode encoding, extra string) encoding {
	const ip, l4 = 14, 14 + 20
	return func(p packet.Packet) []byte {
		frame := append(encode(p), extra...)
		put16(frame, ip+2, uint16(len(frame)-ip))
		put16(frame, ip+10, 0)
		return put16(frame, ip+10, packet.Checksum(frame[ip:l4], 0))
	}
}

// mutate changes a few bytes, or cuts the frame, or makes it longer.
func mutate(random *rand.Rand, frame []byte) []byte {
	frame = bytes.Clone(frame)
	for range 1 + random.IntN(4) {
		headers := min(len(frame), 80)
		frame[random.IntN(headers)] = byte(random.Uint32())
	}
	switch random.IntN(4) {
	case 0:
		return frame[:14+random.IntN(len(frame)-13)]
	case 1:
		return append(frame, make([]byte, random.IntN(64))...)
	}
	return frame
}

// Mutated packets. What passes must be unchanged, which the balancer checks;
// what leaves must have been a whole packet to a service or of a flow, and
// must be right as far as it was right when it came.
func TestMutatedPackets(t *testing.T) {
	b := start(t, config(web(backendA, backendB), dns("10.0.0.2:53")))
	var seeds [][]byte
	for _, c := range []*conversation{b.tcp(aClient, webVIP), b.udp(aClient, dnsVIP)} {
		c.establish()
		for _, p := range []packet.Packet{c.request(packet.ACK, "some payload"), c.answer(packet.PSH|packet.ACK, "an answer")} {
			seeds = append(seeds, p.Frame())
			p.IPOptions, p.TCPOptions = []byte{1, 1, 1, 1, 1, 1, 1, 1}, []byte{2, 4, 5, 0xb4}
			seeds = append(seeds, p.Frame())
		}
		seeds = append(seeds, c.request(packet.SYN, "").Frame())
	}
	random := rand.New(rand.NewPCG(3, 4))
	left := 0
	for range 5000 {
		frame := mutate(random, seeds[random.IntN(len(seeds))])
		got, out := b.run(frame)
		if got.verdict != "TX" {
			continue
		}
		left++
		b.mayLeave(frame, out)
	}
	if left < 500 {
		t.Errorf("only %d frames left: the mutations are too wild to test anything", left)
	}
}

func (b *balancer) mayLeave(in, out []byte) {
	b.t.Helper()
	before, err := packet.Read(in)
	if err != nil && !isShortUDP(in) {
		b.t.Fatalf("%v: forwarded a packet that cannot be read: % x", err, in)
	}
	if packet.Verify(in) == nil {
		b.must(packet.Verify(out))
	}
	if len(in) != len(out) {
		b.t.Fatalf("%d bytes came, %d left", len(in), len(out))
	}
	ours := func(s lb.Service) bool {
		return s.Address == before.Dst && slices.Contains(s.Protocols, before.Protocol)
	}
	if err == nil && !slices.ContainsFunc(b.cfg.Services, ours) && before.Dst.Addr().String() != source {
		b.t.Fatalf("forwarded a packet to %v, which is no service", before.Dst)
	}
}

// isShortUDP recognises what packet.Read refuses and the data plane does not:
// UDP that ends before IP does.
func isShortUDP(frame []byte) bool {
	l4 := 14 + int(frame[14]&0xf)*4
	length := int(binary.BigEndian.Uint16(frame[l4+4:]))
	return lb.Protocol(frame[14+9]) == lb.UDP && length >= 8 && l4+length < 14+int(binary.BigEndian.Uint16(frame[16:]))
}

func TestGarbage(t *testing.T) {
	b := start(t, config(web(backendA), dns("10.0.0.2:53")))
	b.tcp(aClient, webVIP).establish()
	random := rand.New(rand.NewPCG(5, 6))
	for range 5000 {
		frame := make([]byte, 14+random.IntN(200))
		for i := range frame {
			frame[i] = byte(random.Uint32())
		}
		if random.IntN(2) == 0 {
			put16(frame, 12, 0x0800)
		}
		if got, _ := b.run(frame); got.verdict != "PASS" {
			t.Fatalf("garbage left as %+v: % x", got, frame)
		}
	}
}
