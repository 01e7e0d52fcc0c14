package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong with a config file. It prints as
// "file:line:column: message (hint)", or "file: message (hint)" where the file
// could not be read at all.
type Error struct {
	File    string `json:"file"`
	Line    int    `json:"line"`   // from 1; 0 for the file as a whole
	Column  int    `json:"column"` // in characters, from 1; 0 for the file as a whole
	Message string `json:"message"`
	Hint    string `json:"hint"` // what to do about it; may be ""
}

func (e Error) Error() string {
	var s strings.Builder
	s.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&s, ":%d:%d", e.Line, e.Column)
	}
	s.WriteString(": " + e.Message)
	if e.Hint != "" {
		s.WriteString(" (" + e.Hint + ")")
	}
	return s.String()
}

// Errors is everything that is wrong with a config file, by position. It is
// never empty where it is returned as an error.
type Errors []Error

// Error prints one error a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Warning is something in a valid config file that is probably not meant.
type Warning Error

// String prints a warning as an error prints, with "warning: " before its message.
func (w Warning) String() string {
	w.Message = "warning: " + w.Message
	return Error(w).Error()
}

// MaxErrors is how many errors of one file are listed; a file with more is
// something else than a config.
const MaxErrors = 1000

// problems collects what is wrong with one file.
type problems struct {
	file     string
	errors   Errors
	warnings []Warning
	unlisted int
}

func (p *problems) fail(at position, hint, format string, args ...any) {
	if len(p.errors) == MaxErrors {
		p.unlisted++
		return
	}
	p.errors = append(p.errors, Error{p.file, at.line, at.column, fmt.Sprintf(format, args...), hint})
}

func (p *problems) warn(at position, hint, format string, args ...any) {
	p.warnings = append(p.warnings, Warning{p.file, at.line, at.column, fmt.Sprintf(format, args...), hint})
}

func (p *problems) result() ([]Warning, error) {
	slices.SortStableFunc(p.warnings, func(a, b Warning) int { return byPosition(Error(a), Error(b)) })
	if len(p.errors) == 0 {
		return p.warnings, nil
	}
	slices.SortStableFunc(p.errors, byPosition)
	if p.unlisted > 0 {
		last := p.errors[len(p.errors)-1]
		last.Message, last.Hint = fmt.Sprintf("%d more errors are not listed", p.unlisted), ""
		p.errors = append(p.errors, last)
	}
	return p.warnings, p.errors
}

func byPosition(a, b Error) int {
	return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}
