package health

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.key = newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	a.cert = a.sign(template, template, a.key)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// issue makes a certificate for a name and an address, valid until then.
func (a *authority) issue(name string, address net.IP, until time.Time) tls.Certificate {
	key := newKey(a.t)
	cert := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{address},
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until,
	}, a.cert, key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// secureWeb answers with the server name that it was asked for.
func secureWeb(t *testing.T, cert tls.Certificate) netip.AddrPort {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "SNI=%s %s %s", r.TLS.ServerName, r.Proto, r.Host)
	}))
	server.Config.ErrorLog = nowhere()
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return addressOf(server.Listener.Addr())
}

func TestHTTPS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	valid := time.Now().Add(time.Hour)
	loopback := net.IPv4(127, 0, 0, 1)
	good := secureWeb(t, ours.issue("www.example.com", loopback, valid))
	elsewhere := secureWeb(t, ours.issue("www.example.com", net.IPv4(192, 0, 2, 1), valid))
	ended := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	expired := secureWeb(t, ours.issue("www.example.com", loopback, ended))
	plain := web(t, func(http.ResponseWriter, *http.Request) {})

	for _, test := range []struct {
		name    string
		address netip.AddrPort
		change  func(*lb.Check)
		want    string
	}{
		{"by address", good, func(c *lb.Check) { c.Body = "^SNI= HTTP/1.1 127.0.0.1:" }, ""},
		{"by name", good, func(c *lb.Check) { c.TLS.ServerName, c.Body = "www.example.com", "^SNI=www.example.com HTTP/1.1 127" }, ""},
		{"by the host", good, func(c *lb.Check) {
			c.Host, c.Body = "www.example.com:8443", "^SNI=www.example.com HTTP/1.1 www.example.com:8443$"
		}, ""},
		{"another name", good, func(c *lb.Check) { c.TLS.ServerName = "www.example.org" }, "TLS: the certificate is not valid for www.example.org"},
		{"another address", elsewhere, func(*lb.Check) {}, "TLS: the certificate is not valid for 127.0.0.1"},
		{"expired", expired, func(*lb.Check) {}, "TLS: the certificate is valid from 2020-02-01 04:05:06Z to 2020-02-03 04:05:06Z"},
		{"of another authority", good, func(c *lb.Check) { c.TLS.Roots = theirs.pem() }, "TLS: the certificate is signed by an unknown authority"},
		{"of two authorities", good, func(c *lb.Check) { c.TLS.Roots = theirs.pem() + ours.pem() }, ""},
		{"the host's authorities", good, func(c *lb.Check) { c.TLS.Roots = "" }, "TLS: the certificate is signed by an unknown authority"},
		{"not verified", expired, func(c *lb.Check) {
			c.TLS = lb.TLS{On: true, SkipVerify: true, ServerName: "www.example.org"}
			c.Body = "^SNI=www.example.org "
		}, ""},
		{"no TLS", plain, func(*lb.Check) {}, "TLS: first record does not look like a TLS handshake"},
		{"says nothing", serve(t, hang), func(c *lb.Check) { c.Timeout = short }, "TLS: no answer within 500ms"},
		{"closes", serve(t, func(net.Conn) {}), func(*lb.Check) {}, "TLS: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			check := httpCheck()
			check.Type, check.TLS = lb.CheckHTTPS, lb.TLS{On: true, Roots: ours.pem()}
			test.change(&check)
			got := ask(t, check, test.address)
			if closes := test.want == "TLS: "; got != test.want && !(closes && strings.HasPrefix(got, test.want)) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestBadRoots(t *testing.T) {
	for _, kind := range []lb.CheckType{lb.CheckHTTPS, lb.CheckGRPC} {
		if _, err := newProbe(lb.Check{Type: kind, TLS: lb.TLS{On: true, Roots: "none"}}); err == nil {
			t.Errorf("%s: no certificates were accepted", kind)
		}
	}
}
