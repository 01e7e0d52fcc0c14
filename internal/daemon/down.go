package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/nexthop"
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
	if err := forgetGroups(located); err != nil {
		return fmt.Errorf("remove the data plane in %s: %w", pinDir, err)
	}
	if err := datapath.Remove(located); err != nil {
		return fmt.Errorf("remove the data plane in %s: %w", pinDir, err)
	}
	return nil
}

// forgetGroups takes off the attached interfaces what the data plane needed of them, as far
// as its maps still say so.
func forgetGroups(located string) error {
	attached, err := datapath.Attached(located)
	if err != nil {
		return err
	}
	d, err := datapath.OpenPinned(located)
	if err != nil {
		return nil
	}
	defer d.Close()
	tables, err := d.ReadTables()
	if err != nil {
		return err
	}
	var interfaces []nexthop.Interface
	for _, a := range attached {
		if !a.Elsewhere() && a.Alive() {
			interfaces = append(interfaces, nexthop.Interface{Index: a.Index, Name: a.Name})
		}
	}
	groups, err := nexthop.NewGroups()
	if err != nil {
		return err
	}
	defer groups.Close()
	return groups.Forget(interfaces, slices.Collect(maps.Keys(tables.ForeignVIPs)))
}
