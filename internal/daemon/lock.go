package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrRunning says that another daemon serves the same pin directory.
var ErrRunning = errors.New("another tinylb is running")

const runDir = "/run/tinylb"

// Lock is held by the one process that writes to a pin directory.
type Lock struct {
	file *os.File
}

func lockPath(pinDir string) string {
	return filepath.Join(runDir, strings.ReplaceAll(strings.Trim(filepath.Clean(pinDir), "/"), "/", "-")+".lock")
}

// TakeLock takes the lock on a pin directory and writes the process's id into
// it. It fails with ErrRunning when another process has it.
func TakeLock(pinDir string) (*Lock, error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, fmt.Errorf("create the directory for lock files: %w", err)
	}
	file, err := os.OpenFile(lockPath(pinDir), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the lock file: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			pid, _ := Running(pinDir)
			return nil, fmt.Errorf("%w for %s (pid %d)", ErrRunning, pinDir, pid)
		}
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	if err := errors.Join(file.Truncate(0), writePID(file)); err != nil {
		file.Close()
		return nil, fmt.Errorf("write the lock file: %w", err)
	}
	return &Lock{file}, nil
}

func writePID(file *os.File) error {
	_, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// Release lets another process take the lock. The file stays: removing it would
// let two processes hold locks on two files of one name.
func (l *Lock) Release() { l.file.Close() }

// Running returns the id of the process that holds the lock on a pin directory,
// or 0 when none does.
func Running(pinDir string) (int, error) {
	file, err := os.Open(lockPath(pinDir))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open the lock file: %w", err)
	}
	defer file.Close()
	err = unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		return 0, nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return 0, fmt.Errorf("look at %s: %w", file.Name(), err)
	}
	var pid int
	if _, err := fmt.Fscan(file, &pid); err != nil {
		return 0, fmt.Errorf("read %s: %w", file.Name(), err)
	}
	return pid, nil
}
