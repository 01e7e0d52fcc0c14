package datapath_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/internal/reconcile"
)

// Who is refused, beside new flows.
const (
	denied        = "DROP source-denied"
	clientTooFast = "DROP client-rate"
	tooFast       = "DROP service-rate"
	serviceFull   = "DROP max-flows-service"
	backendsFull  = "DROP max-flows-backend"
)

func prefixes(all ...string) []netip.Prefix {
	var parsed []netip.Prefix
	for _, text := range all {
		parsed = append(parsed, netip.MustParsePrefix(text))
	}
	slices.SortFunc(parsed, netip.Prefix.Compare)
	return parsed
}

// opens is what becomes of a client's first packet, from any of its ports.
func (b *balancer) opens(client, vip string, port uint16) outcome {
	b.t.Helper()
	c := b.tcp(netip.AddrPortFrom(netip.MustParseAddr(client), port).String(), vip)
	got, _ := b.run(c.request(packet.SYN, "").Frame())
	return got
}

func TestSources(t *testing.T) {
	const sixVIP = "[2001:db8:cb00:7105::5]:80"
	six := service("six", sixVIP, lb.TCP, backendSix)
	for name, tc := range map[string]struct {
		allow, deny []netip.Prefix
		want        map[string]string // by client
	}{
		"none": {nil, nil, map[string]string{"198.51.100.1": newFlow, "2001:db8:1::1": newFlow}},
		"only denied": {nil, prefixes("198.51.100.0/24", "2001:db8:1::/48"), map[string]string{
			"198.51.100.1": denied, "198.51.101.1": newFlow, "2001:db8:1::1": denied, "2001:db8:2::1": newFlow,
		}},
		"only allowed": {prefixes("198.51.100.0/24", "2001:db8:1::1/128"), nil, map[string]string{
			"198.51.100.1": newFlow, "198.51.101.1": denied, "2001:db8:1::1": newFlow, "2001:db8:1::2": denied,
		}},
		"the longest counts": {prefixes("198.51.0.0/16", "198.51.100.7/32", "2001:db8::/32"), prefixes("198.51.100.0/24", "2001:db8:1::/64"), map[string]string{
			"198.51.1.1": newFlow, "198.51.100.1": denied, "198.51.100.7": newFlow, "2001:db8:1::1": denied, "2001:db8:1:1::1": newFlow,
		}},
		"all of IPv6 is denied": {nil, prefixes("::/0"), map[string]string{"198.51.100.1": newFlow, "2001:db8:1::1": denied}},
		"all of IPv4 is denied": {nil, prefixes("0.0.0.0/0"), map[string]string{"198.51.100.1": denied, "2001:db8:1::1": newFlow}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(web(backendA), six)
			for i := range cfg.Services {
				cfg.Services[i].Allow, cfg.Services[i].Deny = tc.allow, tc.deny
			}
			b := start(t, cfg)
			for who, want := range tc.want {
				vip := webVIP
				if netip.MustParseAddr(who).Is6() {
					vip = sixVIP
				}
				if got := b.opens(who, vip, 40000); got.fate() != want {
					t.Errorf("%s: got %s, want %s", who, got.fate(), want)
				}
			}
		})
	}
}

// A flow that is there goes on, and is not let in again.
func TestSourcesAreAskedOnce(t *testing.T) {
	b := start(t, config(web(backendA)))
	c := b.tcp(aClient, webVIP).establish()
	b.cfg.Services[0].Deny = prefixes("198.51.100.0/24")
	b.apply(b.cfg)
	c.play(step{0, client, packet.ACK, forwarded}, step{0, client, packet.RST, forwarded}, step{0, client, packet.SYN, denied})
	if got := b.opens("198.51.100.7", webVIP, 50000); got.fate() != denied {
		t.Errorf("another flow: got %s, want %s", got.fate(), denied)
	}
	b.cfg.Services[0].Deny = nil
	b.apply(b.cfg)
	c.open()
}

