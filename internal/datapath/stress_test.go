package datapath_test

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/datapath/stresstest"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/internal/reconcile"
	"github.com/tinylb/tinylb/test/need"
)

// stressCase is a data plane that several CPUs give packets at once.
type stressCase struct {
	name      string
	plan      stresstest.Plan
	forward   lb.Forward
	scheduler lb.Scheduler
	backends  int
	ports     int
	slots     uint32
	timeout   time.Duration // of flows that are not established
}

func (c stressCase) config() lb.Config {
	cfg := lb.Config{Limits: lb.Limits{Flows: c.slots, Services: 4, Backends: 256, TableEntries: 16384}}
	for vip := range c.plan.VIPs {
		s := lb.Service{
			Name:      string(rune('a' + vip)),
			Address:   lb.VIPAt(netip.AddrPortFrom(c.plan.Address(stresstest.VIP, vip), stresstest.Port)),
			Protocols: []lb.Protocol{lb.TCP, lb.UDP}, Forward: c.forward, Scheduler: c.scheduler, TableSize: someTable,
			SNAT: lb.SNAT{
				Addresses: []netip.Addr{c.plan.Address(stresstest.Source, 0)},
				Ports:     lb.PortRange{First: 2000, Last: uint16(2000 + c.ports - 1)},
			},
			Tunnel: lb.Tunnel{Port: 6080},
		}
		for n := range c.backends {
			s.Backends = append(s.Backends, lb.Backend{
				Address: netip.AddrPortFrom(c.plan.Address(stresstest.Backend, uint32(n)), stresstest.Port), Weight: 1,
			})
		}
		cfg.Services = append(cfg.Services, s)
	}
	day := 24 * time.Hour
	cfg.Timeouts = lb.Timeouts{TCPEstablished: day, TCPHalfClosed: day, UDPStream: day}
	cfg.Timeouts.TCPUnconfirmed, cfg.Timeouts.TCPClosed, cfg.Timeouts.UDPUnconfirmed = c.timeout, c.timeout, c.timeout
	return cfg
}

// stressed is a case under way.
type stressed struct {
	t          *testing.T
	c          stressCase
	datapath   *datapath.Datapath
	reconciler *reconcile.Reconciler
	hops       map[netip.Addr]lb.NextHop
	stress     *stresstest.Stress
	cpus       []int
}

func startStress(t *testing.T, c stressCase) *stressed {
	t.Helper()
	need.Root(t)
	s := &stressed{t: t, c: c}
	cfg := c.config()
	var err error
	s.datapath, err = datapath.Open(datapath.Options{Limits: cfg.Limits})
	s.must(err)
	t.Cleanup(s.datapath.Close)
	s.must(s.datapath.StartSweeper()) // it is one more who competes
	s.reconciler, err = reconcile.New(s.datapath, cfg.Limits)
	s.must(err)
	s.hops = map[netip.Addr]lb.NextHop{}
	for _, a := range cfg.BackendAddresses() {
		s.hops[a] = lb.NextHop{Interface: datapath.LoopbackIndex, MAC: lb.MAC{2, 2, 0, 0, 0, 1}, Source: c.plan.Address(stresstest.Source, 0)}
	}
	_, err = s.reconciler.Apply(cfg, s.hops)
	s.must(err)
	behind, err := s.datapath.Unloaded(datapath.Attachment{})
	s.must(err)
	s.stress, err = stresstest.Load(behind, c.plan)
	s.must(err)
	t.Cleanup(s.stress.Close)
	s.cpus, err = stresstest.CPUs()
	s.must(err)
	return s
}

func (s *stressed) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// run gives packets on two CPUs, on each so many at a time, while the flow table is listed over and over.
func (s *stressed) run(packets int, until time.Time) {
	s.t.Helper()
	var threads, reader sync.WaitGroup
	var over atomic.Bool
	listings, most := 0, 0
	reader.Go(func() {
		for !over.Load() {
			flows, err := s.datapath.Flows()
			if err != nil {
				s.t.Error(err)
				return
			}
			listings, most = listings+1, max(most, len(flows))
			for _, f := range flows {
				if !s.makesSense(f) {
					s.t.Errorf("listed a flow that there cannot be: %+v", f)
					return
				}
			}
		}
	})
	for n := range 2 {
		threads.Go(func() {
			for {
				if err := s.stress.Run(s.cpus[n%len(s.cpus)], packets); err != nil {
					s.t.Error(err)
					return
				}
				if !time.Now().Before(until) {
					return
				}
			}
		})
	}
	threads.Wait()
	over.Store(true)
	reader.Wait()
	s.t.Logf("listed %d times, at most %d flows", listings, most)
}

