package datapath_test

import (
	"math"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

func weighted(s lb.Service, scheduler lb.Scheduler, weights ...uint32) lb.Service {
	s.Scheduler, s.TableSize = scheduler, 1021
	for i, w := range weights {
		s.Backends[i].Weight = w
	}
	return s
}

func TestShares(t *testing.T) {
	for name, weights := range map[string][]uint32{
		"equal":      {1, 1, 1, 1},
		"by weight":  {1, 2, 5, 0},
		"only one":   {0, 0, 3, 0},
		"very small": {1000, 1000, 1, 1},
	} {
		for _, scheduler := range []lb.Scheduler{lb.Maglev, lb.Random} {
			t.Run(name+" "+string(scheduler), func(t *testing.T) {
				t.Parallel()
				service := weighted(web(backendA, backendB, "10.0.0.4:80", "10.0.0.5:80"), scheduler, weights...)
				b := start(t, config(service))
				const flows = 1000
				got := map[string]float64{}
				for n := range flows {
					got[b.tcp(clientAt(n), webVIP).open().backend.Label()]++
				}
				sum := 0.0
				for _, w := range weights {
					sum += float64(w)
				}
				for i, w := range weights {
					share := float64(w) / sum
					label := service.Backends[i].Label()
					// four standard deviations, and one slot of the table
					tolerance := 4*math.Sqrt(share*(1-share)/flows) + 1.0/1021
					if d := math.Abs(got[label]/flows - share); d > tolerance || w == 0 && got[label] > 0 {
						t.Errorf("%s got %.1f %% of the flows, want %.1f %%", label, 100*got[label]/flows, 100*share)
					}
				}
			})
		}
	}
}

// The choice is per flow: no packet may go elsewhere.
func TestRandomIsPerFlow(t *testing.T) {
	b := start(t, config(weighted(web(backendA, backendB, "10.0.0.4:80"), lb.Random)))
	for n := range 20 {
		c := b.tcp(clientAt(n), webVIP).establish()
		for range 10 {
			c.stays()
		}
	}
}

// reconnects counts the backends that one client's 30 connections reach.
func reconnects(b *balancer) int {
	b.t.Helper()
	reached := map[string]bool{}
	for range 30 {
		c := b.tcp(aClient, webVIP).establish()
		c.play(step{0, client, packet.RST, forwarded})
		reached[c.backend.Label()] = true
	}
	return len(reached)
}

func TestMaglevIsSticky(t *testing.T) {
	if n := reconnects(start(t, config(web(backendA, backendB)))); n != 1 {
		t.Errorf("the same address and port reached %d backends, want 1", n)
	}
}

func TestRandomIsNotSticky(t *testing.T) {
	if n := reconnects(start(t, config(weighted(web(backendA, backendB), lb.Random)))); n != 2 {
		t.Errorf("30 connections reached %d backends, want 2", n)
	}
}

// Every balancer must choose the same, whatever it did before.
func TestMaglevIsTheSameEverywhere(t *testing.T) {
	here := start(t, config(web(backendA, backendB, "10.0.0.4:80")))
	there := start(t, config(dns("10.0.0.2:53"), service("another", "203.0.113.9:80", lb.TCP, backendA)))
	there.apply(config(dns("10.0.0.2:53"), web("10.0.0.4:80", backendB, backendA)))
	const flows = 100
	var first [flows]string
	for n := range flows {
		first[n] = here.tcp(clientAt(n), webVIP).open().backend.Label()
	}
	for n := flows - 1; n >= 0; n-- {
		if second := there.tcp(clientAt(n), webVIP).open().backend.Label(); second != first[n] {
			t.Errorf("client %d: %s here, %s there", n, first[n], second)
		}
	}
}
