package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/daemon"
	"github.com/tinylb/tinylb/internal/demo"
	"github.com/tinylb/tinylb/internal/lb"
)

// The demo's load, but for the number of requests.
const (
	demoConcurrency = 8
	demoTimeout     = 5 * time.Second
)

type demoFlags struct {
	requests              int
	forward, mode, output string
	interactive           bool
}

func newDemoCommand(env env) *cobra.Command {
	flags := demoFlags{forward: string(lb.ForwardNAT), mode: string(lb.ModeNative)}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show real requests through the balancer, in network namespaces",
		Long: `Build the tutorial's topology in network namespaces: a client, the balancer and
two backends on one bridge. Send HTTP requests from the client to the balancer,
each over a connection of its own, and show who answered, how fast, and what
the data plane counted. Nothing of it appears in the host's own network, and
everything is removed at the end.

With --forward dsr, ipip or gue the backends have the VIP, too, and answer the
client directly; with ipip and gue they take the packets out of the tunnels.
With dnat the balancer rewrites the source as well, because client and backends
share a link, on which answers to the client would not pass the balancer.`,
		Example: "  sudo tinylb demo\n  sudo tinylb demo --interactive --forward gue\n  sudo tinylb demo --requests 1000 --mode generic -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), env, flags)
		},
	}
	cmd.Flags().IntVar(&flags.requests, "requests", 100, "HTTP requests to send")
	cmd.Flags().Var(&oneOf{&flags.forward, []string{"nat", "dnat", "dsr", "ipip", "gue"}}, "forward",
		"`how` packets reach the backends: nat, dnat, dsr, ipip or gue")
	cmd.Flags().Var(&oneOf{&flags.mode, []string{"native", "generic"}}, "mode", "`where` the XDP program runs: native or generic")
	cmd.Flags().BoolVar(&flags.interactive, "interactive", false, "leave everything standing until Ctrl-C")
	outputFlag(cmd, &flags.output)
	return cmd
}

func (f demoFlags) load() demo.Load {
	return demo.Load{URL: demo.URL, Requests: f.requests, Concurrency: demoConcurrency, Timeout: demoTimeout}
}

func (f demoFlags) validate() error {
	if f.interactive && f.output == "json" {
		return errors.New("--interactive prints commands to look around with: leave out -o json")
	}
	return f.load().Validate()
}

func runDemo(ctx context.Context, env env, flags demoFlags) error {
	if err := flags.validate(); err != nil {
		return err
	}
	// Nothing may stay behind, also when the terminal is closed or the reader
	// of the output goes away.
	ctx, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
	defer stop()

	options := demo.Options{
		Forward:  lb.Forward(flags.forward),
		Mode:     lb.Mode(flags.mode),
		Binary:   "/proc/self/exe",
		BPFFS:    filepath.Dir(daemon.DefaultPinDir),
		Progress: progress(env.stderr),
	}
	var result demo.Result
	err := demo.Run(ctx, options, func(d *demo.Demo) (err error) {
		result, err = showDemo(ctx, env, flags, d)
		return err
	})
	if err != nil {
		return classifyDemo(err)
	}
	return failedRequests(result)
}

// showDemo sends the requests and prints what they brought.
func showDemo(ctx context.Context, env env, flags demoFlags, d *demo.Demo) (demo.Result, error) {
	result, err := d.Request(ctx, flags.load())
	if err != nil {
		return result, err
	}
	if flags.output == "json" {
		return result, printJSON(env.stdout, result.Tally)
	}
	reasons, err := d.Reasons(ctx)
	if err != nil {
		return result, err
	}
	demo.WriteResult(env.stdout, result)
	demo.WriteReasons(env.stdout, reasons)
	if flags.interactive {
		d.WriteGuide(env.stdout, programPath())
		<-ctx.Done()
	}
	return result, nil
}

func programPath() string {
	path, err := os.Executable()
	if err != nil {
		return "tinylb"
	}
	return path
}

// classifyDemo tells what the host refused, to this process or to the balancer.
func classifyDemo(err error) error {
	if errors.Is(err, context.Canceled) {
		return errInterrupted
	}
	if child := new(demo.ExitError); errors.As(err, &child) && child.Code != exitHost {
		return err
	}
	return hostErr(err)
}

func failedRequests(r demo.Result) error {
	if r.Failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d requests failed", r.Failed, r.Requests)
}

// progress tells a person at a terminal what is being done.
func progress(out io.Writer) func(string) {
	file, ok := out.(*os.File)
	if !ok {
		return func(string) {}
	}
	if _, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS); err != nil {
		return func(string) {}
	}
	return func(step string) { fmt.Fprintln(file, step+" ...") }
}
