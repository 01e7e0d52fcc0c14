package datapath_test

import (
	"testing"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

const noNextHop = "DROP no-next-hop"

// hopTo changes the next hop of a backend.
func (b *balancer) hopTo(backend lb.Backend, hop lb.NextHop) {
	b.t.Helper()
	b.hops[backend.Address.Addr()] = hop
	b.apply(b.cfg)
}

// Answers go to where the client's last packet came from.
func TestClientMoves(t *testing.T) {
	c := start(t, config(web(backendA))).tcp(aClient, webVIP).establish()
	for i := range byte(5) {
		c.clientMAC = lb.MAC{2, 0xcc, 0, 0, 0, i}
		c.stays()
	}
	moved := c.clientMAC
	c.clientMAC = lb.MAC{2, 0xdd}
	c.play(step{0, backend, packet.ACK, reply}) // nothing heard from there yet
	if c.learned != moved {
		t.Errorf("learned %v, want %v", c.learned, moved)
	}
}

// Two of the host's MACs: answers carry the one that they were sent to.
func TestLocalMAC(t *testing.T) {
	c := start(t, config(web(backendA))).tcp(aClient, webVIP).establish()
	in, back := c.request(packet.ACK, ""), c.answer(packet.ACK, "")
	in.DstMAC, back.DstMAC = lb.MAC{2, 0xaa}, lb.MAC{2, 0xbb}
	c.expect(forwarded, in)
	c.expect(reply, back)
}

func TestBackendMoves(t *testing.T) {
	b := start(t, config(web(backendA)))
	c := b.tcp(aClient, webVIP).establish()
	hop := b.hops[c.backend.Address.Addr()]
	hop.MAC = lb.MAC{2, 0xee}
	b.hopTo(c.backend, hop)
	c.stays()
}

func TestNextHopIsLost(t *testing.T) {
	b := start(t, config(web(backendA, backendB)))
	flows := establishAt(b, 20)
	lost := flows[backendA][0].backend
	hop := b.hops[lost.Address.Addr()]
	b.hopTo(lost, lb.NextHop{Problem: "neighbour failed"})
	for _, c := range flows[backendA] {
		c.play(
			step{0, client, packet.ACK, noNextHop},
			step{0, client, packet.SYN, noNextHop}, // its backend may be back soon
			step{0, backend, packet.ACK, reply},    // answers need no next hop toward it
		)
	}
	for n := 100; n < 130; n++ {
		if c := b.tcp(clientAt(n), webVIP).establish(); c.backend.Label() != backendB {
			t.Errorf("a new flow went to %s, which has no next hop", c.backend.Label())
		}
	}
	b.hopTo(lost, hop)
	for _, c := range flows[backendA] {
		c.stays()
	}
}

// Until the scheduler's table has been rebuilt, it still names a backend whose
// next hop has just been lost.
func TestNextHopIsLostBeforeTheTableKnows(t *testing.T) {
	b := start(t, config(web(backendA)))
	for id := range b.names.NextHops {
		_, err := b.datapath.PutNextHops([]uint32{id}, []lb.NextHop{{Problem: "neighbour failed"}})
		b.must(err)
	}
	c := b.tcp(aClient, webVIP)
	c.play(step{0, client, packet.SYN, noNextHop})
	if flows := b.live(); len(flows) != 0 {
		t.Errorf("a flow was stored all the same: %v", flows)
	}
}

// Backends behind another interface than clients.
func TestOutInterface(t *testing.T) {
	const other = datapath.LoopbackIndex + 1
	for name, hop := range map[string]lb.NextHop{
		"its own MAC":    {Interface: other, MAC: lb.MAC{2, 0xee}, SourceMAC: lb.MAC{2, 0xaa}},
		"no MAC to name": {Interface: other, MAC: lb.MAC{2, 0xee}},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, config(withSources(web(backendA), source)))
			c := b.tcp(aClient, webVIP)
			b.hopTo(b.cfg.Services[0].Backends[0], hop)
			c.play(
				step{0, client, packet.SYN, "REDIRECT new-flow"},
				step{0, backend, packet.SYN | packet.ACK, reply}, // test packets know one interface only
				step{0, client, packet.ACK, "REDIRECT forwarded"},
			)
		})
	}
}

// Clients behind another interface than backends: answers leave there, from the
// MAC that the client talks to.
func TestReplyToAnotherInterface(t *testing.T) {
	b := start(t, config(web(backendA)))
	c := b.tcp(aClient, webVIP).establish()
	b.must(b.datapath.MoveClients(datapath.LoopbackIndex + 6))
	back := c.answer(packet.ACK, "answer")
	back.DstMAC = lb.MAC{2, 0xbb} // of the interface toward the backend
	got, frame := b.run(back.Frame())
	if got.fate() != "REDIRECT reply" {
		t.Fatalf("got %s, want REDIRECT reply", got.fate())
	}
	want := c.toClient(back)
	want.SrcMAC = localMAC()
	c.same(want.Frame(), frame)

	c.play(step{0, client, packet.ACK, forwarded}, step{0, backend, packet.ACK, reply}) // and back again
}

// On a veth frames are sent back by a redirect; they are the same.
func TestTXByRedirect(t *testing.T) {
	c := startAt(t, config(web(backendA)), datapath.Attachment{TXByRedirect: true}).tcp(aClient, webVIP)
	c.play(
		step{0, client, packet.SYN, "REDIRECT new-flow"},
		step{0, backend, packet.SYN | packet.ACK, "REDIRECT reply"},
		step{0, client, packet.ACK, "REDIRECT forwarded"},
	)
}

// A frame that a switch flooded, or that a promiscuous interface picked up, is
// for another machine.
func TestOtherMAC(t *testing.T) {
	b := startAt(t, config(web(backendA)), datapath.Attachment{MAC: localMAC()})
	c := b.tcp(aClient, webVIP).establish()
	for _, mac := range []lb.MAC{
		{2, 0, 0, 0, 0, 6}, {3, 0, 0, 0, 0, 5}, {}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {1, 0, 0x5e, 0, 0, 5},
	} {
		for _, p := range []packet.Packet{
			c.request(packet.SYN, ""), c.request(packet.ACK, "data"), c.answer(packet.ACK, "data"),
			b.tcp(clientAt(1), webVIP).request(packet.SYN, ""),
		} {
			p.DstMAC = mac
			b.want("PASS other-mac", p.Frame())
		}
	}
	c.stays()
}
