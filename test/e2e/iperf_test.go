package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/need"
)

// leastBitRate is far below what the slowest machine carries, in bits per
// second: a balancer that loses packets does not reach it.
const leastBitRate = 50e6

func TestIperf3BothDirections(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, mode lb.Mode) {
		n := newNetwork(t, mode)
		iperf := need.Tool(t, "iperf3")
		server := n.backendA.Command(context.Background(), iperf, "--server", "--port", "5201", "--forceflush")
		log := &logText{}
		server.Stdout = log
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		go server.Wait()
		eventually(t, daemonWait, func() error {
			if !strings.Contains(log.String(), "listening on 5201") {
				return fmt.Errorf("iperf3 is not ready: %s", log)
			}
			return nil
		})
		// one backend: iperf3's control and data connections must meet
		n.run(n.config(service("iperf", "tcp", balancerAddress+":5201", "{address: "+addressA+":5201}")))

		for _, direction := range [][]string{{}, {"--reverse"}} {
			args := append([]string{"--client", balancerAddress, "--port", "5201", "--time", "2", "--parallel", "2",
				"--connect-timeout", "5000", "--json"}, direction...)
			out, err := n.client.Command(context.Background(), iperf, args...).Output()
			if err != nil {
				t.Fatalf("%v: %v\n%s", direction, err, out)
			}
			if rate := receivedBitRate(t, out); rate < leastBitRate {
				t.Errorf("%v: %.0f Mbit/s", direction, rate/1e6)
			} else {
				t.Logf("%v: %.0f Mbit/s", direction, rate/1e6)
			}
		}
		n.checkChecksums()
	})
}

func receivedBitRate(t *testing.T, report []byte) float64 {
	t.Helper()
	var result struct {
		End struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(report, &result); err != nil {
		t.Fatalf("%v in\n%s", err, report)
	}
	return result.End.Received.BitsPerSecond
}
