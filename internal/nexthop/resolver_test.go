package nexthop

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestResolves(t *testing.T) {
	t.Parallel()
	balancer, backend := balancerAndBackend(t)
	balancer.must(balancer.RouteAdd(balancer.routeTo("10.20.0.0/16", "10.9.0.2")))
	balancer.must(balancer.RouteAdd(balancer.routeTo("fd20::/64", "fd09::2")))
	backend.addAddress("eth0", "fe80::2/64")
	viaLinkLocal := balancer.routeTo("fd21::/64", "fe80::2")
	viaLinkLocal.LinkIndex = balancer.link("eth1").Attrs().Index
	balancer.must(balancer.RouteAdd(viaLinkLocal))
	viaSix := balancer.routeTo("10.30.0.0/16", "")
	viaSix.LinkIndex = balancer.link("eth1").Attrs().Index
	viaSix.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: netip.MustParseAddr("fd09::2").AsSlice()}
	balancer.must(balancer.RouteAdd(viaSix))

	balancer.must(balancer.RouteAdd(balancer.onLink("10.40.0.0/24", "eth1")))
	balancer.must(balancer.RouteAdd(balancer.onLink("10.9.0.3/32", "eth1"))) // beside 10.9.0.0/16
	balancer.must(balancer.RouteAdd(balancer.onLink("fd40::/56", "eth1")))
	for _, a := range []string{"10.9.0.3/16", "10.40.0.2/24", "fd40::2/56"} {
		backend.addAddress("eth0", a)
	}

	tests := map[string]struct{ source, link string }{ // no link: by a gateway
		"10.9.0.2":        {"10.9.0.1", "10.9.0.0/16"},
		"10.9.0.3":        {"10.9.0.1", "10.9.0.0/16"},
		"fd09::2":         {"fd09::1", "fd09::/64"},
		"10.40.0.2":       {"10.9.0.1", "10.40.0.0/24"},
		"fd40::2":         {"fd09::1", "fd40::/56"},
		"10.20.1.1":       {"10.9.0.1", ""},
		"fd20::5":         {"fd09::1", ""},
		"fd21::5":         {"fd09::1", ""},             // via a gateway's link-local address, as routers announce it
		"10.30.0.1":       {"10.9.0.1", ""},            // IPv4 via an IPv6 gateway
		"::ffff:10.9.0.2": {"10.9.0.1", "10.9.0.0/16"}, // mapped
	}
	var addrs []string
	for addr := range tests {
		addrs = append(addrs, addr)
	}
	r := balancer.start(addrs...)
	for addr, tt := range tests {
		await(t, r, addr, hasMAC(addr, backend.mac("eth0")))
		want := lb.NextHop{
			Interface: balancer.link("eth1").Attrs().Index,
			MAC:       backend.mac("eth0"),
			SourceMAC: balancer.mac("eth1"),
			MTU:       1500,
			Source:    netip.MustParseAddr(tt.source),
			Routed:    tt.link == "",
		}
		if tt.link != "" {
			want.Link = netip.MustParsePrefix(tt.link)
		}
		if got := r.Hops()[netip.MustParseAddr(addr)]; got != want {
			t.Errorf("%s: got %+v, want %+v", addr, got, want)
		}
	}
}

