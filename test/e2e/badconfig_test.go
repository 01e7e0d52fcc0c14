package e2e

import (
	"os"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
)

func TestRunRefusesABadConfig(t *testing.T) {
	t.Parallel()
	const (
		head = "interfaces: [eth0]\nservices:\n"
		web  = head + "  - name: web\n    address: 192.17.0.5:80\n"
		one  = "    backends: [{address: 192.17.0.2:80}]\n"
	)
	tests := []struct {
		name, config string
		place, text  string
	}{
		{"unknown key", web + one + "modes: auto\n", ":6:1: ", `unknown key "modes" (did you mean "mode"?)`},
		{"duplicate key", web + one + "interfaces: [eth0]\n", ":6:1: ", `"interfaces" was already given in line 1`},
		{"port of 70000", head + "  - name: web\n    address: 192.17.0.5:70000\n" + one, ":4:14: ", "port from 1 to 65535"},
		{"host name for an address", web + "    backends: [{address: localhost:80}]\n", ":5:26: ", "host names are not resolved"},
		{"two services on one VIP", web + one + "  - name: web2\n    address: 192.17.0.5:80\n" + one, ":7:14: ", "already belongs to"},
		{"two services with one name", web + one + "  - name: web\n    address: 192.17.0.5:81\n" + one, ":6:11: ", `the name "web" was already given`},
		{"the same backend twice", web + "    backends: [{address: 192.17.0.2:80}, {address: 192.17.0.2:80}]\n", ":5:52: ", "already given"},
		{"empty backend list", web + "    backends: []\n", ":5:15: ", "empty list"},
		{"negative weight", web + "    backends: [{address: 192.17.0.2:80, weight: -1}]\n", ":5:49: ", "weight"},
		{"unsupported protocol", web + "    protocol: sctp\n" + one, ":5:15: ", `"sctp"`},
		{"dnat to another family", web + "    forward: dnat\n    backends: [{address: \"[2001:db8::2]:80\"}]\n", ":6:26: ", "one family"},
		{"list where a map belongs", web + "    snat: [1024-2048]\n" + one, ":5:11: ", "expected a map"},
		{"garbage bytes", "\x00\xff\x17\x03garbage\x80", ":1:1: ", "is this the right file?"},
		{"empty file", "", ":1:1: ", "the config is empty"},
	}
	n := newNetwork(t, lb.ModeAuto)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := n.in(t)
			n.WriteConfig(test.config)
			n.mustFail(n.plainRun(), exitInput, n.ConfigFile()+test.place, test.text)
			n.checkNothingLeft()
		})
	}
	t.Run("missing file", func(t *testing.T) {
		n := n.in(t)
		if err := os.Remove(n.ConfigFile()); err != nil {
			t.Fatal(err)
		}
		n.mustFail(n.plainRun(), exitInput, n.ConfigFile()+": ", "no such file")
		n.checkNothingLeft()
	})
}
