package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/need"
)

const (
	// daemonWait is for what takes the daemon well under a second on an idle host.
	daemonWait = time.Minute
	// killGrace is how long a process may take to end before it is killed.
	killGrace = 30 * time.Second
)

// tinylb prepares a command in the balancer's namespace. Every one takes --pin.
func (n *network) tinylb(command string, args ...string) *lab.Cmd {
	n.t.Helper()
	args = append([]string{command, "--pin", n.pinDir()}, args...)
	return n.balancer.Command(context.Background(), need.Tool(n.t, "tinylb"), args...)
}

// daemon is a running `tinylb run`.
type daemon struct {
	*lab.Cmd
	t   *testing.T
	log *logText
	out chan struct{} // closed when it has ended
}

// run starts the daemon with this config and returns when it is ready.
func (n *network) run(config string) *daemon {
	n.t.Helper()
	n.writeConfig(config)
	return n.runAgain()
}

// runAgain starts the daemon with the config file as it is.
func (n *network) runAgain() *daemon {
	n.t.Helper()
	d := n.start(n.tinylb("run", "-c", n.configFile()))
	d.awaitLog(0, "msg=ready")
	return d
}

// start starts a `tinylb run` without waiting for anything.
func (n *network) start(c *lab.Cmd) *daemon {
	n.t.Helper()
	d := &daemon{Cmd: c, t: n.t, log: &logText{}, out: make(chan struct{})}
	c.Stderr = d.log
	if err := c.Start(); err != nil {
		n.t.Fatal(err)
	}
	go func() {
		defer close(d.out)
		c.Wait()
	}()
	n.daemons = append(n.daemons, d)
	return d
}

// awaitLog waits for a text in the log behind the given place.
func (d *daemon) awaitLog(from int, text string) {
	d.t.Helper()
	eventually(d.t, daemonWait, func() error {
		if strings.Contains(d.log.String()[from:], text) {
			return nil
		}
		select {
		case <-d.out:
			d.t.Fatalf("tinylb run ended (%v) before it logged %q:\n%s", d.Wait(), text, d.log)
		default:
		}
		return fmt.Errorf("the log does not have %q", text)
	})
}

// logs does something and waits for the text that it makes the daemon log.
func (d *daemon) logs(text string, do func()) {
	d.t.Helper()
	before := len(d.log.String())
	do()
	d.awaitLog(before, text)
}

// end sends a signal and returns what Wait does.
func (d *daemon) end(sig os.Signal) error {
	return d.Stop(sig, killGrace)
}

// terminate ends the daemon as a service manager does.
func (d *daemon) terminate() {
	d.t.Helper()
	if err := d.end(syscall.SIGTERM); err != nil {
		d.t.Fatalf("after SIGTERM: %v", err)
	}
}

// dump makes a daemon that still runs say where it is: its threads as the kernel
// sees them, and, in the log, its goroutines. That ends it.
func (d *daemon) dump() {
	select {
	case <-d.out:
		return
	default:
	}
	for _, file := range []string{"wchan", "syscall", "schedstat"} {
		paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/%s", d.Process.Pid, file))
		for _, path := range paths {
			text, _ := os.ReadFile(path)
			d.t.Logf("%s: %s", path, text)
		}
	}
	d.end(syscall.SIGQUIT)
}

// kill ends the daemon as the kernel does when memory is short.
func (d *daemon) kill() {
	d.t.Helper()
	var exit *exec.ExitError
	if err := d.end(syscall.SIGKILL); !errors.As(err, &exit) {
		d.t.Fatalf("after SIGKILL: %v", err)
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

// packets returns how many packets of a service ("" for none) left for a reason.
func packets(s lb.Status, service, reason string) uint64 {
	for _, r := range s.Reasons {
		if r.Service == service && r.Reason == reason {
			return r.Packets
		}
	}
	return 0
}

// attachedProgram returns the id of the XDP program on an interface; 0 is none.
func attachedProgram(t *testing.T, node *lab.Node, ifname string) int {
	t.Helper()
	link, err := node.Netlink().LinkByName(ifname)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	if xdp := link.Attrs().Xdp; xdp != nil && xdp.Attached {
		return int(xdp.ProgId)
	}
	return 0
}

// checkNothingLeft checks that nothing of tinylb's is in the balancer.
func (n *network) checkNothingLeft() {
	n.t.Helper()
	if id := attachedProgram(n.t, n.balancer, "eth0"); id != 0 {
		n.t.Errorf("left behind: XDP program %d is attached", id)
	}
	if _, err := os.Stat(n.pinDir()); !errors.Is(err, fs.ErrNotExist) {
		left, _ := filepath.Glob(filepath.Join(n.pinDir(), "*"))
		n.t.Errorf("left behind: %s with %q (%v)", n.pinDir(), left, err)
	}
	if locks, _ := filepath.Glob("/run/tinylb/*" + n.lab.Prefix() + "*"); len(locks) > 0 {
		n.t.Errorf("left behind: %q", locks)
	}
}

// kernelObjects are ids of what the data plane consists of.
type kernelObjects struct {
	program ebpf.ProgramID
	maps    []ebpf.MapID
}

// dataPlane finds the program on the balancer's interface and its maps.
func (n *network) dataPlane() kernelObjects {
	n.t.Helper()
	id := ebpf.ProgramID(attachedProgram(n.t, n.balancer, "eth0"))
	program, err := ebpf.NewProgramFromID(id)
	if err != nil {
		n.t.Fatalf("the program on eth0: %v", err)
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil {
		n.t.Fatal(err)
	}
	maps, _ := info.MapIDs()
	if len(maps) == 0 {
		n.t.Fatal("the program has no maps")
	}
	return kernelObjects{id, maps}
}

// awaitGone waits until the kernel has none of the objects any more.
func (k kernelObjects) awaitGone(t *testing.T) {
	t.Helper()
	eventually(t, daemonWait, func() error {
		if p, err := ebpf.NewProgramFromID(k.program); !errors.Is(err, fs.ErrNotExist) {
			p.Close()
			return fmt.Errorf("program %d is still there (%v)", k.program, err)
		}
		for _, id := range k.maps {
			if m, err := ebpf.NewMapFromID(id); !errors.Is(err, fs.ErrNotExist) {
				m.Close()
				return fmt.Errorf("map %d is still there (%v)", id, err)
			}
		}
		return nil
	})
}

// logText keeps what a process writes.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
