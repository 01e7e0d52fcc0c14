package config

import "fmt"

// forwarded is a service with that mode and these backends, one at least.
func forwarded(mode, vip, backends string) string {
	return head + "  - name: web\n    address: " + vip + "\n    forward: " + mode + "\n    backends: [" + backends + "]\n"
}

// badForward is about settings that do not go with how packets are forwarded.
func badForward() []badConfig {
	all := []badConfig{
		{"dnat to IPv6", forwarded("dnat", "192.17.0.5:80", `{address: 192.17.0.2:80}, {address: "[2001:db8::2]:80"}`),
			`6:52: address: the backend [2001:db8::2]:80 is behind the VIP 192.17.0.5:80: dnat keeps the client's address, so both must be of one family ` +
				`(write an IPv4 address of the server, or use forward: nat)`},
		{"dnat to IPv4, the VIP comes after it", head + "  - name: web\n    forward: dnat\n    backends: [{address: 192.17.0.2}]\n    address: \"[2001:db8::5]:*\"\n",
			`5:26: address: the backend 192.17.0.2 is behind the VIP [2001:db8::5]:*: dnat keeps the client's address, so both must be of one family ` +
				`(write an IPv6 address of the server, or use forward: nat)`},
		{"forward is no mode", webService + "    forward: dnt\n    snat: {ports: 1-2}\n    tunnel: {port: 1}\n    backends: [{address: \"[2001:db8::2]:81\"}]\n",
			`5:14: forward: unknown value "dnt" (did you mean "dnat"?)`},
		{"own port for tunnels without one", forwarded("ipip", "192.17.0.5:80", "{address: 192.17.0.2}") + "    tunnel: {sources: [], port: 6081}\n",
			`7:27: port: ipip has no port: this would be ignored (remove it, or use forward: gue)`},
		{"GUE packets to a VIP", forwarded("gue", "192.17.0.5:80", "{address: 192.17.0.2}") + "  - name: udp\n    address: 192.17.0.2:6000-7000\n    protocol: udp\n    backends: [{address: 192.17.0.3}]\n",
			`6:26: address: GUE packets to the backend 192.17.0.2 (UDP port 6080) would be for the VIP 192.17.0.2:6000-7000 of the service in line 8: they would go round in a loop (write the address of the server itself)`},
	}
	for _, mode := range []string{"nat", "dnat", "dsr"} {
		all = append(all, badConfig{"own tunnel for " + mode,
			forwarded(mode, "192.17.0.5:80", "{address: 192.17.0.2}") + "    tunnel: {sources: [10.0.0.0/8], port: 6081}\n",
			fmt.Sprintf(`7:5: tunnel: %s has no tunnel: this would be ignored (remove it, or use forward: ipip or gue)`, mode)})
	}
	for _, mode := range []string{"dsr", "ipip", "gue"} {
		all = append(all,
			badConfig{"own snat for " + mode,
				forwarded(mode, "192.17.0.5:80", "{address: 192.17.0.2}") + "    snat: {ports: 2000-3000}\n",
				fmt.Sprintf(`7:5: snat: %s leaves the client's address and port in the packet: this would be ignored (remove it, or use forward: nat or dnat)`, mode)},
			badConfig{"other ports for " + mode,
				forwarded(mode, "192.17.0.5:80", `{address: 192.17.0.2:8080}, {address: 192.17.0.3:80}, {address: "[2001:db8::2]:443"}`),
				fmt.Sprintf(`6:26: address: the backend 192.17.0.2:8080 is behind the VIP 192.17.0.5:80: %s does not change ports (write "192.17.0.2" without a port)`+"\n"+
					`6:80: address: the backend [2001:db8::2]:443 is behind the VIP 192.17.0.5:80: %s does not change ports (write "2001:db8::2" without a port)`, mode, mode)},
			badConfig{"a port of a range for " + mode,
				forwarded(mode, "192.17.0.5:80-90", `{address: 192.17.0.2:80}, {address: 192.17.0.3}`),
				fmt.Sprintf(`6:26: address: the backend 192.17.0.2:80 is behind the VIP 192.17.0.5:80-90: %s does not change ports (write "192.17.0.2" without a port)`, mode)},
			badConfig{"a port of all for " + mode,
				forwarded(mode, "192.17.0.5:*", `{address: 192.17.0.2:80}`),
				fmt.Sprintf(`6:26: address: the backend 192.17.0.2:80 is behind the VIP 192.17.0.5:*: %s does not change ports (write "192.17.0.2" without a port)`, mode)})
	}
	return all
}