func (s *stressed) makesSense(f datapath.Flow) bool {
	p := s.c.plan
	sense := p.Has(stresstest.Client, f.Client.Addr()) && p.Has(stresstest.VIP, f.VIP.Addr()) &&
		p.Has(stresstest.Backend, f.Backend.Addr()) && f.Forward == s.c.forward
	return sense && (!f.Forward.Translates() || f.Source == f.Client || p.Has(stresstest.Source, f.Source.Addr()))
}

// check fails the test unless all packets were rightly treated and counted, and the flow table is in order.
func (s *stressed) check() (live []datapath.Flow, counts map[string]uint64) {
	s.t.Helper()
	s.pauseSweeper()
	live, err := s.datapath.LiveFlows()
	if err != nil {
		text := err.Error()
		s.t.Errorf("the flow table: %s", text[:min(len(text), 1000)])
	}
	for _, f := range live {
		if !s.makesSense(f) {
			s.t.Errorf("a flow that there cannot be: %+v", f)
		}
	}
	r, err := s.stress.Results()
	s.must(err)
	for what, n := range r.Wrong {
		s.t.Errorf("%d packets: %s", n, what)
	}
	counts = s.counts()
	s.t.Logf("%d packets, %d flows live, %v", r.Made, len(live), counts)
	dropped := uint64(0)
	for reason, n := range counts {
		switch reason {
		case "new-flow", "new-flow-snat", "forwarded", "reply", "not-ours":
		case "no-flow", "flow-table-full", "flow-table-busy", "snat-exhausted":
			dropped += n
		default:
			s.t.Errorf("%d packets ended as %s", n, reason)
		}
	}
	sent := counts["new-flow"] + counts["new-flow-snat"] + counts["forwarded"] + counts["reply"]
	if sent != r.Sent || counts["not-ours"] != r.Passed || dropped != r.Dropped || r.Unjudged > r.Sent/100 {
		s.t.Errorf("counted %v, but there were %+v", counts, r)
	}
	return live, counts
}

func (s *stressed) counts() map[string]uint64 {
	s.t.Helper()
	tables, err := s.datapath.ReadTables()
	s.must(err)
	services := []uint32{}
	for id := range tables.ServiceNames {
		services = append(services, id)
	}
	counts, err := s.datapath.ReasonCounts(services)
	s.must(err)
	all := map[string]uint64{}
	for _, c := range counts {
		all[c.Reason.String()] += c.Packets
	}
	return all
}

// pauseSweeper sees to it that no flow's time is over, so that nothing changes without packets.
func (s *stressed) pauseSweeper() {
	s.t.Helper()
	cfg, year := s.c.config(), 365*24*time.Hour
	cfg.Timeouts = lb.Timeouts{
		TCPUnconfirmed: year, TCPEstablished: year, TCPHalfClosed: year, TCPClosed: year, UDPUnconfirmed: year, UDPStream: year,
	}
	_, err := s.reconciler.Apply(cfg, s.hops)
	s.must(err)
}

// end takes all backends away, whose flows are then cleared, and counted no more.
func (s *stressed) end() {
	s.t.Helper()
	_, err := s.reconciler.Apply(lb.Config{Limits: s.c.config().Limits}, nil)
	s.must(err)
	awaitSwept(s.t, s.datapath)
	_, err = s.datapath.LiveFlows()
	s.must(err)
}

// kinds are some of packets, as often as they are named.
func kinds(some ...stresstest.Kind) []stresstest.Kind {
	return slices.Repeat(some, 16/len(some))
}

const (
	syn  = stresstest.Kind(packet.SYN)
	ack  = stresstest.Kind(packet.ACK)
	fin  = stresstest.Kind(packet.FIN | packet.ACK)
	rst  = stresstest.Kind(packet.RST)
	back = stresstest.Answer
)

func six(p stresstest.Plan) stresstest.Plan {
	p.V6 = true
	return p
}

// stressTime is how long CPUs compete in each case.
const stressTime = 700 * time.Millisecond

