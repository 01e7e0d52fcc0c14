package kernels

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// cpioEntries reads an archive back: name, mode in octal, content.
func cpioEntries(t *testing.T, content []byte) [][3]string {
	t.Helper()
	const header = 6 + 13*8
	padded := func(n int) int { return (n + 3) &^ 3 }
	var entries [][3]string
	for at := 0; ; {
		if len(content) < at+header || string(content[at:at+6]) != "070701" {
			t.Fatalf("no header at %d", at)
		}
		field := func(i int) int {
			value, err := strconv.ParseUint(string(content[at+6+8*i:at+14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(value)
		}
		mode, size, nameSize := field(1), field(6), field(11)
		name := string(content[at+header : at+header+nameSize-1])
		if name == "TRAILER!!!" {
			return entries
		}
		data := padded(at + header + nameSize)
		entries = append(entries, [3]string{name, strconv.FormatInt(int64(mode), 8), string(content[data : data+size])})
		at = padded(data + size)
	}
}

func TestArchive(t *testing.T) {
	var a archive
	a.addFile("/init", true, []byte("abc"))
	a.addFile("/src/internal/x/testdata/f", false, nil)
	a.addDirectory("/src/internal/x")
	a.addFile("/src/g", false, []byte("1234"))
	file := filepath.Join(t.TempDir(), "archive")
	if err := a.writeTo(file); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := [][3]string{
		{"init", "100755", "abc"},
		{"src", "40755", ""},
		{"src/internal", "40755", ""},
		{"src/internal/x", "40755", ""},
		{"src/internal/x/testdata", "40755", ""},
		{"src/internal/x/testdata/f", "100644", ""},
		{"src/g", "100644", "1234"},
	}
	if got := cpioEntries(t, content); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