// A backend moves behind a gateway, and its network becomes larger.
func TestLinkChanges(t *testing.T) {
	t.Parallel()
	for _, family := range []struct{ backend, host, gateway, before, address, after string }{
		{"10.9.0.2", "10.9.0.2/32", "10.9.0.77/16", "10.9.0.0/16", "10.9.0.9/12", "10.0.0.0/12"},
		{"fd09::2", "fd09::2/128", "fd09::77/64", "fd09::/64", "fd09::9/56", "fd09::/56"},
	} {
		t.Run(family.backend, func(t *testing.T) {
			t.Parallel()
			balancer, backend := balancerAndBackend(t)
			addr := netip.MustParseAddr(family.backend)
			hasLink := func(link netip.Prefix) func(map[netip.Addr]lb.NextHop) bool {
				return func(hops map[netip.Addr]lb.NextHop) bool {
					hop, known := hops[addr]
					return known && hop.Usable() && hop.Link == link && hop.Routed == !link.IsValid()
				}
			}
			backend.addAddress("eth0", family.gateway)
			r := balancer.start(family.backend)
			await(t, r, "the link", hasLink(netip.MustParsePrefix(family.before)))
			byGateway := balancer.routeTo(family.host, netip.MustParsePrefix(family.gateway).Addr().String())
			balancer.must(balancer.RouteAdd(byGateway))
			await(t, r, "the gateway", hasLink(netip.Prefix{}))
			balancer.must(balancer.RouteDel(byGateway))
			await(t, r, "the link again", hasLink(netip.MustParsePrefix(family.before)))
			balancer.addAddress("eth1", family.address)
			await(t, r, "the larger link", hasLink(netip.MustParsePrefix(family.after)))
		})
	}
}

// TestSourceIsNotLinkLocal: a host that has no other IPv6 address than that of
// the link has none to give to a backend.
func TestSourceIsNotLinkLocal(t *testing.T) {
	t.Parallel()
	balancer, backend := newNamespace(t), newNamespace(t)
	connect(t, balancer, "eth1", backend, "eth0")
	backend.addAddress("eth0", "fd09::2/64")
	balancer.must(balancer.RouteAdd(balancer.onLink("fd09::/64", "eth1")))

	addr := netip.MustParseAddr("fd09::2")
	r := balancer.start(addr.String())
	await(t, r, "the MAC", hasMAC(addr.String(), backend.mac("eth0")))
	if got := r.Hops()[addr].Source; got.IsValid() {
		t.Errorf("the source is %s, want none", got)
	}
	balancer.addAddress("eth1", "fd09::1/64")
	await(t, r, "the new address", func(hops map[netip.Addr]lb.NextHop) bool {
		return hops[addr].Usable() && hops[addr].Source == netip.MustParseAddr("fd09::1")
	})
}

func TestProblems(t *testing.T) {
	t.Parallel()
	balancer, _ := balancerAndBackend(t)
	for prefix, kind := range map[string]int{
		"10.41.0.0/16": unix.RTN_BLACKHOLE, "10.42.0.0/16": unix.RTN_UNREACHABLE, "10.43.0.0/16": unix.RTN_PROHIBIT,
		"fd41::/64": unix.RTN_BLACKHOLE, "fd42::/64": unix.RTN_UNREACHABLE, "fd43::/64": unix.RTN_PROHIBIT,
	} {
		r := balancer.routeTo(prefix, "")
		r.Type = kind
		balancer.must(balancer.RouteAdd(r))
	}
	balancer.in(func() error { // made by ioctl, in the namespace of the thread
		return netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN})
	})
	balancer.up("tun0")
	balancer.addAddress("tun0", "10.44.0.1/24")

	problems := map[string]string{
		"10.200.0.1":   "no route",
		"fd99::1":      "no route",
		"10.9.0.1":     "route leads to this host itself",
		"127.0.0.1":    "route leads to this host itself",
		"fd09::1":      "route leads to this host itself",
		"10.9.255.255": "not the address of a single host",
		"10.41.0.1":    "route is blackhole",
		"fd41::1":      "route is blackhole",
		"10.42.0.1":    "route is unreachable",
		"fd42::1":      "route is unreachable",
		"10.43.0.1":    "route is prohibit",
		"fd43::1":      "route is prohibit",
		"10.44.0.2":    "interface tun0 has no Ethernet addresses",
		"10.9.7.7":     "neighbour 10.9.7.7 on eth1 does not answer",
		"fd09::77":     "neighbour fd09::77 on eth1 does not answer",
	}
	var addrs []string
	for addr := range problems {
		addrs = append(addrs, addr)
	}
	r := balancer.start(addrs...)
	await(t, r, "asking first", hasProblem("10.9.7.7", "asking for 10.9.7.7 on eth1"))
	for addr, problem := range problems {
		await(t, r, addr+": "+problem, hasProblem(addr, problem))
	}
}

