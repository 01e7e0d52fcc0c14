package reconcile_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/reconcile"
)

// Addresses tell what they are for, so that a look at the tables alone shows a
// mix-up: VIPs are 10.0.0.x and 2001:db8:10::x, backends 192.168.0.x and
// 2001:db8:92::x, a host's own address 172.31.0.x and 2001:db8:31::x, and the
// l-th SNAT list is 172.16.l.1, 172.16.l.2 and so on, or 2001:db8:16::l:1 ...

func vip(n int, port uint16) lb.VIP { return vipRange(n, port, port) }

func vipRange(n int, first, last uint16) lb.VIP {
	v := lb.VIP{Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), Ports: lb.PortRange{First: first, Last: last}}
	if n%4 == 3 {
		v.Addr = six(0x10, n)
	}
	return v
}

func isVIP(a netip.Addr) bool { return a == vip(int(a.As16()[15]), 0).Addr }

func six(group, n int) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, byte(group), 14: byte(n >> 8), 15: byte(n)})
}

func backendAt(n int, port uint16) netip.AddrPort {
	if n%4 == 3 {
		return netip.AddrPortFrom(six(0x92, n), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, byte(n / 250), byte(n%250 + 1)}), port)
}

// snatList has up to three addresses, and 300 from the 200th list on.
func snatList(l int) []netip.Addr {
	var list []netip.Addr
	for i := range snatSize(l) {
		list = append(list, netip.AddrFrom4([4]byte{172, byte(16 + i/250), byte(l), byte(i%250 + 1)}))
	}
	return list
}

func snatListSix(l int) []netip.Addr {
	var list []netip.Addr
	for i := range snatSize(l) {
		bytes := six(0x16, 1+i).As16()
		bytes[13] = byte(l)
		list = append(list, netip.AddrFrom16(bytes))
	}
	return list
}

func snatSize(l int) int {
	if l >= 200 {
		return 300
	}
	return 1 + l%3
}

func isList(list []netip.Addr) bool {
	if len(list) == 0 {
		return true
	}
	if !list[0].IsValid() {
		return false
	}
	first := list[0].As16()
	if list[0].Is4() && first[12] == 172 && first[13] == 16 {
		return slices.Equal(list, snatList(int(first[14])))
	}
	if list[0].Is6() && first[5] == 0x16 {
		return slices.Equal(list, snatListSix(int(first[13])))
	}
	return len(list) == 1
}

// hopTo is a next hop whose MAC says toward whom.
func hopTo(address netip.Addr, variant int) lb.NextHop {
	hop := lb.NextHop{
		Interface: 1 + variant%2,
		MAC:       lb.MAC{2, byte(variant)},
		SourceMAC: lb.MAC{2, 0xff, 0, 0, 0, byte(1 + variant%2)},
		Source:    netip.AddrFrom4([4]byte{172, 31, 0, byte(1 + variant%2)}),
	}
	if address.Is6() {
		hop.Source = six(0x31, 1+variant%2)
	}
	copy(hop.MAC[2:], lastBytes(address))
	switch variant {
	case 3:
		hop.Routed = true
	case 2:
		hop.Link = netip.PrefixFrom(address, address.BitLen()/2).Masked()
	default:
		hop.Link = netip.PrefixFrom(address, address.BitLen()-8).Masked()
	}
	return hop
}

func leadsTo(hop lb.NextHop, address netip.Addr) bool {
	return slices.Equal(hop.MAC[2:], lastBytes(address))
}

func lastBytes(address netip.Addr) []byte {
	all := address.AsSlice()
	return all[len(all)-4:]
}

// world is a desired state that changes at random.
type world struct {
	rng      *rand.Rand
	services []*worldService
	hops     map[netip.Addr]lb.NextHop
	health   map[identity]*lb.Health // of the backends that are checked, and of others
	timeouts lb.Timeouts
	limits   lb.RateLimits
	numbers  int
	servers  int
	seed     uint32
	gone     []*worldService // in this step: with the VIP of one, another would be the same by another name
}

type worldService struct {
	lb.Service
	number int  // whatever its name
	moved  bool // got another name or address in this step
}

func newWorld(seed uint64) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 0)), hops: map[netip.Addr]lb.NextHop{}, health: map[identity]*lb.Health{}}
	w.timeouts.TCPEstablished = time.Hour
	for range 4 {
		w.addService()
	}
	w.checkAll()
	return w
}

// config is a copy that later steps leave alone.
func (w *world) config() lb.Config {
	cfg := lb.Config{Timeouts: w.timeouts, RateLimits: w.limits, Seed: w.seed}
	for _, s := range w.services {
		service := s.Service
		service.Backends = slices.Clone(service.Backends)
		service.ServerIDs = maps.Clone(service.ServerIDs)
		cfg.Services = append(cfg.Services, service)
	}
	return cfg
}

