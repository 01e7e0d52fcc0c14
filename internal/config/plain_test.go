package config

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// holdAgainstLibrary fails where readPlain takes a text for something else than
// the library does, and reports whether it took it.
func holdAgainstLibrary(t *testing.T, text string) bool {
	t.Helper()
	text = strings.ReplaceAll(strings.TrimPrefix(text, "\uFEFF"), "\r\n", "\n")
	var p problems
	if !isText([]byte(text), &p) {
		return false
	}
	got := readPlain(text)
	if got == nil {
		return false
	}
	// the library miscounts the column of a value with spaces behind it
	want := readAnyYAML(regexp.MustCompile(" +(\n|$)").ReplaceAllString(text, "$1"), &p)
	if len(p.errors) > 0 {
		t.Errorf("%q: %v", text, p.errors)
	} else if path := differAt(got, want); path != "" {
		t.Errorf("%q: other than the library's tree at %s", text, path)
	}
	return true
}

// differAt is the way to the first node that differs; "" where there is none.
func differAt(a, b *node) string {
	if a == nil || b == nil {
		return fmt.Sprint(a, " against ", b)
	}
	if a.position != b.position || a.kind != b.kind || a.name != b.name || a.keyAt != b.keyAt || a.text != b.text || a.quoted != b.quoted ||
		len(a.items) != len(b.items) || len(a.pairs) != len(b.pairs) {
		return fmt.Sprintf(": %+v against %+v", *a, *b)
	}
	for i := range a.items {
		if path := differAt(a.items[i], b.items[i]); path != "" {
			return a.name + "-" + path
		}
	}
	for i := range a.pairs {
		if a.pairs[i].key != b.pairs[i].key || a.pairs[i].at != b.pairs[i].at {
			return a.pairs[i].key
		}
		if path := differAt(a.pairs[i].value, b.pairs[i].value); path != "" {
			return a.pairs[i].key + path
		}
	}
	return ""
}

// plainTexts are for readPlain; odd ones, valid or not, it leaves to the library.
func plainTexts() []string {
	return []string{
		nestedPorts, large(20, 3),
		"a: b", "a: b # c\n", "# c\n\na:\n  # c\n  b: c\n\n", "a: #b\n  c: d\n", "a:   b  \n",
		"a:\n- b\n- c\nd: e\n", "a:\n  - b: c\n    d: e\n  -   f: g\n      h: i\n", "- a\n- b: c\n", "a: b\na: c\n",
		"a: [b, c]\n", "a: [b,c]\n", "a: []\n", "a: { b: c , d: [e] }\n", "a: \"b c\"\nd: 'e, [f'\n",
		"a: 192.0.2.1:*\nb: {c: 192.0.2.1:*}\nd: a:b:c\ne: /\nf: a/b/\n", "a: nullable\nb: {c: Nil}\n",
		"a: 2001:db8::5\n", "a:\n  - 2001:db8::/32\n  - fe80::1:2\n  - b:/c:::d\n",
		"a: true\nb: yes\nc: 010\nd: 0x1f\ne: 1e3\nf: 1_000\ng: 0b1\nh: 0o7\ni: 1.5\nj: inf\nk: 2020-01-01\nl: 12:30:45\n",
	}
}

func oddTexts() []string {
	return []string{
		everyKey, bothFamilies, "", "# a\n", "a", "a:\n", "a: null\n", "a: ~\n", "null: a\n", "a: -1\n", "a: .5\n", "a: b c\n", "a: b\n c\n",
		"a : b\n", "a:b\n", "A: b\n", "\"a\": b\n", " a: b\n", "a: b\n c: d\n", "a:\n  b: c\n d: e\n", "- a\n - b\n", "- - a\n", "-\n  a: b\n",
		"a: [b\n]\n", "a: [b,]\n", "a: [b: c]\n", "a: [b:c]\n", "a: {}\n", "a: {b}\n", "a: [b]c\n", "a: [b]#c\n", "a: {b: \"c\"d}\n",
		"a: \"b\\n\"\n", "a: 'b''c'\n", "a: \"b\nc\"\n", "a: \u00e9\n", "a:\tb\n", "a: b\t\n", "a: &b c\n", "a: *b\n", "a: !b c\n", "a: |\n  b\n",
		"? a\n", "<<: a\n", "---\na: b\n", "a: b\n...\n", "%YAML 1.2\n", "a: @b\n", "a: b:\n", "a: b::\n", "a: ::b\n", "a: [b::c]\n", "a: {b: c::d}\n", "a: b:: c\n",
	}
}

func TestPlainIsYAML(t *testing.T) {
	for _, text := range plainTexts() {
		if !holdAgainstLibrary(t, text) {
			t.Errorf("left to the library: %q", text)
		}
	}
	for _, text := range oddTexts() {
		if readPlain(text) != nil {
			t.Errorf("not left to the library: %q", text)
		}
	}
	for _, test := range badConfigs() {
		holdAgainstLibrary(t, test.text)
	}
	manual, err := os.ReadFile("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(manual), -1) {
		holdAgainstLibrary(t, block[1])
	}
}

func FuzzPlain(f *testing.F) {
	for _, text := range append(plainTexts(), oddTexts()...) {
		f.Add(text)
	}
	for _, test := range badConfigs() {
		f.Add(test.text)
	}
	f.Fuzz(func(t *testing.T, text string) { holdAgainstLibrary(t, text) })
}
