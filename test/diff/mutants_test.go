package diff

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/test/need"
)

var allMutants = flag.Bool("mutants", false, "TestMutants tries all, not only the first")

// What a bug is looked for with.
const packetsPerMutant = 100_000

// moduleRoot is where go.mod is, seen from this package.
const moduleRoot = "../.."

func TestMutantsFitTheSource(t *testing.T) {
	for _, m := range Mutants() {
		source, err := os.ReadFile(filepath.Join(moduleRoot, "bpf", m.File))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), m.Old); n != 1 {
			t.Errorf("%s: %q occurs %d times in bpf/%s, want once: write the bug anew", m.Name, m.Old, n, m.File)
		}
	}
}

// A differential test that finds nothing proves nothing. This one finds each of
// the bugs in Mutants, put into a copy of the source one at a time.
func TestMutants(t *testing.T) {
	need.Root(t)
	need.Tool(t, "clang-19")
	need.Tool(t, "llvm-strip-19")
	mutants := Mutants()
	if !*allMutants {
		mutants = mutants[:1]
	}
	root := t.TempDir()
	if err := os.CopyFS(root, sources{os.DirFS(moduleRoot)}); err != nil {
		t.Fatalf("copy the source: %v", err)
	}
	table := "found after packets, in, what:\n"
	for _, m := range mutants {
		t.Run(m.Name, func(t *testing.T) {
			table += fmt.Sprintf("%8s %-12s %s\n", m.mustBeFound(t, root), m.File, m.Name)
		})
	}
	t.Log(table)
}

// mustBeFound returns how many packets it took.
func (m Mutant) mustBeFound(t *testing.T, root string) string {
	path := filepath.Join(root, "bpf", m.File)
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Replace(string(source), m.Old, m.New, 1))
	defer write(string(source))
	if out, err := goTool(t, root, "generate", "./internal/datapath"); err != nil {
		t.Fatalf("bpf/%s does not compile with %q: %v\n%s", m.File, m.New, err, out)
	}
	out, err := goTool(t, root, "test", "-count=1", "-vet=off", "-run", "^TestDifferential$", "./test/diff",
		"-args", "-packets", fmt.Sprint(packetsPerMutant), "-shrink", "0")
	after := regexp.MustCompile(`after (\d+) packets: ` + ErrDisagree.Error()).FindStringSubmatch(out)
	if err == nil || after == nil {
		t.Fatalf("not found in %d packets (%v):\n%s", packetsPerMutant, err, out)
	}
	return after[1]
}

func goTool(t *testing.T, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}
