package diff

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/model"
	"github.com/tinylb/tinylb/internal/reconcile"
)

var (
	// ErrDisagree says that the model and the data plane say different things.
	ErrDisagree = errors.New("the model and the data plane disagree")
	// ErrRefused says that a World does not fit into the tables; nothing has changed.
	ErrRefused = errors.New("the configuration is refused")
)

// Pair is a data plane and the model of it, in step with each other.
type Pair struct {
	datapath   *datapath.Datapath
	reconciler *reconcile.Reconciler
	runner     *datapath.Runner
	model      *model.Model
	services   map[uint32]string
	backends   map[uint32]model.BackendOf
	now        time.Time
	last       time.Time // when a frame came
}

// seed of the data plane's random numbers.
const seed = 1

func start() time.Time { return time.Unix(1_000_000, 0) }

// Open loads a case's data plane; frames arrive at its loopback interface.
func Open(c Case) (*Pair, error) {
	d, err := datapath.Open(datapath.Options{Limits: c.World.Config.Limits})
	if err != nil {
		return nil, err
	}
	p := &Pair{datapath: d, now: start(), last: start()}
	if err := p.fill(c.Port, c.Hash, c.World); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Pair) fill(port model.Options, hash HashKeys, w World) (err error) {
	if p.reconciler, err = reconcile.New(p.datapath, w.Config.Limits); err != nil {
		return err
	}
	port.Interface = datapath.LoopbackIndex
	p.runner, err = p.datapath.NewRunner(datapath.RunnerOptions{Attachment: attachment(port), Seed: seed, HashKeys: hash})
	if err != nil {
		return err
	}
	p.reconciler.SetInterfaceMTUs(w.MTUs)
	if p.model, err = model.New(w.Config, w.Hops, port); err != nil {
		return err
	}
	p.model.SetHost(w.Host)
	p.model.SetMTUs(w.MTUs)
	return p.applyToDatapath(w)
}

func attachment(port model.Options) datapath.Attachment {
	a := datapath.Attachment{MAC: port.MAC, NeighbourMAC: port.NeighbourMAC, TXByRedirect: port.TXByRedirect}
	switch port.Checksums {
	case model.CompleteChecksums:
		a.PartialChecksums, a.Mode = true, lb.ModeNative
	case model.KeepPartialChecksums:
		a.PartialChecksums, a.Mode = true, lb.ModeGeneric
	}
	return a
}

func (p *Pair) applyToDatapath(w World) error {
	p.reconciler.SetHost(w.Host)
	if _, err := p.reconciler.Apply(w.Config, w.Hops); err != nil {
		return err
	}
	tables, err := p.datapath.ReadTables()
	if err != nil {
		return err
	}
	p.services, p.backends = map[uint32]string{}, map[uint32]model.BackendOf{}
	for id, name := range tables.ServiceNames {
		p.services[id] = name.Name
	}
	for id, name := range tables.BackendNames {
		label := lb.Backend{Name: name.Name, Address: name.Address}.Label()
		p.backends[id] = model.BackendOf{Service: p.services[name.Service], Backend: label}
	}
	return nil
}

// Close frees the data plane.
func (p *Pair) Close() {
	if p.runner != nil {
		p.runner.Close()
	}
	p.datapath.Close()
}

// Step makes an event happen to both. It returns what became of a frame, and
// ErrDisagree with an explanation, or ErrRefused.
func (p *Pair) Step(e Event) (model.Outcome, error) {
	p.now = p.now.Add(max(e.After, 1)) // the runner's time never stands still
	if e.World != nil {
		return model.Outcome{}, p.change(*e.World)
	}
	if e.Sweep {
		return model.Outcome{}, p.sweep()
	}
	p.last = p.now
	decision, frames, err := p.runner.Run(p.now, e.Frame)
	if err != nil {
		return model.Outcome{}, err
	}
	got := model.Outcome{
		Verdict: model.Verdict(decision.Verdict.String()),
		Reason:  model.Reason(decision.Reason.String()),
		Service: p.services[decision.Service],
		Backend: p.backends[decision.Backend].Backend,
		Frame:   frames[0].Data,
	}
	for _, behind := range frames[1:] {
		got.Behind = append(got.Behind, behind.Data)
	}
	if decision.Service != 0 && got.Service == "" || decision.Backend != 0 && got.Backend == "" {
		return got, disagree(fmt.Errorf("nobody has service id %d or backend id %d", decision.Service, decision.Backend))
	}
	return got, disagree(p.model.Check(p.now, e.Frame, got, p.listFlows))
}

