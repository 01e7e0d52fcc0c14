package e2e

import (
	"fmt"
	"math"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/testnet"
)

// tolerance is how far from its weight's share a backend may be. The number of
// requests makes it more than 4.4 standard deviations of a fair choice.
const tolerance = 0.10

func TestRequestsSpreadByWeight(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name             string
		weightA, weightB int
		scheduler        string
		requests         int
	}{
		{"equal weights", 1, 1, "maglev", 2000},
		{"one to three", 1, 3, "maglev", 6000},
		{"random, equal weights", 1, 1, "random", 2000},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, mode lb.Mode) {
				n := newNetwork(t, mode)
				n.webs()
				web := service("web", "tcp", webVIP,
					fmt.Sprintf("{name: backend-a, address: %s:80, weight: %d}", addressA, test.weightA),
					fmt.Sprintf("{name: backend-b, address: %s:80, weight: %d}", addressB, test.weightB))
				n.Run(n.config(web + "    scheduler: " + test.scheduler + "\n"))

				answers := n.askOften(n.client, webVIP, test.requests)
				weights := float64(test.weightA + test.weightB)
				checkShare(t, answers["backend-a"], test.requests, float64(test.weightA)/weights)
				checkShare(t, answers["backend-b"], test.requests, float64(test.weightB)/weights)
				n.checkChecksums()
			})
		})
	}
}

func checkShare(t *testing.T, got, of int, share float64) {
	t.Helper()
	want := share * float64(of)
	if math.Abs(float64(got)-want) > tolerance*want {
		t.Errorf("%d of %d answers, want %.0f within %.0f %%", got, of, want, 100*tolerance)
	}
}

// checkChecksums wants no packet with a wrong checksum at either end. In generic
// mode one in 65536 complete checksums looks like a partial one.
func (n *network) checkChecksums() {
	n.t.Helper()
	if n.mode != lb.ModeNative {
		return
	}
	testnet.CheckChecksums(n.t, n.ends()...)
}
