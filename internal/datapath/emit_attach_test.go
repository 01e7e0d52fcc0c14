package datapath

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lab"
	"github.com/tinylb/tinylb/internal/lab/labtest"
	"github.com/tinylb/tinylb/internal/lb"
)

// emitLink is a link between the machine that frames are sent by and another one.
type emitLink struct {
	t         *testing.T
	here      *lab.Node
	index     int
	other     int // index of its interface
	otherNode *lab.Node
	store
}

func newEmitLink(t *testing.T) *emitLink {
	t.Helper()
	l := labtest.New(t)
	bridge, err := l.AddBridge("link")
	n := &emitLink{t: t, here: labtest.Node(t, l, "here"), otherNode: labtest.Node(t, l, "other")}
	n.must(err)
	n.must(n.here.Connect(bridge, "eth0", netip.MustParsePrefix("10.1.0.1/24")))
	n.must(n.otherNode.Connect(bridge, "eth0", netip.MustParsePrefix("10.1.0.2/24")))
	for node, index := range map[*lab.Node]*int{n.here: &n.index, n.otherNode: &n.other} {
		link, err := node.Interface("eth0")
		n.must(err)
		*index = link.Index
	}
	dir := t.TempDir()
	n.must(unix.Mount("bpf", dir, "bpf", 0, ""))
	t.Cleanup(func() { n.must(unix.Unmount(dir, unix.MNT_DETACH)) })
	d, err := Open(Options{
		PinDir: filepath.Join(dir, "pins"),
		Limits: lb.Limits{Flows: 16, Services: 1, Backends: 1, TableEntries: 64, Held: 8},
	})
	n.must(err)
	t.Cleanup(d.Close)
	n.store = store{t: t, d: d}
	return n
}

func (n *emitLink) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// sendsParcels checks that a stored frame leaves when its parcel comes.
func (n *emitLink) sendsParcels(turn uint32) {
	n.t.Helper()
	head := append(bytes.Repeat([]byte{0xff}, 6), 2, 0, 0, 0, 0, 9, 0x88, 0xb6)
	rest := []byte(fmt.Sprintf("a frame that was stored, turn %d", turn))
	n.put(0, turn, head, rest, 0, uint32(n.index))
	var fd int
	n.must(n.otherNode.Do(func() (err error) {
		const everyProtocol = unix.ETH_P_ALL << 8 // in network byte order
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, everyProtocol)
		return err
	}))
	defer unix.Close(fd)
	frame := parcel(0, turn)
	copy(frame, head[:12])
	n.must(unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: n.other, Halen: 6}))
	timeout := unix.NsecToTimeval(int64(5 * time.Second))
	n.must(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout))
	for buffer := make([]byte, 2000); ; {
		size, _, err := unix.Recvfrom(fd, buffer, 0)
		if err != nil {
			n.t.Fatalf("the stored frame did not arrive: %v", err)
		}
		if bytes.Equal(buffer[:size], append(head, rest...)) {
			return
		}
	}
}

// left lists what of ours is at the interface: filters, and clsact qdiscs.
func (n *emitLink) left() (filters, qdiscs int) {
	n.t.Helper()
	n.must(n.here.Do(func() error {
		link, err := netlink.LinkByIndex(n.index)
		if err != nil {
			return err
		}
		all, err := netlink.FilterList(link, netlink.HANDLE_MIN_INGRESS)
		filters = len(all)
		list, err2 := netlink.QdiscList(link)
		for _, q := range list {
			if q.Type() == "clsact" {
				qdiscs++
			}
		}
		return errors.Join(err, err2)
	}))
	return filters, qdiscs
}

// attachesAndDetaches tries all that is done with the program at the ingress in its life.
func (n *emitLink) attachesAndDetaches(attach func() error, pins int) {
	n.t.Helper()
	n.must(n.here.Do(attach))
	n.sendsParcels(5)
	n.must(n.here.Do(func() error {
		isNew, err := n.d.attachEmit(n.index)
		if isNew {
			n.t.Error("it was put there twice")
		}
		return err
	}))
	n.sendsParcels(15)
	if all, err := emitPins(n.d.pinDir); err != nil || len(all) != pins {
		n.t.Errorf("%d pins, want %d: %v", len(all), pins, err)
	}
	if attached, err := Attached(n.d.pinDir); err != nil || len(attached) > 0 {
		n.t.Errorf("%d interfaces with XDP, want none: %v", len(attached), err)
	}
	n.must(n.here.Do(func() error { return Remove(n.d.pinDir) }))
}

func TestEmitByLink(t *testing.T) {
	n := newEmitLink(t)
	n.attachesAndDetaches(func() error {
		_, err := n.d.attachEmit(n.index)
		return err
	}, 1)
}

func (n *emitLink) attachByFilter() error {
	program, err := n.d.loadEmit(nil)
	if err != nil {
		return err
	}
	defer program.Close()
	return n.d.attachEmitFilter(n.index, program)
}

// TestEmitByFilter: before Linux 6.6.
func TestEmitByFilter(t *testing.T) {
	n := newEmitLink(t)
	n.attachesAndDetaches(n.attachByFilter, 1)
	if filters, qdiscs := n.left(); filters+qdiscs > 0 {
		t.Errorf("%d filters and %d qdiscs are left", filters, qdiscs)
	}
}

// TestEmitByFilterInAnothersQdisc: what was there stays.
func TestEmitByFilterInAnothersQdisc(t *testing.T) {
	n := newEmitLink(t)
	n.must(n.here.Do(func() error { return netlink.QdiscAdd(ingressQdisc(n.index)) }))
	n.attachesAndDetaches(n.attachByFilter, 1)
	if filters, qdiscs := n.left(); filters != 0 || qdiscs != 1 {
		t.Errorf("%d filters and %d qdiscs are left, want none and one", filters, qdiscs)
	}
}
