package datapath_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/internal/reconcile"
	"github.com/tinylb/tinylb/test/need"
)

// node is one of several balancers with the same config.
type node struct {
	t          *testing.T
	datapath   *datapath.Datapath
	reconciler *reconcile.Reconciler
	runner     *datapath.Runner
	backends   map[uint32]netip.AddrPort
}

func startNode(t *testing.T, limits lb.Limits) *node {
	t.Helper()
	n := &node{t: t}
	var err error
	n.datapath, err = datapath.Open(datapath.Options{Limits: limits})
	n.must(err)
	t.Cleanup(n.datapath.Close)
	n.reconciler, err = reconcile.New(n.datapath, limits)
	n.must(err)
	n.runner, err = n.datapath.NewRunner(datapath.RunnerOptions{})
	n.must(err)
	t.Cleanup(func() { n.runner.Close() })
	return n
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) apply(cfg lb.Config) {
	n.t.Helper()
	hops := map[netip.Addr]lb.NextHop{}
	for _, a := range cfg.BackendAddresses() {
		hops[a] = lb.NextHop{Interface: datapath.LoopbackIndex, MAC: macOf(a), Source: sourceToward(a)}
	}
	_, err := n.reconciler.Apply(cfg, hops)
	n.must(err)
	tables, err := n.datapath.ReadTables()
	n.must(err)
	n.backends = map[uint32]netip.AddrPort{}
	for id, name := range tables.BackendNames {
		n.backends[id] = name.Address
	}
}

// choose is the backend of a packet, and whether it was a new flow's.
func (n *node) choose(frame []byte) (backend netip.AddrPort, isNew bool) {
	n.t.Helper()
	decision, _, err := n.runner.Run(time.Unix(1_000_000, 0), frame)
	n.must(err)
	switch decision.Reason.String() {
	case "new-flow", "new-flow-snat":
		isNew = true
	case "forwarded":
	default:
		n.t.Fatalf("got %s %s", decision.Verdict, decision.Reason)
	}
	return n.backends[decision.Backend], isNew
}

// twelve is a service with as many backends, of different weights.
func twelve(forward lb.Forward, six bool) lb.Service {
	s := service("web", webVIP, lb.TCP)
	s.Forward, s.TableSize = forward, 2039
	s.Protocols = []lb.Protocol{lb.TCP, lb.UDP}
	w := wire{six: six}
	s.Address.Addr = w.of(s.Address.Addr)
	for i := range 12 {
		s.Backends = append(s.Backends, lb.Backend{
			Address: w.at(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(10 + i)}), 80)),
			Weight:  uint32(i % 4), // some take nothing
		})
	}
	return s
}

// shuffled is the same for the answers that are given.
func shuffled(rng *rand.Rand, s lb.Service) lb.Service {
	s.Name = fmt.Sprintf("other-%d", rng.IntN(1000))
	s.Backends = slices.Clone(s.Backends)
	for i := range s.Backends {
		s.Backends[i].Name = fmt.Sprintf("b%d", rng.IntN(1_000_000))
	}
	rng.Shuffle(len(s.Backends), func(i, j int) { s.Backends[i], s.Backends[j] = s.Backends[j], s.Backends[i] })
	return s
}

// manyFlows is how many flows two nodes have to agree on.
const manyFlows = 100_000

func flowFrame(s lb.Service, n int) []byte {
	protocol := s.Protocols[n%2]
	client := netip.AddrFrom4([4]byte{198, byte(18 + n>>16&1), byte(n >> 8), byte(n)})
	w := wire{six: s.Address.Addr.Is6()}
	from, to := w.at(netip.AddrPortFrom(client, uint16(1024+n*7919%60000))), netip.AddrPortFrom(s.Address.Addr, s.Address.Ports.First)
	p := packet.NewUDP(from, to, "")
	if protocol == lb.TCP {
		p = packet.NewTCP(from, to, packet.SYN, "")
	}
	p.DstMAC = localMAC()
	return p.Frame()
}

