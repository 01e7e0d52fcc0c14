package diff

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// randomQUIC is for services with UDP alone; see nameServers.
func randomQUIC(rng *rand.Rand) lb.QUIC {
	return lb.QUIC{ConfigID: uint8(rng.IntN(7)), ServerIDLength: pick[uint8](rng, 0, 1, 1, 2, 7, 15)}
}

// nameServers sees to it that the backends of services with QUIC connection ids have a server id
// each, and that others have none.
func (w *World) nameServers(rng *rand.Rand) {
	for i := range w.Config.Services {
		s := &w.Config.Services[i]
		if s.QUIC.ServerIDLength == 0 || !slices.Equal(s.Protocols, []lb.Protocol{lb.UDP}) {
			s.QUIC = lb.QUIC{}
		}
		before := s.ServerIDs
		s.ServerIDs = nil
		if s.QUIC.ServerIDLength == 0 {
			continue
		}
		s.ServerIDs = map[netip.AddrPort]string{}
		used := map[string]bool{}
		for _, b := range s.Backends {
			id := before[b.Address]
			for len(id) != 2*int(s.QUIC.ServerIDLength) || used[id] {
				id = fmt.Sprintf("%0*x", 2*s.QUIC.ServerIDLength, rng.IntN(256)) // they often begin alike
			}
			used[id], s.ServerIDs[b.Address] = true, id
		}
	}
}

// named gives most datagrams to a service with QUIC connection ids such an id, often that of
// the backend which has the flow.
func (t *Traffic) named(p packet.Packet) packet.Packet {
	if p.Protocol != lb.UDP || chance(t.rng, 5) {
		return p
	}
	for _, s := range t.world.Config.Services {
		if s.QUIC.ServerIDLength > 0 && s.Address.Contains(p.Dst) {
			var flow netip.AddrPort
			i := slices.IndexFunc(t.known, func(c *conversation) bool { return c.ends == ends{lb.UDP, p.Src, p.Dst} })
			if i >= 0 {
				flow = t.known[i].chosen
			}
			p.Payload = quicPayload(t.rng, s, flow)
		}
	}
	return p
}

// quicPayload is as QUIC's packets begin, and now and then broken (RFC 8999, section 5).
func quicPayload(rng *rand.Rand, s lb.Service, flow netip.AddrPort) []byte {
	b := pick(rng, s.Backends...)
	if i := slices.IndexFunc(s.Backends, func(b lb.Backend) bool { return b.Address == flow }); i >= 0 && !chance(rng, 3) {
		b = s.Backends[i]
	}
	server, _ := hex.DecodeString(s.ServerIDs[b.Address])
	if chance(rng, 8) { // whoever that is
		server[rng.IntN(len(server))] ^= byte(1 << rng.IntN(8))
	}
	config := s.QUIC.ConfigID
	if chance(rng, 8) {
		config = uint8(rng.IntN(8))
	}
	id := append([]byte{config<<5 | byte(rng.IntN(32))}, server...)
	id = append(id, randomBytes(rng, rng.IntN(6))...)
	header := []byte{byte(rng.IntN(128))}
	if chance(rng, 3) {
		length := byte(len(id))
		if chance(rng, 4) {
			length = pick(rng, 0, byte(len(server)), byte(len(server))+1, length+1, byte(rng.Uint32()))
		}
		header = append([]byte{0x80 | header[0], 0, 0, 0, 1}, length)
	}
	payload := append(append(header, id...), randomBytes(rng, pick(rng, 0, 0, 1, rng.IntN(60)))...)
	if chance(rng, 6) {
		payload = payload[:rng.IntN(len(payload)+1)]
	}
	return payload
}
