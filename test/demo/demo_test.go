// Package demo runs tinylb demo as a user does.
package demo

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/need"
	"github.com/tinylb/tinylb/test/testnet"
)

// deadline is for everything that a demo does, in a slow virtual machine.
const deadline = time.Minute

func TestMain(m *testing.M) { os.Exit(testnet.Main(m)) }

func TestDemoJSON(t *testing.T) {
	need.Root(t)
	binary := need.Tool(t, "tinylb")
	for _, forward := range lb.Forwards() {
		for _, mode := range []lb.Mode{lb.ModeNative, lb.ModeGeneric} {
			t.Run(string(forward)+" "+string(mode), func(t *testing.T) {
				d := newDemo(t, binary, "--forward", string(forward), "--mode", string(mode), "--requests", "120", "-o", "json")
				var stdout, stderr bytes.Buffer
				d.Stdout, d.Stderr = &stdout, &stderr
				if err := d.Run(); err != nil {
					t.Fatalf("%v\n%s", err, &stderr)
				}
				checkResult(t, stdout.Bytes(), 120)
				d.checkNothingLeft(t)
			})
		}
	}
}

// checkResult checks the contract of -o json: these keys and no other.
func checkResult(t *testing.T, printed []byte, requests int) {
	t.Helper()
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(printed, &keys); err != nil {
		t.Fatalf("%q: %v", printed, err)
	}
	got := slices.Sorted(maps.Keys(keys))
	if want := []string{"backends", "failed", "ok", "requests"}; !slices.Equal(got, want) {
		t.Errorf("the keys are %q, want %q", got, want)
	}
	var result struct {
		Requests, OK, Failed int
		Backends             map[string]int
	}
	if err := json.Unmarshal(printed, &result); err != nil {
		t.Fatal(err)
	}
	if result.Requests != requests || result.OK != requests || result.Failed != 0 {
		t.Errorf("%d requests, %d ok, %d failed; want all %d ok", result.Requests, result.OK, result.Failed, requests)
	}
	a, b := result.Backends["backend-a"], result.Backends["backend-b"]
	if a == 0 || b == 0 || a+b != requests {
		t.Errorf("answers per backend: %v, want %d of both together", result.Backends, requests)
	}
}

func TestDemoText(t *testing.T) {
	need.Root(t)
	d := newDemo(t, need.Tool(t, "tinylb"))
	printed, err := d.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"100 requests: 100 ok, 0 failed", "backend-a", "backend-b", "p99", "forwarded"} {
		if !bytes.Contains(printed, []byte(want)) {
			t.Errorf("%q is missing in\n%s", want, printed)
		}
	}
	d.checkNothingLeft(t)
}

func TestInteractiveStandsUntilSignal(t *testing.T) {
	need.Root(t)
	binary := need.Tool(t, "tinylb")
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			d := newDemo(t, binary, "--interactive", "--requests", "10")
			d.startAndReadUntil(t, "Ctrl-C")
			if len(d.leftovers(t)) == 0 {
				t.Error("nothing stands")
			}
			d.signal(t, sig)
			if err := d.Wait(); err != nil {
				t.Errorf("ended with %v\n%s", err, d.Stderr)
			}
			d.checkNothingLeft(t)
		})
	}
}

func TestSignalMidway(t *testing.T) {
	need.Root(t)
	binary := need.Tool(t, "tinylb")
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			d := newDemo(t, binary, "--requests", "1000000")
			d.Stderr = &bytes.Buffer{}
			if err := d.Start(); err != nil {
				t.Fatal(err)
			}
			d.waitForClient(t)
			d.signal(t, sig)
			if err := d.Wait(); err == nil {
				t.Error("an interrupted demo ended as if it had done its work")
			}
			d.checkNothingLeft(t)
		})
	}
}

