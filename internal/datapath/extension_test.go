package datapath_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// extension is an IPv6 extension header (RFC 8200, section 4); its first byte,
// which names the header behind it, is filled in where it is used.
type extension struct {
	protocol lb.Protocol
	bytes    []byte
}

const (
	hopByHopProtocol    lb.Protocol = 0
	routingProtocol     lb.Protocol = 43
	fragmentProtocol    lb.Protocol = 44
	destinationProtocol lb.Protocol = 60
)

// sized is a header of so many bytes, a multiple of 8 up to 2048.
func sized(protocol lb.Protocol, size int) extension {
	bytes := pattern(size)
	bytes[1] = byte(size/8 - 1)
	return extension{protocol, bytes}
}

func hopByHop(size int) extension { return sized(hopByHopProtocol, size) }
func options(size int) extension  { return sized(destinationProtocol, size) }

func routing(size int, segmentsLeft byte) extension {
	e := sized(routingProtocol, size)
	e.bytes[2], e.bytes[3] = 0, segmentsLeft
	return e
}

// fragmentHeader is given the 16 bits of offset (in units of 8 bytes, times 8) and flags.
func fragmentHeader(offsetAndFlags uint16) extension {
	return extension{fragmentProtocol, put16([]byte{0, 0xee, 0, 0, 1, 2, 3, 4}, 2, offsetAndFlags)}
}

// behind puts TCP or UDP behind these headers.
func behind(headers ...extension) shape {
	return func(encode encoding) encoding {
		return func(p packet.Packet) []byte {
			frame := encode(p)
			next, at := ipAt(frame)+6, l4At(frame)
			size := len(frame) - at - len(p.Trailer)
			for _, h := range headers {
				frame = slices.Insert(frame, at, h.bytes...)
				frame[at], frame[next] = frame[next], byte(h.protocol)
				next, at, size = at, at+len(h.bytes), size+len(h.bytes)
			}
			return carrying(frame, size)
		}
	}
}

// withoutExtensions takes the extension headers out of a frame that is whole.
func withoutExtensions(frame []byte) []byte {
	if !isIPv6(frame) {
		return frame
	}
	frame = slices.Clone(frame)
	next, at := ipAt(frame)+6, l4At(frame)
	payload := int(binary.BigEndian.Uint16(frame[next-2:]))
	for {
		size := 8
		switch lb.Protocol(frame[next]) {
		case hopByHopProtocol, routingProtocol, destinationProtocol:
			size += 8 * int(frame[at+1])
		case fragmentProtocol:
		default:
			return carrying(frame, payload)
		}
		frame[next] = frame[at]
		frame = slices.Delete(frame, at, at+size)
		payload -= size
	}
}

// extensions are headers that a packet may have and be forwarded.
func extensions() map[string][]extension {
	all := map[string][]extension{
		"options, routing, options":             {options(16), routing(8, 0), options(24)},
		"all of RFC 8200's order":               {hopByHop(8), options(8), routing(24, 0), fragmentHeader(0), options(16)},
		"six":                                   {hopByHop(24), options(8), routing(24, 0), options(8), fragmentHeader(0), options(16)},
		"six of the same":                       slices.Repeat([]extension{options(16)}, 6),
		"an atomic fragment":                    {fragmentHeader(0)},
		"an atomic fragment with reserved bits": {fragmentHeader(6)},
		"an atomic fragment behind options":     {hopByHop(16), fragmentHeader(0)},
		"options behind an atomic fragment":     {fragmentHeader(0), options(40)},
	}
	for _, size := range []int{8, 16, 24, 56, 264, 1024, 2040, 2048} {
		all[fmt.Sprintf("hop-by-hop options of %d bytes", size)] = []extension{hopByHop(size)}
		all[fmt.Sprintf("destination options of %d bytes", size)] = []extension{options(size)}
		all[fmt.Sprintf("routing of %d bytes", size)] = []extension{routing(size, 0)}
	}
	return all
}

func TestExtensionHeaders(t *testing.T) {
	inEveryMode(t, webAndDNS(), func(b *balancer, partial encoding) {
		untagged, tagged := sixes()[0], sixes()[2]
		for _, c := range b.conversations([]wire{untagged, tagged}) {
			for name, headers := range extensions() {
				b.t.Run(c.String()+" "+name, func(t *testing.T) {
					c.in(t)
					c.testExtensions(headers, partial)
				})
			}
		}
	})
}

