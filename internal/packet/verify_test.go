package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

func TestErrors(t *testing.T) {
	put16 := func(at int, value uint16) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint16(b[at:], value); return b }
	}
	put := func(at int, value byte) func([]byte) []byte {
		return func(b []byte) []byte { b[at] = value; return b }
	}
	cut := func(size int) func([]byte) []byte { return func(b []byte) []byte { return b[:size] } }
	tcp, udp := NewTCP(client(), vip(), ACK, "hello"), NewUDP(client(), vip(), "hello")
	tcp6, udp6 := NewTCP(clientV6(), vipV6(), ACK, "hello"), NewUDP(clientV6(), vipV6(), "hello")
	icmp, icmp6 := NewEcho(client().Addr(), vip().Addr(), 1, 1, ""), NewEcho(clientV6().Addr(), vipV6().Addr(), 1, 1, "")
	tagged := tcp
	tagged.VLAN = []Tag{VLAN(1), VLAN(2)}
	short := tcp
	short.Protocol, short.Payload = 47, make([]byte, 19)
	for _, c := range []struct {
		name   string
		packet Packet
		change func([]byte) []byte
		want   error
	}{
		{"nothing", tcp, cut(0), ErrTruncated},
		{"ethernet cut", tcp, cut(13), ErrTruncated},
		{"tag cut", tagged, cut(17), ErrTruncated},
		{"second tag cut", tagged, cut(21), ErrTruncated},
		{"arp", tcp, put16(12, 0x0806), ErrNotIP},
		{"802.3 length", tcp, put16(12, 45), ErrNotIP},
		{"third tag", tagged, put16(20, EtherTypeVLAN), ErrNotIP},
		{"ipv4 header cut", tcp, cut(33), ErrTruncated},
		{"ipv4 packet cut", tcp, cut(58), ErrTruncated},
		{"version 6 in ipv4", tcp, put(14, 0x65), ErrMalformed},
		{"header length 16", tcp, put(14, 0x44), ErrMalformed},
		{"total length 19", tcp, put16(16, 19), ErrMalformed},
		{"total length too long", tcp, put16(16, 46), ErrTruncated},
		{"total length of GSO", tcp, put16(16, 0), ErrMalformed},
		{"ipv4 checksum", tcp, put(22, 63), ErrChecksum},
		{"tcp header cut by total length", short, put(23, 6), ErrTruncated},
		{"data offset 16", tcp, put(46, 0x40), ErrMalformed},
		{"data offset behind the end", tcp, put(46, 0x70), ErrTruncated},
		{"tcp checksum", tcp, put(58, 'O'), ErrChecksum},
		{"udp header cut by total length", udp, put16(16, 27), ErrTruncated},
		{"udp length too long", udp, put16(38, 14), ErrTruncated},
		{"udp length too short", udp, put16(38, 12), ErrMalformed},
		{"udp checksum", udp, put(46, 'O'), ErrChecksum},
		{"udp checksum missing", udp, put16(40, 0), nil},
		{"udp checksum 0xffff", udp, put16(40, 0xffff), ErrChecksum},
		{"icmp cut by total length", icmp, put16(16, 27), ErrTruncated},
		{"icmp checksum", icmp, put(40, 9), ErrChecksum},
		{"ipv6 header cut", tcp6, cut(53), ErrTruncated},
		{"ipv6 packet cut", tcp6, cut(78), ErrTruncated},
		{"version 4 in ipv6", tcp6, put(14, 0x40), ErrMalformed},
		{"tcp6 checksum", tcp6, put(37, 9), ErrChecksum},
		{"udp6 checksum missing", udp6, put16(60, 0), ErrChecksum},
		{"icmp6 checksum", icmp6, put(60, 9), ErrChecksum},
	} {
		t.Run(c.name, func(t *testing.T) {
			frame := c.change(c.packet.Frame())
			if err := Verify(frame); !errors.Is(err, c.want) {
				t.Errorf("got error %v, want %v", err, c.want)
			}
			_, err := Read(frame)
			if checksums := c.want == nil || c.want == ErrChecksum; checksums && err != nil {
				t.Errorf("Read must not look at checksums: %v", err)
			} else if !checksums && !errors.Is(err, c.want) {
				t.Errorf("Read: got error %v, want %v", err, c.want)
			}
		})
	}
}

// 0xffff and 0 are equal as sums, but only 0 is what a sender computes.
func TestVerifyKnowsOneZeroOnly(t *testing.T) {
	for id := range 1 << 16 {
		p := NewTCP(client(), vip(), ACK, "")
		p.ID = uint16(id)
		frame := p.Frame()
		if frame[24] == 0 && frame[25] == 0 {
			frame[24], frame[25] = 0xff, 0xff
			if err := Verify(frame); !errors.Is(err, ErrChecksum) {
				t.Errorf("an IPv4 checksum of 0xffff: got error %v", err)
			}
			return
		}
	}
	t.Error("no id made the checksum zero")
}

