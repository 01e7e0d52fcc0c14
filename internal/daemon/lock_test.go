package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinylb/tinylb/test/need"
)

func TestLock(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	if pid, err := Running(dir); pid != 0 || err != nil {
		t.Fatalf("before: %d, %v", pid, err)
	}
	lock, err := TakeLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if pid, err := Running(dir); pid != os.Getpid() || err != nil {
		t.Errorf("held: %d, %v; want this process, %d", pid, err, os.Getpid())
	}
	if _, err := TakeLock(dir); !errors.Is(err, ErrRunning) {
		t.Errorf("taken twice: %v", err)
	}
	if err := TakeDown(dir); !errors.Is(err, ErrRunning) {
		t.Errorf("taken down while held: %v", err)
	}
	lock.Release()
	if _, err := os.Stat(lockPath(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock file stays behind: %v", err)
	}
	if pid, err := Running(dir); pid != 0 || err != nil {
		t.Errorf("after: %d, %v", pid, err)
	}
}

// TestStaleLock is what a killed daemon leaves: a file that nobody has locked.
func TestStaleLock(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(lockPath(dir), []byte("123456789\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(lockPath(dir))
	if pid, err := Running(dir); pid != 0 || err != nil {
		t.Errorf("%d, %v; nobody holds it", pid, err)
	}
	lock, err := TakeLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if pid, err := Running(dir); pid != os.Getpid() || err != nil {
		t.Errorf("%d, %v; want this process, %d", pid, err, os.Getpid())
	}
}

func TestEveryDirectoryHasItsOwnLock(t *testing.T) {
	owner := map[string]string{}
	for _, dir := range []string{DefaultPinDir, "/sys/fs/bpf/a/b", "/sys/fs/bpf/a-b", "/sys/fs/bpf/a%2Fb", "a/b", "/a/b"} {
		path := lockPath(dir)
		if other, taken := owner[path]; taken {
			t.Errorf("%s and %s share %s", dir, other, path)
		}
		owner[path] = dir
		if filepath.Dir(path) != runDir || strings.HasPrefix(filepath.Base(path), ".") {
			t.Errorf("%s has its lock at %s", dir, path)
		}
	}
	if lockPath("/sys/fs/bpf/a/") != lockPath("/sys/fs/bpf//a") {
		t.Error("two spellings of a directory have two locks")
	}
}

// TestTakeDownSparesFiles mistypes --pin.
func TestTakeDownSparesFiles(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "precious")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := TakeDown(dir); err == nil {
		t.Error("a directory on a disk was taken down")
	}
	if err := TakeDown(bpffsRoot); err == nil {
		t.Error("everybody's pins were taken down")
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	if err := TakeDown(filepath.Join(dir, "none")); err != nil {
		t.Errorf("nothing there: %v", err)
	}
}
