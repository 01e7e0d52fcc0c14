package nexthop

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tinylb/tinylb/internal/lb"
)

// Groups are the Ethernet groups that neighbour solicitations for IPv6 addresses come
// to (RFC 4291, section 2.7.1; RFC 2464, section 7). A network card takes those alone
// that it is told of, and a switch that listens to MLD sends those alone that somebody
// has reported. What the card is told stays when the process ends.
type Groups struct {
	socket int
	joined map[member]bool
}

// member is an interface's part in the group of an address.
type member struct {
	index int
	name  string
	group netip.Addr
}

// NewGroups works in the network namespace of the calling thread.
func NewGroups() (*Groups, error) {
	socket, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket for multicast groups: %w", err)
	}
	return &Groups{socket: socket, joined: map[member]bool{}}, nil
}

// Close ends the reports; cards keep the groups.
func (g *Groups) Close() error { return unix.Close(g.socket) }

// Set makes the interfaces members of the groups of these addresses, IPv4 ones left out,
// and of no others that it has joined. Without an error it may be called again at no cost.
func (g *Groups) Set(interfaces []Interface, addrs []netip.Addr) error {
	wanted := map[member]bool{}
	for _, i := range interfaces {
		for _, a := range addrs {
			if a.Is6() {
				wanted[member{i.Index, i.Name, lb.SolicitedNode(a)}] = true
			}
		}
	}
	var failed error
	for m := range g.joined {
		if !wanted[m] {
			failed = errors.Join(failed, g.leave(m))
			delete(g.joined, m)
		}
	}
	for m := range wanted {
		if g.joined[m] {
			continue
		}
		if err := g.join(m); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		g.joined[m] = true
	}
	return failed
}

// Forget takes groups off interfaces, those that another process has told them of, too.
func (g *Groups) Forget(interfaces []Interface, addrs []netip.Addr) error {
	if err := g.Set(interfaces, addrs); err != nil {
		return err
	}
	return g.Set(nil, nil)
}

func (g *Groups) join(m member) error {
	if err := changeFilter(g.socket, unix.SIOCADDMULTI, m); err != nil {
		return err
	}
	// Reports are a help where a switch listens; there may be as many as a socket can have.
	_ = unix.SetsockoptIPv6Mreq(g.socket, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, m.mreq())
	return nil
}

func (g *Groups) leave(m member) error {
	_ = unix.SetsockoptIPv6Mreq(g.socket, unix.IPPROTO_IPV6, unix.IPV6_LEAVE_GROUP, m.mreq())
	return changeFilter(g.socket, unix.SIOCDELMULTI, m)
}

func (m member) mreq() *unix.IPv6Mreq {
	return &unix.IPv6Mreq{Multiaddr: m.group.As16(), Interface: uint32(m.index)}
}

// changeFilter adds a group to those that an interface takes, or removes it. An
// interface that has no such filter takes all; one that is gone needs none.
func changeFilter(socket int, request uintptr, m member) error {
	var frame struct {
		name    [unix.IFNAMSIZ]byte
		family  uint16
		address [14]byte
		_       [8]byte
	}
	copy(frame.name[:unix.IFNAMSIZ-1], m.name)
	group := m.group.As16()
	frame.family = unix.AF_UNSPEC
	copy(frame.address[:], append([]byte{0x33, 0x33}, group[12:]...))
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), request, uintptr(unsafe.Pointer(&frame)))
	switch errno {
	case 0, unix.EINVAL, unix.EOPNOTSUPP, unix.ENODEV, unix.ENOENT:
		return nil
	}
	return fmt.Errorf("tell interface %s of the multicast group %s: %w", m.name, m.group, errno)
}
