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
	source      role = "a tunnel source"
)

// vip reads "192.17.0.5:80", "[2001:db8::5]:8000-8100" or "192.17.0.5:*".
func (d *decoder) vip(n *node) lb.VIP {
	expected := `an address and port such as 192.17.0.5:80 or "[2001:db8::5]:80"`
	text, ok := d.addressText(n, expected, "[2001:db8::5]:80")
	if !ok {
		return lb.VIP{}
	}
	if usual, ok := usualEndpoint(text); ok {
		return lb.VIPAt(usual)
	}
	if hint := withoutPort(text); hint != "" {
		d.fail(n.position, hint, "%s: expected %s, found %s without a port", n.name, expected, quote(text))
		return lb.VIP{}
	}
	host, port, ok := d.splitEndpoint(n, text, expected)
	if !ok {
		return lb.VIP{}
	}
	addr, addrOK := d.address(n, host, vip)
	ports, portsOK := d.vipPorts(n, port)
	if !addrOK || !portsOK {
		return lb.VIP{}
	}
	return lb.VIP{Addr: addr, Ports: ports}
}

// backendAddress reads "192.17.0.2:80", or "192.17.0.2" for the port of the packet.
func (d *decoder) backendAddress(n *node) (netip.AddrPort, bool) {
	expected := `an address such as 192.17.0.2:80 or "[2001:db8::2]:80", with or without a port`
	text, ok := d.addressText(n, expected, "[2001:db8::5]:80")
	if !ok {
		return netip.AddrPort{}, false
	}
	if usual, ok := usualEndpoint(text); ok {
		return usual, true
	}
	if host, isAlone := alone(text); isAlone {
		addr, ok := d.address(n, host, backend)
		if before, port, is := endsLikePort(text); ok && is {
			d.warn(n.position, fmt.Sprintf(`write "[%s]", or "[%s]:%s" for port %s`, text, before, port, port),
				"%s: %s is an address without a port", n.name, text)
		}
		return netip.AddrPortFrom(addr, 0), ok
	}
	host, port, ok := d.splitEndpoint(n, text, expected)
	if !ok {
		return netip.AddrPort{}, false
	}
	addr, addrOK := d.address(n, host, backend)
	number, portOK := d.backendPort(n, port)
	return netip.AddrPortFrom(addr, number), addrOK && portOK
}

// usualEndpoint reads what most addresses look like and what nothing is wrong with.
// The others take the long way, which says what is: in a large config that costs a
// tenth of a second.
func usualEndpoint(text string) (netip.AddrPort, bool) {
	endpoint, err := netip.ParseAddrPort(text)
	addr := endpoint.Addr()
	return endpoint, err == nil && endpoint.Port() > 0 && addr.Is4() && unusable(addr) == ""
}

// written is a backend's address as the file has it.
func written(a netip.AddrPort) string { return lb.Backend{Address: a}.Label() }

// alone takes the brackets off what is meant as an address without a port.
func alone(text string) (host string, is bool) {
	bare, bracketed := cutBrackets(text)
	addr, err := netip.ParseAddr(bare)
	if bracketed && (err != nil || addr.Is6()) {
		return bare, true
	}
	_, errPrefix := netip.ParsePrefix(text)
	return text, !strings.Contains(text, ":") || bare == text && err == nil || errPrefix == nil
}

// endsLikePort splits 2001:db8::5:80, an address that may be meant as one with a port.
func endsLikePort(text string) (before netip.Addr, port string, is bool) {
	last := strings.LastIndexByte(text, ':')
	if last < 0 || !isNumber(text[last+1:]) {
		return netip.Addr{}, "", false
	}
	before, err := netip.ParseAddr(text[:last])
	return before.WithZone(""), text[last+1:], err == nil
}

// addressText reads the text of an address.
func (d *decoder) addressText(n *node, expected, example string) (string, bool) {
	if n.kind == scalar || !n.looksLikeIPv6() {
		return d.text(n, expected)
	}
	d.fail(n.position, fmt.Sprintf("put quotes around an IPv6 address: %q", example),
		"%s: expected %s, found %s", n.name, expected, n.found())
	return "", false
}

// withoutPort says what to write where an address has no port; "" where it
// is something else.
func withoutPort(text string) string {
	bare, bracketed := cutBrackets(text)
	addr, err := netip.ParseAddr(bare)
	if err != nil || bare != text && !bracketed {
		return ""
	}
	if addr.Is4() {
		return fmt.Sprintf("write %s:80 for port 80", addr)
	}
	meant := fmt.Sprintf(`"[%s]:80" for port 80`, addr.WithZone(""))
	if before, port, is := endsLikePort(text); is {
		meant = fmt.Sprintf(`"[%s]:%s", or %s`, before, port, meant)
	}
	return "write " + meant
}

// splitEndpoint takes the port off, and the brackets, which IPv6 alone has.
func (d *decoder) splitEndpoint(n *node, text, expected string) (host, port string, ok bool) {
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 {
		d.fail(n.position, "", "%s: expected %s, found %s", n.name, expected, n.found())
		return "", "", false
	}
	host, port = text[:colon], text[colon+1:]
	bare, bracketed := cutBrackets(host)
	addr, err := netip.ParseAddr(bare)
	hint := ""
	switch {
	case bracketed && (err != nil || addr.Is6()), !strings.ContainsAny(host, "[]:"):
		return bare, port, true
	case err == nil && addr.Is6():
		hint = "put the address in brackets: " + quote("["+bare+"]:"+port)
	case err == nil:
		hint = "leave the brackets away: " + quote(bare+":"+port)
	}
	d.fail(n.position, hint, "%s: expected %s, found %s", n.name, expected, quote(text))
	return "", "", false
}

