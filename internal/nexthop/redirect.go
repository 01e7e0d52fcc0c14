package nexthop

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The netdev family of generic netlink, linux/netdev.h, since Linux 6.3.
const (
	netdevFamily     = "netdev"
	netdevGetDevice  = 1 // NETDEV_CMD_DEV_GET
	netdevIndex      = 1 // NETDEV_A_DEV_IFINDEX
	netdevXDP        = 3 // NETDEV_A_DEV_XDP_FEATURES
	netdevXDPNDOXmit = 4 // NETDEV_XDP_ACT_NDO_XMIT
)

// takesRedirects tells whether the kernel sends what XDP redirects to an
// interface, or drops it. For a veth that depends on the other end. Kernels
// before 6.3 do not ask, and have no answer: true.
func (k *kernel) takesRedirects(index int) (bool, error) {
	family, err := k.GenlFamilyGet(netdevFamily)
	if errors.Is(err, unix.ENOENT) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up netlink's netdev family: %w", err)
	}
	req := nl.NewNetlinkRequest(int(family.ID), 0)
	req.Sockets = k.sockets
	// by hand: nl.Genlmsg leaves two bytes to chance, which must be zero
	header := []byte{netdevGetDevice, 1 /* version */, 0, 0}
	req.AddRawData(append(header, nl.NewRtAttr(netdevIndex, nl.Uint32Attr(uint32(index))).Serialize()...))
	messages, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return false, fmt.Errorf("read the XDP features of interface %d: %w", index, err)
	}
	for _, m := range messages {
		attrs, err := nl.ParseRouteAttr(m[nl.SizeofGenlmsg:])
		if err != nil {
			return false, fmt.Errorf("read the XDP features of interface %d: %w", index, err)
		}
		for _, a := range attrs {
			if a.Attr.Type == netdevXDP && len(a.Value) == 8 {
				return binary.NativeEndian.Uint64(a.Value)&netdevXDPNDOXmit != 0, nil
			}
		}
	}
	return false, fmt.Errorf("read the XDP features of interface %d: none in the answer", index)
}
