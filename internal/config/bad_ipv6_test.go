package config

import "fmt"

const (
	webService6 = head + "  - name: web\n    address: \"[2001:db8::5]:80\"\n"
	oneBackend6 = "    backends: [{address: \"[2001:db8::2]:80\"}]\n"
)

const endpointExpected = `expected an address and port such as 192.17.0.5:80 or "[2001:db8::5]:80"`

// vipIs is a config that is valid but for its VIP.
func vipIs(text string) string {
	return head + "  - name: web\n    address: " + text + "\n" + oneBackend6
}

func badIPv6() []badConfig {
	return []badConfig{
		{"IPv6 VIP without port", vipIs("2001:db8::5"),
			`4:14: address: ` + endpointExpected + `, found "2001:db8::5" without a port (write "[2001:db8::5]:80" for port 80)`},
		{"IPv6 VIP in brackets without port", vipIs(`"[2001:DB8::5]"`),
			`4:14: address: ` + endpointExpected + `, found "[2001:DB8::5]" without a port (write "[2001:db8::5]:80" for port 80)`},
		{"IPv6 VIP, and perhaps a port", vipIs("2001:db8::5:80"),
			`4:14: address: ` + endpointExpected + `, found "2001:db8::5:80" without a port (write "[2001:db8::5]:80", or "[2001:db8::5:80]:80" for port 80)`},
		{"IPv6 VIP with port, without brackets", vipIs("2001:db8:0:0:0:0:0:5:80"),
			`4:14: address: ` + endpointExpected + `, found "2001:db8:0:0:0:0:0:5:80" (put the address in brackets: "[2001:db8:0:0:0:0:0:5]:80")`},
		{"IPv6 VIP, bracket not closed", vipIs(`"[2001:db8::5:80"`),
			`4:14: address: ` + endpointExpected + `, found "[2001:db8::5:80" (put the address in brackets: "[2001:db8::5]:80")`},
		{"IPv6 VIP, text behind the bracket", vipIs(`"[2001:db8::5]80"`),
			`4:14: address: ` + endpointExpected + `, found "[2001:db8::5]80"`},
		{"IPv6 VIP port missing", vipIs(`"[2001:db8::5]:"`),
			`4:14: address: expected a port from 1 to 65535 after the colon, found nothing`},
		{"IPv6 VIP port 70000", vipIs(`"[2001:db8::5]:70000"`),
			`4:14: address: expected a port from 1 to 65535, found "70000"`},
		{"IPv4 in brackets", vipIs(`"[192.17.0.5]:80"`),
			`4:14: address: ` + endpointExpected + `, found "[192.17.0.5]:80" (leave the brackets away: "192.17.0.5:80")`},
		{"host name in brackets", vipIs(`"[example.com]:80"`),
			`4:14: address: expected an IP address, found "example.com" (host names are not resolved, because their addresses change: write the IP address)`},
		{"IPv6 VIP in a list", vipIs("[2001:db8::5]"),
			`4:14: address: ` + endpointExpected + `, found a list (put quotes around an IPv6 address: "[2001:db8::5]:80")`},
		{"IPv6 VIP that ends in a colon", vipIs("2001:db8::"),
			`4:14: not valid YAML: mapping value is not allowed in this context (put quotes around an IPv6 address: "[2001:db8::5]:80")`},
		{"IPv6 backend without quotes", webService6 + "    backends: [{address: [2001:db8::2]:80}]\n",
			`5:39: not valid YAML: found an invalid key for this map (put quotes around an IPv6 address: "[2001:db8::5]:80")`},
		{"three colons", vipIs(`"[2001:db8:::5]:80"`), notIPv6("2001:db8:::5")},
		{"zeros left out twice", vipIs(`"[2001::db8::5]:80"`), notIPv6("2001::db8::5")},
		{"seven groups", vipIs(`"[2001:db8:0:0:0:0:5]:80"`), notIPv6("2001:db8:0:0:0:0:5")},
		{"nine groups", vipIs(`"[2001:db8:0:0:0:0:0:0:5]:80"`), notIPv6("2001:db8:0:0:0:0:0:0:5")},
		{"five digits", vipIs(`"[2001:db8::00005]:80"`), notIPv6("2001:db8::00005")},
		{"IPv4 at the end is none", vipIs(`"[2001:db8::192.0.2.256]:80"`), notIPv6("2001:db8::192.0.2.256")},
		{"no hexadecimal digit", vipIs(`"[2001:db8::g]:80"`),
			`4:14: address: expected an IP address, found "2001:db8::g" (host names are not resolved, because their addresses change: write the IP address)`},
		{"IPv6 VIP with prefix", vipIs(`"[2001:db8::5/64]:80"`),
			`4:14: address: expected one IP address, found the prefix "2001:db8::5/64" (leave the prefix length away)`},

		{"link-local with zone", vipIs(`"[fe80::1%eth0]:80"`), unfit("fe80::1", linkLocal)},
		{"link-local without zone", vipIs(`"[fe80::1]:80"`), unfit("fe80::1", linkLocal)},
		{"the last link-local", vipIs(`"[febf::1]:80"`), unfit("febf::1", linkLocal)},
		{"link-local with zone, without port", vipIs("fe80::1%eth0"),
			`4:14: address: ` + endpointExpected + `, found "fe80::1%eth0" without a port (write "[fe80::1]:80" for port 80)`},
		{"zone where none can be", vipIs(`"[2001:db8::5%eth0]:80"`),
			unfit("2001:db8::5", `only link-local addresses have a zone, "%eth0"`)},
		{"zone of hostile characters", vipIs(`"[2001:db8::5%\e\n]:80"`),
			unfit("2001:db8::5", `only link-local addresses have a zone, "%\x1b\n"`)},
		{"IPv4 mapped into IPv6", vipIs(`"[::ffff:10.0.0.1]:80"`),
			`4:14: address: "::ffff:10.0.0.1" is an IPv4 address mapped into IPv6 (write it as 10.0.0.1)`},
		{"IPv4 mapped into IPv6, in hexadecimal", vipIs(`"[0:0:0:0:0:FFFF:0a00:0001]:80"`),
			`4:14: address: "0:0:0:0:0:FFFF:0a00:0001" is an IPv4 address mapped into IPv6 (write it as 10.0.0.1)`},
		{"IPv4-compatible", vipIs(`"[::10.0.0.1]:80"`),
			unfit("::a00:1", "IPv4-compatible addresses are no longer used (RFC 4291)")},
		{"IPv6 unspecified", vipIs(`"[::]:80"`), unfit("::", "it is the unspecified address")},
		{"IPv6 loopback", vipIs(`"[::1]:80"`), unfit("::1", "loopback addresses are never seen on a network")},
		{"IPv6 multicast", vipIs(`"[ff02::1]:80"`), unfit("ff02::1", "it is a multicast address")},

		{"IPv6 VIP twice, in two spellings", webService6 + oneBackend6 + "  - name: web2\n    address: \"[2001:0DB8:0:0::0005]:80\"\n" + oneBackend6,
			`7:14: address: [2001:db8::5]:80 tcp already belongs to the service in line 4 (put the backends of both into one service)`},
		{"IPv6 backend twice, in two spellings", webService6 + "    backends: [{address: \"[2001:db8::2]:80\"}, {address: \"[2001:db8::0.0.0.2]:80\"}]\n",
			`5:57: backends: the address [2001:db8::2]:80 was already given in line 5 (remove one of them; for more traffic give it a higher weight)`},
		{"IPv6 backend is the VIP, in another spelling", webService6 + "    backends: [{address: \"[2001:db8::0:5]:80\"}]\n",
			`5:26: address: the backend [2001:db8::5]:80 is the VIP of the service in line 4: packets would go round in a loop (write the address of the server itself)`},
		{"IPv6 backend port range", webService6 + "    backends: [{address: \"[2001:db8::2]:80-90\"}]\n",
			`5:26: address: expected a port from 1 to 65535, found "80-90" (leave it away: then packets keep the port that they were sent to)`},
		{"IPv6 backend loopback", webService6 + "    backends: [{address: \"[::1]:80\"}]\n",
			`5:26: address: ::1 cannot be a backend: loopback addresses are never seen on a network (write an address that packets can be sent to)`},
		{"IPv6 SNAT address twice, in two spellings", webService + oneBackend + "snat: {addresses: [\"2001:db8::1\", \"2001:db8:0::1\"]}\n",
			`6:35: addresses: 2001:db8::1 was already given in line 6 (remove one of them)`},
		{"IPv6 SNAT addresses", webService + oneBackend + "snat: {addresses: [\"::\", \"::1\", \"fe80::1\", \"ff02::1\", \"2001:db8::/64\", \"[2001:db8::1]\", \"[2001:db8::1]:80\", \"::ffff:1.2.3.4\"]}\n",
			`6:20: addresses: :: cannot be a SNAT address: it is the unspecified address (write an address that packets can be sent to)` + "\n" +
				`6:26: addresses: ::1 cannot be a SNAT address: loopback addresses are never seen on a network (write an address that packets can be sent to)` + "\n" +
				`6:33: addresses: fe80::1 cannot be a SNAT address: ` + linkLocal + ` (write an address that packets can be sent to)` + "\n" +
				`6:44: addresses: ff02::1 cannot be a SNAT address: it is a multicast address (write an address that packets can be sent to)` + "\n" +
				`6:55: addresses: expected one IP address, found the prefix "2001:db8::/64" (leave the prefix length away)` + "\n" +
				`6:72: addresses: expected an IP address, found "[2001:db8::1]" (leave the brackets away)` + "\n" +
				`6:89: addresses: expected an IP address without a port, found "[2001:db8::1]:80" (leave the port away)` + "\n" +
				`6:109: addresses: "::ffff:1.2.3.4" is an IPv4 address mapped into IPv6 (write it as 1.2.3.4)`},
		{"IPv6 SNAT address without quotes", webService + oneBackend + "snat: {addresses: [2001:db8::1]}\n",
			`6:20: addresses: expected an IP address such as 192.17.0.5, found a map (put quotes around an IPv6 address: "2001:db8::5")`},
		{"SNAT addresses of the other family", webService + "    snat: {addresses: [10.0.0.1, \"2001:db8::1\"]}\n" + oneBackend,
			`5:34: addresses: 2001:db8::1 is an IPv6 address, and the backends of this service have IPv4 ones (write an IPv4 address of this host)`},
		{"SNAT addresses of the other family, before the VIP", head + "  - name: web\n    snat: {addresses: [10.0.0.1, host]}\n    address: \"[2001:db8::5]:80\"\n" + oneBackend6,
			`4:24: addresses: 10.0.0.1 is an IPv4 address, and the backends of this service have IPv6 ones (write an IPv6 address of this host)` + "\n" +
				`4:34: addresses: expected an IP address, found "host" (host names are not resolved, because their addresses change: write the IP address)`},
	}
}

const linkLocal = "link-local addresses need an interface, because each link may have another machine with the same one"

func unfit(addr, reason string) string {
	return fmt.Sprintf("4:14: address: %s cannot be a VIP: %s (write an address that packets can be sent to)", addr, reason)
}

func notIPv6(text string) string {
	return fmt.Sprintf("4:14: address: %q is not an IPv6 address (eight groups of hexadecimal digits, :: once for groups of zeros, as in 2001:db8::5)", text)
}
