// Command init is the first and only process of the virtual machine in which
// the data plane's tests meet an older kernel: it prepares the machine, runs
// the test binaries, reports on a serial line and switches the machine off.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/test/kernels/guest"
)

// grace is how much longer than its own timeout a test binary may live: it
// prints its goroutines when the timeout strikes.
const grace = 10 * time.Second

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init mounts file systems and switches the machine off: it runs only as process 1 of a test's virtual machine")
		os.Exit(1)
	}
	report, err := prepare()
	if err == nil {
		err = run(report)
	}
	if err != nil {
		fmt.Fprintf(report, "\n"+guest.TroubleFormat+"\n", err)
	} else {
		fmt.Fprintln(report, guest.DoneLine)
	}
	drain(report)
	// It does not return; if it fails, process 1 ends and the kernel panics,
	// which ends the machine as well.
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// prepare makes the machine what Go tests expect and opens the serial line
// for the report; before that it is the console, where the host shows it too.
func prepare() (*os.File, error) {
	for _, m := range []struct{ fstype, target string }{
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"devtmpfs", "/dev"},
		{"tmpfs", "/tmp"},
		{"tmpfs", "/run"},
		{"bpf", "/sys/fs/bpf"},
		{"tracefs", "/sys/kernel/tracing"},
		{"cgroup2", "/sys/fs/cgroup"},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return os.Stdout, err
		}
		if err := unix.Mount(m.fstype, m.target, m.fstype, 0, ""); err != nil {
			return os.Stdout, fmt.Errorf("mounting %s on %s: %w", m.fstype, m.target, err)
		}
	}
	report, err := os.OpenFile(guest.ResultPort, os.O_WRONLY, 0)
	if err != nil {
		return os.Stdout, err
	}
	return report, loopbackUp()
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("setting lo up: %w", err)
	}
	return nil
}

func run(report io.Writer) error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	release, _, _ := bytes.Cut(name.Release[:], []byte{0})
	fmt.Fprintf(report, guest.KernelFormat+"\n", release)

	content, err := os.ReadFile(guest.JobFile)
	if err != nil {
		return err
	}
	var job guest.Job
	if err := json.Unmarshal(content, &job); err != nil {
		return fmt.Errorf("%s: %w", guest.JobFile, err)
	}
	for _, module := range job.Modules {
		if err := loadModule(module); err != nil {
			return err
		}
	}
	for _, test := range job.Tests {
		fmt.Fprintf(report, "\n"+guest.BeginFormat+"\n", test.Name)
		code := runTest(report, test)
		fmt.Fprintf(report, "\n"+guest.EndFormat+"\n", test.Name, code)
	}
	return nil
}

func loadModule(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.FinitModule(int(file.Fd()), "", 0); err != nil {
		return fmt.Errorf("loading the module %s: %w", path, err)
	}
	return nil
}

// runTest returns the exit code, -1 where there is none.
func runTest(report io.Writer, test guest.Test) int {
	ctx, cancel := context.WithTimeout(context.Background(), test.Timeout+grace)
	defer cancel()
	cmd := exec.CommandContext(ctx, test.Binary, test.Args...)
	cmd.Dir = test.Dir
	cmd.Env = []string{"PATH=/bin", "HOME=/tmp", "TMPDIR=/tmp"}
	cmd.Stdout, cmd.Stderr = report, report
	cmd.WaitDelay = grace
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode()
	} else if err != nil {
		fmt.Fprintf(report, "%s: %v\n", test.Binary, err)
		return -1
	}
	return 0
}

// drain waits until the line has sent everything that was written to it.
func drain(port *os.File) {
	const tcsbrk, afterOutput = unix.TCSBRK, 1
	// Where it is no terminal, nothing is held back either.
	_ = unix.IoctlSetInt(int(port.Fd()), tcsbrk, afterOutput)
}
