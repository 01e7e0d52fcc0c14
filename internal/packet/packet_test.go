package packet

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
)

func client() netip.AddrPort   { return netip.MustParseAddrPort("192.17.0.4:40000") }
func vip() netip.AddrPort      { return netip.MustParseAddrPort("192.17.0.5:80") }
func clientV6() netip.AddrPort { return netip.MustParseAddrPort("[2001:db8::4]:40000") }
func vipV6() netip.AddrPort    { return netip.MustParseAddrPort("[2001:db8::5]:80") }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// randomPacket uses every field that its headers have.
func randomPacket(r *rand.Rand) Packet {
	p := Packet{
		SrcMAC: lb.MAC(randomBytes(r, 6)), DstMAC: lb.MAC(randomBytes(r, 6)),
		TOS: uint8(r.Uint32()), TTL: uint8(r.Uint32()),
		Payload: nonEmpty(randomBytes(r, r.IntN(200))),
		Trailer: nonEmpty(randomBytes(r, r.IntN(2)*r.IntN(40))),
	}
	for range r.IntN(3) {
		p.VLAN = append(p.VLAN, Tag{[]uint16{EtherTypeVLAN, EtherTypeQinQ}[r.IntN(2)], uint16(r.Uint32())})
	}
	var src, dst netip.Addr
	if r.IntN(2) == 0 {
		src, dst = netip.AddrFrom4([4]byte(randomBytes(r, 4))), netip.AddrFrom4([4]byte(randomBytes(r, 4)))
		p.ID, p.ReservedFlag, p.DontFragment = uint16(r.Uint32()), r.IntN(2) == 0, r.IntN(2) == 0
		p.IPOptions = nonEmpty(randomBytes(r, r.IntN(2)*4*r.IntN(11)))
		if r.IntN(4) == 0 {
			p.MoreFragments, p.FragmentOffset = true, uint16(r.IntN(1<<13))
		}
	} else {
		src, dst = netip.AddrFrom16([16]byte(randomBytes(r, 16))), netip.AddrFrom16([16]byte(randomBytes(r, 16)))
		p.FlowLabel = uint32(r.IntN(1 << 20))
	}
	p.Src, p.Dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
	p.Protocol = []lb.Protocol{lb.TCP, lb.UDP, ICMP, ICMPv6, IPv4InIP, IPv6InIP, 47}[r.IntN(7)]
	return withTransport(r, p)
}

// randomIP is an IP packet.
func randomIP(r *rand.Rand, isIPv4 bool) []byte {
	for {
		p := randomPacket(r)
		if p.Src.Addr().Is4() == isIPv4 {
			p.VLAN, p.Trailer = nil, nil
			return p.Frame()[ethernetSize:]
		}
	}
}

