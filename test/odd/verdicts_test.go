package odd

import (
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tinylb/tinylb/internal/lb"
)

// arrives is the name of the row that says whether a case's datagrams reach the
// other side whole.
const arrives = "what arrives"

// row is a line of verdicts.md: what becomes of a frame, and where it is otherwise.
type row struct {
	becomes string
	but     []exception
	used    atomic.Bool
}

// exception is for what all words of one of its conditions are true of.
type exception struct {
	conditions []string
	becomes    string
}

// key names a row.
type key struct{ section, frame string }

// readVerdicts reads all tables of verdicts.md.
func readVerdicts(t *testing.T) map[key]*row {
	t.Helper()
	text, err := os.ReadFile("verdicts.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, section := map[key]*row{}, ""
	for line := range strings.Lines(strings.ReplaceAll(string(text), "`", "")) {
		line = strings.TrimSpace(line)
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			section = heading
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 3 || strings.HasPrefix(line, "|--") || strings.HasPrefix(line, "| packet ") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		k := key{section, cells[0]}
		if rows[k] != nil {
			t.Errorf("verdicts.md has %q twice in %q", k.frame, k.section)
		}
		rows[k] = &row{becomes: cells[1], but: readExceptions(t, cells[2])}
	}
	return rows
}

// readExceptions reads "dsr, nat across: DROP fragment; gue: ...".
func readExceptions(t *testing.T, cell string) (all []exception) {
	t.Helper()
	for part := range strings.SplitSeq(cell, ";") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		conditions, becomes, ok := strings.Cut(part, ":")
		if !ok {
			t.Errorf("verdicts.md: no colon in %q", part)
		}
		all = append(all, exception{strings.Split(conditions, ","), strings.TrimSpace(becomes)})
	}
	return all
}

// want is what becomes of the frame with this mode and these IP versions of VIP
// and backend.
func (r *row) want(forward lb.Forward, families string) string {
	r.used.Store(true)
	facts := []string{string(forward), "IPv" + families[:1], "within"}
	if families[0] != families[1] {
		facts[2] = "across"
	}
	for _, e := range r.but {
		for _, condition := range e.conditions {
			if !slices.ContainsFunc(strings.Fields(condition), func(word string) bool { return !slices.Contains(facts, word) }) {
				return e.becomes
			}
		}
	}
	return r.becomes
}
