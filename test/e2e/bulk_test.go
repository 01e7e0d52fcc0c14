package e2e

import (
	"path/filepath"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// bulkSize is how much goes each way, in bytes.
const bulkSize = 200_000_000

func Test200MegabytesEachWay(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		dir := n.web(n.backendA, addressA+":80")
		n.Run(n.config(service("web", "tcp", webVIP, "{name: backend-a, address: "+addressA+":80}")))
		n.transferBothWays(dir, bulkSize)
		n.checkChecksums()
	})
}

// transferBothWays has curl get a file and put it, both in the directory of the
// web server on the VIP, and compares what arrives.
func (n *network) transferBothWays(files string, size int64) {
	n.t.Helper()
	sum := testnet.WriteNoise(n.t, filepath.Join(files, "down"), size)
	testnet.TransferBothWays(n.t, n.client, webVIP, files, sum)
}
