package forward

import (
	"net/netip"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lab/labtest"
	"github.com/tinylb/tinylb/test/testnet"
)

// joinRelayed connects a node with a bridge by a cable that the test can reorder
// fragments in.
func (n *network) joinRelayed(node *lab.Node, which end, bridge *lab.Bridge, address netip.Prefix) {
	n.t.Helper()
	relay := labtest.Node(n.t, n.lab, node.Name()+"-relay")
	n.must(relay.Sysctl("net.ipv6.conf.all.disable_ipv6", "1"), relay.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"),
		relay.Connect(bridge, "out"),
		n.lab.Connect(lab.End{Node: relay, Interface: "in"}, lab.End{Node: node, Interface: "eth0", Prefixes: []netip.Prefix{address}}))
	if which == backendEnd {
		n.widen(bridge.Node(), relay.Name())
		n.widen(relay, "out")
		n.widen(relay, "in")
	}
	n.relays[which] = testnet.StartRelay(n.t, relay, "in", "out")
}
