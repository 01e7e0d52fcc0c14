package kernels

import (
	"context"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tinylb/tinylb/test/need"
)

const moduleRoot = "../.."

// bootTimeout bounds one kernel: starting it, and then each package's Timeout.
const bootTimeout = 90 * time.Second

func TestKernels(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skipf("boots amd64 kernels with test binaries of its own architecture, which is %s", runtime.GOARCH)
	}
	qemu := need.Tool(t, "qemu-system-x86_64")
	kernels, err := Kernels()
	if err != nil {
		t.Fatal(err)
	}
	for _, kernel := range kernels {
		if !kernel.Fetched() {
			need.Missing(t, "needs the kernel %s in %s: run test/kernels/fetch", kernel.Series, kernel.Dir)
		}
	}
	packages := Packages()
	built, err := Build(t.Context(), moduleRoot, t.TempDir(), packages)
	if err != nil {
		t.Fatal(err)
	}
	for _, kernel := range kernels {
		t.Run(kernel.Series, func(t *testing.T) {
			report := boot(t, qemu, kernel, built, packages)
			for _, pkg := range packages {
				t.Run(path.Base(pkg.Path), func(t *testing.T) {
					judge(t, pkg, built, report)
				})
			}
		})
	}
}

// boot fails the test unless the guest did its whole job; what it reported is
// still worth judging then.
func boot(t *testing.T, qemu string, kernel Kernel, built Binaries, packages []Package) Report {
	t.Helper()
	initramfs := filepath.Join(t.TempDir(), "initramfs")
	if err := Initramfs(initramfs, moduleRoot, kernel, built, packages); err != nil {
		t.Fatal(err)
	}
	deadline := bootTimeout
	for _, pkg := range packages {
		deadline += pkg.Timeout
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	console, serial, err := Boot(ctx, qemu, kernel, initramfs)
	report := ReadReport(serial)
	switch {
	case err != nil:
		t.Errorf("qemu: %v", err)
	case report.Trouble != "":
		t.Error(report.Trouble)
	case !report.Done:
		t.Error("the guest's report stops before its end")
	case !strings.HasPrefix(report.Kernel, kernel.Series+"."):
		t.Errorf("booted %q, want a kernel %s", report.Kernel, kernel.Series)
	}
	if t.Failed() {
		t.Logf("the kernel's messages:\n%s", console)
		t.Logf("the guest's report:\n%s", serial)
	}
	return report
}

// judge makes a subtest of each test that ran in the guest.
func judge(t *testing.T, pkg Package, built Binaries, report Report) {
	section, ok := report.Sections[pkg.Path]
	if !ok {
		t.Fatal("was not started in the guest")
	}
	out, err := exec.Command(built.Tests[pkg.Path], "-test.list="+pkg.Run).Output()
	if err != nil {
		t.Fatalf("listing the tests: %v", err)
	}
	outcomes, err := Judge(pkg, testNames(string(out)), section)
	if err != nil {
		t.Fatal(err)
	}
	if len(outcomes) == 0 {
		t.Fatal("no test ran")
	}
	for _, o := range outcomes {
		t.Run(o.Test, func(t *testing.T) {
			switch o.Status {
			case Failed:
				t.Error(o.Output)
			case Skipped:
				t.Skip(o.Output)
			}
		})
	}
}

// testNames leaves only tests of what -test.list prints: benchmarks and fuzz
// targets are not run under the kernels.
func testNames(list string) []string {
	var names []string
	for name := range strings.Lines(list) {
		if strings.HasPrefix(name, "Test") {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}
