package datapath_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

const snatExhausted = "DROP snat-exhausted"

// poolSizes are around those at which the search for a port changes.
func poolSizes() []int { return []int{1, 2, 8, 100, 127, 128, 129, 1000} }

// pools is a TCP and a UDP service with the same backend and the same few
// source ports, in which no flow expires while a test runs.
func pools(size int) lb.Config {
	last := uint16(2000 + size - 1)
	cfg := config(withPorts(web(backendA), 2000, last), withPorts(service("dns", dnsVIP, lb.UDP, backendA), 2000, last))
	const long = 30 * 24 * time.Hour
	cfg.Timeouts = lb.Timeouts{
		TCPUnconfirmed: long, TCPEstablished: long, TCPHalfClosed: long, TCPClosed: long, UDPUnconfirmed: long, UDPStream: long,
	}
	return cfg
}

// fill establishes as many flows as there are ports and checks that each has its own.
func (b *balancer) fill(size int, converse func(n int) *conversation) []*conversation {
	b.t.Helper()
	var all []*conversation
	used := map[netip.AddrPort]bool{}
	for n := range size {
		c := converse(n).establish()
		if used[c.source] {
			b.t.Fatalf("flow %d of %d got the source %v, which is in use", n, size, c.source)
		}
		used[c.source] = true
		all = append(all, c)
	}
	return all
}

func (b *balancer) webClient(n int) *conversation { return b.tcp(clientAt(n), webVIP) }
func (b *balancer) dnsClient(n int) *conversation { return b.udp(clientAt(n), dnsVIP) }

func TestEveryPortIsUsedOnce(t *testing.T) {
	for _, size := range poolSizes() {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			b := start(t, pools(size))
			all := b.fill(size, b.webClient)
			for n := range 5 {
				b.webClient(size + n).play(step{0, client, packet.SYN, snatExhausted})
			}
			for _, c := range all {
				c.stays()
			}
		})
	}
}

// age brings a conversation into a state, a second after whatever came before.
func (c *conversation) age(state string) {
	c.t.Helper()
	c.now = c.now.Add(time.Second)
	switch state {
	case "closed":
		c.expect(reply, c.answer(packet.RST, ""))
	case "half closed":
		c.expect(forwarded, c.request(packet.FIN|packet.ACK, ""))
	default:
		c.expect(forwarded, c.request(packet.SYN, ""))
	}
}

// A full pool gives up the flows that are needed least, the oldest first.
func TestTakeOver(t *testing.T) {
	for _, tc := range []struct {
		name   string
		open   func(b *balancer, n int) *conversation
		states []string // those that give way in this order, then "", which does not
	}{
		{"TCP", (*balancer).webClient, []string{"closed", "unconfirmed", "half closed", ""}},
		{"UDP", (*balancer).dnsClient, []string{"unconfirmed", "stream"}},
	} {
		for _, size := range poolSizes() {
			t.Run(fmt.Sprintf("%s %d", tc.name, size), func(t *testing.T) {
				t.Parallel()
				b := start(t, pools(size))
				random := rand.New(rand.NewPCG(7, uint64(size)))
				var all []*conversation
				for n := range size {
					all = append(all, tc.open(b, n).open())
				}
				next := size
				inState := map[string][]*conversation{}
				for _, n := range random.Perm(size) {
					c, state := all[n], tc.states[random.IntN(len(tc.states))]
					if state != "unconfirmed" {
						c.play(step{0, backend, packet.SYN | packet.ACK, reply}, step{0, client, packet.ACK, forwarded})
					}
					c.age(state)
					inState[state] = append(inState[state], c) // in the order of their age
				}
				for _, state := range tc.states {
					if state == "half closed" || state == "" {
						break
					}
					for _, victim := range inState[state] {
						b.now = b.now.Add(time.Second)
						heir := tc.open(b, next).establish()
						next++
						if heir.source != victim.source {
							t.Fatalf("took over %v, want %v, the oldest flow that is %s", heir.source, victim.source, state)
						}
					}
				}
				if tc.name == "UDP" {
					return // there is always an older stream
				}
				b.now = b.now.Add(time.Second)
				b.webClient(next).play(step{0, client, packet.SYN, snatExhausted})
				for _, state := range []string{"half closed", ""} {
					for _, c := range inState[state] {
						c.stays()
					}
				}
				for _, victim := range inState["unconfirmed"] {
					victim.play(step{0, client, packet.ACK, noFlow})
				}
			})
		}
	}
}

