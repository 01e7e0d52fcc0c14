package datapath_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// reasonCase brings a packet to leave for one reason. It gives that packet
// last; until then it may give others.
type reasonCase struct {
	want outcome
	last func(b *balancer, c *conversation) []byte
}

// A reason that is added to bpf/types.h needs a case here.
func reasonCases() map[string]reasonCase {
	pass := func(reason string) outcome { return outcome{verdict: "PASS", reason: reason} }
	ofWeb := func(verdict, reason, backend string) outcome {
		return outcome{verdict: verdict, reason: reason, service: "web", backend: backend}
	}
	first := func(change func(frame []byte) []byte) func(*balancer, *conversation) []byte {
		return func(_ *balancer, c *conversation) []byte { return change(c.request(packet.SYN, "").Frame()) }
	}
	return map[string]reasonCase{
		"not-ip": {pass("not-ip"), first(func(frame []byte) []byte { return put16(frame, 12, 0x0806) })},
		"not-ours": {pass("not-ours"), first(func(frame []byte) []byte {
			return put16(frame, 14+20+2, 81) // the port
		})},
		"other-mac":      {pass("other-mac"), first(func(frame []byte) []byte { return put16(frame, 0, 0x0201) })},
		"bad-ip-header":  {pass("bad-ip-header"), first(func(frame []byte) []byte { return put16(frame, 14, 0x4400) })},
		"other-protocol": {pass("other-protocol"), first(func(frame []byte) []byte { return put16(frame, 14+8, 0x402f) })},
		"icmp":           {pass("icmp"), first(func(frame []byte) []byte { return put16(frame, 14+8, 0x4001) })},
		"new-flow":       {ofWeb("TX", "new-flow", backendA), first(func(frame []byte) []byte { return frame })},
		"forwarded": {ofWeb("TX", "forwarded", backendA), func(_ *balancer, c *conversation) []byte {
			return c.establish().request(packet.ACK, "").Frame()
		}},
		"reply": {ofWeb("TX", "reply", backendA), func(_ *balancer, c *conversation) []byte {
			return c.establish().answer(packet.ACK, "").Frame()
		}},
		"truncated": {ofWeb("ABORTED", "truncated", ""), first(func(frame []byte) []byte { return frame[:len(frame)-1] })},
		"malformed": {ofWeb("DROP", "malformed", ""), first(func(frame []byte) []byte {
			return put16(frame, 14+20+12, 0x4002) // a data offset of 4 words
		})},
		"no-flow": {ofWeb("TX", "no-flow", ""), func(_ *balancer, c *conversation) []byte {
			return c.request(packet.ACK, "").Frame()
		}},
		"no-backend": {ofWeb("TX", "no-backend", ""), func(b *balancer, c *conversation) []byte {
			b.cfg.Services[0].Backends[0].Weight = 0
			b.apply(b.cfg)
			return c.request(packet.SYN, "").Frame()
		}},
		"no-next-hop": {ofWeb("DROP", "no-next-hop", backendA), func(b *balancer, c *conversation) []byte {
			c.establish()
			b.hopTo(c.backend, lb.NextHop{Problem: "neighbour failed"})
			return c.request(packet.ACK, "").Frame()
		}},
		// the backend's name is gone too
		"backend-gone": {ofWeb("DROP", "backend-gone", ""), func(b *balancer, c *conversation) []byte {
			c.establish()
			b.cfg.Services[0] = withPorts(web(backendB), 2000, 2000)
			b.apply(b.cfg)
			return c.request(packet.ACK, "").Frame()
		}},
		"flow-table-full": {ofWeb("DROP", "flow-table-full", backendA), func(b *balancer, c *conversation) []byte {
			cfg := b.cfg
			cfg.Services = append(cfg.Services, withPorts(service("filler", "203.0.113.9:80", lb.TCP, backendB), 3000, 3999))
			b.apply(cfg)
			for n := range cfg.Limits.Flows {
				b.tcp(clientAt(int(n)), "203.0.113.9:80").establish()
			}
			return c.request(packet.SYN, "").Frame()
		}},
		"flow-table-busy": {ofWeb("DROP", "flow-table-busy", backendA), func(b *balancer, c *conversation) []byte {
			b.cfg.Services[0] = withPorts(web(backendA), 2000, 2099) // a port whose lock is another one
			b.apply(b.cfg)
			turn := func() { b.must(b.datapath.TurnLock(c.protocol, c.client, c.vip)) }
			turn()
			b.t.Cleanup(turn)
			return c.request(packet.SYN, "").Frame()
		}},
		"many-headers": {
			outcome{verdict: "DROP", reason: "many-headers", service: "web over IPv6"},
			func(_ *balancer, c *conversation) []byte {
				seven := behind(slices.Repeat([]extension{options(8)}, 7)...)(packet.Packet.Frame)
				return seven(c.over(families()[1]).request(packet.SYN, ""))
			},
		},
		"ttl-expired": {ofWeb("TX", "ttl-expired", ""), func(_ *balancer, c *conversation) []byte {
			p := c.request(packet.SYN, "")
			p.TTL = 1
			return p.Frame()
		}},
		"new-flow-snat": {ofWeb("TX", "new-flow-snat", backendA), func(b *balancer, c *conversation) []byte {
			b.cfg.Services[0].Forward = lb.ForwardDNAT
			b.apply(b.cfg)
			c.client = netip.AddrPortFrom(netip.MustParseAddrPort(backendA).Addr(), 40000)
			return c.request(packet.SYN, "").Frame()
		}},
		"mtu-exceeded": {ofWeb("TX", "mtu-exceeded", backendA), func(b *balancer, c *conversation) []byte {
			b.cfg.Services[0].Forward = lb.ForwardIPIP
			only := b.cfg.Services[0].Backends[0]
			hop := b.hops[only.Address.Addr()]
			hop.MTU = 1500
			b.hopTo(only, hop)
			return c.request(packet.SYN, strings.Repeat("x", 1500-2*20-20+1)).Frame()
		}},
		"too-big": {ofWeb("DROP", "too-big", backendA), func(b *balancer, c *conversation) []byte {
			b.cfg.Services[0].Forward = lb.ForwardIPIP
			b.apply(b.cfg)
			return c.request(packet.SYN, strings.Repeat("x", 65535-20-20)).Frame()
		}},
		"source-route": {ofWeb("DROP", "source-route", backendSix), func(b *balancer, c *conversation) []byte {
			b.cfg.Services[0].Backends = backends(backendSix)
			b.apply(b.cfg)
			p := c.request(packet.SYN, "")
			p.IPOptions = []byte{131, 7, 4, 192, 0, 2, 1, 0}
			return p.Frame()
		}},
		"source-denied": {ofWeb("DROP", "source-denied", ""), func(b *balancer, c *conversation) []byte {
			b.cfg.Services[0].Deny = []netip.Prefix{netip.PrefixFrom(c.client.Addr(), 32)}
			b.apply(b.cfg)
			return c.request(packet.SYN, "").Frame()
		}},
		"client-rate": {ofWeb("DROP", "client-rate", ""), afterAnother(func(s *lb.Service) {
			s.PerClient = lb.ClientRate{NewFlowsPerSecond: 1, PrefixV4: 8}
		})},
		"service-rate":      {ofWeb("DROP", "service-rate", ""), afterAnother(func(s *lb.Service) { s.NewFlowsPerSecond = 1 })},
		"max-flows-service": {ofWeb("DROP", "max-flows-service", ""), afterAnother(func(s *lb.Service) { s.MaxFlows = 1 })},
		"max-flows-backend": {ofWeb("DROP", "max-flows-backend", ""), afterAnother(func(s *lb.Service) { s.Backends[0].MaxFlows = 1 })},
		"fragment": {outcome{verdict: "PASS", reason: "fragment"}, func(b *balancer, c *conversation) []byte {
			c.vip = netip.AddrPortFrom(c.vip.Addr(), 9999)
			pieces := c.pieces(b)
			b.want(notOurs, pieces[0])
			return pieces[1]
		}},
		"fragment-held": {outcome{verdict: "DROP", reason: "fragment-held"}, func(b *balancer, c *conversation) []byte {
			return c.pieces(b)[1]
		}},
		"fragment-overlap": {ofWeb("DROP", "fragment-overlap", backendA), func(b *balancer, c *conversation) []byte {
			pieces := c.pieces(b)
			b.run(pieces[0])
			return put16(pieces[1], ipAt(pieces[1])+6, 0x2000|4)
		}},
		"fragment-tiny": {ofWeb("DROP", "fragment-tiny", ""), func(_ *balancer, c *conversation) []byte {
			return packet.Cut(c.request(packet.SYN, "").Frame(), 8, 1)[0]
		}},
		"fragment-duplicate": {ofWeb("DROP", "fragment-duplicate", backendA), func(b *balancer, c *conversation) []byte {
			pieces := c.pieces(b)
			b.run(pieces[0])
			return pieces[0]
		}},
		"fragment-full": {outcome{verdict: "DROP", reason: "fragment-full"}, func(b *balancer, c *conversation) []byte {
			b.cfg.Fragments.Held = 1
			b.apply(b.cfg)
			pieces := c.pieces(b)
			b.run(pieces[1])
			return pieces[2]
		}},
		"no-checksum": {
			outcome{verdict: "DROP", reason: "no-checksum", service: "web", backend: backendSix},
			func(b *balancer, c *conversation) []byte {
				b.cfg.Services[0].Protocols = []lb.Protocol{lb.UDP}
				b.cfg.Services[0].Backends = backends(backendSix)
				b.apply(b.cfg)
				p := packet.NewUDP(c.client, c.vip, strings.Repeat("x", 100))
				p.SrcMAC, p.DstMAC, p.NoUDPChecksum = c.request(packet.SYN, "").SrcMAC, localMAC(), true
				return packet.Cut(p.Frame(), 64, 1)[0]
			},
		},
		"neighbour": {outcome{verdict: "TX", reason: "neighbour"}, func(b *balancer, c *conversation) []byte {
			b.cfg.Answers.Neighbours = true
			b.reconciler.SetHost(nil)
			b.apply(b.cfg)
			return whoHas(c.client.Addr(), c.vip.Addr())
		}},
		"echo": {outcome{verdict: "TX", reason: "echo"}, func(_ *balancer, c *conversation) []byte {
			return c.fromClient(packet.NewEcho(c.client.Addr(), c.vip.Addr(), 1, 2, "ping")).Frame()
		}},
		"icmp-error": {ofWeb("TX", "icmp-error", backendA), func(_ *balancer, c *conversation) []byte {
			p := packet.NewTCP(c.establish().vip, c.client, packet.ACK, "an answer")
			return c.fromClient(p.Error(netip.MustParseAddr("192.0.2.9"), packet.TimeExceeded, 0, 0, 8)).Frame()
		}},
		"path-mtu": {outcome{verdict: "PASS", reason: "path-mtu", service: "web", backend: backendA}, func(b *balancer, c *conversation) []byte {
			b.cfg.Services[0].Forward = lb.ForwardIPIP
			b.apply(b.cfg)
			_, out := b.run(c.request(packet.SYN, "").Frame())
			p, err := packet.Read(out)
			b.must(err)
			return c.fromClient(p.Error(netip.MustParseAddr("192.0.2.9"), packet.Unreachable, 4, 1400, 8)).Frame()
		}},
		"snat-exhausted": {ofWeb("DROP", "snat-exhausted", backendA), func(b *balancer, c *conversation) []byte {
			b.tcp(clientAt(0), webVIP).establish()
			return c.request(packet.SYN, "").Frame()
		}},
	}
}

