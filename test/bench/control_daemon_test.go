package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lab/labtest"
	"github.com/tinylb/tinylb/test/testnet"
)

const (
	megabyte = 1e6
	// patience is for what takes a daemon a second at most.
	patience = time.Minute
)

func endpoint(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

// installation is a network with a client, a balancer, and a backend that is also the router
// to all other addresses.
type installation struct {
	b                         *testing.B
	client, balancer, backend *lab.Node
	binary, config, pins      string
}

func newInstallation(b *testing.B, config string) *installation {
	b.Helper()
	l := labtest.New(b, lab.Native(true))
	s := &installation{
		b: b, client: labtest.Node(b, l, "client"), balancer: labtest.Node(b, l, "lb"), backend: labtest.Node(b, l, "backend"),
		pins: filepath.Join("/sys/fs/bpf", l.Prefix()),
	}
	dir := b.TempDir()
	s.binary, s.config = filepath.Join(dir, "tinylb"), filepath.Join(dir, "tinylb.yaml")
	bridge, err := l.AddBridge("bridge")
	s.must(err)
	router := netip.MustParseAddr("192.0.2.2")
	s.must(errors.Join(
		testnet.Build(dir),
		os.WriteFile(s.config, []byte(config), 0o600),
		s.client.Connect(bridge, "eth0", netip.MustParsePrefix("192.0.2.1/24")),
		s.backend.Connect(bridge, "eth0", netip.PrefixFrom(router, 24)),
		s.balancer.Connect(bridge, "eth0", netip.MustParsePrefix("192.0.2.5/24")),
		s.balancer.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), router),
	))
	b.Cleanup(func() { s.must(s.tinylb("down").Run()) })
	return s
}

func (s *installation) must(err error) {
	s.b.Helper()
	if err != nil {
		s.b.Fatal(err)
	}
}

func (s *installation) tinylb(command string, args ...string) *lab.Cmd {
	return s.balancer.Command(context.Background(), s.binary, append([]string{command, "--pin", s.pins}, args...)...)
}

// start starts the daemon.
func (s *installation) start() (*lab.Cmd, *testnet.Log) {
	s.b.Helper()
	daemon, log := s.tinylb("run", "-c", s.config), &testnet.Log{}
	daemon.Stderr = log
	s.must(daemon.Start())
	return daemon, log
}

func (s *installation) awaitReady(log *testnet.Log) {
	s.b.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(patience); !strings.Contains(log.String(), "msg=ready"); <-poll.C {
		if time.Now().After(deadline) {
			s.b.Fatalf("the daemon is not ready:\n%.4000s", log)
		}
	}
}

// reportMemory reports what the daemon has in memory (MB) and the kernel in its maps (map-MB).
func (s *installation) reportMemory(daemon *lab.Cmd) {
	s.b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", daemon.Process.Pid))
	s.must(err)
	kilobytes := 0
	for line := range strings.Lines(string(status)) {
		if text, is := strings.CutPrefix(line, "VmRSS:"); is {
			_, err = fmt.Sscan(text, &kilobytes)
			s.must(err)
		}
	}
	for s.b.Loop() { // there is nothing to repeat
	}
	s.b.ReportMetric(0, "ns/op")
	s.b.ReportMetric(float64(kilobytes)*1024/megabyte, "rss-MB")
	s.b.ReportMetric(s.mapBytes()/megabyte, "map-MB")
}

func (s *installation) mapBytes() (total float64) {
	s.b.Helper()
	paths, err := filepath.Glob(filepath.Join(s.pins, "*"))
	s.must(err)
	for _, path := range paths {
		m, err := ebpf.LoadPinnedMap(path, nil)
		if err != nil {
			continue // a program or a link
		}
		info, err := m.Info()
		s.must(err)
		bytes, _ := info.Memlock() // not known of one that is empty
		total += float64(bytes)
		s.must(m.Close())
	}
	return total
}

func benchmarkMemoryOfServices(b *testing.B) {
	s := newInstallation(b, crowd(1000, 1))
	daemon, log := s.start()
	s.awaitReady(log)
	s.reportMemory(daemon)
}

func benchmarkMemoryOfFlows(b *testing.B, flows int) {
	s := newInstallation(b, flowsConfig(flows))
	daemon, log := s.start()
	s.awaitReady(log)
	limits, err := datapath.PinnedLimits(s.pins)
	s.must(err)
	d, err := datapath.Open(datapath.Options{PinDir: s.pins, Limits: limits})
	s.must(err)
	defer d.Close()
	openFlows(b, d, v4.vip, flows)
	s.reportMemory(daemon)
}

// benchmarkStart is from the start of the program to the first packet that comes back
// through it.
func benchmarkStart(b *testing.B) {
	const config = `
interfaces: [eth0]
mode: native
services:
  - {name: echo, address: "192.0.2.5:53", protocol: udp, backends: [{address: "192.0.2.2:53"}]}
`
	s := newInstallation(b, config)
	server, err := s.backend.ListenPacket("udp", "192.0.2.2:53")
	s.must(err)
	defer server.Close()
	go echo(server)
	client, err := s.client.DialContext(b.Context(), "udp", "192.0.2.5:53")
	s.must(err)
	defer client.Close()
	for b.Loop() {
		daemon, log := s.start()
		s.awaitEcho(client, log)
		b.StopTimer()
		s.must(daemon.Stop(syscall.SIGTERM, patience))
		s.must(s.tinylb("down").Run())
		b.StartTimer()
	}
}

func echo(c net.PacketConn) {
	buffer := make([]byte, 1)
	for {
		n, from, err := c.ReadFrom(buffer)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(buffer[:n], from) // the next one is as good
	}
}

// awaitEcho sends a datagram every millisecond until one comes back.
func (s *installation) awaitEcho(c net.Conn, log *testnet.Log) {
	s.b.Helper()
	buffer := make([]byte, 1)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		pause := time.Now().Add(time.Millisecond)
		_, _ = c.Write(buffer) // refused while there is no balancer
		s.must(c.SetReadDeadline(pause))
		for time.Now().Before(pause) {
			if _, err := c.Read(buffer); err == nil {
				return
			}
		}
	}
	s.b.Fatalf("no answer:\n%.4000s", log)
}
