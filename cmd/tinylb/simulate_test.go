package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSimulateKeepsItsInput(t *testing.T) {
	capture := filepath.Join(t.TempDir(), "in.pcap")
	const content = "whatever was captured"
	if err := os.WriteFile(capture, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	link := capture + ".link"
	if err := os.Symlink(capture, link); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{capture, link} {
		var stdout, stderr bytes.Buffer
		args := []string{"simulate", "-c", "../../examples/tutorial.yaml", capture, "-w", out}
		code := run(t.Context(), env{args: args, stdout: &stdout, stderr: &stderr})
		if code != exitInput || !strings.Contains(stderr.String(), "would overwrite the capture that is read") {
			t.Errorf("-w %s: exit code %d, %s", out, code, &stderr)
		}
		if got, err := os.ReadFile(capture); string(got) != content {
			t.Errorf("-w %s: the capture is now %q (%v)", out, got, err)
		}
	}
}
