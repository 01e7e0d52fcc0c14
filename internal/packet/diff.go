package packet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/tinylb/tinylb/internal/lb"
)

// Diff says in which header fields two frames differ, one per line, such as
// "ipv4 ttl: want 64, got 63". It is "" if they are equal. It takes any bytes,
// malformed frames included.
func Diff(want, got []byte) string {
	if bytes.Equal(want, got) {
		return ""
	}
	var lines strings.Builder
	wanted, present := dissect(want), dissect(got)
	for _, w := range wanted {
		g, ok := find(present, w.name)
		switch {
		case !ok:
			fmt.Fprintf(&lines, "%s: want %s, got nothing\n", w.name, w.value())
		case !bytes.Equal(w.raw, g.raw):
			lines.WriteString(compare(w, g))
		}
	}
	for _, g := range present {
		if _, ok := find(wanted, g.name); !ok {
			fmt.Fprintf(&lines, "%s: want nothing, got %s\n", g.name, g.value())
		}
	}
	if err := Verify(got); err != nil && Verify(want) == nil {
		fmt.Fprintf(&lines, "got does not verify: %v\n", err)
	}
	return lines.String()
}

func find(fields []field, name string) (field, bool) {
	for _, f := range fields {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

const maxShownBytes = 24

func compare(want, got field) string {
	if len(want.raw) <= maxShownBytes && len(got.raw) <= maxShownBytes {
		return fmt.Sprintf("%s: want %s, got %s\n", want.name, want.value(), got.value())
	}
	first := 0
	for first < len(want.raw) && first < len(got.raw) && want.raw[first] == got.raw[first] {
		first++
	}
	return fmt.Sprintf("%s: want %d bytes, got %d; they differ from byte %d: want %s, got %s\n",
		want.name, len(want.raw), len(got.raw), first, shorten(want.raw[first:]), shorten(got.raw[first:]))
}

func shorten(b []byte) string {
	if len(b) > maxShownBytes {
		return hexString(b[:maxShownBytes]) + "..."
	}
	return hexString(b)
}

// field is a named part of a frame.
type field struct {
	name string
	raw  []byte
	show func([]byte) string // nil: as hexadecimal digits
}

func (f field) value() string {
	if f.show == nil || len(f.raw) == 0 {
		return shorten(f.raw)
	}
	return f.show(f.raw)
}

// dissector cuts a frame into fields that together are all of it.
type dissector struct {
	rest   []byte
	fields []field
	prefix string // of the fields' names, within packets within packets
}

func dissect(frame []byte) []field {
	d := &dissector{rest: frame}
	d.ethernet()
	d.take("rest", len(d.rest), nil)
	return d.fields
}

// take makes the next bytes a field. If there are fewer, it takes them all,
// and returns nil.
func (d *dissector) take(name string, size int, show func([]byte) string) []byte {
	if size <= 0 || len(d.rest) == 0 {
		return nil
	}
	whole := size <= len(d.rest)
	if !whole {
		size, show = len(d.rest), nil
	}
	raw := d.rest[:size]
	d.fields = append(d.fields, field{d.prefix + name, raw, show})
	d.rest = d.rest[size:]
	if !whole {
		return nil
	}
	return raw
}

func (d *dissector) ethernet() {
	d.take("ethernet destination", 6, macString)
	d.take("ethernet source", 6, macString)
	etherType := d.take("ethertype", 2, nil)
	for i := 1; i <= maxVLANTags && isVLAN(etherType); i++ {
		d.take(fmt.Sprintf("vlan tag %d", i), 2, nil)
		etherType = d.take(fmt.Sprintf("ethertype behind vlan tag %d", i), 2, nil)
	}
	if etherType == nil {
		return
	}
	switch binary.BigEndian.Uint16(etherType) {
	case EtherTypeIPv4:
		d.ipv4()
	case EtherTypeIPv6:
		d.ipv6()
	}
}

func isVLAN(etherType []byte) bool {
	if etherType == nil {
		return false
	}
	value := binary.BigEndian.Uint16(etherType)
	return value == EtherTypeVLAN || value == EtherTypeQinQ
}

func (d *dissector) ipv4() {
	first := d.take("ipv4 version and header length", 1, nil)
	d.take("ipv4 tos", 1, nil)
	total := d.take("ipv4 total length", 2, decimal)
	d.take("ipv4 id", 2, decimal)
	fragment := d.take("ipv4 flags and fragment offset", 2, nil)
	d.take("ipv4 ttl", 1, decimal)
	protocol := d.take("ipv4 protocol", 1, decimal)
	d.take("ipv4 checksum", 2, nil)
	d.take("ipv4 source", 4, addrString)
	if d.take("ipv4 destination", 4, addrString) == nil {
		return
	}
	header := int(first[0]&0xf) * 4
	d.take("ipv4 options", header-ipv4Size, nil)
	body := int(binary.BigEndian.Uint16(total)) - header
	if binary.BigEndian.Uint16(fragment)&(moreFragmentsBit|fragmentOffsetBits) != 0 {
		d.within(body, func(inner *dissector) { inner.take("fragment", len(inner.rest), nil) })
		return
	}
	d.transport(lb.Protocol(protocol[0]), body)
}

func (d *dissector) ipv6() {
	d.take("ipv6 version, traffic class and flow label", 4, nil)
	length := d.take("ipv6 payload length", 2, decimal)
	next := d.take("ipv6 next header", 1, decimal)
	d.take("ipv6 hop limit", 1, decimal)
	d.take("ipv6 source", 16, addrString)
	if d.take("ipv6 destination", 16, addrString) == nil {
		return
	}
	d.transport(lb.Protocol(next[0]), int(binary.BigEndian.Uint16(length)))
}

// within dissects the next size bytes apart from what follows them.
func (d *dissector) within(size int, dissect func(*dissector)) {
	size = min(max(size, 0), len(d.rest))
	inner := &dissector{rest: d.rest[:size], fields: d.fields, prefix: d.prefix}
	dissect(inner)
	inner.take("payload", len(inner.rest), nil)
	d.fields = inner.fields
	d.rest = d.rest[size:]
	d.take("trailer", len(d.rest), nil)
}

func (d *dissector) transport(protocol lb.Protocol, size int) {
	switch protocol {
	case lb.TCP:
		d.within(size, (*dissector).tcp)
	case lb.UDP:
		d.within(size, (*dissector).udp)
	case ICMP:
		d.within(size, func(d *dissector) { d.icmp(protocol, (*dissector).ipv4) })
	case ICMPv6:
		d.within(size, func(d *dissector) { d.icmp(protocol, (*dissector).ipv6) })
	case IPv4InIP:
		d.within(size, func(d *dissector) { d.inside("inner ", (*dissector).ipv4) })
	case IPv6InIP:
		d.within(size, func(d *dissector) { d.inside("inner ", (*dissector).ipv6) })
	default:
		d.within(size, func(*dissector) {})
	}
}

func (d *dissector) tcp() {
	d.take("tcp source port", 2, decimal)
	d.take("tcp destination port", 2, decimal)
	d.take("tcp sequence number", 4, decimal)
	d.take("tcp acknowledgment number", 4, decimal)
	offset := d.take("tcp data offset and flags", 2, offsetAndFlags)
	d.take("tcp window", 2, decimal)
	d.take("tcp checksum", 2, nil)
	if d.take("tcp urgent pointer", 2, decimal) == nil {
		return
	}
	d.take("tcp options", int(offset[0]>>4)*4-tcpSize, nil)
}

func offsetAndFlags(b []byte) string {
	return fmt.Sprintf("%d bytes and %v", int(b[0]>>4)*4, TCPFlags(binary.BigEndian.Uint16(b)&0xfff))
}

func (d *dissector) udp() {
	d.take("udp source port", 2, decimal)
	d.take("udp destination port", 2, decimal)
	d.take("udp length", 2, decimal)
	d.take("udp checksum", 2, nil)
	d.gue()
}

// gue recognises GUE by its looks, whatever the port.
func (d *dissector) gue() {
	if len(d.rest) <= gueSize {
		return
	}
	kind, body, err := gueBody(d.rest)
	if err != nil {
		return
	}
	switch version := body[0] >> 4; {
	case kind == IPv4InIP && version == 4:
		d.take("gue header", gueSize, nil)
		d.inside("inner ", (*dissector).ipv4)
	case kind == IPv6InIP && version == 6:
		d.take("gue header", gueSize, nil)
		d.inside("inner ", (*dissector).ipv6)
	}
}

// inside dissects a packet within the one around it.
func (d *dissector) inside(prefix string, dissect func(*dissector)) {
	outside := d.prefix
	d.prefix += prefix
	dissect(d)
	d.prefix = outside
}

func (d *dissector) icmp(protocol lb.Protocol, quoted func(*dissector)) {
	kind := d.take("icmp type", 1, decimal)
	d.take("icmp code", 1, decimal)
	d.take("icmp checksum", 2, nil)
	if d.take("icmp second word", 4, nil) != nil && isICMPError(protocol, kind[0]) {
		d.inside("quoted ", quoted)
	}
}

func decimal(b []byte) string {
	value := uint64(0)
	for _, digit := range b {
		value = value<<8 | uint64(digit)
	}
	return fmt.Sprint(value)
}
