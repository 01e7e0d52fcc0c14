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

const (
	maxServices    = 6
	maxBackends    = 8
	spareBackends  = 6 // so few that a backend's id is soon another one's
	otherInterface = datapath.LoopbackIndex + 1
)

// randomPort is an interface.
func randomPort(rng *rand.Rand) model.Options {
	return model.Options{
		MAC:          pick(rng, lb.MAC{}, localMAC(), localMAC()),
		NeighbourMAC: pick(rng, lb.MAC{}, neighbourMAC(), neighbourMAC(), neighbourMAC()),
		Checksums:    pick(rng, model.FullChecksums, model.FullChecksums, model.CompleteChecksums, model.KeepPartialChecksums),
		TXByRedirect: chance(rng, 3),
	}
}

// randomWorld is a valid config with a next hop to each backend, and with a
// service that forwards as the given kind does, between its families.
func randomWorld(rng *rand.Rand, flows uint32, k Kind) World {
	w := World{
		Config: lb.Config{
			Timeouts:   randomTimeouts(rng),
			RateLimits: randomRateLimits(rng),
			Answers:    randomAnswers(rng),
			Fragments:  randomFragments(rng),
			Limits:     lb.Limits{Flows: flows, Services: 16, TableEntries: 32768, Prefixes: 256, Clients: 16384, Affinity: 16384, Held: heldAtMost},
			Seed:       pick(rng, 0, rng.Uint32()),
		},
		Hops: map[netip.Addr]lb.NextHop{},
	}
	w.changeHost(rng)
	w.addServiceOf(rng, k)
	for more := 1 + rng.IntN(maxServices-1); more > 0 || len(w.Config.Services) == 0; more-- {
		w.addService(rng)
	}
	w.nameServers(rng)
	w.findHops(rng)
	w.MTUs = randomMTUs(rng)
	w.Config.Limits.Backends = w.backends() + spareBackends
	return w
}

func randomAnswers(rng *rand.Rand) lb.VIPAnswers {
	return lb.VIPAnswers{Neighbours: !chance(rng, 4), Echo: !chance(rng, 4)}
}

