package model

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

// PathMTU is how large a packet may be on its way to a backend's address, and until
// when that is believed.
type PathMTU struct {
	MTU   int
	Until time.Time
}

const (
	pathMTULifetime = 10 * time.Minute // RFC 1191, section 6.3; RFC 8201, section 4
	leastPathMTU    = 576              // lower ones are a way to slow others down
	leastPathMTUv6  = 1280             // RFC 8200, section 5
	fragmentation   = 4                // the code of "fragmentation needed and DF set"
)

// learnPathMTU takes an error about a tunnel's packet at its word, if it is one of a
// tunnel of ours and says what size would do. The host may learn it too.
func (m *Model) learnPathMTU(p, q *parsed, got observed) (decision, bool) {
	mtu := p.toldMTU(q)
	s, b := m.tunnelTo(q, got)
	if mtu == 0 || b == nil {
		return decision{}, false
	}
	address, least := b.config.Address.Addr(), leastPathMTU
	if address.Is6() {
		least = leastPathMTUv6
	}
	mtu = max(mtu, least)
	if known := m.pathMTUs[address]; !known.Until.After(m.now) || mtu <= known.MTU {
		m.pathMTUs[address] = PathMTU{mtu, m.now.Add(pathMTULifetime)}
	}
	return decision{verdict: Pass, reason: PathMTUSet, service: s, backend: b, frame: p.frame}, true
}

// toldMTU is the MTU that an error about a packet tells; 0: none.
func (p *parsed) toldMTU(q *parsed) int {
	rest := binary.BigEndian.Uint32(p.l4Bytes()[icmpRestAt:])
	switch {
	case p.isIPv6() && p.icmpType() == packetTooBigV6:
		return int(rest)
	case p.isIPv6() || p.icmpType() != unreachable || p.icmpCode() != fragmentation:
		return 0
	case rest&0xffff != 0:
		return int(rest & 0xffff)
	}
	return plateau(q.said())
}

// said is how long the packet is by its own header.
func (p *parsed) said() int {
	if p.isIPv4() {
		return int(binary.BigEndian.Uint16(p.frame[p.ip+2:]))
	}
	return ipv6Size + int(binary.BigEndian.Uint16(p.frame[p.ip+4:]))
}

// plateau is the MTU that a link has most likely on which a packet of a size does
// not fit (RFC 1191, section 7.1).
func plateau(size int) int {
	for _, mtu := range []int{32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296} {
		if mtu < size {
			return mtu
		}
	}
	return 68
}

// tunnelTo is the backend that a packet was encapsulated for, by its outer headers.
// Where several have the same ones, the one that was observed is it.
func (m *Model) tunnelTo(q *parsed, got observed) (service *service, backend *backend) {
	bits := -1
	for _, s := range m.services {
		if !s.encapsulates(q) {
			continue
		}
		for _, b := range s.backends {
			source := b.tunnelSource
			if b.config.Address.Addr() != q.tuple.dst.Addr() || !source.IsValid() || !source.Contains(q.tuple.src.Addr()) || source.Bits() < bits {
				continue
			}
			if source.Bits() > bits || got.Service == s.config.Name && got.Backend == b.config.Label() {
				service, backend, bits = s, b, source.Bits()
			}
		}
	}
	return service, backend
}

// encapsulates reports whether a packet's protocol is that of the service's tunnels.
func (s *service) encapsulates(q *parsed) bool {
	switch s.config.Forward {
	case lb.ForwardIPIP:
		return q.tuple.protocol == ipv4InIP || q.tuple.protocol == ipv6InIP
	case lb.ForwardGUE:
		return q.tuple.protocol == lb.UDP && q.hasPorts && q.tuple.dst.Port() == s.config.Tunnel.Port
	}
	return false
}

// forgetPathMTUs leaves those to backends that there are.
func (m *Model) forgetPathMTUs() {
	for address := range m.pathMTUs {
		if !slices.ContainsFunc(m.services, func(s *service) bool {
			return slices.ContainsFunc(s.backends, func(b *backend) bool { return b.config.Address.Addr() == address })
		}) {
			delete(m.pathMTUs, address)
		}
	}
}

// CheckPathMTUs compares what is remembered of paths with what must be.
func (m *Model) CheckPathMTUs(got map[netip.Addr]PathMTU) error {
	wrong := differences("path MTU", m.pathMTUs, got)
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return fmt.Errorf("%s", strings.Join(wrong, "\n"))
}
