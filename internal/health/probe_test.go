package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

// short is the timeout of checks that are to end by it, long that of all others.
const short, long = 500 * time.Millisecond, 20 * time.Second

// ask asks once and returns why the backend does not work.
func ask(t *testing.T, check lb.Check, address netip.AddrPort) string {
	t.Helper()
	p, err := newProbe(check)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), check.Timeout)
	defer cancel()
	began := time.Now()
	err = p(ctx, address)
	if took := time.Since(began); took > check.Timeout+5*time.Second {
		t.Errorf("a check with a timeout of %v took %v", check.Timeout, took)
	}
	return cause(err, check.Timeout)
}

// serve accepts connections on loopback and hands each to f, which need not close it.
func serve(t *testing.T, f func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				f(conn)
			}()
		}
	}()
	return addressOf(l.Addr())
}

func addressOf(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }

// closed is where nobody listens.
func closed(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return addressOf(l.Addr())
}

// hang keeps a connection open without a word until the other side has ended it.
func hang(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

func web(t *testing.T, handler http.HandlerFunc) netip.AddrPort {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return addressOf(server.Listener.Addr())
}

func httpCheck() lb.Check {
	c := lb.Check{Type: lb.CheckHTTP, Timeout: long, Path: "/health"}
	c.Status.Add(200, 399)
	return c
}

func TestTCP(t *testing.T) {
	check := lb.Check{Type: lb.CheckTCP, Timeout: long}
	if got := ask(t, check, serve(t, hang)); got != "" {
		t.Error(got)
	}
	if got := ask(t, check, closed(t)); got != "connect: connection refused" {
		t.Error(got)
	}
}

// A connection leaves nothing behind: it ends with a reset.
func TestConnectionsAreReset(t *testing.T) {
	ended := make(chan error, 1)
	address := serve(t, func(conn net.Conn) {
		_, err := io.Copy(io.Discard, conn)
		ended <- err
	})
	if got := ask(t, lb.Check{Type: lb.CheckTCP, Timeout: long}, address); got != "" {
		t.Fatal(got)
	}
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the server's connection ended with %v", err)
	}
}

