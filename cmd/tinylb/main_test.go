package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/tinylb/tinylb/internal/config"
	"github.com/tinylb/tinylb/internal/lb"
)

// execute runs one command line in-process.
func execute(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(t.Context(), env{args, strings.NewReader(""), &out, &errOut})
	return out.String(), errOut.String(), code
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tinylb.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The SNAT port is one that the kernel of no test host gives away.
const (
	validConfig = `
interfaces: [eth0]
snat: {ports: 80}
services:
  - name: web
    address: 192.17.0.5:80
    backends:
      - {address: 192.17.0.2:80}
      - {address: 192.17.0.3:80}
  - name: quiet
    address: 192.17.0.5:81
    backends: [{address: 192.17.0.2:81, weight: 0}]
`
	invalidConfig = "interfaces: []\nmode: natve\nservices: 1\n"
)

func TestCheck(t *testing.T) {
	valid, invalid, dir := writeFile(t, validConfig), writeFile(t, invalidConfig), t.TempDir()
	tests := []struct {
		name           string
		args           []string
		stdout, stderr string
		code           int
	}{
		{"valid", []string{"check", "-c", valid},
			valid + ": ok: 2 services, 3 backends\n",
			valid + ":12:5: warning: backends: all have weight 0: the service takes no new flow (give at least one a weight of 1 or more)\n", exitDone},
		{"invalid", []string{"check", "--config", invalid},
			"",
			invalid + ":1:13: interfaces: expected at least one item, found an empty list (write it as interfaces: [eth0])\n" +
				invalid + ":2:7: mode: unknown value \"natve\" (did you mean \"native\"?)\n" +
				invalid + ":3:11: services: expected a list, found \"1\" (write it as a list of services, each starting with \"- name:\")\n", exitInput},
		{"missing file", []string{"check", "-c", dir + "/none"},
			"",
			dir + "/none: cannot read the config: no such file or directory (name the config file with -c FILE)\n", exitInput},
		{"directory", []string{"check", "-c", dir},
			"",
			dir + ": cannot read the config: is a directory\n", exitInput},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stdout, stderr, code := execute(t, test.args...)
			if stdout != test.stdout || stderr != test.stderr || code != test.code {
				t.Errorf("got  %d\n%s%s\nwant %d\n%s%s", code, stdout, stderr, test.code, test.stdout, test.stderr)
			}
		})
	}
}

