package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// setting is one "key: value" line above the benchmarks, where benchstat and parse find it.
type setting struct {
	key, value string
}

// machine describes where and when a run is made, as far as it can be found out.
func machine(ctx context.Context, goTool, command string) []setting {
	all := []setting{
		{"date", time.Now().UTC().Format("2006-01-02")},
		{"commit", output(ctx, "git", "describe", "--always", "--dirty")},
		{"command", command},
		{"cores", fmt.Sprint(runtime.NumCPU())},
		{"caches", caches()},
		{"memory", memory()},
		{"virtual", virtual()},
		{"kernel", contents("/proc/sys/kernel/osrelease")},
		{"mitigations", mitigations()},
		{"bpf-jit", jit()},
		{"go", output(ctx, goTool, "env", "GOVERSION")},
		{"clang", compiler()},
	}
	known := all[:0]
	for _, s := range all {
		if s.value != "" {
			known = append(known, s)
		}
	}
	return known
}

func contents(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func output(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// caches matter as much as the clock: a million flows fit into none of them.
func caches() string {
	var all []string
	for i := range 8 {
		dir := fmt.Sprintf("/sys/devices/system/cpu/cpu0/cache/index%d/", i)
		if kind := contents(dir + "type"); kind == "Data" || kind == "Unified" {
			all = append(all, fmt.Sprintf("L%s %s", contents(dir+"level"), contents(dir+"size")))
		}
	}
	return strings.Join(all, ", ")
}

func memory() string {
	total := field("/proc/meminfo", `MemTotal:\s+(\d+) kB`)
	var kB int
	if _, err := fmt.Sscan(total, &kB); err != nil {
		return ""
	}
	return fmt.Sprintf("%.0f GB", float64(kB)/1e6)
}

func virtual() string {
	if field("/proc/cpuinfo", `(?m)^flags\s*:.* (hypervisor)\b`) != "" {
		return "yes"
	}
	return "no"
}

func field(path, pattern string) string {
	if found := regexp.MustCompile(pattern).FindStringSubmatch(contents(path)); found != nil {
		return found[1]
	}
	return ""
}

// mitigations are those that make an indirect call, and so a packet, dearer.
func mitigations() string {
	const dir = "/sys/devices/system/cpu/vulnerabilities/"
	var all []string
	for _, name := range []string{"spectre_v1", "spectre_v2", "retbleed", "spec_store_bypass"} {
		if v := contents(dir + name); v != "" && v != "Not affected" {
			all = append(all, name+": "+strings.TrimPrefix(v, "Mitigation: "))
		}
	}
	return strings.Join(all, "; ")
}

func jit() string {
	on := map[string]string{"0": "off", "1": "on", "2": "on, with debugging"}[contents("/proc/sys/net/core/bpf_jit_enable")]
	if h := contents("/proc/sys/net/core/bpf_jit_harden"); h != "" && h != "0" {
		on += ", hardened"
	}
	return on
}

// compiler is what compiled the objects in git, not what this machine may have.
func compiler() string {
	return field("internal/datapath/gen.go", `-cc clang-(\S+)`)
}
