package need

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// recorder stands for the test that asks; like the real one it ends its
// goroutine on Skip and Fatal.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Helper() {}

func (r *recorder) Skip(args ...any) {
	r.skipped = fmt.Sprint(args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func record(t *testing.T, ask func(testing.TB)) *recorder {
	t.Helper()
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ask(r)
	}()
	<-done
	return r
}

func TestToolMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	ask := func(tb testing.TB) { Tool(tb, "tinylb-no-such-program") }

	t.Setenv(RequireAll, "")
	r := record(t, ask)
	if r.failed != "" || !strings.Contains(r.skipped, "tinylb-no-such-program") {
		t.Errorf("skipped %q, failed %q; want a skip that names the program", r.skipped, r.failed)
	}

	t.Setenv(RequireAll, "1")
	r = record(t, ask)
	if r.skipped != "" || !strings.Contains(r.failed, RequireAll) {
		t.Errorf("skipped %q, failed %q; want a failure that names %s", r.skipped, r.failed, RequireAll)
	}
}

func TestNginxModuleMissing(t *testing.T) {
	t.Setenv(RequireAll, "")
	r := record(t, func(tb testing.TB) { NginxModule(tb, "tinylb_no_such_module") })
	if r.failed != "" || !strings.Contains(r.skipped, "tinylb_no_such_module") {
		t.Errorf("skipped %q, failed %q; want a skip that names the module", r.skipped, r.failed)
	}
}

func TestToolFound(t *testing.T) {
	dir := t.TempDir()
	want := filepath.Join(dir, "tinylb-some-program")
	if err := os.WriteFile(want, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if got := Tool(t, "tinylb-some-program"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRoot(t *testing.T) {
	t.Setenv(RequireAll, "")
	r := record(t, func(tb testing.TB) { Root(tb) })
	if root := os.Geteuid() == 0; root != (r.skipped == "") || r.failed != "" {
		t.Errorf("root %v: skipped %q, failed %q", root, r.skipped, r.failed)
	}
}
