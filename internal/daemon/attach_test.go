package daemon

import (
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/nexthop"
)

func TestChooseMode(t *testing.T) {
	mac := lb.MAC{2, 0, 0, 0, 0, 5}
	tests := []struct {
		name   string
		wanted lb.Mode
		i      nexthop.Interface
		want   lb.Mode
		why    string // part of it; "" for none
	}{
		{"a network card", lb.ModeAuto, nexthop.Interface{MAC: mac, Driver: "ixgbe"}, lb.ModeNative, ""},
		{"no Ethernet", lb.ModeAuto, nexthop.Interface{Kind: "tun"}, lb.ModeGeneric, "no Ethernet addresses"},
		{"a port of a bridge", lb.ModeAuto,
			nexthop.Interface{MAC: mac, Driver: "ixgbe", Master: &nexthop.Master{Name: "br0", Kind: "bridge"}}, lb.ModeGeneric, "a port of br0"},
		{"a member of a bond", lb.ModeAuto,
			nexthop.Interface{MAC: mac, Driver: "ixgbe", Master: &nexthop.Master{Name: "bond0", Kind: "bond"}}, lb.ModeNative, ""},
		{"veth into another namespace", lb.ModeAuto,
			nexthop.Interface{MAC: mac, Kind: "veth", PeerElsewhere: true}, lb.ModeGeneric, "another network namespace"},
		{"veth whose peer drops", lb.ModeAuto,
			nexthop.Interface{MAC: mac, Kind: "veth", PeerName: "veth1"}, lb.ModeGeneric, "ethtool -K veth1 gro on"},
		{"veth whose peer receives", lb.ModeAuto,
			nexthop.Interface{MAC: mac, Kind: "veth", PeerName: "veth1", PeerReceives: true}, lb.ModeNative, ""},
		{"native is an order", lb.ModeNative, nexthop.Interface{MAC: mac, Kind: "veth", PeerElsewhere: true}, lb.ModeNative, ""},
		{"generic is an order", lb.ModeGeneric, nexthop.Interface{MAC: mac}, lb.ModeGeneric, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			mode, why := chooseMode(test.wanted, test.i)
			if mode != test.want || !strings.Contains(why, test.why) || (test.why == "") != (why == "") {
				t.Errorf("got %s because %q, want %s because %q", mode, why, test.want, test.why)
			}
		})
	}
}

func TestAttachment(t *testing.T) {
	tests := []struct {
		name          string
		i             nexthop.Interface
		mode          lb.Mode
		partial, byTX bool
	}{
		{"network card, native", nexthop.Interface{Driver: "ixgbe"}, lb.ModeNative, false, true},
		{"network card, generic: after GRO", nexthop.Interface{Driver: "ixgbe"}, lb.ModeGeneric, true, true},
		{"virtio", nexthop.Interface{Driver: "virtio_net"}, lb.ModeNative, true, true},
		{"tun", nexthop.Interface{Kind: "tun"}, lb.ModeNative, true, true},
		{"veth, native", nexthop.Interface{Kind: "veth"}, lb.ModeNative, true, false},
		{"veth, generic", nexthop.Interface{Kind: "veth"}, lb.ModeGeneric, true, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := attachment(test.i, test.mode)
			if a.PartialChecksums != test.partial || a.TXByRedirect == test.byTX || a.Mode != test.mode {
				t.Errorf("got %+v", a)
			}
		})
	}
}
