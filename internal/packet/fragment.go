package packet

// Fragments cuts an IPv4 packet into fragments whose IP packets are at most mtu
// bytes long (RFC 791, section 3.2), or returns p alone if it needs no cutting.
// IP options stay with the first fragment, as if none were marked to be copied.
// It panics if mtu leaves no room for 8 bytes of payload, and if p is IPv6.
func (p Packet) Fragments(mtu int) []Packet {
	if !p.Src.Addr().Is4() {
		panic("packet: only IPv4 packets can be cut into fragments")
	}
	rest := p.appendTransport(nil, fullChecksum)
	if ipv4Size+len(padded(p.IPOptions))+len(rest) <= mtu {
		return []Packet{p}
	}
	fragment := Packet{
		SrcMAC: p.SrcMAC, DstMAC: p.DstMAC, VLAN: p.VLAN,
		Src: withoutPort(p.Src), Dst: withoutPort(p.Dst), Protocol: p.Protocol, TOS: p.TOS, TTL: p.TTL,
		ID: p.ID, ReservedFlag: p.ReservedFlag, FragmentOffset: p.FragmentOffset, IPOptions: p.IPOptions,
	}
	var all []Packet
	for len(rest) > 0 {
		units := (mtu - ipv4Size - len(padded(fragment.IPOptions))) / 8
		if units < 1 {
			panic("packet: an MTU with no room for 8 bytes of payload")
		}
		size := min(8*units, len(rest))
		fragment.Payload = rest[:size]
		rest = rest[size:]
		fragment.MoreFragments = len(rest) > 0 || p.MoreFragments
		all = append(all, fragment)
		fragment.FragmentOffset += uint16(units)
		fragment.IPOptions = nil
	}
	return all
}
