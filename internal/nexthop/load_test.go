package nexthop

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// recorder keeps the messages logged.
type recorder struct {
	slog.Handler
	mu       sync.Mutex
	messages []string
}

func newRecorder() *recorder { return &recorder{Handler: slog.DiscardHandler} }

func (*recorder) Enabled(context.Context, slog.Level) bool { return true }

func (r *recorder) Handle(_ context.Context, record slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, record.Message)
	return nil
}

func (r *recorder) count(start string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := 0
	for _, m := range r.messages {
		if strings.HasPrefix(m, start) {
			count++
		}
	}
	return count
}

func allUsable(hops map[netip.Addr]lb.NextHop) bool {
	for _, hop := range hops {
		if !hop.Usable() {
			return false
		}
	}
	return true
}

// cpuTime is what this process has used so far, in user and kernel mode.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// 2,000 addresses: 300 IPv4 and 300 IPv6 neighbours (the kernel's tables hold 1,024
// of each by default, all namespaces together) and 1,400 behind 10 gateways.
func TestManyAddresses(t *testing.T) {
	balancer, backend := balancerAndBackend(t)
	for _, prefix := range []string{"10.9.1.0/24", "10.9.2.0/24", "10.9.3.0/24"} {
		backend.answerFor(prefix)
	}
	var addrs []netip.Addr
	for i := range 300 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 9, 1 + byte(i>>8), byte(i)}))
		six := netip.MustParseAddr(fmt.Sprintf("fd09::1:%x", i))
		backend.addAddress("eth0", six.String()+"/64")
		addrs = append(addrs, six)
	}
	for i := range 1400 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 20 + byte(i%10), byte(i >> 8), byte(i)}))
	}
	for i := range 10 {
		balancer.must(balancer.RouteAdd(balancer.routeTo(fmt.Sprintf("10.%d.0.0/16", 20+i), fmt.Sprintf("10.9.3.%d", i))))
	}

	before := cpuTime(t)
	r := balancer.resolver(slog.New(slog.DiscardHandler))
	r.Set(addrs)
	run(t, r)
	took := await(t, r, "2,000 usable next hops", func(hops map[netip.Addr]lb.NextHop) bool {
		return len(hops) == len(addrs) && allUsable(hops)
	})
	used := cpuTime(t) - before
	t.Logf("resolved in %v with %v of CPU time", took, used)
	// Generous: it takes about a tenth of this on an idle machine.
	if took > 10*time.Second || used > 5*time.Second {
		t.Errorf("resolved in %v with %v of CPU time", took, used)
	}
}

func TestRouteBurst(t *testing.T) {
	const burst = 10_000
	balancer, backend := balancerAndBackend(t)
	balancer.must(balancer.RouteAdd(balancer.routeTo("10.20.0.0/16", "10.9.0.2")))
	log := newRecorder()
	r := balancer.resolver(slog.New(log))
	addrs := parseAll([]string{"10.9.0.2"})
	for i := range 200 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 20, 0, byte(i)}))
	}
	r.Set(addrs)
	run(t, r)
	await(t, r, "usable next hops", allUsable)

	before, start := log.count("routes looked up"), time.Now()
	for i := range burst {
		balancer.must(balancer.RouteAdd(balancer.routeTo(fmt.Sprintf("172.16.%d.%d/32", i>>8, i&0xff), "10.9.0.2")))
	}
	blackhole := balancer.routeTo("10.20.0.7/32", "")
	blackhole.Type = unix.RTN_BLACKHOLE
	balancer.must(balancer.RouteAdd(blackhole))
	await(t, r, "the last change", hasProblem("10.20.0.7", "route is blackhole"))
	lookups, most := log.count("routes looked up")-before, 3+int(time.Since(start)/lookupPause)
	t.Logf("%d route changes caused %d rounds of look-ups", burst, lookups)
	if lookups > most {
		t.Errorf("%d route changes caused %d rounds of look-ups, want at most %d", burst, lookups, most)
	}
	await(t, r, "the others unharmed", hasMAC("10.20.0.8", backend.mac("eth0")))
}

func TestReceiveOverrun(t *testing.T) {
	balancer, _ := balancerAndBackend(t)
	r := balancer.resolver(slog.New(slog.DiscardHandler))
	if err := r.subscription.SetReceiveBufferSize(1, true); err != nil { // the kernel's least
		t.Fatal(err)
	}
	for i := range 100 {
		balancer.must(balancer.RouteAdd(balancer.routeTo(fmt.Sprintf("172.16.0.%d/32", i), "10.9.0.2")))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	notified := make(chan hints)
	done := make(chan error)
	go func() { done <- receive(ctx, r.subscription, notified) }()
	next := func(what string, wanted func(hints) bool) {
		t.Helper()
		for {
			select {
			case h := <-notified:
				if wanted(h) {
					return
				}
			case <-ctx.Done():
				t.Fatalf("waited %v for %s", patience, what)
			}
		}
	}
	next("the overrun", func(h hints) bool { return h.everything })
	static := &netlink.Neigh{
		LinkIndex: balancer.link("eth1").Attrs().Index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT,
		IP: netip.MustParseAddr("10.9.0.3").AsSlice(), HardwareAddr: oldMAC[:],
	}
	balancer.must(balancer.NeighAdd(static))
	next("a notification after the overrun", func(h hints) bool {
		_, found := h.neighbours[neighbourKey{static.LinkIndex, netip.MustParseAddr("10.9.0.3")}]
		return found
	})

	cancel()
	r.subscription.Close()
	if err := <-done; err != nil {
		t.Errorf("receive after the end: %v", err)
	}
}

// With every notification lost, only the overrun itself tells that something changed.
func TestResync(t *testing.T) {
	balancer, backend := balancerAndBackend(t)
	log := newRecorder()
	r := balancer.resolver(slog.New(log))
	r.Set(parseAll([]string{"10.9.0.2", "10.20.0.1"}))
	ctx, cancel := context.WithCancel(context.Background())
	notified := make(chan hints)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.follow(ctx, notified)
	}()
	defer func() {
		cancel()
		<-done
	}()
	await(t, r, "no route", hasProblem("10.20.0.1", "no route"))
	eth1 := balancer.link("eth1").Attrs().Index
	balancer.must(balancer.NeighSet(&netlink.Neigh{
		LinkIndex: eth1, Family: unix.AF_INET, State: netlink.NUD_PERMANENT,
		IP: netip.MustParseAddr("10.9.0.2").AsSlice(), HardwareAddr: oldMAC[:],
	}))
	balancer.must(balancer.RouteAdd(balancer.routeTo("10.20.0.0/16", "10.9.0.2")))
	if hops := r.Hops(); hasMAC("10.9.0.2", backend.mac("eth0"))(hops) || hasMAC("10.20.0.1", oldMAC)(hops) {
		t.Fatalf("known without a notification: %s", summary(hops))
	}

	notified <- hints{everything: true}
	notified <- hints{everything: true}
	await(t, r, "the static neighbour", hasMAC("10.9.0.2", oldMAC))
	await(t, r, "the new route", hasMAC("10.20.0.1", oldMAC))
	if warnings := log.count("netlink notifications were lost"); warnings != 1 {
		t.Errorf("lost notifications were logged %d times, want once", warnings)
	}
}
