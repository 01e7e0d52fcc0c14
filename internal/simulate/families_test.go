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
	six.Name, six.Address = "web-ipv6", lb.VIPAt(netip.MustParseAddrPort("[2001:db8::5]:80"))
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
				client, vip := clientOf(service), firstPort(service)
				syn := packet.NewTCP(client, vip, packet.SYN, "")
				syn.TCPOptions = []byte{2, 4, 5, 160} // MSS 1440
				converse(t, s, service, tags, syn, packet.SYN|packet.ACK)
				converse(t, s, service, tags, packet.NewUDP(client, vip, "odd"), 0)
			}
		})
	}
}

// clientOf is a client of the VIP's family.
func clientOf(service lb.Service) netip.AddrPort {
	if service.Address.Addr.Is4() {
		return netip.MustParseAddrPort("192.17.0.4:40000")
	}
	return netip.MustParseAddrPort("[2001:db8:17::4]:40000")
}

func firstPort(service lb.Service) netip.AddrPort {
	return netip.AddrPortFrom(service.Address.Addr, service.Address.Ports.First)
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
	want.TTL--
	want.SrcMAC, want.DstMAC = localMAC(), defaultNextHop()
	want.Src, want.Dst = netip.AddrPortFrom(service.Address.Addr, out.Src.Port()), backend.Address
	if diff := packet.Diff(want.Frame(), step.Frame); diff != "" {
		t.Errorf("%s %s toward the backend:\n%s", service.Name, asked.Protocol, diff)
	}

	answer := out.Reply(answerFlags, "an answer")
	answer.DstMAC = localMAC()
	step, _ = give(t, s, now, answer)
	wantStep(t, step, "TX", "reply", service.Name, backend.Label())
	want = answer
	want.TTL--
	want.SrcMAC, want.DstMAC, want.Src, want.Dst = localMAC(), clientMAC(), asked.Dst, asked.Src
	if diff := packet.Diff(want.Frame(), step.Frame); diff != "" {
		t.Errorf("%s %s toward the client:\n%s", service.Name, asked.Protocol, diff)
	}
}

// What more than two tags hide is not forwarded, and five are not looked behind.
func TestManyTags(t *testing.T) {
	s := simulator(t, bothFamilies(), Options{})
	for tags, want := range map[int]Step{
		3: {Verdict: "DROP", Reason: "many-headers", Service: "web"},
		5: {Verdict: "PASS", Reason: "not-ip"},
	} {
		frame := request(aClient, packet.SYN, "").Frame()
		const macs = 12
		for range tags {
			frame = append(frame[:macs:macs], append([]byte{0x81, 0x00, 0, 7}, frame[macs:]...)...)
		}
		step, err := s.Run(packet.Record{Time: time.Unix(1, 0), Data: frame})
		if err != nil {
			t.Fatal(err)
		}
		wantStep(t, step, want.Verdict, want.Reason, want.Service, "")
	}
}

// The other family's address is another one, however alike the bits are.
func TestMappedAddressPasses(t *testing.T) {
	s := simulator(t, bothFamilies(), Options{})
	mapped := packet.NewTCP(netip.MustParseAddrPort("[::ffff:192.17.0.4]:40000"), netip.MustParseAddrPort("[::ffff:192.17.0.5]:80"), packet.SYN, "")
	mapped.DstMAC = localMAC()
	step, _ := give(t, s, time.Unix(1, 0), mapped)
	wantStep(t, step, "PASS", "not-ours", "", "")
}
