package testnet

import (
	"testing"

	"github.com/tinylb/tinylb/internal/lab"
)

// CheckChecksums wants no node to have received a packet with a wrong checksum,
// or with an IP header that it could not make sense of.
func CheckChecksums(t testing.TB, nodes ...*lab.Node) {
	t.Helper()
	counters := []struct{ group, name string }{
		{"Tcp", "InCsumErrors"}, {"Udp", "InCsumErrors"}, {"Udp6", "InCsumErrors"}, // Tcp: of both families
		{"Ip", "InHdrErrors"}, {"Ip6", "InHdrErrors"},
	}
	for _, node := range nodes {
		for _, counter := range counters {
			wrong, err := node.Counter(counter.group, counter.name)
			if err != nil {
				t.Fatal(err)
			}
			if wrong != 0 {
				t.Errorf("%s received %d packets that count as %s%s", node.Name(), wrong, counter.group, counter.name)
			}
		}
	}
}
