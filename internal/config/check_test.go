package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

func codes(first, last uint32) (s lb.StatusCodes) {
	s.Add(first, last)
	return s
}

func TestCheck(t *testing.T) {
	usual := func(c lb.Check) *lb.Check {
		c.Interval, c.FastInterval, c.Timeout = 2*time.Second, time.Second, time.Second
		c.Jitter, c.Rise, c.Fall = 10, 2, 3
		return &c
	}
	some := codes(200, 200)
	some.Add(301, 302)
	for text, want := range map[string]*lb.Check{
		"type: none":                nil,
		"type: none, path: /health": nil,
		"type: tcp":                 usual(lb.Check{Type: lb.CheckTCP}),
		"type: tcp, port: 8080, interval: 500ms, jitter: 0, rise: 1, fall: 1": {
			Type: lb.CheckTCP, Port: 8080, Interval: 500 * time.Millisecond, FastInterval: 500 * time.Millisecond, Timeout: 500 * time.Millisecond,
			Rise: 1, Fall: 1,
		},
		"type: tcp, interval: 1m, fast_interval: 5s, timeout: 10s": {
			Type: lb.CheckTCP, Interval: time.Minute, FastInterval: 5 * time.Second, Timeout: 10 * time.Second, Jitter: 10, Rise: 2, Fall: 3,
		},
		"type: http": usual(lb.Check{Type: lb.CheckHTTP, Path: "/", Status: codes(200, 399)}),
		"type: http, path: /x?y=1, host: 'www.example.com:8080', status: [200, 301-302], body: '^ok'": usual(lb.Check{
			Type: lb.CheckHTTP, Path: "/x?y=1", Host: "www.example.com:8080", Status: some, Body: "^ok",
		}),
		"type: https, status: 404": usual(lb.Check{Type: lb.CheckHTTPS, Path: "/", Status: codes(404, 404), TLS: lb.TLS{On: true}}),
		"type: https, tls: {server_name: www.example.com, skip_verify: true}": usual(lb.Check{
			Type: lb.CheckHTTPS, Path: "/", Status: codes(200, 399), TLS: lb.TLS{On: true, ServerName: "www.example.com", SkipVerify: true},
		}),
		"type: grpc":                           usual(lb.Check{Type: lb.CheckGRPC}),
		"type: grpc, tls: {}, service: orders": usual(lb.Check{Type: lb.CheckGRPC, TLS: lb.TLS{On: true}, Service: "orders"}),
		`type: udp, send: "ping\n"`:            usual(lb.Check{Type: lb.CheckUDP, Send: "ping\n"}),
		"type: udp, send_hex: 00 fF, expect_hex: 0102": usual(lb.Check{
			Type: lb.CheckUDP, Send: "\x00\xff", Expect: "\x01\x02",
		}),
	} {
		c, warnings := mustParse(t, webService+oneBackend+"    check: {"+text+"}\n")
		if got := c.Services[0].Check; !reflect.DeepEqual(got, want) || len(warnings) > 0 {
			t.Errorf("%s:\ngot  %+v\nwant %+v\nwarnings %v", text, got, want, warnings)
		}
	}
}

func TestStatusCodes(t *testing.T) {
	s := codes(163, 164)
	s.Add(100, 100)
	s.Add(599, 599)
	for code := -1; code < 1000; code++ {
		want := code == 100 || code == 163 || code == 164 || code == 599
		if s.Has(code) != want {
			t.Errorf("%d: %v", code, s.Has(code))
		}
	}
}

// testCA is a certificate, badCertificate is none.
const (
	testCA = `-----BEGIN CERTIFICATE-----
MIIBdjCCARugAwIBAgIUR5/9ecYouFUUM5BgeeZ6R8PV0OEwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEcm9vdDAgFw0yNjExMjUxNjUyMjFaGA8yMTI2MTEwMTE2NTIy
MVowDzENMAsGA1UEAwwEcm9vdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCD4
/MW+sZHaCt9fOCizuyLOfy5tK3cYGlnsdGvtx2NcsLNM9sk3g7wkX6Q8m750ne2O
t7Z3P3xd/nXmOWEPu8ejUzBRMB0GA1UdDgQWBBS8DSoNeYNli7W2gCZuQyLwBccM
yjAfBgNVHSMEGDAWgBS8DSoNeYNli7W2gCZuQyLwBccMyjAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0kAMEYCIQCh/y59wXroafulCYlbdFygfoG1feMwso0t
Ka3QHIV39gIhANt9a2kNrWQDbe6knDU1FsZlecM40DPm61lUmZ/QQShm
-----END CERTIFICATE-----
`
	badCertificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
)

// Certificates are read with the config, from where it is.
func TestCheckCA(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ca.pem", testCA)
	write("empty.pem", "")
	write("bad.pem", badCertificate)
	write("large.pem", strings.Repeat(testCA, 1+maxCertificate/len(testCA)))
	for name, want := range map[string]string{
		"ca.pem":                     "",
		filepath.Join(dir, "ca.pem"): "",
		"none.pem":                   `5:36: ca: cannot read "none.pem": no such file or directory`,
		"empty.pem":                  `5:36: ca: there is no PEM certificate in "empty.pem" (it starts with -----BEGIN CERTIFICATE-----)`,
		"bad.pem":                    `5:36: ca: there is no PEM certificate in "bad.pem" (it starts with -----BEGIN CERTIFICATE-----)`,
		"large.pem":                  `5:36: ca: "large.pem" is larger than 1 MiB`,
	} {
		file := filepath.Join(dir, "tinylb.yaml")
		write("tinylb.yaml", webService+"    check: {type: https, tls: {ca: "+name+"}}\n"+oneBackend)
		c, _, err := Load(file, Options{})
		if got := strings.TrimPrefix(errorText(err), file+":"); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		} else if err == nil && c.Services[0].Check.TLS.Roots != testCA {
			t.Errorf("%s: got %q", name, c.Services[0].Check.TLS.Roots)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
