package datapath_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// checksumModes are the kinds of interfaces, and what leaves them for a packet
// that came in with a partial checksum; nil where none can come in.
func checksumModes() map[string]struct {
	attachment datapath.Attachment
	partial    encoding
} {
	return map[string]struct {
		attachment datapath.Attachment
		partial    encoding
	}{
		"full":         {},
		"complete":     {datapath.Attachment{PartialChecksums: true, Mode: lb.ModeNative}, packet.Packet.Frame},
		"keep partial": {datapath.Attachment{PartialChecksums: true, Mode: lb.ModeGeneric}, packet.Packet.PartialFrame},
	}
}

// inEveryMode runs a test on each kind of interface. Partial is nil where no
// partial checksums come in.
func inEveryMode(t *testing.T, cfg lb.Config, test func(b *balancer, partial encoding)) {
	for name, mode := range checksumModes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(startAt(t, cfg, mode.attachment), mode.partial)
		})
	}
}

// payloadSizes are chosen around the steps in which the data plane reads a
// packet to sum it up: 512 bytes of header and payload. Tags only move those.
func payloadSizes(w wire) []int {
	if len(w.tags) > 0 {
		return []int{0, 1, 2, 491, 492, 493, 503, 504, 505, 512, 513, 1460, 9000}
	}
	return []int{
		0, 1, 2, 3, 4, 5, 491, 492, 493, 503, 504, 505, 511, 512, 513, 1003, 1004, 1005, 1023, 1024, 1025, 1460,
		3000, 3500, 4096, 8999, 9000, 16383, 65000, 65494, 65495,
	}
}

func TestChecksums(t *testing.T) {
	inEveryMode(t, webAndDNS(), func(b *balancer, partial encoding) {
		for _, c := range b.conversations(wires()) {
			for _, size := range payloadSizes(c.wire) {
				b.t.Run(fmt.Sprintf("%v %d bytes", c, size), func(t *testing.T) {
					c.in(t)
					c.testChecksums(pattern(size), partial)
				})
			}
		}
	})
}

func (c *conversation) testChecksums(payload []byte, partial encoding) {
	c.t.Helper()
	for _, trailer := range [][]byte{nil, []byte("not to be summed up")} {
		in, back := c.request(packet.ACK, ""), c.answer(packet.ACK, "")
		in.Payload, in.Trailer, back.Payload, back.Trailer = payload, trailer, payload, trailer
		c.exchange(in, back, partial, asItIs)
	}
}

// shape changes how packets are encoded.
type shape func(encoding) encoding

func asItIs(e encoding) encoding { return e }

// exchange sends a request and an answer, with full checksums, and with partial
// ones where those occur: what comes with one leaves as partial encodes it.
func (c *conversation) exchange(in, back packet.Packet, partial encoding, shaped shape) {
	c.t.Helper()
	full := shaped(packet.Packet.Frame)
	c.expectEncoded(forwarded, in, full, full)
	c.expectEncoded(reply, back, full, full)
	if partial != nil {
		c.expectEncoded(forwarded, in, shaped(packet.Packet.PartialFrame), shaped(partial))
		c.expectEncoded(reply, back, shaped(packet.Packet.PartialFrame), shaped(partial))
	}
}

// A UDP checksum of zero says that there is none (RFC 768; for IPv6 RFC 6935).
func TestUDPWithoutChecksum(t *testing.T) {
	inEveryMode(t, webAndDNS(), func(b *balancer, _ encoding) {
		for _, w := range families() {
			c := b.udp(aClient, dnsVIP).over(w).open()
			for _, size := range []int{0, 1, 512, 1400, 9000} {
				in, back := c.request(0, string(pattern(size))), c.answer(0, string(pattern(size)))
				in.NoUDPChecksum, back.NoUDPChecksum = true, true
				c.expect(forwarded, in)
				c.expect(reply, back)
			}
		}
	})
}

// A UDP checksum that comes out as zero is sent as 0xffff (RFC 768).
func TestUDPChecksumThatIsZero(t *testing.T) {
	inEveryMode(t, webAndDNS(), func(b *balancer, partial encoding) {
		for _, w := range wires() {
			b.udp(aClient, dnsVIP).over(w).open().testZeroSums(partial)
		}
	})
}

func (c *conversation) testZeroSums(partial encoding) {
	c.t.Helper()
	in, back := c.request(0, "--"), c.answer(0, "--")

	in.Payload = zeroSum(c.toBackend(in))
	mustBe(c.t, "leaving", checksumOf(c.toBackend(in).Frame()), 0xffff)
	back.Payload = zeroSum(c.toClient(back))
	mustBe(c.t, "leaving", checksumOf(c.toClient(back).Frame()), 0xffff)
	c.exchange(in, back, partial, asItIs)

	in.Payload, back.Payload = zeroSum(in), zeroSum(back)
	mustBe(c.t, "arriving", checksumOf(in.Frame()), 0xffff)
	mustBe(c.t, "arriving", checksumOf(back.Frame()), 0xffff)
	c.exchange(in, back, partial, asItIs)
}