// Everything behind the MAC addresses of a TCP packet over IPv4 is covered.
func TestVerifyNoticesEveryBit(t *testing.T) {
	p := NewTCP(client(), vip(), PSH|ACK, "an odd payload")
	p.IPOptions, p.TCPOptions = []byte{1, 1, 1, 0}, []byte{1, 1, 1, 0}
	p.ID, p.Seq, p.Ack = 0x1234, 0x567890ab, 0xcdef0123
	frame := p.Frame()
	everyBit(t, frame, 12)
	p.Src, p.Dst, p.IPOptions = clientV6(), vipV6(), nil
	everyBit(t, p.Frame(), ethernetSize+8) // IPv6 itself has no checksum: its addresses are in that of TCP
}

func everyBit(t *testing.T, frame []byte, from int) {
	t.Helper()
	for i := from; i < len(frame); i++ {
		for bit := range 8 {
			frame[i] ^= 1 << bit
			if Verify(frame) == nil {
				t.Errorf("bit %d of byte %d is not checked", bit, i)
			}
			frame[i] ^= 1 << bit
		}
	}
}

func TestDiff(t *testing.T) {
	base := func() Packet { return NewTCP(client(), vip(), SYN, "") }
	for _, c := range []struct {
		name   string
		change func(*Packet)
		want   string
	}{
		{"nothing", func(*Packet) {}, ""},
		{"mac", func(p *Packet) { p.DstMAC[5] = 7 },
			"ethernet destination: want 00:00:00:00:00:00, got 00:00:00:00:00:07\n"},
		{"ttl", func(p *Packet) { p.TTL-- },
			"ipv4 ttl: want 64, got 63\nipv4 checksum: want 0xbaa4, got 0xbba4\n"},
		{"ports", func(p *Packet) { p.Dst = vip(); p.Src = netipPort(p.Src, 40001) },
			"tcp source port: want 40000, got 40001\ntcp checksum: want 0x9326, got 0x9325\n"},
		{"flags", func(p *Packet) { p.Flags |= ACK },
			"tcp data offset and flags: want 20 bytes and SYN, got 20 bytes and SYN,ACK\ntcp checksum: want 0x9326, got 0x9316\n"},
		{"trailer", func(p *Packet) { p.Trailer = []byte{1, 2} },
			"trailer: want nothing, got 0x0102\n"},
		{"tag", func(p *Packet) { p.VLAN = []Tag{VLAN(9)} },
			"ethertype: want 0x0800, got 0x8100\nvlan tag 1: want nothing, got 0x0009\n" +
				"ethertype behind vlan tag 1: want nothing, got 0x0800\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := base()
			c.change(&p)
			if got := Diff(base().Frame(), p.Frame()); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestDiffOfPayloads(t *testing.T) {
	want := NewUDP(client(), vip(), strings.Repeat("a", 50)).Frame()
	got := bytes.Clone(want)
	got[len(got)-1] = 'b'
	const text = "payload: want 50 bytes, got 50; they differ from byte 49: want 0x61, got 0x62\n" +
		"got does not verify: UDP: wrong checksum: got 0x603b, want 0x603a\n"
	if diff := Diff(want, got); diff != text {
		t.Errorf("got\n%swant\n%s", diff, text)
	}
}

// Whatever differs, Diff says something, and a frame is never equal to its beginning.
func TestDiffNeverMissesAByte(t *testing.T) {
	tagged := NewTCP(client(), vip(), SYN, "hello")
	tagged.VLAN, tagged.IPOptions, tagged.TCPOptions = []Tag{VLAN(1), VLAN(2)}, []byte{1, 1, 1, 0}, []byte{1, 1, 1, 0}
	tagged.Trailer = []byte{1, 2, 3}
	for _, p := range []Packet{
		tagged, NewUDP(clientV6(), vipV6(), "hello"), NewEcho(client().Addr(), vip().Addr(), 1, 1, "x"),
		tagged.Fragments(36)[1], {Src: client(), Dst: vip(), Protocol: 47, Payload: []byte("gre")},
		around(client(), vip(), IPv4InIP, packetOf(tagged)[:44]), inGUE(clientV6(), vipV6(), IPv6InIP, packetOf(NewUDP(clientV6(), vipV6(), "x"))),
		timeExceeded(vip(), client(), packetOf(NewTCP(client(), vip(), SYN, ""))[:30]),
	} {
		frame := p.Frame()
		for i := range frame {
			changed := bytes.Clone(frame)
			changed[i] ^= 0x55
			if Diff(frame, changed) == "" || Diff(changed, frame) == "" {
				t.Errorf("%v: byte %d is not compared", p, i)
			}
			if Diff(frame, frame[:i]) == "" || Diff(frame[:i], frame) == "" {
				t.Errorf("%v: equal to its first %d bytes", p, i)
			}
		}
	}
}
