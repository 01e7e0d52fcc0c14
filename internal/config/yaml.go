package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// readYAML turns the file into a tree of nodes. It returns nil after a problem:
// a file that is not YAML has no other errors worth listing.
func readYAML(data []byte, p *problems) *node {
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	if !isText(data, p) {
		return nil
	}
	text := string(data)
	if root := readPlain(text); root != nil {
		return root
	}
	return readAnyYAML(text, p)
}

// readAnyYAML has the library read the text, which has passed isText.
func readAnyYAML(text string, p *problems) *node {
	tokens := slices.DeleteFunc(lexer.Tokenize(text), func(t *token.Token) bool {
		return t.Type == token.CommentType
	})
	if !isPlain(tokens, p) {
		return nil
	}
	file, err := parse(tokens)
	if err != nil {
		failSyntax(err, text, p)
		return nil
	}
	return body(file, p)
}

// parse turns a panic of the parser into an error: a daemon that reloads its
// file must survive whatever it contains.
func parse(tokens token.Tokens) (file *ast.File, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("the parser failed: %v", problem)
		}
	}()
	// Duplicates are found later, where both places are known.
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

// isText reports whether the bytes are UTF-8 without control characters, and
// indented without tabs.
func isText(data []byte, p *problems) bool {
	at := position{1, 1}
	indent := true
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		rest := data[size:]
		switch {
		case r == utf8.RuneError && size == 1:
			p.fail(at, "is this the right file?", "expected text in UTF-8, found the byte 0x%02x", data[0])
			return false
		case r == '\t' && indent && !blank(rest):
			p.fail(at, "use spaces", "found a tab in the indentation, which YAML does not allow")
			return false
		case r != '\n' && r != '\t' && unicode.IsControl(r) || r == '\uFEFF' || r == '\u2028' || r == '\u2029':
			p.fail(at, "is this the right file?", "expected text, found the control character U+%04X", r)
			return false
		}
		indent = r == '\n' || indent && (r == ' ' || r == '\t')
		at.column++
		if r == '\n' {
			at = position{at.line + 1, 1}
		}
		data = rest
	}
	return true
}

// blank reports whether nothing but space is left of the line.
func blank(rest []byte) bool {
	for _, c := range rest {
		if c != ' ' && c != '\t' {
			return c == '\n'
		}
	}
	return true
}

// isPlain refuses, before the parser sees them, the parts of YAML that a config
// does not need (aliases can make a small file enormous) and shapes on which
// the parser would recurse without bound.
func isPlain(tokens token.Tokens, p *problems) bool {
	before := len(p.errors)
	var shape shape
	for i, t := range tokens {
		at := position{t.Position.Line, t.Position.Column}
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			p.fail(at, "write the value out where it is needed; put quotes around a text that starts with & or *",
				"YAML anchors, aliases and merge keys (&name, *name, <<) are not supported")
		case token.TagType:
			p.fail(at, "leave it away; put quotes around a text that starts with !",
				"YAML tags (!name) are not supported")
		case token.DirectiveType:
			p.fail(at, "remove the line", "YAML directives (%%...) are not supported")
		case token.LiteralType, token.FoldedType:
			p.fail(at, "write the value on one line", "YAML block texts (| and >) are not supported")
		case token.MappingKeyType:
			p.fail(at, "write key: value", "YAML complex keys (? key) are not supported")
		}
		if i > 0 && manyLines(t) {
			previous := tokens[i-1].Position
			p.fail(position{previous.Line, previous.Column}, "write each value on one line; is a colon or a dash missing, or the indentation wrong?",
				"the value that starts here goes on in the next line")
		}
		if problem := shape.add(tokens, i); problem != "" {
			p.fail(at, "is the indentation right?", "%s", problem)
			return false
		}
	}
	return len(p.errors) == before
}

func manyLines(t *token.Token) bool {
	switch t.Type {
	case token.StringType, token.SingleQuoteType, token.DoubleQuoteType:
		return strings.Contains(strings.TrimSpace(t.Origin), "\n")
	}
	return false
}

func failSyntax(err error, text string, p *problems) {
	at, message := position{1, 1}, ""
	var syntax yaml.Error
	if !errors.As(err, &syntax) {
		message = err.Error()
	} else {
		message = syntax.GetMessage() // its Error() prints the whole file for each call
		if t := syntax.GetToken(); t != nil {
			at = position{t.Position.Line, t.Position.Column}
		}
	}
	hint := "check indentation, brackets and quotes around here"
	if hasIPv6(lineOf(text, at.line)) {
		hint = `put quotes around an IPv6 address: "[2001:db8::5]:80"`
	}
	p.fail(at, hint, "not valid YAML: %s", message)
}

// hasIPv6 guesses whether an address without quotes is what YAML stumbled over.
func hasIPv6(line string) bool {
	_, port, _ := strings.Cut(line, "]:")
	return strings.Contains(line, "::") || port != "" && strings.ContainsAny(port[:1], "0123456789*")
}

func lineOf(text string, line int) string {
	for found := range strings.Lines(text) {
		if line--; line == 0 {
			return found
		}
	}
	return ""
}

// body is the file's only document; nil, without a problem, for an empty one.
func body(file *ast.File, p *problems) *node {
	docs := slices.DeleteFunc(slices.Clone(file.Docs), func(d *ast.DocumentNode) bool {
		return d.Body == nil && d.Start == nil
	})
	if len(docs) == 0 || len(docs) == 1 && docs[0].Body == nil {
		return nil
	}
	if len(docs) > 1 {
		at := position{1, 1}
		if start := docs[1].Start; start != nil {
			at = position{start.Position.Line, start.Position.Column}
		}
		p.fail(at, "put all of it into one document", "expected one YAML document, found %d", len(docs))
		return nil
	}
	return convert(docs[0].Body, "", position{1, 1}, p)
}

// convert turns the parser's tree into ours. key and keyAt are the key that the
// value belongs to.
func convert(n ast.Node, key string, keyAt position, p *problems) *node {
	out := &node{name: key, keyAt: keyAt, position: keyAt}
	switch n := n.(type) {
	case *ast.MappingNode:
		out.kind, out.position = mapping, startOf(n.Start)
		if !n.IsFlowStyle && len(n.Values) > 0 {
			out.position = startOf(n.Values[0].Key.GetToken())
		}
		out.pairs = make([]pair, len(n.Values))
		for i, v := range n.Values {
			k := v.Key.GetToken()
			at := startOf(k)
			out.pairs[i] = pair{k.Value, at, convert(v.Value, k.Value, at, p)}
		}
	case *ast.SequenceNode:
		out.kind, out.position = list, startOf(n.Start)
		out.items = make([]*node, len(n.Values))
		for i, v := range n.Values {
			out.items[i] = convert(v, key, keyAt, p)
			if v.GetToken().Type == token.ImplicitNullType && i < len(n.Entries) && n.Entries[i].Start != nil {
				out.items[i].position = startOf(n.Entries[i].Start)
			}
		}
	case *ast.NullNode:
		if n.Token.Type != token.ImplicitNullType {
			out.position = startOf(n.Token)
		}
	case ast.ScalarNode:
		t := n.GetToken()
		out.kind, out.position, out.text = scalar, startOf(t), t.Value
		out.quoted = t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType
	default:
		p.fail(keyAt, "", "%s is not supported here", n.Type())
	}
	return out
}

func startOf(t *token.Token) position {
	return position{t.Position.Line, t.Position.Column}
}
