package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// outputGrace is how long a finished command's output is still read while a
// process that it left behind holds the pipe.
const outputGrace = 2 * time.Second

// Cmd is an exec.Cmd that runs inside a node. It and the processes it starts
// form a process group (a Ctrl-C at the terminal does not reach them); what is
// left of the group when the command ends, when its context ends, when the lab
// is closed or when this process dies is killed.
type Cmd struct {
	*exec.Cmd
	node *Node

	waitOnce sync.Once
	waitErr  error

	mu      sync.Mutex
	started bool
	ended   bool // from then on the pid may be another process's
}

// Command prepares a program to be run in the node, as exec.CommandContext does.
func (n *Node) Command(ctx context.Context, name string, args ...string) *Cmd {
	c := &Cmd{Cmd: exec.CommandContext(ctx, name, args...), node: n}
	c.WaitDelay = outputGrace
	c.Cancel = c.kill
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	return c
}

// startProcesses is the loop of the thread that starts the lab's processes. The
// kernel sends Pdeathsig when the parent's thread ends, so it must be one that
// lives as long as the lab: it is never unlocked, and ends with the goroutine.
func (l *Lab) startProcesses() {
	runtime.LockOSThread()
	for f := range l.work {
		f()
	}
}

// Node is where the command runs.
func (c *Cmd) Node() *Node { return c.node }

// Start starts the command.
func (c *Cmd) Start() error {
	l := c.node.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	result := make(chan error, 1)
	l.work <- func() { result <- c.startHere() }
	if err := <-result; err != nil {
		return fmt.Errorf("starting %s on node %s: %w", c.Args[0], c.node.name, err)
	}
	l.commands = append(l.commands, c)
	return nil
}

// startHere starts the command on the current, locked thread.
func (c *Cmd) startHere() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err, _ := keepingNamespace(func() error {
		if err := netns.Set(c.node.namespace); err != nil {
			return err
		}
		err := c.Cmd.Start()
		c.started = err == nil
		return err
	})
	if c.started {
		return nil // the next command sets the thread's namespace itself
	}
	return err
}

// Wait waits for the command to end. Unlike exec.Cmd's it may be called often
// and concurrently.
func (c *Cmd) Wait() error {
	c.waitOnce.Do(func() {
		if !c.started {
			c.waitErr = errors.New("not started")
			return
		}
		c.killLeftovers()
		c.waitErr = c.Cmd.Wait()
	})
	return c.waitErr
}

// killLeftovers waits for the command to end and kills the rest of its process
// group before the command is reaped, because that frees the group's number.
func (c *Cmd) killLeftovers() {
	for {
		err := unix.Waitid(unix.P_PID, c.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	c.kill()
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
}

// kill kills the process group.
func (c *Cmd) kill() error {
	return c.signal(func() error { return unix.Kill(-c.Process.Pid, unix.SIGKILL) })
}

// Signal sends a signal to the command itself.
func (c *Cmd) Signal(sig os.Signal) error {
	return c.signal(func() error { return c.Process.Signal(sig) })
}

func (c *Cmd) signal(send func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started || c.ended {
		return os.ErrProcessDone
	}
	return send()
}

// Stop asks the command to end with a signal, kills it after the grace period,
// and returns what Wait does.
func (c *Cmd) Stop(sig os.Signal, grace time.Duration) error {
	if err := c.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	defer time.AfterFunc(grace, func() { c.kill() }).Stop()
	return c.Wait()
}

// Run starts the command and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the command and returns its standard output. The error of a
// failed command carries its standard error.
func (c *Cmd) Output() ([]byte, error) {
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%s: %w: %s", c.Args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// CombinedOutput runs the command and returns its standard output and error.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var output bytes.Buffer
	c.Stdout, c.Stderr = &output, &output
	err := c.Run()
	return output.Bytes(), err
}
