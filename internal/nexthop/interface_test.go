package nexthop

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lb"
)

func TestInterface(t *testing.T) {
	balancer, _ := balancerAndBackend(t)
	r := balancer.resolver(slog.New(slog.DiscardHandler))
	got, err := r.Interface("eth1")
	if err != nil {
		t.Fatal(err)
	}
	attrs := balancer.link("eth1").Attrs()
	if got.Index != attrs.Index || got.Name != "eth1" || got.MAC != balancer.mac("eth1") || got.MTU != 1500 || !got.Up ||
		got.Kind != "veth" || got.Driver != "veth" || got.XDP != nil {
		t.Errorf("eth1: %+v", got)
	}
	if !got.PeerElsewhere || got.PeerName != "" || got.PeerReceives {
		t.Errorf("eth1's other end is in another namespace, got %+v", got)
	}
	for _, prefix := range []string{"10.9.0.1/16", "fd09::1/64"} {
		if !slices.Contains(got.Addresses, netip.MustParsePrefix(prefix)) {
			t.Errorf("eth1 has the address %s, got %v", prefix, got.Addresses)
		}
	}

	_, err = r.Interface("eth7")
	if !errors.Is(err, ErrNoInterface) || !strings.Contains(err.Error(), "interfaces here: lo, eth1") {
		t.Errorf("eth7: error %v", err)
	}
}

func TestInterfaceKinds(t *testing.T) {
	n := newNamespace(t)
	n.must(n.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	n.in(func() error {
		return netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN})
	})
	r := n.resolver(slog.New(slog.DiscardHandler))
	for name, want := range map[string]struct{ kind, driver string }{
		"lo": {"", ""}, "br0": {"bridge", "bridge"}, "tun0": {"tun", "tun"},
	} {
		got, err := r.Interface(name)
		if err != nil || got.Kind != want.kind || got.Driver != want.driver {
			t.Errorf("%s: kind %q, driver %q, error %v; want %+v", name, got.Kind, got.Driver, err, want)
		}
	}
}

func TestVethPeerReceives(t *testing.T) {
	pass := loadPass(t)
	bothUp := func(n *namespace) { n.up("veth0"); n.up("veth1") }
	_, err := netlink.GenlFamilyGet(netdevFamily)
	tests := []struct {
		name  string
		setUp func(*namespace)
		want  bool
	}{
		{"as made", func(*namespace) {}, false},
		{"GRO", func(n *namespace) { bothUp(n); n.in(turnOnGRO) }, true},
		// Linux 6.3 and later do not notice, earlier ones do not mind
		{"GRO between up and up", func(n *namespace) { n.up("veth0"); n.in(turnOnGRO); n.up("veth1") }, errors.Is(err, unix.ENOENT)},
		{"native XDP", func(n *namespace) { attach(n, pass, unix.XDP_FLAGS_DRV_MODE) }, true},
		{"generic XDP", func(n *namespace) { attach(n, pass, unix.XDP_FLAGS_SKB_MODE) }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNamespace(t)
			n.must(n.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth0"}, PeerName: "veth1"}))
			tt.setUp(n)
			got, err := n.resolver(slog.New(slog.DiscardHandler)).Interface("veth0")
			if err != nil {
				t.Fatal(err)
			}
			if got.PeerElsewhere || got.PeerName != "veth1" || got.PeerReceives != tt.want {
				t.Errorf("got %+v, want the peer veth1 here, receiving: %v", got, tt.want)
			}
		})
	}
}

func TestAttachedXDP(t *testing.T) {
	pass := loadPass(t)
	info, err := pass.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	for mode, flags := range map[string]int{"native": unix.XDP_FLAGS_DRV_MODE, "generic": unix.XDP_FLAGS_SKB_MODE} {
		n := newNamespace(t)
		n.must(n.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth0"}, PeerName: "veth1"}))
		attach(n, pass, flags)
		got, err := n.resolver(slog.New(slog.DiscardHandler)).Interface("veth1")
		if err != nil {
			t.Fatal(err)
		}
		if got.XDP == nil || *got.XDP != (AttachedXDP{ProgramID: uint32(id), Mode: mode}) {
			t.Errorf("%s: got %+v", mode, got.XDP)
		}
	}
}

func turnOnGRO() error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return err
	}
	defer e.Close()
	return e.Change("veth1", map[string]bool{"rx-gro": true})
}

// loadPass loads an XDP program that lets every packet pass.
func loadPass(t *testing.T) *ebpf.Program {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.XDP,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, // XDP_PASS
		License:      "MIT",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return program
}

func attach(n *namespace, program *ebpf.Program, flags int) {
	n.t.Helper()
	n.in(func() error { return netlink.LinkSetXdpFdWithFlags(n.link("veth1"), program.FD(), flags) })
}

// What an interface is a part of, and the VLANs on top of it.
func TestParts(t *testing.T) {
	n, other := newNamespace(t), newNamespace(t)
	connect(t, n, "port0", other, "eth0")
	n.must(n.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	n.setMAC("br0", lb.MAC{2, 0, 0, 0, 0, 9})
	r := n.resolver(slog.New(slog.DiscardHandler))
	if got, err := r.Interface("port0"); err != nil || got.Master != nil {
		t.Errorf("port0 is a part of %+v, error %v; want none", got.Master, err)
	}
	n.must(n.LinkSetMaster(n.link("port0"), n.link("br0")))
	want := Master{Name: "br0", Kind: "bridge", MAC: lb.MAC{2, 0, 0, 0, 0, 9}}
	if got, err := r.Interface("port0"); err != nil || got.Master == nil || *got.Master != want {
		t.Errorf("port0 is a part of %+v, error %v; want %+v", got.Master, err, want)
	}

	for _, strips := range []bool{true, false} {
		n.in(func() error {
			tool, err := ethtool.NewEthtool()
			if err != nil {
				return err
			}
			defer tool.Close()
			return tool.Change("port0", map[string]bool{"rx-vlan-hw-parse": strips})
		})
		if got, err := r.Interface("port0"); err != nil || got.StripsTags != strips {
			t.Errorf("port0 strips tags: %t, error %v; want %t", got.StripsTags, err, strips)
		}
	}
	elsewhere := vlanLink("else.20", 2, 20)
	elsewhere.NetNsID = 3
	links := []netlink.Link{vlanLink("eth0.30", 2, 30), vlanLink("eth1.20", 3, 20), vlanLink("eth0.20", 2, 20), elsewhere, &netlink.Device{}}
	if got := vlansOn(2, links); !slices.Equal(got, []string{"eth0.20", "eth0.30"}) {
		t.Errorf("the VLANs on interface 2 are %v", got)
	}
}

// A bridge takes nothing that native XDP redirects.
func TestOutInterface(t *testing.T) {
	n := newNamespace(t)
	n.must(n.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	r := n.resolver(slog.New(slog.DiscardHandler))
	got, exists, err := r.OutInterface(n.link("br0").Attrs().Index)
	if want := (Out{Name: "br0", Kind: "bridge"}); err != nil || !exists || got != want {
		t.Errorf("got %+v, %t, error %v; want %+v", got, exists, err, want)
	}
	if _, exists, err := r.OutInterface(4711); exists || err != nil {
		t.Errorf("interface 4711 is there: %t, error %v", exists, err)
	}
}
