package config

func badKeysAndSettings() []badConfig {
	return []badConfig{
		{"misspelt key at the top", "interface: [eth0]\n" + webService[len("interfaces: [eth0]\n"):] + oneBackend,
			`1:1: the config: unknown key "interface" (did you mean "interfaces"?)`},
		{"misspelt key in a service", webService + "    backend: [{address: 192.17.0.2:80}]\n",
			`5:5: a service: unknown key "backend" (did you mean "backends"?)`},
		{"letters swapped", webService + "    portocol: tcp\n" + oneBackend,
			`5:5: a service: unknown key "portocol" (did you mean "protocol"?)`},
		{"upper case", webService + "    Protocol: tcp\n" + oneBackend,
			`5:5: a service: unknown key "Protocol" (did you mean "protocol"?)`},
		{"unknown key", webService + "    colour: red\n" + oneBackend,
			`5:5: a service: unknown key "colour" (expected one of: name, address, protocol, forward, scheduler, table_size, allow, deny, max_flows, new_flows_per_second, per_client, affinity, timeouts, quic, reject, mss, snat, tunnel, backends, check)`},
		{"unknown key in a backend", webService + "    backends: [{address: 192.17.0.2:80, port: 80}]\n",
			`5:41: a backend: unknown key "port" (expected one of: name, address, max_flows, weight, server_id)`},
		{"unknown key in snat", webService + oneBackend + "snat: {address: [10.0.0.1]}\n",
			`6:8: snat: unknown key "address" (did you mean "addresses"?)`},
		{"unknown key in timeouts", webService + oneBackend + "timeouts: {tcp_close: 1m}\n",
			`6:12: timeouts: unknown key "tcp_close" (did you mean "tcp_closed"?)`},
		{"unknown key in limits", webService + oneBackend + "limits: {flow: 1024}\n",
			`6:10: limits: unknown key "flow" (did you mean "flows"?)`},
		{"unknown key in check", webService + "    check: {type: http, intervall: 2s}\n" + oneBackend,
			`5:25: check: unknown key "intervall" (did you mean "interval"?)`},
		{"duplicate key at the top", webService + oneBackend + "interfaces: [eth1]\n",
			`6:1: the config: the key "interfaces" was already given in line 1 (remove one of them)`},
		{"duplicate key in a service", webService + "    name: other\n" + oneBackend,
			`5:5: a service: the key "name" was already given in line 3 (remove one of them)`},
		{"duplicate key in a backend", webService + "    backends: [{address: 192.17.0.2:80, weight: 1, weight: 2}]\n",
			`5:52: a backend: the key "weight" was already given in line 5 (remove one of them)`},
		{"keys missing", head + "  - protocol: tcp\n",
			`3:5: a service: the key "name" is missing (add it)` + "\n" +
				`3:5: a service: the key "address" is missing (add it)` + "\n" +
				`3:5: a service: the key "backends" is missing (add it)`},
		{"several errors", "mode: fast\nservices:\n  - address: 192.17.0.5:70000\n    backends:\n      - {name: a b}\n      - {address: 192.17.0.2:0}\n",
			`1:1: the config: the key "interfaces" is missing (add it)` + "\n" +
				`1:7: mode: unknown value "fast" (expected one of: auto, native, generic)` + "\n" +
				`3:5: a service: the key "name" is missing (add it)` + "\n" +
				`3:14: address: expected a port from 1 to 65535, found "70000"` + "\n" +
				`5:9: a backend: the key "address" is missing (add it)` + "\n" +
				`5:16: name: the character ' ' cannot be part of a name (a name has letters, digits, dots, underscores and dashes)` + "\n" +
				`6:19: address: expected a port from 1 to 65535, found "0"`},
		{"interfaces is a text", "interfaces: eth0\nservices: 1\n",
			`1:13: interfaces: expected a list, found "eth0" (write it as interfaces: [eth0])` + "\n" +
				`2:11: services: expected a list, found "1" (write it as a list of services, each starting with "- name:")`},
		{"interfaces is empty", "interfaces: []\nservices: []\n",
			`1:13: interfaces: expected at least one item, found an empty list (write it as interfaces: [eth0])` + "\n" +
				`2:11: services: expected at least one item, found an empty list (write it as a list of services, each starting with "- name:")`},
		{"interfaces is a map", "interfaces: {eth0: 1}\nservices: {web: 1}\n",
			`1:13: interfaces: expected a list, found a map (write it as interfaces: [eth0])` + "\n" +
				`2:11: services: expected a list, found a map (write it as a list of services, each starting with "- name:")`},
		{"interface names", "interfaces: [eth0, eth0, a-very-long-name, a/b, \"a b\", .., \"\", ~, [eth1]]\n" + webService[len("interfaces: [eth0]\n"):] + oneBackend,
			`1:20: interfaces: "eth0" was already given in line 1 (remove one of them)` + "\n" +
				"1:26: interfaces: \"a-very-long-name\" is not the name of an interface: longer than 15 characters (`ip link` lists the names)" + "\n" +
				"1:44: interfaces: \"a/b\" is not the name of an interface: slashes, colons and spaces are not allowed (`ip link` lists the names)" + "\n" +
				"1:49: interfaces: \"a b\" is not the name of an interface: slashes, colons and spaces are not allowed (`ip link` lists the names)" + "\n" +
				"1:56: interfaces: \"..\" is not the name of an interface: it names a directory (`ip link` lists the names)" + "\n" +
				`1:60: interfaces: expected the name of a network interface, found the text "" in quotes` + "\n" +
				`1:64: interfaces: expected the name of a network interface, found nothing` + "\n" +
				`1:67: interfaces: expected the name of a network interface, found a list`},
		{"null values", "interfaces:\nmode: ~\nsnat:\nservices:\n  -\n  - name: null\n    address:\n    backends:\n      -\n",
			`1:1: interfaces: expected a list, found nothing (write it as interfaces: [eth0])` + "\n" +
				`2:7: mode: expected one of auto, native, generic, found nothing` + "\n" +
				`3:1: snat: expected a map, found nothing (its keys are: addresses, ports)` + "\n" +
				`5:3: a service: expected a map, found nothing (its keys are: name, address, protocol, forward, scheduler, table_size, allow, deny, max_flows, new_flows_per_second, per_client, affinity, timeouts, quic, reject, mss, snat, tunnel, backends, check)` + "\n" +
				`6:11: name: expected a name, found nothing` + "\n" +
				`7:5: address: expected an address and port such as 192.17.0.5:80 or "[2001:db8::5]:80", found nothing` + "\n" +
				`9:7: a backend: expected a map, found nothing (its keys are: name, address, max_flows, weight, server_id)`},
		{"empty values", webService + "    forward: \"\"\n    scheduler: ''\n" + oneBackend,
			`5:14: forward: expected one of nat, dnat, dsr, ipip, gue, found the text "" in quotes` + "\n" +
				`6:16: scheduler: expected one of maglev, random, least-conn, found the text "" in quotes`},
		{"mode", webService + oneBackend + "mode: natve\n",
			`6:7: mode: unknown value "natve" (did you mean "native"?)`},
		{"mode is a list", webService + oneBackend + "mode: [auto]\n",
			`6:7: mode: expected one of auto, native, generic, found a list`},
		{"fragments", webService + oneBackend + "fragments: {held: 4097, bytes: 2MB, timeout: 2m}\n",
			`6:19: held: expected a whole number from 0 to 4096, found "4097"` + "\n" +
				`6:32: bytes: expected a size from 0 to 67108864 bytes, found "2MB" (write a whole number, alone or with KiB or MiB, as in 512KiB)` + "\n" +
				`6:46: timeout: expected a time from 10ms to 1m, found "2m"`},
		{"fragments' bytes", webService + oneBackend + "fragments: {bytes: 65MiB}\n",
			`6:20: bytes: expected a size from 0 to 67108864 bytes, found "65MiB" (write a whole number, alone or with KiB or MiB, as in 512KiB)`},
		{"unknown key in fragments", webService + oneBackend + "fragments: {hold: 1}\n",
			`6:13: fragments: unknown key "hold" (did you mean "held"?)`},
		{"timeouts", webService + oneBackend + "timeouts: {tcp_closed: 60, udp_stream: 1d, udp_unconfirmed: 10ms, tcp_established: 800h, tcp_unconfirmed: -5s, tcp_half_closed: {s: 4}}\n",
			`6:24: tcp_closed: expected a time from 1s to 720h, found "60" (write number and unit (ms, s, m or h), as in 90s or 1h30m)` + "\n" +
				`6:40: udp_stream: expected a time from 1s to 720h, found "1d" (write number and unit (ms, s, m or h), as in 90s or 1h30m)` + "\n" +
				`6:61: udp_unconfirmed: expected a time from 1s to 720h, found "10ms"` + "\n" +
				`6:84: tcp_established: expected a time from 1s to 720h, found "800h"` + "\n" +
				`6:107: tcp_unconfirmed: expected a time from 1s to 720h, found "-5s"` + "\n" +
				`6:129: tcp_half_closed: expected a time from 1s to 720h, found a map (write number and unit (ms, s, m or h), as in 90s or 1h30m)`},
		{"timeouts is a list", webService + oneBackend + "timeouts: [60s]\n",
			`6:11: timeouts: expected a map, found a list (its keys are: tcp_unconfirmed, tcp_established, tcp_half_closed, tcp_closed, udp_unconfirmed, udp_stream)`},
		{"limits", webService + oneBackend + "limits: {flows: 8, services: 0, backends: 2000000, table_entries: 1e6}\n",
			`6:17: flows: expected a whole number from 16 to 16777216, found "8"` + "\n" +
				`6:30: services: expected a whole number from 1 to 65536, found "0"` + "\n" +
				`6:43: backends: expected a whole number from 1 to 1048576, found "2000000"` + "\n" +
				`6:67: table_entries: expected a whole number from 64 to 67108864, found "1e6"`},
		{"limits that are no numbers", webService + oneBackend + "limits: {flows: 0x400, services: \"10\", backends: 1_000, table_entries: [64]}\n",
			`6:17: flows: expected a whole number from 16 to 16777216, found "0x400"` + "\n" +
				`6:34: services: expected a whole number from 1 to 65536, found the text "10" in quotes (remove the quotes)` + "\n" +
				`6:50: backends: expected a whole number from 1 to 1048576, found "1_000"` + "\n" +
				`6:72: table_entries: expected a whole number from 64 to 67108864, found a list`},
		{"too many services", head + "  - {name: a, address: 10.0.0.1:80, backends: [{address: 10.0.1.1:80}]}\n  - {name: b, address: 10.0.0.2:80, backends: [{address: 10.0.1.1:80}]}\nlimits: {services: 1}\n",
			`5:20: limits: the config has 2 services, the limit is 1 (set limits: {services: 2} or more)`},
		{"too many backends", webService + "    backends: [{address: 10.0.1.1:80}, {address: 10.0.1.2:80}]\n" + "limits:\n  backends: 1\n",
			`7:13: limits: the config has 2 backends, the limit is 1 (set limits: {backends: 2} or more)`},
		{"too many table entries", webService + oneBackend + "limits: {table_entries: 126}\n",
			`6:25: limits: the config has 256 table entries (room for a changed table beside the old one included), the limit is 126 (set limits: {table_entries: 256} or more)`},
		{"snat ports", webService + oneBackend + "snat: {ports: 5000-4000}\n",
			`6:15: ports: the first port of 5000-4000 is after the last (write 4000-5000)`},
		{"snat port 0", webService + oneBackend + "snat: {ports: 0-4000}\n",
			`6:15: ports: expected a range of ports such as 1024-32767, each from 1 to 65535, found "0-4000"`},
		{"snat port 65536", webService + oneBackend + "snat: {ports: 1024-65536}\n",
			`6:15: ports: expected a range of ports such as 1024-32767, each from 1 to 65535, found "1024-65536"`},
		{"snat ports in words", webService + "    snat: {ports: high}\n" + oneBackend,
			`5:19: ports: expected a range of ports such as 1024-32767, each from 1 to 65535, found "high"`},
		{"snat ports as a list", webService + oneBackend + "snat: {ports: [1024, 32767]}\n",
			`6:15: ports: expected a range of ports such as 1024-32767, found a list`},
		{"snat addresses", webService + oneBackend + "snat: {addresses: [10.0.0.1, 10.0.0.1, 0.0.0.0, 224.0.0.1, 255.255.255.255, 127.0.0.1, 10.0.0.0/24, \"10.0.0.1:80\", host]}\n",
			`6:30: addresses: 10.0.0.1 was already given in line 6 (remove one of them)` + "\n" +
				`6:40: addresses: 0.0.0.0 cannot be a SNAT address: it is the unspecified address (write an address that packets can be sent to)` + "\n" +
				`6:49: addresses: 224.0.0.1 cannot be a SNAT address: it is a multicast address (write an address that packets can be sent to)` + "\n" +
				`6:60: addresses: 255.255.255.255 cannot be a SNAT address: it is the broadcast address (write an address that packets can be sent to)` + "\n" +
				`6:77: addresses: 127.0.0.1 cannot be a SNAT address: loopback addresses are never seen on a network (write an address that packets can be sent to)` + "\n" +
				`6:88: addresses: expected one IP address, found the prefix "10.0.0.0/24" (leave the prefix length away)` + "\n" +
				`6:101: addresses: expected an IP address without a port, found "10.0.0.1:80" (leave the port away)` + "\n" +
				`6:116: addresses: expected an IP address, found "host" (host names are not resolved, because their addresses change: write the IP address)`},
		{"snat addresses as a text", webService + oneBackend + "snat: {addresses: 10.0.0.1}\n",
			`6:19: addresses: expected a list, found "10.0.0.1" (write it as addresses: [192.17.0.5])`},
		{"snat is a text", webService + "    snat: 10.0.0.1\n" + oneBackend,
			`5:11: snat: expected a map, found "10.0.0.1" (its keys are: addresses, ports)`},
	}
}
