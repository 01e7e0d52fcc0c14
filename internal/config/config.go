// Package config turns the bytes of a config file into a validated lb.Config,
// or into a list of everything that is wrong with it and where. docs/config.md
// describes the file.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/tinylb/tinylb/internal/lb"
)

// MaxSize is the largest file that Load reads, in bytes.
const MaxSize = 16 << 20

// Options are what a config is checked against besides itself.
type Options struct {
	File string // the name in error messages
	// LocalPorts is the kernel's net.ipv4.ip_local_port_range, which SNAT ports
	// must stay out of. Zero: not known, not checked.
	LocalPorts lb.PortRange
	// ReadFile reads a file that the config names. Nil: none is read, nor missed.
	ReadFile func(path string) ([]byte, error)
}

// Load reads and parses the file at path. The error, if any, is of type Errors.
func Load(path string, opt Options) (lb.Config, []Warning, error) {
	opt.File = path
	opt.ReadFile = func(named string) ([]byte, error) {
		if !filepath.IsAbs(named) {
			named = filepath.Join(filepath.Dir(path), named)
		}
		return os.ReadFile(named)
	}
	data, err := read(path)
	if err != nil {
		hint := ""
		if errors.Is(err, fs.ErrNotExist) {
			hint = "name the config file with -c FILE"
		}
		return lb.Config{}, nil, Errors{{File: path, Message: "cannot read the config: " + reason(err), Hint: hint}}
	}
	return Parse(data, opt)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("it is larger than %d MiB", MaxSize>>20)
	}
	return data, nil
}

// reason is an error without the path, which is printed in front of it.
func reason(err error) string {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err.Error()
	}
	return err.Error()
}

// Parse validates a config file and fills in the defaults. The error, if any,
// is of type Errors and lists everything that is wrong, by position.
func Parse(data []byte, opt Options) (lb.Config, []Warning, error) {
	d := decoder{problems: problems{file: opt.File}, opt: opt}
	root := readYAML(data, &d.problems)
	if root == nil && len(d.errors) == 0 {
		d.fail(position{1, 1}, "it needs at least the keys interfaces and services", "the config is empty")
	}
	var config lb.Config
	if root != nil {
		config = d.config(root)
	}
	warnings, err := d.result()
	if err != nil {
		return lb.Config{}, warnings, err
	}
	return config, warnings, nil
}

func (d *decoder) config(root *node) lb.Config {
	c := lb.Config{
		Mode: lb.ModeAuto, Timeouts: defaultTimeouts(), RateLimits: defaultRateLimits(), Fragments: defaultFragments(),
		Answers: lb.VIPAnswers{Echo: true, Neighbours: true},
	}
	limits := limits{}
	commonSNAT := snat{SNAT: lb.SNAT{Ports: defaultPorts()}}
	commonTunnel := tunnel{Tunnel: lb.Tunnel{Port: defaultGUEPort}}
	var services *node // read last, because they inherit from what may stand below them
	d.fields(root, "the config",
		field{name: "interfaces", required: true, read: func(n *node) { c.Interfaces = d.interfaces(n) }},
		field{name: "mode", read: func(n *node) {
			word, _ := d.choice(n, []string{string(lb.ModeAuto), string(lb.ModeNative), string(lb.ModeGeneric)}, nil)
			c.Mode = lb.Mode(word)
		}},
		field{name: "snat", read: func(n *node) { commonSNAT = d.snat(n, commonSNAT.SNAT) }},
		field{name: "tunnel", read: func(n *node) { commonTunnel = d.tunnel(n, commonTunnel.Tunnel) }},
		field{name: "timeouts", read: func(n *node) { c.Timeouts = d.timeouts(n, c.Timeouts) }},
		field{name: "rate_limits", read: func(n *node) { c.RateLimits = d.rateLimits(n) }},
		field{name: "fragments", read: func(n *node) { c.Fragments = d.fragments(n) }},
		field{name: "answer_echo", read: func(n *node) { c.Answers.Echo = d.boolean(n, c.Answers.Echo) }},
		field{name: "answer_arp", read: func(n *node) { c.Answers.Neighbours = d.boolean(n, c.Answers.Neighbours) }},
		field{name: "seed", read: func(n *node) { c.Seed, _ = d.number(n, 0, math.MaxUint32) }},
		field{name: "limits", read: func(n *node) { limits = d.limits(n) }},
		field{name: "services", required: true, read: func(n *node) { services = n }},
	)
	if services == nil {
		return c
	}
	all := d.services(services)
	d.inheritSNAT(all, commonSNAT, services.keyAt)
	d.inheritTunnel(all, commonTunnel)
	d.inheritTimeouts(all, c.Timeouts)
	d.checkGroups(all)
	d.checkAddresses(all)
	c.Services = make([]lb.Service, len(all))
	for i := range all {
		c.Services[i] = all[i].Service
	}
	needs := lb.NeedsOf(c.Services)
	c.Limits = limits.over(lb.AutomaticLimits(needs))
	c.Limits.Held = c.Fragments.Held
	d.checkLimits(needs, c.Limits, limits.at, services.keyAt)
	return c
}

// checkLimits compares what the config needs with its limits, given at some of these places.
func (d *decoder) checkLimits(needs lb.Needs, l lb.Limits, given map[string]position, servicesAt position) {
	check := func(name, what string, have uint64, limit uint32) {
		if have <= uint64(limit) {
			return
		}
		at, isGiven := given[name]
		if !isGiven {
			at = servicesAt
		}
		d.fail(at, fmt.Sprintf("set limits: {%s: %d} or more", name, have), "limits: the config has %d %s, the limit is %d", have, what, limit)
	}
	check("services", "services", needs.Services, l.Services)
	check("backends", "backends", needs.Backends, l.Backends)
	check("prefixes", "prefixes in allow and deny", needs.Prefixes, l.Prefixes)
	check("table_entries", "table entries (room for a changed table beside the old one included)", needs.TableEntries, l.TableEntries)
}
