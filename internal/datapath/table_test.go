package datapath_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

const flowTableFull = "DROP flow-table-full"

// table has room for a few flows, and long timeouts.
func table(slots uint32) lb.Config {
	cfg := pools(20000)
	cfg.Limits.Flows = slots
	return cfg
}

// searched is how many slots are looked at for a new flow: all of a table's two buckets, or
// two of its many.
func searched(slots int) int { return min(slots, 64) }

// neighbours numbers the clients that may lie in the same two buckets of the flow table as the
// first one: those that compete for the same slots.
func (b *balancer) neighbours(open func(n int) *conversation) func(n int) *conversation {
	var all []int
	var home []uint32
	next := 0
	return func(n int) *conversation {
		for ; len(all) <= n; next++ {
			c := open(next)
			buckets, err := b.datapath.Buckets(c.protocol, c.client, c.vip)
			b.must(err)
			if home == nil {
				home = buckets
			}
			if slices.Equal(buckets, home) {
				all = append(all, next)
			}
		}
		return open(all[n])
	}
}

func TestFlowTableFull(t *testing.T) {
	for _, slots := range []int{1, 16, 64, 65, 100, 300} {
		t.Run(fmt.Sprint(slots), func(t *testing.T) {
			t.Parallel()
			b := start(t, table(uint32(slots)))
			neighbour := b.neighbours(b.webClient)
			room := searched(slots)
			all := b.fill(room, neighbour)
			for n := range 5 {
				neighbour(room + n).play(step{0, client, packet.SYN, flowTableFull})
				b.dnsClient(slots + n).opensIfThereIsRoom()
			}
			for _, c := range all {
				c.stays()
			}
		})
	}
}

// opensIfThereIsRoom fails the test unless a new flow is refused where both of its buckets are full, and
// else opened. In them all flows must be needed.
func (c *conversation) opensIfThereIsRoom() bool {
	c.t.Helper()
	buckets, err := c.datapath.Buckets(c.protocol, c.client, c.vip)
	c.must(err)
	free, err := c.datapath.FreeSlots(buckets)
	c.must(err)
	if free > 0 {
		c.establish()
	} else {
		c.expect(flowTableFull, c.request(packet.SYN, ""))
	}
	return free > 0
}

// Large tables are of whole buckets. A flow has a slot for sure while a fifth of them is free, and after that as long as
// its own two have one; no flow that is needed gives way.
func TestLargeTableFills(t *testing.T) {
	for _, slots := range []int{65, 100, 200, 300, 1000} {
		t.Run(fmt.Sprint(slots), func(t *testing.T) {
			t.Parallel()
			b := start(t, table(uint32(slots)))
			size := b.datapath.Slots()
			if size < slots || size >= slots+32 || size%32 != 0 {
				t.Errorf("a table for %d flows has %d slots", slots, size)
			}
			all := b.fill(size*4/5, b.webClient)
			for n := range 3 * size {
				if c := b.webClient(len(all) + n); c.opensIfThereIsRoom() {
					all = append(all, c)
				}
			}
			if live := len(b.live()); live != len(all) || live > size {
				t.Errorf("%d flows are live in %d slots, want the %d that were opened", live, size, len(all))
			}
			for _, c := range all {
				c.stays()
			}
		})
	}
}

// A full table has room again as soon as one flow is over, wherever it lies.
func TestSlotIsFreed(t *testing.T) {
	for name, end := range map[string]func(over *conversation, others []*conversation){
		"closed": func(over *conversation, _ []*conversation) {
			over.play(step{0, client, packet.FIN | packet.ACK, forwarded}, step{0, backend, packet.FIN | packet.ACK, reply})
		},
		"reset": func(over *conversation, _ []*conversation) { over.play(step{0, backend, packet.RST, reply}) },
		"forgotten": func(over *conversation, others []*conversation) {
			over.now = over.now.Add(time.Hour)
			for _, c := range others {
				c.stays()
			}
			over.now = over.now.Add(time.Hour + time.Second)
		},
	} {
		for _, slots := range []int{16, 64, 200} {
			t.Run(fmt.Sprintf("%s %d", name, slots), func(t *testing.T) {
				t.Parallel()
				cfg := table(uint32(slots))
				cfg.Timeouts.TCPEstablished = 2 * time.Hour
				b := start(t, cfg)
				neighbour := b.neighbours(b.webClient)
				room := searched(slots)
				all := b.fill(room, neighbour)
				for i, n := range []int{room - 1, 0, room / 2} {
					extra := neighbour(room + i)
					extra.play(step{time.Second, client, packet.SYN, flowTableFull})
					over := all[n]
					all = slices.Delete(all, n, n+1)
					end(over, all)
					b.now = b.now.Add(time.Second)
					all = append(all, extra.establish())
					for _, c := range all {
						c.stays()
					}
				}
			})
		}
	}
}

