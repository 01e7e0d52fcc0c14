// Package labtest gives tests a lab that ends with them.
package labtest

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/need"
)

// New makes a lab named after the test and closes it when the test ends. It
// needs root.
func New(t testing.TB, options ...lab.Option) *lab.Lab {
	t.Helper()
	need.Root(t)
	name := regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(t.Name()), "-")
	l, err := lab.New(strings.Trim(name, "-"), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("closing the lab: %v", err)
		}
	})
	return l
}

// Node adds a node to the lab.
func Node(t testing.TB, l *lab.Lab, name string) *lab.Node {
	t.Helper()
	n, err := l.AddNode(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Decapsulate runs a decapsulator on a node until the test ends. It needs TUN.
func Decapsulate(t testing.TB, n *lab.Node, forward lb.Forward, port uint16) (d *lab.Decapsulator) {
	t.Helper()
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		need.Missing(t, "needs TUN: %v (modprobe tun)", err)
	}
	err := n.Do(func() (err error) {
		d, err = lab.NewDecapsulator(forward, port)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("decapsulator of %s: %v", n.Name(), err)
		}
	})
	return d
}
