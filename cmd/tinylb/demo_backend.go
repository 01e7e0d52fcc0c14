package main

import (
	"log/slog"
	"net"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/demo"
)

// newDemoBackendCommand is a backend of the demo and of compose.yaml.
func newDemoBackendCommand(env env) *cobra.Command {
	var name, listen string
	cmd := &cobra.Command{
		Use:     "demo-backend",
		Short:   "Answer HTTP requests with a name, in plain text",
		Long:    "Answer every HTTP request with a name, in plain text, until a signal ends it.",
		Example: "  tinylb demo-backend --name backend-a --listen 192.17.0.2:80",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			listener, err := net.Listen("tcp", listen)
			if err != nil {
				return hostErr(err)
			}
			slog.New(slog.NewTextHandler(env.stderr, nil)).Info("ready", "name", name, "listen", listener.Addr())
			return demo.Serve(ctx, listener, name)
		},
	}
	cmd.Flags().StringVar(&name, "name", "backend", "what to answer")
	cmd.Flags().StringVar(&listen, "listen", ":80", "`address:port` to listen on")
	return cmd
}
