package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// watchFile sends on changed after the file was written or replaced. It watches
// the directory, because editors put a new file in place of the old one, and the
// file itself, because that may be all that a container is given.
func watchFile(ctx context.Context, log *slog.Logger, path string, changed chan<- struct{}) error {
	path = filepath.Clean(path)
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	defer watcher.Close()
	if err := errors.Join(watcher.Add(filepath.Dir(path)), watcher.Add(path)); err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-watcher.Errors:
			log.Warn("watching the config file", "error", err)
		case event := <-watcher.Events:
			if event.Op == fsnotify.Chmod || filepath.Clean(event.Name) != path && !isSymlink(path) {
				continue
			}
			_ = watcher.Add(path) // the new file under that name; between two files there is none
			select {
			case changed <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// isSymlink tells a file that changes with others: Kubernetes switches a
// directory of config files by one link beside them.
func isSymlink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&os.ModeSymlink != 0
}