// sweep clears dead flows.
func (p *Pair) sweep() error {
	if err := p.runner.Sweep(p.now); err != nil {
		return err
	}
	listed, err := p.datapath.LiveFlows()
	return disagree(errors.Join(err, p.model.CheckSwept(p.now, asModel(listed))))
}

func disagree(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrDisagree, err)
}

// change gives both another configuration. Counters and flows are compared
// before: some end here.
func (p *Pair) change(w World) error {
	if err := p.CheckState(); err != nil {
		return err
	}
	p.reconciler.SetInterfaceMTUs(w.MTUs)
	err := p.applyToDatapath(w)
	if errors.Is(err, reconcile.ErrNoRoom) {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err != nil {
		return err
	}
	p.model.SetHost(w.Host)
	p.model.SetMTUs(w.MTUs)
	return p.model.Apply(w.Config, w.Hops)
}

// CheckState compares counters and flows.
func (p *Pair) CheckState() error {
	listed, err := p.datapath.LiveFlows()
	if err != nil {
		return disagree(err)
	}
	counters, err := p.counters()
	if err != nil {
		return err
	}
	paths, err := p.pathMTUs()
	if err != nil {
		return err
	}
	return disagree(errors.Join(p.model.CheckFlows(asModel(listed)), p.model.CheckCounters(counters), p.model.CheckPathMTUs(paths)))
}

func (p *Pair) pathMTUs() (map[netip.Addr]model.PathMTU, error) {
	known, err := p.datapath.PathMTUs()
	if err != nil {
		return nil, err
	}
	all := map[netip.Addr]model.PathMTU{}
	for address, path := range known {
		all[address] = model.PathMTU{MTU: int(path.MTU), Until: time.Unix(0, int64(path.Until))}
	}
	return all, nil
}

func (p *Pair) listFlows() ([]model.Flow, error) {
	listed, err := p.datapath.Flows()
	if err != nil {
		return nil, err
	}
	return asModel(listed), nil
}

func asModel(listed []datapath.Flow) []model.Flow {
	flows := make([]model.Flow, len(listed))
	for i, f := range listed {
		flows[i] = model.Flow{
			Protocol: f.Protocol, Forward: f.Forward, Client: f.Client, VIP: f.VIP, Backend: f.Backend, Source: f.Source,
			Phase: model.Phase(f.Phase), Seen: time.Unix(0, int64(f.LastSeen)),
		}
	}
	return flows
}

func (p *Pair) counters() (model.Counters, error) {
	c := model.Counters{Reasons: map[model.ReasonOf]uint64{}, Backends: map[model.BackendOf]lb.BackendCounters{}}
	var ids []uint32
	for id := range p.services {
		ids = append(ids, id)
	}
	counts, err := p.datapath.ReasonCounts(ids)
	if err != nil {
		return c, err
	}
	for _, n := range counts {
		c.Reasons[model.ReasonOf{Service: p.services[n.Service], Reason: model.Reason(n.Reason.String())}] = n.Packets
	}
	fragments, err := p.datapath.FragmentCounts(uint64(p.last.UnixNano()))
	if err != nil {
		return c, err
	}
	c.Incomplete = fragments.Incomplete
	for id, of := range p.backends {
		if c.Backends[of], err = p.datapath.BackendCounters(id); err != nil {
			return c, err
		}
	}
	return c, nil
}
