package bench

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/config"
	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/maglev"
	"github.com/tinylb/tinylb/internal/reconcile"
	"github.com/tinylb/tinylb/test/need"
)

// The config of BenchmarkControl: so many services, with so many backends each.
const (
	crowdServices = 10_000
	crowdBackends = 10
)

// controlRounds is how often what takes little time is measured, each time.
const controlRounds = 9

// BenchmarkControl is what the daemon takes to follow its config and its
// neighbours, to the last write into the kernel's maps, and what memory it needs.
func BenchmarkControl(b *testing.B) {
	need.Root(b)
	b.Run("load-config", benchmarkLoad)
	b.Run("change-backend", benchmarkChangeBackend)
	b.Run("backend-down", func(b *testing.B) { benchmarkDown(b, crowdServices*crowdBackends) })
	b.Run("host-of-100-backends-down", func(b *testing.B) { benchmarkDown(b, crowdServices*crowdBackends/100) })
	b.Run("backend-down-by-check", benchmarkCheckedDown)
	for _, check := range []lb.CheckType{lb.CheckTCP, lb.CheckHTTP, lb.CheckGRPC} {
		b.Run(fmt.Sprintf("2000-checks/%s", check), func(b *testing.B) { benchmarkChecks(b, check) })
	}
	for _, backends := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprintf("maglev/backends=%d", backends), func(b *testing.B) { benchmarkMaglev(b, backends) })
	}
	b.Run("list-flows", benchmarkListFlows)
	for _, flows := range []int{1000, 100_000, 1_000_000} {
		if testing.Short() && flows > 100_000 {
			continue
		}
		b.Run("memory/flows="+short(flows), func(b *testing.B) { benchmarkMemoryOfFlows(b, flows) })
	}
	b.Run("memory/services=10k", benchmarkMemoryOfServices)
	b.Run("start", benchmarkStart)
}

// crowd is a config file. Its backends are distinct addresses and ports on so many hosts.
func crowd(hosts int, weightOfFirst uint32) string {
	var s strings.Builder
	s.WriteString("interfaces: [eth0]\nmode: native\nservices:\n")
	for i := range crowdServices {
		fmt.Fprintf(&s, "  - name: service-%d\n    address: %s:80\n    backends:\n", i, after("10.0.0.1", i))
		for j := range crowdBackends {
			n := i*crowdBackends + j
			fmt.Fprintf(&s, "      - {name: backend-%d, address: %s:%d, weight: %d}\n", j, crowdHost(n%hosts), 8000+n/hosts, weightOfFirst)
			weightOfFirst = 1
		}
	}
	return s.String()
}

func crowdHost(n int) netip.Addr { return after("10.128.0.1", n) }

// crowdHops are the next hops of all hosts, by one router.
func crowdHops(hosts int) map[netip.Addr]lb.NextHop {
	hops := map[netip.Addr]lb.NextHop{}
	for n := range hosts {
		hops[crowdHost(n)] = usableHop()
	}
	return hops
}

func usableHop() lb.NextHop {
	return lb.NextHop{
		Interface: datapath.LoopbackIndex, MAC: lb.MAC{2, 2, 0, 0, 0, 1}, Source: netip.MustParseAddr("10.255.0.1"), Routed: true,
	}
}

func parsed(b *testing.B, text string) lb.Config {
	b.Helper()
	cfg, _, err := config.Parse([]byte(text), config.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return cfg
}

// benchmarkLoad reads, parses, validates, plans and writes.
func benchmarkLoad(b *testing.B) {
	const hosts = 1000
	hops := crowdHops(hosts)
	path := filepath.Join(b.TempDir(), "tinylb.yaml")
	if err := os.WriteFile(path, []byte(crowd(hosts, 1)), 0o600); err != nil {
		b.Fatal(err)
	}
	collectGarbage(b)
	for b.Loop() {
		cfg, _, err := config.Load(path, config.Options{})
		if err != nil {
			b.Fatal(err)
		}
		l := load(b, cfg, hops)
		b.StopTimer()
		l.datapath.Close()
		b.StartTimer()
	}
}

// loaded are maps of the kernel's that hold a config.
type loaded struct {
	datapath   *datapath.Datapath
	reconciler *reconcile.Reconciler
}

func load(b *testing.B, cfg lb.Config, hops map[netip.Addr]lb.NextHop) loaded {
	b.Helper()
	d, err := datapath.Open(datapath.Options{Limits: cfg.Limits})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(d.Close)
	r, err := reconcile.New(d, cfg.Limits)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := r.Apply(cfg, hops); err != nil {
		b.Fatal(err)
	}
	return loaded{d, r}
}

// collectGarbage as the daemon does after it has read a config.
func collectGarbage(b *testing.B) {
	b.StopTimer()
	debug.FreeOSMemory()
	b.StartTimer()
}

// benchmarkChangeBackend gives one backend another weight and back again. Each has a
// host of its own.
func benchmarkChangeBackend(b *testing.B) {
	const hosts = crowdServices * crowdBackends
	states := []lb.Config{parsed(b, crowd(hosts, 1)), parsed(b, crowd(hosts, 2))}
	l := load(b, states[0], crowdHops(hosts))
	round := 0
	collectGarbage(b)
	medianOf(b, func() {
		round++
		if _, err := l.reconciler.Apply(states[round%2], nil); err != nil {
			b.Fatal(err)
		}
	})
}

// benchmarkDown loses a host and finds it again. 100,000 backends share the hosts.
func benchmarkDown(b *testing.B, hosts int) {
	l := load(b, parsed(b, crowd(hosts, 1)), crowdHops(hosts))
	lost := crowdHost(hosts / 2)
	states := []lb.NextHop{usableHop(), {Problem: "does not answer"}}
	round := 0
	collectGarbage(b)
	medianOf(b, func() {
		round++
		result, err := l.reconciler.Follow(map[netip.Addr]lb.NextHop{lost: states[round%2]})
		if want := round % 2 * crowdServices * crowdBackends / hosts; err != nil || len(result.Unusable) != want {
			b.Fatalf("%d backends are not usable, want %d: %v", len(result.Unusable), want, err)
		}
	})
}

func benchmarkMaglev(b *testing.B, backends int) {
	entries := make([]maglev.Entry, backends)
	for i := range entries {
		entries[i] = maglev.Entry{Key: netip.AddrPortFrom(crowdHost(i), 80).String(), Weight: 1}
	}
	medianOf(b, func() {
		if _, err := maglev.Build(entries, 65537, 0); err != nil {
			b.Fatal(err)
		}
	})
}

// medianOf reports the median of what takes a few milliseconds: whatever else runs on
// the machine takes a processor away for longer than that, now and then.
func medianOf(b *testing.B, do func()) {
	b.Helper()
	var took []float64
	for b.Loop() {
		for range controlRounds {
			began := time.Now()
			do()
			took = append(took, float64(time.Since(began)))
		}
	}
	b.ReportMetric(median(took), "ns/op")
}
