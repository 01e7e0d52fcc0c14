package testnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lab"
)

// Order says in which order the frames of a fragmented datagram go on, and
// whether some do more than once. Its argument is in the order of the datagram.
type Order func(fragments [][]byte) [][]byte

// Relay carries frames between two interfaces of a node as a cable would, but
// for fragmented IP datagrams: all of their fragments go on together, in an order
// of the test's choice.
type Relay struct{ order atomic.Pointer[Order] }

const (
	// relayBuffer holds what arrives while the relay does not run, in bytes.
	relayBuffer = 16 << 20
	// virtioHeader is before each frame, in bytes: struct virtio_net_hdr.
	virtioHeader = 10
)

// StartRelay runs a relay between two interfaces until the test ends. Fragments
// stay in the order of their datagram until Reorder.
func StartRelay(t testing.TB, node *lab.Node, a, b string) *Relay {
	t.Helper()
	r := &Relay{}
	r.Reorder(func(fragments [][]byte) [][]byte { return fragments })
	endA, endB := wireTap(t, node, a), wireTap(t, node, b)
	ended := make(chan error, 2)
	go func() { ended <- r.carry(endA, endB) }()
	go func() { ended <- r.carry(endB, endA) }()
	t.Cleanup(func() {
		endA.Close()
		endB.Close()
		for range 2 {
			if err := <-ended; !errors.Is(err, os.ErrClosed) {
				t.Errorf("relay %s: %v", node.Name(), err)
			}
		}
	})
	return r
}

// Reorder changes the order of the datagrams from now on.
func (r *Relay) Reorder(order Order) { r.order.Store(&order) }

// wireTap is a packet socket (packet(7)) for all frames of an interface, each
// behind what the kernel says of its checksum.
func wireTap(t testing.TB, node *lab.Node, ifname string) *os.File {
	t.Helper()
	device, err := node.Interface(ifname)
	if err != nil {
		t.Fatal(err)
	}
	var tap *os.File
	err = node.Do(func() error {
		// Protocol 0: it receives nothing until it is bound.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		tap = os.NewFile(uintptr(fd), ifname)
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, relayBuffer),
			unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
				&unix.PacketMreq{Ifindex: int32(device.Index), Type: unix.PACKET_MR_PROMISC}),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL << 8, Ifindex: device.Index}))
	})
	if err != nil {
		t.Fatalf("a packet socket on %s of %s: %v", ifname, node.Name(), err)
	}
	return tap
}

// carry passes frames on until a file is closed.
func (r *Relay) carry(from, to *os.File) error {
	const largestFrame = 1<<16 + 100
	waiting := map[string]datagram{}
	buffer := make([]byte, largestFrame)
	for {
		size, err := from.Read(buffer)
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		for _, frame := range r.next(waiting, buffer[:size]) {
			if _, err := to.Write(frame); err != nil {
				return fmt.Errorf("writing %d bytes: %w", len(frame), err)
			}
		}
	}
}

// next returns what goes on now that a frame has come.
func (r *Relay) next(waiting map[string]datagram, frame []byte) [][]byte {
	f, isFragment := readFragment(frame[virtioHeader:])
	if !isFragment {
		return [][]byte{frame}
	}
	f.frame = slices.Clone(frame)
	if waiting[f.datagram] == nil {
		waiting[f.datagram] = datagram{}
	}
	waiting[f.datagram][f.offset] = f
	frames := waiting[f.datagram].whole()
	if frames == nil {
		return nil
	}
	delete(waiting, f.datagram)
	return (*r.order.Load())(frames)
}

// datagram is what has come of one, by offset.
type datagram map[int]fragment

// whole returns the frames in order, or nil while some are missing.
func (d datagram) whole() (frames [][]byte) {
	for offset := 0; ; {
		f, ok := d[offset]
		if !ok {
			return nil
		}
		frames = append(frames, f.frame)
		if f.last {
			return frames
		}
		offset += f.size
	}
}

// fragment is one of IPv4 (RFC 791) or IPv6 (RFC 8200, section 4.5), the latter
// with no other extension header before the fragment header.
type fragment struct {
	datagram     string // which one
	offset, size int    // in bytes
	last         bool
	frame        []byte
}

func readFragment(ethernet []byte) (f fragment, ok bool) {
	const etherHeader, ipv4Header, ipv6Header, fragmentHeader = 14, 20, 40, 8
	ip := ethernet[etherHeader:]
	switch etherType := binary.BigEndian.Uint16(ethernet[12:]); {
	case etherType == unix.ETH_P_IP && len(ip) >= ipv4Header:
		field := binary.BigEndian.Uint16(ip[6:])
		f.offset, f.last = int(field&0x1fff)*8, field&0x2000 == 0
		f.size = int(binary.BigEndian.Uint16(ip[2:])) - int(ip[0]&0xf)*4
		f.datagram = string(ip[4:6]) + string(ip[9:10]) + string(ip[12:20])
	case etherType == unix.ETH_P_IPV6 && len(ip) >= ipv6Header+fragmentHeader && ip[6] == unix.IPPROTO_FRAGMENT:
		header := ip[ipv6Header:]
		field := binary.BigEndian.Uint16(header[2:])
		f.offset, f.last = int(field&0xfff8), field&1 == 0
		f.size = int(binary.BigEndian.Uint16(ip[4:])) - fragmentHeader
		f.datagram = string(ip[8:40]) + string(header[4:8])
	default:
		return f, false
	}
	return f, f.offset > 0 || !f.last
}
