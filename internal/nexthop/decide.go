package nexthop

import (
	"fmt"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// Problems that more than one place has to recognise.
const (
	problemNotYet  = "not looked up yet"
	problemNoRoute = "no route"
)

// route is what the kernel's routing tables answer about one address.
type route struct {
	index  int        // of the interface that packets leave by
	via    netip.Addr // the neighbour they go to: the gateway, or the address itself
	source netip.Addr
	// direct is the destination of the matching route; zero where it is a gateway's.
	direct  netip.Prefix
	mtu     int // that the route itself gives; 0: none
	problem string
}

// mtu is that of a way: the interface's, or a smaller one that the route gives.
func mtu(r route, l link) int {
	if r.mtu > 0 && r.mtu < l.mtu {
		return r.mtu
	}
	return l.mtu
}

// routed reports whether packets go by a gateway.
func (r route) routed() bool { return !r.direct.IsValid() }

// link is an interface as far as sending through it is concerned.
type link struct {
	name     string // "" when there is no such interface
	mac      lb.MAC
	up       bool // administratively
	carrier  bool
	ethernet bool
	mtu      int
	vlan     vlan
	// addresses of the interface, with the prefixes that are on its link.
	addresses []netip.Prefix
}

// vlan is how frames leave by a VLAN interface: XDP cannot send by it, but by the
// interface below it, with its tag.
type vlan struct {
	parent  int // index of that interface; 0: the link is no VLAN interface
	id      uint16
	problem string // why that cannot be; "" when it can
}

// problem says why no Ethernet frame can leave by the link, or "".
func (l link) problem() string {
	switch {
	case l.name == "":
		return "the interface of the route is gone"
	case !l.ethernet:
		return fmt.Sprintf("interface %s has no Ethernet addresses", l.name)
	case !l.up:
		return fmt.Sprintf("interface %s is down", l.name)
	case !l.carrier:
		return fmt.Sprintf("interface %s has no carrier", l.name)
	}
	return l.vlan.problem
}

// decide joins what is known about the way to an address. It is a pure function.
func decide(r route, l link, n neighbour) lb.NextHop {
	if r.problem != "" {
		// The kernel takes the routes of an interface away when it goes down:
		// name the cause where it is still known.
		if r.problem == problemNoRoute && l.name != "" && l.problem() != "" {
			return lb.NextHop{Problem: r.problem + ": " + l.problem()}
		}
		return lb.NextHop{Problem: r.problem}
	}
	hop := lb.NextHop{
		Interface: r.index, SourceMAC: l.mac, Source: r.source, MTU: mtu(r, l),
		Link: linkOf(r, l), Routed: r.routed(), Problem: l.problem(),
	}
	if l.vlan.parent != 0 {
		hop.Interface, hop.VLAN = l.vlan.parent, l.vlan.id
	}
	if hop.Problem != "" {
		return hop
	}
	if n.mac == (lb.MAC{}) {
		hop.Problem = n.problem(r.via, l.name)
		return hop
	}
	hop.MAC = n.mac
	return hop
}

// linkOf is the widest prefix that says who shares a link with the address: that of
// the route to it, or one that the interface has an address in (there may be a more
// specific route). A default route without a gateway says nothing about that.
func linkOf(r route, l link) netip.Prefix {
	if r.routed() {
		return netip.Prefix{}
	}
	widest := r.direct
	if widest.Bits() == 0 {
		widest = netip.PrefixFrom(r.via, r.via.BitLen())
	}
	for _, a := range l.addresses {
		if a.Contains(r.via) && a.Bits() < widest.Bits() {
			widest = a
		}
	}
	return widest.Masked()
}
