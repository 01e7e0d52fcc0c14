package diff

import (
	"encoding/binary"
	"net/netip"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/packet"
)

// ends are who a frame says that it is from and for.
type ends struct {
	protocol lb.Protocol
	src, dst netip.AddrPort
}

func (e ends) reversed() ends { return ends{e.protocol, e.dst, e.src} }

// readEnds finds them behind any tags and extension headers, whatever else is
// wrong with the frame; false: they are not there.
func readEnds(frame []byte) (ends, bool) {
	if _, isLater := datagramOf(frame); isLater { // they are in another fragment
		return ends{}, false
	}
	at := 2 * len(lb.MAC{})
	next := func(size int) []byte {
		if len(frame) < at+size {
			return nil
		}
		at += size
		return frame[at-size : at]
	}
	etherType := next(2)
	for etherType != nil && isTag(binary.BigEndian.Uint16(etherType)) {
		next(2)
		etherType = next(2)
	}
	if etherType == nil {
		return ends{}, false
	}
	switch binary.BigEndian.Uint16(etherType) {
	case packet.EtherTypeIPv4:
		return readIPv4Ends(next)
	case packet.EtherTypeIPv6:
		return readIPv6Ends(next)
	}
	return ends{}, false
}

func isTag(etherType uint16) bool {
	return etherType == packet.EtherTypeVLAN || etherType == packet.EtherTypeQinQ
}

func readIPv4Ends(next func(int) []byte) (ends, bool) {
	header := next(20)
	if header == nil || header[0]&0xf < 5 {
		return ends{}, false
	}
	if next(4*int(header[0]&0xf)-20) == nil {
		return ends{}, false
	}
	return withPorts(lb.Protocol(header[9]), header[12:16], header[16:20], next)
}

func readIPv6Ends(next func(int) []byte) (ends, bool) {
	header := next(40)
	if header == nil {
		return ends{}, false
	}
	protocol := header[6]
	for isExtension(protocol) {
		start := next(8)
		if start == nil {
			return ends{}, false
		}
		if protocol != fragmentHeader && next(8*int(start[1])) == nil {
			return ends{}, false
		}
		protocol = start[0]
	}
	return withPorts(lb.Protocol(protocol), header[8:24], header[24:40], next)
}

// Next headers of IPv6 that stand before others (RFC 8200, section 4).
const (
	hopByHop           = 0
	routingHeader      = 43
	fragmentHeader     = 44
	destinationOptions = 60
)

func isExtension(protocol byte) bool {
	return protocol == hopByHop || protocol == routingHeader || protocol == fragmentHeader || protocol == destinationOptions
}

func withPorts(protocol lb.Protocol, src, dst []byte, next func(int) []byte) (ends, bool) {
	ports := next(4)
	if ports == nil {
		return ends{}, false
	}
	end := func(address, port []byte) netip.AddrPort {
		a, _ := netip.AddrFromSlice(address)
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
	}
	return ends{protocol, end(src, ports), end(dst, ports[2:])}, true
}
