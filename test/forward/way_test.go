package forward

import (
	"fmt"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
)

// family is an IP version.
type family int

const (
	v4 family = 4
	v6 family = 6
)

// The links. With one arm both are one wire, with addresses of both.
const (
	front = 1 // clients are here
	back  = 2 // backends are here
	vips  = 9 // not a link: clients have a route to it
)

// Hosts on a link. Backends count up from the first one.
const (
	clientHost   = 4
	balancerHost = 5
	backendHost  = 10
)

// address is a host's on a link.
func (f family) address(link, host int) netip.Prefix {
	if f == v4 {
		return netip.MustParsePrefix(fmt.Sprintf("10.%d.0.%d/24", link, host))
	}
	return netip.MustParsePrefix(fmt.Sprintf("fd00:%d::%d/64", link, host))
}

// everything is what a default route leads to.
func (f family) everything() netip.Prefix {
	if f == v4 {
		return netip.MustParsePrefix("0.0.0.0/0")
	}
	return netip.MustParsePrefix("::/0")
}

// way is how packets get from the client to the backends.
type way struct {
	forward      lb.Forward
	vip, backend family
	twoArm       bool // the balancer has a link to the clients and another one to the backends
	flat         bool // the backends have addresses of the clients' subnet
	narrow       bool // the backends' link has no room for a tunnel's headers
	mode         lb.Mode
}

func (w way) String() string {
	arms := "one arm"
	switch {
	case w.twoArm:
		arms = "two arms"
	case w.flat:
		arms = "one subnet"
	}
	return fmt.Sprintf("%s v%d-v%d, %s", w.forward, w.vip, w.backend, arms)
}

// ways are all that are possible in a mode.
func ways(mode lb.Mode, forwards ...lb.Forward) (all []way) {
	for _, forward := range forwards {
		for _, vip := range []family{v4, v6} {
			for _, backend := range []family{v4, v6} {
				if vip != backend && forward == lb.ForwardDNAT {
					continue // the packet keeps the client's address
				}
				for _, twoArm := range []bool{false, true} {
					all = append(all, way{forward: forward, vip: vip, backend: backend, twoArm: twoArm, mode: mode})
				}
			}
		}
	}
	return all
}

// backendLink is where the backends' addresses are from.
func (w way) backendLink() int {
	if w.flat {
		return front
	}
	return back
}

// sourceNAT reports whether backends see the balancer as their client.
func (w way) sourceNAT() bool {
	return w.forward == lb.ForwardNAT || w.forward == lb.ForwardDNAT && w.flat
}

// ownVIP reports whether the VIP is an address of the balancer. Otherwise it is
// one that is routed to it, and nobody's, or the backends'.
func (w way) ownVIP() bool { return w.forward == lb.ForwardNAT && !w.twoArm }

func (w way) vipAddress() netip.Addr {
	if w.ownVIP() {
		return w.vip.address(front, balancerHost).Addr()
	}
	return w.vip.address(vips, 1).Addr()
}

// backendAddress is the one in the config.
func (w way) backendAddress(i int) netip.Addr {
	return w.backend.address(w.backendLink(), backendHost+i).Addr()
}

// serving is the address that a backend's servers are asked at.
func (w way) serving(i int) netip.Addr {
	if w.forward.Translates() {
		return w.backendAddress(i)
	}
	return w.vipAddress()
}

// webPort is where backends serve what clients ask for at port 80.
func (w way) webPort() uint16 {
	if w.forward.Translates() {
		return 8080
	}
	return 80
}

// seenClient is the client's address as backends see it.
func (w way) seenClient() netip.Addr {
	if w.sourceNAT() {
		return w.backend.address(w.backendLink(), balancerHost).Addr()
	}
	return w.vip.address(front, clientHost).Addr()
}