// afterAnother is the first packet of a flow when there has been one just before, to a service that was changed.
func afterAnother(change func(*lb.Service)) func(*balancer, *conversation) []byte {
	return func(b *balancer, c *conversation) []byte {
		b.cfg.Services[0].SNAT.Ports.Last++
		change(&b.cfg.Services[0])
		b.apply(b.cfg)
		b.tcp(clientAt(0), webVIP).open()
		return c.request(packet.SYN, "").Frame()
	}
}

func put16(frame []byte, at int, value uint16) []byte {
	frame[at], frame[at+1] = byte(value>>8), byte(value)
	return frame
}

// A flow that another CPU seems to open all the time is opened by the sender's next try.
func TestBusyForAMoment(t *testing.T) {
	for _, forward := range lb.Forwards() {
		t.Run(string(forward), func(t *testing.T) {
			t.Parallel()
			s := withPorts(web(backendA), 2000, 2099)
			s.Forward = forward
			b := start(t, config(s))
			c := b.tcp(aClient, webVIP)
			syn := c.request(packet.SYN, "").Frame()
			b.must(b.datapath.TurnLock(c.protocol, c.client, c.vip))
			b.want("DROP flow-table-busy", syn)
			b.must(b.datapath.TurnLock(c.protocol, c.client, c.vip))
			if live := b.live(); len(live) > 0 {
				t.Errorf("%d flows are live, want none: %v", len(live), live)
			}
			if got, _ := b.run(syn); got.fate() != newFlow {
				t.Errorf("got %s, want %s", got.fate(), newFlow)
			}
		})
	}
}

