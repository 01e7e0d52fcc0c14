package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tinylb/tinylb/internal/config"
)

func newCheckCommand(env env) *cobra.Command {
	var path, output string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Validate a config file",
		Long: `Validate a config file and print everything that is wrong with it, each with
its line and column. Nothing is changed, and root is not needed.

The ports for SNAT are held against net.ipv4.ip_local_port_range of this host.`,
		Example: "  tinylb check\n  tinylb check -c web.yaml -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, warnings, err := config.Load(path, config.Options{LocalPorts: localPorts()})
			report := checkReport{File: path, OK: err == nil, Services: len(cfg.Services), Warnings: warnings}
			for _, service := range cfg.Services {
				report.Backends += len(service.Backends)
			}
			if output == "json" {
				return report.printJSON(env.stdout, err)
			}
			for _, warning := range warnings {
				fmt.Fprintln(env.stderr, warning)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.stdout, "%s: ok: %s, %s\n", path, count(report.Services, "service"), count(report.Backends, "backend"))
			return err
		},
	}
	configFlag(cmd, &path)
	outputFlag(cmd, &output)
	return cmd
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// checkReport is the output of "check -o json".
type checkReport struct {
	File     string           `json:"file"`
	OK       bool             `json:"ok"`
	Services int              `json:"services"`
	Backends int              `json:"backends"`
	Warnings []config.Warning `json:"warnings"`
	Errors   config.Errors    `json:"errors"`
}

// printJSON prints the report, invalid, the config's errors, included.
func (r checkReport) printJSON(out io.Writer, invalid error) error {
	if invalid != nil && !errors.As(invalid, &r.Errors) {
		return invalid
	}
	if r.Errors == nil {
		r.Errors = config.Errors{} // [], not null
	}
	if r.Warnings == nil {
		r.Warnings = []config.Warning{}
	}
	if err := printJSON(out, r); err != nil {
		return err
	}
	if invalid != nil {
		return errReported
	}
	return nil
}

func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
