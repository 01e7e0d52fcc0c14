// Package build checks what make build makes.
package build

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/test/need"
)

// maxSize is what the project promises: one binary under 25 MB.
const maxSize = 25_000_000

func TestBinary(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "tinylb")
	cmd := exec.Command(need.Tool(t, "make"), "-C", "../..", "build", "BINARY="+binary, "VERSION=v1.2.3-test")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}

	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() >= maxSize {
		t.Errorf("the binary has %d bytes, want less than %d", info.Size(), maxSize)
	}

	file, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP || segment.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary has a segment %v: it is not static", segment.Type)
		}
	}

	out, err := exec.Command(binary, "version").Output()
	if err != nil {
		t.Fatalf("tinylb version: %v", err)
	}
	if !strings.Contains(string(out), "v1.2.3-test") {
		t.Errorf("tinylb version prints %q, want the version it was built as", out)
	}
}
