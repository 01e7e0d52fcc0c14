// Package odd has others judge what becomes of odd packets: scapy builds them,
// tshark reads what leaves, and verdicts.md says what must become of each.
package odd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/need"
	"github.com/tinylb/tinylb/test/testnet"
)

const configText = `
interfaces: [eth0]
limits: {flows: 4096, services: 2, backends: 2, table_entries: 1024}
snat: {addresses: [203.0.113.6, "2001:db8:5::6"], ports: 5000}
tunnel: {sources: [203.0.113.7, "2001:db8:5::7"], port: 6080}
services:
  - {name: four, address: "203.0.113.5:*", protocol: [tcp, udp], forward: %[1]s, backends: [{address: %[2]q}]}
  - {name: six, address: "[2001:db8:5::5]:*", protocol: [tcp, udp], forward: %[1]s, backends: [{address: %[3]q}]}
`

// suite is all cases for services of one mode.
type suite struct {
	forward  lb.Forward
	families []string // IP versions of VIP and backend, of each service
}

func suites() (all []suite) {
	for _, forward := range lb.Forwards() {
		all = append(all, suite{forward, []string{"44", "66"}})
		if forward != lb.ForwardDNAT && forward != lb.ForwardDSR {
			all = append(all, suite{forward, []string{"46", "64"}})
		}
	}
	return all
}

func (s suite) config() string {
	backends := map[byte]string{'4': "10.0.0.2", '6': "2001:db8:a::2"}
	return fmt.Sprintf(configText, s.forward, backends[s.families[0][1]], backends[s.families[1][1]])
}

// given is a frame that scapy built.
type given struct {
	At       int64 // in microseconds; no two frames have the same
	Families string
	Case     string
	Frame    string
	Port     int    // of the VIP, which no other case uses
	Bad      bool   // its datagram's checksum is wrong
	Sent     string // payload of the datagram that is complete with this, in hex
}

// step is what became of it.
type step struct{ Verdict, Reason string }

// bench is where a suite is run.
type bench struct {
	suite
	t        *testing.T
	python   string
	tinylb   string
	base     string // of the names of its files
	verdicts map[key]*row
}

func TestOddPackets(t *testing.T) {
	need.Root(t)
	need.Tool(t, "tshark")
	python, verdicts, dir := need.Scapy(t), readVerdicts(t), t.TempDir()
	if err := testnet.Build(dir); err != nil {
		t.Fatal(err)
	}
	t.Run("suites", func(t *testing.T) {
		for _, s := range suites() {
			name := fmt.Sprint(s.forward, " ", strings.Join(s.families, " "))
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				b := &bench{s, t, python, filepath.Join(dir, "tinylb"), filepath.Join(dir, strings.ReplaceAll(name, " ", "-")), verdicts}
				frames := b.generate()
				b.checkVerdicts(frames, b.simulate())
				b.checkArrivals(frames)
				b.checkFrames(frames)
			})
		}
	})
	for k, r := range verdicts {
		if !r.used.Load() {
			t.Errorf("verdicts.md: nobody sends %q of %q", k.frame, k.section)
		}
	}
}

func (b *bench) path(extension string) string { return b.base + extension }

func (b *bench) run(name string, args ...string) []byte {
	b.t.Helper()
	command := exec.CommandContext(b.t.Context(), name, args...)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	out, err := command.Output()
	if err != nil {
		b.t.Fatalf("%s %q: %v\n%s", name, args, err, complaints.Bytes())
	}
	return out
}

func decodeLines[T any](t *testing.T, text []byte) (all []T) {
	t.Helper()
	for line := range bytes.Lines(text) {
		var one T
		if err := json.Unmarshal(line, &one); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, one)
	}
	return all
}

func (b *bench) generate() []given {
	b.t.Helper()
	args := append([]string{"-B", "odd.py", "generate", string(b.forward), b.path(".pcap")}, b.families...)
	return decodeLines[given](b.t, b.run(b.python, args...))
}

func (b *bench) simulate() []step {
	b.t.Helper()
	if err := os.WriteFile(b.path(".yaml"), []byte(b.config()), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return decodeLines[step](b.t, b.run(b.tinylb, "simulate", "-c", b.path(".yaml"), b.path(".pcap"), "-w", b.path(".out.pcap"), "-o", "json"))
}

// checkVerdicts compares what became of each frame with its row.
func (b *bench) checkVerdicts(frames []given, steps []step) {
	b.t.Helper()
	if len(steps) != len(frames) {
		b.t.Fatalf("%d frames, %d verdicts", len(frames), len(steps))
	}
	for i, f := range frames {
		r := b.verdicts[key{f.Case, f.Frame}]
		if r == nil {
			b.t.Errorf("verdicts.md has no row for %q of %q: %s %s", f.Frame, f.Case, steps[i].Verdict, steps[i].Reason)
			continue
		}
		if want, got := r.want(b.forward, f.Families), steps[i].Verdict+" "+steps[i].Reason; got != want {
			b.t.Errorf("%s, IPv%s: %q: got %s, want %s", f.Case, strings.Join(strings.Split(f.Families, ""), " to IPv"), f.Frame, got, want)
		}
	}
}

// datagram is one of UDP or a TCP segment, whole, as scapy sees it.
type datagram struct {
	Port      int
	Fragments int
	Payload   string
}

// checkArrivals wants of each datagram that was sent in fragments the same payload
// on both sides, or none on the other.
func (b *bench) checkArrivals(frames []given) {
	b.t.Helper()
	in, out := b.reassemble(".pcap", frames), b.reassemble(".out.pcap", frames)
	wanted := map[int][]string{}
	for _, f := range frames {
		if f.Sent == "" {
			continue
		}
		if !slices.Contains(in[f.Port], f.Sent) {
			b.t.Errorf("%s: scapy itself does not find the datagram in its fragments", f.Case)
		}
		if b.arrives(f) {
			wanted[f.Port] = append(wanted[f.Port], f.Sent)
		}
	}
	for _, f := range frames {
		want, got := wanted[f.Port], out[f.Port]
		delete(out, f.Port)
		delete(wanted, f.Port)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			b.t.Errorf("%s, IPv%s: %d datagrams arrive, want %d, or others", f.Case, f.Families, len(got), len(want))
		}
	}
}

// arrives reports whether the datagram that is complete with this frame gets to
// the other side.
func (b *bench) arrives(f given) bool {
	r := b.verdicts[key{f.Case, arrives}]
	return r == nil || r.want(b.forward, f.Families) != "nothing"
}

// reassemble returns, by port, what was in fragments in a capture, or as such sent.
func (b *bench) reassemble(extension string, frames []given) map[int][]string {
	b.t.Helper()
	sent := map[string]bool{}
	for _, f := range frames {
		sent[f.Sent] = f.Sent != ""
	}
	payloads := map[int][]string{}
	for _, d := range decodeLines[datagram](b.t, b.run(b.python, "-B", "odd.py", "reassemble", b.path(extension))) {
		if d.Fragments > 1 || sent[d.Payload] {
			payloads[d.Port] = append(payloads[d.Port], d.Payload)
		}
	}
	return payloads
}