// cutBrackets takes brackets off, and says whether both were there.
func cutBrackets(text string) (bare string, both bool) {
	bare = strings.Trim(text, "[]")
	return bare, text == "["+bare+"]"
}

// address reads an address that packets can come from and go to, in any spelling
// (RFC 4291, section 2.2).
func (d *decoder) address(n *node, text string, r role) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(text)
	hasPort := func() bool { _, err := netip.ParseAddrPort(text); return err == nil }
	switch {
	case err != nil && hasPort():
		d.fail(n.position, "leave the port away", "%s: expected an IP address without a port, found %s", n.name, quote(text))
	case err != nil && strings.Trim(text, "0123456789.") == "":
		d.fail(n.position, "four numbers from 0 to 255 without leading zeros, as in 192.17.0.5", "%s: %s is not an IPv4 address", n.name, quote(text))
	case err != nil && strings.ContainsRune(text, ':') && strings.Trim(text, "0123456789abcdefABCDEF.:") == "":
		d.fail(n.position, "eight groups of hexadecimal digits, :: once for groups of zeros, as in 2001:db8::5", "%s: %s is not an IPv6 address", n.name, quote(text))
	case err != nil && strings.HasPrefix(text, "["):
		d.fail(n.position, "leave the brackets away", "%s: expected an IP address, found %s", n.name, quote(text))
	case err != nil && strings.ContainsRune(text, '/'):
		d.fail(n.position, "leave the prefix length away", "%s: expected one IP address, found the prefix %s", n.name, quote(text))
	case err != nil:
		d.fail(n.position, "host names are not resolved, because their addresses change: write the IP address",
			"%s: expected an IP address, found %s", n.name, quote(text))
	case addr.Is4In6():
		d.fail(n.position, "write it as "+addr.Unmap().String(), "%s: %s is an IPv4 address mapped into IPv6", n.name, quote(text))
	default:
		reason := unusable(addr)
		if reason == "" {
			return addr, true
		}
		d.fail(n.position, "write an address that packets can be sent to", "%s: %s cannot be %s: %s", n.name, addr.WithZone(""), r, reason)
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
	case addr.Is6() && addr.IsLinkLocalUnicast():
		return "link-local addresses need an interface, because each link may have another machine with the same one"
	case addr.Zone() != "":
		return "only link-local addresses have a zone, " + quote("%"+addr.Zone())
	case addr.Is6() && netip.MustParsePrefix("::/96").Contains(addr):
		return "IPv4-compatible addresses are no longer used (RFC 4291)"
	}
	return ""
}

// sameFamily reports whether both are IPv4 or both IPv6.
func sameFamily(a, b netip.Addr) bool { return a.Is4() == b.Is4() }

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func otherFamily(a netip.Addr) string {
	if a.Is4() {
		return "IPv6"
	}
	return "IPv4"
}

func (d *decoder) vipPorts(n *node, text string) (lb.PortRange, bool) {
	switch {
	case text == "*":
		return lb.AllPorts(), true
	case strings.Contains(text, "-"):
		return d.portRange(n, text, "a range of ports such as 8000-8100", quote(text))
	}
	port, ok := d.port(n, text, "")
	return lb.OnePort(port), ok
}

func (d *decoder) backendPort(n *node, text string) (uint16, bool) {
	hint := ""
	if text == "*" || strings.Contains(text, "-") {
		hint = "leave it away: then packets keep the port that they were sent to"
	}
	return d.port(n, text, hint)
}

func (d *decoder) port(n *node, text, hint string) (uint16, bool) {
	port, err := strconv.ParseUint(text, 10, 16)
	switch {
	case err == nil && port > 0:
		return uint16(port), true
	case text == "":
		d.fail(n.position, hint, "%s: expected a port from 1 to 65535 after the colon, found nothing", n.name)
	default:
		d.fail(n.position, hint, "%s: expected a port from 1 to 65535, found %s", n.name, quote(text))
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
	return d.portRange(n, text, expected, n.found())
}

func (d *decoder) portRange(n *node, text, expected, found string) (lb.PortRange, bool) {
	firstText, lastText, isRange := strings.Cut(text, "-")
	if !isRange {
		lastText = firstText
	}
	first, err1 := strconv.ParseUint(strings.TrimSpace(firstText), 10, 16)
	last, err2 := strconv.ParseUint(strings.TrimSpace(lastText), 10, 16)
	if err1 != nil || err2 != nil || first == 0 || last == 0 {
		d.fail(n.position, "", "%s: expected %s, each from 1 to 65535, found %s", n.name, expected, found)
		return lb.PortRange{}, false
	}
	if first > last {
		d.fail(n.position, fmt.Sprintf("write %d-%d", last, first), "%s: the first port of %s is after the last", n.name, text)
		return lb.PortRange{}, false
	}
	return lb.PortRange{First: uint16(first), Last: uint16(last)}, true
}
