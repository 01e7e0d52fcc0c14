package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tinylb/tinylb/internal/datapath"
)

// TakeDown detaches and removes the data plane in a pin directory; none there
// is no error. It fails with ErrRunning while a daemon serves the directory.
func TakeDown(pinDir string) error {
	lock, err := TakeLock(pinDir)
	if err != nil {
		return err
	}
	defer lock.Release()
	located := LocatePins(pinDir)
	if _, err := os.Lstat(located); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// A mistyped directory must not lose its files.
	if filepath.Clean(pinDir) == bpffsRoot || !onBPFFS(located) {
		return fmt.Errorf("remove the data plane in %s: it is not a directory of its own on a BPF file system", pinDir)
	}
	if err := datapath.Remove(located); err != nil {
		return fmt.Errorf("remove the data plane in %s: %w", pinDir, err)
	}
	return nil
}
