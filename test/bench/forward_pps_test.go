package bench

import (
	"errors"
	"math/bits"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lab/labtest"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/test/bench/flood"
	"github.com/tinylb/tinylb/test/need"
)

const (
	// floodFlows are enough that no cache line is always the same one, and few for conntrack.
	floodFlows = 1000
	floodPort  = 10000 // the first flow's
	// floodStart is enough packets to open the flows and to see how fast they go.
	floodStart = 1 << 14
)

// benchmarkPPS is packets per second that arrive of as many as one core can send:
// UDP in frames of 64 bytes, of 1000 flows, in one direction. The same core
// makes, forwards and counts them.
func benchmarkPPS(b *testing.B) {
	need.Tool(b, "nft")
	ways := []forwarding{{"redirect", bareRedirect}}
	for _, forward := range lb.Forwards() {
		ways = append(ways, tinylb(forward))
	}
	ways = append(ways, forwarding{"nftables", nftables})
	l := labtest.New(b, lab.Native(true)) // so that nftables' router takes what XDP sends
	c := &contest{ratios: []ratio{{"x-redirect", "pps", "redirect"}, {"x-nftables", "pps", "nftables"}}}
	for _, way := range ways {
		s := newFlooded(b, l, way)
		c.contenders = append(c.contenders, contender{way.name, s.turn})
	}
	c.run(b)
}

// flooded is a site with a flood for it.
type flooded struct {
	*site
	programs *flood.Programs
}

func newFlooded(t testing.TB, l *lab.Lab, way forwarding) *flooded {
	t.Helper()
	s := &flooded{site: newSite(t, l, way.name)}
	from, arrives := s.networkInterface(s.client, "eth0"), s.networkInterface(s.router, "front")
	p := packet.NewUDP(netip.AddrPortFrom(netip.MustParseAddr(frontClients), 0), netip.AddrPortFrom(s.target, udpPort), "")
	copy(p.SrcMAC[:], from.HardwareAddr)
	copy(p.DstMAC[:], arrives.HardwareAddr)
	p.Payload = make([]byte, flood.FrameSize-len(p.Frame()))
	var err error
	s.programs, err = flood.Load(flood.Flood{Frame: p.Frame(), FirstPort: floodPort, Flows: floodFlows, Interface: from.Index})
	s.must(err)
	t.Cleanup(s.programs.Close)
	s.attach(s.backend, "eth0", s.programs.Count())
	way.start(s.site)
	return s
}

// turn sends for so long, after a few packets that open the flows.
func (s *flooded) turn(t testing.TB, duration time.Duration) (f figures) {
	t.Helper()
	err := s.client.Do(func() error {
		return onOneCore(func() error {
			perSecond, err := s.programs.Send(floodStart)
			if err != nil {
				return err
			}
			perSecond, err = s.programs.Send(max(floodStart, int(perSecond*duration.Seconds())))
			f = figures{"pps": perSecond}
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// onOneCore runs f on the last of the cores that the calling, locked thread may
// use, ahead of all that want it, too.
func onOneCore(f func() error) error {
	const thisThread, first = 0, -20
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(thisThread, &all); err != nil {
		return err
	}
	for cpu := range len(all) * bits.UintSize {
		if all.IsSet(cpu) {
			one.Zero()
			one.Set(cpu)
		}
	}
	priority, err := unix.Getpriority(unix.PRIO_PROCESS, thisThread)
	if err != nil {
		return err
	}
	defer unix.Setpriority(unix.PRIO_PROCESS, thisThread, 20-priority) // as the system call has it: 20 - nice
	defer unix.SchedSetaffinity(thisThread, &all)
	err = errors.Join(unix.SchedSetaffinity(thisThread, &one), unix.Setpriority(unix.PRIO_PROCESS, thisThread, first))
	if err != nil {
		return err
	}
	return f()
}
