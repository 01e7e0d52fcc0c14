package demo

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/tinylb/tinylb/internal/lab"
)

// The tutorial's topology: four machines on one bridge, one subnet. The VIP is
// the balancer's own address.
const (
	bridgeName    = "br-lb"
	ifname        = "eth0"
	serviceName   = "web"
	clientAddress = "192.17.0.4"
	lbAddress     = "192.17.0.5"
	prefixLength  = 24
	port          = 80

	// URL is what the client asks for.
	URL = "http://" + lbAddress + "/"
)

type backend struct{ name, address string }

func backends() []backend {
	return []backend{{"backend-a", "192.17.0.2"}, {"backend-b", "192.17.0.3"}}
}

func (b backend) listen() string { return fmt.Sprintf("%s:%d", b.address, port) }

// network is the topology, built.
type network struct {
	*lab.Lab
	client, balancer *lab.Node
	backends         []*lab.Node // in the order of backends()
}

// addMachines fills an empty lab.
func addMachines(l *lab.Lab) (*network, error) {
	bridge, err := l.AddBridge(bridgeName)
	if err != nil {
		return nil, err
	}
	add := func(name, address string) (*lab.Node, error) {
		node, err := l.AddNode(name)
		if err != nil {
			return nil, err
		}
		addr, err := netip.ParseAddr(address)
		if err != nil {
			return nil, err
		}
		return node, node.Connect(bridge, ifname, netip.PrefixFrom(addr, prefixLength))
	}
	n := &network{Lab: l}
	if n.client, err = add("client", clientAddress); err != nil {
		return nil, err
	}
	if n.balancer, err = add("lb", lbAddress); err != nil {
		return nil, err
	}
	for _, b := range backends() {
		node, err := add(b.name, b.address)
		if err != nil {
			return nil, err
		}
		n.backends = append(n.backends, node)
	}
	return n, nil
}

// balancerConfig is the balancer's config file.
func balancerConfig(o Options) string {
	var s strings.Builder
	fmt.Fprintf(&s, "# The tutorial's load balancer, as tinylb demo runs it.\n")
	fmt.Fprintf(&s, "interfaces: [%s]\n", ifname)
	fmt.Fprintf(&s, "mode: %s\n", o.Mode)
	fmt.Fprintf(&s, "services:\n")
	fmt.Fprintf(&s, "  - name: %s\n", serviceName)
	fmt.Fprintf(&s, "    address: %s:%d\n", lbAddress, port)
	fmt.Fprintf(&s, "    protocol: tcp\n")
	fmt.Fprintf(&s, "    forward: %s\n", o.Forward)
	fmt.Fprintf(&s, "    backends:\n")
	for _, b := range backends() {
		fmt.Fprintf(&s, "      - {name: %s, address: %s}\n", b.name, b.listen())
	}
	return s.String()
}
