package datapath_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/datapath/poisontest"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/internal/reconcile"
	"github.com/tinylb/tinylb/test/need"
)

// balancer is a data plane with a configuration, a clock, and a count of all
// that it was given. Frames reach it over dirty headroom.
type balancer struct {
	t          *testing.T
	datapath   *datapath.Datapath
	runner     *datapath.Runner
	reconciler *reconcile.Reconciler
	cfg        lb.Config
	hops       map[netip.Addr]lb.NextHop
	names      lb.Tables
	now        time.Time
	last       time.Time // when the last frame came
	reasons    map[reasonOf]uint64
	carried    map[uint32]lb.BackendCounters
	behind     []datapath.Frame // the last one that left
	held       []int            // sizes of fragments that wait for their first, of one datagram
}

type reasonOf struct {
	service uint32
	reason  string
}

// start loads a data plane; it is checked for leaks and miscounts when the test ends.
func start(t *testing.T, cfg lb.Config) *balancer {
	t.Helper()
	return startAt(t, cfg, datapath.Attachment{})
}

// startAt is start with the program for a certain kind of interface.
func startAt(t *testing.T, cfg lb.Config, attachment datapath.Attachment) *balancer {
	t.Helper()
	need.Root(t)
	b := &balancer{
		t: t, hops: map[netip.Addr]lb.NextHop{}, now: time.Unix(1_000_000, 0),
		reasons: map[reasonOf]uint64{}, carried: map[uint32]lb.BackendCounters{},
	}
	var err error
	b.datapath, err = datapath.Open(datapath.Options{Limits: cfg.Limits})
	b.must(err)
	t.Cleanup(b.datapath.Close)
	b.reconciler, err = reconcile.New(b.datapath, cfg.Limits)
	b.must(err)
	b.reconciler.SetHost([]netip.Addr{netip.MustParseAddr(source), sourceToward(netip.IPv6Unspecified())})
	b.apply(cfg)
	b.runner, err = b.datapath.NewRunner(datapath.RunnerOptions{Attachment: attachment, Seed: 1})
	b.must(err)
	t.Cleanup(func() { b.runner.Close() })
	b.must(b.runner.RunThrough(func(p *ebpf.Program) (*ebpf.Program, error) {
		entry, err := poisontest.Before(p)
		if err != nil {
			return nil, err
		}
		t.Cleanup(entry.Close)
		return entry.Program, nil
	}))
	t.Cleanup(func() {
		b.checkCounters()
		b.live()
	})
	return b
}

// in reports to a subtest from now until that ends.
func (b *balancer) in(t *testing.T) *balancer {
	outer := b.t
	b.t = t
	t.Cleanup(func() { b.t = outer })
	return b
}

func (b *balancer) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// apply changes the configuration; every backend that has no next hop yet gets one.
func (b *balancer) apply(cfg lb.Config) reconcile.Result {
	b.t.Helper()
	for _, a := range cfg.BackendAddresses() {
		if _, known := b.hops[a]; !known {
			b.hops[a] = lb.NextHop{Interface: datapath.LoopbackIndex, MAC: macOf(a), Source: sourceToward(a), VLAN: lb.VLANAsItCame}
		}
	}
	b.checkCounters()
	b.cfg = cfg
	result, err := b.reconciler.Apply(cfg, b.hops)
	b.must(err)
	b.names, err = b.datapath.ReadTables()
	b.must(err)
	b.forgetRemoved()
	return result
}

// forgetRemoved drops the counts of services and backends that have gone, as the data plane does.
func (b *balancer) forgetRemoved() {
	for of := range b.reasons {
		if _, known := b.names.ServiceNames[of.service]; !known && of.service != 0 {
			delete(b.reasons, of)
		}
	}
	for id := range b.carried {
		if _, known := b.names.BackendNames[id]; !known {
			delete(b.carried, id)
		}
	}
}

// outcome is what became of a frame; "" for no service and no backend.
type outcome struct {
	verdict, reason  string
	service, backend string
}

// fate is verdict and reason, such as "TX new-flow".
func (o outcome) fate() string { return o.verdict + " " + o.reason }

