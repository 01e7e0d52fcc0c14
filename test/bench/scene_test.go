package bench

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/internal/reconcile"
	"github.com/tinylb/tinylb/test/bench/harness"
)

// family is one that all addresses of a scene are of.
type family struct {
	name                  string
	vip, backends, source string // the last two are the first of several
	clients               string // the first of very many
	payload               int    // that fills the harness's frame
}

var (
	v4 = family{"v4", "203.0.113.5:80", "10.0.0.2", "10.0.1.0", "198.18.0.0", 10}
	v6 = family{"v6", "[2001:db8:5::5]:80", "2001:db8:a::2", "2001:db8:b::", "2001:db8:c::", 6}
)

const (
	backendCount   = 10
	sourceCount    = 8 // with as many ports each as a million flows need
	portsOfAClient = 16
)

// after is the nth address after one, n below 2^24.
func after(first string, n int) netip.Addr {
	a := netip.MustParseAddr(first)
	bytes := a.AsSlice()
	for i := len(bytes) - 1; n > 0; i-- {
		n += int(bytes[i])
		bytes[i] = byte(n)
		n >>= 8
	}
	a, _ = netip.AddrFromSlice(bytes)
	return a
}

func (f family) client(n int) netip.AddrPort {
	return netip.AddrPortFrom(after(f.clients, n/portsOfAClient), uint16(10000+n%portsOfAClient))
}

// frame is a packet in a frame of the size that the harness takes.
func (f family) frame(p packet.Packet) []byte {
	p.SrcMAC, p.DstMAC = lb.MAC{2, 1, 0, 0, 0, 7}, lb.MAC{2, 0, 0, 0, 0, 5}
	size := f.payload
	if p.Protocol == lb.UDP {
		size += 20 - 8
	}
	p.Payload = make([]byte, size)
	p.DontFragment = p.Src.Addr().Is4() // as Linux sends TCP and UDP
	return p.Frame()
}

// scene is a data plane with one service, and the traffic that it gets.
type scene struct {
	t        testing.TB
	family   family
	ends     []harness.Ends
	datapath *datapath.Datapath
	traffic  *harness.Harness
	forward  lb.Forward
	program  *harness.Program // the data plane's
	service  uint32
	closed   bool
}

// newScene has so many flows to come, in no order.
func newScene(t testing.TB, forward lb.Forward, f family, flows int) *scene {
	t.Helper()
	return newSceneIn(t, forward, f, flows, max(flows*2, 1024))
}

// newSceneIn has a flow table of so many slots.
func newSceneIn(t testing.TB, forward lb.Forward, f family, flows, slots int) *scene {
	t.Helper()
	s := &scene{t: t, family: f, forward: forward, ends: make([]harness.Ends, flows)}
	vip := netip.MustParseAddrPort(f.vip)
	for i := range s.ends {
		s.ends[i] = harness.Ends{Src: f.client(i), Dst: vip}
	}
	shuffled(s.ends)
	cfg := f.config(forward, slots)
	var err error
	s.datapath, err = datapath.Open(datapath.Options{Limits: cfg.Limits})
	s.must(err)
	t.Cleanup(s.close)
	r, err := reconcile.New(s.datapath, cfg.Limits)
	s.must(err)
	hops := map[netip.Addr]lb.NextHop{}
	for _, a := range cfg.BackendAddresses() {
		hops[a] = lb.NextHop{Interface: datapath.LoopbackIndex, MAC: lb.MAC{2, 2, 0, 0, 0, 1}, Source: after(f.source, 0)}
	}
	_, err = r.Apply(cfg, hops)
	s.must(err)
	tables, err := s.datapath.ReadTables()
	s.must(err)
	for id := range tables.ServiceNames {
		s.service = id
	}
	s.traffic, err = harness.New(harness.Traffic{Frame: s.tcp(packet.SYN), Ends: s.ends})
	s.must(err)
	program, err := s.datapath.Unloaded(datapath.Attachment{})
	s.must(err)
	s.program, err = s.traffic.Load(program)
	s.must(err)
	return s
}

func (f family) config(forward lb.Forward, slots int) lb.Config {
	service := lb.Service{
		Name: "bench", Address: lb.VIPAt(netip.MustParseAddrPort(f.vip)), Protocols: []lb.Protocol{lb.TCP, lb.UDP},
		Forward: forward, Scheduler: lb.Maglev,
		SNAT:   lb.SNAT{Ports: lb.PortRange{First: 1024, Last: 32767}},
		Tunnel: lb.Tunnel{Port: 6080},
	}
	for i := range sourceCount {
		service.SNAT.Addresses = append(service.SNAT.Addresses, after(f.source, i))
	}
	for i := range backendCount {
		service.Backends = append(service.Backends, lb.Backend{Address: netip.AddrPortFrom(after(f.backends, i), 80), Weight: 1})
	}
	day := 24 * time.Hour
	return lb.Config{
		Services: []lb.Service{service},
		Timeouts: lb.Timeouts{
			TCPUnconfirmed: day, TCPEstablished: day, TCPHalfClosed: day, TCPClosed: day, UDPUnconfirmed: day, UDPStream: day,
		},
		Limits: lb.Limits{Flows: uint32(slots), Services: 2, Backends: 16, TableEntries: 4096},
	}
}