func TestWantedSet(t *testing.T) {
	t.Parallel()
	balancer, backend := balancerAndBackend(t)
	r := balancer.start("10.9.0.2")
	await(t, r, "first", hasMAC("10.9.0.2", backend.mac("eth0")))

	r.Set([]netip.Addr{{}, netip.MustParseAddr("fd09::2")})
	hops := r.Hops()
	if hop, known := hops[netip.MustParseAddr("fd09::2")]; known && hop.Problem != "asking for fd09::2 on eth1" || known != (len(hops) == 1) {
		t.Errorf("after replacing the set: %s", summary(hops))
	}
	await(t, r, "second", hasMAC("fd09::2", backend.mac("eth0")))
	r.Set(nil)
	if hops := r.Hops(); len(hops) != 0 {
		t.Errorf("after emptying the set: %s", summary(hops))
	}
}

func TestNeighbourAppearsLater(t *testing.T) {
	t.Parallel()
	balancer, backend := balancerAndBackend(t)
	r := balancer.start("10.9.0.50")
	await(t, r, "silence", hasProblem("10.9.0.50", "neighbour 10.9.0.50 on eth1 does not answer"))
	backend.addAddress("eth0", "10.9.0.50/16")
	took := await(t, r, "its answer", hasMAC("10.9.0.50", backend.mac("eth0")))
	t.Logf("found %v after it appeared", took)
	if took > 4*time.Second {
		t.Errorf("found only %v after it appeared", took)
	}
}

func TestMACChange(t *testing.T) {
	changed := lb.MAC{2, 0, 0, 0, 0, 0x99}
	tests := []struct {
		name, addr string
		announce   string // net.ipv4.conf.*.arp_notify: gratuitous ARP after the change
		within     time.Duration
	}{
		{"announced", "10.9.0.2", "1", time.Second},
		{"silent, IPv4", "10.9.0.2", "0", 10 * time.Second},
		{"silent, IPv6", "fd09::2", "0", 10 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			balancer, backend := balancerAndBackend(t)
			backend.sysctl("ipv4/conf/eth0/arp_notify", tt.announce)
			// By default the kernel ignores an announcement within 1 s of the last change.
			balancer.sysctl("ipv4/neigh/eth1/locktime", "0")
			r := balancer.start(tt.addr)
			await(t, r, "the first MAC", hasMAC(tt.addr, backend.mac("eth0")))

			backend.setMAC("eth0", changed)
			took := await(t, r, "the new MAC", func(hops map[netip.Addr]lb.NextHop) bool {
				hop := hops[netip.MustParseAddr(tt.addr)]
				if !hop.Usable() {
					t.Errorf("unusable in between: %s", hop.Problem)
				}
				return hop.MAC == changed
			})
			t.Logf("noticed after %v", took)
			if took > tt.within {
				t.Errorf("noticed after %v, want within %v", took, tt.within)
			}
		})
	}
}

func TestBackendGone(t *testing.T) {
	t.Parallel()
	balancer, backend := balancerAndBackend(t)
	r := balancer.start("10.9.0.2")
	await(t, r, "the MAC", hasMAC("10.9.0.2", backend.mac("eth0")))
	gone, err := netlink.ParseAddr("10.9.0.2/16")
	backend.must(err)
	backend.must(backend.AddrDel(backend.link("eth0"), gone))
	took := await(t, r, "silence", hasProblem("10.9.0.2", "neighbour 10.9.0.2 on eth1 does not answer"))
	t.Logf("given up after %v", took)
	if took > 13*time.Second {
		t.Errorf("given up only after %v", took)
	}
}

