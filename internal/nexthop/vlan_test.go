package nexthop

import (
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// vlanLink is what netlink answers for a VLAN interface.
func vlanLink(name string, parent, id int) *netlink.Vlan {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = name, parent
	return &netlink.Vlan{LinkAttrs: attrs, VlanId: id, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
}

func TestReadVLAN(t *testing.T) {
	card := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "eth0", Index: 2}}
	provider := vlanLink("eth0.20", 2, 20)
	provider.VlanProtocol = netlink.VLAN_PROTOCOL_8021AD
	unset := vlanLink("eth0.4094", 2, 4094)
	unset.VlanProtocol = netlink.VLAN_PROTOCOL_UNKNOWN
	for name, tt := range map[string]struct {
		tagged  *netlink.Vlan
		parent  netlink.Link
		want    vlan
		problem string // part of it
	}{
		"on a card":            {vlanLink("eth0.20", 2, 20), card, vlan{parent: 2, id: 20}, ""},
		"protocol not told":    {unset, card, vlan{parent: 2, id: 4094}, ""},
		"on a bond":            {vlanLink("bond0.20", 7, 20), &netlink.Bond{}, vlan{parent: 7, id: 20}, ""},
		"of 802.1ad":           {provider, card, vlan{parent: 2, id: 20}, "802.1ad"},
		"in a VLAN":            {vlanLink("eth0.20.30", 5, 30), vlanLink("eth0.20", 2, 20), vlan{parent: 5, id: 30}, "a VLAN in a VLAN, eth0.20"},
		"in another namespace": {vlanLink("eth0.20", 2, 20), nil, vlan{parent: 2, id: 20}, "not of this network namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			got := readVLAN(tt.tagged, tt.parent)
			if !strings.Contains(got.problem, tt.problem) || (tt.problem == "") != (got.problem == "") {
				t.Errorf("the problem is %q, want %q", got.problem, tt.problem)
			}
			if got.problem = ""; got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// Packets leave by the interface below a VLAN's, unless a program is attached to that itself.
func TestOutInterfaces(t *testing.T) {
	named := func(name string, v vlan) link {
		return link{name: name, vlan: v, up: true, carrier: true, ethernet: true}
	}
	links := map[int]link{
		2: named("eth0", vlan{}), 5: named("eth0.20", vlan{parent: 2, id: 20}), 6: named("eth1.30", vlan{parent: 3, id: 30}),
		7: {name: "eth2"}, 8: {},
	}
	for name, tt := range map[string]struct {
		attached []string
		want     []int
	}{
		"the card":           {[]string{"eth0"}, []int{2, 3}},
		"a VLAN's interface": {[]string{"eth0.20"}, []int{2, 3, 5}},
		"both VLANs'":        {[]string{"eth0.20", "eth1.30"}, []int{2, 5, 6}},
	} {
		t.Run(name, func(t *testing.T) {
			tracker := tracker{links: links, attached: tt.attached}
			if got := tracker.out(); !slices.Equal(got, tt.want) {
				t.Errorf("out by %v, want %v", got, tt.want)
			}
		})
	}
}