// clone stays as it is while w goes on.
func (w *world) clone() *world {
	c := *w
	c.hops, c.health, c.services = maps.Clone(w.hops), maps.Clone(w.health), nil
	for i, s := range w.config().Services {
		c.services = append(c.services, &worldService{Service: s, number: w.services[i].number})
	}
	return &c
}

func (w *world) identities() map[identity]bool {
	all := map[identity]bool{}
	for _, s := range w.services {
		for _, b := range s.Backends {
			all[identity{s.number, b.Address}] = true
		}
	}
	return all
}

// step makes a few changes at once.
func (w *world) step() {
	w.gone = nil
	for _, s := range w.services {
		s.moved = false
	}
	w.changeSome()
}

func (w *world) changeSome() {
	for range 1 + w.rng.IntN(4) {
		if len(w.services) < 2 || w.rng.IntN(12) == 0 {
			w.addService()
			continue
		}
		s := w.services[w.rng.IntN(len(w.services))]
		w.change(s)
	}
	w.checkAll()
}

// checkAll makes up the health of those backends that have none yet.
func (w *world) checkAll() {
	for _, s := range w.services {
		for _, b := range s.Backends {
			if who := (identity{s.number, b.Address}); s.Check != nil && w.health[who] == nil {
				w.changeHealth(who)
			}
		}
	}
}

func (w *world) changeHealth(who identity) {
	states := []lb.HealthState{lb.HealthUnknown, lb.HealthNew, lb.HealthUp, lb.HealthUp, lb.HealthDown}
	h := &lb.Health{State: states[w.rng.IntN(len(states))], Error: fmt.Sprintf("error %d", w.rng.IntN(2))}
	if h.State == lb.HealthDown {
		h.Transitions = []lb.Transition{{State: lb.HealthDown, Cause: "connection refused"}}
	}
	w.health[who] = h
}

// tell hands over what is known of all that are checked.
func (w *world) tell(r *reconcile.Reconciler) {
	news := map[lb.CheckedBackend]*lb.Health{}
	for _, s := range w.services {
		for _, b := range s.Backends {
			if s.Check != nil {
				news[lb.CheckedBackend{Service: s.Name, Address: b.Address}] = w.health[identity{s.number, b.Address}]
			}
		}
	}
	r.LearnHealth(news)
}

func (w *world) change(s *worldService) {
	b := &s.Backends[w.rng.IntN(len(s.Backends))]
	switch w.rng.IntN(32) {
	case 26:
		w.seed = uint32(w.rng.IntN(2))
	case 24:
		w.chooseQUIC(s)
	case 25: // two servers change places
		o := &s.Backends[w.rng.IntN(len(s.Backends))]
		if s.ServerIDs != nil {
			s.ServerIDs[b.Address], s.ServerIDs[o.Address] = s.ServerIDs[o.Address], s.ServerIDs[b.Address]
		}
	case 23:
		w.choosePolicy(s)
	case 0:
		w.services = slices.DeleteFunc(w.services, func(o *worldService) bool { return o == s })
		w.gone = append(w.gone, s)
	case 1:
		if !s.moved { // another name and another address: that is another service
			s.Name, s.moved = fmt.Sprintf("renamed-%d", w.rng.IntN(1_000_000)), true
		}
	case 2:
		if !s.moved {
			s.Address, s.Protocols = w.freeVIP()
			s.moved = true
		}
	case 20:
		if !s.moved { // wider or narrower, with the same name
			s.Address, s.Protocols = w.freeVIP()
			s.moved = true
		}
	case 21:
		s.Forward = lb.Forwards()[w.rng.IntN(5)]
	case 22:
		w.chooseTunnel(s)
	case 27:
		if s.Check == nil {
			s.Check = &lb.Check{Type: lb.CheckTCP}
		} else {
			s.Check = nil
		}
	case 28, 29, 30:
		if s.Check != nil {
			w.changeHealth(identity{s.number, b.Address})
		}
	case 3:
		o := w.services[w.rng.IntN(len(w.services))]
		if !s.moved && !o.moved {
			s.Address, o.Address = o.Address, s.Address
			s.Protocols, o.Protocols = o.Protocols, s.Protocols
			s.moved, o.moved = true, true
		}
	case 4, 5:
		w.addBackend(s)
	case 6:
		if len(s.Backends) > 1 {
			s.Backends = slices.DeleteFunc(s.Backends, func(o lb.Backend) bool { return o == *b })
		}
	case 7:
		b.Weight = 0
	case 8:
		b.Weight = uint32(w.rng.IntN(5))
	case 9:
		for i := range s.Backends {
			s.Backends[i].Weight = uint32(w.rng.IntN(3))
		}
	case 10:
		if address := w.freeBackend(s); address.IsValid() {
			b.Address = address
		}
	case 11:
		b.Name = fmt.Sprintf("b-%d", w.rng.IntN(100))
	case 12:
		s.Scheduler, s.Silent = lb.Schedulers()[w.rng.IntN(3)], w.rng.IntN(2) == 0
	case 13:
		w.chooseSNAT(s)
	case 14:
		s.SNAT.Ports.Last = uint16(20000 + w.rng.IntN(10000))
	case 15:
		s.TableSize = []uint32{0, 127, 251}[w.rng.IntN(3)]
	case 16:
		w.rng.Shuffle(len(s.Backends), func(i, j int) { s.Backends[i], s.Backends[j] = s.Backends[j], s.Backends[i] })
		w.rng.Shuffle(len(w.services), func(i, j int) { w.services[i], w.services[j] = w.services[j], w.services[i] })
	case 17:
		w.timeouts.UDPStream++
		w.limits.Resets += uint32(w.rng.IntN(2))
	default:
		w.changeHop(b.Address.Addr())
	}
}

