package datapath_test

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// wire is what packets travel as: of which family, and behind which VLAN tags.
type wire struct {
	name string
	six  bool
	tags []packet.Tag
}

func families() []wire { return []wire{{name: "IPv4"}, {name: "IPv6", six: true}} }

func wires() []wire {
	all := families()
	one := []packet.Tag{{Type: packet.EtherTypeVLAN, Control: 0xf007}} // of the highest priority, drop eligible
	two := []packet.Tag{{Type: packet.EtherTypeQinQ, Control: 0x6fff}, packet.VLAN(1)}
	for _, w := range families() {
		all = append(all, wire{w.name + " behind a tag", w.six, one}, wire{w.name + " behind two tags", w.six, two})
	}
	return all
}

// of is what stands for an IPv4 address on this wire.
func (w wire) of(a netip.Addr) netip.Addr {
	if !w.six {
		return a
	}
	v4 := a.As4()
	six := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	for i, b := range v4 { // every word differs between addresses: checksums must see all of them
		six[4+(i+1)%4], six[8+3-i], six[12+i] = b, b, b
	}
	return netip.AddrFrom16(six)
}

func (w wire) at(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(w.of(a.Addr()), a.Port())
}

// over moves a conversation that has not begun to another wire. Behind tags it
// has a port of its own: flows do not tell VLANs apart.
func (c *conversation) over(w wire) *conversation {
	c.wire, c.vip = w, w.at(c.vip)
	c.client = netip.AddrPortFrom(w.of(c.client.Addr()), c.client.Port()+uint16(len(w.tags)))
	return c
}

// bothFamilies gives each service a twin for IPv6.
func bothFamilies(cfg lb.Config) lb.Config {
	six := families()[1]
	for _, s := range slices.Clone(cfg.Services) {
		s.Name, s.Address.Addr = s.Name+" over IPv6", six.of(s.Address.Addr)
		s.Backends, s.SNAT.Addresses = slices.Clone(s.Backends), slices.Clone(s.SNAT.Addresses)
		for i, b := range s.Backends {
			s.Backends[i].Address = six.at(b.Address)
		}
		for i, a := range s.SNAT.Addresses {
			s.SNAT.Addresses[i] = six.of(a)
		}
		cfg.Services = append(cfg.Services, s)
	}
	return cfg
}

// webAndDNS are a TCP and a UDP service in both families; conversations are
// established ones with them, over each of the wires.
func webAndDNS() lb.Config { return bothFamilies(config(web(backendA), dns("10.0.0.2:5353"))) }

func (b *balancer) conversations(wires []wire) []*conversation {
	b.t.Helper()
	var all []*conversation
	for _, w := range wires {
		all = append(all, b.tcp(aClient, webVIP).over(w).establish(), b.udp(aClient, dnsVIP).over(w).establish())
	}
	return all
}

func (c *conversation) String() string { return c.protocol.String() + " over " + c.wire.name }

// ipAt is where the IP header of a frame begins, l4At the TCP or UDP header
// where there are no extension headers.
func ipAt(frame []byte) int {
	at := 14
	for {
		switch binary.BigEndian.Uint16(frame[at-2:]) {
		case packet.EtherTypeVLAN, packet.EtherTypeQinQ:
			at += 4
		default:
			return at
		}
	}
}

func l4At(frame []byte) int {
	at := ipAt(frame)
	if isIPv6(frame) {
		return at + 40
	}
	return at + int(frame[at]&0xf)*4
}

func isIPv6(frame []byte) bool { return frame[ipAt(frame)]>>4 == 6 }

// carrying makes the IP header say that so many bytes follow it.
func carrying(frame []byte, size int) []byte {
	ip, l4 := ipAt(frame), l4At(frame)
	if isIPv6(frame) {
		return put16(frame, ip+4, uint16(size))
	}
	put16(frame, ip+2, uint16(l4-ip+size))
	put16(frame, ip+10, 0)
	return put16(frame, ip+10, packet.Checksum(frame[ip:l4], 0))
}
