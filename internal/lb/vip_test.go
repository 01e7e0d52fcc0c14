package lb

import (
	"net/netip"
	"testing"
)

func TestVIPText(t *testing.T) {
	for text, want := range map[string]VIP{
		"192.17.0.5:80":            {netip.MustParseAddr("192.17.0.5"), PortRange{80, 80}},
		"192.17.0.5:8000-8100":     {netip.MustParseAddr("192.17.0.5"), PortRange{8000, 8100}},
		"192.17.0.5:*":             {netip.MustParseAddr("192.17.0.5"), AllPorts()},
		"[2001:db8::5]:443":        {netip.MustParseAddr("2001:db8::5"), PortRange{443, 443}},
		"[2001:db8::5]:1024-65535": {netip.MustParseAddr("2001:db8::5"), PortRange{1024, 65535}},
	} {
		var got VIP
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: read as %+v (%v), want %+v", text, got, err, want)
		}
		if got := want.String(); got != text {
			t.Errorf("%+v is written as %s, want %s", want, got, text)
		}
	}
	for _, text := range []string{"", "192.17.0.5", "192.17.0.5:", "192.17.0.5:x", "192.17.0.5:90-80", "192.17.0.5:1-65536", "host:80"} {
		if err := new(VIP).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read without an error", text)
		}
	}
}

func TestVIPContains(t *testing.T) {
	vip := VIP{netip.MustParseAddr("192.17.0.5"), PortRange{8000, 8100}}
	for address, want := range map[string]bool{
		"192.17.0.5:7999": false, "192.17.0.5:8000": true, "192.17.0.5:8100": true, "192.17.0.5:8101": false, "192.17.0.6:8050": false,
	} {
		if got := vip.Contains(netip.MustParseAddrPort(address)); got != want {
			t.Errorf("%v contains %s: %t, want %t", vip, address, got, want)
		}
	}
}

func TestBackendLabel(t *testing.T) {
	for want, b := range map[string]Backend{
		"a":                {Name: "a", Address: netip.MustParseAddrPort("10.0.0.2:80")},
		"10.0.0.2:80":      {Address: netip.MustParseAddrPort("10.0.0.2:80")},
		"10.0.0.2":         {Address: netip.MustParseAddrPort("10.0.0.2:0")},
		"2001:db8::2":      {Address: netip.MustParseAddrPort("[2001:db8::2]:0")},
		"[2001:db8::2]:80": {Address: netip.MustParseAddrPort("[2001:db8::2]:80")},
	} {
		if got := b.Label(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
