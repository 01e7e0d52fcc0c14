// Package guest is what the harness on the host and the init process in the
// virtual machine agree on.
package guest

import "time"

// JobFile is the path of the job in the initramfs, as JSON.
const JobFile = "/job.json"

// ResultPort is the serial line on which the guest reports. The kernel's own
// messages go to another one, so that they cannot tear a line apart.
const ResultPort = "/dev/ttyS1"

// Lines of the report. Between Begin and End of a test stands its output.
const (
	KernelFormat  = "KERNEL-TEST kernel %s"
	BeginFormat   = "KERNEL-TEST begin %s"
	EndFormat     = "KERNEL-TEST %s exit=%d"
	TroubleFormat = "KERNEL-TEST trouble: %s" // the guest could not do its job
	DoneLine      = "KERNEL-TEST done"        // nothing is missing from the report
)

// Job is what a guest does after it has booted.
type Job struct {
	Modules []string // paths of kernel modules, each after those it needs
	Tests   []Test
}

// Test is one Go test binary.
type Test struct {
	Name    string
	Binary  string
	Args    []string
	Dir     string // the working directory, with the package's testdata
	Timeout time.Duration
}