func TestHTTP(t *testing.T) {
	address := web(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/500":
			w.WriteHeader(http.StatusInternalServerError)
		case "/302":
			http.Redirect(w, r, "/500", http.StatusFound)
		case "/hints":
			w.WriteHeader(http.StatusEarlyHints)
			fmt.Fprint(w, "ok")
		case "/big":
			fmt.Fprint(w, strings.Repeat(".", mostRead), "ok")
		case "/header":
			w.Header().Set("X", strings.Repeat(".", 3*mostRead))
		default:
			fmt.Fprintf(w, "%s %s %s %s close=%v", r.Method, r.Host, r.URL, r.UserAgent(), r.Close)
		}
	})
	for _, test := range []struct {
		name   string
		change func(*lb.Check)
		want   string
	}{
		{"as it is", func(*lb.Check) {}, ""},
		{"what is sent", func(c *lb.Check) { c.Body = "^GET " + address.String() + " /health tinylb-check close=true$" }, ""},
		{"a host", func(c *lb.Check) { c.Host, c.Body = "www.example.com", `^GET www\.example\.com ` }, ""},
		{"another body", func(c *lb.Check) { c.Body = "sorry" }, "the body does not match"},
		{"a query", func(c *lb.Check) { c.Path, c.Body = "/x?y=1", `/x\?y=1` }, ""},
		{"an error", func(c *lb.Check) { c.Path = "/500" }, "status 500"},
		{"an error that is wanted", func(c *lb.Check) { c.Path = "/500"; c.Status.Add(500, 500) }, ""},
		{"redirects are not followed", func(c *lb.Check) { c.Path = "/302" }, ""},
		{"a code that is not wanted", func(c *lb.Check) { c.Status = lb.StatusCodes{}; c.Status.Add(201, 204) }, "status 200"},
		{"an interim response", func(c *lb.Check) { c.Path, c.Body = "/hints", "^ok$" }, ""},
		{"not all of a large body is read", func(c *lb.Check) { c.Path, c.Body = "/big", "ok" }, "the body does not match"},
		{"a large body", func(c *lb.Check) { c.Path, c.Body = "/big", "^[.]" }, ""},
		{"a header without end", func(c *lb.Check) { c.Path = "/header" }, "receive: closed before the answer was complete"},
	} {
		t.Run(test.name, func(t *testing.T) {
			check := httpCheck()
			test.change(&check)
			if got := ask(t, check, address); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestBadWebServers(t *testing.T) {
	say := func(text string) func(net.Conn) {
		return func(conn net.Conn) {
			if _, err := conn.Read(make([]byte, 1024)); err == nil {
				_, _ = io.WriteString(conn, text)
			}
		}
	}
	for _, test := range []struct {
		name    string
		serve   func(net.Conn)
		body    string
		timeout time.Duration
		want    string
	}{
		{"says nothing", hang, "", short, "receive: no answer within 500ms"},
		{"closes", say(""), "", long, "receive: closed before the answer was complete"},
		{"is none", say("220 mail.example.com ESMTP\r\n"), "", long, `receive: malformed HTTP status code "mail.example.com"`},
		{"sends escape sequences", say("\x1b[31m\r\n"), "", long, `receive: malformed HTTP response "\x1b[31m"`},
		{"stops in the header", say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"), "", long, "receive: closed before the answer was complete"},
		{"stops in the body", say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok"), "ok", long, "receive the body: closed before the answer was complete"},
		{"the body does not matter", say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok"), "", long, ""},
		{"never ends the body", func(conn net.Conn) {
			say("HTTP/1.1 200 OK\r\n\r\nok")(conn)
			hang(conn)
		}, "ok", short, "receive the body: no answer within 500ms"},
		{"interim responses without end", say(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 50)), "", long,
			"receive: nothing but interim responses"},
	} {
		t.Run(test.name, func(t *testing.T) {
			check := httpCheck()
			check.Body, check.Timeout = test.body, test.timeout
			if got := ask(t, check, serve(t, test.serve)); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if got := ask(t, httpCheck(), closed(t)); got != "connect: connection refused" {
		t.Error(got)
	}
}

func TestUDP(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		buffer := make([]byte, 1<<16)
		for {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			if string(buffer[:n]) != "silence" {
				_, _ = server.WriteTo(append([]byte("you said: "), buffer[:n]...), from)
			}
		}
	}()
	address := addressOf(server.LocalAddr())
	for _, test := range []struct {
		send, expect string
		timeout      time.Duration
		want         string
	}{
		{"ping", "", long, ""},
		{"ping", "said: ping", long, ""},
		{"\x00\xff", "\x00\xff", long, ""},
		{"ping", "pong", long, "the answer does not contain what is expected"},
		{"silence", "", short, "receive: no answer within 500ms"},
	} {
		got := ask(t, lb.Check{Type: lb.CheckUDP, Timeout: test.timeout, Send: test.send, Expect: test.expect}, address)
		if got != test.want {
			t.Errorf("%q, %q: got %q, want %q", test.send, test.expect, got, test.want)
		}
	}
	if got := ask(t, lb.Check{Type: lb.CheckUDP, Timeout: long, Send: "ping"}, closed(t)); got != "receive: connection refused" {
		t.Errorf("nobody there: %q", got)
	}
}

func TestCause(t *testing.T) {
	for _, test := range []struct {
		err     error
		want    string
		isLocal bool
	}{
		{nil, "", false},
		{during("connect", &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}), "connect: no route to host", false},
		{during("connect", &net.OpError{Op: "dial", Err: syscall.EMFILE}), "connect: too many open files", true},
		{during("connect", &net.OpError{Op: "dial", Err: syscall.EADDRNOTAVAIL}), "connect: cannot assign requested address", true},
		{during("TLS", &net.OpError{Op: "remote error", Source: &net.TCPAddr{Port: 1}, Err: errors.New("tls: bad certificate")}), "TLS: bad certificate", false},
		{during("receive", errors.New("\x1b[31mred\nand more\x7f é")), "receive: ?[31mred?and more? ?", false},
	} {
		if got := cause(test.err, time.Second); got != test.want || isLocal(test.err) != test.isLocal {
			t.Errorf("%v: %q, local %v", test.err, got, isLocal(test.err))
		}
	}
}
