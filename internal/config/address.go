package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/tinylb/tinylb/internal/lb"
)

// role is what an address is for; it decides what is wrong with it.
type role string

const (
	vip         role = "a VIP"
	backend     role = "a backend"
	snatAddress role = "a SNAT address"
)

// endpoint reads "IPv4:port".
func (d *decoder) endpoint(n *node, r role) (netip.AddrPort, bool) {
	expected := "an IPv4 address and port such as 192.17.0.5:80"
	text, ok := d.text(n, expected)
	if !ok {
		return netip.AddrPort{}, false
	}
	if addr, err := netip.ParseAddr(text); err == nil && addr.Is4() {
		d.fail(n.position, fmt.Sprintf("write %s:80 for port 80", text), "%s: expected %s, found %s without a port", n.name, expected, text)
		return netip.AddrPort{}, false
	}
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 {
		d.fail(n.position, "", "%s: expected %s, found %s", n.name, expected, n.found())
		return netip.AddrPort{}, false
	}
	if strings.HasPrefix(text, "[") || strings.Contains(text[:colon], ":") {
		d.failIPv6(n, expected)
		return netip.AddrPort{}, false
	}
	addr, addrOK := d.ipv4(n, text[:colon], r)
	port, portOK := d.port(n, text[colon+1:], r)
	return netip.AddrPortFrom(addr, port), addrOK && portOK
}

func (d *decoder) failIPv6(n *node, expected string) {
	text := strings.Trim(n.text, "[]")
	_, errAddr := netip.ParseAddr(text)
	_, errPort := netip.ParseAddrPort(n.text)
	if errAddr != nil && errPort != nil && !strings.HasPrefix(n.text, "[") {
		d.fail(n.position, "", "%s: expected %s, found %s", n.name, expected, n.found())
		return
	}
	d.fail(n.position, "use an IPv4 address", "%s: IPv6 (%s) is not supported yet", n.name, quote(n.text))
}

// ipv4 reads an address that packets can come from and go to.
func (d *decoder) ipv4(n *node, text string, r role) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(text)
	_, errPort := netip.ParseAddrPort(text)
	switch {
	case errPort == nil:
		d.fail(n.position, "leave the port away", "%s: expected an IPv4 address without a port, found %s", n.name, quote(text))
	case err != nil && strings.Trim(text, "0123456789.") == "":
		d.fail(n.position, "four numbers from 0 to 255 without leading zeros, as in 192.17.0.5", "%s: %s is not an IPv4 address", n.name, quote(text))
	case err != nil && strings.ContainsRune(text, '/'):
		d.fail(n.position, "leave the prefix length away", "%s: expected one IPv4 address, found the prefix %s", n.name, quote(text))
	case err != nil:
		d.fail(n.position, "host names are not resolved, because their addresses change: write the IPv4 address",
			"%s: expected an IPv4 address, found %s", n.name, quote(text))
	case !addr.Is4():
		d.fail(n.position, "use an IPv4 address", "%s: IPv6 (%s) is not supported yet", n.name, quote(text))
	default:
		if reason := unusable(addr); reason != "" {
			d.fail(n.position, "write an address that packets can be sent to", "%s: %s cannot be %s: %s", n.name, addr, r, reason)
			return netip.Addr{}, false
		}
		return addr, true
	}
	return netip.Addr{}, false
}

// unusable says why packets from the network cannot be for an address.
func unusable(addr netip.Addr) string {
	switch {
	case addr.IsUnspecified():
		return "it is the unspecified address"
	case addr.IsMulticast():
		return "it is a multicast address"
	case addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "it is the broadcast address"
	case addr.IsLoopback():
		return "loopback addresses are never seen on a network"
	}
	return ""
}

func (d *decoder) port(n *node, text string, r role) (uint16, bool) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err == nil && port > 0 {
		return uint16(port), true
	}
	first, last, isRange := strings.Cut(text, "-")
	switch {
	case r == vip && text == "*":
		d.fail(n.position, "write one port; make a service for each", "%s: all ports (*) are not supported yet", n.name)
	case r == vip && isRange && isNumber(first) && isNumber(last):
		d.fail(n.position, "write one port; make a service for each", "%s: port ranges (%s) are not supported yet", n.name, text)
	case text == "":
		d.fail(n.position, "", "%s: expected a port from 1 to 65535 after the colon, found nothing", n.name)
	default:
		d.fail(n.position, "", "%s: expected a port from 1 to 65535, found %s", n.name, quote(text))
	}
	return 0, false
}

func isNumber(text string) bool {
	_, err := strconv.ParseUint(text, 10, 64)
	return err == nil
}

// ports reads "first-last" or a single port.
func (d *decoder) ports(n *node) (lb.PortRange, bool) {
	expected := "a range of ports such as 1024-32767"
	text, ok := d.text(n, expected)
	if !ok {
		return lb.PortRange{}, false
	}
	firstText, lastText, isRange := strings.Cut(text, "-")
	if !isRange {
		lastText = firstText
	}
	first, err1 := strconv.ParseUint(strings.TrimSpace(firstText), 10, 16)
	last, err2 := strconv.ParseUint(strings.TrimSpace(lastText), 10, 16)
	if err1 != nil || err2 != nil || first == 0 || last == 0 {
		d.fail(n.position, "", "%s: expected %s, each from 1 to 65535, found %s", n.name, expected, n.found())
		return lb.PortRange{}, false
	}
	if first > last {
		d.fail(n.position, fmt.Sprintf("write %d-%d", last, first), "%s: the first port of %s is after the last", n.name, text)
		return lb.PortRange{}, false
	}
	return lb.PortRange{First: uint16(first), Last: uint16(last)}, true
}
