package packet

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// What is cut and joined again is what it was, but for IPv4's id and flags.
func TestCutAndJoin(t *testing.T) {
	for _, ends := range [][2]string{{"192.0.2.1:1", "192.0.2.2:2"}, {"[2001:db8::1]:1", "[2001:db8::2]:2"}} {
		p := NewUDP(netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1]), strings.Repeat("0123456789", 100))
		p.ID, p.DontFragment, p.VLAN = 77, false, []Tag{VLAN(5)}
		pieces := Cut(p.Frame(), 100, 77)
		if len(pieces) != 11 {
			t.Errorf("%s: %d fragments, want 11", ends[0], len(pieces))
		}
		for _, piece := range pieces[:10] {
			if got, err := Read(piece); err != nil || len(got.Payload)%8 != 0 {
				t.Errorf("%s: a fragment of %d bytes: %v", ends[0], len(got.Payload), err)
			}
		}
		slices.Reverse(pieces)
		if whole, err := Join(pieces); err != nil || !bytes.Equal(whole, p.Frame()) {
			t.Errorf("%s: %v\n% x\n% x", ends[0], err, whole, p.Frame())
		}
		if _, err := Join(slices.Delete(slices.Clone(pieces), 5, 6)); err == nil {
			t.Errorf("%s: one is missing, and nobody minds", ends[0])
		}
		if _, err := Join(pieces[:5]); err == nil {
			t.Errorf("%s: the first is missing, and nobody minds", ends[0])
		}
	}
}
