package e2e

import (
	"testing"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"

	"github.com/tinylb/tinylb/internal/lb"
)

func TestModeAutoWithThePeerInAnotherNamespaceIsGeneric(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, lb.ModeAuto)
	n.webs()
	d := n.Run(n.config(service("web", "tcp", webVIP)))
	d.AwaitLog(0, "msg=attached interface=eth0 mode=generic why=\"the other end of this veth is in another network namespace")
	n.checkMode("eth0", lb.ModeGeneric)
	n.askOften(n.client, webVIP, 100)
}

func TestModeAutoWithThePeerHere(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		gro  bool
		want lb.Mode
		log  string
	}{
		{"and GRO on is native", true, lb.ModeNative, "msg=attached interface=veth0 mode=native\n"},
		{"and GRO off is generic", false, lb.ModeGeneric,
			"msg=attached interface=veth0 mode=generic why=\"the other end of this veth, veth1, would drop frames that " +
				"native XDP sends; run: ethtool -K veth1 gro on (if it is on, turn it off and on)\"\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, lb.ModeAuto)
			n.addPair("veth0", "veth1", test.gro)
			d := n.Run("interfaces: [veth0]\nservices:\n" + service("web", "tcp", webVIP))
			d.AwaitLog(0, test.log)
			n.checkMode("veth0", test.want)
		})
	}
}

// addPair gives the balancer a veth with both ends.
func (n *network) addPair(name, peer string, gro bool) {
	n.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := n.balancer.Netlink().LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peer}); err != nil {
		n.t.Fatal(err)
	}
	for _, end := range []string{name, peer} {
		if err := n.balancer.SetUp(end); err != nil {
			n.t.Fatal(err)
		}
	}
	err := n.balancer.Do(func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		return tool.Change(peer, map[string]bool{"rx-gro": gro})
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// checkMode compares what the status and the kernel say with the mode wanted.
func (n *network) checkMode(ifname string, want lb.Mode) {
	n.t.Helper()
	link, err := n.balancer.Netlink().LinkByName(ifname)
	if err != nil {
		n.t.Fatal(err)
	}
	modes := map[uint32]lb.Mode{1: lb.ModeNative, 2: lb.ModeGeneric} // XDP_ATTACHED_DRV, _SKB of linux/if_link.h
	if xdp := link.Attrs().Xdp; xdp == nil || modes[xdp.AttachMode] != want {
		n.t.Errorf("the kernel has %+v on %s, want %s mode", xdp, ifname, want)
	}
	interfaces := n.Status().Interfaces
	if len(interfaces) != 1 || interfaces[0].Name != ifname || interfaces[0].Index != link.Attrs().Index || interfaces[0].Mode != want {
		n.t.Errorf("the status has %+v, want %s in %s mode alone", interfaces, ifname, want)
	}
}