func TestStaticNeighbour(t *testing.T) {
	t.Parallel()
	balancer, backend := balancerAndBackend(t)
	static := lb.MAC{2, 0, 0, 0, 0, 0x77}
	entry := &netlink.Neigh{
		LinkIndex: balancer.link("eth1").Attrs().Index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT,
		IP: netip.MustParseAddr("10.9.0.2").AsSlice(), HardwareAddr: static[:],
	}
	r := balancer.start("10.9.0.2")
	await(t, r, "the backend's own MAC", hasMAC("10.9.0.2", backend.mac("eth0")))
	balancer.must(balancer.NeighSet(entry))
	await(t, r, "the static MAC", hasMAC("10.9.0.2", static))

	// The resolver has read the entry: had it written too, it would be gone.
	got, err := r.kernel.neighbour(neighbourKey{index: entry.LinkIndex, addr: netip.MustParseAddr("10.9.0.2")})
	balancer.must(err)
	if got.state != netlink.NUD_PERMANENT || got.mac != static {
		t.Errorf("static entry became %+v", got)
	}
	balancer.must(balancer.NeighDel(entry))
	await(t, r, "the backend's own MAC again", hasMAC("10.9.0.2", backend.mac("eth0")))
}

func TestForeignEntries(t *testing.T) {
	t.Parallel()
	balancer, _ := balancerAndBackend(t)
	index := balancer.link("eth1").Attrs().Index
	tests := map[string]struct {
		neigh   netlink.Neigh
		foreign bool
	}{
		"10.9.1.1": {netlink.Neigh{State: netlink.NUD_REACHABLE}, false},
		"10.9.1.2": {netlink.Neigh{State: netlink.NUD_STALE}, false},
		"10.9.1.3": {netlink.Neigh{State: netlink.NUD_PERMANENT}, true},
		"10.9.1.4": {netlink.Neigh{State: netlink.NUD_NOARP}, true},
		"10.9.1.5": {netlink.Neigh{State: netlink.NUD_STALE, Flags: netlink.NTF_EXT_LEARNED}, true},
		"10.9.1.6": {netlink.Neigh{FlagsExt: netlink.NTF_EXT_MANAGED}, true},
	}
	r := balancer.resolver(slog.New(slog.DiscardHandler))
	for text, tt := range tests {
		addr := netip.MustParseAddr(text)
		tt.neigh.LinkIndex, tt.neigh.Family, tt.neigh.IP = index, unix.AF_INET, addr.AsSlice()
		if tt.neigh.State != netlink.NUD_NONE {
			tt.neigh.HardwareAddr = oldMAC[:]
		}
		balancer.must(balancer.NeighAdd(&tt.neigh))
		got, err := r.kernel.neighbour(neighbourKey{index: index, addr: addr})
		if err != nil || !got.exists || got.foreign != tt.foreign {
			t.Errorf("%+v: read as %+v, error %v", tt.neigh, got, err)
		}
	}
}

func TestLinkDownAndUp(t *testing.T) {
	t.Parallel()
	balancer, backend := balancerAndBackend(t)
	r := balancer.start("10.9.0.2")
	await(t, r, "the MAC", hasMAC("10.9.0.2", backend.mac("eth0")))

	balancer.must(balancer.LinkSetDown(balancer.link("eth1")))
	await(t, r, "down", hasProblem("10.9.0.2", "no route: interface eth1 is down"))
	balancer.up("eth1")
	await(t, r, "up", hasMAC("10.9.0.2", backend.mac("eth0")))

	backend.must(backend.LinkSetDown(backend.link("eth0")))
	await(t, r, "no carrier", hasProblem("10.9.0.2", "interface eth1 has no carrier"))
	backend.up("eth0")
	await(t, r, "carrier", hasMAC("10.9.0.2", backend.mac("eth0")))

	ours := lb.MAC{2, 0, 0, 0, 0, 0x11}
	balancer.setMAC("eth1", ours)
	await(t, r, "our own new MAC", func(hops map[netip.Addr]lb.NextHop) bool {
		return hops[netip.MustParseAddr("10.9.0.2")].SourceMAC == ours
	})
}

