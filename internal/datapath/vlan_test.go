package datapath_test

import (
	"testing"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// crossing is what becomes of the tags of a client's packets, and of the answers to them.
type crossing struct {
	client, backend []packet.Tag // that frames come in with
	hop             uint16
	toBackend       []packet.Tag // that they leave with
	toClient        []packet.Tag
}

func tag(kind, priority, id uint16) packet.Tag {
	return packet.Tag{Type: kind, Control: priority<<13 | id}
}

func crossings() map[string]crossing {
	type tags = []packet.Tag
	const vlan, qinq = packet.EtherTypeVLAN, packet.EtherTypeQinQ
	return map[string]crossing{
		"replaced":                     {tags{tag(vlan, 5, 10)}, tags{tag(vlan, 3, 20)}, 20, tags{tag(vlan, 5, 20)}, tags{tag(vlan, 3, 10)}},
		"the same VLAN":                {tags{tag(vlan, 5, 10)}, tags{tag(vlan, 0, 10)}, 10, tags{tag(vlan, 5, 10)}, tags{tag(vlan, 0, 10)}},
		"pushed":                       {nil, tags{tag(vlan, 7, 4094)}, 4094, tags{tag(vlan, 0, 4094)}, nil},
		"popped":                       {tags{tag(vlan, 7, 1)}, nil, 0, nil, tags{tag(vlan, 0, 1)}},
		"only a priority":              {tags{tag(vlan, 7, 0)}, tags{tag(vlan, 3, 0)}, 0, nil, nil},
		"a priority becomes a tag's":   {tags{tag(vlan, 7, 0)}, tags{tag(vlan, 3, 20)}, 20, tags{tag(vlan, 7, 20)}, nil},
		"of 802.1ad":                   {tags{tag(qinq, 5, 10)}, tags{tag(vlan, 2, 10)}, 10, tags{tag(vlan, 5, 10)}, tags{tag(qinq, 2, 10)}},
		"two to one":                   {tags{tag(qinq, 5, 10), tag(vlan, 1, 30)}, tags{tag(vlan, 2, 20)}, 20, tags{tag(vlan, 5, 20)}, tags{tag(qinq, 2, 10), tag(vlan, 0, 30)}},
		"two to none":                  {tags{tag(vlan, 5, 10), tag(vlan, 1, 30)}, nil, 0, nil, tags{tag(vlan, 0, 10), tag(vlan, 0, 30)}},
		"a reserved id":                {tags{tag(vlan, 5, 4095)}, nil, 0, nil, tags{tag(vlan, 0, 4095)}},
		"as it came, replaced for one": {tags{tag(vlan, 5, 10)}, tags{tag(vlan, 3, 20)}, lb.VLANAsItCame, tags{tag(vlan, 5, 10)}, tags{tag(vlan, 3, 10)}},
		"as it came, two":              {tags{tag(vlan, 5, 10), tag(vlan, 6, 0)}, tags{tag(vlan, 5, 10), tag(vlan, 6, 0)}, lb.VLANAsItCame, tags{tag(vlan, 5, 10), tag(vlan, 6, 0)}, tags{tag(vlan, 5, 10), tag(vlan, 6, 0)}},
	}
}

// Frames leave in the VLAN of whom they go to, on every kind of interface, with checksums as they have to be.
func TestVLANs(t *testing.T) {
	for name, x := range crossings() {
		t.Run(name, func(t *testing.T) {
			inEveryMode(t, webAndDNS(), func(b *balancer, partial encoding) {
				for _, s := range b.cfg.Services {
					hop := b.hops[s.Backends[0].Address.Addr()]
					hop.VLAN = x.hop
					b.hopTo(s.Backends[0], hop)
				}
				for _, w := range families() {
					b.tcp(aClient, webVIP).over(w).crosses(x, partial)
					b.udp(aClient, dnsVIP).over(w).crosses(x, partial)
				}
			})
		})
	}
}

func (c *conversation) crosses(x crossing, partial encoding) {
	c.t.Helper()
	full := encoding(packet.Packet.Frame)
	c.crossesOnce(x, packet.SYN, full, full)
	c.crossesOnce(x, packet.ACK, full, full)
	if partial != nil {
		c.crossesOnce(x, packet.ACK, packet.Packet.PartialFrame, partial)
	}
}

// crossesOnce sends a request and its answer.
func (c *conversation) crossesOnce(x crossing, flags packet.TCPFlags, in, out encoding) {
	c.t.Helper()
	request := c.request(flags, "a request")
	request.VLAN = x.client
	got, frame := c.run(in(request))
	if got.reason == "new-flow" {
		c.learn(got, frame)
	}
	c.learned = request.SrcMAC
	want := c.toBackend(request)
	want.VLAN = x.toBackend
	c.same(out(want), frame)

	answer := c.answer(packet.ACK, "an answer")
	answer.VLAN = x.backend
	_, frame = c.run(in(answer))
	want = c.toClient(answer)
	want.VLAN = x.toClient
	c.same(out(want), frame)
}

// A client that moves to another VLAN is answered there.
func TestClientMovesToAnotherVLAN(t *testing.T) {
	c := start(t, config(web(backendA))).tcp(aClient, webVIP).establish()
	for _, tags := range [][]packet.Tag{
		{packet.VLAN(10)}, {packet.VLAN(20)}, {tag(packet.EtherTypeQinQ, 0, 20)}, {packet.VLAN(20), packet.VLAN(30)},
		{packet.VLAN(20), packet.VLAN(31)}, nil, {packet.VLAN(4094)},
	} {
		request := c.request(packet.ACK, "")
		request.VLAN = tags
		c.expect(forwarded, request)
		back := c.answer(packet.ACK, "")
		_, frame := c.run(back.Frame())
		want := c.toClient(back)
		want.VLAN = tags
		c.same(want.Frame(), frame)
	}
}

// In another VLAN of the same interface the host may have another MAC.
func TestVLANWithItsOwnMAC(t *testing.T) {
	b := start(t, config(withSources(web(backendA), source)))
	b.hopTo(b.cfg.Services[0].Backends[0], lb.NextHop{
		Interface: datapath.LoopbackIndex, MAC: lb.MAC{2, 0xee}, SourceMAC: lb.MAC{2, 0xaa}, VLAN: 20,
	})
	c := b.tcp(aClient, webVIP)
	request := c.request(packet.SYN, "")
	got, frame := c.run(request.Frame())
	c.learn(got, frame)
	want := c.toBackend(request)
	want.SrcMAC, want.VLAN = lb.MAC{2, 0xaa}, []packet.Tag{packet.VLAN(20)}
	c.same(want.Frame(), frame)

	c.learned = request.SrcMAC
	back := c.answer(packet.SYN|packet.ACK, "")
	back.DstMAC, back.VLAN = lb.MAC{2, 0xaa}, []packet.Tag{packet.VLAN(20)}
	_, frame = c.run(back.Frame())
	want = c.toClient(back)
	want.SrcMAC, want.VLAN = localMAC(), nil
	c.same(want.Frame(), frame)
}
