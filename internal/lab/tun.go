package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// openTUN makes a TUN device that is up in the thread's namespace, and goes when
// it is closed. Each packet has an offloadHeader before it.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/net/tun: %w", err)
	}
	if err := configureTUN(fd, name); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func configureTUN(fd int, name string) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return fmt.Errorf("naming it %s: %w", name, err)
	}
	// Answers to what comes out of a tunnel leave by another interface.
	for _, which := range []string{"all", name} {
		if err := turnOff(filepath.Join("/proc/sys/net/ipv4/conf", which, "rp_filter")); err != nil {
			return err
		}
	}
	device, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(device)
}

// turnOff sets a kernel parameter to 0. Where it is already, it may be read-only.
func turnOff(path string) error {
	value, err := os.ReadFile(path)
	if err != nil || strings.TrimSpace(string(value)) == "0" {
		return err
	}
	return os.WriteFile(path, []byte("0"), 0)
}

// openPacketSocket receives the frames that arrive for this host over Ethernet
// with one of these protocols in IP, each with an offloadHeader before it
// (packet(7)).
func openPacketSocket(protocols ...uint8) (*os.File, error) {
	// Protocol 0: it receives nothing until it is bound.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		attachFilter(fd, onlyForThisHost(protocols)),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, decapsulatorBuffer),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everyProtocol}))
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "packets"), nil
}

// everyProtocol is ETH_P_ALL in network byte order.
const everyProtocol = unix.ETH_P_ALL << 8

// onlyForThisHost takes the whole of what came over Ethernet for this host's own
// MAC and has one of the protocols in its IP header. It is a program as in
// Documentation/networking/filter.rst of Linux.
func onlyForThisHost(protocols []uint8) []unix.SockFilter {
	const (
		packetType   = 0xfffff004 // SKF_AD_OFF + SKF_AD_PKTTYPE
		hardwareType = 0xfffff01c // SKF_AD_OFF + SKF_AD_HATYPE
		network      = 0xfff00000 // SKF_NET_OFF
	)
	load := func(size uint16, from uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | size | unix.BPF_ABS, K: from}
	}
	unlessEqual := func(value uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: skip}
	}
	take := func(length uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: length}
	}

	program := []unix.SockFilter{
		load(unix.BPF_W, hardwareType),
		unlessEqual(unix.ARPHRD_ETHER, 2),
		load(unix.BPF_W, packetType),
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.PACKET_HOST, Jt: 1},
		take(0),
		load(unix.BPF_B, network),
		{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 4}, // the version
		unlessEqual(6, 2),
		load(unix.BPF_B, network+6), // IPv6's next header
		{Code: unix.BPF_JMP | unix.BPF_JA, K: 1},
		load(unix.BPF_B, network+9), // IPv4's protocol
	}
	for _, protocol := range protocols {
		program = append(program, unlessEqual(uint32(protocol), 1), take(1<<32-1))
	}
	return append(program, take(0))
}

// nothing is a program that takes no packet.
func nothing() []unix.SockFilter {
	return []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
}

func attachFilter(fd int, program []unix.SockFilter) error {
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &filter)
}

// listenNowhere opens sockets, as net.ListenPacket does, that receive nothing.
func listenNowhere(address string, networks ...string) (sockets []net.PacketConn, err error) {
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var filterErr error
		err := c.Control(func(fd uintptr) { filterErr = attachFilter(int(fd), nothing()) })
		return errors.Join(err, filterErr)
	}}
	for _, network := range networks {
		socket, err := listen.ListenPacket(context.Background(), network, address)
		if errors.Is(err, unix.EAFNOSUPPORT) { // a kernel without IPv6
			continue
		}
		if err != nil {
			return sockets, err
		}
		sockets = append(sockets, socket)
	}
	return sockets, nil
}
