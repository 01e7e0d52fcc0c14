package e2e

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lab/labtest"
	"github.com/tinylb/tinylb/internal/lb"
)

// A second network, beside the tutorial's.
const (
	farRouter     = "192.17.1.1"
	farMachine    = "192.17.1.2"
	nearRouter    = "192.17.0.254"
	farNetwork    = "192.17.1.0/24"
	nearNetwork   = "192.17.0.0/24"
	farMachineWeb = farMachine + ":80"
)

// addRouter joins the tutorial's network with a machine of another one.
func (n *network) addRouter(farName string) (far *lab.Node) {
	n.t.Helper()
	router := n.machine("router", nearRouter)
	far = labtest.Node(n.t, n.lab, farName)
	err := n.lab.Connect(
		lab.End{Node: router, Interface: "far", Prefixes: prefixes(farRouter)},
		lab.End{Node: far, Interface: "eth0", Prefixes: prefixes(farMachine)})
	if err != nil {
		n.t.Fatal(err)
	}
	if err := router.Sysctl("net.ipv4.ip_forward", "1"); err != nil {
		n.t.Fatal(err)
	}
	n.route(far, nearNetwork, farRouter)
	return far
}

func (n *network) route(node *lab.Node, to, via string) {
	n.t.Helper()
	if err := node.AddRoute(netip.MustParsePrefix(to), netip.MustParseAddr(via)); err != nil {
		n.t.Fatal(err)
	}
}

func TestClientBehindARouter(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.webs()
		far := n.addRouter("far-client")
		n.Run(n.config(service("web", "tcp", webVIP)))
		n.wantBoth(n.askOften(far, webVIP, 200))
	})
}

func TestBackendBehindARouter(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		far := n.addRouter("far-backend")
		n.route(n.balancer, farNetwork, nearRouter)
		n.web(far, farMachineWeb)
		n.Run(n.config(service("web", "tcp", webVIP, "{address: "+farMachineWeb+"}")))
		if answers := n.askOften(n.client, webVIP, 200); answers["far-backend"] != 200 {
			t.Errorf("%v answered, want far-backend alone", answers)
		}
	})
}

func TestBackendsOnAnotherInterface(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		far := labtest.Node(t, n.lab, "far-backend")
		err := n.lab.Connect(
			lab.End{Node: n.balancer, Interface: "eth1", Prefixes: prefixes(farRouter)},
			lab.End{Node: far, Interface: "eth0", Prefixes: prefixes(farMachine)})
		if err != nil {
			t.Fatal(err)
		}
		n.web(far, farMachineWeb)
		n.Run("interfaces: [eth0, eth1]\nmode: " + string(mode) + "\nservices:\n" +
			service("web", "tcp", webVIP, "{address: "+farMachineWeb+"}"))
		if answers := n.askOften(n.client, webVIP, 200); answers["far-backend"] != 200 {
			t.Errorf("%v answered, want far-backend alone", answers)
		}
	})
}

func TestBackendIsAClientToo(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		n.webs()
		n.Run(n.config(service("web", "tcp", webVIP)))
		n.wantBoth(n.askOften(n.backendA, webVIP, 200))
	})
}

func TestJumboFrames(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		for _, node := range append(n.ends(), n.balancer) {
			if err := errors.Join(n.bridge.Node().SetMTU(node.Name(), 9000), node.SetMTU("eth0", 9000)); err != nil {
				t.Fatal(err)
			}
		}
		dir := n.web(n.backendA, addressA+":80")
		n.Run(n.config(service("web", "tcp", webVIP, "{address: "+addressA+":80}")))
		n.transferBothWays(dir, bulkSize/4)
		n.checkChecksums()
	})
}
