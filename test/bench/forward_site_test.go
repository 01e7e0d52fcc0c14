package bench

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lab/labtest"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/bench/flood"
	"github.com/tinylb/tinylb/test/testnet"
)

// The addresses of every site. Clients ask for the VIP, which is routed to the router.
const (
	siteVIP      = "203.0.113.5"
	frontRouter  = "198.18.0.1"
	frontClients = "198.18.0.2" // the first of several
	backRouter   = "198.18.1.1"
	siteBackend  = "198.18.1.2"
	siteSources  = "198.18.2.0" // the first of those that NAT takes

	// A connection's ports are in use until the backend's TIME_WAIT is over: there
	// are enough addresses that connections never wait for it.
	clientAddresses = 64
	sourceAddresses = 64
	webPort         = 80
	iperfPort       = 5201
	udpPort         = 9000
)

// site is a contender's own network: a client and a backend, and the router
// between them that does what is compared.
type site struct {
	t                       testing.TB
	client, router, backend *lab.Node
	target                  netip.Addr // whom the client asks
	turns                   int
}

// newSite leaves the router without anything that forwards.
func newSite(t testing.TB, l *lab.Lab, name string) *site {
	t.Helper()
	s := &site{
		t:      t,
		client: labtest.Node(t, l, name+"-client"), router: labtest.Node(t, l, name+"-router"), backend: labtest.Node(t, l, name+"-backend"),
		target: netip.MustParseAddr(siteVIP),
	}
	s.must(l.Connect(lab.End{Node: s.client, Interface: "eth0", Prefixes: prefixes(frontClients, clientAddresses, 24)},
		lab.End{Node: s.router, Interface: "front", Prefixes: prefixes(frontRouter, 1, 24)}))
	s.must(l.Connect(lab.End{Node: s.router, Interface: "back", Prefixes: prefixes(backRouter, 1, 24)},
		lab.End{Node: s.backend, Interface: "eth0", Prefixes: prefixes(siteBackend, 1, 24)}))
	s.must(s.router.AddVIP(s.target))
	s.must(s.router.AddAddress("lo", prefixes(siteSources, sourceAddresses, 32)...))
	s.must(s.backend.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr(backRouter)))
	return s
}

// prefixes are of addresses that follow one another.
func prefixes(first string, count, bits int) (all []netip.Prefix) {
	for i := range count {
		all = append(all, netip.PrefixFrom(after(first, i), bits))
	}
	return all
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) networkInterface(node *lab.Node, name string) net.Interface {
	s.t.Helper()
	i, err := node.Interface(name)
	s.must(err)
	return i
}

// attach puts a program on an interface, natively.
func (s *site) attach(node *lab.Node, name string, program *ebpf.Program) {
	s.t.Helper()
	i := s.networkInterface(node, name)
	s.must(node.Do(func() error {
		attached, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: i.Index, Flags: link.XDPDriverMode})
		if err == nil {
			s.t.Cleanup(func() { attached.Close() })
		}
		return err
	}))
}

// takeFramesOfXDP lets both ends have what XDP sends to them. Others than XDP
// leave them as Linux does by itself.
func (s *site) takeFramesOfXDP() {
	s.t.Helper()
	for _, end := range []*lab.Node{s.client, s.backend} {
		s.must(end.SetFeatures("eth0", map[string]bool{"rx-gro": true}))
	}
}

// asNewClient has the client ask from its next address, so that the ports of the
// last turn's connections do not matter.
func (s *site) asNewClient(t testing.TB) {
	t.Helper()
	s.turns++
	route := &netlink.Route{
		Dst: netlink.NewIPNet(s.target.AsSlice()),
		Gw:  netip.MustParseAddr(frontRouter).AsSlice(),
		Src: after(frontClients, s.turns%clientAddresses).AsSlice(),
	}
	if err := s.client.Netlink().RouteReplace(route); err != nil {
		t.Fatalf("routing to %s: %v", s.target, err)
	}
}

// forwarding is what a router does.
type forwarding struct {
	name  string
	start func(s *site)
}

// direct: the kernel forwards packets for the backend.
func direct(s *site) {
	s.target = netip.MustParseAddr(siteBackend)
	s.must(s.router.Sysctl("net.ipv4.ip_forward", "1"))
}

// directWithoutTSO also has the client send what tinylb gets from it: native XDP
// turns TSO off at the other end of a veth.
func directWithoutTSO(s *site) {
	direct(s)
	s.must(s.client.SetFeatures("eth0", map[string]bool{"tx-tcp-segmentation": false, "tx-generic-segmentation": false}))
}

// bareRedirect is the limit for XDP: the router is a wire. Each end takes the other
// for its gateway, and completes its checksums itself, as a wire cannot.
func bareRedirect(s *site) {
	s.target = netip.MustParseAddr(siteBackend)
	s.takeFramesOfXDP()
	ends := []struct {
		node          *lab.Node
		gateway       string
		other         *lab.Node
		arrives, goes string
	}{
		{s.client, frontRouter, s.backend, "front", "back"},
		{s.backend, backRouter, s.client, "back", "front"},
	}
	for _, end := range ends {
		s.must(end.node.SetFeatures("eth0", map[string]bool{"tx-checksum-ip-generic": false}))
		s.must(end.node.Netlink().NeighSet(&netlink.Neigh{
			LinkIndex: s.networkInterface(end.node, "eth0").Index, State: netlink.NUD_PERMANENT,
			IP: netip.MustParseAddr(end.gateway).AsSlice(), HardwareAddr: s.networkInterface(end.other, "eth0").HardwareAddr,
		}))
		program, err := flood.Redirect(s.networkInterface(s.router, end.goes).Index)
		s.must(err)
		s.t.Cleanup(func() { program.Close() })
		s.attach(s.router, end.arrives, program)
	}
}

func tinylb(forward lb.Forward) forwarding {
	return forwarding{string(forward), func(s *site) {
		balancer := testnet.NewBalancer(s.t, s.router)
		s.t.Cleanup(func() {
			if s.t.Failed() {
				balancer.Explain()
			}
			balancer.Down()
		})
		s.takeFramesOfXDP()
		var services strings.Builder
		for port, protocol := range map[int]lb.Protocol{webPort: lb.TCP, iperfPort: lb.TCP, udpPort: lb.UDP} {
			fmt.Fprintf(&services, "  - {name: port-%[1]d, address: '%[2]s:%[1]d', protocol: %[3]s, forward: %[4]s, backends: [{address: %[5]s}]}\n",
				port, siteVIP, protocol, forward, siteBackend)
		}
		var sources []string
		for _, p := range prefixes(siteSources, sourceAddresses, 32) {
			sources = append(sources, p.Addr().String())
		}
		balancer.Run(fmt.Sprintf("interfaces: [front, back]\nmode: native\nsnat: {addresses: [%s]}\nservices:\n%s", strings.Join(sources, ", "), &services))
	}}
}

// nftables: the kernel rewrites and tracks.
func nftables(s *site) {
	s.must(s.router.Sysctl("net.ipv4.ip_forward", "1"))
	command := s.router.Command(s.t.Context(), "nft", "-f", "-")
	command.Stdin = strings.NewReader(fmt.Sprintf(`
table ip balancer {
	chain in { type nat hook prerouting priority dstnat; ip daddr %s dnat to %s; }
	chain out { type nat hook postrouting priority srcnat; oifname back snat to %s-%s; }
}`, siteVIP, siteBackend, siteSources, after(siteSources, sourceAddresses-1)))
	if out, err := command.CombinedOutput(); err != nil {
		s.t.Fatalf("nft: %v: %s", err, out)
	}
}