// The answer depends on the packet, the backends, their weights and the seed: not on the order in
// the file, on names and ids, on what was there before, or on the machine's own hash keys.
func TestNodesAgree(t *testing.T) {
	need.Root(t)
	limits := lb.Limits{Flows: 2 * manyFlows, Services: 64, Backends: 256, TableEntries: 65536}
	for _, forward := range lb.Forwards() {
		for _, w := range families() {
			t.Run(fmt.Sprintf("%s over %s", forward, w.name), func(t *testing.T) {
				t.Parallel()
				rng := rand.New(rand.NewPCG(uint64(len(forward)), 1))
				ours := twelve(forward, w.six)
				here, there := startNode(t, limits), startNode(t, limits)
				base := config(ours)
				base.Limits, base.Seed = limits, 7
				here.apply(base)

				before := base // other services and backends, and flows to them
				before.Seed = 3
				before.Services = []lb.Service{dns("10.0.0.2:53", "10.0.0.3:53"), shuffled(rng, ours)}
				before.Services[1].Backends = before.Services[1].Backends[:5]
				there.apply(before)
				for n := range 100 {
					there.choose(flowFrame(ours, manyFlows+n))
				}
				after := base
				after.Services = []lb.Service{service("new", "203.0.113.77:80", lb.TCP, backendA), shuffled(rng, ours), dns("10.0.0.3:53")}
				there.apply(after)

				shares := map[netip.AddrPort]int{}
				for n := range manyFlows {
					frame := flowFrame(ours, n)
					a, _ := here.choose(frame)
					b, _ := there.choose(frame)
					if a != b {
						t.Fatalf("flow %d: %s here, %s there", n, a, b)
					}
					shares[a]++
				}
				if len(shares) != 9 {
					t.Errorf("%d backends were chosen, want the 9 with a weight: %v", len(shares), shares)
				}
			})
		}
	}
}

// Another seed gives other answers.
func TestSeedChangesTheAnswers(t *testing.T) {
	need.Root(t)
	cfg := config(twelve(lb.ForwardDSR, false))
	here, there := startNode(t, cfg.Limits), startNode(t, cfg.Limits)
	here.apply(cfg)
	cfg.Seed = 1
	there.apply(cfg)
	same := 0
	const flows = 1000
	for n := range flows {
		a, _ := here.choose(flowFrame(cfg.Services[0], n))
		b, _ := there.choose(flowFrame(cfg.Services[0], n))
		if a == b {
			same++
		}
	}
	if same > flows/3 {
		t.Errorf("%d of %d flows go to the same backend", same, flows)
	}
}

// Whatever becomes of weights, a flow stays where it is, and weight 0 takes no new one.
func TestWeightsMoveNoFlow(t *testing.T) {
	need.Root(t)
	const flows = 2000
	for _, scheduler := range lb.Schedulers() {
		for _, forward := range lb.Forwards() {
			t.Run(fmt.Sprintf("%s %s", scheduler, forward), func(t *testing.T) {
				t.Parallel()
				s := twelve(forward, forward == lb.ForwardDNAT)
				s.Scheduler = scheduler
				cfg := config(s)
				n := startNode(t, cfg.Limits)
				n.apply(cfg)
				first := map[int]netip.AddrPort{}
				for i := range flows {
					first[i], _ = n.choose(flowFrame(s, i))
				}
				for round := range 3 {
					cfg = config(s)
					cfg.Services[0].Backends = slices.Clone(s.Backends)
					weightOf := map[netip.AddrPort]uint32{}
					for i := range cfg.Services[0].Backends {
						b := &cfg.Services[0].Backends[i]
						b.Weight = uint32((i + round) % 3)
						weightOf[b.Address] = b.Weight
					}
					n.apply(cfg)
					for i := range flows {
						if b, isNew := n.choose(flowFrame(s, i)); isNew || b != first[i] {
							t.Fatalf("flow %d was at %s, and is at %s", i, first[i], b)
						}
					}
					for i := range 300 {
						b, isNew := n.choose(flowFrame(s, flows*(round+1)+i))
						if !isNew || weightOf[b] == 0 {
							t.Fatalf("a new flow went to %s, which has the weight %d", b, weightOf[b])
						}
					}
				}
			})
		}
	}
}
