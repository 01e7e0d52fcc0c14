package testnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/test/need"
)

// IperfReport is what the tests read of an iperf3 client's report.
type IperfReport struct {
	End struct {
		Received IperfSum `json:"sum_received"` // TCP, and UDP since iperf3 3.10
	} `json:"end"`
	Error string `json:"error"`
}

// IperfSum is over all streams of a run.
type IperfSum struct {
	Bytes         uint64  `json:"bytes"`
	BitsPerSecond float64 `json:"bits_per_second"`
	Packets       uint64  `json:"packets"`      // UDP
	LostPackets   uint64  `json:"lost_packets"` // UDP
}

// ServeIperf starts an iperf3 server on a node, at port 5201 of the address.
func ServeIperf(t testing.TB, node *lab.Node, at netip.Addr) {
	t.Helper()
	server := node.Command(context.Background(), need.Tool(t, "iperf3"), "--server", "--bind", at.String(), "--forceflush")
	log := &Log{}
	server.Stdout = log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	go server.Wait()
	Eventually(t, DaemonWait, func() error {
		if !strings.Contains(log.String(), "listening on 5201") {
			return fmt.Errorf("iperf3 is not ready: %s", log)
		}
		return nil
	})
}

// Iperf runs an iperf3 client against port 5201 of an address.
func Iperf(t testing.TB, node *lab.Node, server netip.Addr, args ...string) (report IperfReport) {
	t.Helper()
	args = append([]string{"--client", server.String(), "--connect-timeout", "5000", "--json"}, args...)
	Eventually(t, DaemonWait, func() error {
		out, err := node.Command(context.Background(), need.Tool(t, "iperf3"), args...).Output()
		report = IperfReport{}
		jsonErr := json.Unmarshal(out, &report)
		if strings.Contains(report.Error, "server is busy") { // with the end of the run before
			return errors.New(report.Error)
		}
		if err != nil || jsonErr != nil || report.Error != "" {
			t.Fatalf("%v: %v\n%s", args, errors.Join(err, jsonErr), out)
		}
		return nil
	})
	return report
}
