package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

func mustParse(t *testing.T, text string) (lb.Config, []Warning) {
	t.Helper()
	c, warnings, err := Parse([]byte(text), Options{File: "f"})
	if err != nil {
		t.Fatalf("the config was refused:\n%v", err)
	}
	return c, warnings
}

func TestDefaults(t *testing.T) {
	got, warnings := mustParse(t, `
interfaces: [eth0]
services:
  - name: web
    address: 192.17.0.5:80
    backends:
      - {address: 192.17.0.2:80}
`)
	want := lb.Config{
		Interfaces: []string{"eth0"},
		Mode:       lb.ModeAuto,
		Services: []lb.Service{{
			Name:      "web",
			Address:   lb.VIPAt(netip.MustParseAddrPort("192.17.0.5:80")),
			Protocols: []lb.Protocol{lb.TCP},
			Forward:   lb.ForwardNAT,
			Scheduler: lb.Maglev,
			TableSize: 127,
			SNAT:      lb.SNAT{Ports: lb.PortRange{First: 1024, Last: 32767}},
			Tunnel:    lb.Tunnel{Port: 6080},
			Backends:  []lb.Backend{{Address: netip.MustParseAddrPort("192.17.0.2:80"), Weight: 1}},
		}},
		Timeouts: lb.Timeouts{
			TCPUnconfirmed: 4 * time.Minute,
			TCPEstablished: 124 * time.Minute,
			TCPHalfClosed:  4 * time.Minute,
			TCPClosed:      4 * time.Minute,
			UDPUnconfirmed: 2 * time.Minute,
			UDPStream:      2 * time.Minute,
		},
		RateLimits: lb.RateLimits{Resets: 1000, ICMPErrors: 1000, EchoReplies: 1000},
		Fragments:  lb.Fragments{Held: 512, Bytes: 2 << 20, Timeout: time.Second},
		Answers:    lb.VIPAnswers{Echo: true, Neighbours: true},
		Limits:     lb.Limits{Flows: 262144, Services: 4096, Backends: 65536, TableEntries: 4194304, Held: 512, Prefixes: 131072, Clients: 65536, Affinity: 65536},
	}
	if !reflect.DeepEqual(got, want) || len(warnings) > 0 {
		t.Errorf("got  %+v\nwant %+v\nwarnings %v", got, want, warnings)
	}
}

