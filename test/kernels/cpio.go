package kernels

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"strings"
)

// File types of an archive's entries, as in stat(2).
const (
	cpioDirectory = 0o040000
	cpioRegular   = 0o100000
)

// archive is a cpio archive in the format "newc", which the kernel unpacks as
// its first root (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	buf   bytes.Buffer
	inode int
	known map[string]bool
}

// addFile adds a file, and the directories above it.
func (a *archive) addFile(name string, executable bool, content []byte) {
	a.addDirectory(path.Dir(name))
	mode := cpioRegular | 0o644
	if executable {
		mode = cpioRegular | 0o755
	}
	a.entry(name, mode, content)
}

func (a *archive) addDirectory(name string) {
	name = strings.Trim(name, "/")
	if name == "" || name == "." || a.known[name] {
		return
	}
	if a.known == nil {
		a.known = map[string]bool{}
	}
	a.known[name] = true
	a.addDirectory(path.Dir(name))
	a.entry(name, cpioDirectory|0o755, nil)
}

func (a *archive) entry(name string, mode int, content []byte) {
	name = strings.Trim(name, "/")
	const uid, gid, links, mtime, major, minor, checksum = 0, 0, 1, 0, 0, 0, 0
	a.inode++
	a.buf.WriteString("070701")
	for _, field := range []int{
		a.inode, mode, uid, gid, links, mtime, len(content),
		major, minor, major, minor, len(name) + 1, checksum,
	} {
		fmt.Fprintf(&a.buf, "%08x", field)
	}
	a.buf.WriteString(name)
	a.buf.WriteByte(0)
	a.pad()
	a.buf.Write(content)
	a.pad()
}

func (a *archive) pad() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}

// writeTo ends the archive and writes it to a file.
func (a *archive) writeTo(file string) error {
	a.entry("TRAILER!!!", 0, nil)
	return os.WriteFile(file, a.buf.Bytes(), 0o644)
}