// In a full pool a port is used again as soon as its flow is over.
func TestPortIsFreed(t *testing.T) {
	for _, size := range poolSizes() {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			cfg := pools(size)
			cfg.Timeouts.TCPEstablished = 2 * time.Hour
			b := start(t, cfg)
			all := b.fill(size, b.webClient)
			extra := b.webClient(size)
			extra.play(step{0, client, packet.SYN, snatExhausted})

			closed := all[size/2]
			closed.play(step{time.Second, client, packet.RST, forwarded})
			extra.play(step{time.Second, client, packet.SYN, newFlow})
			if extra.source != closed.source {
				t.Errorf("got %v, want %v, whose flow was closed", extra.source, closed.source)
			}
			extra.play(step{0, backend, packet.SYN | packet.ACK, reply}, step{0, client, packet.ACK, forwarded})
			all[size/2] = extra

			b.now = b.now.Add(time.Hour)
			for _, c := range all[:size-1] {
				c.stays()
			}
			expired := all[size-1]
			b.now = b.now.Add(time.Hour + time.Second)
			last := b.webClient(size + 1).establish()
			if last.source != expired.source {
				t.Errorf("got %v, want %v, whose flow has expired", last.source, expired.source)
			}
		})
	}
}

// TCP that has run out of ports must not cost UDP any, nor the other way round.
func TestTCPAndUDPPortsAreApart(t *testing.T) {
	const size = 1000
	cfg := pools(size)
	cfg.Services = cfg.Services[:1]
	cfg.Services[0].Protocols = []lb.Protocol{lb.TCP, lb.UDP} // of one service, and so of one backend
	b := start(t, cfg)
	all := b.fill(size, b.webClient)
	for n := range size {
		all = append(all, b.udp(clientAt(n), webVIP).establish())
		for i := range n % 3 {
			b.webClient(size + i).play(step{0, client, packet.SYN, snatExhausted})
		}
	}
	if live := len(b.live()); live != 2*size {
		t.Errorf("%d flows are live, want %d", live, 2*size)
	}
	for _, c := range all {
		c.stays()
	}
}

// A flood of SYNs must not cost an established flow, and each one that wants a
// port gets one: within a moment, when the whole pool is not searched each time.
func TestFloodOfSYNs(t *testing.T) {
	const size = 1000
	cfg := pools(size)
	b := start(t, cfg)
	var kept []*conversation
	for n := range size {
		c := b.webClient(n).open()
		if n%10 == 0 {
			c.play(step{0, backend, packet.SYN | packet.ACK, reply}, step{0, client, packet.ACK, forwarded})
			kept = append(kept, c)
		}
	}
	for n := range 5000 {
		b.webClient(size + n).open()
	}
	for _, c := range kept {
		c.stays()
	}
	if live := len(b.live()); live != size {
		t.Errorf("%d flows are live, want %d", live, size)
	}
}

// In a pool that is full, and was so a moment ago, closed flows go first all the same.
func TestClosedGoFirstInAHurry(t *testing.T) {
	const size = 1000
	b := start(t, pools(size))
	var unconfirmed []*conversation
	for n := range size {
		c := b.webClient(n).open()
		if n/25%2 == 0 { // in blocks, so that a search begins among either kind
			c.play(step{0, backend, packet.RST | packet.ACK, reply})
		} else {
			unconfirmed = append(unconfirmed, c)
		}
	}
	for n := range size / 2 {
		b.webClient(size + n).establish()
	}
	for _, c := range unconfirmed {
		c.play(step{0, client, packet.SYN, forwarded})
	}
}