// run gives a frame to the data plane. A frame that does not leave must not have changed.
func (b *balancer) run(frame []byte) (outcome, []byte) {
	b.t.Helper()
	if !b.now.After(b.last) {
		b.now = b.last.Add(time.Nanosecond) // as the runner has it: time never stands still
	}
	b.last = b.now
	decision, frames, err := b.runner.Run(b.now, frame)
	b.must(err)
	out := frames[0].Data
	if !decision.Verdict.Sends() && !bytes.Equal(frame, out) {
		b.t.Fatalf("%s %s, but the frame has changed:\n%s", decision.Verdict, decision.Reason, packet.Diff(frame, out))
	}
	o := outcome{verdict: decision.Verdict.String(), reason: decision.Reason.String()}
	o.service = b.names.ServiceNames[decision.Service].Name
	if name, known := b.names.BackendNames[decision.Backend]; known {
		o.backend = lb.Backend{Name: name.Name, Address: name.Address}.Label()
	}
	b.count(decision, len(frame), out)
	b.behind = frames[1:]
	b.countHeld(decision, len(frame))
	return o, out
}

func (b *balancer) count(d datapath.Decision, size int, out []byte) {
	b.reasons[reasonOf{d.Service, d.Reason.String()}]++
	c := b.carried[d.Backend]
	what := d.Reason.String()
	if what == "icmp-error" && d.Verdict.Sends() {
		what = "forwarded"
		if p, err := packet.Read(out); err == nil && !b.isBackend(p.Dst.Addr()) && b.translates(d.Service) {
			what = "reply"
		}
	}
	switch what {
	case "reply":
		c.PacketsOut++
		c.BytesOut += uint64(size)
	case "new-flow", "new-flow-snat":
		c.Flows++
		fallthrough
	case "forwarded":
		c.PacketsIn++
		c.BytesIn += uint64(size)
	default:
		return
	}
	b.carried[d.Backend] = c
}

// countHeld counts those that followed their first fragment for its backend.
func (b *balancer) countHeld(d datapath.Decision, size int) {
	switch d.Reason.String() {
	case "fragment-held":
		b.held = append(b.held, size)
	case "new-flow", "new-flow-snat", "forwarded":
		if len(b.behind) == 0 {
			return
		}
		c := b.carried[d.Backend]
		for _, size := range b.held {
			c.PacketsIn, c.BytesIn = c.PacketsIn+1, c.BytesIn+uint64(size)
		}
		b.carried[d.Backend] = c
		b.held = nil
	}
}

// isBackend reports whether an address is that of a backend.
func (b *balancer) isBackend(a netip.Addr) bool { return slices.Contains(b.cfg.BackendAddresses(), a) }

// translates reports whether a service's answers pass.
func (b *balancer) translates(service uint32) bool {
	return slices.ContainsFunc(b.cfg.Services, func(s lb.Service) bool {
		return s.Name == b.names.ServiceNames[service].Name && s.Forward.Translates()
	})
}

// checkCounters compares the data plane's counters with what it was given.
func (b *balancer) checkCounters() {
	b.t.Helper()
	var services []uint32
	for id := range b.names.ServiceNames {
		services = append(services, id)
	}
	counts, err := b.datapath.ReasonCounts(services)
	b.must(err)
	got := map[reasonOf]uint64{}
	for _, c := range counts {
		got[reasonOf{c.Service, c.Reason.String()}] = c.Packets
	}
	for of, want := range b.reasons {
		if got[of] != want && (of.service == 0 || slices.Contains(services, of.service)) {
			b.t.Errorf("service %d: %d packets counted under %s, want %d", of.service, got[of], of.reason, want)
		}
	}
	for of, n := range got {
		if b.reasons[of] == 0 {
			b.t.Errorf("service %d: %d packets counted under %s, want none", of.service, n, of.reason)
		}
	}
	for id := range b.names.BackendNames {
		counters, err := b.datapath.BackendCounters(id)
		b.must(err)
		if counters != b.carried[id] {
			b.t.Errorf("backend %d: counted %+v, want %+v", id, counters, b.carried[id])
		}
	}
}

// live lists the flow table, and checks that it and its index agree.
func (b *balancer) live() []datapath.Flow {
	b.t.Helper()
	flows, err := b.datapath.LiveFlows()
	if err != nil {
		b.t.Errorf("the flow table: %v", err)
	}
	return flows
}

// want fails the test unless a frame is passed, dropped or aborted, unchanged, for this reason.
func (b *balancer) want(fate string, frame []byte) {
	b.t.Helper()
	if got, out := b.run(frame); got.fate() != fate {
		b.t.Fatalf("got %s, want %s\nin:  % x\nout: % x", got.fate(), fate, frame, out)
	}
}
