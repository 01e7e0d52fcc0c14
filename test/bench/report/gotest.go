package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// suite runs the benchmarks.
type suite struct {
	goTool   string
	flags    []string // of go test, besides which benchmarks
	progress io.Writer
}

// arguments are those of the go command. The package stands before the flags, for the test's own among them.
func (s suite) arguments(pattern string) []string {
	return append([]string{"test", "./test/bench", "-run", "^$", "-bench", pattern, "-timeout", "0"}, s.flags...)
}

// command is one for a shell to repeat.
func (s suite) command() string {
	line := "go"
	for _, arg := range s.arguments(".") {
		if strings.ContainsAny(arg, "^$|* ") {
			arg = "'" + arg + "'"
		}
		line += " " + arg
	}
	return line
}

// run copies each line to the progress, with the time, and to raw. A benchmark
// that failed is an error; the others are in raw even so.
func (s suite) run(ctx context.Context, pattern string, raw io.Writer) error {
	cmd := exec.CommandContext(ctx, s.goTool, s.arguments(pattern)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute // for what the benchmarks have to remove
	cmd.Stderr = s.progress
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run the benchmarks: %w", err)
	}
	copied := s.follow(out, raw)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("run the benchmarks: %w (see above)", err)
	}
	return copied
}

func (s suite) follow(out io.Reader, raw io.Writer) error {
	start := time.Now()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		elapsed := time.Since(start).Round(time.Second)
		fmt.Fprintf(s.progress, "%7s  %s\n", elapsed, lines.Text())
		if _, err := fmt.Fprintln(raw, lines.Text()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// measure runs some benchmarks and reads what they say.
func (s suite) measure(ctx context.Context, pattern string) (results, error) {
	var raw bytes.Buffer
	failed := s.run(ctx, pattern, &raw)
	r, err := parse(&raw, "go test")
	return r, errors.Join(failed, err)
}
