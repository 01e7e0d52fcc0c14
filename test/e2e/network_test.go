package e2e

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

// The tutorial's addresses.
const (
	clientAddress   = "192.17.0.4"
	balancerAddress = "192.17.0.5"
	addressA        = "192.17.0.2"
	addressB        = "192.17.0.3"
)

// webVIP is where the service of webConfig is.
const webVIP = balancerAddress + ":80"

// network is the tutorial's topology: four machines on one bridge.
type network struct {
	*testnet.Balancer
	t                                    *testing.T
	lab                                  *lab.Lab
	bridge                               *lab.Bridge
	client, balancer, backendA, backendB *lab.Node
	mode                                 lb.Mode
}

// newNetwork builds the topology; in native mode, prepared for it.
func newNetwork(t *testing.T, mode lb.Mode) *network {
	t.Helper()
	n := &network{t: t, mode: mode, lab: labtest.New(t, lab.Native(mode == lb.ModeNative))}
	var err error
	if n.bridge, err = n.lab.AddBridge("br-lb"); err != nil {
		t.Fatal(err)
	}
	n.client = n.machine("client", clientAddress)
	n.balancer = n.machine("lb", balancerAddress)
	n.backendA = n.machine("backend-a", addressA)
	n.backendB = n.machine("backend-b", addressB)
	n.Balancer = testnet.NewBalancer(t, n.balancer)
	t.Cleanup(n.end)
	return n
}

// machine adds a node with these addresses to the bridge.
func (n *network) machine(name string, addresses ...string) *lab.Node {
	n.t.Helper()
	node := labtest.Node(n.t, n.lab, name)
	if err := node.Connect(n.bridge, "eth0", prefixes(addresses...)...); err != nil {
		n.t.Fatal(err)
	}
	return node
}

// ends are the nodes whose packets the balancer changes.
func (n *network) ends() []*lab.Node { return []*lab.Node{n.client, n.backendA, n.backendB} }

func prefixes(addresses ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, a := range addresses {
		all = append(all, netip.PrefixFrom(netip.MustParseAddr(a), 24))
	}
	return all
}

// end takes the data plane down after a test, and says how things stood if the
// test failed.
func (n *network) end() {
	if n.t.Failed() {
		n.explain()
	}
	n.Down()
	n.checkNothingLeft()
}

// explain logs what helps to find out why a test failed.
func (n *network) explain() {
	n.Explain()
	for _, node := range append(n.ends(), n.balancer) {
		neighbours, err := node.Netlink().NeighList(0, 0)
		if err != nil {
			n.t.Log(err)
		}
		var lines strings.Builder
		for _, neighbour := range neighbours {
			fmt.Fprintf(&lines, "\n  %s %s, state %#x", neighbour.IP, neighbour.HardwareAddr, neighbour.State)
		}
		n.t.Logf("neighbours of %s:%s", node.Name(), &lines)
	}
}

// config is a config file with these services in the network's mode.
func (n *network) config(services ...string) string {
	return configFor(n.mode, services...)
}

func configFor(mode lb.Mode, services ...string) string {
	return fmt.Sprintf("interfaces: [eth0]\nmode: %s\nservices:\n%s", mode, strings.Join(services, ""))
}

// service is one service of a config file. Backends are as in
// "{name: a, address: 192.17.0.2:80}"; without any, the tutorial's two serve on
// the port of the VIP.
func service(name, protocol, vip string, backends ...string) string {
	if len(backends) == 0 {
		port := addrPort(vip).Port()
		backends = []string{
			fmt.Sprintf("{name: backend-a, address: %s:%d}", addressA, port),
			fmt.Sprintf("{name: backend-b, address: %s:%d}", addressB, port),
		}
	}
	return fmt.Sprintf("  - name: %s\n    address: %s\n    protocol: %s\n    backends: [%s]\n",
		name, vip, protocol, strings.Join(backends, ", "))
}

// inBothModes runs a test in native and in generic mode.
func inBothModes(t *testing.T, test func(t *testing.T, mode lb.Mode)) {
	for _, mode := range []lb.Mode{lb.ModeNative, lb.ModeGeneric} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			test(t, mode)
		})
	}
}

// in is the same network for a subtest.
func (n *network) in(t *testing.T) *network {
	sub := *n
	sub.t, sub.Balancer = t, n.In(t)
	return &sub
}

func addrPort(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }
