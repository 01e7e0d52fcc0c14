package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/tinylb/tinylb/internal/lab"
)

// readyLine is in the log line of a child that can be used from then on.
const readyLine = "msg=ready"

const (
	readyTimeout = 20 * time.Second
	stopGrace    = 5 * time.Second
)

// ExitError is a child that ended with an error of its own.
type ExitError struct {
	Command string
	Code    int    // -1: killed by a signal
	Stderr  string // its last lines
}

func (e *ExitError) Error() string {
	text := fmt.Sprintf("%s ended with exit code %d", e.Command, e.Code)
	if e.Stderr != "" {
		text += ":\n" + e.Stderr
	}
	return text
}

// command prepares this program to run again, inside a node.
func (o Options) command(ctx context.Context, node *lab.Node, args ...string) *lab.Cmd {
	c := node.Command(ctx, o.Binary, args...)
	c.Args[0] = "tinylb"
	return c
}

// output runs a command to its end and returns what it printed.
func output(c *lab.Cmd) ([]byte, error) {
	var stdout bytes.Buffer
	stderr := newLogTail()
	c.Stdout, c.Stderr = &stdout, stderr
	if err := c.Run(); err != nil {
		return stdout.Bytes(), exitError(c, err, stderr)
	}
	return stdout.Bytes(), nil
}

func exitError(c *lab.Cmd, err error, stderr *logTail) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("running tinylb %s: %w", c.Args[1], err)
	}
	return &ExitError{
		Command: fmt.Sprintf("tinylb %s (%s)", c.Args[1], c.Node().Name()),
		Code:    exit.ExitCode(),
		Stderr:  stderr.String(),
	}
}

// server is a child that stays up.
type server struct {
	*lab.Cmd
	stderr *logTail
	ended  chan struct{}
}

// start starts a server without waiting for it to be ready.
func start(c *lab.Cmd) (*server, error) {
	s := &server{Cmd: c, stderr: newLogTail(), ended: make(chan struct{})}
	c.Stderr = s.stderr
	if err := c.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.ended)
		c.Wait()
	}()
	return s, nil
}

func (s *server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	select {
	case <-s.stderr.ready:
		return nil
	case <-s.ended:
		return exitError(s.Cmd, s.Wait(), s.stderr)
	case <-ctx.Done():
		return fmt.Errorf("waiting for tinylb %s to be ready: %w\n%s", s.Args[1], ctx.Err(), s.stderr)
	}
}

// stop ends the server as Ctrl-C would. How it ends no longer matters.
func (s *server) stop() { s.Stop(os.Interrupt, stopGrace) }

// logTail is the writer of a child's log: it keeps the last lines and tells
// when the child is ready.
type logTail struct {
	ready chan struct{} // closed at the ready line

	mu      sync.Mutex
	partial []byte // a line without its end
	lines   []string
	isReady bool
}

func newLogTail() *logTail { return &logTail{ready: make(chan struct{})} }

// tailLines is enough for an error and the way to it.
const tailLines = 20

func (t *logTail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.partial = append(t.partial, p...)
	for {
		line, rest, found := bytes.Cut(t.partial, []byte("\n"))
		if !found {
			return len(p), nil
		}
		t.add(string(line))
		t.partial = rest
	}
}

func (t *logTail) add(line string) {
	t.lines = append(t.lines, line)
	if len(t.lines) > tailLines {
		t.lines = t.lines[1:]
	}
	if !t.isReady && strings.Contains(line, readyLine) {
		t.isReady = true
		close(t.ready)
	}
}

func (t *logTail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(strings.Join(t.lines, "\n") + "\n" + string(t.partial))
}
