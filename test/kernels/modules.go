package kernels

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// moduleFiles lists the files of the named kernel modules and of all that they
// need, in the order in which they must be loaded.
func moduleFiles(root string, names []string) ([]string, error) {
	files, err := findModules(root)
	if err != nil {
		return nil, err
	}
	var order []string
	done := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		if done[name] {
			return nil
		}
		done[name] = true
		file, ok := files[name]
		if !ok {
			return fmt.Errorf("no module %s below %s", name, root)
		}
		needs, err := moduleNeeds(file)
		if err != nil {
			return err
		}
		for _, need := range needs {
			if err := add(need); err != nil {
				return fmt.Errorf("needed by %s: %w", name, err)
			}
		}
		order = append(order, file)
		return nil
	}
	for _, name := range names {
		if err := add(moduleName(name)); err != nil {
			return nil, err
		}
	}
	return slices.Clip(order), nil
}

// moduleName is how the kernel calls a module, whatever its file is called.
func moduleName(file string) string {
	name := strings.TrimSuffix(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func findModules(root string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && filepath.Ext(path) == ".ko" {
			files[moduleName(path)] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for kernel modules: %w", err)
	}
	return files, nil
}

// moduleNeeds reads "depends=a,b" from a module's section .modinfo.
func moduleNeeds(file string) ([]string, error) {
	module, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", file, err)
	}
	defer module.Close()
	section := module.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("module %s: no section .modinfo", file)
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", file, err)
	}
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		if needs, ok := strings.CutPrefix(string(entry), "depends="); ok && needs != "" {
			var names []string
			for need := range strings.SplitSeq(needs, ",") {
				names = append(names, moduleName(need))
			}
			return names, nil
		}
	}
	return nil, nil
}
