// Package simulate runs frames through the real data plane in the kernel,
// touching no interface and no route or neighbour of the host.
package simulate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
	"github.com/tinylb/tinylb/internal/reconcile"
)

// defaultNextHop is the MAC that every backend is reached by.
func defaultNextHop() lb.MAC { return lb.MAC{2, 0, 0, 0, 0, 1} }

// ownMAC is what neighbours are told that has a VIP.
func ownMAC() lb.MAC { return lb.MAC{2, 0, 0, 0, 0, 2} }

// otherInterface stands for the one that packets to backends leave by when it
// is not the one that they came in by. It is never used for sending.
const otherInterface = datapath.LoopbackIndex + 1

// seed of the data plane's random numbers: the same input gives the same output.
const seed = 1

// minFrame is an Ethernet header; the kernel takes nothing shorter.
const minFrame = 14

// Options say how the simulated network looks.
type Options struct {
	NextHopMAC   lb.MAC  // of every backend; zero: 02:00:00:00:00:01
	NextHopVLAN  *uint16 // that every backend is in, 0: without a tag; nil: that of the arriving frame
	InterfaceMAC lb.MAC  // that neighbours are told that ask everybody for a VIP's; zero: 02:00:00:00:00:02
	OutInterface bool    // backends are behind another interface than clients
	MTU          int     // of both interfaces; 0: DefaultMTU
}

// DefaultMTU is Ethernet's (RFC 894).
const DefaultMTU = 1500

func (o Options) mtu() int { return cmp.Or(o.MTU, DefaultMTU) }

// Step is what became of one frame.
type Step struct {
	Verdict string
	Reason  string
	Service string   // "" where none was meant
	Backend string   // "" where none was chosen
	Frame   []byte   // as it left; nil when it did not
	Behind  [][]byte // held ones that left behind it, in order
}

// Simulator is a data plane of its own. It needs CAP_BPF and CAP_NET_ADMIN.
type Simulator struct {
	datapath *datapath.Datapath
	runner   *datapath.Runner
	services map[uint32]string
	backends map[uint32]string
	swept    time.Time // when dead flows were cleared last
}

// hashKeys are any: the same input gives the same output, also when the flow table is full.
func hashKeys() (keys [10]uint32) {
	for i := range keys {
		keys[i] = uint32(i+1) * 0x9e3779b1
	}
	return keys
}

// New loads a data plane for cfg.
func New(cfg lb.Config, opts Options) (*Simulator, error) {
	d, err := datapath.Open(datapath.Options{Limits: cfg.Limits})
	if err != nil {
		return nil, err
	}
	s := &Simulator{datapath: d}
	if err := s.fill(cfg, opts); err != nil {
		s.Close()
		return nil, err
	}
	at := datapath.Attachment{NeighbourMAC: opts.InterfaceMAC}
	if at.NeighbourMAC == (lb.MAC{}) {
		at.NeighbourMAC = ownMAC()
	}
	if s.runner, err = d.NewRunner(datapath.RunnerOptions{Attachment: at, Seed: seed, HashKeys: hashKeys()}); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Simulator) fill(cfg lb.Config, opts Options) error {
	r, err := reconcile.New(s.datapath, cfg.Limits)
	if err != nil {
		return err
	}
	r.SetHost(nil) // it is nobody's
	r.SetInterfaceMTUs(map[int]int{datapath.LoopbackIndex: opts.mtu()})
	if _, err := r.Apply(withSources(cfg), nextHops(cfg, opts)); err != nil {
		return err
	}
	tables, err := s.datapath.ReadTables()
	if err != nil {
		return err
	}
	s.services, s.backends = map[uint32]string{}, map[uint32]string{}
	for id, name := range tables.ServiceNames {
		s.services[id] = name.Name
	}
	for id, name := range tables.BackendNames {
		s.backends[id] = lb.Backend{Name: name.Name, Address: name.Address}.Label()
	}
	return nil
}

// standIns are, for IPv4 and IPv6, the host's own addresses (RFC 5737 and RFC 3849).
func standIns() [2]netip.Addr {
	return [2]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
}