// shuffled puts ends into another order: were flows used in the order in which they
// were opened, the processor could fetch them ahead.
func shuffled(ends []harness.Ends) []harness.Ends {
	rng := rand.New(rand.NewPCG(1, 2))
	rng.Shuffle(len(ends), func(i, j int) { ends[i], ends[j] = ends[j], ends[i] })
	return ends
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) close() {
	if s.closed {
		return
	}
	s.closed = true
	if s.traffic != nil {
		s.traffic.Close()
	}
	s.datapath.Close()
}

func (s *scene) tcp(flags packet.TCPFlags) []byte {
	return s.family.frame(packet.NewTCP(s.ends[0].Src, s.ends[0].Dst, flags, ""))
}

// request is what a client sends: what opens a flow, and what follows.
func (s *scene) request(protocol lb.Protocol) (first, next []byte) {
	if protocol == lb.UDP {
		datagram := s.family.frame(packet.NewUDP(s.ends[0].Src, s.ends[0].Dst, ""))
		return datagram, datagram
	}
	return s.tcp(packet.SYN), s.tcp(packet.ACK)
}

// establish opens the flows and brings them so far that packets change nothing
// about them any more. Then come the packets that follow, of all flows in another order.
func (s *scene) establish(first, next []byte) {
	s.t.Helper()
	s.give(first, s.ends)
	s.open()
	if s.forward.Translates() {
		s.answer()
		s.run(s.program, len(s.ends), sent)
	}
	s.give(next, shuffled(s.ends))
	s.run(s.program, len(s.ends), sent)
}

// answer makes the traffic what backends send, of all flows in no order.
func (s *scene) answer() {
	s.t.Helper()
	listed, err := s.datapath.Flows()
	s.must(err)
	ends := make([]harness.Ends, len(listed))
	for i, f := range listed {
		ends[i] = harness.Ends{Src: f.Backend, Dst: f.Source}
	}
	answer := packet.NewTCP(ends[0].Src, ends[0].Dst, packet.ACK, "")
	if listed[0].Protocol == lb.UDP {
		answer = packet.NewUDP(ends[0].Src, ends[0].Dst, "")
	}
	s.give(s.family.frame(answer), shuffled(ends))
}

// give makes other traffic.
func (s *scene) give(frame []byte, ends []harness.Ends) {
	s.t.Helper()
	s.must(s.traffic.Give(harness.Traffic{Frame: frame, Ends: ends}))
}

// open makes the flows with the traffic that there is.
func (s *scene) open() {
	s.t.Helper()
	before := s.counts()
	s.run(s.program, len(s.ends), sent)
	if n := s.counts()["new-flow"] - before["new-flow"]; n != uint64(len(s.ends)) {
		s.t.Fatalf("%d flows were opened, want %d", n, len(s.ends))
	}
}

// run gives packets to a program. All must have the one verdict.
func (s *scene) run(program *harness.Program, packets int, verdict datapath.Verdict) harness.Result {
	s.t.Helper()
	result, err := s.traffic.Run(program, packets)
	s.must(err)
	if !result.All(verdict) {
		s.t.Fatalf("of %d packets %d had the verdicts 0 to %d; want all %s", result.Packets, result.Verdicts, len(result.Verdicts)-1, verdict)
	}
	return result
}

// The verdicts of what passes and what is sent on.
const passed, sent datapath.Verdict = 2, 3

// counts are the packets by reason, of the service and of none.
func (s *scene) counts() map[string]uint64 {
	s.t.Helper()
	counts, err := s.datapath.ReasonCounts([]uint32{s.service})
	s.must(err)
	all := map[string]uint64{}
	for _, c := range counts {
		all[c.Reason.String()] += c.Packets
	}
	return all
}

// counted fails unless so many packets more ended for a reason, and none for another.
func (s *scene) counted(before map[string]uint64, reason string, want int) {
	s.t.Helper()
	for got, n := range s.counts() {
		switch more := n - before[got]; {
		case got == reason && more != uint64(want), got != reason && more > 0:
			s.t.Fatalf("%d packets ended as %s; want %d, all of them %s", more, got, want, reason)
		}
	}
}