func TestCheckJSON(t *testing.T) {
	tests := []struct {
		name, text, want string
		code             int
	}{
		{"valid", validConfig, `{"file":"FILE","ok":true,"services":2,"backends":3,"warnings":[` +
			`{"file":"FILE","line":12,"column":5,"message":"backends: all have weight 0: the service takes no new flow","hint":"give at least one a weight of 1 or more"}` +
			`],"errors":[]}`, exitDone},
		{"invalid", "interface: [eth0]\nservices: []\n", `{"file":"FILE","ok":false,"services":0,"backends":0,"warnings":[],"errors":[` +
			`{"file":"FILE","line":1,"column":1,"message":"the config: unknown key \"interface\"","hint":"did you mean \"interfaces\"?"},` +
			`{"file":"FILE","line":2,"column":11,"message":"services: expected at least one item, found an empty list","hint":"write it as a list of services, each starting with \"- name:\""}` +
			`]}`, exitInput},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := writeFile(t, test.text)
			stdout, stderr, code := execute(t, "check", "-c", path, "-o", "json")
			var compact bytes.Buffer
			if err := json.Compact(&compact, []byte(stdout)); err != nil {
				t.Fatalf("%v in %q", err, stdout)
			}
			if got := strings.ReplaceAll(compact.String(), path, "FILE"); got != test.want || stderr != "" || code != test.code {
				t.Errorf("got  %d %s%s\nwant %d %s", code, got, stderr, test.code, test.want)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	tests := []struct {
		args   []string
		stdout string // the start of it
		stderr string
		code   int
	}{
		{nil, "tinylb takes packets", "", exitDone},
		{[]string{"--help"}, "tinylb takes packets", "", exitDone},
		{[]string{"check", "--help"}, "Validate a config file and print", "", exitDone},
		{[]string{"chek"}, "", "tinylb: unknown command \"chek\" for \"tinylb\"\n\nDid you mean this?\n\tcheck\n\n", exitInput},
		{[]string{"check", "a.yaml"}, "", "tinylb: unknown command \"a.yaml\" for \"tinylb check\"\n", exitInput},
		{[]string{"check", "--confg", "f"}, "", "tinylb: unknown flag: --confg; did you mean --config? see: tinylb check --help\n", exitInput},
		{[]string{"check", "-x"}, "", "tinylb: unknown shorthand flag: 'x' in -x; see: tinylb check --help\n", exitInput},
		{[]string{"check", "-c"}, "", "tinylb: flag needs an argument: 'c' in -c; see: tinylb check --help\n", exitInput},
		{[]string{"check", "-o", "yaml"}, "", "tinylb: invalid argument \"yaml\" for \"-o, --output\" flag: expected text or json; see: tinylb check --help\n", exitInput},
		{[]string{"simulate"}, "", "tinylb: expected one capture file, found 0; see: tinylb simulate --help\n", exitInput},
		{[]string{"simulate", "--next-hop-mac", "0", "a"}, "", "tinylb: --next-hop-mac \"0\": expected one machine's Ethernet address, such as 02:00:00:00:00:01\n", exitInput},
		{[]string{"simulate", "--next-hop-mac", "00:00:00:00:00:00", "a"}, "", "tinylb: --next-hop-mac \"00:00:00:00:00:00\": expected one machine's Ethernet address, such as 02:00:00:00:00:01\n", exitInput},
		{[]string{"simulate", "--next-hop-vlan", "4095", "a"}, "", "tinylb: --next-hop-vlan \"4095\": expected a VLAN id from 1 to 4094, or 0 for frames without a tag\n", exitInput},
		{[]string{"simulate", "--next-hop-vlan", "-1", "a"}, "", "tinylb: --next-hop-vlan \"-1\": expected a VLAN id from 1 to 4094, or 0 for frames without a tag\n", exitInput},
		{[]string{"simulate", "--next-hop-mac", "ff:ff:ff:ff:ff:ff", "a"}, "", "tinylb: --next-hop-mac \"ff:ff:ff:ff:ff:ff\": expected one machine's Ethernet address, such as 02:00:00:00:00:01\n", exitInput},
		{[]string{"help", "check"}, "Validate a config file and print", "", exitDone},
		{[]string{"help", "chek"}, "", "tinylb: no such command: chek\n", exitInput},
		{[]string{"completion", "csh"}, "", "tinylb: unknown command \"csh\" for \"tinylb completion\"\n", exitInput},
		{[]string{"version"}, "tinylb ", "", exitDone},
		{[]string{"completion", "bash"}, "# bash completion", "", exitDone},
		{[]string{"completion", "zsh"}, "#compdef tinylb", "", exitDone},
		{[]string{"completion", "fish"}, "# fish completion", "", exitDone},
		{[]string{"completion", "powershell"}, "# powershell completion", "", exitDone},
		{[]string{"__complete", "check", "-o", ""}, "text\njson\n", "Completion ended with directive: ShellCompDirectiveNoFileComp\n", exitDone},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			stdout, stderr, code := execute(t, test.args...)
			if !strings.HasPrefix(stdout, test.stdout) || test.stdout == "" && stdout != "" || stderr != test.stderr || code != test.code {
				t.Errorf("got  %d %q %q\nwant %d %q %q", code, stdout, stderr, test.code, test.stdout, test.stderr)
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	plain := errors.New("refused")
	tests := []struct {
		name string
		err  error
		want string
		code int
	}{
		{"none", nil, "", exitDone},
		{"no host error", hostErr(nil), "", exitDone},
		{"input", plain, "tinylb: refused\n", exitInput},
		{"host", hostErr(plain), "tinylb: refused\n", exitHost},
		{"host, wrapped", errors.Join(hostErr(plain)), "tinylb: refused\n", exitHost},
		{"config", config.Errors{{File: "f", Line: 1, Column: 2, Message: "wrong"}}, "f:1:2: wrong\n", exitInput},
		{"reported", errReported, "", exitInput},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var stderr bytes.Buffer
			if code := report(&stderr, test.err); code != test.code || stderr.String() != test.want {
				t.Errorf("got %d %q, want %d %q", code, stderr.String(), test.code, test.want)
			}
		})
	}
	if !errors.Is(hostErr(plain), plain) {
		t.Error("hostErr hides what it wraps")
	}
}

// TestEveryCommandExplainsItself asks each command for its help texts.
func TestEveryCommandExplainsItself(t *testing.T) {
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Long == "" || cmd.Example == "" {
			t.Errorf("%s lacks a short text, a long one, or an example", cmd.CommandPath())
		}
		for _, child := range cmd.Commands() {
			if name := child.Name(); name != "help" && name != "completion" { // cobra's own
				visit(child)
			}
		}
	}
	visit(newRootCommand(env{}))
}

func TestVersion(t *testing.T) {
	stdout, _, code := execute(t, "version", "-o", "json")
	var b build
	if err := json.Unmarshal([]byte(stdout), &b); err != nil || code != exitDone || b.Version == "" || b.Go == "" || b.OS != "linux" || b.Arch == "" {
		t.Errorf("%d %s: %v", code, stdout, err)
	}
	info := &debug.BuildInfo{Main: debug.Module{Version: "v0.9.0"}, Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}}}
	tests := []struct {
		version string
		info    *debug.BuildInfo
		want    string
	}{
		{"v1.2.3", info, "tinylb v1.2.3 (revision abc, modified, "},
		{"", info, "tinylb v0.9.0 (revision abc, modified, "},
		{"", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "tinylb dev (revision unknown, "},
		{"", nil, "tinylb dev (revision unknown, "},
	}
	for _, test := range tests {
		if got := newBuild(test.version, test.info).String(); !strings.HasPrefix(got, test.want) {
			t.Errorf("got %q, want %q...", got, test.want)
		}
	}
}

func TestParseLocalPorts(t *testing.T) {
	for text, want := range map[string]lb.PortRange{
		"32768\t60999\n": {First: 32768, Last: 60999},
		"":               {},
		"1024":           {},
		"a b":            {},
		"1 99999":        {},
	} {
		if got := parseLocalPorts(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}
