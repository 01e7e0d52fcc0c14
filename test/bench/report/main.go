// The command report runs the benchmarks of test/bench: `report write` makes
// docs/performance.md of them, `report check` says which goals are met. It is
// run from the top of the repository; flags after the command's own are go test's.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const usage = "usage: report write|check [-from FILE] [-docs DIR] [-notes FILE] [-go PROGRAM] [-- FLAGS OF go test]"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	from, docs, notes string
	suite             suite
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(progress)
	o := options{suite: suite{progress: progress}}
	flags.StringVar(&o.from, "from", "", "read the output of go test -bench from this file, measure nothing")
	flags.StringVar(&o.docs, "docs", "docs", "where the report is written")
	flags.StringVar(&o.notes, "notes", "test/bench/report/notes.md", "the end of the report, written by hand")
	flags.StringVar(&o.suite.goTool, "go", "go", "the go command")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	o.suite.flags = flags.Args()
	if o.from == "" && os.Geteuid() != 0 {
		return errors.New("the benchmarks load BPF programs: run them as root")
	}
	switch args[0] {
	case "write":
		return o.write(ctx)
	case "check":
		return o.check(ctx, out)
	}
	return errors.New(usage)
}

// check measures a goal that was missed twice more: the median of three counts.
func (o options) check(ctx context.Context, out io.Writer) error {
	first, failed := o.firstRun(ctx)
	runs := []results{first}
	again := missed(judge(goals(), first))
	for range 2 {
		if o.from != "" || len(again) == 0 || ctx.Err() != nil {
			break
		}
		fmt.Fprintf(o.suite.progress, "once more: %d goals that were missed\n", len(again))
		r, err := o.suite.measure(ctx, pattern(again))
		runs, failed = append(runs, r), errors.Join(failed, err)
	}
	n, err := printOutcomes(out, rejudge(first, again, runs))
	if failed = errors.Join(failed, err); failed != nil {
		return failed
	}
	if n > 0 {
		return fmt.Errorf("%d of %d goals are not met", n, len(goals()))
	}
	return nil
}

// rejudge counts the later runs only for the goals that they were made for: another's
// benchmark may have run along, and its first figure has been judged.
func rejudge(first results, again []goal, runs []results) []outcome {
	repeated := map[goal]bool{}
	for _, g := range again {
		repeated[g] = true
	}
	outcomes := judge(goals(), first)
	for i, o := range outcomes {
		if repeated[o.goal] {
			outcomes[i] = judge([]goal{o.goal}, runs...)[0]
		}
	}
	return outcomes
}

func (o options) firstRun(ctx context.Context) (results, error) {
	if o.from == "" {
		return o.suite.measure(ctx, ".")
	}
	raw, err := os.ReadFile(o.from)
	if err != nil {
		return results{}, err
	}
	return parse(bytes.NewReader(raw), o.from)
}

// write keeps the raw output of a run that failed, but makes no report of it.
func (o options) write(ctx context.Context) error {
	growing := filepath.Join(o.docs, "performance.txt.new")
	raw, err := o.rawOutput(ctx, growing)
	if err != nil {
		return err
	}
	r, err := parse(bytes.NewReader(raw), growing)
	if err != nil {
		return err
	}
	notes, err := os.ReadFile(o.notes)
	if err != nil {
		return err
	}
	files := charts(r)
	files["performance.txt"] = string(raw)
	files["performance.md"] = page(r, string(notes))
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(o.docs, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if o.from != "" {
		return nil
	}
	return os.Remove(growing)
}

// rawOutput has the machine's description at its head. It is in a file while it
// grows, so that an hour's work outlives what may go wrong.
func (o options) rawOutput(ctx context.Context, path string) ([]byte, error) {
	if o.from != "" {
		return os.ReadFile(o.from)
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for _, s := range machine(ctx, o.suite.goTool, o.suite.command()) {
		if _, err := fmt.Fprintf(file, "%s: %s\n", s.key, s.value); err != nil {
			return nil, err
		}
	}
	if err := o.suite.run(ctx, ".", file); err != nil {
		return nil, fmt.Errorf("%w; what was measured is in %s", err, path)
	}
	return os.ReadFile(path)
}
