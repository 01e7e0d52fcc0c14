package lab_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lab/labtest"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

const guePort = 6080

// tunnelled is a packet on its way to a decapsulator.
type tunnelled struct {
	outer netip.Addr // where the tunnel ends
	inner []byte
	gue   []byte // nil: ipip
}

func (p tunnelled) send(t *testing.T, from *lab.Node) {
	t.Helper()
	if p.gue != nil {
		socket, err := from.ListenPacket("udp", ":0")
		must(t, err)
		defer socket.Close()
		_, err = socket.WriteTo(append(p.gue, p.inner...), net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.outer, guePort)))
		must(t, err)
		return
	}
	network := map[bool]string{true: "ip4:", false: "ip6:"}[p.outer.Is4()] + map[byte]string{4: "4", 6: "41"}[p.inner[0]>>4]
	socket, err := from.ListenPacket(network, "")
	must(t, err)
	defer socket.Close()
	_, err = socket.WriteTo(p.inner, &net.IPAddr{IP: p.outer.AsSlice()})
	must(t, err)
}

// tunnelEnd is a lab with a sender and a backend that has the VIPs.
func tunnelEnd(t *testing.T, forward lb.Forward) (sender, backend *lab.Node, d *lab.Decapsulator) {
	t.Helper()
	l := labtest.New(t)
	backend, sender = pairOnBridge(t, l, netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.0.0.2/24"))
	must(t, backend.AddAddress("eth0", netip.MustParsePrefix("2001:db8::1/64")))
	must(t, sender.AddAddress("eth0", netip.MustParsePrefix("2001:db8::2/64")))
	for _, vip := range vips() {
		must(t, backend.AddVIP(vip.Addr()))
	}
	return sender, backend, labtest.Decapsulate(t, backend, forward, guePort)
}

func vips() []netip.AddrPort {
	return []netip.AddrPort{netip.MustParseAddrPort("192.17.0.5:53"), netip.MustParseAddrPort("[2001:db8:5::5]:53")}
}

func TestDecapsulatorOfEveryFamilyMix(t *testing.T) {
	for _, forward := range []lb.Forward{lb.ForwardIPIP, lb.ForwardGUE} {
		t.Run(string(forward), func(t *testing.T) {
			sender, backend, d := tunnelEnd(t, forward)
			for _, vip := range vips() {
				server, err := backend.ListenPacket("udp", vip.String())
				must(t, err)
				defer server.Close()
				client := netip.AddrPortFrom(vip.Addr().Prev(), 1234)
				for _, outer := range []string{"10.0.0.1", "2001:db8::1"} {
					short := "for " + vip.String() + " by " + outer
					// The longer one's outer packet comes in fragments.
					for _, payload := range []string{short, strings.Repeat(short+" ", 100)} {
						p := tunnelled{outer: netip.MustParseAddr(outer), inner: packet.NewUDP(client, vip, payload).Frame()[14:]}
						if forward == lb.ForwardGUE {
							p.gue = gueHeader(p.inner)
						}
						p.send(t, sender)
						server.SetReadDeadline(time.Now().Add(10 * time.Second))
						buffer := make([]byte, 65535)
						size, from, err := server.ReadFrom(buffer)
						if err != nil || string(buffer[:size]) != payload || from.String() != client.String() {
							t.Errorf("%s came as %q from %v (%v)", payload, buffer[:size], from, err)
						}
					}
				}
			}
			if refused := d.Refused(); refused != 0 {
				t.Errorf("%d packets were refused", refused)
			}
		})
	}
}

// gueHeader is of variant 0, without options.
func gueHeader(inner []byte) []byte {
	return []byte{0, map[byte]byte{4: 4, 6: 41}[inner[0]>>4], 0, 0}
}

func TestDecapsulatorRefusesWhatIsMalformed(t *testing.T) {
	sender, backend, d := tunnelEnd(t, lb.ForwardGUE)
	vip := vips()[0]
	good := packet.NewUDP(netip.MustParseAddrPort("192.17.0.4:1234"), vip, "payload").Frame()[14:]
	longer := append([]byte{}, good...)
	binary.BigEndian.PutUint16(longer[2:], uint16(len(good)+1))
	tests := []struct {
		name       string
		gue, inner []byte
	}{
		{"another variant", []byte{1 << 6, 4, 0, 0}, good},
		{"a control message", []byte{1 << 5, 4, 0, 0}, good},
		{"options", []byte{1, 4, 0, 0}, good},
		{"flags", []byte{0, 4, 0, 1}, good},
		{"another protocol", []byte{0, 17, 0, 0}, good},
		{"another family", []byte{0, 41, 0, 0}, good},
		{"an inner length beyond the end", gueHeader(good), longer},
		{"nothing inside", []byte{0, 4, 0, 0}, nil},
	}
	for i, test := range tests {
		tunnelled{netip.MustParseAddr("10.0.0.1"), test.inner, test.gue}.send(t, sender)
		awaitNumber(t, test.name, uint64(i+1), func() (uint64, error) { return d.Refused(), nil })
	}
	if answered, err := backend.Counter("Icmp", "OutDestUnreachs"); err != nil || answered != 0 {
		t.Errorf("%d ICMP errors were sent (%v)", answered, err)
	}
}

// The kernel behind the tunnel sees wrong checksums, inner and outer.
func TestDecapsulatorLeavesChecksumsToTheKernel(t *testing.T) {
	sender, backend, _ := tunnelEnd(t, lb.ForwardIPIP)
	inner := packet.NewUDP(netip.MustParseAddrPort("192.17.0.4:1234"), vips()[0], "payload").Frame()[14:]
	inner[len(inner)-1]++
	server, err := backend.ListenPacket("udp", vips()[0].String())
	must(t, err)
	defer server.Close()
	tunnelled{outer: netip.MustParseAddr("10.0.0.1"), inner: inner}.send(t, sender)
	awaitCounter(t, backend, "Udp", "InCsumErrors", 1)
}

func awaitCounter(t *testing.T, node *lab.Node, group, name string, want uint64) {
	t.Helper()
	awaitNumber(t, group+name, want, func() (uint64, error) { return node.Counter(group, name) })
}

func awaitNumber(t *testing.T, what string, want uint64, read func() (uint64, error)) {
	t.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-poll.C {
		got, err := read()
		must(t, err)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d, want %d", what, got, want)
		}
	}
}