func TestNextDemoRemovesWhatAKilledOneLeft(t *testing.T) {
	need.Root(t)
	binary := need.Tool(t, "tinylb")
	killed := newDemo(t, binary, "--interactive", "--requests", "10")
	killed.startAndReadUntil(t, "Ctrl-C")
	killed.signal(t, syscall.SIGKILL)
	killed.Wait()

	next := newDemo(t, binary, "--requests", "10", "-o", "json")
	if out, err := next.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	next.checkNothingLeft(t)
	if left := killed.leftovers(t); len(left) != 0 {
		t.Errorf("left of the killed demo: %q", left)
	}
}

func TestRefusals(t *testing.T) {
	binary := need.Tool(t, "tinylb")
	tests := []struct {
		name   string
		args   []string
		user   uint32
		code   int
		stderr string
	}{
		{"a mode of forwarding that is none", []string{"--forward", "tunnel"}, 0, 1, "tunnel"},
		{"a mode that is none", []string{"--mode", "offload"}, 0, 1, "offload"},
		{"no requests", []string{"--requests", "0"}, 0, 1, "requests"},
		{"not root", nil, 65534, 2, "root"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := newDemo(t, binary, test.args...)
			if test.user != 0 {
				need.Root(t) // to become another user
				d.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: test.user, Gid: test.user}}
			}
			var stdout, stderr bytes.Buffer
			d.Stdout, d.Stderr = &stdout, &stderr
			var exit *exec.ExitError
			if err := d.Run(); !errors.As(err, &exit) {
				t.Fatalf("%v, want exit code %d", err, test.code)
			}
			if exit.ExitCode() != test.code || !strings.Contains(stderr.String(), test.stderr) || stdout.Len() > 0 {
				t.Errorf("exit code %d, printed %q and %q; want %d and an error about %q",
					exit.ExitCode(), &stdout, &stderr, test.code, test.stderr)
			}
		})
	}
}

// demo is a tinylb demo with a directory of its own for temporary files.
type demo struct {
	*exec.Cmd
	tmp string
}

func newDemo(t *testing.T, binary string, args ...string) *demo {
	t.Helper()
	d := &demo{Cmd: exec.CommandContext(t.Context(), binary, append([]string{"demo"}, args...)...), tmp: t.TempDir()}
	d.Env = append(os.Environ(), "TMPDIR="+d.tmp)
	d.WaitDelay = deadline
	return d
}

// startAndReadUntil waits for a line on the standard output.
func (d *demo) startAndReadUntil(t *testing.T, text string) {
	t.Helper()
	d.Stderr = &bytes.Buffer{}
	stdout, err := d.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	giveUp := time.AfterFunc(deadline, func() { d.Process.Kill() })
	defer giveUp.Stop()
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.Contains(lines.Text(), text) {
			return
		}
	}
	t.Fatalf("the demo ended before it printed %q: %v\n%s", text, d.Wait(), d.Stderr)
}

// waitForClient waits until the demo's client sends requests.
func (d *demo) waitForClient(t *testing.T) {
	t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(deadline); time.Now().Before(end); <-poll.C {
		for _, p := range processes(t, d.Path) {
			if strings.Contains(p, "demo-client") {
				return
			}
		}
	}
	d.Process.Kill()
	t.Fatalf("the client was never started: %v\n%s", d.Wait(), d.Stderr)
}

func (d *demo) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := d.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// leftovers are the demo's namespaces and pins.
func (d *demo) leftovers(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{
		fmt.Sprintf("/run/netns/tlb-%d-*", d.Process.Pid),
		fmt.Sprintf("/sys/fs/bpf/tlb-%d-*", d.Process.Pid),
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

func (d *demo) checkNothingLeft(t *testing.T) {
	t.Helper()
	left := append(d.leftovers(t), processes(t, d.Path)...)
	temporary, err := os.ReadDir(d.tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range temporary {
		left = append(left, e.Name())
	}
	if len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// processes lists the command lines of the processes that run the binary.
func processes(t *testing.T, binary string) []string {
	t.Helper()
	executables, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, link := range executables {
		if target, err := os.Readlink(link); err != nil || target != binary {
			continue
		}
		// A process that ends meanwhile has no command line.
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
		found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
	}
	return found
}
