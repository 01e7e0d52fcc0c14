// Package e2e runs the built program between real kernels' TCP stacks: clients,
// balancer and backends of the tutorial's topology in network namespaces, curl
// as client and nginx as backend wherever they can do what a test needs.
package e2e

import (
	"os"
	"testing"

	"github.com/tinylb/tinylb/test/testnet"
)

func TestMain(m *testing.M) { os.Exit(testnet.Main(m)) }
