package datapath_test

import (
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/test/need"
)

// sweep clears what is dead now, and wants so many flows to be left.
func (b *balancer) sweep(left int) {
	b.t.Helper()
	b.must(b.runner.Sweep(b.now))
	if live := b.live(); len(live) != left {
		b.t.Errorf("%d flows are left, want %d: %v", len(live), left, live)
	}
}

// Whose time is over, or whose backend is gone, is cleared, and nobody else.
func TestSweep(t *testing.T) {
	for _, forward := range lb.Forwards() {
		t.Run(string(forward), func(t *testing.T) {
			t.Parallel()
			stays, goes := web(backendA), service("goes", "203.0.113.9:80", lb.TCP, "10.0.0.4:80")
			stays.Forward, goes.Forward = forward, forward
			b := start(t, config(stays, goes))
			of := func(n int, vip string) []byte { return b.tcp(clientAt(n), vip).request(packet.SYN, "").Frame() }
			for n := range 100 {
				b.run(of(n, webVIP))
			}
			b.sweep(100)
			b.now = b.now.Add(time.Minute - time.Second)
			for n := range 50 {
				b.run(of(n, webVIP))
			}
			b.run(of(1, "203.0.113.9:80"))
			b.sweep(51 + 50)
			b.now = b.now.Add(2 * time.Second)
			b.sweep(51)
			b.apply(config(stays))
			b.sweep(50)
			b.now = b.now.Add(time.Hour)
			b.sweep(0)
		})
	}
}

// The kernel clears dead flows all by itself.
func TestSweeperNeedsNobody(t *testing.T) {
	need.Root(t)
	cfg := config(web(backendA))
	cfg.Limits.Flows = 32 * 100
	b := start(t, cfg)
	for n := range 1000 {
		b.run(b.tcp(clientAt(n), webVIP).request(packet.SYN, "").Frame())
	}
	// the flows are of a clock that shows much later than the kernel's
	s := cfg.Services[0]
	s.Backends = backends(backendB)
	b.apply(config(s))
	b.must(b.datapath.StartSweeper())
	b.must(b.datapath.StartSweeper())
	awaitSwept(t, b.datapath)
}

// awaitSwept waits until the kernel has cleared all flows, none of which is needed.
func awaitSwept(t *testing.T, d *datapath.Datapath) {
	t.Helper()
	timeout, again := time.After(15*time.Second), time.NewTicker(10*time.Millisecond)
	defer again.Stop()
	for {
		flows, err := d.Flows()
		if err != nil {
			t.Fatal(err)
		}
		if len(flows) == 0 {
			return
		}
		select {
		case <-again.C:
		case <-timeout:
			t.Fatalf("%d flows of backends that are gone are still there", len(flows))
		}
	}
}
