package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lab/labtest"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

const (
	guePort = 6080
	// tunnelMTU of the links between balancer and backends, in bytes, has room
	// for the outer headers before what a client's link of 1500 carries.
	tunnelMTU = 1600
)

// network is a client, a balancer and backends, connected as a way says.
type network struct {
	*testnet.Balancer
	way
	t             *testing.T
	lab           *lab.Lab
	front, back   *lab.Bridge
	routers       routers
	relays        map[end]*testnet.Relay
	client        *lab.Node
	backends      []*lab.Node
	decapsulators []*lab.Decapsulator
	files         string // directory of the first backend's web server
}

func newNetwork(t *testing.T, w way, backends int) *network {
	t.Helper()
	n := &network{t: t, way: w, lab: labtest.New(t, lab.Native(w.mode == lb.ModeNative)), relays: map[end]*testnet.Relay{}}
	n.front = n.bridge("front")
	n.back = n.front
	if w.twoArm {
		n.back = n.bridge("back")
	}
	n.addRouters()
	n.addClient()
	n.addBalancer()
	for i := range backends {
		n.addBackend(i)
	}
	t.Cleanup(n.end)
	return n
}

// must ends the test if there is an error.
func (n *network) must(errs ...error) {
	n.t.Helper()
	if err := errors.Join(errs...); err != nil {
		n.t.Fatal(err)
	}
}

func (n *network) bridge(name string) *lab.Bridge {
	n.t.Helper()
	b, err := n.lab.AddBridge(name)
	n.must(err)
	return b
}

func (n *network) addClient() {
	n.t.Helper()
	n.client = labtest.Node(n.t, n.lab, "client")
	n.join(n.client, clientEnd, n.front, n.vip.address(n.clientLink(), clientHost))
	if vip := n.vipAddress(); !n.ownVIP() && !n.onLink && n.routed != clientEnd {
		n.must(n.client.AddRoute(netip.PrefixFrom(vip, vip.BitLen()), n.vip.address(front, balancerHost).Addr()))
	}
}

func (n *network) addBalancer() {
	n.t.Helper()
	node := labtest.Node(n.t, n.lab, "lb")
	toFront := []netip.Prefix{v4.address(front, balancerHost), v6.address(front, balancerHost)}
	toBack := []netip.Prefix{v4.address(back, balancerHost), v6.address(back, balancerHost)}
	ifname := "eth0"
	if n.twoArm {
		ifname = "eth1"
		n.must(node.Connect(n.front, "eth0", toFront...), node.Connect(n.back, ifname, toBack...))
	} else {
		n.must(node.Connect(n.front, ifname, append(toFront, toBack...)...))
	}
	n.widen(n.back.Node(), node.Name())
	n.widen(node, ifname)
	n.routeRemote(node)
	n.Balancer = testnet.NewBalancer(n.t, node)
}

// addBackend adds a machine whose answers find their way to the client, by the
// balancer or, where that has no part in it, directly.
func (n *network) addBackend(i int) {
	n.t.Helper()
	node := labtest.Node(n.t, n.lab, fmt.Sprintf("backend-%d", i))
	n.backends = append(n.backends, node)
	n.join(node, backendEnd, n.back, netip.PrefixFrom(n.backendAddress(i), n.backend.address(back, 0).Bits()))
	if n.forward == lb.ForwardDNAT && n.routed != backendEnd {
		n.must(node.AddRoute(n.backend.everything(), n.backend.address(n.backendLink(), balancerHost).Addr()))
	}
	if n.forward.Translates() {
		return
	}
	onFront := n.vip.address(front, backendHost+i)
	if n.twoArm {
		n.must(node.Connect(n.front, "eth1", onFront))
	} else {
		n.must(node.AddAddress("eth0", onFront),
			node.Sysctl("net.ipv6.conf.eth0.mtu", "1500")) // answers have no tunnel to the client
	}
	if n.routed == clientEnd {
		n.routeRemote(node)
	}
	n.must(node.AddVIP(n.vipAddress()))
	if n.forward.Tunnels() {
		n.decapsulators = append(n.decapsulators, labtest.Decapsulate(n.t, node, n.forward, guePort))
	}
}

// join connects the client or a backend with its link, in the way's manner.
func (n *network) join(node *lab.Node, which end, bridge *lab.Bridge, address netip.Prefix) {
	n.t.Helper()
	switch {
	case n.routed == which:
		n.joinRemote(node, address)
	case n.relayed:
		n.joinRelayed(node, which, bridge, address)
	default:
		n.must(node.Connect(bridge, "eth0", address))
		if which == backendEnd {
			n.widen(bridge.Node(), node.Name())
		}
	}
	if which == backendEnd {
		n.widen(node, "eth0")
	}
}

// widen makes room for tunnels on an interface that they go by.
func (n *network) widen(node *lab.Node, ifname string) {
	n.t.Helper()
	if n.forward.Tunnels() && !n.tight {
		n.must(node.SetMTU(ifname, tunnelMTU))
	}
}

func (n *network) end() {
	if n.t.Failed() {
		n.Explain()
	}
	n.Down()
}

// config has a service that changes the port, where the way can, and one that
// leaves all the others as they are.
func (n *network) config() string {
	var web, rest []string
	for i := range n.backends {
		address := n.backendAddress(i)
		rest = append(rest, fmt.Sprintf("{address: %q}", address))
		web = append(web, fmt.Sprintf("{address: %q}", netip.AddrPortFrom(address, n.webPort())))
	}
	interfaces := "[eth0]"
	if n.twoArm {
		interfaces = "[eth0, eth1]"
	}
	return fmt.Sprintf(`interfaces: %[1]s
mode: %[2]s
services:
  - name: web
    address: %[3]q
    forward: %[4]s
    backends: [%[5]s]
  - name: rest
    address: %[6]q
    protocol: [tcp, udp]
    forward: %[4]s
    backends: [%[7]s]
`, interfaces, n.mode, n.at(80), n.forward, strings.Join(web, ", "),
		lb.VIP{Addr: n.vipAddress(), Ports: lb.AllPorts()}, strings.Join(rest, ", "))
}

// at is the VIP with a port.
func (n *network) at(port uint16) netip.AddrPort { return netip.AddrPortFrom(n.vipAddress(), port) }

// url is what a client asks for at the VIP's port 80.
func (n *network) url(path string) string { return "http://" + n.at(80).String() + path }

// local is where a backend's server listens.
func (n *network) local(i int, port uint16) string {
	return netip.AddrPortFrom(n.serving(i), port).String()
}
