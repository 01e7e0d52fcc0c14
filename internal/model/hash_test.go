package model

import (
	"net/netip"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
)

// These must never change: flows would get other backends on a new version, or
// on one node of several.
func TestHashIsAContract(t *testing.T) {
	for _, tc := range []struct {
		protocol lb.Protocol
		src, dst string
		want     uint32
	}{
		{lb.TCP, "198.51.100.7:40000", "203.0.113.5:80", 0xe6dbf69a},
		{lb.UDP, "198.51.100.7:40000", "203.0.113.5:80", 0x8f6db5b5},
		{lb.TCP, "198.51.100.7:40001", "203.0.113.5:80", 0xe0ee6496},
		{lb.TCP, "198.51.100.8:40000", "203.0.113.5:80", 0x1d85d710},
		{lb.TCP, "[2001:db8::1]:1024", "[2001:db8::2]:443", 0xa0ff941c},
	} {
		got := tuple{tc.protocol, netip.MustParseAddrPort(tc.src), netip.MustParseAddrPort(tc.dst)}.hash()
		if got != tc.want {
			t.Errorf("%v %s > %s: got %#08x, want %#08x", tc.protocol, tc.src, tc.dst, got, tc.want)
		}
	}
}