// changeHost gives the host one of the VIPs, or none.
func (w *World) changeHost(rng *rand.Rand) {
	w.Host = nil
	for _, f := range families() {
		w.Host = append(w.Host, f.hostAddress())
		if chance(rng, 3) {
			w.Host = append(w.Host, f.vipAddress(rng))
		}
	}
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

func randomRateLimits(rng *rand.Rand) lb.RateLimits {
	limit := func() uint32 { return pick[uint32](rng, 0, 0, 1, 3, 7, 20, 100, 1000, 1_000_000) }
	return lb.RateLimits{Resets: limit(), ICMPErrors: limit(), EchoReplies: limit()}
}

// addService adds any, unless chance makes none that fits in.
func (w *World) addService(rng *rand.Rand) {
	w.addServiceOf(rng, Kind{randomForward(rng), pick(rng, families()...), pick(rng, ipv4, ipv6, ""), Fate{}})
}

// addServiceOf adds one that forwards so between these families; backend "" is both.
func (w *World) addServiceOf(rng *rand.Rand, k Kind) {
	if len(w.Config.Services) == maxServices {
		return
	}
	s := lb.Service{
		Name: w.freeName(), Protocols: randomProtocols(rng), Forward: k.Forward,
		Scheduler: pick(rng, lb.Maglev, lb.Maglev, lb.Random, lb.LeastConn), TableSize: pick[uint32](rng, 0, 127, 251),
		Silent: chance(rng, 4), MSS: randomMSS(rng), QUIC: randomQUIC(rng), Tunnel: lb.Tunnel{Port: 6080},
	}
	for range 20 {
		s.Address = randomVIP(rng, k.Client)
		if w.takes(s) {
			break
		}
	}
	for range 1 + rng.IntN(maxBackends) {
		w.addBackend(rng, &s, k.Backend)
	}
	if len(s.Backends) > 0 && w.takes(s) {
		s.SNAT, s.Tunnel = randomSNAT(rng, s), randomTunnel(rng, s)
		for range rng.IntN(3) {
			changePolicy(rng, &s)
		}
		w.Config.Services = append(w.Config.Services, s)
	}
}

// randomMSS is often none.
func randomMSS(rng *rand.Rand) uint16 {
	return pick[uint16](rng, 0, 0, 0, lb.MSSAuto, lb.MSSAuto, 536, 1200, 1459, 65495)
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

func randomForward(rng *rand.Rand) lb.Forward {
	return pick(rng, lb.ForwardNAT, lb.ForwardNAT, lb.ForwardNAT, lb.ForwardDNAT, lb.ForwardDNAT,
		lb.ForwardDSR, lb.ForwardDSR, lb.ForwardIPIP, lb.ForwardIPIP, lb.ForwardGUE, lb.ForwardGUE)
}

// randomVIP is often a single port, and often in a range that another one is in.
func randomVIP(rng *rand.Rand, f family) lb.VIP {
	ports := pick(rng,
		lb.OnePort(53), lb.OnePort(80), lb.OnePort(80), lb.OnePort(443), lb.OnePort(1026), lb.OnePort(1026),
		lb.PortRange{First: 1, Last: 65535}, lb.PortRange{First: 1, Last: 1023}, lb.PortRange{First: 50, Last: 100},
		lb.PortRange{First: 79, Last: 80}, lb.PortRange{First: 440, Last: 450}, lb.PortRange{First: 1024, Last: 2047},
		lb.PortRange{First: 1025, Last: 1030}, lb.AllPorts(), lb.AllPorts())
	return lb.VIP{Addr: f.vipAddress(rng), Ports: ports}
}

// takes reports whether one more service could be there.
func (w *World) takes(s lb.Service) bool {
	if !reachesItsBackends(s) || loops(s, s) {
		return false
	}
	return !slices.ContainsFunc(w.Config.Services, func(o lb.Service) bool {
		return overlap(o.Protocols, s.Protocols) && (!areApart(o.Address, s.Address) || loops(o, s) || loops(s, o)) ||
			o.Affinity.Group != "" && o.Affinity.Group == s.Affinity.Group && o.Affinity != s.Affinity // no config may say that
	})
}

// reachesItsBackends reports whether the service's way to forward goes with the
// addresses of its backends: dnat keeps the client's, the one-way modes the port.
func reachesItsBackends(s lb.Service) bool {
	return !slices.ContainsFunc(s.Backends, func(b lb.Backend) bool {
		if s.Forward == lb.ForwardDNAT {
			return familyOf(b.Address.Addr()) != familyOf(s.Address.Addr)
		}
		return !s.Forward.Translates() && b.Address.Port() != 0 && s.Address.Ports != lb.OnePort(b.Address.Port())
	})
}

// areApart reports whether it is clear which of two VIPs a packet is for: one may
// be within the other.
func areApart(a, b lb.VIP) bool {
	if a.Addr != b.Addr || !a.Ports.Overlaps(b.Ports) {
		return true
	}
	within := func(a, b lb.PortRange) bool { return b.First <= a.First && a.Last <= b.Last }
	return a.Ports != b.Ports && (within(a.Ports, b.Ports) || within(b.Ports, a.Ports))
}

func overlap(a, b []lb.Protocol) bool {
	return slices.ContainsFunc(a, func(p lb.Protocol) bool { return slices.Contains(b, p) })
}

// loops reports whether a backend of s is where packets for o go.
func loops(s, o lb.Service) bool {
	return slices.ContainsFunc(s.Backends, func(b lb.Backend) bool {
		if b.Address.Addr() != o.Address.Addr {
			return false
		}
		return o.Address.Contains(b.Address) || b.Address.Port() == 0 && o.Address.Ports.Overlaps(s.Address.Ports)
	})
}

func hasBackend(s lb.Service, a netip.AddrPort) bool {
	return slices.ContainsFunc(s.Backends, func(b lb.Backend) bool { return b.Address == a })
}

// mayAnswerItself reports whether what a service's backends answer to is among its own ports.
func mayAnswerItself(s lb.Service) bool {
	return s.Forward.Translates() && slices.Contains(s.SNAT.Addresses, s.Address.Addr) && s.SNAT.Ports.Overlaps(s.Address.Ports)
}

// addBackend adds one of a family, "" for any, unless chance makes none that fits in.
func (w *World) addBackend(rng *rand.Rand, s *lb.Service, f family) {
	if f == "" {
		f = pick(rng, families()...)
	}
	if s.Forward == lb.ForwardDNAT {
		f = familyOf(s.Address.Addr)
	}
	address := f.backendAddress(rng)
	if chance(rng, 20) {
		address = f.vipAddress(rng)
	}
	port := pick(rng, 0, 0, s.Address.Ports.First, 53, 80, 8080) // the first two go with every mode
	b := lb.Backend{Address: netip.AddrPortFrom(address, port), Weight: pick[uint32](rng, 1, 1, 1, 2, 5, 100, 0)}
	if chance(rng, 2) {
		b.Name = "b-" + b.Address.String()
	}
	more := *s
	more.Backends = append(slices.Clone(s.Backends), b)
	if !hasBackend(*s, b.Address) && len(s.Backends) < maxBackends && w.takes(more) {
		*s = more
	}
}

// clients is the family of a service's clients; backends those of its backends.
func clients(s lb.Service) family { return familyOf(s.Address.Addr) }

func backendsOf(s lb.Service) (all []family) {
	for _, f := range families() {
		if slices.ContainsFunc(s.Backends, func(b lb.Backend) bool { return familyOf(b.Address.Addr()) == f }) {
			all = append(all, f)
		}
	}
	return all
}

// randomSNAT is often a pool that is too small, and that has VIPs in it.
func randomSNAT(rng *rand.Rand, s lb.Service) lb.SNAT {
	var snat lb.SNAT
	for _, f := range backendsOf(s) {
		switch rng.IntN(5) {
		case 0:
			snat.Addresses = append(snat.Addresses, f.vipAddress(rng))
		case 1:
			snat.Addresses = append(snat.Addresses, f.address(10, 0, 0, 100), f.address(203, 0, 113, 1))
		}
	}
	first := 1024 + uint16(rng.IntN(3))
	switch rng.IntN(10) {
	case 0, 1, 5, 6, 7:
		snat.Ports = lb.PortRange{First: first, Last: first + uint16(rng.IntN(3))}
	case 2, 3:
		snat.Ports = lb.PortRange{First: first, Last: first + uint16(rng.IntN(16))}
	case 4: // too large to be searched whole for every packet
		snat.Ports = lb.PortRange{First: first, Last: first + 100 + uint16(rng.IntN(60))}
	default:
		snat.Ports = lb.PortRange{First: 1024, Last: 32767}
	}
	if s.Forward == lb.ForwardDNAT && chance(rng, 2) { // few of its flows need a port
		snat.Ports = lb.OnePort(first)
	}
	return snat
}

// randomTunnel has sources of the backends' families, or leaves them to the host.
func randomTunnel(rng *rand.Rand, s lb.Service) lb.Tunnel {
	t := lb.Tunnel{Port: pick[uint16](rng, 6080, 6080, 1, 0xfeed)}
	for _, f := range backendsOf(s) {
		bits := pick(rng, 8, 16, 24, 31, 32)
		if f == ipv6 {
			bits = pick(rng, 32, 64, 95, 96, 97, 112, 127, 128)
		}
		if chance(rng, 2) {
			t.Sources = append(t.Sources, netip.PrefixFrom(f.address(172, 16, 5, 129), bits).Masked())
		}
	}
	return t
}

// findHops gives a next hop to each backend that has none.
func (w *World) findHops(rng *rand.Rand) {
	for _, a := range w.Config.BackendAddresses() {
		if _, known := w.Hops[a]; !known {
			w.Hops[a] = randomHop(rng, a)
		}
	}
}

func randomHop(rng *rand.Rand, a netip.Addr) lb.NextHop {
	hop := lb.NextHop{
		Interface: pick(rng, datapath.LoopbackIndex, datapath.LoopbackIndex, otherInterface, otherInterface+1),
		MAC:       randomMAC(rng), Source: familyOf(a).hostAddress(), MTU: pick(rng, usualMTUs()...),
	}
	if chance(rng, 2) {
		hop.SourceMAC = lb.MAC{2, 2, 0, 0, 0, byte(hop.Interface)}
	}
	if chance(rng, 11) {
		hop.Source = netip.Addr{}
	}
	if chance(rng, 3) {
		hop.VLAN = randomVLAN(rng)
	}
	if hop.Routed = chance(rng, 6); !hop.Routed {
		hop.Link = randomLink(rng, a)
	}
	if chance(rng, 12) {
		return lb.NextHop{Problem: "no answer"}
	}
	return hop
}

// usualMTUs are those of interfaces and routes, as often as they occur here; 0: not known.
func usualMTUs() []int { return []int{0, 600, 1280, 1300, 1400, 1500, 1500, 1500, 1500, 4000, 9000} }

// randomMTUs are often large where packets come in: what is longer is not judged.
func randomMTUs(rng *rand.Rand) map[int]int {
	mtus := map[int]int{}
	if mtu := pick(rng, append(usualMTUs(), 4000, 9000, 9000, 9000)...); mtu > 0 {
		mtus[datapath.LoopbackIndex] = mtu
	}
	return mtus
}

// randomVLAN is one of a few, so that clients and backends meet in it.
func randomVLAN(rng *rand.Rand) uint16 {
	return pick[uint16](rng, 10, 10, 20, lb.MaxVLAN, lb.VLANAsItCame)
}

// randomLink is what the host's route to an address has as its destination.
func randomLink(rng *rand.Rand, a netip.Addr) netip.Prefix {
	bits := a.BitLen() - pick(rng, 0, 4, 5, 8, 8, 8, 24)
	return netip.PrefixFrom(a, bits).Masked()
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
