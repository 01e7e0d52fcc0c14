package config

func badPolicies() []badConfig {
	lists := func(lines string) string { return webService + lines + oneBackend }
	return []badConfig{
		{"sources that are none", lists("    allow: [10.0.0.0/33, any, \"10.0.0.1:80\", ~, 10.0.0/8]\n"),
			`5:13: allow: expected a prefix such as 192.0.2.0/24, found "10.0.0.0/33" (as in 192.0.2.0/24 or "2001:db8::/32")` + "\n" +
				`5:26: allow: expected a prefix such as 192.0.2.0/24, found "any" (as in 192.0.2.0/24 or "2001:db8::/32")` + "\n" +
				`5:31: allow: expected a prefix such as 192.0.2.0/24, found the text "10.0.0.1:80" in quotes (as in 192.0.2.0/24 or "2001:db8::/32")` + "\n" +
				`5:46: allow: expected a prefix such as 192.0.2.0/24, found nothing` + "\n" +
				`5:49: allow: expected a prefix such as 192.0.2.0/24, found "10.0.0/8" (as in 192.0.2.0/24 or "2001:db8::/32")`},
		{"sources with host bits", lists("    deny: [10.0.0.1/8, \"2001:db8::1/32\", \"::ffff:10.0.0.0/104\"]\n"),
			`5:12: deny: 10.0.0.1/8 has bits set behind its length (write 10.0.0.0/8, or 10.0.0.1 for this address alone)` + "\n" +
				`5:24: deny: 2001:db8::1/32 has bits set behind its length (write 2001:db8::/32, or 2001:db8::1 for this address alone)` + "\n" +
				`5:42: deny: ::ffff:10.0.0.0/104 has IPv4 addresses mapped into IPv6 (write it as an IPv4 prefix)`},
		{"sources given twice", lists("    deny:\n      - 10.0.0.1\n      - 10.0.0.1/32\n    allow: [10.0.0.1]\n"),
			`7:9: deny: the prefix 10.0.0.1/32 was already given in line 6 (remove one of them)` + "\n" +
				`8:13: allow: the prefix 10.0.0.1/32 was already given in line 6 (remove one of them)`},
		{"no sources", lists("    allow: []\n"),
			`5:12: allow: expected at least one item, found an empty list (write it as allow: [192.0.2.0/24])`},
		{"more prefixes than the limit", lists("    deny: [10.0.0.0/8, 11.0.0.0/8]\n") + "limits: {prefixes: 1}\n",
			`7:20: limits: the config has 2 prefixes in allow and deny, the limit is 1 (set limits: {prefixes: 2} or more)`},
		{"limits of flows", lists("    max_flows: 0\n    new_flows_per_second: 1000001\n    per_client: {prefix_v4: 33, prefix_v6: 0}\n"),
			`5:16: max_flows: expected a whole number from 1 to 16777216, found "0"` + "\n" +
				`6:27: new_flows_per_second: expected a whole number from 1 to 1000000, found "1000001"` + "\n" +
				`7:17: per_client: the key "new_flows_per_second" is missing (add it)` + "\n" +
				`7:29: prefix_v4: expected a whole number from 1 to 32, found "33"` + "\n" +
				`7:44: prefix_v6: expected a whole number from 1 to 128, found "0"`},
		{"affinity", lists("    affinity: {by: cookie, timeout: 31d, group: \"a b\"}\n"),
			`5:20: by: unknown value "cookie" (expected one of: client)` + "\n" +
				`5:37: timeout: expected a time from 1s to 720h, found "31d" (write number and unit (ms, s, m or h), as in 90s or 1h30m)` + "\n" +
				`5:49: group: the character ' ' cannot be part of a name (a name has letters, digits, dots, underscores and dashes)`},
		{"affinity without by", lists("    affinity: {timeout: 1h}\n"),
			`5:15: affinity: the key "by" is missing (add it)`},
		{"a group with two timeouts", lists("    affinity: {by: client, group: g}\n") +
			"  - {name: other, address: 192.17.0.5:81, affinity: {by: client, group: g, timeout: 1h}, backends: [{address: 192.17.0.2:81}]}\n",
			`7:53: affinity: not the same as in line 5, of the same group "g" (give all services of a group the same timeout and prefixes)`},
		{"timeouts of a service", lists("    timeouts: {tcp_established: 1}\n"),
			`5:33: tcp_established: expected a time from 1s to 720h, found "1" (write number and unit (ms, s, m or h), as in 90s or 1h30m)`},
	}
}
