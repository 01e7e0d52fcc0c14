package config

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
)

// everyMode has a service of each, with backends of both families where they may be.
const everyMode = `interfaces: [eth0]
snat: {addresses: [192.17.0.9, "2001:db8::9"], ports: 2000-3000}
tunnel: {sources: [172.16.0.0/16, "0100::/64"]}
services:
  - name: nat
    address: 192.17.0.5:80
    forward: nat
    snat: {addresses: ["2001:db8::8", 192.17.0.8]}
    backends: [{address: "[2001:db8::2]:8080"}, {address: 192.17.0.2}]
  - name: nat6
    address: "[2001:db8::5]:80"
    forward: nat
    backends: [{address: 192.17.0.2:80}]
  - name: dnat
    address: 192.17.0.6:80
    forward: dnat
    snat: {addresses: []}
    backends: [{address: 192.17.0.2:8080}]
  - name: dnat6
    address: "[2001:db8::6]:*"
    forward: dnat
    backends: [{address: "[2001:db8::2]"}]
  - name: dsr
    address: 192.17.0.7:80
    forward: dsr
    backends: [{address: 192.17.0.2:80}, {address: 2001:db8::2}]
  - name: ipip
    address: 192.17.0.8:443
    forward: ipip
    tunnel: {sources: [10.9.0.1]}
    backends: [{address: 192.17.0.2}]
  - name: gue
    address: "[2001:db8::8]:8000-8100"
    protocol: udp
    forward: gue
    tunnel: {port: 6081}
    backends: [{address: 192.17.0.2}, {address: "2001:db8::2"}]
  - name: own-source
    address: "[2001:db8::9]:80"
    forward: gue
    tunnel: {sources: []}
    backends: [{address: 192.17.0.2}]
`

func TestForwardModes(t *testing.T) {
	addresses := func(texts ...string) (all []netip.Addr) {
		for _, text := range texts {
			all = append(all, netip.MustParseAddr(text))
		}
		return all
	}
	prefixes := func(texts ...string) (all []netip.Prefix) {
		for _, text := range texts {
			all = append(all, netip.MustParsePrefix(text))
		}
		return all
	}
	const commonPort = 6080
	tests := []struct {
		forward  lb.Forward
		backends []string
		snat     []netip.Addr
		sources  []netip.Prefix
		port     uint16
	}{
		{lb.ForwardNAT, []string{"[2001:db8::2]:8080", "192.17.0.2"}, addresses("2001:db8::8", "192.17.0.8"), prefixes("172.16.0.0/16", "100::/64"), commonPort},
		{lb.ForwardNAT, []string{"192.17.0.2:80"}, addresses("192.17.0.9"), prefixes("172.16.0.0/16"), commonPort},
		{lb.ForwardDNAT, []string{"192.17.0.2:8080"}, nil, prefixes("172.16.0.0/16"), commonPort},
		{lb.ForwardDNAT, []string{"2001:db8::2"}, addresses("2001:db8::9"), prefixes("100::/64"), commonPort},
		{lb.ForwardDSR, []string{"192.17.0.2:80", "2001:db8::2"}, addresses("192.17.0.9", "2001:db8::9"), prefixes("172.16.0.0/16", "100::/64"), commonPort},
		{lb.ForwardIPIP, []string{"192.17.0.2"}, addresses("192.17.0.9"), prefixes("10.9.0.1/32"), commonPort},
		{lb.ForwardGUE, []string{"192.17.0.2", "2001:db8::2"}, addresses("192.17.0.9", "2001:db8::9"), prefixes("172.16.0.0/16", "100::/64"), 6081},
		{lb.ForwardGUE, []string{"192.17.0.2"}, addresses("192.17.0.9"), nil, commonPort},
	}
	c, warnings := mustParse(t, everyMode)
	if len(c.Services) != len(tests) || len(warnings) > 0 {
		t.Fatalf("got %d services, warnings %v", len(c.Services), warnings)
	}
	for i, want := range tests {
		s := c.Services[i]
		var backends []string
		for _, b := range s.Backends {
			backends = append(backends, b.Label())
		}
		if s.Forward != want.forward || !slices.Equal(backends, want.backends) {
			t.Errorf("service %s: %s to %q, want %s to %q", s.Name, s.Forward, backends, want.forward, want.backends)
		}
		if !slices.Equal(s.SNAT.Addresses, want.snat) {
			t.Errorf("service %s: SNAT addresses %v, want %v", s.Name, s.SNAT.Addresses, want.snat)
		}
		if !slices.Equal(s.Tunnel.Sources, want.sources) || s.Tunnel.Port != want.port {
			t.Errorf("service %s: tunnel %+v, want %v to port %d", s.Name, s.Tunnel, want.sources, want.port)
		}
	}
}

// nestedPorts has ranges within ranges, side by side, and the same ports in
// another protocol and at another address.
const nestedPorts = head + `  - {name: one, address: 192.17.0.5:8000, backends: [{address: 192.17.0.2:80}]}
  - {name: inner, address: 192.17.0.5:8000-8010, backends: [{address: 192.17.0.2:80}]}
  - {name: all, address: 192.17.0.5:*, backends: [{address: 192.17.0.2}]}
  - {name: outer, address: 192.17.0.5:8000-8100, backends: [{address: 192.17.0.2}]}
  - {name: last, address: 192.17.0.5:8100, backends: [{address: 192.17.0.2}]}
  - {name: next, address: 192.17.0.5:8101-65535, backends: [{address: 192.17.0.2}]}
  - {name: below, address: 192.17.0.5:1-7999, backends: [{address: 192.17.0.2}]}
  - {name: nearly-all, address: 192.17.0.5:1-65535, backends: [{address: 192.17.0.2}]}
  - {name: udp, address: 192.17.0.5:8005-8200, protocol: udp, backends: [{address: 192.17.0.2}]}
  - {name: elsewhere, address: 192.17.0.6:8005-8200, backends: [{address: 192.17.0.2}]}
  - {name: same, address: 192.17.0.7:80-80, backends: [{address: 192.17.0.6:8004}]}
`

func TestPorts(t *testing.T) {
	want := []string{
		"192.17.0.5:8000", "192.17.0.5:8000-8010", "192.17.0.5:*", "192.17.0.5:8000-8100", "192.17.0.5:8100", "192.17.0.5:8101-65535",
		"192.17.0.5:1-7999", "192.17.0.5:1-65535", "192.17.0.5:8005-8200", "192.17.0.6:8005-8200", "192.17.0.7:80",
	}
	c, warnings := mustParse(t, nestedPorts)
	var got []string
	for _, s := range c.Services {
		got = append(got, s.Address.String())
	}
	if !slices.Equal(got, want) || len(warnings) > 0 {
		t.Errorf("got  %q\nwant %q\nwarnings %v", got, want, warnings)
	}
}

// TestNotALoop has backends at VIPs' addresses whose packets are for no VIP.
func TestNotALoop(t *testing.T) {
	mustParse(t, head+`  - {name: a, address: 192.17.0.5:80, backends: [{address: 192.17.0.6}]}
  - {name: b, address: 192.17.0.6:81-90, backends: [{address: 192.17.0.5:81}]}
  - {name: c, address: 192.17.0.6:80, protocol: udp, backends: [{address: 192.17.0.2}]}
  - {name: d, address: 192.17.0.7:53, protocol: udp, forward: gue, backends: [{address: 192.17.0.6}]}
`)
}
