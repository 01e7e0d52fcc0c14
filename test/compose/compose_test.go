// Package compose runs the tutorial's docker-compose environment.
package compose

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/test/need"
)

const project = "../.."

func TestComposeDemo(t *testing.T) {
	docker := need.Docker(t)
	buildImage(t, docker)

	demo := exec.Command(filepath.Join(project, "packaging/compose-demo"), "--requests", "200", "-o", "json")
	var log bytes.Buffer
	demo.Stderr = &log
	printed, err := demo.Output()
	if err != nil {
		t.Fatalf("compose-demo: %v\n%s", err, &log)
	}
	var result struct {
		Requests, OK, Failed int
		Backends             map[string]int
	}
	if err := json.Unmarshal(printed, &result); err != nil {
		t.Fatalf("compose-demo printed %q: %v", printed, err)
	}
	if result.Requests != 200 || result.OK != 200 || result.Failed != 0 {
		t.Errorf("%d requests, %d ok, %d failed; want 200 ok", result.Requests, result.OK, result.Failed)
	}
	a, b := result.Backends["backend-a"], result.Backends["backend-b"]
	if a == 0 || b == 0 || a+b != 200 {
		t.Errorf("answers per backend: %v, want 200 of both together", result.Backends)
	}

	left := run(t, docker, "ps", "--all", "--format", "{{.Names}}") + run(t, docker, "network", "ls", "--format", "{{.Name}}")
	for _, name := range strings.Fields(left) {
		switch name {
		case "client", "lb", "backend-a", "backend-b":
			t.Errorf("container %s is still there", name)
		}
		if strings.HasSuffix(name, "br-lb") {
			t.Errorf("network %s is still there", name)
		}
	}
}

// buildImage does what make image does, without leaving a binary in the tree.
func buildImage(t *testing.T, docker string) {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command(need.Tool(t, "go"), "build", "-o", filepath.Join(dir, "tinylb"), "./cmd/tinylb")
	build.Dir = project
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building tinylb: %v\n%s", err, out)
	}
	dockerfile, err := os.ReadFile(filepath.Join(project, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), dockerfile, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, docker, "build", "--tag", "tinylb:local", dir)
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}
