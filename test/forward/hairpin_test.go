package forward

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lab/labtest"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// inModes runs a test with nat in both modes of XDP, for both families.
func inModes(t *testing.T, w way, test func(*network)) {
	for _, w.mode = range []lb.Mode{lb.ModeNative, lb.ModeGeneric} {
		for _, w.vip = range []family{v4, v6} {
			w.forward, w.backend = lb.ForwardNAT, w.vip
			t.Run(w.String()+", "+string(w.mode), func(t *testing.T) {
				t.Parallel()
				n := newNetwork(t, w, 1)
				testnet.Web(t, n.backends[0], n.Dir, n.local(0, n.webPort()))
				n.Run(n.config())
				test(n)
				testnet.CheckChecksums(t, append(n.backends, n.client)...)
			})
		}
	}
}

// TestBackendIsItsOwnClient: it asks the VIP, and there is no other backend.
func TestBackendIsItsOwnClient(t *testing.T) {
	for _, twoArm := range []bool{false, true} {
		inModes(t, way{twoArm: twoArm}, func(n *network) {
			n.routeVIP(n.backends[0])
			n.asks(n.backends[0])
		})
	}
}

// TestClientOnTheBackendsHost has another address there.
func TestClientOnTheBackendsHost(t *testing.T) {
	const host = 20
	for _, twoArm := range []bool{false, true} {
		inModes(t, way{twoArm: twoArm}, func(n *network) {
			address := n.backend.address(back, host)
			n.must(n.backends[0].AddAddress("eth0", address))
			n.routeVIP(n.backends[0])
			n.asks(n.backends[0], "--interface", address.Addr().String())
		})
	}
}

func TestClientAndBackendInOneSubnet(t *testing.T) {
	inModes(t, way{flat: true}, func(n *network) { n.asks(n.client) })
}

// TestClientAndBackendBehindOneRouter: what comes from the near router goes back
// to it.
func TestClientAndBackendBehindOneRouter(t *testing.T) {
	const link = 5 // of the far router, beside the backend's
	inModes(t, way{twoArm: true, routed: backendEnd}, func(n *network) {
		f := n.backend
		node := labtest.Node(n.t, n.lab, "neighbour")
		n.must(n.lab.Connect(
			lab.End{Node: n.routers.far, Interface: "eth2", Prefixes: []netip.Prefix{f.address(link, farHost)}},
			lab.End{Node: node, Interface: "eth0", Prefixes: []netip.Prefix{f.address(link, clientHost)}}),
			node.AddRoute(f.everything(), f.address(link, farHost).Addr()),
			n.routers.near.AddRoute(f.network(link), f.address(middle, farHost).Addr()),
			n.Node.AddRoute(f.network(link), n.routers.nearAddress()))
		n.asks(node)
	})
}

// routeVIP has a node on the backends' link ask the balancer for the VIP.
func (n *network) routeVIP(node *lab.Node) {
	n.t.Helper()
	vip := n.vipAddress()
	n.must(node.AddRoute(netip.PrefixFrom(vip, vip.BitLen()), n.backend.address(back, balancerHost).Addr()))
}

// asks wants the backend to answer each of many requests, over connections of
// their own.
func (n *network) asks(node *lab.Node, args ...string) {
	n.t.Helper()
	const requests = 50
	args = append([]string{"--max-time", "30", "--fail-early", "--globoff", "--header", "Connection: close"}, args...)
	for range requests {
		args = append(args, n.url("/"))
	}
	out, err := testnet.Curl(n.t, node, args...)
	n.must(err)
	if got := strings.Count(out, n.backends[0].Name()+"\n"); got != requests {
		n.t.Errorf("%d of %d requests were answered: %q", got, requests, out)
	}
}

// TestVIPOnTheLink: nobody has the VIP but, in the one-way modes, backends, which
// do not say so. So the balancer must answer who asks for its MAC.
func TestVIPOnTheLink(t *testing.T) {
	for _, w := range append(ways(lb.ModeNative, lb.Forwards()...), ways(lb.ModeGeneric, lb.ForwardNAT, lb.ForwardDSR)...) {
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

// TestOneSocketAsksSeveralVIPs of one backend, in turn, from one port.
func TestOneSocketAsksSeveralVIPs(t *testing.T) {
	for _, w := range ways(lb.ModeNative, lb.Forwards()...) {
		if w.twoArm != (w.vip == v4) {
			continue
		}
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, w, 1)
			second := netip.AddrPortFrom(w.vip.address(vips, 2).Addr(), echoPort)
			n.must(n.client.AddRoute(netip.PrefixFrom(second.Addr(), second.Addr().BitLen()), w.vip.address(front, balancerHost).Addr()))
			testnet.EchoUDP(t, n.backends[0], n.local(0, echoPort))
			if !w.forward.Translates() {
				n.must(n.backends[0].AddVIP(second.Addr()))
				testnet.EchoUDP(t, n.backends[0], second.String())
			}
			n.Run(n.config() + fmt.Sprintf("  - {name: second, address: %q, protocol: udp, forward: %s, backends: [{address: %q}]}\n",
				second, w.forward, n.backendAddress(0)))
			socket := n.newAsker().socket
			for i := range 20 {
				for _, vip := range []netip.AddrPort{n.at(echoPort), second} {
					question := fmt.Sprint(i, vip)
					answer, err := testnet.ExchangeUDP(socket, vip, []byte(question))
					n.must(err)
					if string(answer) != question {
						t.Errorf("%q was answered with %q", question, answer)
					}
				}
			}
		})
	}
}
