package simulate

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/test/need"
)

const (
	aClient = "192.17.0.4:40000"
	vip     = "192.17.0.5:80"
	guePort = 6080
)

// tutorial has one backend with a name and one without.
func tutorial() lb.Config {
	return lb.Config{
		Services: []lb.Service{{
			Name: "web", Address: lb.VIPAt(netip.MustParseAddrPort(vip)), Protocols: []lb.Protocol{lb.TCP},
			Forward: lb.ForwardNAT, Scheduler: lb.Maglev, TableSize: 251,
			SNAT: lb.SNAT{Ports: lb.PortRange{First: 1024, Last: 32767}},
			Backends: []lb.Backend{
				{Name: "backend-a", Address: netip.MustParseAddrPort("192.17.0.2:80"), Weight: 1},
				{Address: netip.MustParseAddrPort("192.17.0.3:8080"), Weight: 1},
			},
		}},
		Timeouts: lb.Timeouts{
			TCPUnconfirmed: time.Minute, TCPEstablished: 2 * time.Hour, TCPHalfClosed: 4 * time.Minute,
			TCPClosed: time.Minute, UDPUnconfirmed: 30 * time.Second, UDPStream: 2 * time.Minute,
		},
		Limits: lb.Limits{Flows: 1024, Services: 16, Backends: 64, TableEntries: 4096},
	}
}

