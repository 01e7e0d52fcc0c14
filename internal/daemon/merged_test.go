package daemon

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
)

func TestResizing(t *testing.T) {
	const four, six = "192.0.2.5:80", "[2001:db8::5]:80"
	for _, test := range []struct {
		forward  lb.Forward
		vip      string
		backends []string
		want     bool
	}{
		{lb.ForwardNAT, four, []string{four}, false},
		{lb.ForwardNAT, six, []string{six}, false},
		{lb.ForwardNAT, four, []string{four, six}, true},
		{lb.ForwardNAT, six, []string{four}, true},
		{lb.ForwardDNAT, four, []string{four}, false},
		{lb.ForwardDSR, four, []string{six}, false},
		{lb.ForwardIPIP, four, []string{four}, true},
		{lb.ForwardGUE, six, []string{four}, true},
	} {
		s := lb.Service{Name: "web", Forward: test.forward, Address: lb.VIPAt(netip.MustParseAddrPort(test.vip))}
		for _, b := range test.backends {
			s.Backends = append(s.Backends, lb.Backend{Address: netip.MustParseAddrPort(b)})
		}
		if got := slices.Contains(resizing([]lb.Service{s}), "web"); got != test.want {
			t.Errorf("%s from %s to %v: got %v", test.forward, test.vip, test.backends, got)
		}
	}
}
