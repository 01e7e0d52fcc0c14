package forward

import (
	"errors"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lab/labtest"
)

// routers are two between the balancer and one of its ends, with a link of their
// own between them: whatever does not fit into that, either way, is theirs to
// refuse.
type routers struct {
	near, far *lab.Node // seen from the balancer
	family    family    // of what they route
	link      int       // that near has in common with the balancer
}

func (r routers) nearAddress() netip.Addr { return r.family.address(r.link, nearHost).Addr() }

// addRouters adds those of the way, if it has any.
func (n *network) addRouters() {
	n.t.Helper()
	bridge := n.front
	switch n.routed {
	case clientEnd:
		n.routers = routers{family: n.vip, link: front}
	case backendEnd:
		n.routers = routers{family: n.backend, link: back}
		bridge = n.back
	default:
		return
	}
	r, f := &n.routers, n.routers.family
	r.near, r.far = labtest.Node(n.t, n.lab, "near"), labtest.Node(n.t, n.lab, "far")
	n.must(r.near.Connect(bridge, "eth0", f.address(r.link, nearHost)),
		n.lab.Connect(
			lab.End{Node: r.near, Interface: "eth1", Prefixes: []netip.Prefix{f.address(middle, nearHost)}},
			lab.End{Node: r.far, Interface: "eth0", Prefixes: []netip.Prefix{f.address(middle, farHost)}}),
		r.near.AddRoute(f.network(remote), f.address(middle, farHost).Addr()),
		r.near.AddRoute(f.everything(), f.address(r.link, balancerHost).Addr()),
		r.far.AddRoute(f.everything(), f.address(middle, nearHost).Addr()))
	for _, router := range []*lab.Node{r.near, r.far} {
		n.must(router.Sysctl("net.ipv4.ip_forward", "1"), router.Sysctl("net.ipv6.conf.all.forwarding", "1"))
	}
	if n.routed == backendEnd {
		n.widen(bridge.Node(), "near")
		n.widen(r.near, "eth0")
		n.widen(r.near, "eth1")
		n.widen(r.far, "eth0")
	}
}

// joinRemote connects a node with the far router.
func (n *network) joinRemote(node *lab.Node, address netip.Prefix) {
	n.t.Helper()
	gateway := n.routers.family.address(remote, farHost)
	n.must(n.lab.Connect(
		lab.End{Node: n.routers.far, Interface: "eth1", Prefixes: []netip.Prefix{gateway}},
		lab.End{Node: node, Interface: "eth0", Prefixes: []netip.Prefix{address}}),
		node.AddRoute(n.routers.family.everything(), gateway.Addr()))
	if n.routed == backendEnd {
		n.widen(n.routers.far, "eth1")
	}
}

// routeRemote tells a node beside the near router what is behind it.
func (n *network) routeRemote(node *lab.Node) {
	n.t.Helper()
	if n.routed != "" {
		n.must(node.AddRoute(n.routers.family.network(remote), n.routers.nearAddress()))
	}
}

// narrow sets the MTU of the link between the routers.
func (r routers) narrow(mtu int) error {
	return errors.Join(r.near.SetMTU("eth1", mtu), r.far.SetMTU("eth0", mtu))
}
