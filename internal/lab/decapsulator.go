package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lb"
)

const (
	// decapsulatorBuffer holds what arrives while the decapsulator does not run,
	// in bytes: some ten TCP windows.
	decapsulatorBuffer = 64 << 20
	// beforePacket is what the kernel puts before each packet, in bytes.
	beforePacket  = offloadHeaderSize + ethernetHeader
	largestPacket = ipv6Header + 65535
)

// Decapsulator takes packets out of IP packets (RFC 2003, 2473, 4213) or out of
// UDP (draft-ietf-intarea-gue, variant 0) and hands them to the kernel, as a
// backend's tunnel devices do. Kernels without such devices can do this; what
// they need is TUN. Whether checksums are still to be completed, and which
// packets GRO has put together, is handed on with each packet, so that the
// kernel behind it verifies the same as it would behind a device.
type Decapsulator struct {
	unwrap  func(packet []byte) (inner int, verdict unwrapping)
	packets *os.File // all that arrives in the namespace and may be for us
	tun     *os.File
	// fragments are of tunnelled packets that were too large for their way here.
	fragments Fragments
	// sinks are sockets that the kernel takes for those who the tunnelled
	// packets are for, so that it answers none of them with an ICMP error. It
	// verifies the UDP checksum for them and counts the wrong ones.
	sinks   []net.PacketConn
	refused atomic.Uint64
}

// NewDecapsulator makes a decapsulator of what arrives in the namespace of the
// calling thread (see Node.Do), from tunnels of the kind of lb.ForwardIPIP or
// lb.ForwardGUE over IPv4 and IPv6. The port is GUE's.
func NewDecapsulator(forward lb.Forward, port uint16) (*Decapsulator, error) {
	d := &Decapsulator{}
	if err := d.open(forward, port); err != nil {
		d.Close()
		return nil, fmt.Errorf("making a decapsulator for %s: %w", forward, err)
	}
	return d, nil
}

func (d *Decapsulator) open(forward lb.Forward, port uint16) (err error) {
	var protocols []uint8
	switch forward {
	case lb.ForwardIPIP:
		protocols, d.unwrap = []uint8{unix.IPPROTO_IPIP, unix.IPPROTO_IPV6}, unwrapIPIP
		d.sinks, err = listenNowhere("", "ip4:4", "ip4:41", "ip6:4", "ip6:41")
	case lb.ForwardGUE:
		protocols, d.unwrap = []uint8{unix.IPPROTO_UDP}, unwrapGUE(port)
		d.sinks, err = listenNowhere(fmt.Sprintf(":%d", port), "udp")
	default:
		return errors.New("this is no tunnel")
	}
	if err != nil {
		return err
	}
	if d.tun, err = openTUN("decap"); err != nil {
		return fmt.Errorf("a TUN device: %w", err)
	}
	if d.packets, err = openPacketSocket(append(protocols, unix.IPPROTO_FRAGMENT)...); err != nil {
		return fmt.Errorf("a packet socket: %w", err)
	}
	return nil
}

// Run decapsulates until the context ends, and closes the decapsulator then.
func (d *Decapsulator) Run(ctx context.Context) error {
	defer d.Close()
	defer context.AfterFunc(ctx, func() { d.Close() })()
	buffer := make([]byte, beforePacket+largestPacket)
	for {
		size, err := d.packets.Read(buffer)
		if err == nil {
			err = d.forward(buffer[:size])
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.EINVAL): // the kernel finds the inner packet malformed
			d.refused.Add(1)
		case err != nil:
			return fmt.Errorf("decapsulating: %w", err)
		}
	}
}

// Refused is how many tunnelled packets were malformed.
func (d *Decapsulator) Refused() uint64 { return d.refused.Load() }

// Close removes the TUN device. It may be called more than once.
func (d *Decapsulator) Close() error {
	for _, sink := range d.sinks {
		sink.Close()
	}
	if d.packets != nil {
		d.packets.Close()
	}
	if d.tun != nil {
		d.tun.Close()
	}
	return nil
}

// forward writes a packet's inner one to the TUN device.
func (d *Decapsulator) forward(frame []byte) error {
	if whole, isFragment := d.fragments.Add(frame[offloadHeaderSize:]); isFragment {
		if whole == nil {
			return nil
		}
		frame = append(make([]byte, offloadHeaderSize), join(whole)...)
	}
	packet := frame[beforePacket:]
	packet = packet[:ipLength(packet)]
	inner, verdict := d.unwrap(packet)
	switch verdict {
	case notTunnelled:
		return nil
	case malformed:
		d.refused.Add(1)
		return nil
	}
	offload := offloadHeader(frame).behind(ethernetHeader + inner)
	frame = frame[ethernetHeader+inner : beforePacket+len(packet)]
	copy(frame, offload)
	_, err := d.tun.Write(frame)
	return err
}
