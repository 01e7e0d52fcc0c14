package config

import (
	"fmt"

	"github.com/goccy/go-yaml/token"
)

// The parser recurses for each level and for each key of a map, and takes time
// by the square for values that are missing. No config comes near these bounds.
const (
	maxDepth   = 16
	maxKeys    = 64 // of one map
	maxMissing = 1000
)

// shape follows, token by token, which maps and lists are open.
type shape struct {
	levels  []level
	missing int // values
}

type level struct {
	opened token.Type // '-' or ':' for a block, '[' or '{' for one in brackets
	column int        // of a block's dashes or keys
	keys   int        // of a block; in brackets: since the last comma
}

// add takes the next token, tokens[i], and says which bound it breaks.
func (s *shape) add(tokens token.Tokens, i int) string {
	t := tokens[i]
	if i > 0 && s.isMissing(tokens[:i], t) {
		s.missing++
	}
	switch t.Type {
	case token.SequenceStartType, token.MappingStartType:
		s.levels = append(s.levels, level{opened: t.Type})
	case token.SequenceEndType, token.MappingEndType:
		if s.inBrackets() {
			s.levels = s.levels[:len(s.levels)-1]
		}
	case token.CollectEntryType:
		if s.inBrackets() {
			s.top().keys = 0
		}
	case token.SequenceEntryType:
		s.enter(t.Type, t.Position.Column)
	case token.MappingValueType:
		if i > 0 {
			s.enter(t.Type, tokens[i-1].Position.Column)
			s.top().keys++
		}
	}
	switch {
	case len(s.levels) > maxDepth:
		return fmt.Sprintf("nested deeper than %d levels, which no config needs", maxDepth)
	case len(s.levels) > 0 && s.top().keys > maxKeys:
		return fmt.Sprintf("more than %d keys in one map, which no config needs", maxKeys)
	case s.missing > maxMissing:
		return fmt.Sprintf("more than %d keys and list items without a value", maxMissing)
	}
	return ""
}

func (s *shape) top() *level { return &s.levels[len(s.levels)-1] }

func (s *shape) inBrackets() bool {
	return len(s.levels) > 0 && s.top().column == 0
}

// enter opens a block for a key or a dash, unless it belongs to the open one. A
// list may stand at the column of the key that it belongs to.
func (s *shape) enter(opened token.Type, column int) {
	if s.inBrackets() {
		return
	}
	isList := opened == token.SequenceEntryType
	for len(s.levels) > 0 {
		top := s.top()
		if top.column < column || top.column == column && (isList || top.opened == opened) {
			break
		}
		s.levels = s.levels[:len(s.levels)-1]
	}
	if len(s.levels) == 0 || s.top().column < column || s.top().opened != opened {
		s.levels = append(s.levels, level{opened: opened, column: column})
	}
}

// isMissing reports whether a value should have stood before t.
func (s *shape) isMissing(before token.Tokens, t *token.Token) bool {
	last := before[len(before)-1]
	if s.inBrackets() {
		isEnd := t.Type == token.CollectEntryType || t.Type == token.MappingEndType || t.Type == token.SequenceEndType
		isLone := s.top().opened == token.MappingStartType && s.top().keys == 0 &&
			last.Type != token.MappingStartType && last.Type != token.CollectEntryType
		return isEnd && (last.Type == token.MappingValueType || isLone)
	}
	column := t.Position.Column
	switch last.Type {
	case token.SequenceEntryType:
		return column <= last.Position.Column
	case token.MappingValueType:
		if len(before) > 1 && t.Position.Line > last.Position.Line {
			key := before[len(before)-2].Position.Column
			return column < key || column == key && t.Type != token.SequenceEntryType
		}
	}
	return false
}
