package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lab/labtest"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// bridgeMAC is none of its ports'.
const bridgeMAC = "02:00:00:00:00:99"

// bridged is a balancer that is a bridge itself: the client is at one port, a backend at
// another one, and the balancer's addresses are on the bridge.
func bridged(t *testing.T) *network {
	t.Helper()
	n := &network{t: t, mode: lb.ModeGeneric, lab: labtest.New(t, lab.Native(false))}
	n.client, n.balancer = labtest.Node(t, n.lab, "client"), labtest.Node(t, n.lab, "lb")
	n.backendA, n.backendB = labtest.Node(t, n.lab, "backend-a"), labtest.Node(t, n.lab, "backend-b")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	must(n.balancer.Netlink().LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	bridge, err := n.balancer.Netlink().LinkByName("br0")
	must(err)
	for port, end := range map[string]lab.End{
		"port0": {Node: n.client, Interface: "eth0", Prefixes: prefixes(clientAddress)},
		"port1": {Node: n.backendA, Interface: "eth0", Prefixes: prefixes(addressA)},
		"port2": {Node: n.backendB, Interface: "eth0", Prefixes: prefixes(addressB)},
	} {
		must(n.lab.Connect(lab.End{Node: n.balancer, Interface: port}, end))
		link, err := n.balancer.Netlink().LinkByName(port)
		must(err)
		must(n.balancer.Netlink().LinkSetMaster(link, bridge))
	}
	mac, err := net.ParseMAC(bridgeMAC)
	must(err)
	must(n.balancer.SetMAC("br0", mac))
	must(n.balancer.SetUp("br0"))
	must(n.balancer.AddAddress("br0", prefixes(balancerAddress)...))
	n.Balancer = testnet.NewBalancer(t, n.balancer)
	t.Cleanup(n.Down)
	t.Cleanup(func() {
		if t.Failed() {
			n.explain()
		}
	})
	return n
}

// On the bridge, and on its ports, for addresses of the bridge and of nobody.
func TestBridge(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ interfaces, notice string }{
		"the bridge": {"[br0]", "br0 is a bridge: XDP sees the frames that are for the bridge itself"},
		"its ports":  {"[port0, port1, port2]", "is a port of the bridge br0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := bridged(t)
			n.webs()
			services := service("own", "tcp", webVIP) + service("foreign", "tcp", foreignVIP+":80")
			d := n.Run(fmt.Sprintf("interfaces: %s\nservices:\n%s", test.interfaces, services))
			for _, vip := range []string{webVIP, foreignVIP + ":80"} {
				n.wantBoth(n.askOften(n.client, vip, 100))
				n.wantBoth(n.askOften(n.backendA, vip, 100))
			}
			if mac := n.neighbourOf(n.client, foreignVIP); mac != bridgeMAC {
				t.Errorf("the client knows the VIP by %s, want the bridge's MAC", mac)
			}
			for _, i := range n.Status().Interfaces {
				if notices := strings.Join(i.Notices, "\n"); !strings.Contains(notices, test.notice) || i.Mode != lb.ModeGeneric {
					t.Errorf("the status says of %s, in %s mode: %q", i.Name, i.Mode, notices)
				}
			}
			d.AwaitLog(0, test.notice)
		})
	}
}
