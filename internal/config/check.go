package config

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
)

const (
	minCheckTime, maxCheckTime = 100 * time.Millisecond, time.Hour

	// usualCheckTime is how long a check may take, and the faster interval, unless the
	// interval is shorter.
	usualCheckTime = time.Second

	maxCheckCount  = 100
	maxJitter      = 50   // percent
	maxCheckText   = 1024 // bytes of a datagram, and of a regular expression
	maxCertificate = 1 << 20
)

// checkNone is the type of a check that is none.
const checkNone = "none"

func checkTypes() []string {
	return []string{string(lb.CheckHTTP), string(lb.CheckTCP), string(lb.CheckHTTPS), string(lb.CheckGRPC), string(lb.CheckUDP), checkNone}
}

// checkKey is a key of a check that not every type has.
type checkKey struct {
	name  string
	types []lb.CheckType
	read  func(*lb.Check, *node)
}

func (d *decoder) checkKeys() []checkKey {
	web := []lb.CheckType{lb.CheckHTTP, lb.CheckHTTPS}
	return []checkKey{
		{"path", web, func(c *lb.Check, n *node) { c.Path = d.checkPath(n) }},
		{"host", append(web, lb.CheckGRPC), func(c *lb.Check, n *node) { c.Host = d.hostName(n, ".-_:[]") }},
		{"status", web, func(c *lb.Check, n *node) { c.Status = d.statusCodes(n) }},
		{"body", web, func(c *lb.Check, n *node) { c.Body = d.expression(n) }},
		{"tls", []lb.CheckType{lb.CheckHTTPS, lb.CheckGRPC}, func(c *lb.Check, n *node) { c.TLS = d.checkTLS(n) }},
		{"service", []lb.CheckType{lb.CheckGRPC}, func(c *lb.Check, n *node) { c.Service = d.checkText(n) }},
		{"send", []lb.CheckType{lb.CheckUDP}, func(c *lb.Check, n *node) { c.Send = d.checkText(n) }},
		{"send_hex", []lb.CheckType{lb.CheckUDP}, func(c *lb.Check, n *node) { c.Send = d.hexText(n) }},
		{"expect", []lb.CheckType{lb.CheckUDP}, func(c *lb.Check, n *node) { c.Expect = d.checkText(n) }},
		{"expect_hex", []lb.CheckType{lb.CheckUDP}, func(c *lb.Check, n *node) { c.Expect = d.hexText(n) }},
	}
}

// check reads a health check; nil is none.
func (d *decoder) check(n *node) *lb.Check {
	c := &lb.Check{Interval: 2 * time.Second, Jitter: 10, Rise: 2, Fall: 3}
	kind := ""
	var timeout, fast *node
	keys := d.checkKeys()
	own := make([]*node, len(keys)) // read once the type is known
	fields := []field{
		{name: "type", required: true, read: func(n *node) { kind, _ = d.choice(n, checkTypes(), nil) }},
		{name: "port", read: func(n *node) {
			if port, ok := d.number(n, 1, 65535); ok {
				c.Port = uint16(port)
			}
		}},
		{name: "interval", read: func(n *node) { d.checkTime(n, &c.Interval) }},
		{name: "fast_interval", read: func(n *node) { fast = n; d.checkTime(n, &c.FastInterval) }},
		{name: "timeout", read: func(n *node) { timeout = n; d.checkTime(n, &c.Timeout) }},
		{name: "jitter", read: func(n *node) { c.Jitter, _ = d.number(n, 0, maxJitter) }},
		{name: "rise", read: func(n *node) { c.Rise, _ = d.number(n, 1, maxCheckCount) }},
		{name: "fall", read: func(n *node) { c.Fall, _ = d.number(n, 1, maxCheckCount) }},
	}
	for i, key := range keys {
		fields = append(fields, field{name: key.name, read: func(n *node) { own[i] = n }})
	}
	d.fields(n, "check", fields...)
	d.notLonger(timeout, "timeout", &c.Timeout, c.Interval)
	d.notLonger(fast, "fast_interval", &c.FastInterval, c.Interval)
	c.Type = lb.CheckType(kind)
	for i, key := range keys {
		if own[i] != nil {
			d.ownKey(c, key, own[i])
		}
	}
	d.checkCombination(c, n, own, keys)
	if kind == checkNone {
		return nil
	}
	return c
}

func (d *decoder) checkTime(n *node, to *time.Duration) {
	if value, ok := d.duration(n, minCheckTime, maxCheckTime); ok {
		*to = value
	}
}

// notLonger holds a time to the interval; n is nil where it is not given.
func (d *decoder) notLonger(n *node, name string, value *time.Duration, interval time.Duration) {
	if *value == 0 {
		*value = min(usualCheckTime, interval)
	}
	if *value > interval {
		d.fail(n.position, "make it shorter, or the interval longer", "%s: %s is longer than the interval of %s", name, *value, interval)
	}
}

// ownKey reads a key if the type has it.
func (d *decoder) ownKey(c *lb.Check, key checkKey, n *node) {
	if known := slices.Contains(checkTypes(), string(c.Type)); known && c.Type != checkNone && !slices.Contains(key.types, c.Type) {
		d.fail(n.keyAt, fmt.Sprintf("remove it, or use type: %s", key.types[0]), "%s: a check of type %q has no %s", key.name, c.Type, key.name)
		return
	}
	key.read(c, n)
}

