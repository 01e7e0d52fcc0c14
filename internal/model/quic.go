package model

import (
	"encoding/hex"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
)

// namedBy is the backend that a datagram's QUIC connection id names; nil: none, or none that packets
// can be sent to (draft-ietf-quic-load-balancers-21, sections 3, 4.1 and 5.1).
func (s *service) namedBy(p *parsed) *backend {
	length := int(s.config.QUIC.ServerIDLength)
	if length == 0 || p.tuple.protocol != lb.UDP {
		return nil
	}
	id := connectionID(p.udpPayload())
	if len(id) < 1+length || id[0]>>5 != s.config.QUIC.ConfigID {
		return nil
	}
	name := hex.EncodeToString(id[1 : 1+length])
	i := slices.IndexFunc(s.backends, func(b *backend) bool { return s.config.ServerIDs[b.config.Address] == name && s.takes(b) })
	if i < 0 {
		return nil
	}
	return s.backends[i]
}

// connectionID is the destination's, and in a short header whatever follows it: the length is not in there
// (RFC 8999, section 5).
func connectionID(payload []byte) []byte {
	const shortID, longLength, longID = 1, 5, 6
	switch {
	case len(payload) == 0:
		return nil
	case payload[0]&0x80 == 0:
		return payload[shortID:]
	case len(payload) < longID || len(payload) < longID+int(payload[longLength]):
		return nil
	}
	return payload[longID : longID+int(payload[longLength])]
}

// isOfAnother reports whether a packet of a known flow belongs to a connection that another backend has: its
// connection id says so.
func (f *flow) isOfAnother(p *parsed) bool {
	if p.flaw != "" || p.tuple != f.request || f.backend.gone {
		return false
	}
	named := f.service.namedBy(p)
	return named != nil && named != f.backend
}
