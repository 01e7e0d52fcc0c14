package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lb"
)

var (
	// ErrOccupied says that another XDP program is attached to the interface.
	ErrOccupied = errors.New("another XDP program is attached")
	// ErrNoNative says that the driver cannot run XDP natively as it is set up now.
	ErrNoNative = errors.New("the driver does not take a native XDP program")
)

// Attachment is one interface with a program of its own.
type Attachment struct {
	Interface int     // index
	Name      string  // for the pin
	MAC       lb.MAC  // frames sent to another one pass; zero: all count
	Mode      lb.Mode // native or generic
	// NeighbourMAC is what ARP and ND are told that has a VIP; zero: only those who
	// ask the MAC itself are.
	NeighbourMAC lb.MAC
	// PartialChecksums says that local senders may hand over packets whose
	// checksum is not complete (CHECKSUM_PARTIAL): veth, tun, virtio.
	PartialChecksums bool
	// TXByRedirect: see tx_by_redirect in bpf/config.h; for native mode on veth.
	TXByRedirect bool
}

func (a Attachment) checksumHandling() lbChecksumHandling {
	switch {
	case !a.PartialChecksums:
		return lbChecksumHandlingCHECKSUM_FULL
	case a.Mode == lb.ModeGeneric:
		return lbChecksumHandlingCHECKSUM_KEEP_PARTIAL
	}
	return lbChecksumHandlingCHECKSUM_COMPLETE
}

// knobs are the constants of one loaded program; see bpf/config.h.
type knobs struct {
	checksum        lbChecksumHandling
	mac             lb.MAC
	neighbourMAC    lb.MAC
	txByRedirect    bool
	testClock       bool
	recordDecisions bool
}

func (a Attachment) knobs() knobs {
	return knobs{checksum: a.checksumHandling(), mac: a.MAC, neighbourMAC: a.NeighbourMAC, txByRedirect: a.TXByRedirect}
}

// Load returns the program that Attach would attach, for whoever runs it by other
// means; the caller closes it.
func (d *Datapath) Load(a Attachment) (*ebpf.Program, error) { return d.load(a.knobs()) }

func (d *Datapath) load(k knobs) (*ebpf.Program, error) {
	spec, err := d.spec(k)
	if err != nil {
		return nil, err
	}
	var loaded lbPrograms
	if err := spec.LoadAndAssign(&loaded, &ebpf.CollectionOptions{MapReplacements: d.all}); err != nil {
		return nil, fmt.Errorf("load the XDP program: %w", err)
	}
	return loaded.Tinylb, nil
}

// spec is the BPF object with its knobs set; d's maps are to take the place of its own.
func (d *Datapath) spec(k knobs) (*ebpf.CollectionSpec, error) {
	spec, err := sizedSpec(d.limits)
	if err != nil {
		return nil, err
	}
	for _, m := range spec.Maps {
		m.Pinning = ebpf.PinNone
	}
	return spec, d.setKnobs(spec, k)
}

// setKnobs sets the constants of a BPF object's programs.
func (d *Datapath) setKnobs(spec *ebpf.CollectionSpec, k knobs) error {
	var keys lbHashKeys
	if err := d.maps.AllHashKeys.Lookup(uint32(0), &keys); err != nil {
		return fmt.Errorf("read the flow table's hash keys: %w", err)
	}
	table := flowTableFor(d.limits)
	for name, value := range map[string]any{
		"stores_are_ordered":    runtime.GOARCH == "amd64",
		"flow_hash_keys":        keys,
		"flow_bucket_count":     table.flowBuckets,
		"answer_bucket_count":   table.answerBuckets,
		"client_bucket_count":   lb.ClientBuckets(d.limits.Clients),
		"affinity_bucket_count": lb.ClientBuckets(d.limits.Affinity),
		"frame_count":           frameCount(d.limits.Held),
		"checksum_mode":         k.checksum,
		"interface_mac":         k.mac,
		"neighbour_mac":         k.neighbourMAC,
		"tx_by_redirect":        k.txByRedirect,
		"test_clock":            k.testClock,
		"record_decisions":      k.recordDecisions,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set knob %s: %w", name, err)
		}
	}
	return nil
}

// linkPin names the pin by all that a link does not tell by itself. A bpffs
// takes no dots in names.
func linkPin(dir string, a Attachment) string {
	name := strings.ReplaceAll(a.Name, ".", "%2e")
	return filepath.Join(dir, fmt.Sprintf("link-%d-%d-%s-%s", networkNamespace(), a.Interface, a.Mode, name))
}

// networkNamespace is the inode that stands for the process's own, 0 if it cannot be told.
func networkNamespace() uint64 {
	var stat unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &stat); err != nil {
		return 0
	}
	return stat.Ino
}

func programPin(dir string, index int) string {
	return filepath.Join(dir, fmt.Sprintf("program-%d", index))
}

// AttachedInterface is an interface whose link is pinned.
type AttachedInterface struct {
	Index     int
	Name      string // when it was attached
	Mode      lb.Mode
	namespace uint64
	pin       string
}

// Alive reports whether the interface is still there.
func (a AttachedInterface) Alive() bool {
	l, err := link.LoadPinnedLink(a.pin, nil)
	if err != nil {
		return false
	}
	defer l.Close()
	return attachedTo(l, a.Index)
}

// Elsewhere reports whether it is an interface of another network namespace.
func (a AttachedInterface) Elsewhere() bool { return a.namespace != networkNamespace() && a.Alive() }

