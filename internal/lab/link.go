package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Bridge is an Ethernet switch, in a namespace of its own.
type Bridge struct {
	node   *Node
	device netlink.Link
}

// AddBridge adds a bridge device of that name whose ports forward at once:
// without spanning tree and multicast snooping.
func (l *Lab) AddBridge(name string) (*Bridge, error) {
	node, err := l.AddNode(name)
	if err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.HardwareAddr = macOf(l.nextEnd())
	snooping := false
	device := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
	if err := node.netlink.LinkAdd(device); err != nil {
		return nil, fmt.Errorf("adding bridge %s: %w", name, err)
	}
	if err := node.SetUp(name); err != nil {
		return nil, err
	}
	return &Bridge{node: node, device: device}, nil
}

// Node is the namespace the bridge is in. Its ports there are named after the
// nodes they lead to.
func (b *Bridge) Node() *Node { return b.node }

// Connect gives the node an interface on the bridge, up and with these
// addresses.
func (n *Node) Connect(b *Bridge, ifname string, prefixes ...netip.Prefix) error {
	port := n.name
	if _, err := b.node.netlink.LinkByName(port); err == nil {
		port += "-" + ifname // the node's second interface on this bridge
	}
	if err := n.lab.addVeth(n, ifname, b.node, port); err != nil {
		return err
	}
	link, err := b.node.link(port)
	if err != nil {
		return err
	}
	if err := b.node.netlink.LinkSetMaster(link, b.device); err != nil {
		return fmt.Errorf("attaching %s to bridge %s: %w", port, b.node.name, err)
	}
	if err := b.node.SetUp(port); err != nil {
		return err
	}
	if err := n.bringUp(ifname, prefixes); err != nil {
		return err
	}
	if n.lab.native {
		if err := b.node.setGRO(port); err != nil {
			return err
		}
	}
	return errors.Join(n.settle(ifname), b.node.settle(port))
}

// End is one side of a cable between two nodes.
type End struct {
	Node      *Node
	Interface string
	Prefixes  []netip.Prefix
}

// Connect joins two nodes directly, both interfaces up and with their addresses.
func (l *Lab) Connect(a, b End) error {
	if err := l.addVeth(a.Node, a.Interface, b.Node, b.Interface); err != nil {
		return err
	}
	for _, end := range []End{a, b} {
		if err := end.Node.bringUp(end.Interface, end.Prefixes); err != nil {
			return err
		}
	}
	if l.native {
		if err := errors.Join(a.Node.setGRO(a.Interface), b.Node.setGRO(b.Interface)); err != nil {
			return err
		}
	}
	return errors.Join(a.Node.settle(a.Interface), b.Node.settle(b.Interface))
}

func (l *Lab) addVeth(a *Node, ifA string, b *Node, ifB string) error {
	endA, endB := l.nextEnd(), l.nextEnd()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = ifA
	attrs.HardwareAddr = macOf(endA)
	// While both ends have the same index, which they can in two namespaces,
	// Linux takes them for unrelated devices and may tell IPv6 and bridges of
	// a new carrier a second late. The other end's index counts up from 2.
	attrs.Index = 10 + int(endA)
	err := a.netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         ifB,
		PeerHardwareAddr: macOf(endB),
		PeerNamespace:    netlink.NsFd(b.namespace),
	})
	if err != nil {
		return fmt.Errorf("connecting %s of node %s to %s of node %s: %w", ifA, a.name, ifB, b.name, err)
	}
	return nil
}

// macOf makes the same lab have the same addresses every time.
func macOf(end uint16) net.HardwareAddr {
	return net.HardwareAddr{0x02, 'L', 'B', 0, byte(end >> 8), byte(end)}
}

func (n *Node) bringUp(ifname string, prefixes []netip.Prefix) error {
	if err := n.AddAddress(ifname, prefixes...); err != nil {
		return err
	}
	return n.SetUp(ifname)
}

// setGRO turns GRO on at an interface that is up: only then does Linux tell the
// other end that it may be redirected to (its xdp_features, since 6.3).
func (n *Node) setGRO(ifname string) error {
	return n.SetFeatures(ifname, map[string]bool{"rx-gro": true})
}

// SetFeatures turns features of an interface on and off, by the kernel's names
// for them, such as "tx-tcp-segmentation".
func (n *Node) SetFeatures(ifname string, features map[string]bool) error {
	err := n.ethtool(func(tool *ethtool.Ethtool) error { return tool.Change(ifname, features) })
	if err != nil {
		return fmt.Errorf("setting features of %s of node %s: %w", ifname, n.name, err)
	}
	return nil
}

