package bench

import (
	"context"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lab/labtest"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/need"
	"github.com/tinylb/tinylb/test/testnet"
)

// wrkConnections are open at the same time.
const wrkConnections = 50

// wrkMark is where the report begins.
const wrkMark = "found:"

// wrkReport has wrk say what it found, in µs, in one line of numbers.
const wrkReport = `
done = function(summary, latency)
	local e = summary.errors
	io.write(string.format("` + wrkMark + ` %d %d %f %f %d\n", summary.requests, summary.duration,
		latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
`

// benchmarkTCP has a client ask a web server on one backend, and fill a connection
// to it.
func benchmarkTCP(b *testing.B) {
	needTCPTools(b)
	l := labtest.New(b)
	script := filepath.Join(b.TempDir(), "report.lua")
	testnet.WriteFile(b, script, wrkReport)
	ways := []forwarding{
		{"direct", direct}, tinylb(lb.ForwardNAT), {"haproxy", haproxy}, {"nginx-stream", nginxStream}, {"nftables", nftables},
		{"redirect", bareRedirect}, {"direct-no-tso", directWithoutTSO},
	}
	requests := &contest{ratios: []ratio{{"x-direct", "requests/s", "direct"}, {"p99-x-direct", "p99-ms", "direct"}, {"x-redirect", "requests/s", "redirect"}}}
	connections := &contest{ratios: []ratio{
		{"x-direct", "connections/s", "direct"}, {"x-redirect", "connections/s", "redirect"},
		{"x-haproxy", "connections/s", "haproxy"}, {"x-nginx-stream", "connections/s", "nginx-stream"},
	}}
	throughput := &contest{ratios: []ratio{
		{"x-direct", "Mbit/s", "direct"}, {"x-direct-no-tso", "Mbit/s", "direct-no-tso"}, {"x-redirect", "Mbit/s", "redirect"},
	}}
	for _, way := range ways {
		s := newSite(b, l, way.name)
		testnet.Web(b, s.backend, b.TempDir(), net.JoinHostPort(siteBackend, fmt.Sprint(webPort)))
		testnet.ServeIperf(b, s.backend, after(siteBackend, 0))
		way.start(s)
		throughput.contenders = append(throughput.contenders, contender{way.name, s.throughput})
		if way.name == "direct-no-tso" { // what a request sends is one segment anyway
			continue
		}
		requests.contenders = append(requests.contenders, contender{way.name, func(t testing.TB, d time.Duration) figures {
			return s.wrk(t, d, "requests/s", script)
		}})
		connections.contenders = append(connections.contenders, contender{way.name, func(t testing.TB, d time.Duration) figures {
			return s.wrk(t, d, "connections/s", script, "--header", "Connection: close")
		}})
	}
	b.Run("requests", requests.run)
	b.Run("connections", connections.run)
	b.Run("throughput", throughput.run)
}

// wrk asks for so long, in whole seconds.
func (s *site) wrk(t testing.TB, duration time.Duration, unit, script string, args ...string) figures {
	t.Helper()
	s.asNewClient(t)
	seconds := math.Ceil(duration.Seconds())
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second+testnet.AnswerWait)
	defer cancel()
	// A thread for each core: one alone could not keep the routing kernel busy.
	args = append(args, "--threads", fmt.Sprint(runtime.NumCPU()), "--connections", fmt.Sprint(wrkConnections), "--duration", fmt.Sprint(seconds),
		"--script", script, "http://"+net.JoinHostPort(s.target.String(), fmt.Sprint(webPort)))
	out, err := s.client.Command(ctx, need.Tool(t, "wrk"), args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", s.router.Name(), err)
	}
	_, line, _ := strings.Cut(string(out), wrkMark)
	var answers, took, p50, p99, failed float64
	if _, err := fmt.Sscanf(line, "%g %g %g %g %g", &answers, &took, &p50, &p99, &failed); err != nil {
		t.Fatalf("%s: wrk printed %q: %v", s.router.Name(), out, err)
	}
	if failed > answers/100 {
		t.Fatalf("%s: %g failures beside %g answers", s.router.Name(), failed, answers)
	}
	return figures{unit: answers / took * 1e6, "p50-ms": p50 / 1000, "p99-ms": p99 / 1000}
}

// throughput sends on one connection for so long, in whole seconds.
func (s *site) throughput(t testing.TB, duration time.Duration) figures {
	t.Helper()
	s.asNewClient(t)
	seconds := math.Ceil(duration.Seconds())
	report := testnet.Iperf(t, s.client, s.target, "--time", fmt.Sprint(seconds))
	return figures{"Mbit/s": report.End.Received.BitsPerSecond / 1e6}
}