func TestEveryKey(t *testing.T) {
	got, warnings := mustParse(t, everyKey)
	want := lb.Config{
		Interfaces: []string{"eth0", "eth1"},
		Mode:       lb.ModeGeneric,
		Services: []lb.Service{
			{
				Name:      "dns",
				Address:   lb.VIPAt(netip.MustParseAddrPort("10.0.0.1:53")),
				Protocols: []lb.Protocol{lb.TCP, lb.UDP},
				Forward:   lb.ForwardNAT,
				Scheduler: lb.Random,
				TableSize: 1021,
				Allow:     []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")},
				Deny:      []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("::/0")},
				MaxFlows:  100, NewFlowsPerSecond: 50,
				PerClient: lb.ClientRate{NewFlowsPerSecond: 5, PrefixV4: 24, PrefixV6: 56},
				Affinity:  lb.Affinity{Timeout: time.Hour, PrefixV4: 31, PrefixV6: 127, Group: "g"},
				Timeouts: lb.Timeouts{
					TCPUnconfirmed: 1 * time.Second, TCPEstablished: 20 * time.Second, TCPHalfClosed: 3 * time.Second,
					TCPClosed: 4 * time.Second, UDPUnconfirmed: 5 * time.Second, UDPStream: 6 * time.Second,
				},
				Silent: true,
				MSS:    1400,
				SNAT:   lb.SNAT{Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.9")}, Ports: lb.PortRange{First: 7, Last: 7}},
				Tunnel: lb.Tunnel{Sources: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/16")}, Port: 6081},
				Backends: []lb.Backend{
					{Name: "a", Address: netip.MustParseAddrPort("10.0.1.1:5353"), Weight: 3, MaxFlows: 9},
					{Name: "123", Address: netip.MustParseAddrPort("10.0.1.2:53"), Weight: 0},
				},
			},
			{
				Name:      "own-snat",
				Address:   lb.VIPAt(netip.MustParseAddrPort("10.0.0.2:80")),
				Protocols: []lb.Protocol{lb.TCP},
				Forward:   lb.ForwardNAT,
				Scheduler: lb.Maglev,
				TableSize: 127,
				PerClient: lb.ClientRate{NewFlowsPerSecond: 1, PrefixV4: 32, PrefixV6: 64},
				Affinity:  lb.Affinity{Timeout: 3 * time.Hour, PrefixV4: 32, PrefixV6: 128},
				MSS:       lb.MSSAuto,
				SNAT:      lb.SNAT{Ports: lb.PortRange{First: 2000, Last: 3000}},
				Tunnel:    lb.Tunnel{Sources: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/16")}, Port: 6081},
				Check: &lb.Check{
					Type: lb.CheckHTTP, Interval: 3 * time.Second, FastInterval: time.Second, Timeout: 1500 * time.Millisecond,
					Jitter: 10, Rise: 2, Fall: 3, Path: "/health", Status: codes(200, 399),
				},
				Backends: []lb.Backend{{Address: netip.MustParseAddrPort("10.0.1.1:80"), Weight: 1}},
			},
			{
				Name:      "own-tunnel",
				Address:   lb.VIP{Addr: netip.MustParseAddr("10.0.0.3"), Ports: lb.AllPorts()},
				Protocols: []lb.Protocol{lb.UDP},
				Forward:   lb.ForwardGUE,
				Scheduler: lb.Maglev,
				TableSize: 127,
				SNAT:      lb.SNAT{Ports: lb.PortRange{First: 7, Last: 7}},
				Tunnel:    lb.Tunnel{Sources: []netip.Prefix{netip.MustParsePrefix("2001:db8::7/128")}, Port: 6082},
				Backends:  []lb.Backend{{Address: netip.AddrPortFrom(netip.MustParseAddr("2001:db8::2"), 0), Weight: 1}},
				ServerIDs: map[netip.AddrPort]string{netip.AddrPortFrom(netip.MustParseAddr("2001:db8::2"), 0): "0a1b"},
				QUIC:      lb.QUIC{ConfigID: 6, ServerIDLength: 2},
			},
		},
		Timeouts: lb.Timeouts{
			TCPUnconfirmed: 1 * time.Second,
			TCPEstablished: 2 * time.Second,
			TCPHalfClosed:  3 * time.Second,
			TCPClosed:      4 * time.Second,
			UDPUnconfirmed: 5 * time.Second,
			UDPStream:      6 * time.Second,
		},
		RateLimits: lb.RateLimits{Resets: 7, ICMPErrors: 0, EchoReplies: 8},
		Fragments:  lb.Fragments{Held: 8, Bytes: 64 << 10, Timeout: 500 * time.Millisecond},
		Limits:     lb.Limits{Flows: 16, Services: 3, Backends: 4, TableEntries: 2304, Held: 8, Prefixes: 5, Clients: 16, Affinity: 17},
		Seed:       4294967295,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if len(warnings) != 0 {
		t.Errorf("warnings %v", warnings)
	}
}

// everyKey uses each key once at least, and services before what they inherit.
const everyKey = `interfaces:
- eth0
- "eth1"
mode: generic
services:
  - name: 'dns'
    address: 10.0.0.1:53
    protocol: [udp, tcp]
    forward: nat
    scheduler: random
    table_size: 1021
    allow: [192.0.2.1, 10.0.0.0/8]
    deny:
      - "::/0"
      - 10.1.0.0/16
    max_flows: 100
    new_flows_per_second: 50
    per_client: {new_flows_per_second: 5, prefix_v4: 24, prefix_v6: 56}
    affinity: {by: client, timeout: 1h, prefix_v4: 31, prefix_v6: 127, group: g}
    timeouts: {tcp_established: 20s}
    reject: drop
    mss: 1400
    backends:
      - name: a
        address: 10.0.1.1:5353   # a comment
        weight: 3
        max_flows: 9

      - {name: 123, address: "10.0.1.2:53", weight: 0}
  - name: own-snat
    address: 10.0.0.2:80
    protocol: tcp
    table_size: auto
    per_client: {new_flows_per_second: 1}
    affinity: {by: client}
    reject: reset
    mss: auto
    snat:
      addresses: []
      ports: 2000-3000
    backends: [
      {
        address: 10.0.1.1:80,
      },
    ]
    # health
    #
    check: {type: http, path: /health, interval: 3s, timeout: 1500ms, rise: 2, fall: 3}
  - {name: own-tunnel, address: "10.0.0.3:*", protocol: udp, forward: gue, quic: {config_id: 6, server_id_length: 2}, tunnel: {sources: ["2001:db8::7"], port: 6082}, backends: [{address: 2001:db8::2, server_id: 0A1b}]}
snat: {addresses: [10.0.0.9], ports: 7}
tunnel: {sources: [172.16.0.0/16, "0100::/64"], port: 6081}
timeouts: {tcp_unconfirmed: 1s, tcp_established: 2s, tcp_half_closed: 3s, tcp_closed: 4s, udp_unconfirmed: 5s, udp_stream: 6s}
rate_limits: {resets: 7, icmp_errors: 0, echo_replies: 8}
fragments: {held: 8, bytes: 64KiB, timeout: 500ms}
answer_echo: false
answer_arp: false
seed: 4294967295
limits: {flows: 16, services: 3, backends: 4, table_entries: 2304, prefixes: 5, clients: 16, affinity: 17}
`

func TestTableSizeFollowsBackends(t *testing.T) {
	for backends, want := range map[int]uint32{1: 127, 2: 251, 10: 1021, 656: 65537, 5000: 65537} {
		var text strings.Builder
		text.WriteString(webService)
		text.WriteString("    backends:\n")
		for i := range backends {
			fmt.Fprintf(&text, "      - address: 10.1.%d.%d:80\n", i/250, i%250+1)
		}
		c, _ := mustParse(t, text.String())
		if got := c.Services[0].TableSize; got != want {
			t.Errorf("%d backends: table of %d, want %d", backends, got, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"all weights zero", webService + "    backends: [{address: 192.17.0.2:80, weight: 0}]\n",
			"f:5:5: warning: backends: all have weight 0: the service takes no new flow (give at least one a weight of 1 or more)"},
		{"an IPv6 address that may be meant with a port", webService + "    backends: [{address: 2001:db8::2:80}, {address: \"[2001:db8::3:80]\"}, {address: 2001:db8::2}, {address: 2001:db8::4:a}]\n",
			`f:5:26: warning: address: 2001:db8::2:80 is an address without a port (write "[2001:db8::2:80]", or "[2001:db8::2]:80" for port 80)`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, warnings := mustParse(t, test.text)
			got := ""
			for _, w := range warnings {
				got += w.String()
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestLocalPorts(t *testing.T) {
	const explained = ", from which the kernel takes ports for this host's own connections, health checks among them: the two would collide"
	tests := []struct {
		name, text string
		local      lb.PortRange
		want       string
	}{
		{"unknown", webService + oneBackend, lb.PortRange{}, ""},
		{"apart", webService + oneBackend, lb.PortRange{First: 32768, Last: 60999}, ""},
		{"default", webService + oneBackend, lb.PortRange{First: 10000, Last: 60999},
			"2:1: snat: the ports 1024-32767 overlap 10000-60999" + explained +
				" (set snat: {ports: 1024-9999}, or move the kernel's: sysctl -w net.ipv4.ip_local_port_range='32768 65535')"},
		{"default with addresses", webService + oneBackend + "snat: {addresses: [10.0.0.1]}\n", lb.PortRange{First: 1024, Last: 60999},
			"6:1: snat: the ports 1024-32767 overlap 1024-60999" + explained +
				" (set snat: {ports: 61000-65535}, or move the kernel's: sysctl -w net.ipv4.ip_local_port_range='32768 65535')"},
		{"given", webService + oneBackend + "snat: {ports: 61000-65535}\n", lb.PortRange{First: 1024, Last: 65535},
			"6:15: snat: the ports 61000-65535 overlap 1024-65535" + explained +
				" (set snat: a range outside 1024-65535, or move the kernel's: sysctl -w net.ipv4.ip_local_port_range='1024 60999')"},
		{"given in a service", webService + "    snat: {ports: 1024-65535}\n" + oneBackend, lb.PortRange{First: 32768, Last: 60999},
			"5:19: snat: the ports 1024-65535 overlap 32768-60999" + explained +
				" (set snat: {ports: 1024-32767}, or make it smaller and move the kernel's with sysctl net.ipv4.ip_local_port_range)"},
		{"default, unused by a forward mode", forwarded("dsr", "192.17.0.5:80", "{address: 192.17.0.2}"), lb.PortRange{First: 10000, Last: 60999}, ""},
		{"default, unused", webService + "    snat: {ports: 61000-65535}\n" + oneBackend, lb.PortRange{First: 10000, Last: 60999}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := Parse([]byte(test.text), Options{File: "f", LocalPorts: test.local})
			got := ""
			if err != nil {
				got = strings.TrimPrefix(err.Error(), "f:")
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestLoadUnreadable(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, MaxSize+1); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir:                          ": cannot read the config: is a directory",
		filepath.Join(dir, "absent"): ": cannot read the config: no such file or directory (name the config file with -c FILE)",
		large:                        ": cannot read the config: it is larger than 16 MiB",
	} {
		_, _, err := Load(path, Options{})
		list, ok := err.(Errors)
		if !ok || len(list) != 1 || list[0].Line != 0 || err.Error() != path+want {
			t.Errorf("got %v, want %s", err, path+want)
		}
	}
}

func TestErrorsAreBounded(t *testing.T) {
	text := webService + oneBackend + strings.Repeat("  - {}\n", 2*MaxErrors)
	_, _, err := Parse([]byte(text), Options{File: "f"})
	list, _ := err.(Errors)
	if len(list) != MaxErrors+1 || !strings.HasSuffix(list[MaxErrors].Error(), ": 5000 more errors are not listed") {
		t.Errorf("%d errors, the last: %v", len(list), list[len(list)-1])
	}
}

// TestExamples holds the shipped examples to the parser.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples found: %v", err)
	}
	for _, file := range files {
		if _, warnings, err := Load(file, Options{LocalPorts: lb.PortRange{First: 32768, Last: 60999}}); err != nil || len(warnings) > 0 {
			t.Errorf("%v %v", err, warnings)
		}
	}
	c, _, err := Load("../../examples/tutorial.yaml", Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []lb.Backend{
		{Name: "backend-a", Address: netip.MustParseAddrPort("192.17.0.2:80"), Weight: 1},
		{Name: "backend-b", Address: netip.MustParseAddrPort("192.17.0.3:80"), Weight: 1},
	}
	if len(c.Services) != 1 || c.Services[0].Address.String() != "192.17.0.5:80" || !slices.Equal(c.Services[0].Backends, want) {
		t.Errorf("the tutorial's services are %+v", c.Services)
	}
}

// TestDocumentation asks the parser for its keys, by a wrong one in each map,
// and looks for all of them in the manual.
func TestDocumentation(t *testing.T) {
	manual, err := os.ReadFile("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = Parse([]byte(`
wrong-key: 1
interfaces: [eth0]
snat: {wrong-key: 1}
tunnel: {wrong-key: 1}
timeouts: {wrong-key: 1}
rate_limits: {wrong-key: 1}
limits: {wrong-key: 1}
services:
  - name: web
    wrong-key: 1
    per_client: {wrong-key: 1, new_flows_per_second: 1}
    affinity: {wrong-key: 1, by: client}
    timeouts: {wrong-key: 1}
    address: 192.17.0.5:80
    check: {type: https, wrong-key: 1, tls: {wrong-key: 1}}
    backends: [{wrong-key: 1, address: 192.17.0.2:80}]
`), Options{})
	list, _ := err.(Errors)
	const maps = 13
	if len(list) != maps {
		t.Fatalf("found %d maps, want %d: %v", len(list), maps, err)
	}
	keys := 0
	for _, e := range list {
		for key := range strings.SplitSeq(strings.TrimPrefix(e.Hint, "expected one of: "), ", ") {
			keys++
			if !strings.Contains(string(manual), "`"+key+"`") {
				t.Errorf("docs/config.md does not name %s", key)
			}
		}
	}
	if keys < 56 {
		t.Errorf("found only %d keys", keys)
	}
}

// TestDocumentationExamples parses the manual's YAML blocks.
func TestDocumentationExamples(t *testing.T) {
	manual, err := os.ReadFile("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(manual), -1)
	if len(blocks) == 0 {
		t.Fatal("no examples found")
	}
	for _, block := range blocks {
		if _, _, err := Parse([]byte(block[1]), Options{File: "docs/config.md"}); err != nil {
			t.Errorf("%v\nin\n%s", err, block[1])
		}
	}
}

func BenchmarkParse(b *testing.B) {
	text := []byte(large(10000, 10))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Parse(text, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func large(services, backends int) string {
	var s strings.Builder
	s.WriteString("interfaces: [eth0]\nlimits: {services: 65536, backends: 1048576, table_entries: 67108864}\nservices:\n")
	for i := range services {
		fmt.Fprintf(&s, "  - name: service-%d\n    address: 10.%d.%d.%d:80\n    backends:\n", i, i>>16, i>>8&255, i&255)
		for j := range backends {
			fmt.Fprintf(&s, "      - {name: backend-%d, address: 10.100.%d.%d:80, weight: 1}\n", j, i&255, j)
		}
	}
	return s.String()
}