// settle makes the kernel tell bridges and IPv6 of a new carrier now, which it
// does before it answers this question, instead of up to a second later.
func (n *Node) settle(ifname string) error {
	err := n.ethtool(func(tool *ethtool.Ethtool) error {
		_, err := tool.LinkState(ifname)
		return err
	})
	if err != nil {
		return fmt.Errorf("asking for the carrier of %s of node %s: %w", ifname, n.name, err)
	}
	return nil
}

// ethtool calls f with a handle to the node's namespace.
func (n *Node) ethtool(f func(*ethtool.Ethtool) error) error {
	return n.Do(func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		return f(tool)
	})
}

func (n *Node) link(ifname string) (netlink.Link, error) {
	link, err := n.netlink.LinkByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("interface %s of node %s: %w", ifname, n.name, err)
	}
	return link, nil
}

// change looks the interface up and applies one operation to it.
func (n *Node) change(what, ifname string, apply func(netlink.Link) error) error {
	link, err := n.link(ifname)
	if err != nil {
		return err
	}
	if err := apply(link); err != nil {
		return fmt.Errorf("%s %s of node %s: %w", what, ifname, n.name, err)
	}
	return nil
}

// SetUp sets an interface administratively up.
func (n *Node) SetUp(ifname string) error {
	return n.change("setting up", ifname, n.netlink.LinkSetUp)
}

// SetDown sets an interface administratively down.
func (n *Node) SetDown(ifname string) error {
	return n.change("setting down", ifname, n.netlink.LinkSetDown)
}

// SetMAC changes the address of an interface, up or down.
func (n *Node) SetMAC(ifname string, mac net.HardwareAddr) error {
	return n.change("setting the MAC of", ifname, func(link netlink.Link) error {
		return n.netlink.LinkSetHardwareAddr(link, mac)
	})
}

// SetMTU changes how large the packets are that an interface sends, in bytes. The
// other end of the link has an MTU of its own.
func (n *Node) SetMTU(ifname string, mtu int) error {
	return n.change("setting the MTU of", ifname, func(link netlink.Link) error {
		return n.netlink.LinkSetMTU(link, mtu)
	})
}

// AddVIP gives the node an address that others on its links have, too, as direct
// server return wants it: it takes packets for it, but does not tell anybody.
func (n *Node) AddVIP(vip netip.Addr) error {
	// IPv6 answers for an address only on the interface that has it.
	for key, value := range map[string]string{"arp_ignore": "1", "arp_announce": "2"} {
		if err := n.Sysctl("net.ipv4.conf.all."+key, value); err != nil {
			return err
		}
	}
	return n.AddAddress("lo", netip.PrefixFrom(vip, vip.BitLen()))
}

// AddAddress adds addresses to an interface. They are usable at
// once: IPv6 ones are not probed for duplicates (RFC 4862).
func (n *Node) AddAddress(ifname string, prefixes ...netip.Prefix) error {
	return n.change("adding addresses to", ifname, func(link netlink.Link) error {
		for _, p := range prefixes {
			addr := &netlink.Addr{IPNet: ipNet(p)}
			if p.Addr().Is6() {
				addr.Flags = unix.IFA_F_NODAD
			}
			if err := n.netlink.AddrAdd(link, addr); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
		}
		return nil
	})
}

// AddRoute sends what is for dst, 0.0.0.0/0 or ::/0 for everything, to a
// directly connected gateway. It replaces an equal route.
func (n *Node) AddRoute(dst netip.Prefix, via netip.Addr) error {
	route := &netlink.Route{Dst: ipNet(dst.Masked()), Gw: via.AsSlice()}
	if err := n.netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("routing %s via %s on node %s: %w", dst, via, n.name, err)
	}
	return nil
}

// Interface describes an interface of the node: its index, MAC and MTU.
func (n *Node) Interface(ifname string) (net.Interface, error) {
	link, err := n.link(ifname)
	if err != nil {
		return net.Interface{}, err
	}
	attrs := link.Attrs()
	return net.Interface{
		Index:        attrs.Index,
		Name:         attrs.Name,
		MTU:          attrs.MTU,
		HardwareAddr: attrs.HardwareAddr,
		Flags:        attrs.Flags,
	}, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{
		IP:   p.Addr().AsSlice(),
		Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
	}
}
