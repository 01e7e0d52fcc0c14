package model

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/maglev"
)

type service struct {
	config   lb.Service
	backends []*backend
	table    []*backend // the Maglev table; nil: no usable backend
	reasons  map[Reason]uint64
	rate     rateLimit // of new flows

	backendsFull time.Time // until when a search that found all backends full may be believed
}

// backend is one of a service. A flow refers to it for as long as it lives: a
// backend that comes back after it was removed is another one.
type backend struct {
	config       lb.Backend
	hop          lb.NextHop
	sources      []netip.Addr // that stand for clients toward it
	tunnelSource netip.Prefix // that outer source addresses are taken from
	gone         bool         // removed from the config
	counters     lb.BackendCounters
}

// Apply changes the configuration between two packets. A service is the same
// as before if it has the same name or, failing that, one of the VIPs of a
// service whose name has gone; a backend if it has the same address in the same
// service. What is the same keeps its counters and its flows.
func (m *Model) Apply(cfg lb.Config, hops map[netip.Addr]lb.NextHop) error {
	var services []*service
	for i, old := range m.match(cfg.Services) {
		next := &service{config: cfg.Services[i], reasons: map[Reason]uint64{}}
		if old != nil {
			next, old.config = old, cfg.Services[i]
		}
		services = append(services, next)
	}
	for _, old := range m.services {
		if !slices.Contains(services, old) {
			old.setBackends(nil, nil)
		}
	}
	m.services, m.timeouts, m.rates = services, cfg.Timeouts, cfg.RateLimits
	m.answers, m.fragments = cfg.Answers, cfg.Fragments
	for _, s := range services {
		s.setBackends(s.config.Backends, hops)
		if err := s.fillTable(cfg.Seed); err != nil {
			return fmt.Errorf("service %s: %w", s.config.Name, err)
		}
	}
	m.forgetPathMTUs()
	return nil
}

// match finds the service that each of the wanted ones was before; nil: none.
func (m *Model) match(wanted []lb.Service) []*service {
	matched := make([]*service, len(wanted))
	claim := func(same func(old, new lb.Service) bool) {
		for i := range wanted {
			for _, old := range m.services {
				if matched[i] == nil && same(old.config, wanted[i]) && !slices.Contains(matched, old) {
					matched[i] = old
				}
			}
		}
	}
	claim(func(old, new lb.Service) bool { return old.Name == new.Name })
	claim(shareVIP)
	return matched
}

func shareVIP(a, b lb.Service) bool {
	return a.Address == b.Address && slices.ContainsFunc(a.Protocols, func(p lb.Protocol) bool {
		return slices.Contains(b.Protocols, p)
	})
}

func (s *service) setBackends(wanted []lb.Backend, hops map[netip.Addr]lb.NextHop) {
	var backends []*backend
	for _, config := range wanted {
		i := slices.IndexFunc(s.backends, func(b *backend) bool { return b.config.Address == config.Address })
		b := &backend{}
		if i >= 0 {
			b = s.backends[i]
		}
		b.config, b.hop = config, hops[config.Address.Addr()]
		s.findSources(b)
		backends = append(backends, b)
	}
	for _, old := range s.backends {
		old.gone = !slices.Contains(backends, old)
	}
	s.backends = backends
}

// findSources finds what addresses packets to a backend can come from: the
// configured ones of its family, else the host's own toward it. While there are
// none, flows go on with those that there were.
func (s *service) findSources(b *backend) {
	sameFamily := func(a netip.Addr) bool { return a.Is4() == b.config.Address.Addr().Is4() }
	var sources []netip.Addr
	for _, a := range s.config.SNAT.Addresses {
		if sameFamily(a) {
			sources = append(sources, a)
		}
	}
	var tunnelSource netip.Prefix
	for _, prefix := range s.config.Tunnel.Sources {
		if sameFamily(prefix.Addr()) {
			tunnelSource = prefix
		}
	}
	if own := b.hop.Source; b.hop.Usable() && own.IsValid() {
		if len(sources) == 0 {
			sources = []netip.Addr{own}
		}
		if !tunnelSource.IsValid() {
			tunnelSource = netip.PrefixFrom(own, own.BitLen())
		}
	}
	if len(sources) > 0 {
		b.sources = sources
	}
	if tunnelSource.IsValid() {
		b.tunnelSource = tunnelSource
	}
}

// takes reports whether packets of new flows can be forwarded to a backend.
func (s *service) takes(b *backend) bool {
	switch forward := s.config.Forward; {
	case !b.hop.Usable():
		return false
	case forward == lb.ForwardNAT:
		return len(b.sources) > 0
	case forward == lb.ForwardDSR: // a router would send the VIP back
		return !b.hop.Routed
	case forward.Tunnels():
		return b.tunnelSource.IsValid()
	}
	return true
}

func (s *service) fillTable(seed uint32) error {
	var usable []*backend
	var entries []maglev.Entry
	for _, b := range s.backends {
		if s.takes(b) {
			usable = append(usable, b)
			entries = append(entries, maglev.Entry{Key: b.config.Address.String(), Weight: b.config.Weight})
		}
	}
	size := cmp.Or(s.config.TableSize, maglev.SizeFor(len(s.backends)))
	slots, err := maglev.Build(entries, size, uint64(seed))
	if err != nil {
		return err
	}
	s.table = make([]*backend, len(slots))
	for i, slot := range slots {
		s.table[i] = usable[slot]
	}
	return nil
}

// serviceAt is the service that a packet's destination means: of several, the one
// with the fewest ports; nil: none.
func (m *Model) serviceAt(protocol lb.Protocol, dst netip.AddrPort) *service {
	var found *service
	for _, s := range m.services {
		if !s.config.Address.Contains(dst) || !slices.Contains(s.config.Protocols, protocol) {
			continue
		}
		if found == nil || s.config.Address.Ports.Size() < found.config.Address.Ports.Size() {
			found = s
		}
	}
	return found
}

// isOurs reports whether packets with the addresses of a tuple may be for a service
// or a flow.
func (m *Model) isOurs(t tuple) bool {
	src, dst := t.src.Addr(), t.dst.Addr()
	isFor := func(a netip.Addr) bool { return a == dst || a.Is6() && solicitedNode(a) == dst }
	for _, s := range m.services {
		if isFor(s.config.Address.Addr) {
			return true
		}
		for _, b := range s.backends {
			if slices.ContainsFunc(b.sources, isFor) || s.config.Forward == lb.ForwardDNAT && b.config.Address.Addr() == src {
				return true
			}
		}
	}
	return m.flows.hasAnswersLike(t, m)
}
