package daemon

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Why a host cannot run the data plane. The errors that wrap them say what to do.
var (
	ErrKernelTooOld = errors.New("the kernel is too old")
	ErrCapability   = errors.New("a capability is missing")
	ErrNoBPFFS      = errors.New("no BPF file system")
	ErrElsewhere    = errors.New("the data plane in this pin directory forwards in another network namespace")
)

// CheckHost tells whether this kernel and this process can load the data plane.
func CheckHost() error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("ask for the kernel's version: %w", err)
	}
	if err := checkKernel(unix.ByteSliceToString(uts.Release[:])); err != nil {
		return err
	}
	effective, err := effectiveCapabilities()
	if err != nil {
		return err
	}
	return checkCapabilities(effective)
}

// checkKernel wants Linux 6.1, the oldest one that the data plane is tested on.
func checkKernel(release string) error {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("read the kernel's version %q: %w", release, err)
	}
	if major < 6 || major == 6 && minor < 1 {
		return fmt.Errorf("%w: this is Linux %s, tinylb needs 6.1 or later", ErrKernelTooOld, release)
	}
	return nil
}

func effectiveCapabilities() (uint64, error) {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return 0, fmt.Errorf("read the process's capabilities: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if hex, found := strings.CutPrefix(line, "CapEff:"); found {
			return strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		}
	}
	return 0, errors.New("read the process's capabilities: no CapEff in /proc/thread-self/status")
}

func checkCapabilities(effective uint64) error {
	has := func(capability uint) bool { return effective&(1<<capability) != 0 }
	var missing []string
	if !has(unix.CAP_BPF) && !has(unix.CAP_SYS_ADMIN) {
		missing = append(missing, "CAP_BPF (to load the data plane)")
	}
	if !has(unix.CAP_PERFMON) && !has(unix.CAP_SYS_ADMIN) {
		missing = append(missing, "CAP_PERFMON (to load the data plane)")
	}
	if !has(unix.CAP_NET_ADMIN) {
		missing = append(missing, "CAP_NET_ADMIN (to attach XDP and to ask for neighbours)")
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s; run as root, or grant it", ErrCapability, strings.Join(missing, ", "))
	}
	return nil
}
