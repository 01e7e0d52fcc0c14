package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWatchFile(t *testing.T) {
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(path string) { must(os.WriteFile(path, []byte(time.Now().String()), 0o600)) }
	tests := []struct {
		name   string
		setUp  func(dir, path string)
		change func(dir, path string)
	}{
		{
			name:   "written",
			setUp:  func(_, path string) { write(path) },
			change: func(_, path string) { write(path) },
		},
		{
			name:  "replaced, as editors do",
			setUp: func(_, path string) { write(path) },
			change: func(_, path string) {
				write(path + ".new")
				must(os.Rename(path+".new", path))
			},
		},
		{
			name: "a link beside it switched, as Kubernetes does",
			setUp: func(dir, path string) {
				for _, version := range []string{"one", "two"} {
					must(os.Mkdir(filepath.Join(dir, version), 0o700))
					write(filepath.Join(dir, version, filepath.Base(path)))
				}
				must(os.Symlink("one", filepath.Join(dir, "..data")))
				must(os.Symlink(filepath.Join("..data", filepath.Base(path)), path))
			},
			change: func(dir, _ string) {
				must(os.Symlink("two", filepath.Join(dir, "..new")))
				must(os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "tinylb.yaml")
			test.setUp(dir, path)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			changed := make(chan struct{})
			ended := make(chan error)
			go func() { ended <- watchFile(ctx, slog.New(slog.DiscardHandler), path, changed) }()
			// it may not be watching yet, so the change is made until it is seen
			for seen := false; !seen; {
				test.change(dir, path)
				select {
				case <-changed:
					seen = true
				case <-time.After(50 * time.Millisecond):
				case <-ctx.Done():
					t.Fatal("the change was not seen")
				}
			}
			go func() {
				for range changed { // whatever else it has to say
				}
			}()
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			close(changed)
		})
	}
}
