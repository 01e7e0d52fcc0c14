// Package testnet runs the built program, and real clients and servers around
// it, in the namespaces of a lab: what the end-to-end tests have in common.
package testnet

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// labsAtOnce is how many tests run side by side, each in a lab of its own: most
// of their time goes by in waiting.
const labsAtOnce = "4"

// Main runs a package's tests with a freshly built tinylb where they find it, in
// the PATH. It returns the exit code.
func Main(m *testing.M) int {
	flag.Parse()
	dir, err := os.MkdirTemp("", "tinylb-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if !given("test.parallel") {
		flag.Set("test.parallel", labsAtOnce)
	}
	return m.Run()
}

// Build builds tinylb into a directory, which it opens to every user.
func Build(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "tinylb"), "github.com/tinylb/tinylb/cmd/tinylb")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building tinylb: %w\n%s", err, out)
	}
	return nil
}

func given(name string) (found bool) {
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}
