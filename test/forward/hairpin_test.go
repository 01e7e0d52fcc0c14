package forward

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lab/labtest"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// TestClientAndBackendBehindOneRouter: what comes from the near router goes back
// to it, to another machine.
func TestClientAndBackendBehindOneRouter(t *testing.T) {
	const link = 5 // of the far router, beside the backend's
	for _, mode := range []lb.Mode{lb.ModeNative, lb.ModeGeneric} {
		for _, f := range []family{v4, v6} {
			w := way{forward: lb.ForwardNAT, vip: f, backend: f, twoArm: true, routed: backendEnd, mode: mode}
			t.Run(w.String()+", "+string(mode), func(t *testing.T) {
				t.Parallel()
				n := newNetwork(t, w, 1)
				node := labtest.Node(t, n.lab, "neighbour")
				n.must(n.lab.Connect(
					lab.End{Node: n.routers.far, Interface: "eth2", Prefixes: []netip.Prefix{f.address(link, farHost)}},
					lab.End{Node: node, Interface: "eth0", Prefixes: []netip.Prefix{f.address(link, clientHost)}}),
					node.AddRoute(f.everything(), f.address(link, farHost).Addr()),
					n.routers.near.AddRoute(f.network(link), f.address(middle, farHost).Addr()),
					n.Node.AddRoute(f.network(link), n.routers.nearAddress()))
				testnet.Web(t, n.backends[0], n.Dir, n.local(0, n.webPort()))
				n.Run(n.config())
				n.asks(node)
				testnet.CheckChecksums(t, append(n.backends, node)...)
			})
		}
	}
}

// TestVIPOnTheLink: nobody has the VIP but, in the one-way modes, backends, which
// do not say so. So the balancer must answer who asks for its MAC.
func TestVIPOnTheLink(t *testing.T) {
	for _, w := range append(ways(lb.ModeNative, lb.Forwards()...), ways(lb.ModeGeneric, lb.ForwardDSR)...) {
		if w.vip != w.backend || w.twoArm != (w.vip == v4) {
			continue
		}
		w.onLink = true
		t.Run(w.String()+", "+string(w.mode), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, w, 1)
			testnet.Web(t, n.backends[0], n.Dir, n.local(0, n.webPort()))
			n.Run(n.config())
			n.asks(n.client)
			if testnet.PacketsOfAll(n.Status(), "neighbour") == 0 {
				t.Error("nobody asked for the VIP's MAC")
			}
		})
	}
}

// asks wants the backend to answer each of many requests, over connections of
// their own.
func (n *network) asks(node *lab.Node) {
	n.t.Helper()
	const requests = 50
	args := []string{"--max-time", "30", "--fail-early", "--globoff", "--header", "Connection: close"}
	for range requests {
		args = append(args, n.url("/"))
	}
	out, err := testnet.Curl(n.t, node, args...)
	n.must(err)
	if got := strings.Count(out, n.backends[0].Name()+"\n"); got != requests {
		n.t.Errorf("%d of %d requests were answered: %q", got, requests, out)
	}
}