// An interface made anew may have the name and even the index of the old one.
func TestInterfaceRecreated(t *testing.T) {
	t.Parallel()
	balancer, backend := balancerAndBackend(t)
	r := balancer.start("10.9.0.2")
	await(t, r, "the MAC", hasMAC("10.9.0.2", backend.mac("eth0")))
	index := balancer.link("eth1").Attrs().Index

	balancer.must(balancer.LinkDel(balancer.link("eth1")))
	await(t, r, "deletion", hasProblem("10.9.0.2", "no route"))

	v := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "eth1", Index: index}, PeerName: "eth0", PeerNamespace: netlink.NsFd(backend.ns),
	}
	balancer.must(balancer.LinkAdd(v))
	balancer.up("eth1")
	backend.up("eth0")
	balancer.addAddress("eth1", "10.9.0.1/16")
	backend.addAddress("eth0", "10.9.0.2/16")
	await(t, r, "the new MAC", hasMAC("10.9.0.2", backend.mac("eth0")))
	if hop := r.Hops()[netip.MustParseAddr("10.9.0.2")]; hop.Interface != index || hop.SourceMAC != balancer.mac("eth1") {
		t.Errorf("next hop %+v is not by the new eth1", hop)
	}
}

func TestRouteReplaced(t *testing.T) {
	t.Parallel()
	balancer, first := balancerAndBackend(t)
	second := newNamespace(t)
	connect(t, balancer, "eth2", second, "eth0")
	balancer.addAddress("eth2", "10.10.0.1/16")
	second.addAddress("eth0", "10.10.0.2/16")
	balancer.must(balancer.RouteAdd(balancer.routeTo("10.20.0.0/16", "10.9.0.2")))
	r := balancer.start("10.20.0.1")
	await(t, r, "the first gateway", hasMAC("10.20.0.1", first.mac("eth0")))

	balancer.must(balancer.RouteReplace(balancer.routeTo("10.20.0.0/16", "10.10.0.2")))
	await(t, r, "the second gateway", hasMAC("10.20.0.1", second.mac("eth0")))
	hop := r.Hops()[netip.MustParseAddr("10.20.0.1")]
	if hop.Interface != balancer.link("eth2").Attrs().Index || hop.Source != netip.MustParseAddr("10.10.0.1") {
		t.Errorf("next hop %+v is not by eth2 from 10.10.0.1", hop)
	}
}

// VIPs come and go as the host's addresses while it runs, on whatever interface.
func TestOwn(t *testing.T) {
	t.Parallel()
	balancer, _ := balancerAndBackend(t)
	r := balancer.start()
	await := func(addr string, wanted bool) {
		t.Helper()
		deadline := time.After(patience)
		for {
			own, known := r.Own()
			if known && slices.Contains(own, netip.MustParseAddr(addr)) == wanted {
				return
			}
			select {
			case <-r.Changed():
			case <-deadline:
				t.Fatalf("%s among the host's addresses %v: want %t", addr, own, wanted)
			}
		}
	}
	for _, addr := range []string{"127.0.0.1", "::1", "10.9.0.1", "fd09::1"} {
		await(addr, true)
	}
	for _, addr := range []string{"10.77.0.5/32", "fd77::5/128"} {
		prefix := netip.MustParsePrefix(addr)
		await(prefix.Addr().String(), false)
		balancer.addAddress("lo", addr)
		await(prefix.Addr().String(), true)
		address, err := netlink.ParseAddr(addr)
		balancer.must(err)
		balancer.must(balancer.AddrDel(balancer.link("lo"), address))
		await(prefix.Addr().String(), false)
	}
}
