package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ErrRunning says that another daemon serves the same pin directory.
var ErrRunning = errors.New("another tinylb is running")

const runDir = "/run/tinylb"

const (
	// lockAttempts bounds how often the lock's file may vanish under our hands,
	// or be empty.
	lockAttempts = 100
	maxPIDLength = 32
)

// Lock is held by the one process that writes to a pin directory. It is an open
// file description lock (fcntl(2)): others can look at it without taking it.
type Lock struct {
	file *os.File
}

// lockPath is another one for every directory.
func lockPath(pinDir string) string {
	return filepath.Join(runDir, url.PathEscape(filepath.Clean(pinDir))+".lock")
}

// TakeLock takes the lock on a pin directory and writes the process's id into
// it. It fails with ErrRunning when another process has it.
func TakeLock(pinDir string) (*Lock, error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, fmt.Errorf("create the directory for lock files: %w", err)
	}
	for range lockAttempts {
		file, err := lockFile(pinDir)
		if err != nil {
			return nil, err
		}
		if !stillThere(file) { // its last holder has just removed it
			file.Close()
			continue
		}
		if err := errors.Join(file.Truncate(0), writePID(file)); err != nil {
			file.Close()
			return nil, fmt.Errorf("write the lock file: %w", err)
		}
		return &Lock{file}, nil
	}
	return nil, fmt.Errorf("lock %s: others took and removed it %d times", lockPath(pinDir), lockAttempts)
}

func lockFile(pinDir string) (*os.File, error) {
	file, err := os.OpenFile(lockPath(pinDir), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the lock file: %w", err)
	}
	err = unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, wholeFile())
	if err == nil {
		return file, nil
	}
	file.Close()
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		pid, _ := Running(pinDir)
		return nil, fmt.Errorf("%w for %s (pid %d)", ErrRunning, pinDir, pid)
	}
	return nil, fmt.Errorf("lock %s: %w", lockPath(pinDir), err)
}

func wholeFile() *unix.Flock_t {
	return &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
}

// stillThere reports whether a file is the one that its name leads to.
func stillThere(file *os.File) bool {
	held, err := file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(file.Name())
	return err == nil && os.SameFile(held, named)
}

func writePID(file *os.File) error {
	_, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// Release lets another process take the lock, and removes its file while it is
// still held.
func (l *Lock) Release() {
	os.Remove(l.file.Name())
	l.file.Close()
}

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
	holder := wholeFile()
	if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, holder); err != nil {
		return 0, fmt.Errorf("look at %s: %w", file.Name(), err)
	}
	if holder.Type == unix.F_UNLCK {
		return 0, nil
	}
	return readPID(file)
}

// readPID waits, within bounds, for a holder that has taken the lock but not yet
// written its id.
func readPID(file *os.File) (int, error) {
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for attempt := 1; ; attempt++ {
		var pid int
		_, err := fmt.Fscan(io.NewSectionReader(file, 0, maxPIDLength), &pid)
		if err == nil {
			return pid, nil
		}
		if !errors.Is(err, io.EOF) || attempt == lockAttempts {
			return 0, fmt.Errorf("read %s: %w", file.Name(), err)
		}
		<-poll.C
	}
}