// Two CPUs open the same flows at the same time. Backends are random: were there two flows of a client, its
// packets would go to different ones.
func TestCPUsOpenTheSameFlows(t *testing.T) {
	const clients = 1 << 17
	for _, tc := range []struct {
		forward   lb.Forward
		v6        bool
		scheduler lb.Scheduler
	}{{lb.ForwardNAT, false, lb.Random}, {lb.ForwardDNAT, true, lb.Random}, {lb.ForwardIPIP, false, lb.LeastConn}} {
		t.Run(string(tc.forward), func(t *testing.T) {
			s := startStress(t, stressCase{
				forward: tc.forward, scheduler: tc.scheduler, backends: 8, ports: 30000, slots: 2 * clients, timeout: time.Hour,
				plan: stresstest.Plan{
					Clients: clients, VIPs: 1, Kinds: kinds(syn), V6: tc.v6, Together: true, Tunnels: !tc.forward.Translates(),
				},
			})
			s.run(clients, time.Time{})
			live, counts := s.check()
			// in dnat the other CPU may just have taken the answers that both want; where one holds a lock for long, both may give up
			n, busy := int(counts["new-flow"]+counts["new-flow-snat"]), int(counts["flow-table-busy"])
			if n != len(live) || n > clients || n < clients-busy/2 || busy > clients/1000 {
				t.Errorf("%d of %d flows are live: %v", len(live), clients, counts)
			}
		})
	}
}

// In dnat two flows of a client to one backend would have the same answers, so one of them gets another source, also
// when two CPUs open them at the same time.
func TestCPUsWantTheSameAnswers(t *testing.T) {
	const clients = 1 << 16
	s := startStress(t, stressCase{
		forward: lb.ForwardDNAT, scheduler: lb.Maglev, backends: 1, ports: 60000, slots: 4 * clients, timeout: time.Hour,
		plan: stresstest.Plan{Clients: clients, VIPs: 2, Kinds: kinds(syn), Together: true},
	})
	s.run(clients, time.Time{})
	live, counts := s.check()
	if n := counts["new-flow"] + counts["new-flow-snat"]; int(n) != len(live) || counts["new-flow-snat"] < clients/4 {
		t.Errorf("%d flows are live; %v", len(live), counts)
	}
}

// CPUs open, close and look up flows that take each other's slots and ports all the time.
func TestCPUsCompeteForRoom(t *testing.T) {
	all := stresstest.Plan{
		VIPs: 2,
		Kinds: []stresstest.Kind{
			syn, syn, syn, syn, ack, ack, ack, fin, back | syn | ack, back | syn | ack, back | ack, back | ack, back | fin, back | rst,
			stresstest.UDP, stresstest.UDP,
		},
	}
	tunnels := all
	tunnels.Tunnels, tunnels.Kinds = true, kinds(syn, stresstest.UDP, ack, rst)
	for _, c := range []stressCase{
		{name: "nat", plan: all, forward: lb.ForwardNAT, backends: 32, ports: 100, slots: 6, timeout: time.Hour},
		{name: "nat, few ports", plan: six(all), forward: lb.ForwardNAT, backends: 64, ports: 3, slots: 200, timeout: 5 * time.Millisecond},
		{name: "dnat", plan: six(all), forward: lb.ForwardDNAT, backends: 3, ports: 20, slots: 12, timeout: time.Hour},
		{name: "dnat, few ports", plan: all, forward: lb.ForwardDNAT, backends: 2, ports: 20, slots: 1000, timeout: 5 * time.Millisecond},
		{name: "ipip", plan: tunnels, forward: lb.ForwardIPIP, backends: 64, ports: 1, slots: 4, timeout: 5 * time.Millisecond},
		{name: "gue", plan: six(tunnels), forward: lb.ForwardGUE, backends: 64, ports: 1, slots: 200, timeout: time.Hour},
	} {
		c.scheduler = lb.Maglev
		if c.plan.Clients = c.slots; c.plan.Clients > 256 { // twice as many tuples in TCP, and in UDP
			c.plan.Clients = 256
		}
		t.Run(c.name, func(t *testing.T) {
			s := startStress(t, c)
			s.run(50_000, time.Now().Add(stressTime))
			_, counts := s.check()
			for _, reason := range []string{"new-flow", "forwarded"} {
				if counts[reason] < 500 {
					t.Errorf("only %d packets ended as %s", counts[reason], reason)
				}
			}
			s.end()
		})
	}
}
