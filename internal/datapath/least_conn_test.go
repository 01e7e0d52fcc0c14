package datapath_test

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// active are the flows that the data plane counts for each backend.
func (b *balancer) active() map[netip.AddrPort]int {
	b.t.Helper()
	counts := map[netip.AddrPort]int{}
	for id, name := range b.names.BackendNames {
		count, err := b.datapath.FlowCount(id, b.names.Backends[id])
		b.must(err)
		counts[name.Address] = int(count)
	}
	return counts
}

// level fails the test unless flows are spread by weight, to within a few.
func (b *balancer) level(s lb.Service) {
	b.t.Helper()
	counts, flows, weights := b.active(), 0, 0
	for _, backend := range s.Backends {
		flows += counts[backend.Address]
		weights += int(backend.Weight)
	}
	for _, backend := range s.Backends {
		want := float64(flows) * float64(backend.Weight) / float64(weights)
		if got := counts[backend.Address]; math.Abs(float64(got)-want) > 5+want/20 {
			b.t.Errorf("%s with weight %d has %d flows, want about %.0f: %v", backend.Address, backend.Weight, got, want, counts)
		}
	}
}

// Flows go to who has fewest, whatever made them fewer: an end, their time, or another's need.
func TestLeastConn(t *testing.T) {
	for _, forward := range lb.Forwards() {
		t.Run(string(forward), func(t *testing.T) {
			t.Parallel()
			s := service("web", webVIP, lb.TCP, "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80", "10.0.0.6:80")
			s.Scheduler, s.Forward, s.TableSize = lb.LeastConn, forward, 509
			s.Backends[1].Weight, s.Backends[2].Weight, s.Backends[3].Weight = 2, 4, 0
			b := start(t, config(s))
			next := 0
			open := func(flows int) (all []*conversation) {
				for range flows {
					c := b.tcp(clientAt(next), webVIP)
					out, _ := b.run(c.request(packet.SYN, "").Frame())
					c.backend.Address = netip.MustParseAddrPort(out.backend)
					all = append(all, c)
					next++
				}
				return all
			}
			first := open(700)
			b.level(s)
			for _, c := range first { // the heaviest loses all
				if c.backend.Address == s.Backends[2].Address {
					b.run(c.request(packet.RST, "").Frame())
				}
			}
			if n := b.active()[s.Backends[2].Address]; n != 0 {
				t.Errorf("%d flows are counted where all are closed", n)
			}
			open(800) // it is one of the two candidates most of the time, but not always
			b.level(s)

			b.now = b.now.Add(40 * time.Second)
			renewed := 0
			for _, c := range first {
				if c.backend.Address == s.Backends[0].Address {
					b.run(c.request(packet.SYN, "").Frame())
					renewed++
				}
			}
			b.now = b.now.Add(25 * time.Second)
			b.must(b.runner.Sweep(b.now)) // what was not renewed is over
			if got := b.active(); got[s.Backends[0].Address] != renewed || got[s.Backends[1].Address]+got[s.Backends[2].Address] != 0 {
				t.Errorf("%v are counted, want %d for the first alone", got, renewed)
			}
			open(7*renewed - renewed)
			b.level(s)
		})
	}
}

// With one backend there is nothing to choose.
func TestLeastConnOfOne(t *testing.T) {
	s := web(backendA, backendB)
	s.Scheduler = lb.LeastConn
	s.Backends[1].Weight = 0
	b := start(t, config(s))
	for n := range 20 {
		if c := b.tcp(clientAt(n), webVIP).open(); c.backend.Address.String() != backendA {
			t.Errorf("client %d went to %s", n, c.backend.Address)
		}
	}
}

// A backend that gets the id of one that is gone begins with no flows, though those of the other are still there.
func TestFlowsOfAnIDsFormerOwner(t *testing.T) {
	s := web(backendA, backendB)
	s.Scheduler = lb.LeastConn
	cfg := config(s)
	cfg.Limits.Backends = 2
	b := start(t, cfg)
	for n := range 100 {
		b.run(b.tcp(clientAt(n), webVIP).request(packet.SYN, "").Frame())
	}
	for round := range 4 {
		less := cfg
		less.Services = []lb.Service{s}
		less.Services[0].Backends = backends(backendA)
		b.apply(less)
		added := fmt.Sprintf("10.0.0.%d:80", 40+round)
		more := cfg
		more.Services = []lb.Service{s}
		more.Services[0].Backends = backends(backendA, added)
		b.apply(more)
		if got := b.active()[netip.MustParseAddrPort(added)]; got != 0 && round == 0 {
			t.Errorf("a backend that has just come has %d flows", got)
		}
		for n := range 20 {
			b.run(b.tcp(clientAt(1000+100*round+n), webVIP).request(packet.SYN, "").Frame())
		}
		b.must(b.runner.Sweep(b.now))
		b.live() // compares the counts
	}
}