// Attached lists the interfaces whose links are pinned in dir.
func Attached(dir string) ([]AttachedInterface, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var attached []AttachedInterface
	for _, entry := range entries {
		parts := strings.SplitN(entry.Name(), "-", 5)
		if len(parts) != 5 || parts[0] != "link" {
			continue
		}
		namespace, err1 := strconv.ParseUint(parts[1], 10, 64)
		index, err2 := strconv.Atoi(parts[2])
		if err1 != nil || err2 != nil {
			continue
		}
		attached = append(attached, AttachedInterface{
			Index: index, Mode: lb.Mode(parts[3]), Name: strings.ReplaceAll(parts[4], "%2e", "."),
			namespace: namespace, pin: filepath.Join(dir, entry.Name()),
		})
	}
	return attached, nil
}

// Attach loads a program for the interface and puts it in place: by an atomic
// update where ours is attached in this mode already, else anew. It fails with
// ErrOccupied or ErrNoNative where those are the reason.
func (d *Datapath) Attach(a Attachment) error {
	program, err := d.Load(a)
	if err != nil {
		return err
	}
	defer program.Close()
	isNew, err := d.attachEmit(a.Interface)
	if err != nil {
		return err
	}
	if err := d.attachXDP(a, program); err != nil {
		if isNew {
			err = errors.Join(err, detachEmit(d.pinDir, a.Interface))
		}
		return err
	}
	return nil
}

func (d *Datapath) attachXDP(a Attachment, program *ebpf.Program) error {
	updated, err := d.update(a, program)
	if err != nil {
		return err
	}
	if !updated {
		if err := d.attachAnew(a, program); err != nil {
			return err
		}
	}
	pin := programPin(d.pinDir, a.Interface)
	if err := os.Remove(pin); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin the old program: %w", err)
	}
	if err := program.Pin(pin); err != nil {
		return fmt.Errorf("pin the program: %w", err)
	}
	return nil
}

// update replaces the program of a link that is already pinned and alive.
func (d *Datapath) update(a Attachment, program *ebpf.Program) (bool, error) {
	pin := linkPin(d.pinDir, a)
	old, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open pinned link %s: %w", pin, err)
	}
	defer old.Close()
	if !attachedTo(old, a.Interface) {
		return false, os.Remove(pin)
	}
	if err := old.Update(program); err != nil {
		return false, fmt.Errorf("replace the XDP program: %w", err)
	}
	return true, nil
}

func attachedTo(l link.Link, index int) bool {
	info, err := l.Info()
	return err == nil && info.XDP() != nil && int(info.XDP().Ifindex) == index
}

func (d *Datapath) attachAnew(a Attachment, program *ebpf.Program) error {
	if err := detachXDP(d.pinDir, a.Interface); err != nil { // in the other mode
		return err
	}
	flags := link.XDPDriverMode
	if a.Mode == lb.ModeGeneric {
		flags = link.XDPGenericMode
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: a.Interface, Flags: flags})
	switch {
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return ErrOccupied
	case err != nil && a.Mode == lb.ModeNative && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w: %w", ErrNoNative, err)
	case err != nil:
		return fmt.Errorf("attach XDP: %w", err)
	}
	defer l.Close()
	if err := l.Pin(linkPin(d.pinDir, a)); err != nil {
		return fmt.Errorf("pin the link: %w", err)
	}
	return nil
}

// Detach takes our programs off an interface; one without them is no error.
func Detach(dir string, index int) error {
	if err := detachXDP(dir, index); err != nil {
		return err
	}
	return detachEmit(dir, index)
}

func detachXDP(dir string, index int) error {
	attached, err := Attached(dir)
	if err != nil {
		return err
	}
	for _, a := range attached {
		if a.Index != index {
			continue
		}
		if err := a.detach(); err != nil {
			return err
		}
	}
	if err := os.Remove(programPin(dir, index)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin: %w", err)
	}
	return nil
}

func (a AttachedInterface) detach() error {
	l, err := link.LoadPinnedLink(a.pin, nil)
	if err != nil {
		return fmt.Errorf("open pinned link %s: %w", a.pin, err)
	}
	defer l.Close()
	// the interface may be gone, and the link with it
	if err := l.Detach(); err != nil && !errors.Is(err, unix.ENOLINK) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("detach XDP from %s: %w", a.Name, err)
	}
	if err := os.Remove(a.pin); err != nil {
		return fmt.Errorf("unpin: %w", err)
	}
	return nil
}

// ErrForeign says that a directory holds pins, but none of tinylb's.
var ErrForeign = errors.New("what is pinned there is not tinylb's")

// Remove detaches and unpins everything in dir, and dir itself. A dir that is
// not there is no error; one in which another program pins fails with ErrForeign.
func Remove(dir string) error {
	attached, err := Attached(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, a := range attached {
		if err := Detach(dir, a.Index); err != nil {
			return err
		}
	}
	pins, err := emitPins(dir)
	if err != nil {
		return err
	}
	for _, p := range pins { // of interfaces that XDP was taken off already
		if err := p.detach(); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	spec, err := loadLb()
	if err != nil {
		return fmt.Errorf("read the BPF object: %w", err)
	}
	// maps of another version may have names that this one does not know
	ours := func(e fs.DirEntry) bool { return spec.Maps[e.Name()] != nil }
	if len(entries) > 0 && !slices.ContainsFunc(entries, ours) {
		return fmt.Errorf("%s: %w", dir, ErrForeign)
	}
	for _, entry := range entries {
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return os.Remove(dir)
}
