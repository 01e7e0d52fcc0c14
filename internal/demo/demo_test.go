package demo

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/config"
	"github.com/tinylb/tinylb/internal/lab/labtest"
	"github.com/tinylb/tinylb/internal/lb"
)

func TestConfigIsValid(t *testing.T) {
	for _, forward := range lb.Forwards() {
		c, warnings, err := config.Parse([]byte(balancerConfig(Options{Forward: forward, Mode: lb.ModeNative})), config.Options{})
		if err != nil {
			t.Errorf("%s: %v", forward, err)
			continue
		}
		if len(warnings) != 0 {
			t.Errorf("%s: warnings: %v", forward, warnings)
		}
		if c.Mode != lb.ModeNative || len(c.Services) != 1 || c.Services[0].Forward != forward || len(c.Services[0].Backends) != 2 {
			t.Errorf("%s: the config became %+v", forward, c)
		}
	}
}

func TestClientReachesBackends(t *testing.T) {
	n, err := addMachines(labtest.New(t), lb.ForwardNAT)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{DialContext: n.client.DialContext, DisableKeepAlives: true},
	}
	for i, b := range backends() {
		listener, err := n.backends[i].Listen("tcp", b.listen(lb.ForwardNAT))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- Serve(ctx, listener, b.name) }()

		response, err := client.Get("http://" + b.listen(lb.ForwardNAT) + "/some/path")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if got := response.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/plain") {
			t.Errorf("%s answers as %q, want plain text", b.name, got)
		}
		if string(body) != b.name+"\n" {
			t.Errorf("%s answers %q", b.name, body)
		}
		cancel()
		if err := <-served; err != nil {
			t.Errorf("%s stopped with %v", b.name, err)
		}
	}
}

func TestLogTail(t *testing.T) {
	tail := newLogTail()
	for _, part := range []string{"level=INFO msg=star", "ting\nlevel=INFO msg=re"} {
		io.WriteString(tail, part)
		select {
		case <-tail.ready:
			t.Fatalf("ready after %q", part)
		default:
		}
	}
	io.WriteString(tail, "ady services=1\nlevel=INFO msg=ready\n")
	select {
	case <-tail.ready:
	default:
		t.Fatal("the ready line was not seen")
	}
	for range 2 * tailLines {
		io.WriteString(tail, "more\n")
	}
	io.WriteString(tail, "the end")
	lines := strings.Split(tail.String(), "\n")
	if len(lines) != tailLines+1 || lines[tailLines] != "the end" {
		t.Errorf("kept %q, want the last %d lines", lines, tailLines)
	}
}

func TestWriteResult(t *testing.T) {
	ms := time.Millisecond
	tests := []struct {
		name   string
		result Result
		want   []string
	}{
		{"all well", Result{
			Tally:   Tally{Requests: 100, OK: 100, Backends: map[string]int{"backend-b": 75, "backend-a": 25}},
			Latency: Latency{ms / 2, ms, 2 * ms, 10 * ms, 100 * ms},
		}, []string{
			"100 requests: 100 ok, 0 failed",
			"",
			"backend    answers  share",
			"backend-a       25  25.0%  ##########",
			"backend-b       75  75.0%  ##############################",
			"",
			"fastest      p50      p90       p99    slowest",
			"0.50 ms  1.00 ms  2.00 ms  10.00 ms  100.00 ms",
		}},
		{"nobody", Result{
			Tally:  Tally{Requests: 3, Failed: 3},
			Errors: map[string]int{"timeout": 2, "dial: connection refused": 1},
		}, []string{
			"3 requests: 0 ok, 3 failed",
			"  1 x dial: connection refused",
			"  2 x timeout",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var s strings.Builder
			WriteResult(&s, test.result)
			if got := strings.Split(strings.TrimSuffix(s.String(), "\n"), "\n"); !slices.Equal(got, test.want) {
				t.Errorf("printed\n%s\nwant\n%s", s.String(), strings.Join(test.want, "\n"))
			}
		})
	}
}

func TestWriteReasons(t *testing.T) {
	var s strings.Builder
	WriteReasons(&s, []lb.ReasonStatus{
		{Reason: "forwarded", Service: "web", Packets: 1234},
		{Reason: "no-backend", Service: "web"},
		{Reason: "not-a-service", Packets: 7},
	})
	want := `
the data plane  service  packets
forwarded       web         1234
not-a-service                  7
`
	if s.String() != want {
		t.Errorf("printed%swant%s", s.String(), want)
	}
}
