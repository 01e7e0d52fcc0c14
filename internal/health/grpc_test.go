package health

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

func nowhere() *log.Logger { return log.New(io.Discard, "", 0) }

// grpcServer serves over HTTP/2, without TLS unless there is a certificate. ended
// receives the state of connections that have ended.
func grpcServer(t *testing.T, handler http.HandlerFunc, cert *tls.Certificate) (address netip.AddrPort, ended chan struct{}) {
	t.Helper()
	ended = make(chan struct{}, 100)
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = nowhere()
	server.Config.Protocols = new(http.Protocols)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			ended <- struct{}{}
		}
	}
	if cert == nil {
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
	} else {
		server.Config.Protocols.SetHTTP2(true)
		server.EnableHTTP2 = true
		server.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
		server.StartTLS()
	}
	t.Cleanup(server.Close)
	return addressOf(server.Listener.Addr()), ended
}

// healthService answers as grpc-go's health server does: with a status by the name of
// the service, and with gRPC status NOT_FOUND for one that it does not know.
func healthService(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.URL.Path != "/grpc.health.v1.Health/Check" || r.Method != http.MethodPost || r.ProtoMajor != 2 ||
		r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("Te") != "trailers" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	answers := map[string]string{
		"\x00\x00\x00\x00\x00":                "\x00\x00\x00\x00\x02\x08\x01",
		"\x00\x00\x00\x00\x06\x0a\x04down":    "\x00\x00\x00\x00\x02\x08\x02",
		"\x00\x00\x00\x00\x09\x0a\x07unknown": "\x00\x00\x00\x00\x00",
		"\x00\x00\x00\x00\x07\x0a\x05other":   "\x00\x00\x00\x00\x03\x08\x80\x01",
		"\x00\x00\x00\x00\x05\x0a\x03cut":     "\x00\x00\x00\x00\x03\x08",
		"\x00\x00\x00\x00\x08\x0a\x06packed":  "\x01\x00\x00\x00\x02\x08\x01",
		"\x00\x00\x00\x00\x06\x0a\x04type":    "\x00\x00\x00\x00\x02\x0a\x00",
		"\x00\x00\x00\x00\x06\x0a\x04host":    "\x00\x00\x00\x00\x02\x08\x01",
	}
	answer, known := answers[string(body)]
	w.Header().Set("Content-Type", "application/grpc")
	if !known || r.Host == "www.example.com" != (string(body[5:]) == "\x0a\x04host") {
		w.Header().Set("Grpc-Status", "5") // trailers only
		return
	}
	w.Header().Set("Trailer", "Grpc-Status")
	_, _ = io.WriteString(w, answer)
	w.Header().Set("Grpc-Status", "0")
}

func TestGRPC(t *testing.T) {
	address, ended := grpcServer(t, healthService, nil)
	for service, want := range map[string]string{
		"":        "",
		"down":    "NOT_SERVING",
		"unknown": "UNKNOWN",
		"other":   "serving status 128",
		"none":    "gRPC status 5",
		"cut":     "the answer is no HealthCheckResponse",
		"packed":  "the answer is no HealthCheckResponse",
		"type":    "the answer is no HealthCheckResponse",
	} {
		if got := ask(t, lb.Check{Type: lb.CheckGRPC, Timeout: long, Service: service}, address); got != want {
			t.Errorf("%q: got %q, want %q", service, got, want)
		}
		select {
		case <-ended:
		case <-time.After(long):
			t.Fatalf("%q: the connection stays open", service)
		}
	}
	if got := ask(t, lb.Check{Type: lb.CheckGRPC, Timeout: long, Service: "host", Host: "www.example.com"}, address); got != "" {
		t.Errorf("with a host: %q", got)
	}
}

func TestGRPCWithTLS(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue("www.example.com", net.IPv4(127, 0, 0, 1), time.Now().Add(time.Hour))
	address, _ := grpcServer(t, healthService, &cert)
	for name, want := range map[string]string{
		"":                "",
		"www.example.com": "",
		"www.example.org": "TLS: the certificate is not valid for www.example.org",
	} {
		check := lb.Check{Type: lb.CheckGRPC, Timeout: long, TLS: lb.TLS{On: true, Roots: ca.pem(), ServerName: name}}
		if got := ask(t, check, address); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestNoGRPC(t *testing.T) {
	notFound, _ := grpcServer(t, http.NotFound, nil)
	endless, _ := grpcServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, nil)
	for _, test := range []struct {
		name    string
		address netip.AddrPort
		timeout time.Duration
		want    string
	}{
		{"no gRPC", notFound, long, "status 404"},
		{"no end", endless, short, "receive: no answer within 500ms"},
		{"nobody there", closed(t), long, "connect: connection refused"},
		{"closes", serve(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1024)) }), long, "receive: closed before the answer was complete"},
		{"HTTP/1", web(t, func(http.ResponseWriter, *http.Request) {}), long, "receive: the backend does not speak HTTP/2"},
		{"says nothing", serve(t, hang), short, "receive: no answer within 500ms"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := ask(t, lb.Check{Type: lb.CheckGRPC, Timeout: test.timeout}, test.address); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	check := lb.Check{Type: lb.CheckGRPC, Timeout: long}
	ca := newAuthority(t)
	cert := ca.issue("www.example.com", net.IPv4(127, 0, 0, 1), time.Now().Add(time.Hour))
	server := httptest.NewUnstartedServer(http.HandlerFunc(healthService))
	server.Config.ErrorLog = nowhere()
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	defer server.Close()
	check.TLS = lb.TLS{On: true, Roots: ca.pem()}
	if got := ask(t, check, addressOf(server.Listener.Addr())); got != "TLS: no application protocol" {
		t.Errorf("HTTP/1 over TLS: %q", got)
	}
	old := serve(t, func(conn net.Conn) {
		secured := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
		if _, err := secured.Read(make([]byte, 1024)); err == nil {
			_, _ = io.WriteString(secured, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	if got := ask(t, check, old); got != "the backend does not speak HTTP/2" {
		t.Errorf("TLS that does not negotiate: %q", got)
	}
}