// checkCombination looks at keys that depend on each other.
func (d *decoder) checkCombination(c *lb.Check, n *node, given []*node, keys []checkKey) {
	at := func(name string) *node {
		return given[slices.IndexFunc(keys, func(k checkKey) bool { return k.name == name })]
	}
	for _, name := range []string{"send", "expect"} {
		if other := at(name + "_hex"); other != nil && at(name) != nil {
			d.fail(other.keyAt, "remove one of them", "%s_hex: %s was already given in line %d", name, name, at(name).line)
		}
	}
	if c.Type == lb.CheckHTTP || c.Type == lb.CheckHTTPS {
		if at("path") == nil {
			c.Path = "/"
		}
		if at("status") == nil {
			c.Status.Add(200, 399)
		}
	}
	switch c.Type {
	case lb.CheckUDP:
		if at("send") == nil && at("send_hex") == nil {
			d.fail(n.position, "add what the backends answer to", `check: the key "send" is missing: a check of type "udp" sends a datagram`)
		}
	case lb.CheckHTTPS:
		c.TLS.On = true
	case lb.CheckGRPC:
		c.TLS.On = at("tls") != nil
	}
}

// checkPort sees to it that each backend has one that it can be checked on.
func (d *decoder) checkPort(s service, n *node) {
	if s.Check == nil || s.address == nil {
		return
	}
	for i, b := range s.Backends {
		if s.backends[i] != nil && s.CheckAddress(b).Port() == 0 {
			d.fail(n.keyAt, "give the check a port", "check: the backend %s has no port, and the service has several: it is not known which to check", written(b.Address))
			return
		}
	}
}

func (d *decoder) checkPath(n *node) string {
	text, ok := d.text(n, "a path such as /health")
	switch {
	case !ok:
	case !strings.HasPrefix(text, "/") || strings.ContainsAny(text, " \t"):
		d.fail(n.position, "as in /health", "path: expected a path that starts with / and has no spaces, found %s", quote(text))
	case !isPrintable(text):
		d.fail(n.position, "encode it, as in /%C3%A9", "path: expected nothing but printable ASCII, found %s", quote(text))
	}
	return strings.Clone(text)
}

func isPrintable(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' })
}

// hostName reads a name of letters, digits and the characters in also.
func (d *decoder) hostName(n *node, also string) string {
	text, ok := d.text(n, "a host name")
	bad := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(also, c)
	}
	if ok && strings.ContainsFunc(text, bad) {
		d.fail(n.position, "as in www.example.com", "%s: expected a host name, found %s", n.name, quote(text))
	}
	return strings.Clone(text)
}

// statusCodes reads 200, 200-299 or a list of such.
func (d *decoder) statusCodes(n *node) (codes lb.StatusCodes) {
	items := []*node{n}
	if n.kind == list {
		items = d.list(n, 1, "status: [200, 300-399]")
	}
	for _, item := range items {
		first, last, isRange := strings.Cut(item.text, "-")
		if !isRange {
			last = first
		}
		a, errFirst := strconv.ParseUint(first, 10, 16)
		b, errLast := strconv.ParseUint(last, 10, 16)
		if item.kind != scalar || errFirst != nil || errLast != nil || a < 100 || b > 599 || a > b {
			d.fail(item.position, "as in 200, 200-299 or [200, 300-399]", "status: expected status codes from 100 to 599, found %s", item.found())
			continue
		}
		codes.Add(uint32(a), uint32(b))
	}
	return codes
}

func (d *decoder) expression(n *node) string {
	text := d.checkText(n)
	if _, err := regexp.Compile(text); err != nil {
		d.fail(n.position, "see https://pkg.go.dev/regexp/syntax", "body: expected a regular expression, found %s: %s",
			quote(text), strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return text
}

func (d *decoder) checkText(n *node) string {
	text, ok := d.text(n, "a text")
	if ok && len(text) > maxCheckText {
		d.fail(n.position, "shorten it", "%s: expected at most %d bytes, found %d", n.name, maxCheckText, len(text))
	}
	return strings.Clone(text)
}

// hexText reads bytes as pairs of hexadecimal digits; spaces may be between them.
func (d *decoder) hexText(n *node) string {
	bytes, err := hex.DecodeString(strings.ReplaceAll(d.checkText(n), " ", ""))
	if err != nil {
		d.fail(n.position, `as in "00 ff"`, "%s: expected pairs of hexadecimal digits, found %s", n.name, n.found())
	}
	return string(bytes)
}

func (d *decoder) checkTLS(n *node) (t lb.TLS) {
	var ca *node
	d.fields(n, "tls",
		field{name: "server_name", read: func(n *node) { t.ServerName = d.hostName(n, ".-_") }},
		field{name: "ca", read: func(n *node) { ca, t.Roots = n, d.certificates(n) }},
		field{name: "skip_verify", read: func(n *node) {
			word, _ := d.choice(n, []string{"true", "false"}, nil)
			t.SkipVerify = word == "true"
		}},
	)
	if ca != nil && t.SkipVerify {
		d.fail(ca.keyAt, "remove one of them", "ca: it is not used with skip_verify")
	}
	return t
}

// certificates reads a file of PEM certificates, if files can be read.
func (d *decoder) certificates(n *node) string {
	path, ok := d.text(n, "a file of certificates")
	if !ok || d.opt.ReadFile == nil {
		return ""
	}
	text, err := d.opt.ReadFile(path)
	switch {
	case err != nil:
		d.fail(n.position, "", "ca: cannot read %s: %s", quote(path), reason(err))
	case len(text) > maxCertificate:
		d.fail(n.position, "", "ca: %s is larger than %d MiB", quote(path), maxCertificate>>20)
	case !x509.NewCertPool().AppendCertsFromPEM(text):
		d.fail(n.position, "it starts with -----BEGIN CERTIFICATE-----", "ca: there is no PEM certificate in %s", quote(path))
	}
	return string(text)
}
