package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestLoadCountsWhoAnswered(t *testing.T) {
	var served atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch served.Add(1) % 4 {
		case 0:
			http.Error(w, "not now", http.StatusServiceUnavailable)
		case 1:
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case 2:
			fmt.Fprint(w, "backend-a\nand more")
		case 3:
			fmt.Fprint(w, " backend\x1b-b ")
		}
	}))
	defer server.Close()

	r, err := Load{URL: server.URL, Requests: 40, Concurrency: 7, Timeout: 5 * time.Second}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := Tally{Requests: 40, OK: 20, Failed: 20, Backends: map[string]int{"backend-a": 10, "backend-b": 10}}
	if !reflect.DeepEqual(r.Tally, want) {
		t.Errorf("got %+v, want %+v", r.Tally, want)
	}
	wantErrors := map[string]int{"HTTP status 503 Service Unavailable": 10, "HTTP status 302 Found": 10}
	if !reflect.DeepEqual(r.Errors, wantErrors) {
		t.Errorf("errors %v, want %v", r.Errors, wantErrors)
	}
	if l := r.Latency; l.Min <= 0 || l.Min > l.P50 || l.P50 > l.P90 || l.P90 > l.P99 || l.P99 > l.Max {
		t.Errorf("latency %+v is not in order", l)
	}
}

func TestLoadUsesFreshConnections(t *testing.T) {
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "backend")
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()

	if _, err := (Load{URL: server.URL, Requests: 25, Concurrency: 2, Timeout: 5 * time.Second}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := connections.Load(); got != 25 {
		t.Errorf("25 requests used %d connections", got)
	}
}

func TestLoadNamesFailures(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // never accepts
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	nameless := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer nameless.Close()

	tests := []struct{ name, url, want string }{
		{"timeout", "http://" + silent.Addr().String(), "timeout"},
		{"refused", closed.URL, "dial: connect: connection refused"},
		{"no name", nameless.URL, "the answer carries no name"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := Load{URL: test.url, Requests: 3, Concurrency: 3, Timeout: 200 * time.Millisecond}.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if r.Failed != 3 || len(r.Errors) != 1 {
				t.Fatalf("got %+v, want 3 failures of one kind", r)
			}
			for got := range r.Errors {
				if !strings.HasSuffix(got, test.want) {
					t.Errorf("the cause is %q, want %q", got, test.want)
				}
			}
		})
	}
}

func TestLoadWaits(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "backend")
	}))
	defer server.Close()

	load := Load{URL: server.URL, Requests: 2, Concurrency: 1, Timeout: time.Second, Wait: 10 * time.Second}
	r, err := load.Run(t.Context())
	if err != nil || r.OK != 2 {
		t.Errorf("got %+v, %v; want 2 answers", r, err)
	}

	load.URL += "\x00"
	load.Wait = time.Millisecond
	if _, err := load.Run(t.Context()); err == nil {
		t.Error("a service that never answers was waited for with success")
	}
}

func TestLoadEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	load := Load{URL: server.URL, Requests: 1000, Concurrency: 2, Timeout: time.Minute}
	if _, err := load.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestLoadRefusesNonsense(t *testing.T) {
	good := Load{URL: "http://127.0.0.1/", Requests: 1, Concurrency: 1, Timeout: time.Second}
	tests := map[string]func(*Load){
		"no requests":   func(l *Load) { l.Requests = 0 },
		"too many":      func(l *Load) { l.Requests = MaxRequests + 1 },
		"nobody asks":   func(l *Load) { l.Concurrency = 0 },
		"all at once":   func(l *Load) { l.Concurrency = MaxConcurrency + 1 },
		"no time":       func(l *Load) { l.Timeout = 0 },
		"negative time": func(l *Load) { l.Timeout = -1 },
	}
	for name, spoil := range tests {
		load := good
		spoil(&load)
		if _, err := load.Run(t.Context()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSpread(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	tests := []struct {
		took []time.Duration
		want Latency
	}{
		{nil, Latency{}},
		{[]time.Duration{7}, Latency{7, 7, 7, 7, 7}},
		{[]time.Duration{1, 2, 3}, Latency{1, 2, 3, 3, 3}},
		{hundred, Latency{1, 50, 90, 99, 100}},
	}
	for _, test := range tests {
		if got := spread(test.took); got != test.want {
			t.Errorf("spread of %d times = %v, want %v", len(test.took), got, test.want)
		}
	}
}
