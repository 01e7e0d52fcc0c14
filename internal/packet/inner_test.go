package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"reflect"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
)

const guePort = 6080

// packetOf is p without Ethernet.
func packetOf(p Packet) []byte { return p.Frame()[ethernetSize:] }

// around puts an IP packet into one from src to dst.
func around(src, dst netip.AddrPort, kind lb.Protocol, inner []byte) Packet {
	return Packet{Src: withoutPort(src), Dst: withoutPort(dst), Protocol: kind, TTL: 64, Payload: inner}
}

// inGUE puts an IP packet into GUE.
func inGUE(src, dst netip.AddrPort, kind lb.Protocol, inner []byte) Packet {
	p := NewUDP(src, netip.AddrPortFrom(dst.Addr(), guePort), "")
	p.Payload = append([]byte{0, byte(kind), 0, 0}, inner...)
	return p
}

// timeExceeded quotes an IP packet's beginning.
func timeExceeded(src, dst netip.AddrPort, quote []byte) Packet {
	p := Packet{Src: withoutPort(src), Dst: withoutPort(dst), Protocol: ICMPv6, TTL: 64, ICMPType: TimeExceededV6, Payload: quote}
	if src.Addr().Is4() {
		p.Protocol, p.ICMPType = ICMP, TimeExceeded
	}
	return p
}

func TestInner(t *testing.T) {
	v4, v6 := NewTCP(client(), vip(), SYN, "hello"), NewUDP(clientV6(), vipV6(), "hello")
	once := around(client(), vip(), IPv6InIP, packetOf(v6))
	for name, tc := range map[string]struct{ outer, want Packet }{
		"IPv4 in IPv4":     {around(client(), vip(), IPv4InIP, packetOf(v4)), v4},
		"IPv6 in IPv4":     {around(client(), vip(), IPv6InIP, packetOf(v6)), v6},
		"IPv4 in IPv6":     {around(clientV6(), vipV6(), IPv4InIP, packetOf(v4)), v4},
		"IPv6 in IPv6":     {around(clientV6(), vipV6(), IPv6InIP, packetOf(v6)), v6},
		"IPv4 in GUE":      {inGUE(client(), vip(), IPv4InIP, packetOf(v4)), v4},
		"IPv6 in GUE, v6":  {inGUE(clientV6(), vipV6(), IPv6InIP, packetOf(v6)), v6},
		"IPv4 in it twice": {around(client(), vip(), IPv4InIP, packetOf(once)), once},
	} {
		t.Run(name, func(t *testing.T) {
			frame := tc.outer.Frame()
			if err := Verify(frame, guePort); err != nil {
				t.Error(err)
			}
			outer, err := Read(frame)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := outer.Inner(guePort); err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("error %v\n got %+v\nwant %+v", err, got, tc.want)
			}
		})
	}
}

func TestNoInner(t *testing.T) {
	inner := packetOf(NewTCP(client(), vip(), SYN, ""))
	badVersion := inGUE(client(), vip(), IPv6InIP, inner)
	options := inGUE(client(), vip(), IPv4InIP, inner)
	options.Payload[0] = 1 // its header has a word more
	fragment := around(client(), vip(), IPv4InIP, inner)
	fragment.MoreFragments = true
	for name, tc := range map[string]struct {
		packet Packet
		want   error
	}{
		"TCP":                     {NewTCP(client(), vip(), SYN, ""), ErrNoInner},
		"UDP to another port":     {NewUDP(client(), vip(), string(inner)), ErrNoInner},
		"a fragment":              {fragment, ErrNoInner},
		"not the version it says": {badVersion, ErrMalformed},
		"GUE with options":        {options, ErrMalformed},
		"GUE without a header":    {NewUDP(client(), netip.AddrPortFrom(vip().Addr(), guePort), "abc"), ErrTruncated},
		"an end too early":        {around(client(), vip(), IPv4InIP, inner[:30]), ErrTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := tc.packet.Inner(guePort); !errors.Is(err, tc.want) {
				t.Errorf("got error %v, want %v", err, tc.want)
			}
			verified := Verify(tc.packet.Frame(), guePort)
			if tc.want == ErrNoInner && verified != nil || tc.want != ErrNoInner && !errors.Is(verified, tc.want) {
				t.Errorf("verified: %v", verified)
			}
		})
	}
}

