package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tinylb/tinylb/internal/config"
)

func newRootCommand(env env) *cobra.Command {
	root := &cobra.Command{
		Use:   "tinylb",
		Short: "A layer-4 load balancer for Linux",
		Long: `tinylb takes packets for a virtual address (VIP) off the network card in an XDP
program, picks a backend, rewrites them, sends them on, and takes the answers
back the same way.

Exit codes: 0 done, 1 the input or the request was wrong, 2 the host or the
kernel refused.`,
		Example: "  tinylb check -c tinylb.yaml\n  sudo tinylb run -c tinylb.yaml",
		// run prints the error, once; the usage would bury it.
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetArgs(env.args)
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetFlagErrorFunc(explainFlag)
	for _, newCommand := range commands() {
		root.AddCommand(newCommand(env))
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	refuseUnknownTopics(root)
	return root
}

// refuseUnknownTopics makes cobra's own commands fail, as ours do, where they
// would print a help text and succeed.
func refuseUnknownTopics(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "completion":
			// its Args are looked at only where there is something to run
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				if found, rest, err := root.Find(args); err != nil || found != root && len(rest) > 0 {
					return fmt.Errorf("no such command: %s", strings.Join(args, " "))
				}
				return nil
			}
		}
	}
}

// commands lists every command but cobra's own, completion and help.
func commands() []func(env) *cobra.Command {
	return []func(env) *cobra.Command{
		newRunCommand,
		newDownCommand,
		newCheckCommand,
		newSimulateCommand,
		newStatusCommand,
		newDemoCommand,
		newDemoBackendCommand,
		newDemoClientCommand,
		newVersionCommand,
	}
}

// explainFlag adds the flag that was probably meant, and where all are listed.
func explainFlag(cmd *cobra.Command, err error) error {
	help := fmt.Sprintf("see: %s --help", cmd.CommandPath())
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return fmt.Errorf("%w; %s", err, help)
	}
	var flags []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, f.Name) })
	if meant := config.Nearest(unknown.GetSpecifiedName(), flags); meant != "" {
		help = fmt.Sprintf("did you mean --%s? %s", meant, help)
	}
	return fmt.Errorf("%w; %s", err, help)
}

// defaultConfig is the config file where no -c names another.
const defaultConfig = "/etc/tinylb/tinylb.yaml"

func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", defaultConfig, "config `file`")
	// The flag exists: its completion cannot fail.
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
}

func outputFlag(cmd *cobra.Command, format *string) {
	*format = "text"
	cmd.Flags().VarP(&oneOf{format, []string{"text", "json"}}, "output", "o", "output `format`: text or json")
	// As above.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// oneOf is a flag with a few possible values.
type oneOf struct {
	value   *string
	allowed []string
}

func (o *oneOf) String() string {
	if o.value == nil { // pflag asks a zero one for its default
		return ""
	}
	return *o.value
}

func (o *oneOf) Type() string { return "string" }

func (o *oneOf) Set(value string) error {
	for _, allowed := range o.allowed {
		if value == allowed {
			*o.value = value
			return nil
		}
	}
	return fmt.Errorf("expected %s", strings.Join(o.allowed, " or "))
}
