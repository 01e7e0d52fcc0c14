// Package protocol has the model checker spin prove what the flow table's CPUs rely on.
package protocol

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/test/need"
)

// Whatever order the CPUs' steps come in, the protocol keeps its promises.
func TestFlowTableProtocol(t *testing.T) {
	for _, variant := range []string{"-DSLOTS=1", "-DSLOTS=2", "-DSLOTS=1 -DAPART"} {
		t.Run(variant, func(t *testing.T) {
			if broken := check(t, variant); broken != "" {
				t.Error(broken)
			}
		})
	}
}

// Leaving out any of its steps breaks a promise: the model is one in which that shows.
func TestEachStepIsNeeded(t *testing.T) {
	for bug, variant := range map[string]string{
		"NO_LOCK": "-DSLOTS=2", "EARLY_LIFE": "-DSLOTS=1", "NO_TURN": "-DSLOTS=1 -DAPART",
		"NO_TUPLE": "-DSLOTS=1", "NOT_PENDING": "-DSLOTS=2", "SEEN_LATE": "-DSLOTS=2",
	} {
		t.Run(bug, func(t *testing.T) {
			if check(t, variant+" -DBUG=BUG_"+bug) == "" {
				t.Error("no promise is broken")
			}
		})
	}
}

// check is the promise that the model breaks, "" if it breaks none.
func check(t *testing.T, defines string) string {
	t.Helper()
	spin, gcc := need.Tool(t, "spin"), need.Tool(t, "gcc")
	dir := t.TempDir()
	model, err := os.ReadFile("flowtable.pml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "flowtable.pml"), model, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	run(spin, append(strings.Fields("-a "+defines), "flowtable.pml")...)
	run(gcc, "-O2", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=2000", "-o", "pan", "pan.c")
	out := run("./pan", "-m100000")
	if strings.Contains(out, "errors: 0") && strings.Contains(out, "Full statespace search") && !strings.Contains(out, "max search depth too small") {
		return ""
	}
	first, _, _ := strings.Cut(out, "\n")
	if !strings.Contains(out, "errors: 1") {
		t.Fatalf("%s: the search did not end\n%s", defines, out)
	}
	return first
}
