package testnet

import (
	"errors"
	"fmt"
	"os"
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
	var fragments lab.Fragments
	buffer := make([]byte, largestFrame)
	for {
		size, err := from.Read(buffer)
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		if whole, isFragment := fragments.Add(buffer[virtioHeader:size]); isFragment {
			err = r.pass(whole, to)
		} else {
			_, err = to.Write(buffer[:size])
		}
		if err != nil {
			return fmt.Errorf("writing: %w", err)
		}
	}
}

// pass writes a datagram's fragments.
func (r *Relay) pass(whole [][]byte, to *os.File) error {
	if whole == nil {
		return nil
	}
	for _, frame := range (*r.order.Load())(whole) {
		if _, err := to.Write(append(make([]byte, virtioHeader), frame...)); err != nil {
			return err
		}
	}
	return nil
}
