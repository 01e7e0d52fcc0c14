// Package packets checks what docs/packets.md says of each kind of packet, by
// giving such a packet to the data plane.
package packets

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/config"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/internal/simulate"
	"github.com/tinylb/tinylb/test/need"
)

const configText = `
interfaces: [eth0]
limits: {flows: 1024, services: 2, backends: 4, table_entries: 1024}
services:
  - name: four
    address: 203.0.113.5:80
    protocol: [tcp, udp]
    forward: %[1]s
    backends: [{address: "%[2]s"}]
  - name: six
    address: "[2001:db8:5::5]:80"
    protocol: [tcp, udp]
    forward: %[1]s
    backends: [{address: "%[3]s"}]
`

// backendOf is the backend of a family.
func backendOf(six bool) netip.AddrPort {
	if six {
		return netip.MustParseAddrPort("[2001:db8:a::2]:80")
	}
	return netip.MustParseAddrPort("10.0.0.2:80")
}

func configFor(forward lb.Forward, otherFamily bool) []byte {
	return fmt.Appendf(nil, configText, forward, backendOf(otherFamily), backendOf(!otherFamily))
}

// stage is a data plane with the services of one mode.
type stage struct {
	*simulate.Simulator
	forward lb.Forward
	now     time.Time
	port    uint16 // of the next scene's client
	given   []packet.Record
}

func newStage(t *testing.T, forward lb.Forward, change func(*lb.Config)) *stage {
	t.Helper()
	cfg, _, err := config.Parse(configFor(forward, false), config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	change(&cfg)
	simulator, err := simulate.New(cfg, simulate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(simulator.Close)
	return &stage{Simulator: simulator, forward: forward, now: time.Unix(1000, 0), port: 40000}
}

// scene is a client of a family, which nobody has seen before.
type scene struct {
	*stage
	t    *testing.T
	six  bool
	port uint16
}

func (s *stage) scene(t *testing.T, six bool) *scene {
	s.port++
	return &scene{stage: s, t: t, six: six, port: s.port}
}

func (s *scene) backend() netip.AddrPort { return backendOf(s.six) }

func (s *scene) ends() (client, vip netip.AddrPort) {
	address := "198.51.100.7"
	vip = netip.MustParseAddrPort("203.0.113.5:80")
	if s.six {
		address, vip = "2001:db8:c::7", netip.MustParseAddrPort("[2001:db8:5::5]:80")
	}
	return netip.AddrPortFrom(netip.MustParseAddr(address), s.port), vip
}

// fromClient gives a packet the client's and the balancer's Ethernet addresses.
func fromClient(p packet.Packet) packet.Packet {
	p.SrcMAC, p.DstMAC = lb.MAC{2, 1, 0, 0, 0, 7}, lb.MAC{2, 0, 0, 0, 0, 5}
	return p
}

func (s *scene) tcp(flags packet.TCPFlags, payload string) packet.Packet {
	client, vip := s.ends()
	return fromClient(packet.NewTCP(client, vip, flags, payload))
}

func (s *scene) udp(payload string) packet.Packet {
	client, vip := s.ends()
	return fromClient(packet.NewUDP(client, vip, payload))
}

func (s *scene) echo() packet.Packet {
	client, vip := s.ends()
	return fromClient(packet.NewEcho(client.Addr(), vip.Addr(), 1, 1, "ping"))
}

func (s *scene) toOtherPort() []byte {
	p := s.tcp(packet.SYN, "")
	p.Dst = netip.AddrPortFrom(p.Dst.Addr(), 8080)
	return p.Frame()
}

func (s *scene) run(frame []byte) simulate.Step {
	s.t.Helper()
	s.now = s.now.Add(time.Millisecond)
	record := packet.Record{Time: s.now, Data: frame}
	s.given = append(s.given, record)
	step, err := s.Simulator.Run(record)
	if err != nil {
		s.t.Fatal(err)
	}
	return step
}

// open begins a flow and returns what reached the backend.
func (s *scene) open() packet.Packet {
	s.t.Helper()
	first := s.tcp(packet.SYN, "")
	step := s.run(first.Frame())
	if step.Reason != "new-flow" {
		s.t.Fatalf("a SYN is %s %s", step.Verdict, step.Reason)
	}
	if !s.forward.Translates() {
		return first // that is what is inside
	}
	arrived, err := packet.Read(step.Frame)
	if err != nil {
		s.t.Fatal(err)
	}
	return arrived
}

// answer is what the backend says to a packet that reached it.
func (s *scene) answer(arrived packet.Packet) packet.Packet {
	return arrived.Reply(packet.SYN|packet.ACK, "")
}

// row is a line of the table: what becomes of a kind of packet in each mode.
type row struct {
	name string
	want map[lb.Forward]string
}

func readTable(t *testing.T) []row {
	t.Helper()
	text, err := os.ReadFile("../../docs/packets.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 1+len(lb.Forwards()) {
			continue
		}
		for i := range cells {
			cells[i] = strings.ReplaceAll(strings.TrimSpace(cells[i]), "`", "")
		}
		if cells[0] == "packet" || strings.HasPrefix(cells[0], "---") {
			continue
		}
		r := row{name: cells[0], want: map[lb.Forward]string{}}
		for i, f := range lb.Forwards() {
			r.want[f] = cells[i+1]
		}
		rows = append(rows, r)
	}
	return rows
}

// footnotes are no part of what a cell says.
var footnotes = regexp.MustCompile(`<sup>.*?</sup>`)

func TestTable(t *testing.T) {
	need.Root(t)
	all := kinds()
	seen := map[string]bool{}
	stages := map[lb.Forward]*stage{}
	for _, forward := range lb.Forwards() {
		stages[forward] = newStage(t, forward, func(*lb.Config) {})
	}
	for _, r := range readTable(t) {
		k, known := all[r.name]
		if !known || seen[r.name] {
			t.Errorf("docs/packets.md: nothing tries %q, or it is there twice", r.name)
			continue
		}
		seen[r.name] = true
		t.Run(strings.ReplaceAll(r.name, "/", "-"), func(t *testing.T) {
			for _, forward := range lb.Forwards() {
				want := strings.TrimSpace(footnotes.ReplaceAllString(r.want[forward], ""))
				if want == "-" && forward == lb.ForwardDNAT && k.change != nil {
					continue // within a family only
				}
				stage := stages[forward]
				if k.change != nil {
					stage = newStage(t, forward, k.change)
				}
				for _, six := range []bool{false, true} {
					if k.only.is(six) {
						check(k, stage.scene(t, six), want)
					}
				}
			}
		})
	}
	for name := range all {
		if !seen[name] {
			t.Errorf("docs/packets.md has no row for %q", name)
		}
	}
}

func check(k kind, s *scene, want string) {
	s.t.Helper()
	step := s.run(k.last(s))
	if got := step.Verdict + " " + step.Reason; got != want {
		s.t.Errorf("%s, IPv6 %t: got %s, the table says %s", s.forward, s.six, got, want)
	}
	if step.Frame == nil {
		return
	}
	if err := packet.Verify(step.Frame); err != nil && !errors.Is(err, packet.ErrNotIP) { // ARP is not
		s.t.Errorf("%s, IPv6 %t: %v: % x", s.forward, s.six, err, step.Frame)
	}
}
