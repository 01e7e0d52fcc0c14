package main

import (
	"context"
	"fmt"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/demo"
)

// newDemoClientCommand is the client of the demo and of compose.yaml.
func newDemoClientCommand(env env) *cobra.Command {
	var load demo.Load
	var every time.Duration
	var output string
	cmd := &cobra.Command{
		Use:   "demo-client",
		Short: "Send HTTP requests and show who answered",
		Long: `Send HTTP requests, each over a connection of its own, and show who answered and
how fast. With --every, send one in each interval until a signal ends it.`,
		Example: "  tinylb demo-client --url http://192.17.0.5/ --requests 1000\n  tinylb demo-client --url http://192.17.0.5/ --every 1s",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			if every > 0 {
				return requestEvery(ctx, env, load, every)
			}
			return request(ctx, env, load, output)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&load.URL, "url", demo.URL, "what to request")
	flags.IntVar(&load.Requests, "requests", 100, "how many to send")
	flags.IntVar(&load.Concurrency, "concurrency", demoConcurrency, "how many may be under way at once")
	flags.DurationVar(&load.Timeout, "timeout", demoTimeout, "of one request")
	flags.DurationVar(&load.Wait, "wait", 0, "how long to wait for a first answer, before anything counts")
	flags.DurationVar(&every, "every", 0, "send one request in each such interval")
	outputFlag(cmd, &output)
	return cmd
}

func request(ctx context.Context, env env, load demo.Load, output string) error {
	result, err := load.Run(ctx)
	if err != nil {
		return err
	}
	if output == "json" {
		if err := printJSON(env.stdout, result); err != nil {
			return err
		}
	} else {
		demo.WriteResult(env.stdout, result)
	}
	return failedRequests(result)
}

// requestEvery prints a line per request.
func requestEvery(ctx context.Context, env env, load demo.Load, interval time.Duration) error {
	load.Requests, load.Concurrency = 1, 1
	next := time.NewTicker(interval)
	defer next.Stop()
	for {
		result, err := load.Run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for name := range result.Backends {
			fmt.Fprintf(env.stdout, "%s answered in %s\n", name, result.Latency.Max.Round(time.Microsecond))
		}
		for cause := range result.Errors {
			fmt.Fprintf(env.stdout, "no answer: %s\n", cause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
	}
}
