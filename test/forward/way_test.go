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

// The links. With one arm front and back are one wire, with addresses of both.
const (
	front  = 1 // clients are here
	back   = 2 // backends are here
	middle = 3 // between two routers
	remote = 4 // behind them
	vips   = 9 // not a link: clients have a route to it
)

// Hosts on a link. Backends count up from the first one.
const (
	clientHost   = 4
	balancerHost = 5
	nearHost     = 6 // the router on the balancer's side
	farHost      = 7 // the one on the other side
	backendHost  = 10
	nobodysHost  = 99
)

// address is a host's on a link.
func (f family) address(link, host int) netip.Prefix {
	if f == v4 {
		return netip.MustParsePrefix(fmt.Sprintf("10.%d.0.%d/24", link, host))
	}
	return netip.MustParsePrefix(fmt.Sprintf("fd00:%d::%d/64", link, host))
}

// network is all of a link's addresses.
func (f family) network(link int) netip.Prefix { return f.address(link, 0).Masked() }

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
	routed       end  // is behind two routers
	relayed      bool // frames of client and backends go through the test's hands
	tight        bool // the backends' links have no room for outer headers
	onLink       bool // the VIP is of the clients' subnet, and no machine's
	mode         lb.Mode
}

// end is one of the two that the balancer is between.
type end string

const (
	clientEnd  end = "client"
	backendEnd end = "backend"
)

func (w way) String() string {
	arms := "one arm"
	switch {
	case w.twoArm:
		arms = "two arms"
	case w.flat:
		arms = "one subnet"
	}
	name := fmt.Sprintf("%s v%d-v%d, %s", w.forward, w.vip, w.backend, arms)
	if w.routed != "" {
		name += fmt.Sprintf(", routed %s", w.routed)
	}
	if w.tight {
		name += ", tight"
	}
	if w.onLink {
		name += ", VIP on the link"
	}
	return name
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
	switch {
	case w.routed == backendEnd:
		return remote
	case w.flat:
		return front
	}
	return back
}

// clientLink is where the client's address is from.
func (w way) clientLink() int {
	if w.routed == clientEnd {
		return remote
	}
	return front
}

func (w way) clientAddress() netip.Addr { return w.vip.address(w.clientLink(), clientHost).Addr() }

// sourceNAT reports whether backends see the balancer as their client.
func (w way) sourceNAT() bool {
	return w.forward == lb.ForwardNAT || w.forward == lb.ForwardDNAT && w.flat
}

// ownVIP reports whether the VIP is an address of the balancer. Otherwise it is
// one that is routed to it, and nobody's, or the backends'.
func (w way) ownVIP() bool { return w.forward == lb.ForwardNAT && !w.twoArm && !w.onLink }

func (w way) vipAddress() netip.Addr {
	switch {
	case w.onLink:
		return w.vip.address(front, nobodysHost).Addr()
	case w.ownVIP():
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
	switch {
	case !w.sourceNAT():
		return w.clientAddress()
	case w.flat:
		return w.backend.address(front, balancerHost).Addr()
	}
	return w.backend.address(back, balancerHost).Addr()
}
