package nexthop

import (
	"net/netip"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
)

func TestDecide(t *testing.T) {
	ours, theirs := lb.MAC{2, 0, 0, 0, 0, 1}, lb.MAC{2, 0, 0, 0, 0, 2}
	source := netip.MustParseAddr("10.0.0.1")
	backend, network := netip.MustParseAddr("10.0.0.2"), netip.MustParsePrefix("10.0.0.0/24")
	onLink := route{index: 3, via: backend, source: source, direct: network}
	routed := route{index: 3, via: backend, source: source}
	eth1 := link{name: "eth1", mac: ours, up: true, carrier: true, ethernet: true}
	down := eth1
	down.up, down.carrier = false, false
	noCarrier := eth1
	noCarrier.carrier = false
	known := neighbour{phase: answered, mac: theirs}
	tagged := eth1
	tagged.name, tagged.vlan = "eth0.20", vlan{parent: 2, id: 20}
	impossible := tagged
	impossible.vlan.problem = "eth0.20 is a VLAN in a VLAN"
	unusable := func(problem string) lb.NextHop {
		return lb.NextHop{Interface: 3, SourceMAC: ours, Source: source, Link: network, Problem: problem}
	}

	tests := []struct {
		name      string
		route     route
		link      link
		neighbour neighbour
		want      lb.NextHop
	}{
		{"usable", onLink, eth1, known,
			lb.NextHop{Interface: 3, MAC: theirs, SourceMAC: ours, Source: source, Link: network}},
		{"last MAC is used while asking again", onLink, eth1, neighbour{phase: asking, mac: theirs},
			lb.NextHop{Interface: 3, MAC: theirs, SourceMAC: ours, Source: source, Link: network}},
		{"behind a router", routed, eth1, known,
			lb.NextHop{Interface: 3, MAC: theirs, SourceMAC: ours, Source: source, Routed: true}},
		{"by a VLAN interface: by the one below, with a tag", onLink, tagged, known,
			lb.NextHop{Interface: 2, VLAN: 20, MAC: theirs, SourceMAC: ours, Source: source, Link: network}},
		{"asking in the VLAN", onLink, tagged, neighbour{phase: asking},
			lb.NextHop{Interface: 2, VLAN: 20, SourceMAC: ours, Source: source, Link: network, Problem: "asking for 10.0.0.2 on eth0.20"}},
		{"by a VLAN interface that there are no frames for", onLink, impossible, known,
			lb.NextHop{Interface: 2, VLAN: 20, SourceMAC: ours, Source: source, Link: network, Problem: "eth0.20 is a VLAN in a VLAN"}},
		{"no route", route{problem: problemNoRoute}, link{}, neighbour{},
			lb.NextHop{Problem: "no route"}},
		{"no route because the interface is down", route{problem: problemNoRoute, index: 3}, down, neighbour{},
			lb.NextHop{Problem: "no route: interface eth1 is down"}},
		{"no route though the interface is well", route{problem: problemNoRoute, index: 3}, eth1, neighbour{},
			lb.NextHop{Problem: "no route"}},
		{"a problem of the route comes first", route{problem: "route is blackhole", index: 3}, down, neighbour{},
			lb.NextHop{Problem: "route is blackhole"}},
		{"interface gone", onLink, link{}, known,
			lb.NextHop{Interface: 3, Source: source, Link: network, Problem: "the interface of the route is gone"}},
		{"interface down", onLink, down, known, unusable("interface eth1 is down")},
		{"no carrier", onLink, noCarrier, known, unusable("interface eth1 has no carrier")},
		{"no Ethernet", onLink, link{name: "wg0", up: true, carrier: true}, neighbour{},
			lb.NextHop{Interface: 3, Source: source, Link: network, Problem: "interface wg0 has no Ethernet addresses"}},
		{"asking", onLink, eth1, neighbour{phase: asking}, unusable("asking for 10.0.0.2 on eth1")},
		{"asking again", onLink, eth1, neighbour{phase: asking, failures: 1},
			unusable("neighbour 10.0.0.2 on eth1 does not answer")},
		{"neighbour without address", onLink, eth1, neighbour{phase: answered},
			unusable("neighbour 10.0.0.2 on eth1 has no Ethernet address")},
		{"kernel refuses to ask", onLink, eth1, neighbour{phase: waiting, failures: 1, refused: errChanged},
			unusable("cannot ask for 10.0.0.2 on eth1: " + errChanged.Error())},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := decide(tt.route, tt.link, tt.neighbour); got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestLinkOf(t *testing.T) {
	const backend = "10.9.0.2"
	for _, tt := range []struct {
		name, route string // "" is by a gateway
		addresses   []string
		want        string
	}{
		{"the interface's network", "10.9.0.2/16", []string{"10.9.0.1/16"}, "10.9.0.0/16"},
		{"no address in it", "10.9.0.2/16", []string{"10.8.0.1/16", "fd09::1/64"}, "10.9.0.0/16"},
		{"a more specific route", "10.9.0.2/32", []string{"10.9.0.1/16"}, "10.9.0.0/16"},
		{"a wider route", "10.9.0.2/12", []string{"10.9.0.1/16"}, "10.0.0.0/12"},
		{"the widest of several", "10.9.0.2/24", []string{"10.9.0.1/24", "10.9.1.1/16", "10.9.0.3/30"}, "10.9.0.0/16"},
		{"a default route without gateway", "10.9.0.2/0", []string{"10.8.0.1/32"}, "10.9.0.2/32"},
		{"the same, and an address in its network", "10.9.0.2/0", []string{"10.9.0.1/24"}, "10.9.0.0/24"},
		{"by a gateway", "", []string{"10.9.0.1/16"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, l := route{via: netip.MustParseAddr(backend)}, link{}
			if tt.route != "" {
				r.direct = netip.MustParsePrefix(tt.route)
			}
			for _, a := range tt.addresses {
				l.addresses = append(l.addresses, netip.MustParsePrefix(a))
			}
			var want netip.Prefix
			if tt.want != "" {
				want = netip.MustParsePrefix(tt.want)
			}
			if got := linkOf(r, l); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}
