package model

import (
	"encoding/binary"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// tags are what stands between a frame's Ethernet addresses and the type of what it
// carries, outermost first (IEEE 802.1Q, section 9).
func (p *parsed) tags() (all []packet.Tag) {
	for b := p.frame[2*macSize : p.ip-etherTypeSize]; len(b) > 0; b = b[vlanTagSize:] {
		all = append(all, packet.Tag{Type: binary.BigEndian.Uint16(b), Control: binary.BigEndian.Uint16(b[etherTypeSize:])})
	}
	return all
}

const (
	vlanIDs      = 1<<12 - 1
	vlanPriority = 0xf000 // and drop eligible
)

// vlan is the tags of a link without the priority that each frame has of its own. A
// priority tag, of VLAN 0, says nothing else.
type vlan []packet.Tag

func (p *parsed) vlan() vlan {
	all := vlan(p.tags())
	for i := range all {
		all[i].Control &= vlanIDs
	}
	if slices.Equal(all, vlan{packet.VLAN(0)}) {
		return nil
	}
	return all
}

// isUsual reports whether frames of the VLAN have one 802.1Q tag, with an id that is
// not reserved, or none.
func (v vlan) isUsual() bool {
	return len(v) == 0 || len(v) == 1 && v[0].Type == packet.EtherTypeVLAN && v[0].ID() <= lb.MaxVLAN
}

// tagsIn are those that the packet leaves in a VLAN with: each has the priority of
// the one that was in its place.
func (p *parsed) tagsIn(v vlan) []packet.Tag {
	all, came := slices.Clone(v), p.tags()
	for i := range min(len(all), len(came)) {
		all[i].Control |= came[i].Control & vlanPriority
	}
	return all
}

// wayOut is by which interface, between which addresses and with which tags a frame
// leaves.
type wayOut struct {
	by       int
	src, dst lb.MAC
	tags     []packet.Tag
}

// wayBack is to whoever the packet came from.
func (m *Model) wayBack(p *parsed) wayOut {
	return wayOut{m.opts.Interface, p.dstMAC(), p.srcMAC(), p.tags()}
}

// wayToClient is by which a flow's client sent its last packet. On the link that the
// answer comes from it is sent from the address that that was sent to.
func (m *Model) wayToClient(f *flow, p *parsed) wayOut {
	out := wayOut{m.opts.Interface, f.localMAC, f.clientMAC, p.tagsIn(f.clientVLAN)}
	if f.clientVLAN.isUsual() && slices.Equal(f.clientVLAN, p.vlan()) {
		out.src = p.dstMAC()
	}
	return out
}

// wayToBackend is that of the next hop. On the link that the packet comes from it is
// sent on from the address that it was sent to, and wherever there is no other.
func (m *Model) wayToBackend(hop lb.NextHop, p *parsed) wayOut {
	out := wayOut{hop.Interface, hop.SourceMAC, hop.MAC, p.tags()}
	var v vlan
	if hop.VLAN == lb.VLANAsItCame {
		v = p.vlan()
	} else {
		if hop.VLAN != 0 {
			v = vlan{packet.VLAN(hop.VLAN)}
		}
		out.tags = p.tagsIn(v)
	}
	if out.src == (lb.MAC{}) || hop.Interface == m.opts.Interface && slices.Equal(v, p.vlan()) {
		out.src = p.dstMAC()
	}
	return out
}
