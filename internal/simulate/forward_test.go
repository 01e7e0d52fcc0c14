package simulate

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// mixed is a service with one backend, each of its own family.
func mixed(forward lb.Forward, vip, backend string) lb.Config {
	cfg := tutorial()
	s := &cfg.Services[0]
	s.Address, s.Protocols, s.Forward = lb.VIPAt(netip.MustParseAddrPort(vip)), []lb.Protocol{lb.TCP, lb.UDP}, forward
	s.Tunnel.Port = guePort
	s.Backends = []lb.Backend{{Name: "one", Address: netip.MustParseAddrPort(backend), Weight: 1}}
	return cfg
}

// Every mode in every mix of families: what leaves is right to the last bit, and
// comes from where the docs say.
func TestForwards(t *testing.T) {
	vips := []string{"192.17.0.5:80", "[2001:db8::5]:80"}
	backends := []string{"192.17.0.2:80", "[2001:db8::2]:80"}
	standIns := []string{"192.0.2.1", "2001:db8::1"}
	for _, forward := range lb.Forwards() {
		for i, vip := range vips {
			for j, backend := range backends {
				if forward == lb.ForwardDNAT && i != j {
					continue // the client's address stays in the packet
				}
				own := netip.MustParseAddrPort(vip).Addr()
				if i != j {
					own = netip.MustParseAddr(standIns[j])
				}
				t.Run(fmt.Sprint(forward, " from ", vip, " to ", backend), func(t *testing.T) {
					cfg := mixed(forward, vip, backend)
					s := simulator(t, cfg, Options{})
					service := cfg.Services[0]
					client, vip := clientOf(service), firstPort(service)
					syn := packet.NewTCP(client, vip, packet.SYN, "")
					syn.TCPOptions, syn.TOS = []byte{2, 4, 5, 160}, 0x29
					forwardOne(t, s, service, own, syn)
					forwardOne(t, s, service, own, packet.NewUDP(client, vip, "odd"))
				})
			}
		}
	}
}

func forwardOne(t *testing.T, s *Simulator, service lb.Service, own netip.Addr, asked packet.Packet) {
	t.Helper()
	asked.SrcMAC, asked.DstMAC = clientMAC(), localMAC()
	step, out := give(t, s, time.Unix(1, 0), asked)
	wantStep(t, step, "TX", "new-flow", "web", "one")
	if out.SrcMAC != localMAC() || out.DstMAC != defaultNextHop() {
		t.Errorf("from %x to %x", out.SrcMAC, out.DstMAC)
	}
	backend := service.Backends[0].Address
	switch service.Forward {
	case lb.ForwardNAT:
		wantAddresses(t, out, netip.AddrPortFrom(own, out.Src.Port()), backend)
		answerOne(t, s, asked, out)
	case lb.ForwardDNAT:
		wantAddresses(t, out, asked.Src, backend)
		answerOne(t, s, asked, out)
	case lb.ForwardDSR:
		wantSame(t, asked, out)
	case lb.ForwardIPIP:
		wantAddresses(t, out, netip.AddrPortFrom(own, 0), netip.AddrPortFrom(backend.Addr(), 0))
		wantInside(t, asked, out)
	case lb.ForwardGUE:
		wantAddresses(t, out, netip.AddrPortFrom(own, out.Src.Port()), netip.AddrPortFrom(backend.Addr(), guePort))
		wantInside(t, asked, out)
	}
}

func wantAddresses(t *testing.T, got packet.Packet, src, dst netip.AddrPort) {
	t.Helper()
	if got.Src != src || got.Dst != dst {
		t.Errorf("from %s to %s, want from %s to %s", got.Src, got.Dst, src, dst)
	}
}

// wantSame compares all but the Ethernet addresses.
func wantSame(t *testing.T, asked, got packet.Packet) {
	t.Helper()
	asked.SrcMAC, asked.DstMAC = got.SrcMAC, got.DstMAC
	if diff := packet.Diff(asked.Frame(), got.Frame()); diff != "" {
		t.Errorf("another packet:\n%s", diff)
	}
}

func wantInside(t *testing.T, asked, outer packet.Packet) {
	t.Helper()
	inner, err := outer.Inner(guePort)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, asked, inner)
	if outer.TOS != asked.TOS || outer.TTL != 64 {
		t.Errorf("the outer header has TOS %#x and TTL %d, want %#x and 64", outer.TOS, outer.TTL, asked.TOS)
	}
}

// answerOne has the backend answer what it got.
func answerOne(t *testing.T, s *Simulator, asked, got packet.Packet) {
	t.Helper()
	answer := got.Reply(packet.SYN|packet.ACK, "an answer")
	answer.DstMAC = localMAC()
	step, out := give(t, s, time.Unix(1, 0), answer)
	wantStep(t, step, "TX", "reply", "web", "one")
	wantAddresses(t, out, asked.Dst, asked.Src)
	if out.SrcMAC != localMAC() || out.DstMAC != clientMAC() || string(out.Payload) != "an answer" {
		t.Errorf("the client got %v", out)
	}
}