// Every bit of a packet within another one is covered, by whatever is around it or
// by its own checksums; GUE over IPv4 has none of its own.
func TestVerifyLooksInside(t *testing.T) {
	inner := packetOf(NewTCP(client(), vip(), PSH|ACK, "an odd payload"))
	gue := inGUE(client(), vip(), IPv4InIP, inner)
	gue.NoUDPChecksum = true
	for name, p := range map[string]Packet{
		"IPIP": around(client(), vip(), IPv4InIP, inner), "IPIP over IPv6": around(clientV6(), vipV6(), IPv4InIP, inner),
		"GUE": gue,
	} {
		t.Run(name, func(t *testing.T) {
			frame := p.Frame()
			for i := len(frame) - len(inner); i < len(frame); i++ {
				for bit := range 8 {
					frame[i] ^= 1 << bit
					if Verify(frame, guePort) == nil {
						t.Errorf("bit %d of the inner packet's byte %d is not checked", bit, i-len(frame)+len(inner))
					}
					frame[i] ^= 1 << bit
				}
			}
		})
	}
}

func TestVerifyWantsNothingBehindTheInnerPacket(t *testing.T) {
	inner := packetOf(NewTCP(client(), vip(), SYN, ""))
	p := around(client(), vip(), IPv4InIP, append(inner, 0))
	if err := Verify(p.Frame()); !errors.Is(err, ErrMalformed) {
		t.Errorf("got error %v", err)
	}
	p.Payload, p.Trailer = inner, []byte{0}
	if err := Verify(p.Frame()); err != nil {
		t.Error(err)
	}
}

func TestQuoted(t *testing.T) {
	v4, v6 := NewTCP(client(), vip(), ACK, "hello"), NewUDP(clientV6(), vipV6(), "hello")
	v4.IPOptions = []byte{1, 1, 1, 0}
	change := func(b []byte, at int, value byte) []byte {
		b = bytes.Clone(b)
		b[at] = value
		return b
	}
	for name, tc := range map[string]struct {
		message Packet
		want    error
		src     netip.AddrPort
		size    int // of the quote, behind its IP header
	}{
		"all of it":                 {timeExceeded(vip(), client(), packetOf(v4)), nil, client(), 25},
		"8 bytes":                   {timeExceeded(vip(), client(), packetOf(v4)[:32]), nil, client(), 8},
		"7 bytes":                   {timeExceeded(vip(), client(), packetOf(v4)[:31]), ErrTruncated, client(), 0},
		"less than a header":        {timeExceeded(vip(), client(), packetOf(v4)[:22]), ErrTruncated, client(), 0},
		"more than there was":       {timeExceeded(vip(), client(), append(packetOf(v4), 0)), ErrMalformed, client(), 0},
		"a wrong header checksum":   {timeExceeded(vip(), client(), change(packetOf(v4), 8, 1)), ErrChecksum, client(), 25},
		"a wrong checksum of TCP":   {timeExceeded(vip(), client(), change(packetOf(v4), 40, 1)), nil, client(), 25},
		"IPv6":                      {timeExceeded(vipV6(), clientV6(), packetOf(v6)), nil, clientV6(), 13},
		"IPv6 quoted by IPv4":       {timeExceeded(vip(), client(), packetOf(v6)), ErrMalformed, client(), 0},
		"an echo reply quotes none": {NewEcho(client().Addr(), vip().Addr(), 1, 1, "x"), nil, netip.AddrPort{}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			if err := Verify(tc.message.Frame()); !errors.Is(err, tc.want) {
				t.Errorf("got error %v, want %v", err, tc.want)
			}
			quoted, err := tc.message.Quoted()
			switch {
			case tc.size < 0 && !errors.Is(err, ErrNoInner):
				t.Errorf("got error %v", err)
			case tc.size > 0 && (err != nil || quoted.Src != tc.src || len(quoted.Payload) != tc.size):
				t.Errorf("got %v of %d bytes, error %v", quoted.Src, len(quoted.Payload), err)
			}
		})
	}
}

