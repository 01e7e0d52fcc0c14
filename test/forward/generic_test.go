package forward

import (
	"testing"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
)

// TestGeneric: XDP in generic mode sees packets as large as the sender's GSO
// makes them. Sent back by the same interface they get through: XDP_TX does not
// look at the MTU. A redirect does, and drops them; and around one in a tunnel
// nobody would make the outer headers anew for each piece. There the senders
// make packets of the size of the MTU themselves.
func TestGeneric(t *testing.T) {
	file := makeNoise(t)
	for _, w := range ways(lb.ModeGeneric, lb.Forwards()...) {
		if w.vip != w.backend {
			continue
		}
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, w, 1)
			if w.twoArm || w.forward.Tunnels() {
				n.segmentInSoftware(append(n.backends, n.client)...)
			}
			n.serve(file)
			n.Run(n.config())
			n.checkClient()
			n.transfer(file)
			n.checkDatagrams()
			n.checkReversed()
			n.checkStatus(n.checkTTL())
			n.checkTunnels()
		})
	}
}

// segmentInSoftware keeps packets larger than the MTU off the nodes' links.
func (n *network) segmentInSoftware(nodes ...*lab.Node) {
	n.t.Helper()
	for _, node := range nodes {
		n.must(node.SetFeatures("eth0", map[string]bool{
			"tx-tcp-segmentation": false, "tx-tcp6-segmentation": false, "tx-generic-segmentation": false,
		}))
	}
}
