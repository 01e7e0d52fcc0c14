// Package kernels runs the data plane's tests under the oldest kernel that
// tinylb supports and a newer one, in a virtual machine that needs no hardware
// support: an initramfs holds the test binaries and an init that runs them.
package kernels

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Package is a Go package whose tests run under each kernel.
type Package struct {
	Path    string        // below the module's root, like internal/datapath
	Run     string        // which tests, as in go test -run; . means all
	Args    []string      // further arguments of the test binary
	Modules []string      // kernel modules that the tests need, like veth
	Timeout time.Duration // for all of them, without hardware support
	// AllowedSkips match the output of the tests that may skip themselves.
	AllowedSkips []*regexp.Regexp
}

// Packages lists what runs under each kernel. Add a package here.
func Packages() []Package {
	return []Package{
		{
			Path: "internal/datapath",
			// Each test loads programs, and an emulated processor takes seconds to verify one: so only those that
			// show that each loads, each way through it, and what the flow table needs of a kernel.
			Run:     "^Test(EveryKnobCombinationLoads|TCPLife|UDPLife|FlowTableFull|ARP|NeighbourSolicitation|CPUsOpenTheSameFlows)$",
			Args:    []string{"-test.short"},
			Modules: []string{"veth"},
			Timeout: 15 * time.Minute,
		},
		{
			Path:    "internal/simulate",
			Run:     "^Test(Conversation|SameInputSameOutput)$",
			Timeout: 4 * time.Minute,
		},
		{
			Path:    "test/diff",
			Run:     "^TestDifferential$",
			Args:    []string{"-packets=4000"}, // of emulated processors; too few for the test to count reasons
			Timeout: 10 * time.Minute,
		},
	}
}

// Kernel is an unpacked Debian kernel that the script fetch left in the cache.
type Kernel struct {
	Series string // 6.1
	Dir    string
}

// Kernels lists the kernels to test under: the oldest supported one and the
// newest that Debian 12 has.
func Kernels() ([]Kernel, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("where kernels are kept: %w", err)
	}
	dir := filepath.Join(cache, "tinylb", "kernels")
	return []Kernel{
		{Series: "6.1", Dir: filepath.Join(dir, "6.1")},
		{Series: "6.12", Dir: filepath.Join(dir, "6.12")},
	}, nil
}

// Fetched reports whether the kernel is in the cache.
func (k Kernel) Fetched() bool {
	_, err := os.Stat(k.image())
	return err == nil
}

func (k Kernel) image() string   { return filepath.Join(k.Dir, "vmlinuz") }
func (k Kernel) modules() string { return filepath.Join(k.Dir, "modules") }
