package health

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"sync"

	"github.com/tinylb/tinylb/internal/lb"
)

const userAgent = "tinylb-check"

// httpProbe asks for a path. http.Client would do, but takes several times as long for
// a connection with one request: it is made to keep connections.
type httpProbe struct {
	check   lb.Check
	tls     *tls.Config // nil: none is spoken
	body    *regexp.Regexp
	readers sync.Pool
}

func newHTTPProbe(check lb.Check) (probe, error) {
	p := &httpProbe{check: check, readers: sync.Pool{New: func() any { return bufio.NewReader(nil) }}}
	var err error
	if check.Type == lb.CheckHTTPS {
		if p.tls, err = tlsConfig(check, "http/1.1"); err != nil {
			return nil, err
		}
	}
	if check.Body != "" {
		if p.body, err = regexp.Compile(check.Body); err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
	}
	return p.ask, nil
}

func (p *httpProbe) ask(ctx context.Context, address netip.AddrPort) error {
	tcp, err := dial(ctx, address)
	if err != nil {
		return err
	}
	defer tcp.Close()
	conn := tcp
	if p.tls != nil {
		if conn, err = handshake(ctx, tcp, p.tls, address); err != nil {
			return err
		}
	}
	if _, err := conn.Write(p.request(address)); err != nil {
		return during("send", err)
	}
	reader := p.readers.Get().(*bufio.Reader)
	defer p.readers.Put(reader)
	reader.Reset(io.LimitReader(conn, 2*mostRead)) // header and body
	return p.judge(reader)
}

func (p *httpProbe) request(address netip.AddrPort) []byte {
	host := p.check.Host
	if host == "" {
		host = address.String()
	}
	return []byte("GET " + p.check.Path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: " + userAgent +
		"\r\nAccept: */*\r\nConnection: close\r\n\r\n")
}

func (p *httpProbe) judge(reader *bufio.Reader) error {
	response, err := readResponse(reader)
	if err != nil {
		return during("receive", err)
	}
	if !p.check.Status.Has(response.StatusCode) {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	if p.body == nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, mostRead))
	if err != nil {
		return during("receive the body", err)
	}
	if !p.body.Match(body) {
		return errors.New("the body does not match")
	}
	return nil
}

// readResponse passes over interim responses (RFC 9110, 15.2), which come to nothing.
func readResponse(reader *bufio.Reader) (*http.Response, error) {
	const mostInterim = 5
	for range mostInterim {
		response, err := http.ReadResponse(reader, nil)
		if err != nil || response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			return response, err
		}
	}
	return nil, errors.New("nothing but interim responses")
}

// tlsConfig lacks a server name where the check names none.
func tlsConfig(check lb.Check, protocol string) (*tls.Config, error) {
	config := &tls.Config{
		ServerName:         check.TLS.ServerName,
		InsecureSkipVerify: check.TLS.SkipVerify,
		NextProtos:         []string{protocol},
	}
	if host := hostName(check.Host); config.ServerName == "" {
		config.ServerName = host
	}
	if check.TLS.Roots != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(check.TLS.Roots)) {
			return nil, errors.New("tls.ca: no certificate in it")
		}
	}
	return config, nil
}

// hostName is a host without its port.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

func handshake(ctx context.Context, conn net.Conn, config *tls.Config, address netip.AddrPort) (*tls.Conn, error) {
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = address.Addr().String()
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, during("TLS", err)
	}
	return secured, nil
}
