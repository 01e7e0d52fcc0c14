package config

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
)

// bothFamilies has a service of each, and SNAT addresses for all of them.
const bothFamilies = `interfaces: [eth0]
snat:
  addresses: [192.17.0.9, 2001:db8::9, 192.17.0.10]
services:
  - name: four
    address: 192.17.0.5:80
    backends: [{address: 192.17.0.2:80}]
  - name: six
    address: "[2001:db8::5]:80"
    backends:
      - {address: "[2001:db8::2]:80"}
      - {name: b, address: '[fd00:17::3]:8080', weight: 2}
  - name: own-ports
    address: "[2001:db8::6]:80"
    snat: {ports: 2000-3000}
    backends: [{address: "[2001:db8::2]:80"}]
  - name: own-addresses
    address: "[2001:db8::7]:80"
    snat: {addresses: ["fd00:17::9"]}
    backends: [{address: "[2001:db8::2]:80"}]
  - name: host-address
    address: "[2001:db8::8]:80"
    snat: {addresses: []}
    backends: [{address: "[2001:db8::2]:80"}]
`

func TestBothFamilies(t *testing.T) {
	c, _ := mustParse(t, bothFamilies)
	wantSNAT := [][]netip.Addr{
		{netip.MustParseAddr("192.17.0.9"), netip.MustParseAddr("192.17.0.10")},
		{netip.MustParseAddr("2001:db8::9")},
		{netip.MustParseAddr("2001:db8::9")},
		{netip.MustParseAddr("fd00:17::9")},
		nil,
	}
	if len(c.Services) != len(wantSNAT) {
		t.Fatalf("got %d services", len(c.Services))
	}
	for i, s := range c.Services {
		if !slices.Equal(s.SNAT.Addresses, wantSNAT[i]) {
			t.Errorf("service %s: SNAT addresses %v, want %v", s.Name, s.SNAT.Addresses, wantSNAT[i])
		}
	}
	six := c.Services[1]
	if got := six.Address; got != lb.VIPAt(netip.MustParseAddrPort("[2001:db8::5]:80")) {
		t.Errorf("the VIP is %v", got)
	}
	if got := six.Backends[0].Label(); got != "[2001:db8::2]:80" {
		t.Errorf("a backend without a name is called %s", got)
	}
	if got := six.Backends[1].Address; got != netip.MustParseAddrPort("[fd00:17::3]:8080") {
		t.Errorf("the second backend is %v", got)
	}
}

// TestNoSNATAddressOfTheFamily: such a service uses the host's own.
func TestNoSNATAddressOfTheFamily(t *testing.T) {
	c, _ := mustParse(t, webService6+oneBackend6+"snat: {addresses: [192.17.0.9]}\n")
	if got := c.Services[0].SNAT.Addresses; len(got) > 0 {
		t.Errorf("SNAT addresses %v, want none", got)
	}
}

func TestSpellings(t *testing.T) {
	for text, want := range map[string]string{
		"2001:db8::5": "2001:db8::5",
		"2001:DB8::5": "2001:db8::5",
		"2001:0db8:0000:0000:0000:0000:0000:0005": "2001:db8::5",
		"2001:db8:0:0::5":                         "2001:db8::5",
		"2001:db8::0.0.0.5":                       "2001:db8::5",
		"2001:db8:1:2:3:4:5:6":                    "2001:db8:1:2:3:4:5:6",
		"2001:db8:1:2:3:4:5::":                    "2001:db8:1:2:3:4:5:0",
		"fd00::192.0.2.33":                        "fd00::c000:221",
		"64:ff9b::192.0.2.33":                     "64:ff9b::c000:221", // a server with IPv4 alone, by NAT64 (RFC 6052)
		"fdff::":                                  "fdff::",
		"fec0::1":                                 "fec0::1", // not link-local
	} {
		c, _ := mustParse(t, vipIs(`"[`+text+`]:80"`)+"snat: {addresses: [\""+text+"\"]}\n")
		s := c.Services[0]
		if got := s.Address; got != lb.VIPAt(netip.AddrPortFrom(netip.MustParseAddr(want), 80)) {
			t.Errorf("VIP %s: got %v", text, got)
		}
		if got := s.SNAT.Addresses; !slices.Equal(got, []netip.Addr{netip.MustParseAddr(want)}) {
			t.Errorf("SNAT address %s: got %v", text, got)
		}
	}
}
