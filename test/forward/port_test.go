package forward

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// A client talks to two VIPs of one backend from one port. In dnat the backend sees the client, so that the
// second connection's answers would look like the first one's.
func TestOneClientPortToTwoVIPs(t *testing.T) {
	const port = 7
	for _, mode := range []lb.Mode{lb.ModeNative, lb.ModeGeneric} {
		for _, w := range ways(mode, lb.ForwardNAT, lb.ForwardDNAT) {
			if !w.twoArm || w.vip != w.backend {
				continue
			}
			t.Run(fmt.Sprint(mode, " ", w), func(t *testing.T) {
				t.Parallel()
				n := newNetwork(t, w, 1)
				testnet.EchoTCP(t, n.backends[0], n.local(0, port))
				second := n.vip.address(vips, 2).Addr()
				n.must(n.client.AddRoute(netip.PrefixFrom(second, second.BitLen()), n.vip.address(front, balancerHost).Addr()))
				config := fmt.Sprintf("interfaces: [eth0, eth1]\nmode: %s\nservices:\n", mode)
				for i, vip := range []netip.Addr{n.vipAddress(), second} {
					config += fmt.Sprintf("  - {name: echo-%d, address: %q, forward: %s, backends: [{address: %q}]}\n",
						i, netip.AddrPortFrom(vip, port), n.forward, n.local(0, port))
				}
				n.Run(config)
				from := netip.AddrPortFrom(n.vip.address(front, clientHost).Addr(), 40000).String()
				one := testnet.MustTalk(t, n.client, from, n.at(port).String())
				other := testnet.MustTalk(t, n.client, from, netip.AddrPortFrom(second, port).String())
				for range 10 {
					one.MustExchange(t, 20_000)
					other.MustExchange(t, 20_000)
				}
				status := n.Status()
				if rewritten := testnet.Packets(status, "echo-1", "new-flow-snat"); n.forward == lb.ForwardDNAT && rewritten != 1 {
					t.Errorf("the source of %d connections to the second VIP was rewritten, want 1", rewritten)
				}
			})
		}
	}
}
