package bench

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lb"
)

const (
	checkedServices = 20
	checkedBackends = 100 // of each, all distinct
	checkPort       = 8000
	// settling is how long checks take to spread over their interval, measuring how long
	// they are measured.
	settling, measuring = 3 * time.Second, 5 * time.Second
)

// benchmarkChecks is the share of a processor that the daemon takes for 2,000 checks a
// second, in percent.
func benchmarkChecks(b *testing.B, check lb.CheckType) {
	s := newInstallation(b, checkedConfig(check))
	everywhere := netip.MustParsePrefix("10.128.0.0/9")
	s.must(s.backend.Netlink().RouteAdd(&netlink.Route{
		Dst:       &net.IPNet{IP: everywhere.Addr().AsSlice(), Mask: net.CIDRMask(everywhere.Bits(), 32)},
		LinkIndex: 1, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: unix.RT_SCOPE_HOST,
	}))
	listener, err := s.backend.Listen("tcp", fmt.Sprintf(":%d", checkPort))
	s.must(err)
	server := &http.Server{Handler: http.HandlerFunc(serving), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	counted := &countedListener{Listener: listener}
	go server.Serve(counted)
	defer server.Close()
	daemon, log := s.start()
	s.awaitReady(log)
	time.Sleep(settling)
	used, checks := -s.processorTime(daemon.Process.Pid), -counted.accepted.Load()
	time.Sleep(measuring)
	used, checks = used+s.processorTime(daemon.Process.Pid), checks+counted.accepted.Load()
	for b.Loop() { // there is nothing to repeat
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(100*used.Seconds()/(float64(checks)/(checkedServices*checkedBackends)), "percent")
	b.ReportMetric(float64(checks)/measuring.Seconds(), "checks/s")
}

// countedListener counts its connections: a machine that is busy with other things
// makes fewer checks.
type countedListener struct {
	net.Listener
	accepted atomic.Int64
}

func (l *countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	l.accepted.Add(1)
	return c, err
}

// serving answers a check of type http, and one of type grpc.
func serving(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 2 {
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write([]byte{0, 0, 0, 0, 2, 8, 1})
		w.Header().Set("Grpc-Status", "0")
	}
}

func checkedConfig(check lb.CheckType) string {
	var s strings.Builder
	s.WriteString("interfaces: [eth0]\nmode: native\nservices:\n")
	for i := range checkedServices {
		fmt.Fprintf(&s, "  - name: service-%d\n    address: %s:80\n    check: {type: %s, interval: 1s}\n    backends:\n", i, after("10.0.0.1", i), check)
		for j := range checkedBackends {
			fmt.Fprintf(&s, "      - {address: %s:%d}\n", crowdHost(i*checkedBackends+j), checkPort)
		}
	}
	return s.String()
}

// processorTime is what a process has used so far, in user and kernel mode.
func (s *installation) processorTime(pid int) time.Duration {
	s.b.Helper()
	const perSecond = 100 // USER_HZ, on every architecture that Go knows
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	s.must(err)
	_, fields, _ := strings.Cut(string(text), ") ") // behind the program's name
	var user, system int
	_, err = fmt.Sscanf(strings.Join(strings.Fields(fields)[11:13], " "), "%d %d", &user, &system)
	s.must(err)
	return time.Duration(user+system) * time.Second / perSecond
}

// benchmarkCheckedDown has a check find a backend down and up again.
func benchmarkCheckedDown(b *testing.B) {
	const hosts = crowdServices * crowdBackends
	cfg := parsed(b, strings.ReplaceAll(crowd(hosts, 1), ":80\n", ":80\n    check: {type: tcp}\n"))
	l := load(b, cfg, crowdHops(hosts))
	service := cfg.Services[crowdServices/2]
	key := lb.CheckedBackend{Service: service.Name, Address: service.Backends[crowdBackends/2].Address}
	round := 0
	collectGarbage(b)
	medianOf(b, func() {
		round++
		health := &lb.Health{State: lb.HealthUp}
		if round%2 == 1 {
			cause := lb.Transition{At: time.Now(), State: lb.HealthDown, Cause: "connect: connection refused"}
			health = &lb.Health{State: lb.HealthDown, Error: cause.Cause, ErrorAt: cause.At, Transitions: []lb.Transition{cause}}
		}
		l.reconciler.LearnHealth(map[lb.CheckedBackend]*lb.Health{key: health})
		result, err := l.reconciler.Follow(nil)
		if err != nil || len(result.Unusable) != round%2 {
			b.Fatalf("%d backends are not usable, want %d: %v", len(result.Unusable), round%2, err)
		}
	})
}