// The checksums behind extension headers count too.
func TestVerifyBehindExtensionHeaders(t *testing.T) {
	segment := packetOf(NewTCP(clientV6(), vipV6(), ACK, "hello"))[ipv6Size:]
	options := []byte{byte(lb.TCP), 0, 1, 4, 0, 0, 0, 0} // PadN
	whole := []byte{byte(lb.TCP), 0, 0, 0, 1, 2, 3, 4}
	part := []byte{byte(lb.TCP), 0, 0, 1, 1, 2, 3, 4}
	elsewhere := []byte{byte(lb.TCP), 0, 4, 1, 0, 0, 0, 0}
	long := []byte{byte(lb.TCP), 9, 0, 0, 0, 0, 0, 0}
	wrong := bytes.Clone(segment)
	binary.BigEndian.PutUint16(wrong[16:], 1)
	for name, tc := range map[string]struct {
		first  lb.Protocol
		header []byte
		body   []byte
		want   error
	}{
		"options":                         {destinationOptions, options, segment, nil},
		"options, wrong":                  {destinationOptions, options, wrong, ErrChecksum},
		"hop by hop, wrong":               {hopByHop, options, wrong, ErrChecksum},
		"a fragment that is all, wrong":   {fragmentHeader, whole, wrong, ErrChecksum},
		"a fragment":                      {fragmentHeader, part, wrong, nil},
		"on its way elsewhere":            {routing, elsewhere, wrong, nil},
		"a header that is too long":       {routing, long, segment, ErrTruncated},
		"a header that is cut":            {routing, long[:4], nil, ErrTruncated},
		"a segment that is cut":           {destinationOptions, options, segment[:19], ErrTruncated},
		"without any, what Read verifies": {lb.TCP, nil, segment, nil},
	} {
		t.Run(name, func(t *testing.T) {
			body := append(bytes.Clone(tc.header), tc.body...)
			frame := Packet{Src: withoutPort(clientV6()), Dst: withoutPort(vipV6()), Protocol: 59, Payload: body}.Frame()
			frame[ethernetSize+6] = byte(tc.first)
			if err := Verify(frame); !errors.Is(err, tc.want) {
				t.Errorf("got error %v, want %v", err, tc.want)
			}
		})
	}
}

func TestStringOfPacketsInside(t *testing.T) {
	inner := NewTCP(client(), vip(), SYN, "hello")
	for want, p := range map[string]Packet{
		"192.17.0.4 > 192.17.0.5 ipip len=45 (192.17.0.4:40000 > 192.17.0.5:80 tcp SYN seq=0 len=5)":         around(client(), vip(), IPv4InIP, packetOf(inner)),
		"192.17.0.5 > 192.17.0.4 icmp type=11 code=0 rest=0x0 len=28 (192.17.0.4:40000 > 192.17.0.5:80 tcp)": timeExceeded(vip(), client(), packetOf(inner)[:28]),
		"192.17.0.4 > 192.17.0.5 ip6ip len=3": around(client(), vip(), IPv6InIP, []byte("...")),
	} {
		if got := p.String(); got != want {
			t.Errorf(" got %s\nwant %s", got, want)
		}
	}
}

func TestDiffLooksInside(t *testing.T) {
	inner := NewTCP(client(), vip(), SYN, "")
	other := inner
	other.TTL--
	const ttl = "ipv4 ttl: want 64, got 63\n"
	for name, tc := range map[string]struct {
		wrap func([]byte) Packet
		want string
	}{
		"IPIP": {func(b []byte) Packet { return around(client(), vip(), IPv4InIP, b) }, "inner " + ttl},
		"GUE":  {func(b []byte) Packet { return inGUE(clientV6(), vipV6(), IPv4InIP, b) }, "inner " + ttl},
		"ICMP": {func(b []byte) Packet { return timeExceeded(vip(), client(), b) }, "quoted " + ttl},
	} {
		t.Run(name, func(t *testing.T) {
			diff := Diff(tc.wrap(packetOf(inner)).Frame(), tc.wrap(packetOf(other)).Frame())
			if !bytes.Contains([]byte(diff), []byte(tc.want)) {
				t.Errorf("got\n%swant %s", diff, tc.want)
			}
		})
	}
}
