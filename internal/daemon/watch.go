package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// watchFile sends on changed after the file was written, or replaced as editors
// do; it watches the directory because the file itself may come and go.
func watchFile(ctx context.Context, log *slog.Logger, path string, changed chan<- struct{}) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	defer watcher.Close()
	if err := watcher.Add(filepath.Dir(path)); err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-watcher.Errors:
			log.Warn("watching the config file", "error", err)
		case event := <-watcher.Events:
			if filepath.Clean(event.Name) != filepath.Clean(path) || event.Op == fsnotify.Chmod {
				continue
			}
			select {
			case changed <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
		}
	}
}
