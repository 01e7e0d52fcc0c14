package harness_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/test/bench/harness"
	"github.com/tinylb/tinylb/test/need"
)

const dropped, sent datapath.Verdict = 1, 3

// Where things are in the frames and in front of them.
const ethernetSize, outerSize, checksumInTCP = 14, 20, 16

// Each frame is the template with the next flow's ends, whatever the program did to the one before.
func TestFreshFrames(t *testing.T) {
	need.Root(t)
	for name, f := range map[string]struct {
		client                      string
		payload, ipChecksum, ipSize int
	}{
		"v4": {"198.51.100.%d:1000%d", 10, 10, 20},
		"v6": {"[2001:db8::%d]:1000%d", 6, 0, 40},
	} {
		t.Run(name, func(t *testing.T) {
			var traffic harness.Traffic
			var frames [][]byte
			for i := range 3 {
				ends := harness.Ends{Src: address(f.client, i), Dst: address(f.client, 9-i)}
				p := packet.NewTCP(ends.Src, ends.Dst, packet.ACK, "")
				p.Payload = make([]byte, f.payload)
				frame := p.Frame()
				if f.ipChecksum > 0 { // the checksums are the template's
					clear(frame[ethernetSize+f.ipChecksum:][:2])
				}
				clear(frame[ethernetSize+f.ipSize+checksumInTCP:][:2])
				frames, traffic.Ends = append(frames, frame), append(traffic.Ends, ends)
			}
			traffic.Frame = frames[0]
			checkFresh(t, traffic, frames)
		})
	}
}

func checkFresh(t *testing.T, traffic harness.Traffic, frames [][]byte) {
	t.Helper()
	h, err := harness.New(traffic)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	made := 0
	for _, n := range []int{2, 3, 5, 700} {
		made += n
		want := frames[(made-1)%len(frames)]
		if got := run(t, h, h.Empty, n); !bytes.Equal(got, want) {
			t.Errorf("frame %d is\n%x, want\n%x", made, got, want)
		}
		got, want := run(t, h, h.Floor, n), want[ethernetSize:]
		if len(got) != ethernetSize+outerSize+len(want) || !bytes.Equal(got[ethernetSize+outerSize:], want) {
			t.Errorf("frame %d, encapsulated, is\n%x, want at its end\n%x", made, got, want)
		}
	}
}

func address(pattern string, n int) netip.AddrPort {
	return netip.MustParseAddrPort(fmt.Sprintf(pattern, n, n))
}

// run returns the last frame.
func run(t *testing.T, h *harness.Harness, program *harness.Program, packets int) []byte {
	t.Helper()
	result, err := h.Run(program, packets)
	if err != nil {
		t.Fatal(err)
	}
	if result.Packets != packets || !result.All(sent) || result.All(dropped) {
		t.Fatalf("%d packets with the verdicts %v, want %d sent", result.Packets, result.Verdicts, packets)
	}
	if timed := packets >= harness.Fewest; timed != (result.PerPacket > 0) {
		t.Errorf("%d packets took %v ns each", packets, result.PerPacket)
	}
	return result.Last
}
