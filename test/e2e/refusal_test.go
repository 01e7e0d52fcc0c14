package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/test/testnet"
)

// tinylb's exit codes.
const (
	exitInput = 1 // the input or the request was wrong
	exitHost  = 2 // the host or the kernel refused
)

// mustFail runs a command that must end by itself with this exit code and an
// error that has all these texts.
func (n *network) mustFail(c *lab.Cmd, code int, texts ...string) {
	n.t.Helper()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Start(); err != nil {
		n.t.Fatal(err)
	}
	defer time.AfterFunc(testnet.DaemonWait, func() { c.Signal(os.Kill) }).Stop()
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) || exit.ExitCode() != code {
		n.t.Errorf("%v, want exit code %d; it printed\n%s", err, code, &stderr)
	}
	for _, text := range texts {
		if !strings.Contains(stderr.String(), text) {
			n.t.Errorf("%q is missing in\n%s", text, &stderr)
		}
	}
	if stdout.Len() > 0 {
		n.t.Errorf("printed on standard output: %s", &stdout)
	}
}
