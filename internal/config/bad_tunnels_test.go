package config

import "fmt"

func sources(list string) string {
	return webService + oneBackend + "tunnel: {sources: [" + list + "]}\n"
}

func badSource(text, addresses string) badConfig {
	return badConfig{"source " + text, sources(`"` + text + `"`),
		fmt.Sprintf(`6:20: sources: %s cannot be a tunnel source: it has %s (write a prefix that packets can come from)`, text, addresses)}
}

func badTunnels() []badConfig {
	return []badConfig{
		{"tunnel is a text", webService + oneBackend + "tunnel: 10.0.0.1\n",
			`6:9: tunnel: expected a map, found "10.0.0.1" (its keys are: sources, port)`},
		{"unknown key in tunnel", webService + oneBackend + "tunnel: {source: [10.0.0.1]}\n",
			`6:10: tunnel: unknown key "source" (did you mean "sources"?)`},
		{"tunnel port", webService + oneBackend + "tunnel: {port: 0}\n",
			`6:16: port: expected a whole number from 1 to 65535, found "0"`},
		{"tunnel ports", webService + oneBackend + "tunnel: {port: 6080-6081}\n",
			`6:16: port: expected a whole number from 1 to 65535, found "6080-6081"`},
		{"sources as a text", webService + oneBackend + "tunnel: {sources: 10.0.0.0/8}\n",
			`6:19: sources: expected a list, found "10.0.0.0/8" (write it as sources: [172.16.0.0/16])`},
		{"two sources of a family", sources(`10.0.0.0/8, "0100::/64", 10.0.0.1, 10.0.0.0/8, "2001:db8::1"`),
			`6:45: sources: an IPv4 prefix was already given in line 6 (remove one of them: each family has one at most)` + "\n" +
				`6:55: sources: an IPv4 prefix was already given in line 6 (remove one of them: each family has one at most)` + "\n" +
				`6:67: sources: an IPv6 prefix was already given in line 6 (remove one of them: each family has one at most)`},
		{"sources with host bits", sources(`172.16.3.0/16, "2001:db8::1/64"`),
			`6:20: sources: 172.16.3.0/16 has bits set behind its length (write 172.16.0.0/16, or 172.16.3.0 for this address alone)` + "\n" +
				`6:35: sources: 2001:db8::1/64 has bits set behind its length (write 2001:db8::/64, or 2001:db8::1 for this address alone)`},
		{"sources that are no prefixes", sources(`10.0.0.0/33, 10.0.0/8, "fe80::%eth0/64", any, "10.0.0.1:80", "[2001:db8::1]", 10.0.0.0/8/8, ~`),
			`6:20: sources: expected a prefix such as 172.16.0.0/16, found "10.0.0.0/33" (as in 172.16.0.0/16 or "0100::/64")` + "\n" +
				`6:33: sources: expected a prefix such as 172.16.0.0/16, found "10.0.0/8" (as in 172.16.0.0/16 or "0100::/64")` + "\n" +
				`6:43: sources: expected a prefix such as 172.16.0.0/16, found "fe80::%eth0/64" (as in 172.16.0.0/16 or "0100::/64")` + "\n" +
				`6:61: sources: expected an IP address, found "any" (host names are not resolved, because their addresses change: write the IP address)` + "\n" +
				`6:66: sources: expected an IP address without a port, found "10.0.0.1:80" (leave the port away)` + "\n" +
				`6:81: sources: expected an IP address, found "[2001:db8::1]" (leave the brackets away)` + "\n" +
				`6:98: sources: expected a prefix such as 172.16.0.0/16, found "10.0.0.0/8/8" (as in 172.16.0.0/16 or "0100::/64")` + "\n" +
				`6:112: sources: expected a prefix such as 172.16.0.0/16, found nothing`},
		{"sources without quotes", sources(`2001:db8::1`),
			`6:20: sources: expected a prefix such as 172.16.0.0/16, found a map (put quotes around an IPv6 address: "0100::/64")`},
		{"sources that packets cannot come from", sources(`0.0.0.0, "::1", "fe80::1"`),
			`6:20: sources: 0.0.0.0 cannot be a tunnel source: it is the unspecified address (write an address that packets can be sent to)` + "\n" +
				`6:29: sources: ::1 cannot be a tunnel source: loopback addresses are never seen on a network (write an address that packets can be sent to)` + "\n" +
				`6:36: sources: fe80::1 cannot be a tunnel source: ` + linkLocal + ` (write an address that packets can be sent to)`},
		badSource("0.0.0.0/0", "the unspecified address (0.0.0.0/32)"),
		badSource("127.1.0.0/16", "loopback addresses (127.0.0.0/8)"),
		badSource("192.0.0.0/2", "multicast addresses (224.0.0.0/4)"),
		badSource("255.255.255.0/24", "the broadcast address (255.255.255.255/32)"),
		badSource("::/8", "the unspecified address and IPv4-compatible ones (::/96)"),
		badSource("::ffff:10.0.0.0/104", "IPv4 addresses mapped into IPv6 (::ffff:0:0/96)"),
		badSource("fe80::/64", "link-local addresses (fe80::/10)"),
		badSource("ff02::/16", "multicast addresses (ff00::/8)"),
		{"own source of a family that no backend has", forwarded("ipip", "192.17.0.5:80", `{address: "2001:db8::2"}`) + "    tunnel: {sources: [10.0.0.0/8]}\n",
			`7:24: sources: 10.0.0.0/8 is an IPv4 prefix, and the backends of this service have IPv6 addresses (write an IPv6 prefix)`},

		{"rate limits", webService + oneBackend + "rate_limits: {resets: -1, icmp_errors: 1000001}\n",
			`6:23: resets: expected a whole number from 0 to 1000000, found "-1"` + "\n" +
				`6:40: icmp_errors: expected a whole number from 0 to 1000000, found "1000001"`},
		{"rate limits with a unit", webService + oneBackend + "rate_limits: {resets: 1000/s}\n",
			`6:23: resets: expected a whole number from 0 to 1000000, found "1000/s"`},
		{"unknown key in rate_limits", webService + oneBackend + "rate_limits: {reset: 1}\n",
			`6:15: rate_limits: unknown key "reset" (did you mean "resets"?)`},
		{"rate limits are a number", webService + oneBackend + "rate_limits: 1000\n",
			`6:14: rate_limits: expected a map, found "1000" (its keys are: resets, icmp_errors, echo_replies)`},
		{"answers", webService + oneBackend + "answer_echo: yes\n",
			`6:14: answer_echo: expected true or false, found "yes" (write true, without quotes)`},
		{"answers in quotes", webService + oneBackend + "answer_echo: 'false'\n",
			`6:14: answer_echo: expected true or false, found the text "false" in quotes (write false, without quotes)`},
		{"answers in numbers", webService + oneBackend + "answer_echo: 2\n",
			`6:14: answer_echo: expected true or false, found "2"`},
		{"ARP answers", webService + oneBackend + "answer_arp: off\n",
			`6:13: answer_arp: expected true or false, found "off" (write false, without quotes)`},
		{"answers are a map", webService + oneBackend + "answer_echo: {}\n",
			`6:14: answer_echo: expected true or false, found a map`},
	}
}
