package config

import "strings"

// readPlain reads the part of YAML that nearly every config keeps to: block maps
// and lists, and in them what begins and ends on one line. It is there for large
// files, for which the library takes seconds. It returns nil for a file with
// anything else, whether that is right or wrong: the library judges it then, so
// there is one place for errors. TestPlainIsYAML holds the two against each other.
//
// The text has passed isText.
func readPlain(text string) *node {
	r := plainReader{text: text}
	if !r.advance() || r.indent != 0 {
		return nil
	}
	root := r.block("", position{1, 1}, 0)
	if root == nil || !r.ended {
		return nil
	}
	return root
}

// plainReader stands at a place of a line that has more than a comment. Its
// methods that return a node return nil when the file has something that they do
// not know.
type plainReader struct {
	text  string
	next  int  // where the next line begins
	ended bool // there is no line any more

	line   int // from 1
	begin  int // of the line
	end    int // of the line, and of a comment-free one of its text
	at     int
	indent int // column of the first character that counts, from 0: after a dash that of what follows

	pairs []pair  // of the maps that are being read, the innermost last
	items []*node // the same of lists

	nodeSlab slab[node]
	pairSlab slab[pair]
	itemSlab slab[*node]
}

// slab hands out pieces of large arrays, which leave no holes in memory when all is
// read and they go.
type slab[T any] struct {
	free []T
}

func (s *slab[T]) take(n int) []T {
	const together = 4096
	if n > len(s.free) {
		s.free = make([]T, max(n, together))
	}
	taken := s.free[:n:n]
	s.free = s.free[n:]
	return taken
}

func (s *slab[T]) keep(values []T) []T {
	kept := s.take(len(values))
	copy(kept, values)
	return kept
}

// advance goes to the next line that has more than a comment.
func (r *plainReader) advance() bool {
	for r.next < len(r.text) {
		r.begin = r.next
		length := strings.IndexByte(r.text[r.begin:], '\n')
		if length < 0 {
			length = len(r.text) - r.begin
		}
		r.end = r.begin + length
		r.next = r.end + 1
		r.line++
		r.at = r.begin
		r.skipSpaces()
		if r.indent = r.at - r.begin; !r.atEnd() {
			return true
		}
	}
	r.ended = true
	return false
}

func (r *plainReader) skipSpaces() {
	for r.at < r.end && r.text[r.at] == ' ' {
		r.at++
	}
}

// atEnd reports whether nothing but a comment is left of the line.
func (r *plainReader) atEnd() bool {
	return r.at >= r.end || r.text[r.at] == '#' && (r.at == r.begin || r.text[r.at-1] == ' ')
}

func (r *plainReader) peek() byte {
	if r.at < r.end {
		return r.text[r.at]
	}
	return '\n'
}

func (r *plainReader) position() position { return position{r.line, r.at - r.begin + 1} }

func (r *plainReader) node(kind kind, name string, keyAt position) *node {
	n := &r.nodeSlab.take(1)[0]
	n.kind, n.name, n.keyAt, n.position = kind, name, keyAt, r.position()
	return n
}

// tooDeep is well below what the library is given to recurse into.
func tooDeep(depth int) bool { return depth > maxDepth/2 }

// block reads the map or list that begins here.
func (r *plainReader) block(name string, keyAt position, depth int) *node {
	if tooDeep(depth) {
		return nil
	}
	if r.atDash() {
		return r.blockList(name, keyAt, depth)
	}
	return r.blockMap(name, keyAt, depth)
}

func (r *plainReader) atDash() bool {
	return r.at+1 < r.end && r.text[r.at] == '-' && r.text[r.at+1] == ' '
}

func (r *plainReader) blockMap(name string, keyAt position, depth int) *node {
	n, indent, mine := r.node(mapping, name, keyAt), r.indent, len(r.pairs)
	for !r.ended && r.indent == indent {
		at := r.position()
		key, ok := r.key()
		if !ok {
			return nil
		}
		value := r.blockValue(key, at, indent, depth)
		if value == nil {
			return nil
		}
		r.pairs = append(r.pairs, pair{key, at, value})
	}
	return r.closeMap(n, mine)
}

// blockValue reads what belongs to a key of a block map, and goes to the line after it.
func (r *plainReader) blockValue(key string, keyAt position, indent, depth int) *node {
	r.skipSpaces()
	if !r.atEnd() {
		return r.lineValue(key, keyAt, indent, depth)
	}
	// A list may stand at the column of its key.
	if r.advance() && (r.indent > indent || r.indent == indent && r.atDash()) {
		return r.block(key, keyAt, depth+1)
	}
	return nil
}

// lineValue reads a value that ends with the line, and goes to the next one.
func (r *plainReader) lineValue(key string, keyAt position, indent, depth int) *node {
	value := r.flow(key, keyAt, depth+1, "")
	if value == nil {
		return nil
	}
	r.skipSpaces()
	if !r.atEnd() || r.advance() && r.indent > indent {
		return nil
	}
	return value
}

func (r *plainReader) blockList(name string, keyAt position, depth int) *node {
	n, indent, mine := r.node(list, name, keyAt), r.indent, len(r.items)
	for !r.ended && r.indent == indent && r.atDash() {
		r.at++
		r.skipSpaces()
		r.indent = r.at - r.begin
		var item *node
		switch {
		case r.atEnd() || r.atDash():
			return nil
		case r.atKey():
			item = r.blockMap(name, keyAt, depth+1)
		default:
			item = r.lineValue(name, keyAt, indent, depth)
		}
		if item == nil || !r.ended && r.indent > indent {
			return nil
		}
		r.items = append(r.items, item)
	}
	return r.closeList(n, mine)
}