func manyPrefixes(n int) []netip.Prefix {
	all := make([]netip.Prefix, n)
	for i := range all {
		all[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
	}
	return all
}

// A start, and a change, are not held up by the longest lists.
func TestManySources(t *testing.T) {
	const most, bearable = 100_000, 2 * time.Second
	cfg := config(web(backendA))
	cfg.Limits.Prefixes = most
	b := start(t, cfg)
	timed := func(what string, do func()) {
		begin := time.Now()
		do()
		took := time.Since(begin)
		t.Logf("%s: %v", what, took)
		if took > bearable {
			t.Errorf("%s took %v, want %v at most", what, took, bearable)
		}
	}
	all := manyPrefixes(most)
	b.cfg.Services[0].Deny = all
	timed("write 100,000", func() { b.apply(b.cfg) })
	b.cfg.Services[0].Deny = append(slices.Clone(all[:most-1]), netip.MustParsePrefix("172.16.0.0/12"))
	timed("change one of 100,000", func() { b.apply(b.cfg) })
	timed("read them back", func() {
		var err error
		b.reconciler, err = reconcile.New(b.datapath, cfg.Limits)
		b.must(err)
	})
	timed("find them unchanged", func() { b.apply(b.cfg) })
	for who, want := range map[string]string{"10.1.134.158": denied, "10.1.134.159": newFlow, "172.16.1.1": denied, "9.9.9.9": newFlow} {
		if got := b.opens(who, webVIP, 40000); got.fate() != want {
			t.Errorf("%s: got %s, want %s", who, got.fate(), want)
		}
	}
	b.cfg.Services[0].Deny = nil
	timed("remove them", func() { b.apply(b.cfg) })
	if tables, err := b.datapath.ReadTables(); err != nil || len(tables.SourceRules) > 0 {
		t.Errorf("%d lists are left: %v", len(tables.SourceRules), err)
	}
}

// count opens flows from one port after the other, and says how many came through.
func (b *balancer) opened(client string, first uint16, flows int, refusal string) (opened int) {
	b.t.Helper()
	for i := range flows {
		switch got := b.opens(client, webVIP, first+uint16(i)); got.fate() {
		case newFlow:
			opened++
		case refusal:
		default:
			b.t.Fatalf("got %s, want %s or %s", got.fate(), newFlow, refusal)
		}
	}
	return opened
}

func TestRateOfAService(t *testing.T) {
	s := web(backendA)
	s.NewFlowsPerSecond = 20
	b := start(t, config(s))
	if n := b.opened("198.51.100.1", 1000, 30, tooFast); n != 20 {
		t.Errorf("%d flows came at once, want 20", n)
	}
	b.now = b.now.Add(time.Second / 2)
	if n := b.opened("198.51.100.2", 2000, 30, tooFast); n != 10 {
		t.Errorf("half a second later %d more came, want 10", n)
	}
	b.now = b.now.Add(time.Hour)
	if n := b.opened("198.51.100.3", 3000, 30, tooFast); n != 20 {
		t.Errorf("after a pause %d came at once, want 20", n)
	}
}

func TestRateOfAClient(t *testing.T) {
	s := web(backendA)
	s.PerClient = lb.ClientRate{NewFlowsPerSecond: 5, PrefixV4: 24, PrefixV6: 64}
	b := start(t, config(s))
	for _, who := range []string{"198.51.100.1", "198.51.101.1"} {
		if n := b.opened(who, 1000, 10, clientTooFast); n != 5 {
			t.Errorf("%d flows of %s came at once, want 5", n, who)
		}
	}
	if n := b.opened("198.51.100.2", 1000, 10, clientTooFast); n != 0 {
		t.Errorf("%d flows came of another address of the same prefix, want none", n)
	}
	b.now = b.now.Add(time.Second)
	if n := b.opened("198.51.100.2", 2000, 10, clientTooFast); n != 5 {
		t.Errorf("a second later %d came, want 5", n)
	}
}

// However many others come, who opens too many flows stays known.
func TestFloodOfClients(t *testing.T) {
	s := web(backendA)
	s.PerClient = lb.ClientRate{NewFlowsPerSecond: 10, PrefixV4: 32, PrefixV6: 64}
	cfg := config(s)
	cfg.Limits.Clients = 16
	b := start(t, cfg)
	if n := b.opened("198.51.100.1", 1000, 20, clientTooFast); n != 10 {
		t.Fatalf("%d flows came at once, want 10", n)
	}
	for n := range 1000 {
		if got := b.opens(netip.MustParseAddrPort(clientAt(n)).Addr().String(), webVIP, 40000); got.fate() != newFlow {
			t.Fatalf("client %d: %s, want %s", n, got.fate(), newFlow)
		}
	}
	if n := b.opened("198.51.100.1", 2000, 20, clientTooFast); n != 0 {
		t.Errorf("after a flood of others %d more came, want none", n)
	}
}

func TestMostFlowsOfBackends(t *testing.T) {
	for _, scheduler := range []lb.Scheduler{lb.Maglev, lb.Random, lb.LeastConn} {
		t.Run(string(scheduler), func(t *testing.T) {
			t.Parallel()
			s := weighted(web(backendA, backendB, "10.0.0.4:80"), scheduler)
			s.Backends[0].MaxFlows, s.Backends[1].MaxFlows, s.Backends[2].MaxFlows = 3, 4, 5
			b := start(t, config(s))
			got := map[string]int{}
			var last *conversation
			for n := range 3 + 4 + 5 {
				last = b.tcp(clientAt(n), webVIP).establish()
				got[last.backend.Label()]++
			}
			if fmt.Sprint(got) != fmt.Sprint(map[string]int{backendA: 3, backendB: 4, "10.0.0.4:80": 5}) {
				t.Errorf("the flows are %v", got)
			}
			next := b.tcp(clientAt(100), webVIP)
			next.play(step{0, client, packet.SYN, backendsFull})
			last.play(step{0, client, packet.RST, forwarded}) // it counts no more
			if next.open(); next.backend != last.backend {
				t.Errorf("a flow went to %s, want %s, where there is room", next.backend.Label(), last.backend.Label())
			}
		})
	}
}

func TestMostFlowsOfAService(t *testing.T) {
	s := web(backendA, backendB)
	s.MaxFlows = 2
	b := start(t, config(s, dns("10.0.0.2:53")))
	first := b.tcp(clientAt(1), webVIP).establish()
	b.tcp(clientAt(2), webVIP).establish()
	third := b.tcp(clientAt(3), webVIP)
	third.play(step{0, client, packet.SYN, serviceFull})
	b.udp(clientAt(4), dnsVIP).open() // another service
	first.play(step{0, client, packet.RST, forwarded})
	third.open()
}

func kept(s lb.Service, group string) lb.Service {
	s.Scheduler = lb.Random
	s.Affinity = lb.Affinity{Timeout: time.Hour, PrefixV4: 32, PrefixV6: 64, Group: group}
	return s
}

// backendsOf are those that a client's flows reach.
func (b *balancer) backendsOf(client, vip string, first uint16, flows int) []string {
	b.t.Helper()
	var all []string
	for i := range flows {
		got := b.opens(client, vip, first+uint16(i))
		if got.fate() != newFlow {
			b.t.Fatalf("got %s, want %s", got.fate(), newFlow)
		}
		all = append(all, got.backend)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestAffinity(t *testing.T) {
	const who = "198.51.100.7"
	b := start(t, config(kept(web(backendA, backendB, "10.0.0.4:80"), "")))
	first := b.backendsOf(who, webVIP, 1000, 20)
	if len(first) != 1 {
		t.Fatalf("one client's flows went to %v", first)
	}
	reached := map[string]bool{}
	for n := range 50 {
		reached[b.opens(netip.MustParseAddrPort(clientAt(n)).Addr().String(), webVIP, 40000).backend] = true
	}
	if len(reached) != 3 {
		t.Errorf("50 clients reached %d backends, want 3", len(reached))
	}
	b.now = b.now.Add(59 * time.Minute)
	if got := b.backendsOf(who, webVIP, 2000, 1); got[0] != first[0] {
		t.Errorf("59 minutes later it went to %s, before to %s", got[0], first[0])
	}
	b.now = b.now.Add(59 * time.Minute) // since the last flow
	if got := b.backendsOf(who, webVIP, 3000, 20); !slices.Equal(got, first) {
		t.Errorf("118 minutes later it went to %v, before to %v", got, first)
	}
	all := map[string]bool{}
	for n := range 30 {
		b.now = b.now.Add(time.Hour)
		all[b.opens(who, webVIP, 4000+uint16(n)).backend] = true
	}
	if len(all) < 2 {
		t.Errorf("with an hour between each two, 30 flows went to %v", all)
	}
}

// What a client keeps must be able to take its flow.
func TestAffinityEndsWithTheBackend(t *testing.T) {
	const who = "198.51.100.7"
	for name, lose := range map[string]func(b *balancer, i int){
		"weight 0": func(b *balancer, i int) { b.cfg.Services[0].Backends[i].Weight = 0 },
		"removed": func(b *balancer, i int) {
			b.cfg.Services[0].Backends = slices.Delete(b.cfg.Services[0].Backends, i, i+1)
		},
		"full": func(b *balancer, i int) { b.cfg.Services[0].Backends[i].MaxFlows = 1 },
		"no next hop": func(b *balancer, i int) {
			b.hops[b.cfg.Services[0].Backends[i].Address.Addr()] = lb.NextHop{Problem: "gone"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, config(kept(web(backendA, backendB, "10.0.0.4:80"), "")))
			first := b.backendsOf(who, webVIP, 1000, 2)[0]
			i := slices.IndexFunc(b.cfg.Services[0].Backends, func(o lb.Backend) bool { return o.Label() == first })
			before := b.cfg
			before.Services = slices.Clone(before.Services)
			before.Services[0].Backends = slices.Clone(before.Services[0].Backends)
			hop := b.hops[before.Services[0].Backends[i].Address.Addr()]
			lose(b, i)
			b.apply(b.cfg)
			second := b.backendsOf(who, webVIP, 2000, 10)
			if len(second) != 1 || second[0] == first {
				t.Errorf("went to %v, before to %s", second, first)
			}
			b.hops[before.Services[0].Backends[i].Address.Addr()] = hop
			b.apply(before)
			if third := b.backendsOf(who, webVIP, 3000, 10); !slices.Equal(third, second) {
				t.Errorf("with all backends back again it went to %v, before to %v", third, second)
			}
		})
	}
}

// The backend's address decides, whatever its port.
func TestAffinityOfAGroup(t *testing.T) {
	const otherVIP = "203.0.113.6:8080"
	one := kept(web("10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"), "g")
	other := kept(service("other", otherVIP, lb.TCP, "10.0.0.3:8081", "10.0.0.4:8080", "10.0.0.4:8090"), "g")
	b := start(t, config(one, other))
	for n := range 60 {
		who := netip.MustParseAddrPort(clientAt(n)).Addr().String()
		first := netip.MustParseAddrPort(b.backendsOf(who, webVIP, 1000, 2)[0]).Addr()
		second := b.backendsOf(who, otherVIP, 1000, 5)
		want := map[string]string{"10.0.0.3": "10.0.0.3:8081", "10.0.0.4": "10.0.0.4:8080"}[first.String()]
		if len(second) != 1 || want != "" && second[0] != want {
			t.Errorf("a client of %s went to %v, want %q", first, second, want)
		}
	}
}

// Where there is no room the oldest goes.
func TestFullTableOfAffinity(t *testing.T) {
	cfg := config(kept(web(backendA, backendB), ""))
	cfg.Limits.Affinity = 4
	b := start(t, cfg)
	was := map[int]string{}
	flow := func(n int, port uint16) string {
		b.now = b.now.Add(time.Second)
		return b.opens(netip.MustParseAddrPort(clientAt(n)).Addr().String(), webVIP, port).backend
	}
	for n := range 4 {
		was[n] = flow(n, 1000)
	}
	for round := range uint16(20) {
		flow(100, 2000+round) // in the place of 0, which is over first
		for n := 1; n < 4; n++ {
			if now := flow(n, 2000+round); now != was[n] {
				t.Fatalf("client %d went to %s, before to %s", n, now, was[n])
			}
		}
	}
}

// Restarts keep it.
func TestAffinityOutlivesTheDaemon(t *testing.T) {
	b := start(t, config(kept(web(backendA, backendB, "10.0.0.4:80"), "g")))
	first := b.backendsOf("198.51.100.7", webVIP, 1000, 1)
	var err error
	b.reconciler, err = reconcile.New(b.datapath, b.cfg.Limits)
	b.must(err)
	b.apply(b.cfg)
	if second := b.backendsOf("198.51.100.7", webVIP, 2000, 10); !slices.Equal(first, second) {
		t.Errorf("went to %v, before to %v", second, first)
	}
}

func TestTimeoutsOfAService(t *testing.T) {
	own, all := web(backendA), dns("10.0.0.2:53")
	own.Timeouts = config().Timeouts
	own.Timeouts.TCPEstablished = 10 * time.Second
	b := start(t, config(own, all))
	c := b.tcp(aClient, webVIP).establish()
	c.play(step{10 * time.Second, client, packet.ACK, forwarded}, step{10*time.Second + 1, client, packet.ACK, "TX no-flow"})
	d := b.udp(aClient, dnsVIP).establish()
	d.play(step{2 * time.Minute, client, 0, forwarded})
	c.establish()
	b.cfg.Services[0].Timeouts.TCPEstablished = time.Hour // for flows that are there, too
	b.apply(b.cfg)
	c.play(step{time.Hour, client, packet.ACK, forwarded})
	b.cfg.Services[0].Timeouts = lb.Timeouts{}
	b.apply(b.cfg)
	c.play(step{2 * time.Hour, client, packet.ACK, forwarded})
}

// Timeouts that nobody has any more make room for others.
func TestManyChangesOfTimeouts(t *testing.T) {
	b := start(t, config(web(backendA)))
	for n := range 300 {
		b.cfg.Services[0].Timeouts = b.cfg.Timeouts
		b.cfg.Services[0].Timeouts.UDPStream = time.Duration(n+1) * time.Second
		b.apply(b.cfg)
	}
}
