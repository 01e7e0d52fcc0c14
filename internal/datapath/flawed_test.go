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

// Lengths that lie, in packets for a service.
func TestFlawedPacketsForAService(t *testing.T) {
	b := start(t, webAndDNS())
	for _, c := range b.conversations(wires()) {
		cases := c.flawed()
		if c.protocol == lb.TCP {
			cases = c.flawedTCP()
		}
		for name, tc := range cases {
			t.Run(c.String()+" "+name, func(t *testing.T) { b.in(t).wantFor(c.service().Name, tc) })
		}
	}
}

// wantFor is want for a packet that can be told to be for a service, unless it passes.
func (b *balancer) wantFor(service string, tc fated) {
	b.t.Helper()
	got, _ := b.run(tc.frame)
	if got.fate() != tc.want {
		b.t.Fatalf("got %s, want %s", got.fate(), tc.want)
	}
	if got.verdict == "PASS" {
		service = ""
	}
	if got.service != service {
		b.t.Errorf("%s for service %q, want %q", got.fate(), got.service, service)
	}
}

const (
	truncated   = "PASS truncated"
	aborted     = "ABORTED truncated"
	malformed   = "DROP malformed"
	badIPHeader = "PASS bad-ip-header"
)

func (c *conversation) flawedTCP() map[string]fated {
	ack := func() []byte { return c.request(packet.ACK, "0123456789").Frame() }
	l4 := l4At(ack())
	cases := map[string]fated{
		"IP says one byte more":      {carrying(ack(), 31), aborted},
		"IP says many bytes":         {carrying(ack(), 65515), aborted},
		"IP says less than TCP's":    {carrying(ack(), 19), aborted},
		"IP says only ports":         {carrying(ack(), 4), aborted},
		"IP says less than ports":    {carrying(ack(), 3), truncated},
		"IP says nothing":            {carrying(ack(), 0), truncated},
		"TCP data offset 15":         {put16(ack(), l4+12, 0xf010), aborted},
		"TCP data offset to the end": {put16(ack(), l4+12, 0x7010), forwarded},
		"TCP data offset behind it":  {put16(ack(), l4+12, 0x8010), aborted},
	}
	for offset := range uint16(5) {
		cases[fmt.Sprintf("TCP data offset %d", offset)] = fated{put16(ack(), l4+12, offset<<12|0x10), malformed}
	}
	if c.wire.six {
		return cases
	}
	cases["the IP header eats TCP"] = fated{put16(ack(), ipAt(ack()), 0x4a00), truncated} // other bytes are the ports now
	return cases
}

func (c *conversation) flawed() map[string]fated {
	datagram := func() []byte { return c.request(0, "0123456789").Frame() }
	l4 := l4At(datagram())
	return map[string]fated{
		"UDP length 0":                {put16(datagram(), l4+4, 0), malformed},
		"UDP length 7":                {put16(datagram(), l4+4, 7), malformed},
		"UDP length 8":                {put16(datagram(), l4+4, 8), forwarded},
		"UDP length of one byte more": {put16(datagram(), l4+4, 19), aborted},
		"UDP length 65535":            {put16(datagram(), l4+4, 65535), aborted},
		"IP cuts the UDP header":      {carrying(datagram(), 7), aborted},
		"IP cuts the UDP data":        {carrying(datagram(), 17), aborted},
		"IP cuts the ports":           {carrying(datagram(), 3), truncated},
	}
}

// A frame cut off at every length: passed until the ports can be read, then
// refused, whole forwarded.
func TestCutFrames(t *testing.T) {
	b := start(t, webAndDNS())
	for _, c := range b.conversations(wires()) {
		for _, p := range []packet.Packet{c.request(packet.ACK, "payload"), c.answer(packet.ACK, "payload")} {
			b.wantCuts(p.Frame(), l4At(p.Frame()), aborted)
			if c.wire.six {
				extended := behind(hopByHop(8), options(264), fragmentHeader(0))(packet.Packet.Frame)
				b.wantCuts(extended(p), l4At(p.Frame())+8+264+8, aborted)
			} else {
				p.IPOptions = bytes.Repeat([]byte{1}, 40)
				b.wantCuts(p.Frame(), l4At(p.Frame()), aborted)
			}
		}
		other := c.request(packet.ACK, "payload")
		other.Dst = netip.AddrPortFrom(other.Dst.Addr(), 9999)
		b.wantCuts(other.Frame(), l4At(other.Frame()), truncated)
	}
}

