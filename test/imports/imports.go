// Package imports holds the rules for which package of tinylb may import
// which, each with its reason, and checks them.
package imports

import (
	"fmt"
	"slices"
	"strings"
)

// Graph maps a package to what it imports, tests left out. Packages of ours
// are named relative to the module ("internal/lb"), others by their full path.
type Graph map[string][]string

// MayImport says which packages of ours a package may import. Both names
// stand for the package and everything below it.
type MayImport struct {
	Package string
	Ours    []string
	Reason  string
}

// ImportedBy says who may import a package or a dependency. Both names stand
// for the package and everything below it.
type ImportedBy struct {
	Dependency string
	Importers  []string
	Reason     string
}

// below reports whether a package is the named one or lies below it.
func below(pkg, name string) bool {
	return pkg == name || strings.HasPrefix(pkg, name+"/")
}

func belowAny(pkg string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return below(pkg, name) })
}

func ours(pkg string) bool {
	return belowAny(pkg, []string{"cmd", "internal", "test"})
}

// support reports whether a package is there for tests only: test/... and, as
// net/http has httptest, packages called after what they help to test.
func support(pkg string) bool {
	return below(pkg, "test") || ours(pkg) && strings.HasSuffix(pkg, "test")
}

// Violations lists every import that breaks a rule, sorted by package. Test
// support may import anything.
func Violations(graph Graph, may []MayImport, by []ImportedBy) []string {
	var found []string
	for pkg, imported := range graph {
		if support(pkg) {
			continue
		}
		for _, dependency := range imported {
			if support(dependency) {
				found = append(found, fmt.Sprintf("%s imports %s: %s", pkg, dependency,
					"test support is for _test.go files, it has no place in the product"))
			}
			for _, rule := range may {
				if below(pkg, rule.Package) && ours(dependency) &&
					!below(dependency, rule.Package) && !belowAny(dependency, rule.Ours) {
					found = append(found, fmt.Sprintf("%s imports %s: %s", pkg, dependency, rule.Reason))
				}
			}
			for _, rule := range by {
				if below(dependency, rule.Dependency) &&
					!below(pkg, rule.Dependency) && !belowAny(pkg, rule.Importers) {
					found = append(found, fmt.Sprintf("%s imports %s: %s", pkg, dependency, rule.Reason))
				}
			}
		}
	}
	slices.Sort(found)
	return found
}