func withTransport(r *rand.Rand, p Packet) Packet {
	switch p.transport() {
	case lb.TCP:
		p.Flags = TCPFlags(r.IntN(1 << 12))
		p.Seq, p.Ack, p.Window, p.Urgent = r.Uint32(), r.Uint32(), uint16(r.Uint32()), uint16(r.Uint32())
		p.TCPOptions = nonEmpty(randomBytes(r, 4*r.IntN(11)))
	case lb.UDP:
		p.NoUDPChecksum = p.Src.Addr().Is4() && r.IntN(4) == 0
	case ICMP, ICMPv6:
		p.ICMPType, p.ICMPCode, p.ICMPRest = uint8(r.Uint32()), uint8(r.Uint32()), r.Uint32()
		if p.IsICMPError() {
			quote := randomIP(r, p.Src.Addr().Is4())
			p.Payload = quote[:min(len(quote), 68+r.IntN(50))] // 60 bytes of IPv4 header, and 8
		}
		return p
	default:
		if !p.IsFragment() && (p.Protocol == IPv4InIP || p.Protocol == IPv6InIP) {
			p.Payload = randomIP(r, p.Protocol == IPv4InIP)
		}
		return p
	}
	p.Src = netip.AddrPortFrom(p.Src.Addr(), uint16(r.Uint32()))
	p.Dst = netip.AddrPortFrom(p.Dst.Addr(), uint16(r.Uint32()))
	return p
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestReadIsTheInverseOfFrame(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for i := range 20_000 {
		want := randomPacket(random)
		frame := want.Frame()
		got, err := Read(frame)
		if err != nil {
			t.Fatalf("packet %d, %+v: %v", i, want, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("packet %d:\n got %+v\nwant %+v", i, got, want)
		}
		if err := Verify(frame); err != nil {
			t.Fatalf("packet %d, %+v: %v", i, want, err)
		}
	}
}

// The bytes are written by hand from RFC 791, 768 and 9293. The IPv4 header
// of the datagram is a well-known example of the header checksum.
func TestKnownFrames(t *testing.T) {
	macs := Packet{SrcMAC: lb.MAC{2, 0, 0, 0, 0, 1}, DstMAC: lb.MAC{2, 0, 0, 0, 0, 2}}
	datagram := NewUDP(netip.MustParseAddrPort("192.168.0.1:53"), netip.MustParseAddrPort("192.168.0.199:1024"),
		strings.Repeat("\x00", 0x73-28))
	datagram.SrcMAC, datagram.DstMAC, datagram.DontFragment = macs.SrcMAC, macs.DstMAC, true
	syn := NewTCP(client(), vip(), SYN, "")
	syn.SrcMAC, syn.DstMAC, syn.VLAN, syn.Seq = macs.SrcMAC, macs.DstMAC, []Tag{VLAN(5)}, 0x01020304
	syn.TCPOptions = []byte{2, 4, 5, 0xb4}
	echo := NewEcho(clientV6().Addr(), vipV6().Addr(), 1, 2, "")
	for _, c := range []struct {
		name   string
		packet Packet
		want   string
	}{
		{"udp", datagram, `020000000002 020000000001 0800
			4500 0073 0000 4000 4011 b861 c0a80001 c0a800c7
			0035 0400 005f 78e2` + strings.Repeat("00", 0x73-28)},
		{"tcp with a tag and options", syn, `020000000002 020000000001 8100 0005 0800
			4500 002c 0000 4000 4006 baa0 c0110004 c0110005
			9c40 0050 01020304 00000000 6002 ffff 7764 0000 020405b4`},
		{"icmp6", echo, `000000000000 000000000000 86dd
			60000000 0008 3a 40 20010db8000000000000000000000004 20010db8000000000000000000000005
			80 00 243f 0001 0002`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := Diff(unhex(t, c.want), c.packet.Frame()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPartialFrame(t *testing.T) {
	for _, p := range []Packet{
		NewTCP(client(), vip(), PSH|ACK, "hello"), NewTCP(clientV6(), vipV6(), PSH|ACK, "hello"),
		NewUDP(client(), vip(), "hello"), NewUDP(clientV6(), vipV6(), "hello"),
	} {
		full, partial := p.Frame(), p.PartialFrame()
		header, field := ethernetSize+ipv6Size, 6
		if p.Src.Addr().Is4() {
			header = ethernetSize + ipv4Size
		}
		if p.Protocol == lb.TCP {
			field = 16
		}
		body := partial[header:]
		want := Fold(PseudoHeaderSum(p.Src.Addr(), p.Dst.Addr(), p.Protocol, len(body)))
		if got := uint16(body[field])<<8 | uint16(body[field+1]); got != want {
			t.Errorf("%v: the field is %#04x, want the sum of the pseudo-header %#04x", p, got, want)
		}
		// Completing is what hardware does: the sum of everything, that field included.
		checksum := Checksum(body, 0)
		body[field], body[field+1] = byte(checksum>>8), byte(checksum)
		if diff := Diff(full, partial); diff != "" {
			t.Errorf("%v, completed:\n%s", p, diff)
		}
	}
	p := NewUDP(client(), vip(), "hello")
	p.NoUDPChecksum = true
	if diff := Diff(p.Frame(), p.PartialFrame()); diff != "" {
		t.Errorf("without a checksum there is none to complete:\n%s", diff)
	}
}

func TestUDPChecksumIsNeverZero(t *testing.T) {
	for word := range 1 << 16 {
		p := NewUDP(client(), vip(), string([]byte{byte(word >> 8), byte(word)}))
		frame := p.Frame()
		if field := frame[40:42]; field[0] == 0xff && field[1] == 0xff {
			if err := Verify(frame); err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Error("no payload made the checksum 0xffff")
}

func TestFramePanicsWhenImpossible(t *testing.T) {
	for name, change := range map[string]func(*Packet){
		"no addresses":     func(p *Packet) { p.Src = netip.AddrPort{} },
		"two families":     func(p *Packet) { p.Src = clientV6() },
		"three tags":       func(p *Packet) { p.VLAN = make([]Tag, 3) },
		"long IP options":  func(p *Packet) { p.IPOptions = make([]byte, 41) },
		"long TCP options": func(p *Packet) { p.TCPOptions = make([]byte, 44) },
		"long payload":     func(p *Packet) { p.Payload = make([]byte, 65535-39) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("there is a frame")
				}
			}()
			p := NewTCP(client(), vip(), SYN, "")
			change(&p)
			p.Frame()
		})
	}
}

func TestFramePadsOptions(t *testing.T) {
	p := NewTCP(client(), vip(), SYN, "")
	p.IPOptions, p.TCPOptions = []byte{7, 3, 4}, []byte{3, 3, 7}
	got, err := Read(p.Frame())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.IPOptions, []byte{7, 3, 4, 0}) || !bytes.Equal(got.TCPOptions, []byte{3, 3, 7, 0}) {
		t.Errorf("options are %x and %x", got.IPOptions, got.TCPOptions)
	}
}

func TestReply(t *testing.T) {
	request := NewTCP(client(), vip(), PSH|ACK, "GET /")
	request.SrcMAC, request.DstMAC, request.VLAN = lb.MAC{2, 1}, lb.MAC{2, 2}, []Tag{VLAN(7)}
	request.Seq, request.Ack, request.TTL, request.Trailer = 100, 200, 3, []byte{0}
	want := NewTCP(vip(), client(), PSH|ACK, "ok")
	want.SrcMAC, want.DstMAC, want.VLAN = lb.MAC{2, 2}, lb.MAC{2, 1}, []Tag{VLAN(7)}
	want.Seq, want.Ack = 200, 105
	if got := request.Reply(PSH|ACK, "ok"); !reflect.DeepEqual(got, want) {
		t.Errorf(" got %+v\nwant %+v", got, want)
	}
	for _, c := range []struct {
		request Packet
		flags   TCPFlags
		want    string
	}{
		{NewTCP(client(), vip(), SYN, ""), SYN | ACK, "192.17.0.5:80 > 192.17.0.4:40000 tcp SYN,ACK seq=0 ack=1 len=1"},
		{NewTCP(client(), vip(), FIN|ACK, "x"), RST, "192.17.0.5:80 > 192.17.0.4:40000 tcp RST seq=0 len=1"},
		{NewTCP(client(), vip(), FIN|ACK, "x"), ACK, "192.17.0.5:80 > 192.17.0.4:40000 tcp ACK seq=0 ack=2 len=1"},
		{NewUDP(clientV6(), vipV6(), "?"), 0, "[2001:db8::5]:80 > [2001:db8::4]:40000 udp len=1"},
		{NewEcho(client().Addr(), vip().Addr(), 1, 2, "?"), 0, "192.17.0.5 > 192.17.0.4 icmp type=0 code=0 rest=0x10002 len=1"},
		{NewEcho(clientV6().Addr(), vipV6().Addr(), 1, 2, "?"), 0, "2001:db8::5 > 2001:db8::4 icmp6 type=129 code=0 rest=0x10002 len=1"},
	} {
		if got := c.request.Reply(c.flags, "!").String(); got != c.want {
			t.Errorf(" got %s\nwant %s", got, c.want)
		}
	}
}

func TestString(t *testing.T) {
	fragment := NewUDP(client(), vip(), "12345678")
	fragment.VLAN = []Tag{{EtherTypeQinQ, 0x2005}, VLAN(6)}
	fragment.MoreFragments, fragment.FragmentOffset, fragment.ID = true, 2, 9
	other := Packet{Src: client(), Dst: vip(), Protocol: 47, Payload: []byte{1}}
	for want, p := range map[string]Packet{
		"192.17.0.4:40000 > 192.17.0.5:80 tcp none seq=0 len=0":                           NewTCP(client(), vip(), 0, ""),
		"192.17.0.4:40000 > 192.17.0.5:80 tcp FIN,CWR,reserved=0x3 seq=0 len=0":           NewTCP(client(), vip(), FIN|CWR|3<<8, ""),
		"vlan 5 vlan 6 192.17.0.4 > 192.17.0.5 udp fragment id=9 offset=16+ len=8":        fragment,
		"192.17.0.4 > 192.17.0.5 protocol-47 len=1":                                       other,
		"2001:db8::4 > 2001:db8::5 icmp6 type=128 code=0 rest=0x10002 len=4":              NewEcho(clientV6().Addr(), vipV6().Addr(), 1, 2, "ping"),
		"[2001:db8::4]:40000 > [2001:db8::5]:80 tcp PSH,ACK,URG,ECE seq=0 ack=0 len=0":    NewTCP(clientV6(), vipV6(), PSH|ACK|URG|ECE, ""),
		"192.17.0.4:40000 > 192.17.0.5:80 tcp SYN,RST seq=0 len=0":                        NewTCP(client(), vip(), SYN|RST, ""),
		fmt.Sprintf("192.17.0.4:40000 > 192.17.0.5:80 udp len=%d", len("any payload...")): NewUDP(client(), vip(), "any payload..."),
	} {
		if got := p.String(); got != want {
			t.Errorf(" got %s\nwant %s", got, want)
		}
	}
}

func TestFragments(t *testing.T) {
	whole := NewUDP(client(), vip(), strings.Repeat("0123456789", 100))
	whole.ID, whole.IPOptions = 77, []byte{1, 1, 1, 0}
	fragments := whole.Fragments(300)
	var body []byte
	for i, f := range fragments {
		frame := f.Frame()
		if err := Verify(frame); err != nil {
			t.Errorf("fragment %d: %v", i, err)
		}
		if size := len(frame) - ethernetSize; size > 300 {
			t.Errorf("fragment %d is %d bytes long", i, size)
		}
		if 8*int(f.FragmentOffset) != len(body) || f.MoreFragments != (i < len(fragments)-1) || f.ID != 77 {
			t.Errorf("fragment %d: %v after %d bytes", i, f, len(body))
		}
		body = append(body, f.Payload...)
	}
	if want := whole.Frame()[ethernetSize+ipv4Size+4:]; !bytes.Equal(body, want) {
		t.Error("together the fragments are not the datagram")
	}
	if len(fragments) != 4 {
		t.Errorf("%d fragments, want 4", len(fragments))
	}
	if got := whole.Fragments(1500); len(got) != 1 || !reflect.DeepEqual(got[0], whole) {
		t.Errorf("a datagram that fits became %v", got)
	}
}
