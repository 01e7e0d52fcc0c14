package datapath_test

import (
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

const backendGone = "DROP backend-gone"

// establishAt opens flows, the nth from the nth client, until there are some to every backend.
func establishAt(b *balancer, n int) map[string][]*conversation {
	b.t.Helper()
	all := map[string][]*conversation{}
	for i := range n {
		c := b.tcp(clientAt(i), webVIP).establish()
		all[c.backend.Label()] = append(all[c.backend.Label()], c)
	}
	if want := len(b.cfg.Services[0].Backends); len(all) != want {
		b.t.Fatalf("%d flows went to %d backends, want %d", n, len(all), want)
	}
	return all
}

// stays lets both sides of a conversation send something.
func (c *conversation) stays() {
	c.t.Helper()
	c.play(step{0, client, packet.ACK, forwarded}, step{0, backend, packet.ACK, reply})
}

func TestFlowsKeepTheirBackend(t *testing.T) {
	weighted := web(backendA, backendB, "10.0.0.4:80")
	weighted.Backends[0].Weight, weighted.Backends[1].Weight = 0, 7
	sized := web(backendA, backendB, "10.0.0.4:80")
	sized.TableSize = 509
	random := web(backendA, backendB, "10.0.0.4:80")
	random.Scheduler = lb.Random
	b := start(t, config(web(backendA, backendB, "10.0.0.4:80")))
	flows := establishAt(b, 30)
	for _, change := range []struct {
		name string
		now  lb.Service
	}{
		{"backends added", web("10.0.0.1:80", backendA, backendB, "10.0.0.4:80", "10.0.0.9:80")},
		{"one of them removed", web("10.0.0.1:80", backendA, backendB, "10.0.0.4:80")},
		{"other weights", weighted},
		{"another table size", sized},
		{"another scheduler", random},
		{"another order", web("10.0.0.4:80", backendB, backendA)},
		{"other source ports", withPorts(web(backendA, backendB, "10.0.0.4:80"), 30000, 30009)},
		{"another source address", withSources(web(backendA, backendB, "10.0.0.4:80"), "203.0.113.5", source)},
	} {
		t.Run(change.name, func(t *testing.T) {
			b.in(t).apply(config(change.now))
			for _, to := range flows {
				for _, c := range to {
					c.stays()
				}
			}
		})
	}
}

func TestRemovedBackend(t *testing.T) {
	b := start(t, config(web(backendA, backendB)))
	flows := establishAt(b, 20)
	b.apply(config(web(backendB)))
	for _, c := range flows[backendB] {
		c.stays()
	}
	for _, c := range flows[backendA] {
		c.play(
			step{0, client, packet.ACK, backendGone},
			step{0, backend, packet.ACK, backendGone},
			step{0, client, packet.FIN | packet.ACK, backendGone},
			step{0, client, packet.SYN, newFlow}, // starts anew, from the same port
			step{0, backend, packet.SYN | packet.ACK, reply},
			step{0, client, packet.ACK, forwarded},
		)
		if c.backend.Label() != backendB {
			t.Errorf("the new flow went to %s, want %s", c.backend.Label(), backendB)
		}
	}
}

func TestRemovedBackendUDP(t *testing.T) {
	b := start(t, config(dns("10.0.0.2:53")))
	c := b.udp(aClient, dnsVIP).establish()
	b.apply(config(dns("10.0.0.3:53")))
	c.play(
		step{0, backend, 0, backendGone},
		step{0, client, 0, newFlow},
		step{0, backend, 0, reply},
	)
}

// A backend that comes back is another one as far as its old flows are concerned.
func TestBackendThatComesBack(t *testing.T) {
	b := start(t, config(web(backendA)))
	c := b.tcp(aClient, webVIP).establish()
	b.apply(config(web(backendB)))
	b.apply(config(web(backendA)))
	c.play(step{0, client, packet.ACK, backendGone}, step{0, client, packet.SYN, newFlow})
}

// With all ids in use but one, a new backend gets that of the removed one. The
// flows of the old one must not go to it.
func TestBackendIDUsedAgain(t *testing.T) {
	cfg := config(web(backendA, backendB))
	cfg.Limits.Backends = 2
	b := start(t, cfg)
	flows := establishAt(b, 20)
	for _, addresses := range [][]string{{backendB}, {backendB, "10.0.0.4:80"}} {
		cfg.Services = []lb.Service{web(addresses...)}
		b.apply(cfg)
		for _, c := range flows[backendB] {
			c.stays()
		}
		for _, c := range flows[backendA] {
			c.play(step{0, client, packet.ACK, backendGone}, step{0, backend, packet.ACK, backendGone})
		}
	}
	for _, c := range flows[backendA] {
		c.play(step{0, client, packet.SYN, newFlow})
	}
}

func TestRemovedService(t *testing.T) {
	alt := service("alt", "203.0.113.5:81", lb.TCP, backendA)
	b := start(t, config(web(backendA), alt, dns("10.0.0.2:53")))
	gone, stays := b.tcp(aClient, webVIP).establish(), b.tcp(aClient, "203.0.113.5:81").establish()
	udp := b.udp(aClient, dnsVIP).establish()
	b.apply(config(alt))
	gone.play(
		step{0, client, packet.ACK, backendGone},
		step{0, backend, packet.ACK, backendGone},
		step{0, client, packet.SYN, notOurs},
		step{0, client, packet.ACK, notOurs},
	)
	udp.play(step{0, client, 0, notOurs}, step{0, backend, 0, notOurs})
	stays.stays()
}

func TestServiceAdded(t *testing.T) {
	b := start(t, config(web(backendA)))
	old := b.tcp(aClient, webVIP).establish()
	early := b.udp(aClient, dnsVIP)
	early.expect(notOurs, early.request(0, "too early"))
	b.apply(config(web(backendA), dns("10.0.0.2:53"), service("other", "203.0.113.9:80", lb.TCP, backendB)))
	old.stays()
	early.establish()
	b.tcp(aClient, "203.0.113.9:80").establish()
}

// No weight, no next hop: no new flows; those that are there stay.
func TestNoBackend(t *testing.T) {
	for name, change := range map[string]func(*balancer, *lb.Config){
		"no weight": func(_ *balancer, cfg *lb.Config) { cfg.Services[0].Backends[0].Weight = 0 },
		"no next hop": func(b *balancer, cfg *lb.Config) {
			b.hops[cfg.Services[0].Backends[0].Address.Addr()] = lb.NextHop{Problem: "no route"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, config(web(backendA)))
			old := b.tcp(aClient, webVIP).establish()
			cfg := config(web(backendA))
			change(b, &cfg)
			if down := b.apply(cfg).Down; len(down) != 1 || down[0] != "web" {
				t.Errorf("services said to be down: %q, want web", down)
			}
			fresh := b.tcp(clientAt(1), webVIP)
			fresh.play(step{0, client, packet.SYN, "TX no-backend"}, step{0, client, packet.ACK, noFlow})
			old.play(step{0, backend, packet.ACK, reply})

			b.hops[old.backend.Address.Addr()] = lb.NextHop{Interface: 1, MAC: macOf(old.backend.Address.Addr()), Source: old.source.Addr()}
			b.apply(config(web(backendA)))
			old.stays()
			fresh.establish()
		})
	}
}
