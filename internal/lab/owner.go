package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"

	"github.com/vishvananda/netns"
)

// namespaceDir is where ip-netns(8) looks for named namespaces.
const namespaceDir = "/run/netns"

// owned matches what belongs to a lab: tlb-PID-START-LAB, and more after it.
var owned = regexp.MustCompile(`^tlb-([0-9]+)-([0-9a-z]+)-`)

// owner is the process that a lab lives and dies with. The start time tells it
// from a later process with the same pid.
type owner struct {
	pid   int
	start uint64 // clock ticks since boot, field 22 of proc_pid_stat(5)
}

func self() (owner, error) {
	start, err := startTime(os.Getpid())
	return owner{pid: os.Getpid(), start: start}, err
}

func (o owner) prefix() string {
	return fmt.Sprintf("tlb-%d-%s-", o.pid, strconv.FormatUint(o.start, 36))
}

// alive reports whether the process still runs. A doubt counts as alive.
func (o owner) alive() bool {
	start, err := startTime(o.pid)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	return err != nil || start == o.start
}

func parseOwner(name string) (owner, bool) {
	fields := owned.FindStringSubmatch(name)
	if fields == nil {
		return owner{}, false
	}
	pid, err := strconv.Atoi(fields[1])
	if err != nil {
		return owner{}, false
	}
	start, err := strconv.ParseUint(fields[2], 36, 64)
	return owner{pid: pid, start: start}, err == nil
}

// Abandoned reports whether the name starts with the Prefix of a lab whose
// process is gone.
func Abandoned(name string) bool {
	o, ok := parseOwner(name)
	return ok && !o.alive()
}

// startTime returns fs.ErrNotExist for a process that is gone or a zombie.
func startTime(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field, the command in parentheses, may contain anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields after the command, want 20", pid, len(fields))
	}
	if state := fields[0][0]; state == 'Z' || state == 'X' {
		return 0, fmt.Errorf("process %d has ended: %w", pid, fs.ErrNotExist)
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// sweep removes the namespaces of labs whose process died without Close.
func sweep() error {
	entries, err := os.ReadDir(namespaceDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if Abandoned(e.Name()) {
			// An error means that another lab's New was faster, or that
			// the next one tries again: no reason not to build this lab.
			_ = netns.DeleteNamed(e.Name())
		}
	}
	return nil
}
