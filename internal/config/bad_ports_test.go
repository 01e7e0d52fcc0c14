package config

// ports is a service with that VIP.
func ports(name, vip string) string {
	return "  - name: " + name + "\n    address: " + vip + "\n" + oneBackend
}

const portsExpected = `expected a range of ports such as 8000-8100, each from 1 to 65535, found `

// badPorts is about VIPs with more than one port.
func badPorts() []badConfig {
	return []badConfig{
		{"range without end", head + ports("web", "192.17.0.5:8000-"), `4:14: address: ` + portsExpected + `"8000-"`},
		{"range without beginning", head + ports("web", "192.17.0.5:-8000"), `4:14: address: ` + portsExpected + `"-8000"`},
		{"range of three", head + ports("web", "192.17.0.5:1-2-3"), `4:14: address: ` + portsExpected + `"1-2-3"`},
		{"range of names", head + ports("web", "192.17.0.5:http-https"), `4:14: address: ` + portsExpected + `"http-https"`},
		{"range from port 0", head + ports("web", "192.17.0.5:0-100"), `4:14: address: ` + portsExpected + `"0-100"`},
		{"range to port 65536", head + ports("web", `"[2001:db8::5]:1-65536"`), `4:14: address: ` + portsExpected + `"1-65536"`},
		{"range backwards", head + ports("web", "192.17.0.5:8100-8000"),
			`4:14: address: the first port of 8100-8000 is after the last (write 8000-8100)`},
		{"two stars", head + ports("web", "192.17.0.5:**"), `4:14: address: expected a port from 1 to 65535, found "**"`},
		{"range of an address that is none", head + ports("web", "192.17.0.256:1-2"),
			`4:14: address: "192.17.0.256" is not an IPv4 address (four numbers from 0 to 255 without leading zeros, as in 192.17.0.5)`},

		{"equal ranges", head + ports("a", "192.17.0.5:8000-8100") + ports("b", "192.17.0.5:8000-8100"),
			`7:14: address: 192.17.0.5:8000-8100 tcp already belongs to the service in line 4 (put the backends of both into one service)`},
		{"all ports twice", head + ports("a", `"[2001:db8::5]:*"`) + ports("b", `"[2001:db8:0::5]:*"`),
			`7:14: address: [2001:db8::5]:* tcp already belongs to the service in line 4 (put the backends of both into one service)`},
		{"one port, written as a range", head + ports("a", "192.17.0.5:80") + ports("b", "192.17.0.5:80-80"),
			`7:14: address: 192.17.0.5:80 tcp already belongs to the service in line 4 (put the backends of both into one service)`},
		{"equal ports within a range", head + ports("a", "192.17.0.5:80") + ports("b", "192.17.0.5:*") + ports("c", "192.17.0.5:80"),
			`10:14: address: 192.17.0.5:80 tcp already belongs to the service in line 4 (put the backends of both into one service)`},
		{"ranges overlap partly", head + ports("a", "192.17.0.5:8000-8100") + ports("b", "192.17.0.5:8050-8150"),
			`7:14: address: 192.17.0.5:8050-8150 tcp overlaps 192.17.0.5:8000-8100 of the service in line 4 ` +
				`(take the ports 8050-8100 out of one of them, or make one range contain the other)`},
		{"ranges overlap partly, the higher first", head + ports("a", "192.17.0.5:8100-8200") + ports("b", "192.17.0.5:8000-8100"),
			`7:14: address: 192.17.0.5:8000-8100 tcp overlaps 192.17.0.5:8100-8200 of the service in line 4 ` +
				`(take the port 8100 out of one of them, or make one range contain the other)`},
		{"ranges overlap partly in one protocol", head + ports("a", "192.17.0.5:1-20") + "    protocol: [udp, tcp]\n" + ports("b", "192.17.0.5:10-30") + "    protocol: udp\n",
			`8:14: address: 192.17.0.5:10-30 udp overlaps 192.17.0.5:1-20 of the service in line 4 ` +
				`(take the ports 10-20 out of one of them, or make one range contain the other)`},
		{"overlap within a range that contains both", head + ports("all", "192.17.0.5:*") + ports("a", "192.17.0.5:1-20") + ports("b", "192.17.0.5:20-30") + ports("c", "192.17.0.5:31-40"),
			`10:14: address: 192.17.0.5:20-30 tcp overlaps 192.17.0.5:1-20 of the service in line 7 ` +
				`(take the port 20 out of one of them, or make one range contain the other)`},

		{"backend in a range that is a VIP", head + ports("web", "192.17.0.6:80") + "  - name: range\n    address: 192.17.0.2:1-100\n" + "    backends: [{address: 192.17.0.3}]\n",
			`5:26: address: packets to the backend 192.17.0.2:80 would be for the VIP 192.17.0.2:1-100 of the service in line 7: they would go round in a loop (write the address of the server itself)`},
		{"backend of all ports", head + "  - name: web\n    address: 192.17.0.5:*\n    backends: [{address: 192.17.0.5:80}]\n",
			`5:26: address: packets to the backend 192.17.0.5:80 would be for the VIP 192.17.0.5:* of the service in line 4: they would go round in a loop (write the address of the server itself)`},
		{"backend between VIPs of one port", head + ports("a", "192.17.0.9:1-10") + ports("b", "192.17.0.9:20") + ports("c", "192.17.0.9:30-40") +
			"  - name: d\n    address: 192.17.0.5:80\n    backends: [{address: 192.17.0.9:15}, {address: 192.17.0.9:20}, {address: 192.17.0.9:29}, {address: 192.17.0.9:40}, {address: 192.17.0.9:41}]\n",
			`14:52: address: the backend 192.17.0.9:20 is the VIP of the service in line 7: packets would go round in a loop (write the address of the server itself)` + "\n" +
				`14:104: address: packets to the backend 192.17.0.9:40 would be for the VIP 192.17.0.9:30-40 of the service in line 10: they would go round in a loop (write the address of the server itself)`},
		{"backend without port", head + "  - name: web\n    address: 192.17.0.5:80\n    backends: [{address: 192.17.0.5}]\n",
			`5:26: address: packets to the backend 192.17.0.5 would be for the VIP 192.17.0.5:80 of the service in line 4: they would go round in a loop (write the address of the server itself)`},
		{"backend without port, of a VIP with other ports", head + "  - name: web\n    address: 192.17.0.5:1-100\n    protocol: [tcp, udp]\n    backends: [{address: 192.17.0.2}]\n" +
			ports("other", "192.17.0.2:101") + ports("udp", "192.17.0.2:100-200") + "    protocol: udp\n",
			`6:26: address: packets to the backend 192.17.0.2 would be for the VIP 192.17.0.2:100-200 of the service in line 11: they would go round in a loop (write the address of the server itself)`},

		{"backend twice, once without the VIP's port", webService + "    backends: [{address: 192.17.0.2}, {address: 192.17.0.2:80}, {address: 192.17.0.2:81}, {address: 192.17.0.2}]\n",
			`5:49: backends: the address 192.17.0.2:80 was already given in line 5 (remove one of them; for more traffic give it a higher weight)` + "\n" +
				`5:101: backends: the address 192.17.0.2 was already given in line 5 (remove one of them; for more traffic give it a higher weight)`},
		{"backend twice, without port", head + "  - name: web\n    address: 192.17.0.5:*\n    backends: [{address: 192.17.0.2}, {address: 192.17.0.2:80}, {address: 192.17.0.2}]\n",
			`5:75: backends: the address 192.17.0.2 was already given in line 5 (remove one of them; for more traffic give it a higher weight)`},
		{"backends that are none", webService + "    backends: [{address: 80}, {address: localhost}, {address: 192.17.0.0/24}, {address: \"[192.17.0.2]\"}, {address: 127.0.0.1}, {address: 192.17.0.2:}]\n",
			`5:26: address: "80" is not an IPv4 address (four numbers from 0 to 255 without leading zeros, as in 192.17.0.5)` + "\n" +
				`5:41: address: expected an IP address, found "localhost" (host names are not resolved, because their addresses change: write the IP address)` + "\n" +
				`5:63: address: expected one IP address, found the prefix "192.17.0.0/24" (leave the prefix length away)` + "\n" +
				`5:89: address: expected an IP address, found "[192.17.0.2]" (leave the brackets away)` + "\n" +
				`5:116: address: 127.0.0.1 cannot be a backend: loopback addresses are never seen on a network (write an address that packets can be sent to)` + "\n" +
				`5:138: address: expected a port from 1 to 65535 after the colon, found nothing`},
		{"IPv6 backends that are none", webService6 + "    backends: [{address: \"[2001:db8:::2]\"}, {address: \"2001:db8::/64\"}, {address: \"fe80::1%eth0\"}, {address: \"::ffff:10.0.0.1\"}, {address: \"2001:db8:0:0:0:0:0:5:80\"}, {address: [2001:db8::2]}]\n",
			`5:26: address: "2001:db8:::2" is not an IPv6 address (eight groups of hexadecimal digits, :: once for groups of zeros, as in 2001:db8::5)` + "\n" +
				`5:55: address: expected one IP address, found the prefix "2001:db8::/64" (leave the prefix length away)` + "\n" +
				`5:83: address: fe80::1 cannot be a backend: ` + linkLocal + ` (write an address that packets can be sent to)` + "\n" +
				`5:110: address: "::ffff:10.0.0.1" is an IPv4 address mapped into IPv6 (write it as 10.0.0.1)` + "\n" +
				`5:140: address: ` + backendExpected + `, found "2001:db8:0:0:0:0:0:5:80" (put the address in brackets: "[2001:db8:0:0:0:0:0:5]:80")` + "\n" +
				`5:178: address: ` + backendExpected + `, found a list (put quotes around an IPv6 address: "[2001:db8::5]:80")`},
	}
}

const backendExpected = `expected an address such as 192.17.0.2:80 or "[2001:db8::2]:80", with or without a port`