func (w *world) changeHop(address netip.Addr) {
	switch w.rng.IntN(4) {
	case 0:
		w.hops[address] = lb.NextHop{Problem: fmt.Sprintf("no answer %d", w.rng.IntN(2))}
	case 1:
		hop := hopTo(address, w.rng.IntN(4))
		hop.Source = netip.Addr{}
		w.hops[address] = hop
	default:
		w.hops[address] = hopTo(address, w.rng.IntN(4))
	}
}

func (w *world) addService() {
	if len(w.services) == 10 {
		return
	}
	w.numbers++
	s := &worldService{number: w.numbers, moved: true}
	s.Name = fmt.Sprintf("service-%d", w.numbers)
	s.Address, s.Protocols = w.freeVIP()
	s.Forward, s.Scheduler = lb.Forwards()[w.rng.IntN(5)], lb.Maglev
	s.SNAT.Ports = lb.PortRange{First: 1024, Last: 32767}
	w.chooseSNAT(s)
	w.chooseTunnel(s)
	if w.rng.IntN(2) == 0 {
		s.Check = &lb.Check{Type: lb.CheckTCP}
	}
	for range 1 + w.rng.IntN(4) {
		w.addBackend(s)
	}
	w.services = append(w.services, s)
}

// choosePolicy changes one or more of what a service asks of new flows, or its timeouts.
func (w *world) choosePolicy(s *worldService) {
	s.MaxFlows, s.NewFlowsPerSecond = uint32(w.rng.IntN(3)), uint32(w.rng.IntN(3))
	switch w.rng.IntN(6) {
	case 0:
		s.Allow, s.Deny = w.sources(), w.sources()
	case 1:
		s.Allow, s.Deny = nil, nil
	case 2:
		s.Timeouts = lb.Timeouts{}
	case 3:
		s.Timeouts = lb.Timeouts{TCPEstablished: time.Duration(1+w.rng.IntN(3)) * time.Hour}
	case 4:
		s.PerClient = lb.ClientRate{NewFlowsPerSecond: uint32(w.rng.IntN(2)), PrefixV4: 24, PrefixV6: uint8(w.rng.IntN(2))}
	case 5:
		s.Affinity = lb.Affinity{
			Timeout: time.Duration(w.rng.IntN(2)) * time.Hour, PrefixV4: 32, PrefixV6: 64, Group: []string{"", "a", "b"}[w.rng.IntN(3)],
		}
	}
	for i := range s.Backends {
		s.Backends[i].MaxFlows = uint32(w.rng.IntN(2))
	}
}

// sources are few, so that lists are often the same.
func (w *world) sources() []netip.Prefix {
	all := []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("192.0.2.1/32"),
		netip.MustParsePrefix("2001:db8::/32"),
	}
	return all[w.rng.IntN(2) : w.rng.IntN(4)+1]
}

func (w *world) chooseSNAT(s *worldService) {
	s.SNAT.Addresses = nil
	if w.rng.IntN(8) == 0 {
		s.SNAT.Addresses = []netip.Addr{vip(1+w.rng.IntN(4), 1).Addr}
		return
	}
	if w.rng.IntN(2) == 0 {
		s.SNAT.Addresses = snatList(w.rng.IntN(6))
	}
	if w.rng.IntN(2) == 0 {
		s.SNAT.Addresses = append(s.SNAT.Addresses, snatListSix(w.rng.IntN(6))...)
	}
}

func (w *world) chooseTunnel(s *worldService) {
	s.Tunnel = lb.Tunnel{Port: uint16(6080 + w.rng.IntN(2))}
	if w.rng.IntN(2) == 0 {
		s.Tunnel.Sources = append(s.Tunnel.Sources, netip.MustParsePrefix("172.20.0.0/16"))
	}
	if w.rng.IntN(2) == 0 {
		s.Tunnel.Sources = append(s.Tunnel.Sources, netip.MustParsePrefix("2001:db8:20::/64"))
	}
}