// Every reason is reached, and the packet is counted under it, once, for the
// right service. (The balancer checks all counters when a test ends.)
func TestEveryReason(t *testing.T) {
	cases := reasonCases()
	names := map[string]bool{}
	for _, reason := range datapath.Reasons() {
		name := reason.String()
		if names[name] || name == "unknown" {
			t.Errorf("reason %d is called %q: not a name of its own", reason, name)
		}
		names[name] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc, known := cases[name]
			if !known {
				t.Fatal("no case reaches this reason")
			}
			cfg := bothFamilies(config(withPorts(web(backendA), 2000, 2000)))
			cfg.Limits.Flows = 64
			b := startAt(t, cfg, datapath.Attachment{MAC: localMAC(), NeighbourMAC: localMAC()})
			frame := tc.last(b, b.tcp(aClient, webVIP))
			before := b.countOf(tc.want.service, reason)
			if got, _ := b.run(frame); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			if n := b.countOf(tc.want.service, reason) - before; n != 1 {
				t.Errorf("the packet was counted %d times, want once", n)
			}
		})
	}
	for name := range cases {
		if !names[name] {
			t.Errorf("there is a case for %q, but no such reason", name)
		}
	}
}

// countOf reads the counter of a reason, for a service or ("") for none.
func (b *balancer) countOf(service string, reason datapath.Reason) uint64 {
	b.t.Helper()
	var id uint32
	for i, name := range b.names.ServiceNames {
		if name.Name == service {
			id = i
		}
	}
	counts, err := b.datapath.ReasonCounts([]uint32{id})
	b.must(err)
	for _, c := range counts {
		if c.Service == id && c.Reason == reason {
			return c.Packets
		}
	}
	return 0
}

func TestVerdictNames(t *testing.T) {
	for verdict, want := range map[datapath.Verdict]string{
		0: "ABORTED", 1: "DROP", 2: "PASS", 3: "TX", 4: "REDIRECT", 5: "unknown", // as in linux/bpf.h
	} {
		if got := verdict.String(); got != want {
			t.Errorf("verdict %d is called %q, want %q", verdict, got, want)
		}
		if sends := want == "TX" || want == "REDIRECT"; verdict.Sends() != sends {
			t.Errorf("%s sends: %v, want %v", want, verdict.Sends(), sends)
		}
	}
}
