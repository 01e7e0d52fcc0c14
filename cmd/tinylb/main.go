// Command tinylb is a layer-4 load balancer for Linux.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/tinylb/tinylb/internal/config"
)

// env is what a command gets from outside, so that tests can run it in-process.
type env struct {
	args           []string // without the program's name
	stdin          io.Reader
	stdout, stderr io.Writer
}

func main() {
	os.Exit(run(context.Background(), env{os.Args[1:], os.Stdin, os.Stdout, os.Stderr}))
}

// Exit codes.
const (
	exitDone  = 0
	exitInput = 1 // the input or the request was wrong
	exitHost  = 2 // the host or the kernel refused
)

// run executes one command line and returns the exit code.
func run(ctx context.Context, env env) int {
	return report(env.stderr, newRootCommand(env).ExecuteContext(ctx))
}

// report prints err, once, and returns its exit code.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	var configErrors config.Errors
	switch {
	case errors.Is(err, errReported):
	case errors.As(err, &configErrors):
		fmt.Fprintln(stderr, configErrors)
	default:
		fmt.Fprintf(stderr, "tinylb: %v\n", err)
	}
	if !errors.As(err, &hostError{}) {
		return exitInput
	}
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		fmt.Fprintln(stderr, "tinylb: this needs root")
	}
	return exitHost
}

// errReported ends a command that has already said what is wrong.
var errReported = errors.New("already reported")

// hostError is an error that is not the user's: the host or the kernel refused.
type hostError struct{ error }

func (e hostError) Unwrap() error { return e.error }

// hostErr makes err, unless it is nil, end the program with exit code 2.
func hostErr(err error) error {
	if err == nil {
		return nil
	}
	return hostError{err}
}
