package daemon

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// DefaultPinDir is where the data plane is pinned unless another place is named.
const DefaultPinDir = "/sys/fs/bpf/tinylb"

const bpffsRoot = "/sys/fs/bpf"

// LocatePins returns the path by which this process reaches pinDir: pinDir
// itself, or, where a private /sys hides it, the one that an ancestor sees.
// "ip netns exec" and the like give a command a /sys of its own, and pins made
// there would go with the command.
func LocatePins(pinDir string) string {
	if onBPFFS(pinDir) || !belowRoot(pinDir) {
		return pinDir
	}
	outer, found := findOuter()
	if !found {
		return pinDir
	}
	if path := outer.root + pinDir; onBPFFS(path) {
		return path
	}
	return pinDir
}

// ensureBPFFS makes sure that pinDir lies on a BPF file system, mounts the
// usual one where it is only not mounted yet, and returns what LocatePins does.
func ensureBPFFS(pinDir string) (string, error) {
	located := LocatePins(pinDir)
	if onBPFFS(located) {
		return located, nil
	}
	if !belowRoot(pinDir) {
		return "", fmt.Errorf("%w at %s: choose a directory below %s", ErrNoBPFFS, pinDir, bpffsRoot)
	}
	mount := mountBPFFS
	if outer, found := findOuter(); found {
		mount = func() error { return outer.run(mountBPFFS) }
	}
	if err := mount(); err != nil {
		return "", fmt.Errorf("%w at %s, and mounting it failed (%w); run: mount -t bpf bpf %s",
			ErrNoBPFFS, bpffsRoot, err, bpffsRoot)
	}
	return LocatePins(pinDir), nil
}

func mountBPFFS() error { return unix.Mount("bpf", bpffsRoot, "bpf", 0, "mode=0700") }

func belowRoot(pinDir string) bool {
	return strings.HasPrefix(filepath.Clean(pinDir)+"/", bpffsRoot+"/")
}

// outer is the mount namespace that this process was started from.
type outer struct {
	pid  int    // of a process in it
	root string // path to its root directory, for as long as this process lives
}

// findOuter looks for the farthest ancestor whose mounts are others than ours
// and may be seen.
func findOuter() (outer, bool) {
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return outer{}, false
	}
	found := 0
	for pid := os.Getppid(); pid > 0; pid = parentOf(pid) {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
		if err == nil && theirs != own {
			found = pid
		}
	}
	if found == 0 {
		return outer{}, false
	}
	// stays open: the ancestor may end
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/root", found), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return outer{}, false
	}
	return outer{pid: found, root: fmt.Sprintf("/proc/self/fd/%d", fd)}, true
}

func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	var state string
	var parent int
	afterName := string(stat[bytes.LastIndexByte(stat, ')')+1:])
	if _, err := fmt.Sscan(afterName, &state, &parent); err != nil {
		return 0
	}
	return parent
}

// run calls f in the mount namespace, on a thread that ends with it.
func (o outer) run(f func() error) error {
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", o.pid))
	if err != nil {
		return err
	}
	defer namespace.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread must not serve other goroutines
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			done <- fmt.Errorf("unshare: %w", err)
			return
		}
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNS); err != nil {
			done <- fmt.Errorf("enter the outer mount namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// onBPFFS looks at the nearest directory above path that exists.
func onBPFFS(path string) bool {
	var fs unix.Statfs_t
	for {
		err := unix.Statfs(path, &fs)
		if err == nil {
			return fs.Type == unix.BPF_FS_MAGIC
		}
		if path == "/" || path == "." {
			return false
		}
		path = filepath.Dir(path)
	}
}