func simulator(t *testing.T, cfg lb.Config, opts Options) *Simulator {
	t.Helper()
	need.Root(t)
	s, err := New(cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func clientMAC() lb.MAC { return lb.MAC{2, 0, 0, 0, 0, 4} }
func localMAC() lb.MAC  { return lb.MAC{2, 0, 0, 0, 0, 5} }

func request(client string, flags packet.TCPFlags, payload string) packet.Packet {
	p := packet.NewTCP(netip.MustParseAddrPort(client), netip.MustParseAddrPort(vip), flags, payload)
	p.SrcMAC, p.DstMAC = clientMAC(), localMAC()
	return p
}

// give runs a packet and reads what left.
func give(t *testing.T, s *Simulator, at time.Time, p packet.Packet) (Step, packet.Packet) {
	t.Helper()
	step, err := s.Run(packet.Record{Time: at, Data: p.Frame()})
	if err != nil {
		t.Fatal(err)
	}
	if step.Frame == nil {
		return step, packet.Packet{}
	}
	if err := packet.Verify(step.Frame, guePort); err != nil {
		t.Fatal(err)
	}
	out, err := packet.Read(step.Frame)
	if err != nil {
		t.Fatal(err)
	}
	return step, out
}

func wantStep(t *testing.T, got Step, verdict, reason, service, backend string) {
	t.Helper()
	got.Frame = nil
	if want := (Step{Verdict: verdict, Reason: reason, Service: service, Backend: backend}); !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

// There and back: the frames are those that the interface would send.
func TestConversation(t *testing.T) {
	now := time.Unix(1, 0)
	for name, tc := range map[string]struct {
		sources []netip.Addr
		opts    Options
		verdict string     // toward the backend
		mac     lb.MAC     // of the next hop
		source  netip.Addr // stands for the client
	}{
		"defaults": {
			verdict: "TX", mac: lb.MAC{2, 0, 0, 0, 0, 1}, source: netip.MustParseAddr("192.17.0.5"),
		},
		"another next hop": {
			opts:    Options{NextHopMAC: lb.MAC{2, 9}},
			verdict: "TX", mac: lb.MAC{2, 9}, source: netip.MustParseAddr("192.17.0.5"),
		},
		"another interface": {
			opts:    Options{OutInterface: true},
			verdict: "REDIRECT", mac: lb.MAC{2, 0, 0, 0, 0, 1}, source: netip.MustParseAddr("192.17.0.5"),
		},
		"a source address": {
			sources: []netip.Addr{netip.MustParseAddr("192.17.0.99")},
			verdict: "TX", mac: lb.MAC{2, 0, 0, 0, 0, 1}, source: netip.MustParseAddr("192.17.0.99"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := tutorial()
			cfg.Services[0].SNAT.Addresses = tc.sources
			s := simulator(t, cfg, tc.opts)
			syn := request(aClient, packet.SYN, "")
			step, out := give(t, s, now, syn)
			wantStep(t, step, tc.verdict, "new-flow", "web", step.Backend)
			label := map[string]string{"192.17.0.2:80": "backend-a", "192.17.0.3:8080": "192.17.0.3:8080"}
			if step.Backend == "" || label[out.Dst.String()] != step.Backend {
				t.Errorf("went to %v, which is called %q", out.Dst, step.Backend)
			}
			want := syn
			want.TTL--
			want.SrcMAC, want.DstMAC = localMAC(), tc.mac
			want.Src, want.Dst = netip.AddrPortFrom(tc.source, out.Src.Port()), out.Dst
			if diff := packet.Diff(want.Frame(), step.Frame); diff != "" {
				t.Errorf("toward the backend:\n%s", diff)
			}

			answer := out.Reply(packet.SYN|packet.ACK, "")
			answer.DstMAC = localMAC()
			step, _ = give(t, s, now, answer)
			wantStep(t, step, "TX", "reply", "web", label[out.Dst.String()])
			want = answer
			want.TTL--
			want.SrcMAC, want.DstMAC, want.Src, want.Dst = localMAC(), clientMAC(), syn.Dst, syn.Src
			if diff := packet.Diff(want.Frame(), step.Frame); diff != "" {
				t.Errorf("toward the client:\n%s", diff)
			}
		})
	}
}

func TestTimeIsTheCaptures(t *testing.T) {
	s := simulator(t, tutorial(), Options{})
	start := time.Unix(1_700_000_000, 5)
	step, _ := give(t, s, start, request(aClient, packet.SYN, ""))
	wantStep(t, step, "TX", "new-flow", "web", step.Backend)
	step, _ = give(t, s, start.Add(59*time.Second), request(aClient, packet.ACK, ""))
	wantStep(t, step, "TX", "forwarded", "web", step.Backend)
	step, _ = give(t, s, start.Add(2*time.Minute), request(aClient, packet.ACK, ""))
	wantStep(t, step, "DROP", "no-flow", "web", "")
}

// Flows whose time is over do not count for limits, as if the kernel's timer ran by the capture's clock.
func TestDeadFlowsAreNotCounted(t *testing.T) {
	cfg := tutorial()
	cfg.Services[0].MaxFlows = 1
	s := simulator(t, cfg, Options{})
	begin := time.Unix(1000, 0)
	for after, want := range []string{0: "new-flow", 30: "max-flows-service", 70: "new-flow", 75: "max-flows-service"} {
		if want == "" {
			continue
		}
		client := netip.AddrPortFrom(netip.MustParseAddr("192.17.0.4"), uint16(40000+after)).String()
		step, _ := give(t, s, begin.Add(time.Duration(after)*time.Second), request(client, packet.SYN, ""))
		if step.Reason != want {
			t.Errorf("after %d s: %s, want %s", after, step.Reason, want)
		}
	}
}

func TestFramesThatStay(t *testing.T) {
	s := simulator(t, tutorial(), Options{})
	for size := range minFrame {
		step, err := s.Run(packet.Record{Data: make([]byte, size)})
		if err != nil {
			t.Fatal(err)
		}
		wantStep(t, step, "PASS", "not-ip", "", "")
	}
	step, _ := give(t, s, time.Unix(1, 0), packet.NewEcho(netip.MustParseAddr("192.17.0.4"), netip.MustParseAddr("192.17.0.5"), 1, 1, ""))
	wantStep(t, step, "PASS", "icmp", "", "")
	if step.Frame != nil {
		t.Error("a frame that passed has left")
	}
}

// capture is some connections' first packets, and what tinylb has nothing to do with.
func capture() packet.File {
	in := packet.File{Nanoseconds: true}
	add := func(p packet.Packet) {
		at := time.Unix(1, int64(len(in.Records)*1001)).UTC()
		in.Records = append(in.Records, packet.Record{Time: at, Data: p.Frame()})
	}
	for port := 40000; port < 40010; port++ {
		from := netip.AddrPortFrom(netip.MustParseAddr("192.17.0.4"), uint16(port))
		add(request(from.String(), packet.SYN, ""))
		add(packet.NewUDP(from, netip.MustParseAddrPort("192.17.0.5:53"), "not ours"))
		add(request(from.String(), packet.ACK, "data"))
	}
	return in
}

func runAll(t *testing.T, s *Simulator, in packet.File) (packet.File, []Step) {
	t.Helper()
	var steps []Step
	out, err := s.RunAll(in, func(n int, step Step) error {
		if steps = append(steps, step); n != len(steps) {
			t.Errorf("frame %d is said to be number %d", len(steps), n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, steps
}

func TestRunAll(t *testing.T) {
	in := capture()
	out, steps := runAll(t, simulator(t, tutorial(), Options{}), in)
	if len(steps) != len(in.Records) || !out.Nanoseconds {
		t.Errorf("%d steps for %d frames, nanoseconds %v", len(steps), len(in.Records), out.Nanoseconds)
	}
	var want []packet.Record
	for i, step := range steps {
		if left := i%3 != 1; left != (step.Verdict == "TX") {
			t.Errorf("frame %d: got %s %s", i+1, step.Verdict, step.Reason)
		} else if left {
			want = append(want, packet.Record{Time: in.Records[i].Time, Data: step.Frame})
		}
	}
	if !reflect.DeepEqual(out.Records, want) {
		t.Error("what came out is not what the steps say, in order, with the times of what came in")
	}
}

func TestSameInputSameOutput(t *testing.T) {
	cfg := tutorial()
	cfg.Services[0].Scheduler = lb.Random
	first, firstSteps := runAll(t, simulator(t, cfg, Options{}), capture())
	second, secondSteps := runAll(t, simulator(t, cfg, Options{}), capture())
	if !reflect.DeepEqual(first, second) || !reflect.DeepEqual(firstSteps, secondSteps) {
		t.Error("two runs of one capture differ")
	}
}

func TestErrorsNameTheFrame(t *testing.T) {
	s := simulator(t, tutorial(), Options{})
	in := capture()
	in.Records[1].Data = make([]byte, packet.MaxRecord)
	_, err := s.RunAll(in, func(int, Step) error { return nil })
	if !errors.Is(err, datapath.ErrFrame) || !strings.Contains(err.Error(), "frame 2") {
		t.Errorf("got %v, want that frame 2 is too big", err)
	}
	stop := errors.New("stop")
	if _, err := s.RunAll(capture(), func(int, Step) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want what emit says", err)
	}
}

func TestNoRoom(t *testing.T) {
	need.Root(t)
	cfg := tutorial()
	cfg.Limits.TableEntries = 16
	if s, err := New(cfg, Options{}); err == nil {
		s.Close()
		t.Error("a table of 251 entries went into 16")
	}
}