func mustBe(t *testing.T, what string, got, want uint16) {
	t.Helper()
	if got != want {
		t.Fatalf("the test's packet has the checksum %#04x when %s, want %#04x", got, what, want)
	}
}

// checksumOf reads the L4 checksum of a frame without extension headers.
func checksumOf(frame []byte) uint16 { return binary.BigEndian.Uint16(frame[checksumOffset(frame):]) }

func checksumOffset(frame []byte) int {
	protocol := ipAt(frame) + 9
	if isIPv6(frame) {
		protocol = ipAt(frame) + 6
	}
	if lb.Protocol(frame[protocol]) == lb.TCP {
		return l4At(frame) + 16
	}
	return l4At(frame) + 6
}

// zeroSum is the two-byte payload with which p's checksum comes out as zero:
// the checksum that it has with a payload of zeros.
func zeroSum(p packet.Packet) []byte {
	p.Payload = []byte{0, 0}
	return binary.BigEndian.AppendUint16(nil, checksumOf(p.Frame()))
}

// One full checksum in 65536 happens to be the pseudo header's sum and looks
// partial. On hardware and in native mode it must come out right all the same.
func TestFullChecksumThatLooksPartial(t *testing.T) {
	for name, mode := range checksumModes() {
		if name == "keep partial" {
			continue // cannot be told apart there
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startAt(t, webAndDNS(), mode.attachment)
			for _, c := range b.conversations(wires()) {
				in := lookingPartial(c.request(packet.ACK, ""))
				mustBe(t, "arriving", checksumOf(in.Frame()), checksumOf(in.PartialFrame()))
				c.expect(forwarded, in)
				c.expect(reply, lookingPartial(c.answer(packet.ACK, "")))
			}
		})
	}
}

// lookingPartial gives p a payload with which its checksum is the pseudo header's sum.
func lookingPartial(p packet.Packet) packet.Packet {
	p.Payload = []byte{0, 0}
	full, partial := checksumOf(p.Frame()), checksumOf(p.PartialFrame())
	// in one's complement the payload must add full - partial
	p.Payload = binary.BigEndian.AppendUint16(nil, packet.Fold(uint32(full)+uint32(^partial)))
	return p
}

// A wrong checksum must stay wrong, by as much: otherwise damage goes unseen.
func TestWrongChecksumStaysWrong(t *testing.T) {
	damaged := func(p packet.Packet) []byte {
		frame := p.Frame()
		frame[len(frame)-1] ^= 0x40 // under the checksum of what it was
		return frame
	}
	inEveryMode(t, webAndDNS(), func(b *balancer, _ encoding) {
		for _, c := range b.conversations(wires()) {
			c.expectEncoded(forwarded, c.request(packet.ACK, "payload"), damaged, damaged)
			c.expectEncoded(reply, c.answer(packet.ACK, "payload"), damaged, damaged)
		}
	})
}

// Addresses and ports of every kind, so that every carry of the sums occurs.
func TestChecksumsOfManyAddresses(t *testing.T) {
	cfg := config()
	for i, address := range []string{"255.255.255.254:65535", "1.0.0.1:1", "203.0.113.5:80", "128.0.0.1:32768"} {
		s := service("web-"+address, address, lb.TCP, []string{"10.0.0.2:80", "254.255.255.255:65535", "1.0.0.2:1", "127.255.1.1:255"}[i])
		cfg.Services = append(cfg.Services, s)
	}
	inEveryMode(t, bothFamilies(cfg), func(b *balancer, _ encoding) {
		random := rand.New(rand.NewPCG(1, 2))
		for n := range 800 {
			vip := cfg.Services[n%len(cfg.Services)].Address.String()
			c := b.tcp(randomClient(random), vip).over(families()[n/400]).open()
			in, back := c.request(packet.ACK, "x"), c.answer(packet.ACK, "y")
			in.Seq, in.Ack, back.Seq, back.Ack = random.Uint32(), random.Uint32(), random.Uint32(), random.Uint32()
			in.ID, back.ID = uint16(random.Uint32()), uint16(random.Uint32())
			c.expect(forwarded, in)
			c.expect(reply, back)
		}
	})
}

func randomClient(random *rand.Rand) string {
	word := random.Uint32()
	return fmt.Sprintf("%d.%d.%d.%d:%d", 1+word>>24%223, byte(word>>16), byte(word>>8), byte(word), 1+random.IntN(65535))
}
