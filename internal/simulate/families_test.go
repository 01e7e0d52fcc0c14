package simulate

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// bothFamilies serves TCP and UDP on an IPv4 VIP and on an IPv6 one, each with
// one backend on another port.
func bothFamilies() lb.Config {
	cfg := tutorial()
	four := cfg.Services[0]
	four.Protocols = []lb.Protocol{lb.TCP, lb.UDP}
	four.Backends = []lb.Backend{{Name: "four", Address: netip.MustParseAddrPort("192.17.0.2:8080"), Weight: 1}}
	six := four
	six.Name, six.Address = "web-ipv6", netip.MustParseAddrPort("[2001:db8::5]:80")
	six.Backends = []lb.Backend{{Address: netip.MustParseAddrPort("[2001:db8::2]:8080"), Weight: 1}}
	cfg.Services = []lb.Service{four, six}
	return cfg
}

// Toward the backend and back, in every family and protocol and behind up to two
// VLAN tags, which the frames keep.
func TestFamiliesAndTags(t *testing.T) {
	qinq := packet.Tag{Type: packet.EtherTypeQinQ, Control: 5<<13 | 1<<12 | 100} // with priority, drop eligible
	for tagged, tags := range map[string][]packet.Tag{
		"untagged": nil,
		"one tag":  {packet.VLAN(7)},
		"two tags": {qinq, packet.VLAN(4094)},
	} {
		t.Run(tagged, func(t *testing.T) {
			s := simulator(t, bothFamilies(), Options{})
			for _, service := range bothFamilies().Services {
				client := netip.MustParseAddrPort("192.17.0.4:40000")
				if service.Address.Addr().Is6() {
					client = netip.MustParseAddrPort("[2001:db8:17::4]:40000")
				}
				syn := packet.NewTCP(client, service.Address, packet.SYN, "")
				syn.TCPOptions = []byte{2, 4, 5, 160} // MSS 1440
				converse(t, s, service, tags, syn, packet.SYN|packet.ACK)
				converse(t, s, service, tags, packet.NewUDP(client, service.Address, "odd"), 0)
			}
		})
	}
}

// converse has a client send a packet and the backend answer.
func converse(t *testing.T, s *Simulator, service lb.Service, tags []packet.Tag, asked packet.Packet, answerFlags packet.TCPFlags) {
	t.Helper()
	now := time.Unix(1, 0)
	backend := service.Backends[0]
	asked.SrcMAC, asked.DstMAC, asked.VLAN = clientMAC(), localMAC(), tags
	step, out := give(t, s, now, asked)
	wantStep(t, step, "TX", "new-flow", service.Name, backend.Label())
	want := asked
	want.SrcMAC, want.DstMAC = localMAC(), defaultNextHop()
	want.Src, want.Dst = netip.AddrPortFrom(service.Address.Addr(), out.Src.Port()), backend.Address
	if diff := packet.Diff(want.Frame(), step.Frame); diff != "" {
		t.Errorf("%s %s toward the backend:\n%s", service.Name, asked.Protocol, diff)
	}

	answer := out.Reply(answerFlags, "an answer")
	answer.DstMAC = localMAC()
	step, _ = give(t, s, now, answer)
	wantStep(t, step, "TX", "reply", service.Name, backend.Label())
	want = answer
	want.SrcMAC, want.DstMAC, want.Src, want.Dst = localMAC(), clientMAC(), asked.Dst, asked.Src
	if diff := packet.Diff(want.Frame(), step.Frame); diff != "" {
		t.Errorf("%s %s toward the client:\n%s", service.Name, asked.Protocol, diff)
	}
}

// A third tag hides the IP header, and a service is not looked for behind it.
func TestThreeTagsPass(t *testing.T) {
	s := simulator(t, bothFamilies(), Options{})
	frame := request(aClient, packet.SYN, "").Frame()
	const macs = 12
	for range 3 {
		frame = append(frame[:macs:macs], append([]byte{0x81, 0x00, 0, 7}, frame[macs:]...)...)
	}
	step, err := s.Run(packet.Record{Time: time.Unix(1, 0), Data: frame})
	if err != nil {
		t.Fatal(err)
	}
	wantStep(t, step, "PASS", "not-ip", "", "")
}

// The other family's address is another one, however alike the bits are.
func TestMappedAddressPasses(t *testing.T) {
	s := simulator(t, bothFamilies(), Options{})
	mapped := packet.NewTCP(netip.MustParseAddrPort("[::ffff:192.17.0.4]:40000"), netip.MustParseAddrPort("[::ffff:192.17.0.5]:80"), packet.SYN, "")
	mapped.DstMAC = localMAC()
	step, _ := give(t, s, time.Unix(1, 0), mapped)
	wantStep(t, step, "PASS", "not-ours", "", "")
}
