package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/config"
	"github.com/tinylb/tinylb/internal/daemon"
)

func newRunCommand(env env) *cobra.Command {
	var path, pin, logFormat, logLevel string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Balance: load the data plane and keep it up to date",
		Long: `Load the data plane, attach it to the configured interfaces, and keep it up to
date with the config file, the routes and the neighbours, in the foreground.

A changed file or SIGHUP reloads the config; an invalid one is not used.
SIGTERM ends this process and leaves the data plane forwarding: start it again
to take over, or remove everything with "tinylb down". SIGINT (Ctrl-C) ends it
and takes the data plane down.`,
		Example: "  tinylb run -c /etc/tinylb/tinylb.yaml\n  tinylb run -c web.yaml --log-format json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger(env, logFormat, logLevel)
			if err != nil {
				return err
			}
			return runDaemon(cmd.Context(), daemon.Options{ConfigPath: path, PinDir: pin, LocalPorts: localPorts(), Log: log})
		},
	}
	configFlag(cmd, &path)
	pinFlag(cmd, &pin)
	cmd.Flags().StringVar(&logFormat, "log-format", "text", "text or json")
	cmd.Flags().StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

func pinFlag(cmd *cobra.Command, pin *string) {
	cmd.Flags().StringVar(pin, "pin", daemon.DefaultPinDir, "directory on a BPF file system that holds the data plane")
}

func newLogger(env env, format, level string) (*slog.Logger, error) {
	var threshold slog.Level
	if err := threshold.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: expected debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: threshold}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(env.stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(env.stderr, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q: expected text or json", format)
}

// errInterrupted is why the context ends on SIGINT.
var errInterrupted = errors.New("interrupted")

func runDaemon(ctx context.Context, opts daemon.Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals, reload := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	signal.Notify(reload, unix.SIGHUP)
	defer signal.Stop(signals)
	defer signal.Stop(reload)
	go func() {
		select {
		case s := <-signals:
			if s == unix.SIGINT {
				cancel(errInterrupted)
			} else {
				cancel(nil)
			}
		case <-ctx.Done():
		}
	}()
	opts.Reload = reload
	err := daemon.Run(ctx, opts)
	switch {
	case err != nil:
	case errors.Is(context.Cause(ctx), errInterrupted):
		opts.Log.Info("taking the data plane down", "pin", opts.PinDir)
		err = daemon.TakeDown(opts.PinDir)
	default:
		opts.Log.Info("the data plane goes on forwarding; remove it with: tinylb down", "pin", opts.PinDir)
	}
	return classify(err)
}

// classify tells errors of the host from those of the input.
func classify(err error) error {
	if err == nil || errors.As(err, &config.Errors{}) {
		return err
	}
	return hostErr(err)
}