// Whatever waits longest to be confirmed gives way, and a closed flow before it. It is one that
// may lie where the new one may.
func TestSlotIsTakenOver(t *testing.T) {
	for _, slots := range []int{16, 64, 100} {
		t.Run(fmt.Sprint(slots), func(t *testing.T) {
			t.Parallel()
			b := start(t, table(uint32(slots)))
			neighbour := b.neighbours(b.webClient)
			room := searched(slots)
			all := b.fill(room-2, neighbour)
			waiting := neighbour(room).open()
			b.now = b.now.Add(time.Second)
			closed := neighbour(room + 1).establish()
			closed.play(step{time.Second, client, packet.RST, forwarded})

			b.now = b.now.Add(time.Second)
			neighbour(room + 2).establish()
			waiting.play(step{0, client, packet.SYN, forwarded})
			closed.play(step{0, client, packet.ACK, noFlow})

			b.now = b.now.Add(time.Second)
			neighbour(room + 3).establish()
			waiting.play(step{time.Second, client, packet.SYN, flowTableFull})
			for _, c := range all {
				c.stays()
			}
		})
	}
}

// While there is room no flow gives way, and none is refused, however the ones
// that stay and the ones that pass lie in the table.
func TestNoFlowGivesWayWhileThereIsRoom(t *testing.T) {
	const slots, staying = 300, 200
	for name, open := range map[string]func(*balancer, int) *conversation{
		"TCP": (*balancer).webClient,
		"UDP": (*balancer).dnsClient,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := table(slots)
			cfg.Timeouts.TCPClosed = time.Second
			b := start(t, cfg)
			all := b.fill(staying, func(n int) *conversation { return open(b, n) })
			for n := range 3 * slots {
				passing := b.webClient(staying + n).establish()
				passing.play(step{0, client, packet.RST, forwarded})
				b.now = b.now.Add(10 * time.Millisecond)
			}
			for _, c := range all {
				c.stays()
			}
		})
	}
}

// Many flows come, live all kinds of lives, and go; nothing may be left of them.
// (The balancer compares the table with its index.)
func TestNothingLeaks(t *testing.T) {
	const clients, packets = 400, 12000
	cfg := config(
		withPorts(web(backendA, backendB), 2000, 2099),
		withPorts(service("dns", dnsVIP, lb.UDP, backendA, backendB), 2000, 2049),
		weighted(withPorts(service("random", "203.0.113.6:80", lb.TCP, backendA), 2000, 2099), lb.Random),
	)
	cfg.Limits.Flows = 250
	b := start(t, cfg)
	random := rand.New(rand.NewPCG(8, 9))
	flags := []packet.TCPFlags{
		packet.SYN, packet.SYN, packet.SYN, packet.ACK, packet.ACK, packet.FIN | packet.ACK, packet.RST, packet.SYN | packet.ACK,
	}
	fates := map[string]int{}
	var sent [][]byte // what left toward backends, to answer
	for n := range packets {
		b.now = b.now.Add(time.Duration(random.IntN(200)) * time.Millisecond)
		frame := b.randomPacket(random, clients, flags)
		if len(sent) > 0 && random.IntN(2) == 0 {
			p, err := packet.Read(sent[random.IntN(len(sent))])
			b.must(err)
			frame = p.Reply(flags[random.IntN(len(flags))], "").Frame()
		}
		got, out := b.run(frame)
		fates[got.fate()]++
		if got.reason == "new-flow" || got.reason == "forwarded" {
			b.must(packet.Verify(out))
			if sent = append(sent, out); len(sent) > 50 {
				sent = sent[1:]
			}
		}
		if n%2000 == 0 {
			b.live()
		}
	}
	for _, fate := range []string{newFlow, forwarded, reply, noFlow} {
		if fates[fate] < packets/100 {
			t.Errorf("only %d packets were %s: %v", fates[fate], fate, fates)
		}
	}
	b.now = b.now.Add(24 * time.Hour)
	for n := range int(cfg.Limits.Flows) {
		b.tcp(clientAt(clients+n), "203.0.113.6:80").open()
		if n >= 99 {
			break // as many as there are ports
		}
	}
	if live := len(b.live()); live < 100 {
		t.Errorf("%d flows are live, want the 100 that were just opened", live)
	}
}

func (b *balancer) randomPacket(random *rand.Rand, clients int, flags []packet.TCPFlags) []byte {
	client := clientAt(random.IntN(clients))
	switch random.IntN(3) {
	case 0:
		return b.udp(client, dnsVIP).request(0, "question").Frame()
	case 1:
		return b.tcp(client, "203.0.113.6:80").request(flags[random.IntN(len(flags))], "").Frame()
	}
	return b.tcp(client, webVIP).request(flags[random.IntN(len(flags))], "").Frame()
}
