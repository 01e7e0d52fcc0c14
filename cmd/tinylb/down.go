package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/daemon"
)

// downWait is how long a running daemon may take to end.
const downWait = 10 * time.Second

func newDownCommand(env env) *cobra.Command {
	var pin string
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove everything that tinylb put into the kernel",
		Long: `Detach the data plane from every interface and remove its programs, maps and
flows. A daemon that is still running is ended first. Connections through
tinylb break; the rest of the host is not touched.`,
		Example: "  tinylb down",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := endDaemon(cmd.Context(), pin); err != nil {
				return hostErr(err)
			}
			return hostErr(daemon.TakeDown(pin))
		},
	}
	pinFlag(cmd, &pin)
	return cmd
}

// endDaemon asks the daemon that serves pin to end, and waits until it has.
func endDaemon(ctx context.Context, pin string) error {
	ctx, cancel := context.WithTimeout(ctx, downWait)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	asked := 0
	for {
		pid, err := daemon.Running(pin)
		if err != nil || pid == 0 {
			return err
		}
		if pid != asked {
			if err := unix.Kill(pid, unix.SIGTERM); err != nil {
				return fmt.Errorf("end the daemon (pid %d): %w", pid, err)
			}
			asked = pid
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the daemon (pid %d) did not end within %s; end it with: kill -9 %d", pid, downWait, pid)
		case <-poll.C:
		}
	}
}
