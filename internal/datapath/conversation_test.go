package datapath_test

import (
	"net/netip"
	"slices"
	"time"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// conversation is a client's packets to a service and the answers to them.
// What leaves the data plane is compared with what the packet API makes of the
// packet that came in; only the choices that are the data plane's own are read
// from its output, and it is checked that they are legal.
type conversation struct {
	*balancer
	wire        wire
	protocol    lb.Protocol
	client, vip netip.AddrPort
	clientMAC   lb.MAC // where the client's packets come from
	learned     lb.MAC // where the last one that was forwarded came from

	backend lb.Backend     // chosen by the scheduler
	source  netip.AddrPort // stands for the client toward the backend
}

func (b *balancer) tcp(client, vip string) *conversation { return b.converse(lb.TCP, client, vip) }
func (b *balancer) udp(client, vip string) *conversation { return b.converse(lb.UDP, client, vip) }

func (b *balancer) converse(protocol lb.Protocol, client, vip string) *conversation {
	b.t.Helper()
	c := &conversation{
		balancer: b, protocol: protocol,
		client: netip.MustParseAddrPort(client), vip: netip.MustParseAddrPort(vip),
	}
	c.clientMAC = macOf(c.client.Addr())
	return c
}

// service is what the configuration has at the conversation's VIP now.
func (c *conversation) service() lb.Service {
	c.t.Helper()
	for _, s := range c.cfg.Services {
		if s.Address.Contains(c.vip) && slices.Contains(s.Protocols, c.protocol) {
			return s
		}
	}
	c.t.Fatalf("no service at %v", c.vip)
	return lb.Service{}
}

// request is a packet from the client; flags are for TCP.
func (c *conversation) request(flags packet.TCPFlags, payload string) packet.Packet {
	p := packet.NewTCP(c.client, c.vip, flags, payload)
	if c.protocol == lb.UDP {
		p = packet.NewUDP(c.client, c.vip, payload)
	}
	p.SrcMAC, p.DstMAC, p.VLAN = c.clientMAC, localMAC(), c.wire.tags
	return p
}

// answer is a packet from the backend; flags are for TCP.
func (c *conversation) answer(flags packet.TCPFlags, payload string) packet.Packet {
	p := packet.NewTCP(c.backend.Address, c.source, flags, payload)
	if c.protocol == lb.UDP {
		p = packet.NewUDP(c.backend.Address, c.source, payload)
	}
	p.SrcMAC, p.DstMAC, p.VLAN = macOf(c.backend.Address.Addr()), localMAC(), c.wire.tags
	return p
}

// fromClient gives a packet the Ethernet addresses of one from the client.
func (c *conversation) fromClient(p packet.Packet) packet.Packet {
	p.SrcMAC, p.DstMAC, p.VLAN = c.clientMAC, localMAC(), c.wire.tags
	return p
}

// encoding turns a packet into a frame, with full or with partial checksums.
type encoding func(packet.Packet) []byte

// expect gives a packet to the data plane. Fate says what must become of it;
// if it leaves, it must leave as exactly the right frame.
func (c *conversation) expect(fate string, p packet.Packet) {
	c.t.Helper()
	c.expectEncoded(fate, p, packet.Packet.Frame, packet.Packet.Frame)
}

func (c *conversation) expectEncoded(fate string, p packet.Packet, in, out encoding) {
	c.t.Helper()
	got, frame := c.run(in(p))
	if got.fate() != fate {
		c.t.Fatalf("%v: got %s, want %s", p, got.fate(), fate)
	}
	switch got.reason {
	case "new-flow":
		c.learn(got, frame)
		fallthrough
	case "forwarded":
		c.learned = p.SrcMAC
		p = c.toBackend(p)
	case "reply":
		p = c.toClient(p)
	default:
		return
	}
	if service := c.service().Name; got.service != service || got.backend != c.backend.Label() {
		c.t.Fatalf("%v: for service %q and backend %q, want %q and %q",
			p, got.service, got.backend, service, c.backend.Label())
	}
	c.same(out(p), frame)
}

func (c *conversation) same(want, got []byte) {
	c.t.Helper()
	if diff := packet.Diff(want, got); diff != "" {
		c.t.Fatalf("the wrong frame left:\n%s", diff)
	}
}

// toBackend is what a packet from the client must become.
func (c *conversation) toBackend(p packet.Packet) packet.Packet {
	hop := c.hops[c.backend.Address.Addr()]
	p.SrcMAC = p.DstMAC
	if hop.Interface != datapath.LoopbackIndex && hop.SourceMAC != (lb.MAC{}) {
		p.SrcMAC = hop.SourceMAC
	}
	p.DstMAC, p.Src, p.Dst = hop.MAC, c.source, c.backend.Address
	p.TTL--
	return p
}

// toClient is what a packet from the backend must become.
func (c *conversation) toClient(p packet.Packet) packet.Packet {
	p.SrcMAC, p.DstMAC, p.Src, p.Dst = p.DstMAC, c.learned, c.vip, c.client
	p.TTL--
	return p
}

// learn reads the data plane's choices from the first frame of a flow.
func (c *conversation) learn(got outcome, frame []byte) {
	c.t.Helper()
	p, err := packet.Read(withoutExtensions(frame))
	c.must(err)
	service := c.service()
	i := slices.IndexFunc(service.Backends, func(b lb.Backend) bool { return b.Label() == got.backend })
	if i < 0 {
		c.t.Fatalf("went to %q, which is no backend of %s", got.backend, service.Name)
	}
	c.backend, c.source = service.Backends[i], p.Src

	addresses := service.SNAT.Addresses
	if len(addresses) == 0 {
		addresses = []netip.Addr{c.hops[c.backend.Address.Addr()].Source}
	}
	ports := service.SNAT.Ports
	if !slices.Contains(addresses, c.source.Addr()) || c.source.Port() < ports.First || c.source.Port() > ports.Last {
		c.t.Fatalf("got source %v, want one of %v, %d-%d", c.source, addresses, ports.First, ports.Last)
	}
	for _, s := range c.cfg.Services {
		if s.Address == lb.VIPAt(c.source) && slices.Contains(s.Protocols, c.protocol) {
			c.t.Fatalf("got source %v, which is service %s", c.source, s.Name)
		}
	}
}

// step is one packet of a conversation: a while after the last one, a side sends it.
type step struct {
	after time.Duration
	from  side
	flags packet.TCPFlags
	want  string
}

type side int

const (
	client side = iota
	backend
)

// What becomes of packets when all is well.
const (
	newFlow   = "TX new-flow"
	forwarded = "TX forwarded"
	reply     = "TX reply"
)

// play goes through the steps in order.
func (c *conversation) play(steps ...step) {
	c.t.Helper()
	for _, s := range steps {
		c.now = c.now.Add(s.after)
		p := c.request(s.flags, "")
		if s.from == backend {
			p = c.answer(s.flags, "")
		}
		c.expect(s.want, p)
	}
}

// open makes the first packet of a flow pass.
func (c *conversation) open() *conversation {
	c.t.Helper()
	c.play(step{0, client, packet.SYN, newFlow})
	return c
}

// establish opens a flow and confirms it: the TCP handshake, or a UDP stream.
func (c *conversation) establish() *conversation {
	c.t.Helper()
	c.play(
		step{0, client, packet.SYN, newFlow},
		step{0, backend, packet.SYN | packet.ACK, reply},
		step{0, client, packet.ACK, forwarded},
	)
	return c
}