// portRanges lie inside one another in many ways; some have blocks in common, and
// one consists of two others.
func portRanges() []lb.PortRange {
	return []lb.PortRange{
		lb.AllPorts(), {First: 1, Last: 1023}, {First: 64, Last: 127}, {First: 64, Last: 79}, {First: 80, Last: 95}, {First: 96, Last: 127},
		{First: 8001, Last: 8010}, {First: 8001, Last: 8003}, {First: 8004, Last: 8010}, {First: 8004, Last: 8007}, {First: 8000, Last: 8100},
		lb.OnePort(53), lb.OnePort(80), lb.OnePort(443), lb.OnePort(8005),
	}
}

func (w *world) freeVIP() (lb.VIP, []lb.Protocol) {
	for {
		ports := portRanges()[w.rng.IntN(len(portRanges()))]
		address := vipRange(1+w.rng.IntN(4), ports.First, ports.Last)
		protocols := [][]lb.Protocol{{lb.TCP}, {lb.UDP}, {lb.TCP, lb.UDP}}[w.rng.IntN(3)]
		if !slices.ContainsFunc(slices.Concat(w.services, w.gone), func(s *worldService) bool {
			return sharesProtocol(s.Protocols, protocols) && inConflict(s.Address, address)
		}) {
			return address, protocols
		}
	}
}

func sharesProtocol(a, b []lb.Protocol) bool {
	return slices.ContainsFunc(a, func(p lb.Protocol) bool { return slices.Contains(b, p) })
}

// inConflict reports whether both VIPs have a port and neither is inside the other.
func inConflict(a, b lb.VIP) bool {
	inside := func(in, out lb.PortRange) bool { return out.First <= in.First && in.Last <= out.Last && in != out }
	return a.Addr == b.Addr && a.Ports.Overlaps(b.Ports) && !inside(a.Ports, b.Ports) && !inside(b.Ports, a.Ports)
}

// destinations are at the edges of all ranges that any service may have.
func destinations() []destination {
	var all []destination
	for n := 1; n <= 4; n++ {
		for _, ports := range portRanges() {
			for _, port := range []uint16{ports.First - 1, ports.First, ports.Last, ports.Last + 1} {
				address := netip.AddrPortFrom(vip(n, 1).Addr, port)
				all = append(all, destination{address, lb.TCP}, destination{address, lb.UDP})
			}
		}
	}
	return all
}

// serviceAt is the service whose range is the smallest that has the port.
func (w *world) serviceAt(d destination) *worldService {
	var found *worldService
	for _, s := range w.services {
		if s.Address.Contains(d.AddrPort) && slices.Contains(s.Protocols, d.protocol) &&
			(found == nil || s.Address.Ports.Size() < found.Address.Ports.Size()) {
			found = s
		}
	}
	return found
}

func (w *world) addBackend(s *worldService) {
	if address := w.freeBackend(s); address.IsValid() && len(s.Backends) < 8 {
		s.Backends = append(s.Backends, lb.Backend{Address: address, Weight: uint32(1 + w.rng.IntN(3))})
		w.nameServer(s, address)
	}
}

// freeBackend is an address that the service does not have yet; often one that
// other services have.
func (w *world) freeBackend(s *worldService) netip.AddrPort {
	address := backendAt(w.rng.IntN(12), []uint16{0, 8000, 8001}[w.rng.IntN(3)])
	if slices.ContainsFunc(s.Backends, func(b lb.Backend) bool { return b.Address == address }) {
		return netip.AddrPort{}
	}
	if _, known := w.hops[address.Addr()]; !known && w.rng.IntN(2) == 0 {
		w.changeHop(address.Addr())
	}
	return address
}

// snapshot is what Apply is given.
func (w *world) snapshot() (lb.Config, map[netip.Addr]lb.NextHop) {
	return w.config(), maps.Clone(w.hops)
}

// chooseQUIC gives each backend another server id, or none of them any.
func (w *world) chooseQUIC(s *worldService) {
	s.QUIC = lb.QUIC{}
	if w.rng.IntN(4) > 0 {
		s.QUIC = lb.QUIC{ConfigID: uint8(w.rng.IntN(7)), ServerIDLength: 2}
	}
	s.ServerIDs = nil
	if s.QUIC.ServerIDLength > 0 {
		s.ServerIDs = map[netip.AddrPort]string{}
	}
	for _, b := range s.Backends {
		w.nameServer(s, b.Address)
	}
}

// nameServer gives a backend an id that no other one has, where connection ids matter.
func (w *world) nameServer(s *worldService, address netip.AddrPort) {
	if s.ServerIDs != nil {
		w.servers++
		s.ServerIDs[address] = fmt.Sprintf("%04x", w.servers)
	}
}