// withSources gives services, for each family that the config names no SNAT address
// or no tunnel source of, the VIP or, where that is of the other family, a stand-in:
// the first address from there on that is no backend's.
func withSources(cfg lb.Config) lb.Config {
	services := make([]lb.Service, len(cfg.Services))
	backends := cfg.BackendAddresses()
	for i, service := range cfg.Services {
		service.SNAT.Addresses = slices.Clone(service.SNAT.Addresses)
		service.Tunnel.Sources = slices.Clone(service.Tunnel.Sources)
		for _, source := range standIns() {
			if sameFamily(source, service.Address.Addr) {
				source = service.Address.Addr
			}
			for slices.Contains(backends, source) {
				source = source.Next()
			}
			if !slices.ContainsFunc(service.SNAT.Addresses, func(a netip.Addr) bool { return sameFamily(a, source) }) {
				service.SNAT.Addresses = append(service.SNAT.Addresses, source)
			}
			if !slices.ContainsFunc(service.Tunnel.Sources, func(p netip.Prefix) bool { return sameFamily(p.Addr(), source) }) {
				service.Tunnel.Sources = append(service.Tunnel.Sources, netip.PrefixFrom(source, source.BitLen()))
			}
		}
		services[i] = service
	}
	cfg.Services = services
	return cfg
}

func sameFamily(a, b netip.Addr) bool { return a.Is4() == b.Is4() }

// nextHops have no link: who shares one with a backend is not known here.
func nextHops(cfg lb.Config, opts Options) map[netip.Addr]lb.NextHop {
	hop := lb.NextHop{Interface: datapath.LoopbackIndex, MAC: opts.NextHopMAC, VLAN: lb.VLANAsItCame, MTU: opts.mtu()}
	if opts.NextHopVLAN != nil {
		hop.VLAN = *opts.NextHopVLAN
	}
	if hop.MAC == (lb.MAC{}) {
		hop.MAC = defaultNextHop()
	}
	if opts.OutInterface {
		hop.Interface = otherInterface
	}
	hops := map[netip.Addr]lb.NextHop{}
	for _, address := range cfg.BackendAddresses() {
		hops[address] = hop
	}
	return hops
}

// InterfaceMAC is that of the interface that a capture's frames arrived at, as far as
// they tell: where the first one went to that was for a single machine. Zero: none was.
func InterfaceMAC(capture packet.File) (mac lb.MAC) {
	const groupBit = 1
	for _, record := range capture.Records {
		if len(record.Data) >= minFrame && record.Data[0]&groupBit == 0 {
			copy(mac[:], record.Data)
			break
		}
	}
	return mac
}

// Run gives one frame to the data plane.
func (s *Simulator) Run(record packet.Record) (Step, error) {
	if len(record.Data) < minFrame {
		return Step{Verdict: "PASS", Reason: "not-ip"}, nil
	}
	if err := s.sweep(record.Time); err != nil {
		return Step{}, err
	}
	decision, frames, err := s.runner.Run(record.Time, record.Data)
	if err != nil {
		return Step{}, err
	}
	step := Step{
		Verdict: decision.Verdict.String(),
		Reason:  decision.Reason.String(),
		Service: s.services[decision.Service],
		Backend: s.backends[decision.Backend],
	}
	if decision.Verdict.Sends() {
		step.Frame = frames[0].Data
		for _, frame := range frames[1:] {
			step.Behind = append(step.Behind, frame.Data)
		}
	}
	return step, nil
}

// sweepRound is how often the kernel, left alone, looks at each flow whether its time is over.
const sweepRound = 10 * time.Second

// sweep clears dead flows as the kernel would, of which the clock that it goes by is not the capture's.
func (s *Simulator) sweep(now time.Time) error {
	switch {
	case s.swept.IsZero():
		s.swept = now
	case now.Sub(s.swept) >= sweepRound:
		s.swept = now
		return s.runner.Sweep(now)
	}
	return nil
}

// Close frees the data plane.
func (s *Simulator) Close() {
	if s.runner != nil {
		s.runner.Close()
	}
	s.datapath.Close()
}

// RunAll runs a whole capture, tells each step to emit, and returns the frames
// that left, with the times at which they came in.
func (s *Simulator) RunAll(capture packet.File, emit func(n int, step Step) error) (packet.File, error) {
	out := packet.File{Nanoseconds: capture.Nanoseconds}
	for i, record := range capture.Records {
		step, err := s.Run(record)
		if err != nil {
			return out, fmt.Errorf("frame %d: %w", i+1, err)
		}
		if err := emit(i+1, step); err != nil {
			return out, err
		}
		if step.Frame == nil {
			continue
		}
		for _, frame := range append([][]byte{step.Frame}, step.Behind...) {
			out.Records = append(out.Records, packet.Record{Time: record.Time, Data: frame})
		}
	}
	return out, nil
}