// wantCuts cuts a frame, whose TCP or UDP header begins at l4, at every length
// from there on where the IP header begins.
func (b *balancer) wantCuts(frame []byte, l4 int, withPorts string) {
	b.t.Helper()
	addresses := ipAt(frame) + 20
	if isIPv6(frame) {
		addresses = ipAt(frame) + 40
	}
	for length := ipAt(frame); length < len(frame); length++ {
		switch {
		case length < addresses:
			b.want(badIPHeader, frame[:length])
		case length < l4+4:
			b.want(truncated, frame[:length])
		default:
			b.want(withPorts, frame[:length])
		}
	}
}

// UDP shorter than what IP carries: the rest is nobody's, but travels along.
func TestBytesBetweenUDPAndIP(t *testing.T) {
	inEveryMode(t, webAndDNS(), func(b *balancer, partial encoding) {
		for _, w := range families() {
			c := b.udp(aClient, dnsVIP).over(w).open()
			for _, extra := range []string{"x", "extra", strings.Repeat("extra", 200)} {
				c.exchange(c.request(0, "odd"), c.answer(0, "even"), partial, longer(extra))
			}
		}
	})
}

// longer makes IP, not UDP, carry some more bytes.
func longer(extra string) shape {
	return func(encode encoding) encoding {
		return func(p packet.Packet) []byte {
			frame := append(encode(p), extra...)
			return carrying(frame, len(frame)-l4At(frame))
		}
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
	b := start(t, bothFamilies(config(web(backendA, backendB), dns("10.0.0.2:53"))))
	var seeds [][]byte
	for _, c := range b.conversations(wires()) {
		for _, p := range []packet.Packet{c.request(packet.ACK, "some payload"), c.answer(packet.PSH|packet.ACK, "an answer")} {
			seeds = append(seeds, p.Frame())
			p.IPOptions, p.TCPOptions = []byte{1, 1, 1, 1, 1, 1, 1, 1}, []byte{2, 4, 5, 0xb4}
			seeds = append(seeds, p.Frame())
			if c.wire.six {
				seeds = append(seeds, behind(hopByHop(8), fragmentHeader(0))(packet.Packet.Frame)(p))
			}
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
		if got.reason == "no-flow" || got.reason == "ttl-expired" {
			b.must(packet.Verify(out)) // what the data plane says itself is right, whatever it is about
			continue
		}
		b.mayLeave(frame, out)
	}
	if left < 500 {
		t.Errorf("only %d frames left: the mutations are too wild to test anything", left)
	}
}

func (b *balancer) mayLeave(in, out []byte) {
	b.t.Helper()
	if came, left := len(in)-ipAt(in), len(out)-ipAt(out); came != left { // answers get their client's tags
		b.t.Fatalf("%d bytes behind the tags came, %d left", came, left)
	}
	in, out = withoutExtensions(in), withoutExtensions(out)
	before, err := packet.Read(in)
	if err != nil && !isShortUDP(in) {
		b.t.Fatalf("%v: forwarded a packet that cannot be read: % x", err, in)
	}
	if packet.Verify(in) == nil {
		b.must(packet.Verify(out))
	}
	ours := func(s lb.Service) bool {
		return s.Address.Contains(before.Dst) && slices.Contains(s.Protocols, before.Protocol)
	}
	if err == nil && !slices.ContainsFunc(b.cfg.Services, ours) && before.Dst.Addr() != sourceToward(before.Dst.Addr()) {
		b.t.Fatalf("forwarded a packet to %v, which is no service", before.Dst)
	}
}

// isShortUDP recognises what packet.Read refuses and the data plane does not:
// UDP that ends before IP does.
func isShortUDP(frame []byte) bool {
	l4, ip := l4At(frame), ipAt(frame)
	protocol, end := frame[ip+9], ip+int(binary.BigEndian.Uint16(frame[ip+2:]))
	if isIPv6(frame) {
		protocol, end = frame[ip+6], l4+int(binary.BigEndian.Uint16(frame[ip+4:]))
	}
	length := int(binary.BigEndian.Uint16(frame[l4+4:]))
	return lb.Protocol(protocol) == lb.UDP && length >= 8 && l4+length < end
}