// What the config names comes before the stand-ins, in each family for itself.
func TestSourcesOfTheConfig(t *testing.T) {
	cfg := mixed(lb.ForwardGUE, "192.17.0.5:80", "[2001:db8::2]:80")
	s := &cfg.Services[0]
	s.Tunnel.Sources = []netip.Prefix{netip.MustParsePrefix("100::/64")}
	s.Backends = append(s.Backends, lb.Backend{Name: "four", Address: netip.MustParseAddrPort("192.17.0.2:80"), Weight: 1})
	sim := simulator(t, cfg, Options{})
	sources := map[string]netip.Prefix{"one": s.Tunnel.Sources[0], "four": netip.MustParsePrefix("192.17.0.5/32")}
	seen := map[string][]netip.Addr{}
	for port := range 64 {
		asked := request(aClient, packet.SYN, "")
		asked.Src = netip.AddrPortFrom(asked.Src.Addr(), uint16(40000+port))
		step, out := give(t, sim, time.Unix(1, 0), asked)
		if !sources[step.Backend].Contains(out.Src.Addr()) {
			t.Errorf("to backend %s from %s, want from %s", step.Backend, out.Src, sources[step.Backend])
		}
		seen[step.Backend] = append(seen[step.Backend], out.Src.Addr())
	}
	slices.SortFunc(seen["one"], netip.Addr.Compare)
	if spread := len(slices.Compact(seen["one"])); spread < 10 || len(seen["four"]) == 0 {
		t.Errorf("%d sources out of the prefix, %d packets from the VIP", spread, len(seen["four"]))
	}
	if len(cfg.Services[0].Tunnel.Sources) != 1 || len(cfg.Services[0].SNAT.Addresses) != 0 {
		t.Errorf("the caller's config was changed: %+v", cfg.Services[0])
	}
}

// A backend that is its own client would answer itself; other clients would not.
func TestBackendIsClient(t *testing.T) {
	cfg := mixed(lb.ForwardDNAT, vip, "192.17.0.2:80")
	s := simulator(t, cfg, Options{})
	asked := request("192.17.0.2:40000", packet.SYN, "")
	step, out := give(t, s, time.Unix(1, 0), asked)
	wantStep(t, step, "TX", "new-flow-snat", "web", "one")
	wantAddresses(t, out, netip.AddrPortFrom(netip.MustParseAddr("192.17.0.5"), out.Src.Port()), cfg.Services[0].Backends[0].Address)
	answerOne(t, s, asked, out)
	step, _ = give(t, s, time.Unix(1, 0), request("192.17.0.3:40000", packet.SYN, ""))
	wantStep(t, step, "TX", "new-flow", "web", "one")
}

// The smallest range counts, and a backend without a port gets the packet's.
func TestPortRanges(t *testing.T) {
	cfg := tutorial()
	cfg.Services = nil
	for _, c := range []struct{ name, ports, backend string }{
		{"all", "*", "192.17.0.2"}, {"range", "8000-8100", "192.17.0.3"}, {"one", "8080", "192.17.0.6"},
	} {
		s := tutorial().Services[0]
		s.Name = c.name
		if err := s.Address.UnmarshalText([]byte("192.17.0.5:" + c.ports)); err != nil {
			t.Fatal(err)
		}
		s.Backends = []lb.Backend{{Address: netip.AddrPortFrom(netip.MustParseAddr(c.backend), 0), Weight: 1}}
		cfg.Services = append(cfg.Services, s)
	}
	s := simulator(t, cfg, Options{})
	for port, want := range map[uint16]string{
		1: "all", 7999: "all", 8000: "range", 8079: "range", 8080: "one", 8081: "range", 8100: "range", 8101: "all", 65535: "all",
	} {
		asked := request(aClient, packet.SYN, "")
		asked.Dst = netip.AddrPortFrom(asked.Dst.Addr(), port)
		step, out := give(t, s, time.Unix(1, 0), asked)
		wantStep(t, step, "TX", "new-flow", want, step.Backend)
		if out.Dst.Port() != port || out.Dst.Addr().String() != step.Backend {
			t.Errorf("port %d: sent to %s, backend %q", port, out.Dst, step.Backend)
		}
		answerTo(t, s, asked, out, want)
	}
}

func answerTo(t *testing.T, s *Simulator, asked, got packet.Packet, service string) {
	t.Helper()
	answer := got.Reply(packet.SYN|packet.ACK, "")
	answer.DstMAC = localMAC()
	step, out := give(t, s, time.Unix(1, 0), answer)
	wantStep(t, step, "TX", "reply", service, got.Dst.Addr().String())
	wantAddresses(t, out, asked.Dst, asked.Src)
}

// What the data plane answers of its own accord leaves by the same interface.
func TestAnswersOfItsOwn(t *testing.T) {
	cfg := tutorial()
	cfg.RateLimits = lb.RateLimits{Resets: 10, ICMPErrors: 10}
	s := simulator(t, cfg, Options{OutInterface: true})
	stray := request(aClient, packet.ACK, "data")
	step, out := give(t, s, time.Unix(1, 0), stray)
	wantStep(t, step, "TX", "no-flow", "web", "")
	if wantAddresses(t, out, stray.Dst, stray.Src); out.Flags != packet.RST || out.DstMAC != clientMAC() {
		t.Errorf("got %v, want a RST to the client", out)
	}
	late := request(aClient, packet.SYN, "")
	late.TTL = 1
	step, out = give(t, s, time.Unix(1, 0), late)
	wantStep(t, step, "TX", "ttl-expired", "web", "")
	if out.Protocol != packet.ICMP || out.ICMPType != packet.TimeExceeded || out.Dst.Addr() != late.Src.Addr() || out.Src.Addr() != late.Dst.Addr() {
		t.Errorf("got %v, want time exceeded from the VIP to the client", out)
	}
}
