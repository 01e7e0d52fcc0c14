package ipv6

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lab/labtest"
	"github.com/tinylb/tinylb/internal/lb"
)

const (
	clientAddress   = "fd00:17::4"
	balancerAddress = "fd00:17::5"
	backendAddress  = "fd00:17::2"

	vip = "[" + balancerAddress + "]:80"
)

// readyWait is for what takes the daemon well under a second on an idle host.
const readyWait = time.Minute

// network is three machines on one bridge, which have IPv6 alone.
type network struct {
	t                         *testing.T
	client, balancer, backend *lab.Node
	binary, config, pin       string
}

// newNetwork builds the network, in native mode prepared for it, and removes it
// after the test.
func newNetwork(t *testing.T, binary string, mode lb.Mode) *network {
	t.Helper()
	l := labtest.New(t, lab.Native(mode == lb.ModeNative))
	bridge, err := l.AddBridge("br-lb")
	if err != nil {
		t.Fatal(err)
	}
	machine := func(name, address string) *lab.Node {
		node := labtest.Node(t, l, name)
		if err := node.Connect(bridge, "eth0", netip.PrefixFrom(netip.MustParseAddr(address), 64)); err != nil {
			t.Fatal(err)
		}
		return node
	}
	return &network{
		t:        t,
		client:   machine("client", clientAddress),
		balancer: machine("lb", balancerAddress),
		backend:  machine("backend", backendAddress),
		binary:   binary,
		config:   filepath.Join(t.TempDir(), "tinylb.yaml"),
		pin:      filepath.Join("/sys/fs/bpf", l.Prefix()),
	}
}

func build(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "tinylb")
	build := exec.Command("go", "build", "-o", binary, "../../cmd/tinylb")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building tinylb: %v\n%s", err, out)
	}
	return binary
}

// tinylb prepares a command in the balancer's namespace.
func (n *network) tinylb(command string, args ...string) *lab.Cmd {
	args = append([]string{command, "--pin", n.pin}, args...)
	return n.balancer.Command(context.Background(), n.binary, args...)
}

// run starts the daemon and returns when it is ready. After the test it takes
// the data plane down.
func (n *network) run(config string) {
	n.t.Helper()
	if err := os.WriteFile(n.config, []byte(config), 0o600); err != nil {
		n.t.Fatal(err)
	}
	daemon := n.tinylb("run", "-c", n.config)
	log, err := daemon.StderrPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		n.t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		lines, once := bufio.NewScanner(log), sync.Once{}
		for lines.Scan() {
			n.t.Log(lines.Text())
			if strings.Contains(lines.Text(), "msg=ready") {
				once.Do(func() { close(ready) })
			}
		}
	}()
	n.t.Cleanup(func() {
		if out, err := n.tinylb("down").CombinedOutput(); err != nil {
			n.t.Errorf("tinylb down: %v\n%s", err, out)
		}
		<-ended
		daemon.Wait()
	})
	select {
	case <-ready:
	case <-ended:
		n.t.Fatal("tinylb run ended before it was ready")
	case <-time.After(readyWait):
		n.t.Fatalf("not ready after %s", readyWait)
	}
}

// status is what `tinylb status -o json` prints.
func (n *network) status() lb.Status {
	n.t.Helper()
	out, err := n.tinylb("status", "-o", "json").Output()
	if err != nil {
		n.t.Fatal(err)
	}
	var status lb.Status
	if err := json.Unmarshal(out, &status); err != nil {
		n.t.Fatalf("%v:\n%s", err, out)
	}
	return status
}

func config(mode lb.Mode) string {
	return fmt.Sprintf(`interfaces: [eth0]
mode: %s
services:
  - name: web
    address: %q
    protocol: [tcp, udp]
    backends: [{address: "[%s]:8080"}]
`, mode, vip, backendAddress)
}
