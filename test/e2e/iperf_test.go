package e2e

import (
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// leastBitRate is far below what the slowest machine carries, in bits per
// second: a balancer that loses packets does not reach it.
const leastBitRate = 50e6

func TestIperf3BothDirections(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		testnet.ServeIperf(t, n.backendA, addrPort(addressA+":5201").Addr())
		// one backend: iperf3's control and data connections must meet
		n.Run(n.config(service("iperf", "tcp", balancerAddress+":5201", "{address: "+addressA+":5201}")))

		for _, direction := range [][]string{{}, {"--reverse"}} {
			args := append([]string{"--time", "2", "--parallel", "2"}, direction...)
			rate := testnet.Iperf(t, n.client, addrPort(webVIP).Addr(), args...).End.Received.BitsPerSecond
			if rate < leastBitRate {
				t.Errorf("%v: %.0f Mbit/s", direction, rate/1e6)
			} else {
				t.Logf("%v: %.0f Mbit/s", direction, rate/1e6)
			}
		}
		n.checkChecksums()
	})
}
