package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// framesInTransit is how many slots for stored frames there are beside those for held ones:
// for frames that are on their way to the program that sends them.
const framesInTransit = 256

// frameCount is how many frames can be stored if so many may be held.
func frameCount(held uint32) uint32 { return held + framesInTransit }

// loadEmit loads the program in bpf/emit.bpf.c. With emitted it writes frames there instead of sending them.
func (d *Datapath) loadEmit(emitted *ebpf.Map) (*ebpf.Program, error) {
	spec, err := loadEmit()
	if err != nil {
		return nil, fmt.Errorf("read the BPF object: %w", err)
	}
	replacements := map[string]*ebpf.Map{}
	for name, m := range spec.Maps {
		m.Pinning = ebpf.PinNone
		if shared := d.all[name]; shared != nil {
			m.MaxEntries = shared.MaxEntries()
			replacements[name] = shared
		}
	}
	if emitted != nil {
		spec.Maps["emitted"].MaxEntries = emitted.MaxEntries()
		replacements["emitted"] = emitted
	}
	if err := spec.Variables["test_emit"].Set(emitted != nil); err != nil {
		return nil, fmt.Errorf("set knob test_emit: %w", err)
	}
	var loaded emitPrograms
	if err := spec.LoadAndAssign(&loaded, &ebpf.CollectionOptions{MapReplacements: replacements}); err != nil {
		return nil, fmt.Errorf("load the program that sends stored frames: %w", err)
	}
	return loaded.TinylbEmit, nil
}

// How the program that sends stored frames is attached, for its pin.
const (
	emitByLink   = "tcx"    // the pin is the link
	emitByFilter = "filter" // the pin is the program, as are those of the next
	emitByQdisc  = "qdisc"  // a filter in a qdisc of our own
)

// emitPin is the pin of that program at an interface.
type emitPin struct {
	namespace uint64
	index     int
	kind      string
	path      string
}

func newEmitPin(dir string, index int, kind string) emitPin {
	name := fmt.Sprintf("emit-%d-%d-%s", networkNamespace(), index, kind)
	return emitPin{networkNamespace(), index, kind, filepath.Join(dir, name)}
}

// emitPins lists those in dir.
func emitPins(dir string) ([]emitPin, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var pins []emitPin
	for _, entry := range entries {
		parts := strings.Split(entry.Name(), "-")
		if len(parts) != 4 || parts[0] != "emit" {
			continue
		}
		namespace, err1 := strconv.ParseUint(parts[1], 10, 64)
		index, err2 := strconv.Atoi(parts[2])
		if err1 == nil && err2 == nil {
			pins = append(pins, emitPin{namespace, index, parts[3], filepath.Join(dir, entry.Name())})
		}
	}
	return pins, nil
}

// attachEmit puts the program that sends stored frames at an interface's ingress, behind
// XDP: by an atomic update where ours is there already. It reports whether it was not.
func (d *Datapath) attachEmit(index int) (isNew bool, err error) {
	program, err := d.loadEmit(nil)
	if err != nil {
		return false, err
	}
	defer program.Close()
	pins, err := emitPins(d.pinDir)
	if err != nil {
		return false, err
	}
	for _, pin := range pins {
		if pin.index != index || pin.namespace != networkNamespace() {
			continue
		}
		if updated, err := pin.update(program); updated || err != nil {
			return false, err
		}
	}
	err = d.attachEmitLink(index, program)
	if errors.Is(err, ebpf.ErrNotSupported) { // before Linux 6.6
		err = d.attachEmitFilter(index, program)
	}
	if err != nil {
		return false, fmt.Errorf("attach the program that sends stored frames: %w", err)
	}
	return true, nil
}

func (d *Datapath) attachEmitLink(index int, program *ebpf.Program) error {
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: program, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return err
	}
	defer l.Close()
	return l.Pin(newEmitPin(d.pinDir, index, emitByLink).path)
}

func (d *Datapath) attachEmitFilter(index int, program *ebpf.Program) error {
	kind := emitByFilter
	made, err := addQdisc(index)
	if err != nil {
		return err
	}
	if made {
		kind = emitByQdisc
	}
	if err := replaceFilter(index, program.FD()); err != nil {
		return err
	}
	return program.Pin(newEmitPin(d.pinDir, index, kind).path)
}

// update replaces the program; false: the interface is gone, and so is the pin now.
func (p emitPin) update(program *ebpf.Program) (bool, error) {
	if p.kind != emitByLink {
		if err := replaceFilter(p.index, program.FD()); err != nil {
			return false, os.Remove(p.path)
		}
		if err := os.Remove(p.path); err != nil {
			return false, err
		}
		return true, program.Pin(p.path)
	}
	l, err := link.LoadPinnedLink(p.path, nil)
	if err != nil {
		return false, fmt.Errorf("open pinned link %s: %w", p.path, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil || info.TCX() == nil || int(info.TCX().Ifindex) != p.index {
		return false, os.Remove(p.path)
	}
	if err := l.Update(program); err != nil {
		return false, fmt.Errorf("replace the program that sends stored frames: %w", err)
	}
	return true, nil
}

// detachEmit takes the program off an interface; one without it is no error.
func detachEmit(dir string, index int) error {
	pins, err := emitPins(dir)
	if err != nil {
		return err
	}
	for _, p := range pins {
		if p.index != index {
			continue
		}
		if err := p.detach(); err != nil {
			return err
		}
	}
	return nil
}

func (p emitPin) detach() error {
	switch {
	case p.kind == emitByLink:
		l, err := link.LoadPinnedLink(p.path, nil)
		if err != nil {
			return fmt.Errorf("open pinned link %s: %w", p.path, err)
		}
		defer l.Close()
		// the interface may be gone, and the link with it
		if err := l.Detach(); err != nil && !errors.Is(err, unix.ENOLINK) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("detach the program that sends stored frames: %w", err)
		}
	case p.namespace == networkNamespace():
		if err := removeFilter(p.index, p.kind == emitByQdisc); err != nil {
			return err
		}
	}
	if err := os.Remove(p.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin: %w", err)
	}
	return nil
}
