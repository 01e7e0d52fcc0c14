package nexthop

import (
	"net/netip"
	"os"
	"strings"
	"testing"
)

// groupOf reports whether an interface takes frames to a group.
func (n *namespace) groupOf(name, mac string) (known bool) {
	n.t.Helper()
	n.in(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/dev_mcast")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			known = known || len(fields) == 5 && fields[1] == name && fields[4] == mac
		}
		return nil
	})
	return known
}

func TestGroups(t *testing.T) {
	t.Parallel()
	balancer, _ := balancerAndBackend(t)
	open := func() (g *Groups) {
		balancer.in(func() (err error) {
			g, err = NewGroups()
			return err
		})
		return g
	}
	eth1 := []Interface{{Index: balancer.link("eth1").Attrs().Index, Name: "eth1"}}
	const first, second = "3333ff123456", "3333ff000099"
	addrs := []netip.Addr{netip.MustParseAddr("2001:db8::12:3456"), netip.MustParseAddr("fd00::99"), netip.MustParseAddr("10.0.0.1")}
	check := func(when string, wantFirst, wantSecond bool) {
		t.Helper()
		for mac, want := range map[string]bool{first: wantFirst, second: wantSecond} {
			if got := balancer.groupOf("eth1", mac); got != want {
				t.Errorf("%s: eth1 takes frames to %s: %t, want %t", when, mac, got, want)
			}
		}
	}
	g := open()
	check("at first", false, false)
	balancer.must(g.Set(eth1, addrs))
	balancer.must(g.Set(eth1, addrs))
	check("joined twice", true, true)
	balancer.must(g.Set(eth1, addrs[1:]))
	check("left one", false, true)
	balancer.must(g.Close())
	check("closed", false, true)

	again := open()
	balancer.must(again.Set(eth1, addrs))
	check("joined by the next", true, true)
	balancer.must(again.Close())
	last := open()
	balancer.must(last.Forget(eth1, addrs))
	check("forgotten", false, false)
	balancer.must(last.Set([]Interface{{Index: 4711, Name: "eth7"}}, addrs)) // it has gone
	balancer.must(last.Close())
}
