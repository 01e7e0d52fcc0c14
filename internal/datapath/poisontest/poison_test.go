package poisontest

import (
	"bytes"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/tinylb/tinylb/test/need"
)

func TestHeadroomIsDirty(t *testing.T) {
	need.Root(t)
	var loaded poisonObjects
	if err := loadPoisonObjects(&loaded, nil); err != nil {
		t.Fatal(err)
	}
	defer loaded.Close()
	entry, err := Before(loaded.Uncover)
	if err != nil {
		t.Fatal(err)
	}
	defer entry.Close()

	const headroom = 192
	frame := bytes.Repeat([]byte{1, 2, 3}, 30)
	out := make([]byte, 4096)
	run := ebpf.RunOptions{Data: frame, DataOut: out, Repeat: 1}
	verdict, err := entry.Program.Run(&run)
	if err != nil {
		t.Fatal(err)
	}
	const pass = 2
	want := append(bytes.Repeat([]byte{0xff}, headroom), frame...)
	if verdict != pass || !bytes.Equal(run.DataOut, want) {
		t.Errorf("got verdict %d and % x, want %d and % x", verdict, run.DataOut, pass, want)
	}
}
