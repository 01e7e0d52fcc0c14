package main

import (
	"log/slog"
	"net"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/demo"
	"github.com/tinylb/tinylb/internal/lb"
)

// newDemoBackendCommand is a backend of the demo and of compose.yaml.
func newDemoBackendCommand(env env) *cobra.Command {
	var backend demo.Backend
	var tunnel string
	cmd := &cobra.Command{
		Use:   "demo-backend",
		Short: "Answer HTTP requests with a name, in plain text",
		Long: `Answer every HTTP request with a name, in plain text, until a signal ends it.

With --decapsulate, also take the packets for it out of tunnels, over IPv4 and
IPv6, as the kernel's tunnel devices do. This needs root and /dev/net/tun, and
the VIP on the loopback interface.`,
		Example: `  tinylb demo-backend --name backend-a --listen 192.17.0.2:80
  tinylb demo-backend --name backend-a --listen 192.17.0.5:80 --decapsulate gue`,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			backend.Tunnel = lb.Forward(tunnel)
			log := slog.New(slog.NewTextHandler(env.stderr, nil))
			return hostErr(backend.Run(ctx, func(address net.Addr) {
				log.Info("ready", "name", backend.Name, "listen", address)
			}))
		},
	}
	cmd.Flags().StringVar(&backend.Name, "name", "backend", "what to answer")
	cmd.Flags().StringVar(&backend.Listen, "listen", ":80", "`address:port` to listen on")
	cmd.Flags().Var(&oneOf{&tunnel, []string{"ipip", "gue"}}, "decapsulate", "take packets out of `tunnels`: ipip or gue")
	cmd.Flags().Uint16Var(&backend.Port, "gue-port", 6080, "port that GUE comes to")
	return cmd
}
