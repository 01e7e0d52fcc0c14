package nexthop

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/test/need"
)

// namespace is a network namespace without a name: it goes away with the test
// process, however that ends.
type namespace struct {
	*netlink.Handle
	t  *testing.T
	ns netns.NsHandle
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	need.Root(t)
	n := &namespace{t: t}
	onOwnThread(t, func() (err error) {
		n.ns, err = netns.New()
		return err
	})
	t.Cleanup(func() { _ = n.ns.Close() })
	var err error
	if n.Handle, err = netlink.NewHandleAt(n.ns, unix.NETLINK_ROUTE); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Handle.Close)
	n.up("lo")
	return n
}

// onOwnThread runs f on a thread that ends with it, so f may change its namespace.
func onOwnThread(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// in runs f on a thread inside the namespace.
func (n *namespace) in(f func() error) {
	n.t.Helper()
	onOwnThread(n.t, func() error {
		if err := netns.Set(n.ns); err != nil {
			return err
		}
		return f()
	})
}

func (n *namespace) sysctl(path, value string) {
	n.t.Helper()
	n.in(func() error { return os.WriteFile("/proc/sys/net/"+path, []byte(value), 0o644) })
}

func (n *namespace) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *namespace) link(name string) netlink.Link {
	n.t.Helper()
	l, err := n.LinkByName(name)
	n.must(err)
	return l
}

func (n *namespace) up(name string) {
	n.t.Helper()
	n.must(n.LinkSetUp(n.link(name)))
}

func (n *namespace) addAddress(name, prefix string) {
	n.t.Helper()
	a, err := netlink.ParseAddr(prefix)
	n.must(err)
	a.Flags = unix.IFA_F_NODAD
	n.must(n.AddrAdd(n.link(name), a))
}

func (n *namespace) routeTo(prefix, gateway string) *netlink.Route {
	n.t.Helper()
	dst, err := netlink.ParseIPNet(prefix)
	n.must(err)
	return &netlink.Route{Dst: dst, Gw: net.ParseIP(gateway)}
}

// onLink is a route without gateway.
func (n *namespace) onLink(prefix, name string) *netlink.Route {
	n.t.Helper()
	r := n.routeTo(prefix, "")
	r.LinkIndex = n.link(name).Attrs().Index
	if r.Dst.IP.To4() != nil {
		r.Scope = unix.RT_SCOPE_LINK
	}
	return r
}

// answerFor makes the namespace answer ARP for a whole prefix.
func (n *namespace) answerFor(prefix string) {
	n.t.Helper()
	r := n.routeTo(prefix, "")
	r.LinkIndex, r.Type, r.Table, r.Scope = n.link("lo").Attrs().Index, unix.RTN_LOCAL, unix.RT_TABLE_LOCAL, unix.RT_SCOPE_HOST
	n.must(n.RouteAdd(r))
}

// connect joins two namespaces by a veth.
func connect(t *testing.T, a *namespace, nameA string, b *namespace, nameB string) {
	t.Helper()
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(b.ns)}
	a.must(a.LinkAdd(v))
	for _, end := range []struct {
		*namespace
		name string
	}{{a, nameA}, {b, nameB}} {
		// The kernel checks a new IPv6 address for a second before it uses it.
		end.sysctl("ipv6/conf/"+end.name+"/accept_dad", "0")
		end.up(end.name)
	}
}

// balancerAndBackend are two namespaces on one Ethernet: 10.9.0.1 and fd09::1 on
// eth1 of the first, 10.9.0.2 and fd09::2 on eth0 of the second.
func balancerAndBackend(t *testing.T) (balancer, backend *namespace) {
	t.Helper()
	balancer, backend = newNamespace(t), newNamespace(t)
	connect(t, balancer, "eth1", backend, "eth0")
	balancer.addAddress("eth1", "10.9.0.1/16")
	balancer.addAddress("eth1", "fd09::1/64")
	backend.addAddress("eth0", "10.9.0.2/16")
	backend.addAddress("eth0", "fd09::2/64")
	return balancer, backend
}

func (n *namespace) mac(name string) lb.MAC {
	n.t.Helper()
	return toMAC(n.link(name).Attrs().HardwareAddr)
}

func (n *namespace) setMAC(name string, mac lb.MAC) {
	n.t.Helper()
	n.must(n.LinkSetHardwareAddr(n.link(name), mac[:]))
}

// resolver opens a resolver in the namespace, without running it.
func (n *namespace) resolver(log *slog.Logger) *Resolver {
	n.t.Helper()
	var r *Resolver
	n.in(func() (err error) {
		r, err = New(log)
		return err
	})
	n.t.Cleanup(func() { _ = r.Close() })
	return r
}

// run runs the resolver until the test ends.
func run(t *testing.T, r *Resolver) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// start runs a resolver for the addresses in the namespace.
func (n *namespace) start(addrs ...string) *Resolver {
	n.t.Helper()
	r := n.resolver(slog.New(slog.DiscardHandler))
	r.Set(parseAll(addrs))
	run(n.t, r)
	return r
}

func parseAll(texts []string) []netip.Addr {
	addrs := make([]netip.Addr, len(texts))
	for i, text := range texts {
		addrs[i] = netip.MustParseAddr(text)
	}
	return addrs
}

// patience is how long to wait for what must happen; nothing here waits so long.
const patience = 30 * time.Second

// await waits until the next hops are as wanted, woken by Changed only, and returns
// how long that took.
func await(t *testing.T, r *Resolver, what string, wanted func(map[netip.Addr]lb.NextHop) bool) time.Duration {
	t.Helper()
	start := time.Now()
	timeout := time.After(patience)
	for {
		hops := r.Hops()
		if wanted(hops) {
			return time.Since(start)
		}
		select {
		case <-r.Changed():
		case <-timeout:
			t.Fatalf("waited %v for: %s; next hops: %s", patience, what, summary(hops))
		}
	}
}

func summary(hops map[netip.Addr]lb.NextHop) string {
	text := ""
	for addr, hop := range hops {
		if len(text) > 2000 {
			return text + " ..."
		}
		text += fmt.Sprintf("\n%s: %+v", addr, hop)
	}
	return text
}

func hasMAC(addr string, mac lb.MAC) func(map[netip.Addr]lb.NextHop) bool {
	return func(hops map[netip.Addr]lb.NextHop) bool {
		hop := hops[netip.MustParseAddr(addr)]
		return hop.Usable() && hop.MAC == mac
	}
}

func hasProblem(addr, problem string) func(map[netip.Addr]lb.NextHop) bool {
	return func(hops map[netip.Addr]lb.NextHop) bool {
		return hops[netip.MustParseAddr(addr)].Problem == problem
	}
}
