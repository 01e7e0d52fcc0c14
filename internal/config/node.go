package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// position is a place in the file: line and column from 1, the column counted
// in characters.
type position struct {
	line, column int
}

type kind uint8

const (
	null kind = iota // a key without a value, an empty list item, null or ~
	scalar
	list
	mapping
)

// node is one value of the file. A null without a token of its own is placed at
// its key.
type node struct {
	position
	kind   kind
	name   string   // of the key it belongs to, list items too; "" at the top
	keyAt  position // of that key
	text   string   // a scalar as written, without its quotes
	quoted bool
	items  []*node // of a list
	pairs  []pair  // of a mapping
}

type pair struct {
	key   string
	at    position
	value *node
}

// found describes a value for error messages.
func (n *node) found() string {
	switch n.kind {
	case scalar:
		if n.quoted {
			return "the text " + quote(n.text) + " in quotes"
		}
		return quote(n.text)
	case list:
		return "a list"
	case mapping:
		return "a map"
	}
	return "nothing"
}

// looksLikeIPv6 reports whether the value may be an IPv6 address; without quotes
// YAML reads some as a list or a map.
func (n *node) looksLikeIPv6() bool {
	const characters = "0123456789abcdefABCDEF:"
	switch {
	case n.kind == scalar:
		return strings.Contains(n.text, ":") && strings.Trim(n.text, characters) == ""
	case n.kind == list && len(n.items) > 0:
		return n.items[0].looksLikeIPv6()
	case n.kind == mapping && len(n.pairs) > 0:
		return strings.Trim(n.pairs[0].key, characters) == ""
	}
	return false
}

// quote shows a piece of the file on one line of bounded length.
func quote(text string) string {
	const most = 48
	if utf8.RuneCountInString(text) > most {
		return fmt.Sprintf("%q...", string([]rune(text)[:most]))
	}
	return fmt.Sprintf("%q", text)
}
