package diff

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/model"
)

// The addresses are few, so that everything happens to be shared now and then:
// a VIP by services, a backend by services, a source port by flows.
const (
	maxServices    = 5
	maxBackends    = 8
	spareBackends  = 6 // so few that a backend's id is soon another one's
	otherInterface = datapath.LoopbackIndex + 1
)

func localMAC() lb.MAC { return lb.MAC{2, 0, 0, 0, 0, 5} }

// family is the one that a world's addresses are of.
type family string

const (
	ipv4 family = "IPv4"
	ipv6 family = "IPv6"
)

// address is a.b.c.d, or the same below a prefix of IPv6.
func (f family) address(a, b, c, d int) netip.Addr {
	if f == ipv6 {
		return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 12: byte(a), 13: byte(b), 14: byte(c), 15: byte(d)})
	}
	return netip.AddrFrom4([4]byte{byte(a), byte(b), byte(c), byte(d)})
}

// pick is one of all.
func pick[T any](rng *rand.Rand, all ...T) T { return all[rng.IntN(len(all))] }

// chance is true once in n times.
func chance(rng *rand.Rand, n int) bool { return rng.IntN(n) == 0 }

func (f family) randomVIP(rng *rand.Rand) netip.AddrPort {
	return netip.AddrPortFrom(f.address(203, 0, 113, 1+rng.IntN(3)), pick[uint16](rng, 53, 80, 443, 1026))
}

func (f family) randomBackendAddress(rng *rand.Rand) netip.AddrPort {
	return netip.AddrPortFrom(f.address(10, 0, 0, 2+rng.IntN(7)), pick[uint16](rng, 53, 80, 8080))
}

func randomMAC(rng *rand.Rand) lb.MAC { return lb.MAC{2, 1, 0, 0, 0, byte(rng.IntN(16))} }

// randomPort is an interface.
func randomPort(rng *rand.Rand) model.Options {
	return model.Options{
		MAC:          pick(rng, lb.MAC{}, localMAC(), localMAC()),
		Checksums:    pick(rng, model.FullChecksums, model.FullChecksums, model.CompleteChecksums, model.KeepPartialChecksums),
		TXByRedirect: chance(rng, 3),
	}
}

// randomWorld is a valid config with a next hop to each backend.
func randomWorld(rng *rand.Rand, flows uint32) World {
	w := World{
		Family: pick(rng, ipv4, ipv6),
		Config: lb.Config{
			Timeouts: randomTimeouts(rng),
			Limits:   lb.Limits{Flows: flows, Services: 16, TableEntries: 32768},
		},
		Hops: map[netip.Addr]lb.NextHop{},
	}
	for range 1 + rng.IntN(maxServices) {
		w.addService(rng)
	}
	w.findHops(rng)
	w.Config.Limits.Backends = w.backends() + spareBackends
	return w
}

// backends counts those of all services.
func (w World) backends() (n uint32) {
	for _, s := range w.Config.Services {
		n += uint32(len(s.Backends))
	}
	return n
}

func randomTimeouts(rng *rand.Rand) lb.Timeouts {
	seconds := func(least, most int) time.Duration {
		return time.Duration(least+rng.IntN(most-least+1)) * time.Second
	}
	if chance(rng, 3) {
		return lb.Timeouts{
			TCPUnconfirmed: seconds(1, 5), TCPEstablished: seconds(1, 20), TCPHalfClosed: seconds(1, 10),
			TCPClosed: seconds(1, 3), UDPUnconfirmed: seconds(1, 3), UDPStream: seconds(1, 5),
		}
	}
	return lb.Timeouts{
		TCPUnconfirmed: time.Minute, TCPEstablished: 2*time.Hour + 4*time.Minute, TCPHalfClosed: 4 * time.Minute,
		TCPClosed: time.Minute, UDPUnconfirmed: 30 * time.Second, UDPStream: 2 * time.Minute,
	}
}

func (w *World) addService(rng *rand.Rand) {
	if len(w.Config.Services) == maxServices {
		return
	}
	s := lb.Service{
		Name: w.freeName(), Protocols: randomProtocols(rng), Forward: lb.ForwardNAT,
		Scheduler: pick(rng, lb.Maglev, lb.Maglev, lb.Random), TableSize: pick[uint32](rng, 0, 127, 251),
		SNAT: w.Family.randomSNAT(rng),
	}
	for range 20 {
		s.Address = w.Family.randomVIP(rng)
		if w.takesVIP(s) {
			break
		}
	}
	for range 1 + rng.IntN(maxBackends) {
		w.addBackend(rng, &s)
	}
	if w.takesVIP(s) && len(s.Backends) > 0 {
		w.Config.Services = append(w.Config.Services, s)
	}
}

func (w *World) freeName() string {
	for n := 0; ; n++ {
		name := fmt.Sprintf("s%d", n)
		if !slices.ContainsFunc(w.Config.Services, func(s lb.Service) bool { return s.Name == name }) {
			return name
		}
	}
}

func randomProtocols(rng *rand.Rand) []lb.Protocol {
	return pick(rng, []lb.Protocol{lb.TCP}, []lb.Protocol{lb.TCP}, []lb.Protocol{lb.UDP}, []lb.Protocol{lb.TCP, lb.UDP})
}

