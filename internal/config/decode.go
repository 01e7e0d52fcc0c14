package config

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// decoder reads values out of nodes. Its methods note a problem and return the
// zero value, so that reading goes on and finds the others.
type decoder struct {
	problems
	opt Options
}

// field is one key of a map.
type field struct {
	name     string
	required bool
	read     func(*node)

	given bool
	at    position // of the key, where it is given
}

// fields reads a map, in the order of the file. where names the map in messages.
func (d *decoder) fields(n *node, where string, fields ...field) {
	if n.kind != mapping {
		hint := "its keys are: " + strings.Join(names(fields), ", ")
		if key, _, _ := strings.Cut(n.text, ":"); n.text != key && indexOf(fields, key) >= 0 {
			hint = "put a space after the colon"
		}
		d.fail(n.position, hint, "%s: expected a map, found %s", where, n.found())
		return
	}
	var misspelt []string // what was meant: not missing as well
	for _, pair := range n.pairs {
		i := indexOf(fields, pair.key)
		switch {
		case i < 0:
			d.fail(pair.at, suggest(pair.key, names(fields)), "%s: unknown key %s", where, quote(pair.key))
			misspelt = append(misspelt, Nearest(pair.key, names(fields)))
		case fields[i].given:
			d.fail(pair.at, "remove one of them", "%s: the key %q was already given in line %d", where, pair.key, fields[i].at.line)
		default:
			fields[i].given, fields[i].at = true, pair.at
			fields[i].read(pair.value)
		}
	}
	for _, f := range fields {
		if f.required && !f.given && !slices.Contains(misspelt, f.name) {
			d.fail(n.position, "add it", "%s: the key %q is missing", where, f.name)
		}
	}
}

func indexOf(fields []field, name string) int {
	return slices.IndexFunc(fields, func(f field) bool { return f.name == name })
}

func names(fields []field) []string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.name
	}
	return all
}

// list returns the items of a list, of which there must be at least least.
func (d *decoder) list(n *node, least int, example string) []*node {
	if n.kind != list {
		d.fail(n.position, "write it as "+example, "%s: expected a list, found %s", n.name, n.found())
		return nil
	}
	if len(n.items) < least {
		d.fail(n.position, "write it as "+example, "%s: expected at least one item, found an empty list", n.name)
	}
	return n.items
}

// text returns a scalar as written.
func (d *decoder) text(n *node, expected string) (string, bool) {
	if n.kind != scalar || n.text == "" {
		d.fail(n.position, "", "%s: expected %s, found %s", n.name, expected, n.found())
		return "", false
	}
	return n.text, true
}

// number reads a whole number in decimal.
func (d *decoder) number(n *node, least, most uint32) (uint32, bool) {
	value, err := strconv.ParseInt(n.text, 10, 64)
	hint := ""
	switch {
	case n.kind == scalar && n.quoted && err == nil:
		hint = "remove the quotes"
	case n.kind == scalar && !n.quoted && err == nil && value >= int64(least) && value <= int64(most):
		return uint32(value), true
	}
	d.fail(n.position, hint, "%s: expected a whole number from %d to %d, found %s", n.name, least, most, n.found())
	return 0, false
}

// boolean reads true or false; what is neither is otherwise.
func (d *decoder) boolean(n *node, otherwise bool) bool {
	hint := ""
	switch text := strings.ToLower(n.text); {
	case n.kind == scalar && !n.quoted && (n.text == "true" || n.text == "false"):
		return n.text == "true"
	case n.kind == scalar && (text == "yes" || text == "on" || text == "true" || text == "1"):
		hint = "write true, without quotes"
	case n.kind == scalar && (text == "no" || text == "off" || text == "false" || text == "0"):
		hint = "write false, without quotes"
	}
	d.fail(n.position, hint, "%s: expected true or false, found %s", n.name, n.found())
	return otherwise
}

// size reads a number of bytes: a whole number, or one with KiB or MiB.
func (d *decoder) size(n *node, most uint32) (uint32, bool) {
	digits, unit := n.text, uint64(1)
	for suffix, times := range map[string]uint64{"KiB": 1 << 10, "MiB": 1 << 20} {
		if before, found := strings.CutSuffix(n.text, suffix); found {
			digits, unit = before, times
		}
	}
	value, err := strconv.ParseUint(digits, 10, 32)
	if n.kind == scalar && !n.quoted && err == nil && value*unit <= uint64(most) {
		return uint32(value * unit), true
	}
	d.fail(n.position, "write a whole number, alone or with KiB or MiB, as in 512KiB",
		"%s: expected a size from 0 to %d bytes, found %s", n.name, most, n.found())
	return 0, false
}

// duration reads a time with its unit, as time.ParseDuration does.
func (d *decoder) duration(n *node, least, most time.Duration) (time.Duration, bool) {
	value, err := time.ParseDuration(n.text)
	if n.kind == scalar && err == nil && value >= least && value <= most {
		return value, true
	}
	hint := ""
	if err != nil {
		hint = "write number and unit (ms, s, m or h), as in 90s or 1h30m"
	}
	d.fail(n.position, hint, "%s: expected a time from %s to %s, found %s", n.name, short(least), short(most), n.found())
	return 0, false
}

// short prints 1m0s as 1m.
func short(t time.Duration) string {
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// choice reads one of a few words. later are the words that will be understood
// by a later version.
func (d *decoder) choice(n *node, now, later []string) (string, bool) {
	word, ok := d.text(n, "one of "+strings.Join(now, ", "))
	if !ok {
		return "", false
	}
	if i := slices.Index(now, word); i >= 0 {
		return now[i], true // not a piece of the file, which would keep all of it
	}
	if slices.Contains(later, word) {
		d.fail(n.position, "use "+strings.Join(now, " or "), "%s: %q is not supported yet", n.name, word)
		return "", false
	}
	d.fail(n.position, suggest(word, now), "%s: unknown value %s", n.name, quote(word))
	return "", false
}

// identifier reads the name of a service or backend.
func (d *decoder) identifier(n *node) (string, bool) {
	name, ok := d.text(n, "a name")
	if !ok {
		return "", false
	}
	if len(name) > 63 {
		d.fail(n.position, "shorten it", "%s: expected at most 63 characters, found %d", n.name, len(name))
		return "", false
	}
	for _, c := range name {
		isLetter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !isLetter && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			d.fail(n.position, "a name has letters, digits, dots, underscores and dashes", "%s: the character %q cannot be part of a name", n.name, c)
			return "", false
		}
	}
	return strings.Clone(name), true // what is kept must not keep the whole file
}
