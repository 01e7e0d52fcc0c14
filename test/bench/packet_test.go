package bench

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/test/bench/harness"
	"github.com/tinylb/tinylb/test/need"
)

// rounds is how often the empty program and the one that is measured take turns,
// so that the machine's moods meet both.
const rounds = 9

// BenchmarkPacket is what the data plane costs per packet, by test-run: ns/op,
// and x-empty, how many times as long as an empty program in the same run.
func BenchmarkPacket(b *testing.B) {
	need.Root(b)
	bare := sync.OnceValue(func() *scene { return newScene(b, lb.ForwardNAT, v4, 1) })
	b.Run("empty", func(b *testing.B) { bare().measure(b, bare().traffic.Empty(), "") })
	b.Run("floor", func(b *testing.B) { bare().measure(b, bare().traffic.Floor(), "") })
	b.Run("not-ours", func(b *testing.B) { bare().notOurs(b) })
	for _, forward := range lb.Forwards() {
		for _, f := range []family{v4, v6} {
			for _, c := range cases(forward) {
				for _, flows := range c.flows {
					name := strings.Join([]string{string(forward), f.name, c.name, "flows=" + short(flows)}, "/")
					b.Run(name, func(b *testing.B) { c.run(b, forward, f, flows) })
				}
			}
		}
	}
}

// short is 1, 10k, 1M.
func short(n int) string {
	switch {
	case n >= 1_000_000:
		return fmt.Sprintf("%dM", n/1_000_000)
	case n >= 1000:
		return fmt.Sprintf("%dk", n/1000)
	}
	return fmt.Sprint(n)
}

type packetCase struct {
	name  string
	flows []int
	run   func(b *testing.B, forward lb.Forward, f family, flows int)
}

func cases(forward lb.Forward) []packetCase {
	some := []int{1, 10_000, 100_000, 1_000_000}
	all := []packetCase{
		{"established", some, benchmarkEstablished},
		{"udp", some, benchmarkUDP},
		{"syn-new", some[1:], benchmarkNew}, // of one flow, only the first packet could be a new one
	}
	if forward.Translates() {
		all = append(all, packetCase{"reply", some, benchmarkReply})
	}
	return all
}

func benchmarkEstablished(b *testing.B, forward lb.Forward, f family, flows int) {
	s := newScene(b, forward, f, flows)
	s.open(lb.TCP)
	s.frame(s.tcp(packet.ACK))
	s.measure(b, s.program, "forwarded")
}

func benchmarkUDP(b *testing.B, forward lb.Forward, f family, flows int) {
	s := newScene(b, forward, f, flows)
	s.open(lb.UDP)
	s.measure(b, s.program, "forwarded")
}

func benchmarkReply(b *testing.B, forward lb.Forward, f family, flows int) {
	s := newScene(b, forward, f, flows)
	s.open(lb.TCP)
	listed, err := s.datapath.Flows()
	s.must(err)
	ends := make([]harness.Ends, len(listed))
	for i, f := range listed {
		ends[i] = harness.Ends{Src: f.Backend, Dst: f.Source}
	}
	s.give(f.frame(packet.NewTCP(ends[0].Src, ends[0].Dst, packet.ACK, "")), shuffled(ends))
	s.measure(b, s.program, "reply")
}

// benchmarkNew stores flows until there are so many, and begins again.
func benchmarkNew(b *testing.B, forward lb.Forward, f family, flows int) {
	b.StopTimer()
	idle := newScene(b, forward, f, 1)
	var perPacket, times []float64
	for left := b.N; left > 0; left -= flows {
		s := newScene(b, forward, f, flows+spare)
		for range rounds {
			empty := idle.time(idle.traffic.Empty(), emptyPackets)
			b.StartTimer()
			took := s.time(s.program, flows/rounds)
			b.StopTimer()
			perPacket, times = append(perPacket, took), append(times, took/empty)
		}
		s.counted(nil, "new-flow", flows/rounds*rounds)
		s.close()
	}
	report(b, perPacket, times)
}

// spare flows are for test-runs that a signal ended early.
const spare = 10_000

// emptyPackets is how many packets the empty program gets where the other's number is fixed.
const emptyPackets = 20_000

func (s *scene) notOurs(b *testing.B) {
	other := netip.MustParseAddrPort("192.0.2.99:80")
	s.give(s.family.frame(packet.NewTCP(s.family.client(0), other, packet.ACK, "")), []harness.Ends{{Src: s.family.client(0), Dst: other}})
	s.measure(b, s.program, "not-ours")
}

// measure has the empty program and another take turns. Every packet must have
// ended for the reason, if one is given.
func (s *scene) measure(b *testing.B, program *ebpf.Program, reason string) {
	b.Helper()
	b.StopTimer()
	packets := max(b.N/rounds, 1000)
	before := s.counts()
	var perPacket, times []float64
	for range rounds {
		empty := s.time(s.traffic.Empty(), packets)
		b.StartTimer()
		took := s.time(program, packets)
		b.StopTimer()
		perPacket, times = append(perPacket, took), append(times, took/empty)
	}
	if reason != "" {
		s.counted(before, reason, rounds*packets)
	}
	report(b, perPacket, times)
}

// time is ns per packet.
func (s *scene) time(program *ebpf.Program, packets int) float64 {
	s.t.Helper()
	perPacket, verdict, err := s.traffic.Run(program, packets)
	s.must(err)
	if verdict != xdpPass && verdict != xdpTX {
		s.t.Fatalf("the last verdict is %d", verdict)
	}
	return perPacket
}

const xdpPass, xdpTX = 2, 3

func report(b *testing.B, perPacket, times []float64) {
	b.ReportMetric(median(perPacket), "ns/op")
	b.ReportMetric(median(times), "x-empty")
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
