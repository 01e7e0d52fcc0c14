package daemon

import (
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/nexthop"
)

func TestNotices(t *testing.T) {
	card := nexthop.Interface{Name: "eth0", Driver: "ixgbe"}
	with := func(change func(*nexthop.Interface)) nexthop.Interface {
		i := card
		change(&i)
		return i
	}
	in := func(name, kind string) nexthop.Interface {
		return with(func(i *nexthop.Interface) {
			i.Master = &nexthop.Master{Name: name, Kind: kind, MAC: lb.MAC{2, 0, 0, 0, 0, 9}}
		})
	}
	trunk := with(func(i *nexthop.Interface) { i.VLANs, i.StripsTags = []string{"eth0.10", "eth0.20"}, true })
	veth := with(func(i *nexthop.Interface) {
		i.Kind, i.VLANs, i.StripsTags, i.PeerName = "veth", []string{"eth0.10"}, true, "veth1"
	})
	for name, test := range map[string]struct {
		i    nexthop.Interface
		mode lb.Mode
		outs []nexthop.Out
		want []string // parts of each, with | between them
	}{
		"a network card":            {card, lb.ModeNative, []nexthop.Out{{Name: "eth1", TakesRedirects: true}}, nil},
		"a bond":                    {with(func(i *nexthop.Interface) { i.Kind = "bond" }), lb.ModeNative, nil, []string{"is a bond|active-backup"}},
		"a team":                    {with(func(i *nexthop.Interface) { i.Kind = "team" }), lb.ModeGeneric, nil, []string{"is a team|generic mode only"}},
		"a bridge":                  {with(func(i *nexthop.Interface) { i.Kind = "bridge" }), lb.ModeGeneric, nil, []string{"is a bridge|not those that it forwards"}},
		"a bond's member":           {in("bond0", "bond"), lb.ModeNative, nil, []string{"member of bond0, a bond|at this member|attach to bond0"}},
		"a team's member":           {in("team0", "team"), lb.ModeNative, nil, []string{"member of team0, a team"}},
		"a bridge's port":           {in("br0", "bridge"), lb.ModeGeneric, nil, []string{"port of the bridge br0|02:00:00:00:00:09|attach to br0"}},
		"tags are stripped":         {trunk, lb.ModeNative, nil, []string{"eth0.10, eth0.20|ethtool -K eth0 rxvlan off"}},
		"in generic mode, too":      {trunk, lb.ModeGeneric, nil, []string{"ethtool -K eth0 rxvlan off"}},
		"tags stay":                 {with(func(i *nexthop.Interface) { i.VLANs = []string{"eth0.10"} }), lb.ModeNative, nil, nil},
		"no VLANs to strip tags of": {with(func(i *nexthop.Interface) { i.StripsTags = true }), lb.ModeNative, nil, nil},
		"a veth's sender keeps tags beside the frame": {veth, lb.ModeNative, nil, []string{"at the other end of eth0|ethtool -K veth1 txvlan off"}},
		"out by what drops":                           {card, lb.ModeNative, []nexthop.Out{{Name: "br0", Kind: "bridge"}}, []string{"leave by br0|a bridge cannot take it|mode: generic"}},
		"out by a card that waits":                    {card, lb.ModeNative, []nexthop.Out{{Name: "eth1"}}, []string{"leave by eth1|name it among the interfaces"}},
		"out by a veth":                               {card, lb.ModeNative, []nexthop.Out{{Name: "veth1", Kind: "veth"}}, []string{"leave by veth1|GRO"}},
		"out in generic mode":                         {card, lb.ModeGeneric, []nexthop.Out{{Name: "br0", Kind: "bridge"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := notices(test.i, test.mode, test.outs)
			if len(got) != len(test.want) {
				t.Fatalf("got %q, want %q", got, test.want)
			}
			for n, want := range test.want {
				for _, part := range strings.Split(want, "|") {
					if !strings.Contains(got[n], part) {
						t.Errorf("%q does not say %q", got[n], part)
					}
				}
			}
		})
	}
}

// Frames for a host on a bridge or bond are sent to the MAC of that.
func TestHostMAC(t *testing.T) {
	own, bridges := lb.MAC{2, 0, 0, 0, 0, 1}, lb.MAC{2, 0, 0, 0, 0, 9}
	for name, test := range map[string]struct {
		master *nexthop.Master
		want   lb.MAC
	}{
		"alone": {nil, own}, "a port": {&nexthop.Master{MAC: bridges}, bridges}, "of something without a MAC": {&nexthop.Master{}, own},
	} {
		t.Run(name, func(t *testing.T) {
			a := attachment(nexthop.Interface{MAC: own, Master: test.master}, lb.ModeGeneric)
			if a.MAC != test.want || a.NeighbourMAC != test.want {
				t.Errorf("the attachment has %v and %v, want %v", a.MAC, a.NeighbourMAC, test.want)
			}
		})
	}
}

func TestIndexTooLarge(t *testing.T) {
	err := (&attacher{}).attach(nexthop.Interface{Name: "eth0", Index: 1 << 20}, lb.ModeAuto)
	if err == nil || !strings.Contains(err.Error(), "interface eth0: the index of the interface is too large: 1048576, of at most 1048575") {
		t.Errorf("got %v", err)
	}
}
