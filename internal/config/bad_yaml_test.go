package config

func badYAML() []badConfig {
	return []badConfig{
		{"empty file", "",
			`1:1: the config is empty (it needs at least the keys interfaces and services)`},
		{"only comments", "# nothing\n\n  # here\n",
			`1:1: the config is empty (it needs at least the keys interfaces and services)`},
		{"only a document marker", "---\n",
			`1:1: the config is empty (it needs at least the keys interfaces and services)`},
		{"only null", "~\n",
			`1:1: the config: expected a map, found nothing (its keys are: interfaces, mode, snat, tunnel, timeouts, rate_limits, fragments, answer_echo, answer_arp, seed, limits, services)`},
		{"a list", "- a\n",
			`1:1: the config: expected a map, found a list (its keys are: interfaces, mode, snat, tunnel, timeouts, rate_limits, fragments, answer_echo, answer_arp, seed, limits, services)`},
		{"a text", "interfaces eth0\n",
			`1:1: the config: expected a map, found "interfaces eth0" (its keys are: interfaces, mode, snat, tunnel, timeouts, rate_limits, fragments, answer_echo, answer_arp, seed, limits, services)`},
		{"invalid UTF-8", "interfaces: [eth0]\nmode: \xff\n",
			`2:7: expected text in UTF-8, found the byte 0xff (is this the right file?)`},
		{"binary", "\x7fELF\x02\x01\x01\x00",
			`1:1: expected text, found the control character U+007F (is this the right file?)`},
		{"zero byte", "interfaces: [\x00]\n",
			`1:14: expected text, found the control character U+0000 (is this the right file?)`},
		{"lone carriage return", "interfaces: [eth0]\rservices:\r",
			`1:19: expected text, found the control character U+000D (is this the right file?)`},
		{"tab indentation", "interfaces:\n\t- eth0\n",
			`2:1: found a tab in the indentation, which YAML does not allow (use spaces)`},
		{"two documents", head + "---\ninterfaces: [eth0]\n",
			`3:1: expected one YAML document, found 2 (put all of it into one document)`},
		{"anchor, alias, merge key", "a: &x [1]\nb: *x\n<<: *x\n",
			`1:4: YAML anchors, aliases and merge keys (&name, *name, <<) are not supported (write the value out where it is needed; put quotes around a text that starts with & or *)` + "\n" +
				`2:4: YAML anchors, aliases and merge keys (&name, *name, <<) are not supported (write the value out where it is needed; put quotes around a text that starts with & or *)` + "\n" +
				`3:1: YAML anchors, aliases and merge keys (&name, *name, <<) are not supported (write the value out where it is needed; put quotes around a text that starts with & or *)` + "\n" +
				`3:5: YAML anchors, aliases and merge keys (&name, *name, <<) are not supported (write the value out where it is needed; put quotes around a text that starts with & or *)`},
		{"billion laughs", "a: &a [x, x]\nb: &b [*a, *a]\n",
			`1:4: YAML anchors, aliases and merge keys (&name, *name, <<) are not supported (write the value out where it is needed; put quotes around a text that starts with & or *)` + "\n" +
				`2:4: YAML anchors, aliases and merge keys (&name, *name, <<) are not supported (write the value out where it is needed; put quotes around a text that starts with & or *)` + "\n" +
				`2:8: YAML anchors, aliases and merge keys (&name, *name, <<) are not supported (write the value out where it is needed; put quotes around a text that starts with & or *)` + "\n" +
				`2:12: YAML anchors, aliases and merge keys (&name, *name, <<) are not supported (write the value out where it is needed; put quotes around a text that starts with & or *)`},
		{"tag, block text, directive", "%YAML 1.2\n---\na: !!str 1\nb: |\n  text\nc: >-\n  text\n",
			`1:1: YAML directives (%...) are not supported (remove the line)` + "\n" +
				`3:4: YAML tags (!name) are not supported (leave it away; put quotes around a text that starts with !)` + "\n" +
				`4:4: YAML block texts (| and >) are not supported (write the value on one line)` + "\n" +
				`6:4: YAML block texts (| and >) are not supported (write the value on one line)`},
		{"complex key", "? interfaces\n: [eth0]\n",
			`1:1: YAML complex keys (? key) are not supported (write key: value)`},
		{"brackets left open", "interfaces: [eth0\nservices:\n",
			`2:1: not valid YAML: ',' or ']' must be specified (check indentation, brackets and quotes around here)`},
		{"bracket without a start", "interfaces: eth0]\n",
			`1:1: the config: the key "services" is missing (add it)` + "\n" +
				`1:13: interfaces: expected a list, found "eth0]" (write it as interfaces: [eth0])`},
		{"quotes left open", "interfaces: [eth0]\nmode: \"auto\n",
			`2:7: not valid YAML: could not find end character of double-quoted text (check indentation, brackets and quotes around here)`},
		{"reserved character", "interfaces: [eth0]\nmode: @auto\n",
			`2:7: not valid YAML: '@' is a reserved character (check indentation, brackets and quotes around here)`},
		{"colon missing", head + "  - name web\n    address: 192.17.0.5:80\n",
			`3:3: the value that starts here goes on in the next line (write each value on one line; is a colon or a dash missing, or the indentation wrong?)`},
		{"space after the colon missing", head + "  - name:web\n",
			`3:5: a service: expected a map, found "name:web" (put a space after the colon)`},
		{"wrong indentation", head + "  - name: web\n   address: 192.17.0.5:80\n",
			`4:4: not valid YAML: value is not allowed in this context (check indentation, brackets and quotes around here)`},
		{"value goes on in the next line", head + "  - name: web\n    address: 192.17.0.5:80\n      forward: nat\n",
			`4:12: the value that starts here goes on in the next line (write each value on one line; is a colon or a dash missing, or the indentation wrong?)`},
		{"two keys in a line", "interfaces: [eth0]\nmode: mode: auto\n",
			`2:7: not valid YAML: mapping value is not allowed in this context (check indentation, brackets and quotes around here)`},
		{"IPv6 without quotes", head + "  - name: web\n    address: [2001:db8::5]:80\n",
			`4:27: not valid YAML: value is not allowed in this context (put quotes around an IPv6 address: "[2001:db8::5]:80")`},
		{"nested without end", "interfaces: [[[[[[[[[[[[[[[[[[[[eth0",
			`1:28: nested deeper than 16 levels, which no config needs (is the indentation right?)`},
		{"lines end in CR LF", "interfaces: [eth0]\r\nmode: fast\r\nservice: []\r\n",
			`2:7: mode: unknown value "fast" (expected one of: auto, native, generic)` + "\n" +
				`3:1: the config: unknown key "service" (did you mean "services"?)`},
		{"byte order mark", "\ufeffinterface: [eth0]\n",
			`1:1: the config: unknown key "interface" (did you mean "interfaces"?)` + "\n" +
				`1:1: the config: the key "services" is missing (add it)`},
		{"columns are characters", "interfaces: [\"é\", \"é/\"]\n",
			`1:1: the config: the key "services" is missing (add it)` + "\n" +
				"1:19: interfaces: \"é/\" is not the name of an interface: slashes, colons and spaces are not allowed (`ip link` lists the names)"},
	}
}
