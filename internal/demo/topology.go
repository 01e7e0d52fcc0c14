package demo

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
)

// The tutorial's topology: four machines on one bridge, one subnet. The VIP is
// the balancer's own address, but where the backends have it, too: there the
// balancer speaks to them from another one.
const (
	bridgeName    = "br-lb"
	ifname        = "eth0"
	serviceName   = "web"
	clientAddress = "192.17.0.4"
	vipAddress    = "192.17.0.5"
	lbAddress     = "192.17.0.6" // with dsr, ipip and gue
	prefixLength  = 24
	port          = 80

	// URL is what the client asks for.
	URL = "http://" + vipAddress + "/"

	// tunnelMTU of the links between balancer and backends, in bytes, has room
	// for the headers that tunnels put before a packet of the client, whose
	// link has 1500.
	tunnelMTU = 1600
)

type backend struct{ name, address string }

func backends() []backend {
	return []backend{{"backend-a", "192.17.0.2"}, {"backend-b", "192.17.0.3"}}
}

// target is what the config says of the backend's address.
func (b backend) target(forward lb.Forward) string {
	if forward.Translates() {
		return fmt.Sprintf("%s:%d", b.address, port)
	}
	return b.address // packets keep their port
}

// listen is where the backend serves.
func (b backend) listen(forward lb.Forward) string {
	if forward.Translates() {
		return b.target(forward)
	}
	return fmt.Sprintf("%s:%d", vipAddress, port)
}

// network is the topology, built.
type network struct {
	*lab.Lab
	bridge           *lab.Bridge
	client, balancer *lab.Node
	backends         []*lab.Node // in the order of backends()
}

// addMachines fills an empty lab.
func addMachines(l *lab.Lab, forward lb.Forward) (n *network, err error) {
	n = &network{Lab: l}
	if n.bridge, err = l.AddBridge(bridgeName); err != nil {
		return nil, err
	}
	if n.client, err = n.add("client", clientAddress); err != nil {
		return nil, err
	}
	if n.balancer, err = n.addBalancer(forward); err != nil {
		return nil, err
	}
	for _, b := range backends() {
		node, err := n.add(b.name, b.address)
		if err != nil {
			return nil, err
		}
		if !forward.Translates() {
			if err := node.AddVIP(netip.MustParseAddr(vipAddress)); err != nil {
				return nil, err
			}
		}
		n.backends = append(n.backends, node)
	}
	if forward.Tunnels() {
		return n, n.widen(append(n.backends, n.balancer)...)
	}
	return n, nil
}

func (n *network) add(name, address string) (*lab.Node, error) {
	node, err := n.AddNode(name)
	if err != nil {
		return nil, err
	}
	return node, node.Connect(n.bridge, ifname, netip.PrefixFrom(netip.MustParseAddr(address), prefixLength))
}

func (n *network) addBalancer(forward lb.Forward) (*lab.Node, error) {
	if forward.Translates() {
		return n.add("lb", vipAddress)
	}
	node, err := n.add("lb", lbAddress)
	if err != nil {
		return nil, err
	}
	return node, node.AddAddress("lo", netip.PrefixFrom(netip.MustParseAddr(vipAddress), 32))
}

// widen makes room for tunnels on the nodes' links.
func (n *network) widen(nodes ...*lab.Node) error {
	var errs []error
	for _, node := range nodes {
		errs = append(errs, n.bridge.Node().SetMTU(node.Name(), tunnelMTU), node.SetMTU(ifname, tunnelMTU))
	}
	return errors.Join(errs...)
}

// balancerConfig is the balancer's config file.
func balancerConfig(o Options) string {
	var s strings.Builder
	fmt.Fprintf(&s, "# The tutorial's load balancer, as tinylb demo runs it.\n")
	fmt.Fprintf(&s, "interfaces: [%s]\n", ifname)
	fmt.Fprintf(&s, "mode: %s\n", o.Mode)
	fmt.Fprintf(&s, "services:\n")
	fmt.Fprintf(&s, "  - name: %s\n", serviceName)
	fmt.Fprintf(&s, "    address: %s:%d\n", vipAddress, port)
	fmt.Fprintf(&s, "    protocol: tcp\n")
	fmt.Fprintf(&s, "    forward: %s\n", o.Forward)
	fmt.Fprintf(&s, "    backends:\n")
	for _, b := range backends() {
		fmt.Fprintf(&s, "      - {name: %s, address: %s}\n", b.name, b.target(o.Forward))
	}
	return s.String()
}