// sixes are the wires of IPv6.
func sixes() []wire {
	return slices.DeleteFunc(wires(), func(w wire) bool { return !w.six })
}

func (c *conversation) testExtensions(headers []extension, partial encoding) {
	c.t.Helper()
	for _, size := range []int{0, 513, 9000} {
		in, back := c.request(packet.ACK, string(pattern(size))), c.answer(packet.ACK, string(pattern(size)))
		in.TTL, in.TOS, in.FlowLabel, in.Trailer = 3, 0xb9, 0x54321, []byte("behind")
		c.exchange(in, back, partial, behind(headers...))
	}
}

// A flow's first packet has them, and the next one has not.
func TestExtensionHeadersOpenFlows(t *testing.T) {
	b := start(t, webAndDNS())
	n := 0
	for _, headers := range extensions() {
		n++
		encode := behind(headers...)(packet.Packet.Frame)
		for _, c := range []*conversation{b.tcp(clientAt(n), webVIP), b.udp(clientAt(n), dnsVIP)} {
			c.over(sixes()[0])
			c.expectEncoded(newFlow, c.request(packet.SYN, ""), encode, encode)
			c.play(step{0, backend, packet.SYN | packet.ACK, reply}, step{0, client, packet.ACK, forwarded})
		}
	}
}

type flawedHeaders struct {
	headers []extension
	want    string
}

// flawedExtensions are headers with which no packet is forwarded.
func flawedExtensions() map[string]flawedHeaders {
	const many, tooMany = "DROP many-headers", "PASS many-headers"
	return map[string]flawedHeaders{
		"seven":                            {slices.Repeat([]extension{options(8)}, 7), many},
		"eight":                            {slices.Repeat([]extension{options(8)}, 8), many},
		"thirty-two":                       {slices.Repeat([]extension{options(8)}, 32), many},
		"thirty-three":                     {slices.Repeat([]extension{options(8)}, 33), tooMany},
		"routing with segments left":       {[]extension{routing(24, 1)}, notOurs}, // somebody else's, in the end
		"hop-by-hop options second":        {[]extension{options(8), hopByHop(8)}, badIPHeader},
		"hop-by-hop options twice":         {[]extension{hopByHop(8), hopByHop(8)}, badIPHeader},
		"hop-by-hop options sixth":         {append(slices.Repeat([]extension{options(8)}, 5), hopByHop(8)), badIPHeader},
		"hop-by-hop options in a fragment": {[]extension{fragmentHeader(0), hopByHop(8)}, badIPHeader},
		"behind the first buffer":          {slices.Repeat([]extension{options(2048)}, 2), tooMany},
		"a header behind the first buffer": {slices.Repeat([]extension{options(2048)}, 4), tooMany},
	}
}

func TestFlawedExtensionHeaders(t *testing.T) {
	b := start(t, webAndDNS())
	for _, c := range b.conversations(sixes()) {
		for name, tc := range flawedExtensions() {
			t.Run(c.String()+" "+name, func(t *testing.T) {
				encode := behind(tc.headers...)(packet.Packet.Frame)
				b.in(t).wantFor(c.service().Name, fated{encode(c.request(packet.ACK, "data")), tc.want})
				b.wantFor(c.service().Name, fated{encode(c.answer(packet.ACK, "data")), tc.want})
			})
		}
	}
}

// Headers whose length leads out of the packet, or out of the frame.
func TestExtensionHeadersThatLie(t *testing.T) {
	b := start(t, webAndDNS())
	for _, c := range b.conversations(sixes()) {
		p := c.request(packet.ACK, "0123456789")
		l4 := l4At(p.Frame())
		for name, header := range map[string]extension{"hop-by-hop": hopByHop(8), "routing": routing(8, 0), "options": options(8)} {
			for _, says := range []int{40, 256, 2048} {
				t.Run(fmt.Sprintf("%v %s of 8 bytes says %d", c, name, says), func(t *testing.T) {
					frame := behind(header)(packet.Packet.Frame)(p)
					frame[l4+1] = byte(says/8 - 1)
					b.in(t).want(truncated, frame)
				})
			}
		}
		for size := range 8 { // of the header; behind it, but not in the packet, there is all it needs
			for _, header := range []extension{options(8), fragmentHeader(8)} {
				b.want(truncated, carrying(behind(header)(packet.Packet.Frame)(p), size))
			}
		}
	}
}