// randomSNAT is often a pool that is too small, and that has VIPs in it.
func (f family) randomSNAT(rng *rand.Rand) lb.SNAT {
	var s lb.SNAT
	switch rng.IntN(4) {
	case 0:
		s.Addresses = []netip.Addr{f.address(203, 0, 113, 1+rng.IntN(3))}
	case 1:
		s.Addresses = []netip.Addr{f.address(10, 0, 0, 100), f.address(203, 0, 113, 1)}
	}
	first := 1024 + uint16(rng.IntN(3))
	switch rng.IntN(7) {
	case 0, 1:
		s.Ports = lb.PortRange{First: first, Last: first + uint16(rng.IntN(3))}
	case 2, 3:
		s.Ports = lb.PortRange{First: first, Last: first + uint16(rng.IntN(16))}
	case 4: // too large to be searched whole for every packet
		s.Ports = lb.PortRange{First: first, Last: first + 100 + uint16(rng.IntN(60))}
	default:
		s.Ports = lb.PortRange{First: 1024, Last: 32767}
	}
	return s
}

// takesVIP reports whether a service could be there beside all others.
func (w *World) takesVIP(s lb.Service) bool {
	return !slices.ContainsFunc(w.Config.Services, func(o lb.Service) bool {
		if o.Name == s.Name || !overlap(o.Protocols, s.Protocols) {
			return false
		}
		return o.Address == s.Address || hasBackend(o, s.Address) || hasBackend(s, o.Address)
	})
}

func overlap(a, b []lb.Protocol) bool {
	return slices.ContainsFunc(a, func(p lb.Protocol) bool { return slices.Contains(b, p) })
}

func hasBackend(s lb.Service, a netip.AddrPort) bool {
	return slices.ContainsFunc(s.Backends, func(b lb.Backend) bool { return b.Address == a })
}

func (w *World) addBackend(rng *rand.Rand, s *lb.Service) {
	b := lb.Backend{Address: w.Family.randomBackendAddress(rng), Weight: pick[uint32](rng, 1, 1, 1, 2, 5, 100, 0)}
	if chance(rng, 2) {
		b.Name = "b-" + b.Address.String()
	}
	if !hasBackend(*s, b.Address) && len(s.Backends) < maxBackends {
		s.Backends = append(s.Backends, b)
	}
}

// findHops gives a next hop to each backend that has none.
func (w *World) findHops(rng *rand.Rand) {
	for _, a := range w.Config.BackendAddresses() {
		if _, known := w.Hops[a]; !known {
			w.Hops[a] = w.Family.randomHop(rng)
		}
	}
}

func (f family) randomHop(rng *rand.Rand) lb.NextHop {
	hop := lb.NextHop{
		Interface: pick(rng, datapath.LoopbackIndex, datapath.LoopbackIndex, otherInterface),
		MAC:       randomMAC(rng), Source: f.address(10, 0, 0, 1),
	}
	if chance(rng, 2) {
		hop.SourceMAC = lb.MAC{2, 2, 0, 0, 0, byte(hop.Interface)}
	}
	if chance(rng, 12) {
		return lb.NextHop{Problem: "no answer"}
	}
	return hop
}

func (w World) clone() World {
	services := slices.Clone(w.Config.Services)
	for i := range services {
		services[i].Backends = slices.Clone(services[i].Backends)
	}
	w.Config.Services = services
	w.Hops = maps.Clone(w.Hops)
	return w
}

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
	w.findHops(rng)
	return w
}

func (w *World) change(rng *rand.Rand) {
	i := rng.IntN(len(w.Config.Services))
	s := &w.Config.Services[i]
	switch rng.IntN(14) {
	case 0:
		w.addService(rng)
	case 1:
		if len(w.Config.Services) > 1 {
			w.Config.Services = slices.Delete(w.Config.Services, i, i+1)
		}
	case 2:
		s.Name = w.freeName()
	case 3:
		moved := *s
		moved.Address, moved.Protocols = w.Family.randomVIP(rng), randomProtocols(rng)
		if w.takesVIP(moved) {
			*s = moved
		}
	case 4:
		extended := *s
		w.addBackend(rng, &extended)
		if w.takesVIP(extended) {
			*s = extended
		}
	case 5:
		if n := len(s.Backends); n > 1 {
			j := rng.IntN(n)
			s.Backends = slices.Delete(s.Backends, j, j+1)
		}
	case 6:
		s.Backends[rng.IntN(len(s.Backends))].Weight = pick[uint32](rng, 0, 1, 7)
	case 7:
		s.SNAT = w.Family.randomSNAT(rng)
	case 8:
		s.Scheduler, s.TableSize = pick(rng, lb.Maglev, lb.Random), pick[uint32](rng, 0, 127, 509)
	case 9:
		w.Config.Timeouts = randomTimeouts(rng)
	case 10:
		rng.Shuffle(len(w.Config.Services), func(a, b int) {
			w.Config.Services[a], w.Config.Services[b] = w.Config.Services[b], w.Config.Services[a]
		})
	case 11:
		w.loseNextHops(rng)
	case 12: // others instead of some
		replaced := *s
		replaced.Backends = slices.Clone(s.Backends[rng.IntN(len(s.Backends)):])
		for range len(s.Backends) {
			w.addBackend(rng, &replaced)
		}
		if w.takesVIP(replaced) {
			*s = replaced
		}
	default:
		w.Hops[pick(rng, w.Config.BackendAddresses()...)] = w.Family.randomHop(rng)
	}
}

// loseNextHops makes some or all backends of a service unreachable.
func (w *World) loseNextHops(rng *rand.Rand) {
	for _, b := range pick(rng, w.Config.Services...).Backends {
		if !chance(rng, 4) {
			w.Hops[b.Address.Addr()] = lb.NextHop{Problem: "no answer"}
		}
	}
}
