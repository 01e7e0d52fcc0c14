package config

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tinylb/tinylb/internal/lb"
)

func FuzzParse(f *testing.F) {
	f.Add([]byte(everyKey))
	f.Add([]byte("\ufeffinterfaces: [eth0]\r\nservices:\r\n- {name: a, address: 1.2.3.4:5, backends: [{address: 1.2.3.5:5}]}\r\n"))
	f.Add([]byte(bothFamilies))
	f.Add([]byte(everyMode))
	f.Add([]byte(nestedPorts))
	f.Add([]byte("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n<<: *c\n"))
	f.Add([]byte("%YAML 1.2\n---\n!!map {? a : |\n b\n}\n...\n---\n"))
	for _, test := range badConfigs() {
		f.Add([]byte(test.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		began := time.Now()
		c, warnings, err := Parse(data, Options{File: "f", LocalPorts: lb.PortRange{First: 32768, Last: 60999}})
		const tooLong = 10 * time.Second // a thousand times what an input of the fuzzer's size takes
		if took := time.Since(began); took > tooLong {
			t.Errorf("took %v", took)
		}
		lines := strings.Split(string(data), "\n")
		check := func(e Error) {
			if e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > utf8.RuneCountInString(lines[e.Line-1])+1 {
				t.Errorf("outside of the file: %v", e)
			}
			if e.Message == "" || strings.ContainsAny(e.Error(), "\n\x00\x1b") {
				t.Errorf("not one line of text: %q", e.Error())
			}
		}
		for _, w := range warnings {
			check(Error(w))
		}
		if err == nil {
			if len(c.Interfaces) == 0 || len(c.Services) == 0 {
				t.Errorf("accepted without interfaces or services: %+v", c)
			}
			checkAccepted(t, c)
			return
		}
		list, ok := err.(Errors)
		if !ok || len(list) == 0 {
			t.Fatalf("%T: %v", err, err)
		}
		for i, e := range list {
			check(e)
			if i > 0 && byPosition(list[i-1], e) > 0 {
				t.Errorf("not sorted: %v after %v", e, list[i-1])
			}
		}
	})
}

// checkAccepted checks what the data plane relies on.
func checkAccepted(t *testing.T, c lb.Config) {
	for i, s := range c.Services {
		addrs := append(slices.Clone(s.SNAT.Addresses), s.Address.Addr)
		families := map[bool]bool{}
		for _, b := range s.Backends {
			addrs = append(addrs, b.Address.Addr())
			families[b.Address.Addr().Is4()] = true
			if s.Forward == lb.ForwardDNAT && b.Address.Addr().Is4() != s.Address.Addr.Is4() {
				t.Errorf("accepted dnat between families: %+v", s)
			}
			if port := b.Address.Port(); !s.Forward.Translates() && port != 0 && s.Address.Ports != lb.OnePort(port) {
				t.Errorf("accepted another port for %s: %+v", s.Forward, s)
			}
		}
		for _, addr := range addrs {
			if !addr.IsValid() || addr.Is4In6() || addr.Zone() != "" {
				t.Errorf("accepted %s in a service with the VIP %s", addr, s.Address)
			}
		}
		for _, prefix := range s.Tunnel.Sources {
			if prefix != prefix.Masked() || prefix.Bits() == 0 || !families[prefix.Addr().Is4()] {
				t.Errorf("accepted the source %s: %+v", prefix, s)
			}
		}
		checkVIP(t, s, c.Services[:i])
	}
}

// checkVIP checks that a VIP reads as it prints, and that each port is most
// specifically one service's.
func checkVIP(t *testing.T, s lb.Service, others []lb.Service) {
	var back lb.VIP
	if err := back.UnmarshalText([]byte(s.Address.String())); err != nil || back != s.Address {
		t.Errorf("the VIP %s reads as %s: %v", s.Address, back, err)
	}
	for _, other := range others {
		sameProtocol := slices.ContainsFunc(other.Protocols, func(p lb.Protocol) bool { return slices.Contains(s.Protocols, p) })
		p, q := s.Address.Ports, other.Address.Ports
		isNested := p != q && (p.First <= q.First && q.Last <= p.Last || q.First <= p.First && p.Last <= q.Last)
		if sameProtocol && s.Address.Addr == other.Address.Addr && p.Overlaps(q) && !isNested {
			t.Errorf("accepted %s beside %s", s.Address, other.Address)
		}
	}
}

// TestHostileShapes gives the parser what would make it recurse, or run, for
// ever: every one of these must be refused in a moment.
func TestHostileShapes(t *testing.T) {
	for _, unit := range []string{
		"[", "{", "{a: ", "[a, ", "- ", "-\n", "- - -\n", "a: ", "k:\n", "- k:\n", "-\n #\n", "{a, b}\n", "- {k, k}\n", "[\na: b\n",
		"? ", "&a ", "*a ", "!a ", "\"", "'", "'\n", "|\n", "a\n", "a b ", "@", "%", "\\", "---\n", "}", "]", ",", ": ", "- [", "<<: ",
	} {
		began := time.Now()
		if _, _, err := Parse([]byte(strings.Repeat(unit, 128<<10/len(unit))), Options{}); err == nil {
			t.Errorf("%q repeated was accepted", unit)
		}
		const moment = 10 * time.Second // a hundred times what it takes
		if took := time.Since(began); took > moment {
			t.Errorf("%q repeated took %v", unit, took)
		}
	}
}
