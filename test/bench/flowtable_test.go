package bench

import (
	"testing"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/test/bench/harness"
	"github.com/tinylb/tinylb/test/need"
)

// BenchmarkFlowTable is what a flow takes, and what becomes of flows when four fifths of the table are taken.
func BenchmarkFlowTable(b *testing.B) {
	need.Root(b)
	b.Run("v4", func(b *testing.B) { benchmarkSize(b, v4, "flows") })
	b.Run("v6", func(b *testing.B) { benchmarkSize(b, v6, "flows", "all_flow_prefixes") })
	b.Run("fill=80", func(b *testing.B) {
		for b.Loop() {
			f := fill(b, lb.ForwardNAT, v4, 1<<20)
			f.churn()
			b.ReportMetric(float64(f.evicted), "evicted")
			b.ReportMetric(float64(f.failed), "failed")
			f.close()
		}
	})
}

// benchmarkSize adds up what each flow has in the maps of that name, and its share of what leads there.
func benchmarkSize(b *testing.B, f family, names ...string) {
	s := newScene(b, lb.ForwardNAT, f, 1_000_000)
	program, err := s.datapath.Unloaded(datapath.Attachment{})
	s.must(err)
	flow, index := 0, 0
	for b.Loop() {
		flow, index = 0, 0
		for _, name := range names {
			flow += int(program.Maps[name].ValueSize())
		}
		for _, name := range []string{"buckets", "answer_slots"} {
			index += int(program.Maps[name].ValueSize() * program.Maps[name].MaxEntries())
		}
	}
	b.ReportMetric(float64(flow), "bytes/flow")
	b.ReportMetric(float64(index)/float64(program.Maps["flows"].MaxEntries()), "index-bytes/flow")
}

// While a fifth of the table is free each new flow gets a slot, and none that lives loses its own, however flows come and go.
func TestFourFifthsOfTheFlowTable(t *testing.T) {
	need.Root(t)
	for _, forward := range []lb.Forward{lb.ForwardNAT, lb.ForwardIPIP} {
		for _, family := range []family{v4, v6} {
			t.Run(string(forward)+" "+family.name, func(t *testing.T) {
				f := fill(t, forward, family, 1<<18)
				f.check(t, "filled")
				f.churn()
				f.check(t, "with flows that come and go")
				f.close()
			})
		}
	}
}

// filled is a flow table with four fifths of its slots taken by established flows.
type filled struct {
	*scene
	slots           int
	live            []harness.Ends // in the order in which they came
	next            []harness.Ends // flows to come
	given           int            // flows of the traffic
	evicted, failed int
}

// churns is how often some flows, a fraction of the slots, make way for others.
const churns, churning = 3, 20

func fill(t testing.TB, forward lb.Forward, f family, slots int) *filled {
	t.Helper()
	flows := slots * 4 / 5
	s := newSceneIn(t, forward, f, flows+churns*slots/churning, slots)
	all := &filled{scene: s, slots: slots, next: s.ends}
	all.grow(flows)
	return all
}

// grow establishes flows more. They count as failed if they cannot be opened.
func (f *filled) grow(flows int) {
	f.t.Helper()
	some := f.next[:flows]
	f.live, f.next = append(f.live, some...), f.next[flows:]
	f.give(f.tcp(packet.SYN), some)
	f.failed += f.others("new-flow", "forwarded") // the latter if a signal had the test-run begin again
	if f.forward.Translates() {
		f.answerNew()
	}
	f.give(f.tcp(packet.ACK), some)
	f.evicted += f.others("forwarded")
}

// answerNew sends what backends say first.
func (f *filled) answerNew() {
	f.t.Helper()
	listed, err := f.datapath.Flows()
	f.must(err)
	var ends []harness.Ends
	for _, flow := range listed {
		if flow.Phase == "tcp-unconfirmed" {
			ends = append(ends, harness.Ends{Src: flow.Backend, Dst: flow.Source})
		}
	}
	f.give(f.family.frame(packet.NewTCP(ends[0].Src, ends[0].Dst, packet.SYN|packet.ACK, "")), ends)
	f.evicted += f.others("reply")
}

// give makes other traffic.
func (f *filled) give(frame []byte, ends []harness.Ends) {
	f.t.Helper()
	f.given = len(ends)
	f.scene.give(frame, ends)
}

// others gives a packet of each flow of the traffic, and counts those that ended for other reasons.
func (f *filled) others(reasons ...string) int {
	f.t.Helper()
	before := f.counts()
	result, err := f.traffic.Run(f.program, f.given)
	f.must(err)
	others := result.Packets
	after := f.counts()
	for _, reason := range reasons {
		others -= int(after[reason] - before[reason])
	}
	return others
}

// churn has flows close and others come. The closed ones stay until somebody needs their room.
func (f *filled) churn() {
	f.t.Helper()
	for range churns {
		some := f.slots / churning
		f.give(f.tcp(packet.RST), f.live[:some])
		f.evicted += f.others("forwarded")
		f.live = f.live[some:]
		f.grow(some)
	}
	f.give(f.tcp(packet.ACK), f.live)
	f.evicted += f.others("forwarded")
}

func (f *filled) check(t *testing.T, when string) {
	t.Helper()
	if f.failed > 0 || f.evicted > 0 {
		t.Errorf("%s: %d flows could not be opened, %d lost their slots; want none", when, f.failed, f.evicted)
	}
	listed, err := f.datapath.Flows()
	f.must(err)
	live := 0
	for _, flow := range listed {
		if flow.Phase == "tcp-established" {
			live++
		}
	}
	if live != len(f.live) {
		t.Errorf("%s: %d flows are established, want %d of %d slots", when, live, len(f.live), f.slots)
	}
}
