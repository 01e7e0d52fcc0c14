package datapath_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// pieces are the fragments of a request, each with 64 bytes of it.
func (c *conversation) pieces(*balancer) [][]byte {
	return packet.Cut(c.request(packet.SYN, strings.Repeat("x", 200)).Frame(), 64, uint32(c.client.Port()))
}

// Fragments reach the backend in whatever order they come, and what arrives there is the datagram.
func TestFragmentsInAnyOrder(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 0, 3, 2}, {2, 3, 0, 1}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			b := start(t, webAndDNS())
			for i, c := range b.conversations(wires()) {
				c.client = netip.AddrPortFrom(c.client.Addr(), uint16(50000+i))
				whole := c.request(packet.SYN, strings.Repeat("x", 200))
				pieces := packet.Cut(whole.Frame(), 64, uint32(i))
				var arrived [][]byte
				for _, n := range order {
					got, out := b.run(pieces[n])
					if got.verdict == "TX" {
						arrived = append(arrived, out)
						for _, behind := range b.behind {
							arrived = append(arrived, behind.Data)
						}
					} else if got.fate() != "DROP fragment-held" {
						t.Fatalf("%v: %s", c, got.fate())
					}
				}
				if got := payloadOf(t, arrived); !bytes.Equal(got, []byte(whole.Payload)) {
					t.Errorf("%v: %d bytes arrived: % x", c, len(got), got)
				}
			}
		})
	}
}

// payloadOf puts fragments together and checks the datagram's checksum.
func payloadOf(t *testing.T, frames [][]byte) []byte {
	t.Helper()
	whole, err := packet.Join(frames)
	if err != nil {
		t.Fatal(err)
	}
	if err := packet.Verify(whole); err != nil {
		t.Errorf("the datagram that arrived: %v", err)
	}
	p, err := packet.Read(whole)
	if err != nil {
		t.Fatal(err)
	}
	return p.Payload
}

// What waited for a first fragment that is not for a service goes up to the host with it, untouched.
func TestFragmentsForTheHost(t *testing.T) {
	b := start(t, webAndDNS())
	c := b.udp(aClient, "203.0.113.5:9999")
	pieces := c.pieces(b)
	for _, n := range []int{3, 1, 2} {
		b.want("DROP fragment-held", pieces[n])
	}
	got, out := b.run(pieces[0])
	if got.fate() != notOurs || !bytes.Equal(out, pieces[0]) {
		t.Fatalf("the first fragment: %s", got.fate())
	}
	for i, n := range []int{3, 1, 2} {
		if len(b.behind) != 3 || !b.behind[i].ToHost || !bytes.Equal(b.behind[i].Data, pieces[n]) {
			t.Errorf("behind it went %v", b.behind)
		}
	}
}

// Too many wait: the newest is dropped, until the oldest have waited too long.
func TestHeldFragmentsAreBounded(t *testing.T) {
	cfg := webAndDNS()
	for name, change := range map[string]func(*lb.Fragments, int){
		"frames": func(f *lb.Fragments, _ int) { f.Held = 3 },
		"bytes":  func(f *lb.Fragments, size int) { f.Bytes = uint32(3 * size) },
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, cfg)
			later := func(n int) []byte {
				c := b.udp(clientAt(n), dnsVIP)
				return c.pieces(b)[1]
			}
			change(&b.cfg.Fragments, len(later(0)))
			b.apply(b.cfg)
			for n := range 3 {
				b.want("DROP fragment-held", later(n))
			}
			b.want("DROP fragment-full", later(3))
			b.now = b.now.Add(cfg.Fragments.Timeout + 2*time.Millisecond)
			b.want("DROP fragment-held", later(4))
			counts, err := b.datapath.FragmentCounts(uint64(b.now.UnixNano()))
			b.must(err)
			if want := (lb.FragmentCounts{Held: 1, Bytes: uint64(len(later(4))), Incomplete: 3}); counts != want {
				t.Errorf("counted %+v, want %+v", counts, want)
			}
		})
	}
}

// A frame that is too long to be held.
func TestHugeFragment(t *testing.T) {
	b := start(t, webAndDNS())
	c := b.udp(aClient, dnsVIP)
	pieces := packet.Cut(c.request(0, strings.Repeat("x", 30000)).Frame(), 9400, 1)
	b.want("DROP fragment-full", pieces[1])
	for _, frame := range pieces {
		if got, _ := b.run(frame); got.verdict != "TX" {
			t.Errorf("got %s", got.fate())
		}
	}
}

// No more datagrams than there are entries for.
func TestManyDatagrams(t *testing.T) {
	b := start(t, webAndDNS())
	const entries = 2048
	full := 0
	for n := range 2 * entries {
		c := b.udp(clientAt(n), dnsVIP)
		switch got, _ := b.run(c.pieces(b)[0]); got.fate() {
		case newFlow:
		case "DROP fragment-full":
			full++
		default:
			t.Fatalf("datagram %d: %s", n, got.fate())
		}
	}
	if least, most := 2*entries-entries, entries+entries/2; full < least || full > most {
		t.Errorf("%d of %d datagrams found no entry, want %d to %d", full, 2*entries, least, most)
	}
	b.now = b.now.Add(2 * time.Second)
	c := b.udp(clientAt(5000), dnsVIP)
	if got, _ := b.run(c.pieces(b)[0]); got.fate() != newFlow {
		t.Errorf("after all others' time: %s", got.fate())
	}
}

// Clients that look like one to the backend may have chosen the same id.
func TestFragmentsGetAnIDOfTheirOwn(t *testing.T) {
	b := start(t, webAndDNS())
	ids := map[uint16]int{}
	for n := range 50 {
		c := b.udp(clientAt(n), dnsVIP)
		pieces := packet.Cut(c.request(0, strings.Repeat("x", 200)).Frame(), 64, 7)
		var own []uint16
		for _, frame := range pieces {
			_, out := b.run(frame)
			p, err := packet.Read(out)
			b.must(err)
			own = append(own, p.ID)
		}
		if own = slices.Compact(own); len(own) != 1 {
			t.Errorf("the fragments of one datagram have ids %v", own)
		}
		ids[own[0]]++
	}
	for id, n := range ids {
		if n > 2 {
			t.Errorf("%d of 50 datagrams got the id %d", n, id)
		}
	}
}
