package config

func badChecks() []badConfig {
	check := func(keys string) string { return webService + "    check: {" + keys + "}\n" + oneBackend }
	return []badConfig{
		{"check is a text", webService + "    check: http\n" + oneBackend,
			`5:12: check: expected a map, found "http" (its keys are: type, port, interval, fast_interval, timeout, jitter, rise, fall, path, host, status, body, tls, service, send, send_hex, expect, expect_hex)`},
		{"check without type", check("interval: 1s"), `5:12: check: the key "type" is missing (add it)`},
		{"check type", check("type: htpp"), `5:19: type: unknown value "htpp" (did you mean "http"?)`},
		{"check type and others", check("type: htpp, path: health"),
			`5:19: type: unknown value "htpp" (did you mean "http"?)` + "\n" +
				`5:31: path: expected a path that starts with / and has no spaces, found "health" (as in /health)`},
		{"check via", check("type: tcp, via: vip"),
			`5:24: check: unknown key "via" (expected one of: type, port, interval, fast_interval, timeout, jitter, rise, fall, path, host, status, body, tls, service, send, send_hex, expect, expect_hex)`},
		{"check path", check("type: http, path: health"),
			`5:31: path: expected a path that starts with / and has no spaces, found "health" (as in /health)`},
		{"check path that is not ASCII", check("type: http, path: /café"),
			`5:31: path: expected nothing but printable ASCII, found "/café" (encode it, as in /%C3%A9)`},
		{"check path for tcp", check("type: tcp, path: /"),
			`5:24: path: a check of type "tcp" has no path (remove it, or use type: http)`},
		{"check keys of others", check("type: http, tls: {}, service: x, send: x"),
			`5:25: tls: a check of type "http" has no tls (remove it, or use type: https)` + "\n" +
				`5:34: service: a check of type "http" has no service (remove it, or use type: grpc)` + "\n" +
				`5:46: send: a check of type "http" has no send (remove it, or use type: udp)`},
		{"check times", check("type: tcp, interval: 2, timeout: 2h"),
			`5:34: interval: expected a time from 100ms to 1h, found "2" (write number and unit (ms, s, m or h), as in 90s or 1h30m)` + "\n" +
				`5:46: timeout: expected a time from 100ms to 1h, found "2h"`},
		{"check timeout above interval", check("type: tcp, interval: 1s, timeout: 2s"),
			`5:47: timeout: 2s is longer than the interval of 1s (make it shorter, or the interval longer)`},
		{"check fast interval above interval", check("type: tcp, interval: 1s, fast_interval: 2s"),
			`5:53: fast_interval: 2s is longer than the interval of 1s (make it shorter, or the interval longer)`},
		{"check counts", check("type: tcp, rise: 0, fall: 1000, jitter: 51"),
			`5:30: rise: expected a whole number from 1 to 100, found "0"` + "\n" +
				`5:39: fall: expected a whole number from 1 to 100, found "1000"` + "\n" +
				`5:53: jitter: expected a whole number from 0 to 50, found "51"`},
		{"check port", check("type: tcp, port: 65536"), `5:30: port: expected a whole number from 1 to 65535, found "65536"`},
		{"check without a port", head + "  - name: web\n    address: 192.17.0.5:*\n    check: {type: tcp}\n    backends: [{address: 192.17.0.2}]\n",
			`5:5: check: the backend 192.17.0.2 has no port, and the service has several: it is not known which to check (give the check a port)`},
		{"check host", check(`type: http, host: "a b"`), `5:31: host: expected a host name, found "a b" (as in www.example.com)`},
		{"check host with a line end", check(`type: http, host: "a\r\nb"`), `5:31: host: expected a host name, found "a\r\nb" (as in www.example.com)`},
		{"check status", check("type: http, status: 99"),
			`5:33: status: expected status codes from 100 to 599, found "99" (as in 200, 200-299 or [200, 300-399])`},
		{"check status range", check("type: http, status: [200, 399-300, {}]"),
			`5:39: status: expected status codes from 100 to 599, found "399-300" (as in 200, 200-299 or [200, 300-399])` + "\n" +
				`5:48: status: expected status codes from 100 to 599, found a map (as in 200, 200-299 or [200, 300-399])`},
		{"check body", check(`type: http, body: "a("`),
			"5:31: body: expected a regular expression, found \"a(\": missing closing ): `a(` (see https://pkg.go.dev/regexp/syntax)"},
		{"check tls", check("type: https, tls: {server_name: a_b!, skip_verify: yes}"),
			`5:45: server_name: expected a host name, found "a_b!" (as in www.example.com)` + "\n" +
				`5:64: skip_verify: unknown value "yes" (expected one of: true, false)`},
		{"check tls with and without verification", check("type: https, tls: {ca: f.pem, skip_verify: true}"),
			`5:32: ca: it is not used with skip_verify (remove one of them)`},
		{"check udp without send", check("type: udp, expect: x"),
			`5:12: check: the key "send" is missing: a check of type "udp" sends a datagram (add what the backends answer to)`},
		{"check udp with text and hex", check("type: udp, send: x, send_hex: 00, expect_hex: 01, expect: y"),
			`5:33: send_hex: send was already given in line 5 (remove one of them)` + "\n" +
				`5:47: expect_hex: expect was already given in line 5 (remove one of them)`},
		{"check udp with bad hex", check("type: udp, send_hex: 0x00"),
			`5:34: send_hex: expected pairs of hexadecimal digits, found "0x00" (as in "00 ff")`},
	}
}
