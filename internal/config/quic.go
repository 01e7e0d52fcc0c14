package config

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tinylb/tinylb/internal/lb"
)

const (
	maxQUICConfig   = 6 // 7 says that connection ids name nobody
	maxServerID     = 15
	exampleServerID = "server_id: \"0a1b\""
)

// serverID is where a backend says, or should say, what QUIC connection ids call it.
type serverID struct {
	backend *node
	id      *node // nil: nowhere
}

func (d *decoder) quic(n *node, s *service) {
	s.quic = n
	d.fields(n, "quic",
		field{name: "config_id", read: func(n *node) {
			if id, ok := d.number(n, 0, maxQUICConfig); ok {
				s.QUIC.ConfigID = uint8(id)
			}
		}},
		field{name: "server_id_length", required: true, read: func(n *node) {
			if length, ok := d.number(n, 1, maxServerID); ok {
				s.QUIC.ServerIDLength = uint8(length)
			}
		}},
	)
}

// checkServerIDs reads what the backends are called by connection ids, once it is known
// how long that has to be.
func (d *decoder) checkServerIDs(s *service) {
	if s.quic != nil && !slices.Equal(s.Protocols, []lb.Protocol{lb.UDP}) {
		d.fail(s.quic.keyAt, "set protocol: udp, and put other protocols into a service of their own",
			"quic: only UDP carries QUIC, and the service has other protocols, too")
	}
	if s.quic != nil {
		s.ServerIDs = make(map[netip.AddrPort]string, len(s.servers))
	}
	first := map[string]position{}
	for i, server := range s.servers {
		switch {
		case server.id == nil && s.quic != nil:
			d.fail(server.backend.position, "add "+exampleServerID, "backends: a service with quic needs the server_id of each backend")
		case server.id != nil && s.quic == nil:
			d.fail(server.id.keyAt, "remove it, or give the service quic: {server_id_length: ...}",
				"server_id: the service has no quic: this would be ignored")
		case server.id != nil && s.QUIC.ServerIDLength > 0:
			id, ok := d.serverID(server.id, int(s.QUIC.ServerIDLength))
			if before, twice := first[id]; ok && twice {
				d.fail(server.id.position, "give each backend of a service its own", "server_id: %s was already given in line %d", id, before.line)
			}
			if ok {
				first[id], s.ServerIDs[s.Backends[i].Address] = server.id.position, id
			}
		}
	}
}

func (d *decoder) serverID(n *node, length int) (string, bool) {
	expected := fmt.Sprintf("%d hexadecimal digits, as server_id_length is %d", 2*length, length)
	text, ok := d.text(n, expected)
	if !ok {
		return "", false
	}
	if bytes, err := hex.DecodeString(text); err != nil || len(bytes) != length {
		d.fail(n.position, "as in "+exampleServerID+" for two bytes", "server_id: expected %s, found %s", expected, quote(text))
		return "", false
	}
	return strings.ToLower(strings.Clone(text)), true
}
