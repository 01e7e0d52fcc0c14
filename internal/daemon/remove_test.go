package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/test/need"
)

// bpffs mounts a BPF file system of the test's own.
func bpffs(t *testing.T) string {
	t.Helper()
	need.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestRemove(t *testing.T) {
	dir := filepath.Join(bpffs(t), "pins")
	if err := datapath.Remove(dir); err != nil {
		t.Errorf("nothing there: %v", err)
	}
	d, err := datapath.Open(datapath.Options{PinDir: dir, Limits: lb.Limits{Flows: 64, Services: 4, Backends: 4, TableEntries: 1024}})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := datapath.Remove(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}

func TestRemoveLeavesAnotherProgramsPins(t *testing.T) {
	dir := filepath.Join(bpffs(t), "theirs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	theirs, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	pin := filepath.Join(dir, "theirs")
	if err := theirs.Pin(pin); err != nil {
		t.Fatal(err)
	}
	if err := datapath.Remove(dir); !errors.Is(err, datapath.ErrForeign) {
		t.Errorf("got %v, want ErrForeign", err)
	}
	if _, err := os.Stat(pin); err != nil {
		t.Error(err)
	}
}
