package nexthop

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// subscriptionBuffer is the size of the subscription's receive buffer in bytes: some
// thousand route changes while the reader is busy. Beyond it everything is read anew.
const subscriptionBuffer = 4 << 20

// drainTimeout is how long the subscription must be silent to count as empty.
const drainTimeout = time.Millisecond

// subscribe opens a subscription in the namespace of the calling thread. One socket
// for all groups keeps the kernel's order between them.
func subscribe() (*nl.NetlinkSocket, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_NEXTHOP,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		return nil, fmt.Errorf("subscribe to netlink: %w", err)
	}
	// A smaller buffer only means that everything is read anew more often.
	if socket.SetReceiveBufferSize(subscriptionBuffer, true) != nil {
		_ = socket.SetReceiveBufferSize(subscriptionBuffer, false)
	}
	return socket, nil
}

// hints are what notifications say has changed.
type hints struct {
	everything bool // notifications were lost
	routes     bool // a route, rule, nexthop, address or link
	neighbours map[neighbourKey]struct{}
}

func (h *hints) add(o hints) {
	h.everything = h.everything || o.everything
	h.routes = h.routes || o.routes
	for key := range o.neighbours {
		h.addNeighbour(key)
	}
}

func (h *hints) addNeighbour(key neighbourKey) {
	if h.neighbours == nil {
		h.neighbours = map[neighbourKey]struct{}{}
	}
	h.neighbours[key] = struct{}{}
}

// receive turns notifications into hints until ctx ends or the socket fails. While
// nobody takes the hints the kernel's buffer fills, overruns, and is read anew later.
func receive(ctx context.Context, socket *nl.NetlinkSocket, out chan<- hints) error {
	for {
		messages, _, err := socket.Receive()
		var h hints
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			// The kernel reports an overrun once and goes on dropping until the
			// buffer was empty: only what is read after that is complete.
			err = socket.SetReceiveTimeout(&unix.Timeval{Usec: drainTimeout.Microseconds()})
		case errors.Is(err, unix.EAGAIN): // empty
			h.everything = true
			err = socket.SetReceiveTimeout(&unix.Timeval{})
		}
		if err != nil {
			return fmt.Errorf("receive from netlink: %w", err)
		}
		for _, m := range messages {
			h.note(m)
		}
		select {
		case out <- h:
		case <-ctx.Done():
			return nil
		}
	}
}

func (h *hints) note(m syscall.NetlinkMessage) {
	switch m.Header.Type {
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		// Bridges announce their forwarding entries in the same group.
		if len(m.Data) == 0 || m.Data[0] != unix.AF_INET && m.Data[0] != unix.AF_INET6 {
			return
		}
		n, err := netlink.NeighDeserialize(m.Data)
		if err != nil {
			h.everything = true
			return
		}
		h.addNeighbour(neighbourKey{index: n.LinkIndex, addr: toAddr(n.IP)})
	default:
		h.routes = true
	}
}
