package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const (
	head       = "interfaces: [eth0]\nservices:\n"
	webService = head + "  - name: web\n    address: 192.17.0.5:80\n"
	oneBackend = "    backends: [{address: 192.17.0.2:80}]\n"
)

type badConfig struct {
	name, text string
	want       string // its errors, one a line, without file
}

func TestBadConfigs(t *testing.T) {
	for _, test := range badConfigs() {
		t.Run(test.name, func(t *testing.T) {
			c, _, err := Parse([]byte(test.text), Options{File: "f"})
			if err == nil {
				t.Fatalf("accepted as %+v", c)
			}
			got := strings.ReplaceAll("\n"+err.Error(), "\nf:", "\n")[1:]
			if got != test.want {
				t.Errorf("in\n%s\ngot  %s\nwant %s", test.text, got, test.want)
			}
		})
	}
}

func badConfigs() []badConfig {
	return slices.Concat(badYAML(), badKeysAndSettings(), badServices(), badBackends(), badIPv6(), badPorts(), badForward(), badTunnels(), badPolicies(), badQUIC(), badChecks())
}

func manyBackends(n int) string {
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, "      - address: 10.1.0.%d:80\n", i+1)
	}
	return s.String()
}
