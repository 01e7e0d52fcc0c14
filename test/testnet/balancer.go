package testnet

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/need"
)

// pins is the directory for the tests' pin directories.
const pins = "/sys/fs/bpf"

// Balancer is a node that tinylb runs on, with a config file and a pin directory.
type Balancer struct {
	T    testing.TB
	Node *lab.Node
	Dir  string // of the config file, open to every user
	pins string
	runs []*Daemon
}

// NewBalancer makes a balancer of a lab's node. Its directory goes after the test.
func NewBalancer(t testing.TB, node *lab.Node) *Balancer {
	t.Helper()
	dir, err := os.MkdirTemp("", "tinylb-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return &Balancer{T: t, Node: node, Dir: dir, pins: filepath.Join(pins, node.Namespace())}
}

// In is the same balancer for a subtest.
func (b *Balancer) In(t testing.TB) *Balancer {
	sub := *b
	sub.T = t
	return &sub
}

// PinDir is given to every command as --pin.
func (b *Balancer) PinDir() string { return b.pins }

// ConfigFile is the path of the config file.
func (b *Balancer) ConfigFile() string { return filepath.Join(b.Dir, "tinylb.yaml") }

// WriteConfig replaces the config file's contents in place.
func (b *Balancer) WriteConfig(text string) {
	b.T.Helper()
	WriteFile(b.T, b.ConfigFile(), text)
}

// WriteFile replaces a file's contents in place.
func WriteFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Tinylb prepares a command in the balancer's namespace.
func (b *Balancer) Tinylb(command string, args ...string) *lab.Cmd {
	b.T.Helper()
	args = append([]string{command, "--pin", b.PinDir()}, args...)
	return b.Node.Command(context.Background(), need.Tool(b.T, "tinylb"), args...)
}

// Run starts the daemon with this config and returns when it is ready.
func (b *Balancer) Run(config string) *Daemon {
	b.T.Helper()
	b.WriteConfig(config)
	return b.RunAgain()
}

// RunAgain starts the daemon with the config file as it is.
func (b *Balancer) RunAgain() *Daemon {
	b.T.Helper()
	d := b.Start(b.Tinylb("run", "-c", b.ConfigFile()))
	d.AwaitLog(0, "msg=ready")
	return d
}

// Status is what `tinylb status -o json` prints.
func (b *Balancer) Status() lb.Status {
	b.T.Helper()
	out, err := b.Tinylb("status", "-o", "json").Output()
	if err != nil {
		b.T.Fatal(err)
	}
	var status lb.Status
	if err := json.Unmarshal(out, &status); err != nil {
		b.T.Fatalf("%v:\n%s", err, out)
	}
	return status
}

// Packets returns how many packets of a service ("" for none) left for a reason.
func Packets(s lb.Status, service, reason string) uint64 {
	for _, r := range s.Reasons {
		if r.Service == service && r.Reason == reason {
			return r.Packets
		}
	}
	return 0
}

// PacketsOfAll is Packets for all services and none together.
func PacketsOfAll(s lb.Status, reason string) (packets uint64) {
	for _, r := range s.Reasons {
		if r.Reason == reason {
			packets += r.Packets
		}
	}
	return packets
}

// Down takes the data plane down.
func (b *Balancer) Down() {
	b.T.Helper()
	if out, err := b.Tinylb("down").CombinedOutput(); err != nil {
		b.T.Errorf("tinylb down: %v\n%s", err, out)
	}
}

// Explain logs what helps to find out why a test failed. It ends the daemons.
func (b *Balancer) Explain() {
	status, _ := b.Tinylb("status").CombinedOutput()
	b.T.Logf("status:\n%s", status)
	for i, d := range b.runs {
		d.dump()
		b.T.Logf("log of run %d:\n%s", i+1, d.Log)
	}
}