// What ends a scalar in brackets besides spaces. In a list the library takes
// a:b for a map.
const (
	inMap  = ",}"
	inList = ",]"
)

// flow reads a value within the line. ends are the characters that end a scalar
// besides spaces.
func (r *plainReader) flow(name string, keyAt position, depth int, ends string) *node {
	if tooDeep(depth) {
		return nil
	}
	switch r.peek() {
	case '{':
		return r.flowMap(name, keyAt, depth)
	case '[':
		return r.flowList(name, keyAt, depth)
	case '"', '\'':
		return r.quoted(name, keyAt)
	}
	return r.scalar(name, keyAt, ends)
}

func (r *plainReader) flowMap(name string, keyAt position, depth int) *node {
	n, mine := r.node(mapping, name, keyAt), len(r.pairs)
	for r.peek() != '}' {
		r.at++ // the bracket or comma
		r.skipSpaces()
		at := r.position()
		key, ok := r.key()
		if !ok {
			return nil
		}
		r.skipSpaces()
		value := r.flow(key, at, depth+1, inMap)
		if value == nil || !r.atMore('}') {
			return nil
		}
		r.pairs = append(r.pairs, pair{key, at, value})
	}
	r.at++
	return r.closeMap(n, mine)
}

func (r *plainReader) flowList(name string, keyAt position, depth int) *node {
	n, mine := r.node(list, name, keyAt), len(r.items)
	if strings.HasPrefix(r.text[r.at:r.end], "[]") {
		r.at++
	}
	for r.peek() != ']' {
		r.at++ // the bracket or comma
		r.skipSpaces()
		item := r.flow(name, keyAt, depth+1, inList)
		if item == nil || !r.atMore(']') {
			return nil
		}
		r.items = append(r.items, item)
	}
	r.at++
	return r.closeList(n, mine)
}

// atMore goes to what follows an item in brackets: a comma or the closing bracket.
func (r *plainReader) atMore(closing byte) bool {
	r.skipSpaces()
	return r.peek() == ',' || r.peek() == closing
}

func (r *plainReader) closeMap(n *node, mine int) *node {
	if len(r.pairs)-mine > maxKeys {
		return nil
	}
	n.pairs = r.pairSlab.keep(r.pairs[mine:])
	r.pairs = r.pairs[:mine]
	return n
}

func (r *plainReader) closeList(n *node, mine int) *node {
	n.items = r.itemSlab.keep(r.items[mine:])
	r.items = r.items[:mine]
	return n
}

// key reads a key and its colon. Other keys than of small letters are unknown ones.
func (r *plainReader) key() (string, bool) {
	length := r.keyLength()
	if length == 0 {
		return "", false
	}
	key := r.text[r.at : r.at+length]
	r.at += length + 1
	return key, true
}

func (r *plainReader) atKey() bool { return r.keyLength() > 0 }

// keyLength is 0 where there is no key.
func (r *plainReader) keyLength() int {
	at := r.at
	for at < r.end && (r.text[at] >= 'a' && r.text[at] <= 'z' || r.text[at] == '_') {
		at++
	}
	if at == r.end || r.text[at] != ':' || at+1 < r.end && r.text[at+1] != ' ' || isNull(r.text[r.at:at]) {
		return 0
	}
	return at - r.at
}

// quoted reads a text in quotes without escapes.
func (r *plainReader) quoted(name string, keyAt position) *node {
	n := r.node(scalar, name, keyAt)
	n.quoted = true
	quote := r.text[r.at]
	begin := r.at + 1
	for r.at++; r.peek() != quote; r.at++ {
		if c := r.peek(); c < ' ' || c > '~' || c == '\\' {
			return nil
		}
	}
	n.text = r.text[begin:r.at]
	r.at++
	if r.peek() == quote { // an escaped one
		return nil
	}
	return n
}

// scalar reads a number, word or address, which has neither spaces nor what
// might be an indicator. ends are the characters that end it besides spaces.
func (r *plainReader) scalar(name string, keyAt position, ends string) *node {
	n := r.node(scalar, name, keyAt)
	begin := r.at
	for ; r.at < r.end; r.at++ {
		c := r.text[r.at]
		if isWord(c) || c == '/' || r.at > begin && isInside(c) {
			continue
		}
		if c == ':' && r.at > begin && r.at+1 < r.end && (isWord(r.text[r.at+1]) || r.text[r.at+1] == '*') && ends != inList {
			r.at++ // as in 192.0.2.1:80 and 192.0.2.1:*
			continue
		}
		if c == ':' && r.at > begin && ends == "" && r.at+1 < r.end && (r.text[r.at+1] == ':' || r.text[r.at+1] == '/') {
			continue // as in 2001:db8::/32
		}
		if c == ' ' || strings.IndexByte(ends, c) >= 0 {
			break
		}
		return nil
	}
	n.text = r.text[begin:r.at]
	if begin == r.at || isNull(n.text) {
		return nil
	}
	return n
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z'
}

func isInside(c byte) bool { return c == '.' || c == '-' || c == '_' }

func isNull(word string) bool { return len(word) == 4 && strings.EqualFold(word, "null") }
