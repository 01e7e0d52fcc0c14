package diff

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
)

// changed is the world after one to three changes that an operator or the
// network could make.
func (w World) changed(rng *rand.Rand) World {
	w = w.clone()
	if chance(rng, 2) {
		maps.DeleteFunc(w.Hops, func(_ netip.Addr, hop lb.NextHop) bool { return !hop.Usable() })
	}
	for range 1 + rng.IntN(3) {
		w.change(rng)
	}
	w.nameServers(rng)
	w.findHops(rng)
	return w
}

func (w *World) change(rng *rand.Rand) {
	switch rng.IntN(6) {
	case 0, 1:
		w.changeNetwork(rng)
	case 2:
		w.changeServices(rng)
	default:
		w.changeAService(rng)
	}
}

// changeAService leaves it as it is if what comes of it does not fit in.
func (w *World) changeAService(rng *rand.Rand) {
	i := rng.IntN(len(w.Config.Services))
	s := w.Config.Services[i]
	w.Config.Services = slices.Delete(slices.Clone(w.Config.Services), i, i+1)
	next := s
	next.Backends = slices.Clone(s.Backends)
	w.changeService(rng, &next)
	if w.takes(next) {
		s = next
	}
	w.Config.Services = slices.Insert(w.Config.Services, i, s)
}

func (w *World) changeNetwork(rng *rand.Rand) {
	switch rng.IntN(12) {
	case 10:
		w.Config.Seed = pick(rng, 0, rng.Uint32())
	case 11:
		w.Config.Fragments = randomFragments(rng)
	case 9:
		w.MTUs = randomMTUs(rng)
	case 0:
		w.Config.Timeouts = randomTimeouts(rng)
	case 1:
		w.Config.RateLimits = randomRateLimits(rng)
	case 7:
		w.changeHost(rng)
	case 8:
		w.Config.Answers = randomAnswers(rng)
	case 2, 3, 4:
		w.loseNextHops(rng)
	default:
		a := pick(rng, w.Config.BackendAddresses()...)
		w.Hops[a] = randomHop(rng, a)
	}
}

// loseNextHops makes some or all backends of a service unreachable.
func (w *World) loseNextHops(rng *rand.Rand) {
	all := chance(rng, 2)
	for _, b := range pick(rng, w.Config.Services...).Backends {
		if all || !chance(rng, 4) {
			w.Hops[b.Address.Addr()] = lb.NextHop{Problem: "no answer"}
		}
	}
}

func (w *World) changeServices(rng *rand.Rand) {
	all := w.Config.Services
	switch rng.IntN(3) {
	case 0:
		w.addService(rng)
	case 1:
		if i := rng.IntN(len(all)); len(all) > 1 {
			w.Config.Services = slices.Delete(all, i, i+1)
		}
	case 2:
		rng.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
	}
}

// changeService changes one thing about a service that is not in the world just now.
func (w *World) changeService(rng *rand.Rand, s *lb.Service) {
	switch rng.IntN(16) {
	case 13, 14:
		changePolicy(rng, s)
	case 15:
		s.QUIC = randomQUIC(rng)
	case 0:
		s.Name = w.freeName()
	case 1:
		s.Address, s.Protocols = randomVIP(rng, pick(rng, families()...)), randomProtocols(rng)
	case 2:
		w.addBackend(rng, s, "")
		s.SNAT, s.Tunnel = keepFamilies(*s)
	case 3:
		removeFrom(s, pick(rng, s.Backends...).Address)
	case 4:
		s.Backends[rng.IntN(len(s.Backends))].Weight = pick[uint32](rng, 0, 1, 7)
	case 5:
		s.SNAT = randomSNAT(rng, *s)
	case 6:
		s.Tunnel = randomTunnel(rng, *s)
	case 7:
		s.Scheduler, s.TableSize = pick(rng, lb.Schedulers()...), pick[uint32](rng, 0, 127, 509)
	case 8:
		s.Silent, s.MSS = !s.Silent, randomMSS(rng)
	case 9, 10: // others instead of some
		s.Backends = slices.Clone(s.Backends[rng.IntN(len(s.Backends)):])
		for range len(s.Backends) {
			w.addBackend(rng, s, "")
		}
		s.SNAT, s.Tunnel = keepFamilies(*s)
	default: // its flows keep the way that they go
		s.Forward = w.otherForward(rng, *s)
	}
}

// orphan often takes a backend away from its flows, for good or for a while.
func (w *World) orphan(rng *rand.Rand, backend netip.AddrPort) {
	switch rng.IntN(8) {
	case 0, 1, 2, 3:
		w.remove(backend)
	case 4, 5:
		w.Hops[backend.Addr()] = lb.NextHop{Problem: "no answer"}
	}
}

// remove takes a backend out of all services, but for the last of one.
func (w *World) remove(backend netip.AddrPort) {
	for i := range w.Config.Services {
		removeFrom(&w.Config.Services[i], backend)
	}
}

func removeFrom(s *lb.Service, backend netip.AddrPort) {
	left := slices.DeleteFunc(slices.Clone(s.Backends), func(b lb.Backend) bool { return b.Address == backend })
	if len(left) > 0 {
		s.Backends = left
		s.SNAT, s.Tunnel = keepFamilies(*s)
	}
}

// keepFamilies leaves out the settings for families that no backend is of.
func keepFamilies(s lb.Service) (lb.SNAT, lb.Tunnel) {
	all := backendsOf(s)
	s.SNAT.Addresses = slices.DeleteFunc(slices.Clone(s.SNAT.Addresses), func(a netip.Addr) bool {
		return !slices.Contains(all, familyOf(a))
	})
	s.Tunnel.Sources = slices.DeleteFunc(slices.Clone(s.Tunnel.Sources), func(p netip.Prefix) bool {
		return !slices.Contains(all, familyOf(p.Addr()))
	})
	return s.SNAT, s.Tunnel
}

// otherForward is one of the modes that the service's backends can have.
func (w *World) otherForward(rng *rand.Rand, s lb.Service) lb.Forward {
	var possible []lb.Forward
	for _, forward := range lb.Forwards() {
		s.Forward = forward
		if w.takes(s) {
			possible = append(possible, forward)
		}
	}
	return pick(rng, possible...)
}
