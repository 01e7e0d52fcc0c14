package demo

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
)

// Backend is a machine that answers HTTP requests with its name.
type Backend struct {
	Name   string
	Listen string     // address:port
	Tunnel lb.Forward // lb.ForwardIPIP or lb.ForwardGUE: takes packets out of such tunnels; "" does not
	Port   uint16     // of GUE
}

// Run serves until the context ends. It calls ready when it can be asked.
func (b Backend) Run(ctx context.Context, ready func(net.Addr)) error {
	group, ctx := errgroup.WithContext(ctx)
	if b.Tunnel != "" {
		decapsulator, err := lab.NewDecapsulator(b.Tunnel, b.Port)
		if err != nil {
			return err
		}
		group.Go(func() error { return decapsulator.Run(ctx) })
	}
	group.Go(func() error {
		listener, err := net.Listen("tcp", b.Listen)
		if err != nil {
			return err
		}
		ready(listener.Addr())
		return Serve(ctx, listener, b.Name)
	})
	return group.Wait()
}

// Serve answers every HTTP request on the listener with the name, in plain
// text, until the context ends.
func Serve(ctx context.Context, listener net.Listener, name string) error {
	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      5 * time.Second,
		IdleTimeout:       time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			io.WriteString(w, name+"\n")
		}),
	}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
