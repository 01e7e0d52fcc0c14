package config

// quicService is a service with these keys, and a backend for each of the following.
func quicService(keys string, backends ...string) string {
	text := head + "  - name: quic\n    address: 192.17.0.5:443\n    " + keys + "\n    backends:\n"
	for _, b := range backends {
		text += "      - {" + b + "}\n"
	}
	return text
}

func badQUIC() []badConfig {
	const one, two, udp = "address: 192.17.0.2", "address: 192.17.0.3", "protocol: udp\n    quic: {config_id: 1, server_id_length: 2}"
	return []badConfig{
		{"quic over TCP", quicService("quic: {server_id_length: 1}", one+", server_id: 0a"),
			`5:5: quic: only UDP carries QUIC, and the service has other protocols, too (set protocol: udp, and put other protocols into a service of their own)`},
		{"quic over both", quicService("protocol: [tcp, udp]\n    quic: {server_id_length: 1}", one+", server_id: 0a"),
			`6:5: quic: only UDP carries QUIC, and the service has other protocols, too (set protocol: udp, and put other protocols into a service of their own)`},
		{"config id that names nobody", quicService("protocol: udp\n    quic: {config_id: 7, server_id_length: 1}", one+", server_id: 0a"),
			`6:23: config_id: expected a whole number from 0 to 6, found "7"`},
		{"server ids without length", quicService("protocol: udp\n    quic: {config_id: 1}", one+", server_id: 0a"),
			`6:11: quic: the key "server_id_length" is missing (add it)`},
		{"server id length 0", quicService("protocol: udp\n    quic: {server_id_length: 0}", one+", server_id: 0a"),
			`6:30: server_id_length: expected a whole number from 1 to 15, found "0"`},
		{"server id length 16", quicService("protocol: udp\n    quic: {server_id_length: 16}", one+", server_id: 0a"),
			`6:30: server_id_length: expected a whole number from 1 to 15, found "16"`},
		{"no server id", quicService(udp, one+", server_id: 0a1b", two),
			`9:9: backends: a service with quic needs the server_id of each backend (add server_id: "0a1b")`},
		{"server id without quic", quicService("protocol: udp", one+", server_id: 0a1b"),
			`7:31: server_id: the service has no quic: this would be ignored (remove it, or give the service quic: {server_id_length: ...})`},
		{"server id too short", quicService(udp, one+", server_id: 0a"),
			`8:42: server_id: expected 4 hexadecimal digits, as server_id_length is 2, found "0a" (as in server_id: "0a1b" for two bytes)`},
		{"server id too long", quicService(udp, one+", server_id: 123456"),
			`8:42: server_id: expected 4 hexadecimal digits, as server_id_length is 2, found "123456" (as in server_id: "0a1b" for two bytes)`},
		{"server id no number", quicService(udp, one+", server_id: 0x1b"),
			`8:42: server_id: expected 4 hexadecimal digits, as server_id_length is 2, found "0x1b" (as in server_id: "0a1b" for two bytes)`},
		{"server id a list", quicService(udp, one+", server_id: [1]"),
			`8:42: server_id: expected 4 hexadecimal digits, as server_id_length is 2, found a list`},
		{"one server id for two", quicService(udp, one+", server_id: 0a1b", two+", server_id: 0A1B"),
			`9:42: server_id: 0a1b was already given in line 8 (give each backend of a service its own)`},
		{"negative seed", webService + oneBackend + "seed: -1\n",
			`6:7: seed: expected a whole number from 0 to 4294967295, found "-1"`},
	}
}
