package kernels

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"

	"github.com/tinylb/tinylb/test/kernels/guest"
)

// Binaries are the programs that go into the initramfs.
type Binaries struct {
	Init  string
	Tests map[string]string // by Package.Path
}

// Build compiles the init process and the packages' tests, static, into dir.
// root is the module's root.
func Build(ctx context.Context, root, dir string, packages []Package) (Binaries, error) {
	built := Binaries{Init: filepath.Join(dir, "init"), Tests: map[string]string{}}
	if err := goCommand(ctx, root, "build", "-o", built.Init, "./test/kernels/init"); err != nil {
		return Binaries{}, err
	}
	for _, pkg := range packages {
		binary := filepath.Join(dir, path.Base(pkg.Path)+".test")
		if err := goCommand(ctx, root, "test", "-c", "-o", binary, "./"+pkg.Path); err != nil {
			return Binaries{}, err
		}
		if _, err := os.Stat(binary); err != nil {
			return Binaries{}, fmt.Errorf("%s has no tests: %w", pkg.Path, err)
		}
		built.Tests[pkg.Path] = binary
	}
	return built, nil
}

func goCommand(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w: %s", args[0], err, out)
	}
	return nil
}

// Initramfs writes the first root of a guest: init, the test binaries with
// their testdata, the kernel modules and the job that says how to use them.
func Initramfs(file, root string, kernel Kernel, built Binaries, packages []Package) error {
	var a archive
	if err := addFrom(&a, "/init", built.Init, true); err != nil {
		return err
	}
	var job guest.Job
	var modules []string
	for _, pkg := range packages {
		modules = append(modules, pkg.Modules...)
		test := guest.Test{
			Name:    pkg.Path,
			Binary:  "/bin/" + filepath.Base(built.Tests[pkg.Path]),
			Args:    append([]string{"-test.v=test2json", "-test.timeout=" + pkg.Timeout.String(), "-test.run=" + pkg.Run}, pkg.Args...),
			Dir:     "/src/" + pkg.Path,
			Timeout: pkg.Timeout,
		}
		if err := addFrom(&a, test.Binary, built.Tests[pkg.Path], true); err != nil {
			return err
		}
		a.addDirectory(test.Dir)
		if err := addTree(&a, test.Dir+"/testdata", filepath.Join(root, pkg.Path, "testdata")); err != nil {
			return err
		}
		job.Tests = append(job.Tests, test)
	}
	files, err := moduleFiles(kernel.modules(), modules)
	if err != nil {
		return err
	}
	for _, file := range files {
		name := "/modules/" + filepath.Base(file)
		if err := addFrom(&a, name, file, false); err != nil {
			return err
		}
		job.Modules = append(job.Modules, name)
	}
	content, err := json.Marshal(job)
	if err != nil {
		return err
	}
	a.addFile(guest.JobFile, false, content)
	return a.writeTo(file)
}

func addFrom(a *archive, name, source string, executable bool) error {
	content, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	a.addFile(name, executable, content)
	return nil
}

// addTree adds a directory with all that is in it; none is fine.
func addTree(a *archive, name, source string) error {
	if _, err := os.Stat(source); os.IsNotExist(err) {
		return nil
	}
	return filepath.WalkDir(source, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		relative, err := filepath.Rel(source, file)
		if err != nil {
			return err
		}
		return addFrom(a, path.Join(name, filepath.ToSlash(relative)), file, false)
	})
}

// Boot runs a guest until it switches itself off, or until ctx ends. It
// returns what came over the two serial lines: the kernel's messages and the
// report. They are returned with an error, too.
func Boot(ctx context.Context, qemu string, kernel Kernel, initramfs string) (console, report []byte, err error) {
	reportFile := initramfs + ".report"
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, qemu,
		"-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2G",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "stdio", "-serial", "file:"+reportFile,
		"-kernel", kernel.image(), "-initrd", initramfs,
		// A kernel that stumbles must end the machine, not the time.
		"-append", "console=ttyS0 quiet oops=panic panic=-1 rdinit=/init",
	)
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("the guest did not switch itself off in time: %w", ctx.Err())
	}
	report, readErr := os.ReadFile(reportFile)
	if err == nil {
		err = readErr
	}
	return out.Bytes(), report, err
}
