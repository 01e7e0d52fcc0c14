package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3".
var version = ""

// build says what this program was built from.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"` // of the source, "" where it is not known
	Modified bool   `json:"modified"` // the source differed from the revision
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

func newVersionCommand(env env) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Long:    "Print the version, the revision of the source, and the Go version and platform\nof the build.",
		Example: "  tinylb version\n  tinylb version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			info, _ := debug.ReadBuildInfo()
			b := newBuild(version, info)
			if output == "json" {
				return printJSON(env.stdout, b)
			}
			_, err := fmt.Fprintln(env.stdout, b)
			return err
		},
	}
	outputFlag(cmd, &output)
	return cmd
}

// newBuild joins what the linker and the Go tool recorded; info may be nil.
func newBuild(version string, info *debug.BuildInfo) build {
	b := build{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if info != nil {
		if b.Version == "" && info.Main.Version != "(devel)" {
			b.Version = info.Main.Version
		}
		for _, setting := range info.Settings {
			switch setting.Key {
			case "vcs.revision":
				b.Revision = setting.Value
			case "vcs.modified":
				b.Modified = setting.Value == "true"
			}
		}
	}
	if b.Version == "" {
		b.Version = "dev"
	}
	return b
}

func (b build) String() string {
	revision := b.Revision
	if revision == "" {
		revision = "unknown"
	}
	if b.Modified {
		revision += ", modified"
	}
	return fmt.Sprintf("tinylb %s (revision %s, %s, %s/%s)", b.Version, revision, b.Go, b.OS, b.Arch)
}
