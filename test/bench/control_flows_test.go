package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/packet"
)

// flowsConfig has one service, with source addresses for a million flows.
func flowsConfig(flows int) string {
	var s, sources string
	for n := range backendCount {
		s += fmt.Sprintf("      - {address: %s:80}\n", after(v4.backends, n))
	}
	for n := range sourceCount {
		sources += fmt.Sprintf(", %s", after(v4.source, n))
	}
	return fmt.Sprintf(`
interfaces: [eth0]
mode: native
snat: {addresses: [%s]}
limits: {flows: %d}
services:
  - name: web
    address: %s
    backends:
%s`, sources[2:], max(flows*5/4, 1024), v4.vip, s)
}

// openFlows opens TCP connections in a data plane whose backends have next hops.
func openFlows(b *testing.B, d *datapath.Datapath, vip string, flows int) {
	b.Helper()
	runner, err := d.NewRunner(datapath.RunnerOptions{Seed: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer runner.Close()
	to, now := endpoint(vip), time.Now()
	for n := range flows {
		decision, _, err := runner.Run(now, v4.frame(packet.NewTCP(v4.client(n), to, packet.SYN, "")))
		if err != nil || decision.Reason.String() != "new-flow" {
			b.Fatalf("packet %d: %s, %v", n, decision.Reason, err)
		}
	}
}

func benchmarkListFlows(b *testing.B) {
	flows := 1_000_000
	if testing.Short() {
		flows = 100_000
	}
	cfg := parsed(b, flowsConfig(flows))
	hops := crowdHops(0)
	for _, a := range cfg.BackendAddresses() {
		hops[a] = usableHop()
	}
	l := load(b, cfg, hops)
	openFlows(b, l.datapath, v4.vip, flows)
	for b.Loop() {
		listed, err := l.datapath.Flows()
		if err != nil || len(listed) != flows {
			b.Fatalf("%d flows are listed, want %d: %v", len(listed), flows, err)
		}
	}
}
