// Package need says what a test cannot do without. Where that is missing the
// test is skipped with a message; where TINYLB_REQUIRE_ALL is set, as in CI,
// it fails instead, so that no test can go missing unseen.
package need

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// RequireAll is the environment variable under which a skip is a failure.
const RequireAll = "TINYLB_REQUIRE_ALL"

// daemonTimeout bounds the question to the container engine.
const daemonTimeout = 20 * time.Second

// Missing ends the test: skipped, or failed where RequireAll is set. The
// message says what is missing and how to get it.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	message := fmt.Sprintf(format, args...)
	if os.Getenv(RequireAll) != "" {
		t.Fatalf("%s (and %s is set, so this is no skip)", message, RequireAll)
	}
	t.Skip(message)
}

// Root ends the test unless it runs as root.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "needs root: run the tests as root, for example with sudo make test")
	}
}

// Tool returns the path of a program, or ends the test.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := findTool(name)
	if err != nil {
		Missing(t, "needs the program %s: %v", name, err)
	}
	return path
}

// findTool also looks where daemons live: a user's PATH often lacks that.
func findTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if found, sbinErr := exec.LookPath(filepath.Join(dir, name)); sbinErr == nil {
			return found, nil
		}
	}
	return "", err
}

// NginxModule returns the path of a dynamic module of nginx, or ends the test.
func NginxModule(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules"} {
		path := filepath.Join(dir, name+".so")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	Missing(t, "needs the module %s of nginx (Debian: libnginx-mod-stream)", name)
	return ""
}

// Docker ends the test unless the docker client, docker-compose and a
// reachable engine are there. It returns the path of the docker client.
func Docker(t testing.TB) string {
	t.Helper()
	docker := Tool(t, "docker")
	Tool(t, "docker-compose")
	ctx, cancel := context.WithTimeout(t.Context(), daemonTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, docker, "version", "--format", "{{.Server.Version}}").CombinedOutput()
	if err != nil {
		Missing(t, "needs a running docker engine: %v: %s", err, strings.TrimSpace(string(out)))
	}
	return docker
}

// Scapy returns a Python interpreter that has scapy, or ends the test.
func Scapy(t testing.TB) string {
	t.Helper()
	for _, python := range []string{"/usr/bin/python3", "python3"} { // the first is Debian's, whatever the PATH has
		if exec.CommandContext(t.Context(), python, "-c", "import scapy").Run() == nil {
			return python
		}
	}
	Missing(t, "needs Python with scapy (Debian: python3-scapy)")
	return ""
}
