package bench

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/test/bench/harness"
	"github.com/tinylb/tinylb/test/need"
)

// packets are those of one round, in which the empty program and the one that is
// measured take turns, so that the machine's moods meet both.
const packets = 100_000

// BenchmarkPacket is what the data plane costs per packet, by test-run: ns/op,
// and x-empty, how many times as long as an empty program in the same run.
func BenchmarkPacket(b *testing.B) {
	need.Root(b)
	b.Run("bare", benchmarkBare)
	b.Run("empty", benchmarkEmpty)
	b.Run("floor", benchmarkFloor)
	b.Run("not-ours", benchmarkNotOurs)
	b.Run("tracing-off", benchmarkTracingOff)
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
	if testing.Short() {
		some = some[:2]
	}
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
	s.establish(s.request(lb.TCP))
	s.measure(b, s.program, sent, "forwarded")
}

func benchmarkUDP(b *testing.B, forward lb.Forward, f family, flows int) {
	s := newScene(b, forward, f, flows)
	s.establish(s.request(lb.UDP))
	s.measure(b, s.program, sent, "forwarded")
}

func benchmarkReply(b *testing.B, forward lb.Forward, f family, flows int) {
	s := newScene(b, forward, f, flows)
	s.establish(s.request(lb.TCP))
	s.answer()
	s.measure(b, s.program, sent, "reply")
}

// benchmarkNew stores flows until there are so many, and begins again.
func benchmarkNew(b *testing.B, forward lb.Forward, f family, flows int) {
	var m measurement
	for b.Loop() {
		s := newScene(b, forward, f, flows+spare)
		opened, some := 0, min(packets, flows/5)
		for opened < flows {
			opened += m.round(s, s.program, some, sent)
		}
		s.counted(nil, "new-flow", opened)
		s.close()
	}
	m.report(b)
}

// spare flows are for test-runs that a signal ended early.
const spare = 10_000

// benchmarkBare is what test-run itself costs: an XDP_TX, and no harness around it.
func benchmarkBare(b *testing.B) {
	s := newScene(b, lb.ForwardNAT, v4, 1)
	var m measurement
	for b.Loop() {
		empty := s.run(s.traffic.Empty, packets, sent)
		took, err := s.traffic.Bare(packets)
		s.must(err)
		m.add(took, empty.PerPacket)
	}
	m.report(b)
}

func benchmarkEmpty(b *testing.B) {
	s := newScene(b, lb.ForwardNAT, v4, 1)
	s.measure(b, s.traffic.Empty, sent, "")
}

func benchmarkFloor(b *testing.B) {
	s := newScene(b, lb.ForwardNAT, v4, 1)
	s.measure(b, s.traffic.Floor, sent, "")
}

func benchmarkNotOurs(b *testing.B) {
	s := newScene(b, lb.ForwardNAT, v4, 1)
	ends := harness.Ends{Src: v4.client(0), Dst: netip.MustParseAddrPort("192.0.2.99:80")}
	s.give(v4.frame(packet.NewTCP(ends.Src, ends.Dst, packet.ACK, "")), []harness.Ends{ends})
	s.measure(b, s.program, passed, "not-ours")
}

// measure has the empty program and another take turns. Every packet must have
// the verdict and have ended for the reason, if one is given.
func (s *scene) measure(b *testing.B, program *harness.Program, verdict datapath.Verdict, reason string) {
	b.Helper()
	before := s.counts()
	var m measurement
	made := 0
	for b.Loop() {
		made += m.round(s, program, packets, verdict)
	}
	if reason != "" {
		s.counted(before, reason, made)
	}
	m.report(b)
}

// measurement is what all rounds showed.
type measurement struct {
	perPacket, timesEmpty []float64
}

// round returns how many packets the program got.
func (m *measurement) round(s *scene, program *harness.Program, packets int, verdict datapath.Verdict) int {
	s.t.Helper()
	empty := s.run(s.traffic.Empty, packets, sent)
	took := s.run(program, packets, verdict)
	m.add(took.PerPacket, empty.PerPacket)
	return took.Packets
}

func (m *measurement) add(perPacket, empty float64) {
	m.perPacket, m.timesEmpty = append(m.perPacket, perPacket), append(m.timesEmpty, perPacket/empty)
}

func (m *measurement) report(b *testing.B) {
	b.ReportMetric(median(m.perPacket), "ns/op")
	b.ReportMetric(median(m.timesEmpty), "x-empty")
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
