package diff

import (
	"io/fs"
	"slices"
)

// sources is the module as far as it takes to compile it: without git's own
// files, and without the corpus.
type sources struct{ fs.FS }

func (s sources) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(s.FS, name)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return e.Name() == ".git" || e.Name() == "testdata" || !e.IsDir() && !e.Type().IsRegular()
	}), err
}
