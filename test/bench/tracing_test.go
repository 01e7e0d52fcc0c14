package bench

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
)

// benchmarkTracingOff counts what the kernel leaves of the code that records what
// became of a packet, when that is off: the instructions more that a packet executes.
func benchmarkTracingOff(b *testing.B) {
	s := newScene(b, lb.ForwardNAT, v4, 1)
	program, err := s.datapath.Load(datapath.Attachment{})
	s.must(err)
	b.Cleanup(func() { program.Close() })
	most := longestOf(s, program, "if (record_decisions)")
	if most == 0 {
		b.Fatal("no instruction of the loaded program is of the line that asks whether decisions are recorded")
	}
	for b.Loop() { // the count is the same each time
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(most), "instructions")
}

// longestOf counts the instructions of a source line where most of them follow each
// other in a loaded program. The line is in several places; a packet passes one of them, where it leaves.
func longestOf(s *scene, program *ebpf.Program, line string) (longest int) {
	s.t.Helper()
	info, err := program.Info()
	s.must(err)
	instructions, err := info.Instructions()
	s.must(err)
	here, source := 0, ""
	for _, instruction := range instructions {
		if at := instruction.Source(); at != nil {
			source = at.String()
		}
		if here++; !strings.Contains(source, line) {
			here = 0
		}
		longest = max(longest, here)
	}
	return longest
}
