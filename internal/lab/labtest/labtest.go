// Package labtest gives tests a lab that ends with them.
package labtest

import (
	"regexp"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/internal/lab"
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
