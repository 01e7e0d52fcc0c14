package demo

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

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
