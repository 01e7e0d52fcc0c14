package testnet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lab"
)

// killGrace is how long a process may take to end before it is killed.
const killGrace = 30 * time.Second

// Daemon is a running `tinylb run`.
type Daemon struct {
	*lab.Cmd
	Log *Log
	t   testing.TB
	out chan struct{} // closed when it has ended
}

// Start starts a `tinylb run` without waiting for anything.
func (b *Balancer) Start(c *lab.Cmd) *Daemon {
	b.T.Helper()
	d := &Daemon{Cmd: c, t: b.T, Log: &Log{}, out: make(chan struct{})}
	c.Stderr = d.Log
	if err := c.Start(); err != nil {
		b.T.Fatal(err)
	}
	go func() {
		defer close(d.out)
		c.Wait()
	}()
	b.runs = append(b.runs, d)
	return d
}

// AwaitLog waits for a text in the log behind the given place.
func (d *Daemon) AwaitLog(from int, text string) {
	d.t.Helper()
	Eventually(d.t, DaemonWait, func() error {
		if strings.Contains(d.Log.String()[from:], text) {
			return nil
		}
		select {
		case <-d.out:
			d.t.Fatalf("tinylb run ended (%v) before it logged %q:\n%s", d.Wait(), text, d.Log)
		default:
		}
		return fmt.Errorf("the log does not have %q", text)
	})
}

// Logs does something and waits for the text that it makes the daemon log.
func (d *Daemon) Logs(text string, do func()) {
	d.t.Helper()
	before := len(d.Log.String())
	do()
	d.AwaitLog(before, text)
}

// End sends a signal and returns what Wait does.
func (d *Daemon) End(sig os.Signal) error {
	return d.Stop(sig, killGrace)
}

// Terminate ends the daemon as a service manager does.
func (d *Daemon) Terminate() {
	d.t.Helper()
	if err := d.End(syscall.SIGTERM); err != nil {
		d.t.Fatalf("after SIGTERM: %v", err)
	}
}

// Kill ends the daemon as the kernel does when memory is short.
func (d *Daemon) Kill() {
	d.t.Helper()
	var exit *exec.ExitError
	if err := d.End(syscall.SIGKILL); !errors.As(err, &exit) {
		d.t.Fatalf("after SIGKILL: %v", err)
	}
}

// dump makes a daemon that still runs say where it is: its threads as the kernel
// sees them, and, in the log, its goroutines. That ends it.
func (d *Daemon) dump() {
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
	d.End(syscall.SIGQUIT)
}
