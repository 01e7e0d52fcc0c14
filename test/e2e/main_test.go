// Package e2e runs the built program between real kernels' TCP stacks: clients,
// balancer and backends of the tutorial's topology in network namespaces, curl
// as client and nginx as backend wherever they can do what a test needs.
package e2e

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

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

// run puts a freshly built tinylb where the tests find it: in the PATH.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tinylb-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if !given("test.parallel") {
		flag.Set("test.parallel", labsAtOnce)
	}
	return m.Run()
}

func build(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil { // one test runs it as another user
		return err
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "tinylb"), "../../cmd/tinylb")
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
