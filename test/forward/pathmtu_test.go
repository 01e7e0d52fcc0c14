package forward

import (
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// leastMTU is what every link of IPv6 must have, and few of IPv4 do not.
const leastMTU = 1280

// TestPathMTU: in the middle of a transfer each way, a link between two routers
// becomes narrower than what both connections send. Who sends must learn it, by
// ICMP alone: no stack guesses by default.
func TestPathMTU(t *testing.T) {
	file := makeNoise(t)
	for _, w := range narrowWays() {
		t.Run(w.String()+", "+string(w.mode), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, w, 1)
			if w.mode == lb.ModeGeneric && w.twoArm { // a redirect there drops what is larger than the MTU
				n.segmentInSoftware(append(n.backends, n.client)...)
			}
			servers := n.serveNoise(file)
			n.Run(n.config())
			up, down := n.transferWhile(file, servers, func() error { return n.routers.narrow(leastMTU) })
			n.checkLearned(up, down)
			n.checkTunnels()
			testnet.CheckChecksums(t, append(n.backends, n.client)...)
		})
	}
}

// narrowWays have the routers on either side of the balancer. With dsr there is
// no router between balancer and backends.
func narrowWays() (all []way) {
	for _, w := range ways(lb.ModeNative, lb.Forwards()...) {
		if w.twoArm == (w.vip == v4) {
			continue // half of them do
		}
		w.routed = clientEnd
		all = append(all, w)
	}
	for _, w := range ways(lb.ModeNative, lb.ForwardNAT, lb.ForwardDNAT, lb.ForwardIPIP, lb.ForwardGUE) {
		if w.twoArm {
			w.routed = backendEnd
			all = append(all, w)
		}
	}
	for _, f := range []family{v4, v6} {
		for _, forward := range []lb.Forward{lb.ForwardNAT, lb.ForwardDNAT} {
			all = append(all, way{forward: forward, vip: f, backend: f, routed: clientEnd, twoArm: f == v6, mode: lb.ModeGeneric})
		}
	}
	return all
}

// pathMTUs are what client and backend must have learned, in bytes.
func (w way) pathMTUs() (client, backend int) {
	const ethernet = 1500
	switch {
	case w.routed == backendEnd && w.forward.Tunnels():
		// Answers go another way. Nothing of IPv6 may be told to be smaller than 1280:
		// the tunnel's packets are cut (RFC 2473, 7.1).
		if w.vip == v6 {
			return leastMTU, ethernet
		}
		return leastMTU - w.outerHeaders(), ethernet
	case !w.forward.Translates():
		return leastMTU, leastMTU
	case w.routed == clientEnd:
		return leastMTU, leastMTU + headerOf(w.backend) - headerOf(w.vip)
	}
	return leastMTU + headerOf(w.vip) - headerOf(w.backend), leastMTU
}

// headerOf is an IP header's size, in bytes.
func headerOf(f family) int {
	if f == v4 {
		return 20
	}
	return 40
}

// outerHeaders are what a tunnel adds, in bytes.
func (w way) outerHeaders() int {
	const udpAndGUE = 8 + 4
	if w.forward == lb.ForwardGUE {
		return headerOf(w.backend) + udpAndGUE
	}
	return headerOf(w.backend)
}

// checkLearned wants both ends to have learned the path's MTU, and the balancer
// to have told them where nobody else could.
func (n *network) checkLearned(up, down transferred) {
	n.t.Helper()
	client, backend := n.pathMTUs()
	if up.pathMTU != client || down.pathMTU != backend {
		n.t.Errorf("the client's path has an MTU of %d, want %d; the backend's %d, want %d", up.pathMTU, client, down.pathMTU, backend)
	}
	told := []string{"icmp-error"}
	if n.routed == backendEnd && n.forward.Tunnels() {
		told = []string{"path-mtu", "mtu-exceeded"}
	}
	s := n.Status()
	for _, reason := range told {
		if testnet.PacketsOfAll(s, reason) == 0 {
			n.t.Errorf("no packet counts as %s", reason)
		}
	}
}
