// Package forward runs the built program between real kernels in every mode of
// forwarding, with every mix of IPv4 and IPv6, where clients and backends share
// the balancer's one link and where it stands between two: nginx, curl and
// iperf3 carry real traffic.
package forward

import (
	"os"
	"testing"

	"github.com/tinylb/tinylb/test/testnet"
)

func TestMain(m *testing.M) { os.Exit(testnet.Main(m)) }
