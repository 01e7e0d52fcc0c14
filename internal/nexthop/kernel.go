package nexthop

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// answerTimeout bounds how long a netlink request may take; the kernel holds
	// them up while large changes are under way.
	answerTimeout = 30 * time.Second
	// clockTick is the unit of nda_cacheinfo's ages (USER_HZ, 100 on every
	// architecture Go runs on).
	clockTick = 10 * time.Millisecond
)

// errChanged means the entry came or went between reading and writing it.
var errChanged = errors.New("the neighbour entry has just changed")

// neighbourKey names a line of the kernel's neighbour tables.
type neighbourKey struct {
	index int
	addr  netip.Addr
}

func (k neighbourKey) family() int {
	if k.addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func (k neighbourKey) sysctlFamily() string {
	if k.addr.Is4() {
		return "ipv4"
	}
	return "ipv6"
}

// kernel asks one network namespace about its routes, links and neighbours
// (rtnetlink, RFC 3549). Its sockets belong to the namespace they were opened in,
// so it works from any thread.
type kernel struct {
	*netlink.Handle
	// sockets is for the requests that netlink.Handle cannot make: a single
	// neighbour, XDP features.
	sockets map[int]*nl.SocketHandle
}

// openKernel opens the namespace of the calling thread.
func openKernel() (*kernel, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	if err := handle.SetSocketTimeout(answerTimeout); err != nil {
		handle.Close()
		return nil, fmt.Errorf("set the netlink timeout: %w", err)
	}
	k := &kernel{Handle: handle, sockets: map[int]*nl.SocketHandle{}}
	timeout := unix.NsecToTimeval(answerTimeout.Nanoseconds())
	for _, protocol := range []int{unix.NETLINK_ROUTE, unix.NETLINK_GENERIC} {
		socket, err := nl.Subscribe(protocol)
		if err != nil {
			k.close()
			return nil, fmt.Errorf("open netlink: %w", err)
		}
		_ = socket.SetReceiveTimeout(&timeout) // stores a number, cannot fail
		_ = socket.SetSendTimeout(&timeout)
		k.sockets[protocol] = &nl.SocketHandle{Socket: socket}
	}
	return k, nil
}

func (k *kernel) close() {
	k.Handle.Close()
	for _, s := range k.sockets {
		s.Close()
	}
}

// route looks addr up in the kernel's routing tables, as for a packet of this host.
// That there is no usable route is an answer, not an error.
func (k *kernel) route(addr netip.Addr) (route, error) {
	found, err := k.RouteGet(addr.AsSlice())
	switch {
	case errors.Is(err, unix.ENETUNREACH), err == nil && len(found) == 0:
		return route{problem: problemNoRoute}, nil
	case errors.Is(err, unix.EHOSTUNREACH):
		return route{problem: "route is unreachable"}, nil
	case errors.Is(err, unix.EACCES):
		return route{problem: "route is prohibit"}, nil
	case errors.Is(err, unix.EINVAL):
		return route{problem: "route is blackhole"}, nil
	case err != nil:
		return route{}, fmt.Errorf("look up the route to %s: %w", addr, err)
	}
	result, onLink := readRoute(addr, found[0])
	// an MTU may also be what the kernel has learned about a path, which ends without notice
	hasMTU := result.problem == "" && found[0].MTU > 0
	if !onLink && !hasMTU {
		return result, nil
	}
	direct, mtu, err := k.matching(addr)
	if onLink {
		result.direct = direct
	}
	if hasMTU {
		result.mtu = mtu
	}
	return result, err
}

// matching is the destination of the route that addr is reached by, and the MTU that it
// gives, 0: none. A change since the last answer is announced, so that everything is looked up
// again: then addr alone.
func (k *kernel) matching(addr netip.Addr) (destination netip.Prefix, mtu int, err error) {
	alone := netip.PrefixFrom(addr, addr.BitLen())
	found, err := k.RouteGetWithOptions(addr.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL):
		return alone, 0, nil
	case err != nil:
		return alone, 0, fmt.Errorf("look up what route leads to %s: %w", addr, err)
	case len(found) == 0:
		return alone, 0, nil
	}
	bits := 0 // the default route
	if found[0].Dst != nil {
		bits, _ = found[0].Dst.Mask.Size()
	}
	return netip.PrefixFrom(addr, bits), found[0].MTU, nil
}

// readRoute reports, too, whether the address is on a link of this host.
func readRoute(addr netip.Addr, found netlink.Route) (result route, onLink bool) {
	switch found.Type {
	case unix.RTN_UNICAST:
	case unix.RTN_LOCAL, unix.RTN_ANYCAST:
		return route{problem: "route leads to this host itself"}, false
	case unix.RTN_BROADCAST, unix.RTN_MULTICAST:
		return route{problem: "not the address of a single host"}, false
	default:
		return route{problem: fmt.Sprintf("route is of type %d", found.Type)}, false
	}
	if found.Encap != nil {
		return route{problem: "route encapsulates packets, which only the kernel can do: " + found.Encap.String()}, false
	}
	result = route{index: found.LinkIndex, via: addr, source: toAddr(found.Src)}
	if result.source.Is6() && result.source.IsLinkLocalUnicast() {
		// The kernel's choice where there is no better one: a router does not
		// forward what comes from it, and answers to it would not come back
		// (RFC 4291, section 2.5.6).
		result.source = netip.Addr{}
	}
	if gateway := toAddr(found.Gw); gateway.IsValid() {
		result.via = gateway
	} else if via, ok := found.Via.(*netlink.Via); ok { // an IPv4 route by an IPv6 gateway, RFC 8950
		result.via = toAddr(via.Addr)
	}
	return result, result.via == addr
}

// link returns the zero link when there is no such interface.
func (k *kernel) link(index int) (link, error) {
	found, err := k.LinkByIndex(index)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return link{}, nil
	}
	if err != nil {
		return link{}, fmt.Errorf("look up interface %d: %w", index, err)
	}
	attrs := found.Attrs()
	result := link{
		name:     attrs.Name,
		mac:      toMAC(attrs.HardwareAddr),
		up:       attrs.RawFlags&unix.IFF_UP != 0,
		carrier:  attrs.RawFlags&unix.IFF_LOWER_UP != 0,
		ethernet: attrs.EncapType == "ether",
		mtu:      attrs.MTU,
	}
	if result.addresses, err = k.addresses(found); err != nil {
		return result, err
	}
	if tagged, ok := found.(*netlink.Vlan); ok {
		result.vlan, err = k.vlan(tagged)
	}
	return result, err
}

// vlan finds out what is below a VLAN interface.
func (k *kernel) vlan(tagged *netlink.Vlan) (vlan, error) {
	if tagged.NetNsID != -1 {
		return readVLAN(tagged, nil), nil
	}
	parent, err := k.LinkByIndex(tagged.ParentIndex)
	if errors.As(err, new(netlink.LinkNotFoundError)) { // a moment ago
		return readVLAN(tagged, nil), nil
	}
	if err != nil {
		return vlan{}, fmt.Errorf("look up what is below interface %s: %w", tagged.Name, err)
	}
	return readVLAN(tagged, parent), nil
}

// readVLAN tells how frames leave by a VLAN interface; parent is nil where it is not of
// this network namespace.
func readVLAN(tagged *netlink.Vlan, parent netlink.Link) vlan {
	result := vlan{parent: tagged.ParentIndex, id: uint16(tagged.VlanId)}
	switch {
	case parent == nil:
		result.problem = fmt.Sprintf("the interface below VLAN interface %s is not of this network namespace", tagged.Name)
	case parent.Type() == "vlan":
		result.problem = fmt.Sprintf("interface %s is a VLAN in a VLAN, %s: packets to backends cannot have two tags", tagged.Name, parent.Attrs().Name)
	case tagged.VlanProtocol == netlink.VLAN_PROTOCOL_8021AD:
		result.problem = fmt.Sprintf("interface %s has tags of 802.1ad, which packets to backends cannot have, only those of 802.1Q", tagged.Name)
	}
	return result
}

// addresses are an interface's, nil: all interfaces'.
func (k *kernel) addresses(l netlink.Link) ([]netip.Prefix, error) {
	found, err := k.AddrList(l, netlink.FAMILY_ALL)
	// what has changed meanwhile is announced, and looked up again
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		of := "the host"
		if l != nil {
			of = l.Attrs().Name
		}
		return nil, fmt.Errorf("list the addresses of %s: %w", of, err)
	}
	prefixes := make([]netip.Prefix, len(found))
	for i, a := range found {
		bits, _ := a.Mask.Size()
		prefixes[i] = netip.PrefixFrom(toAddr(a.IP), bits)
	}
	return prefixes, nil
}

// interfaces are those of the namespace by all names that they have.
func (k *kernel) interfaces() (map[string]sized, error) {
	found, err := k.LinkList()
	// what has changed meanwhile is announced, and looked up again
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	all := make(map[string]sized, len(found))
	for _, l := range found {
		attrs := l.Attrs()
		for _, name := range append(attrs.AltNames, attrs.Name) {
			all[name] = sized{attrs.Index, attrs.MTU}
		}
	}
	return all, nil
}

// neighbour reads one entry; a missing one is no error.
func (k *kernel) neighbour(key neighbourKey) (entry, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, 0)
	req.Sockets = k.sockets
	req.AddData(&netlink.Ndmsg{Family: uint8(key.family()), Index: uint32(key.index)})
	req.AddData(nl.NewRtAttr(netlink.NDA_DST, key.addr.AsSlice()))
	messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
	if errors.Is(err, unix.ENOENT) || err == nil && len(messages) == 0 {
		return entry{}, nil
	}
	if err != nil {
		return entry{}, fmt.Errorf("read neighbour: %w", err)
	}
	found, err := netlink.NeighDeserialize(messages[0])
	if err != nil {
		return entry{}, fmt.Errorf("read neighbour: %w", err)
	}
	return entry{
		exists:    true,
		state:     found.State,
		mac:       toMAC(found.HardwareAddr),
		confirmed: time.Duration(found.Confirmed) * clockTick,
		foreign: found.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) != 0 ||
			found.Flags&netlink.NTF_EXT_LEARNED != 0 || found.FlagsExt&netlink.NTF_EXT_MANAGED != 0,
	}, nil
}

// ask makes the kernel resolve the neighbour now. exists says whether its table has
// an entry; an entry that came or went since then is left alone: errChanged.
func (k *kernel) ask(key neighbourKey, exists bool) error {
	var flags int
	if !exists {
		flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	return k.write(key, netlink.Ndmsg{Flags: netlink.NTF_USE}, flags)
}

// verify makes the kernel ask the neighbour at its known MAC whether it is there.
func (k *kernel) verify(key neighbourKey) error {
	return k.write(key, netlink.Ndmsg{State: netlink.NUD_PROBE}, 0)
}

// write never gives a MAC, so it cannot overwrite one.
func (k *kernel) write(key neighbourKey, msg netlink.Ndmsg, flags int) error {
	msg.Family, msg.Index = uint8(key.family()), uint32(key.index)
	req := nl.NewNetlinkRequest(unix.RTM_NEWNEIGH, flags|unix.NLM_F_ACK)
	req.Sockets = k.sockets
	req.AddData(&msg)
	req.AddData(nl.NewRtAttr(netlink.NDA_DST, key.addr.AsSlice()))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EEXIST), errors.Is(err, unix.EINVAL):
		return errChanged // EINVAL: the entry has lost its MAC, there is nothing to verify
	case errors.Is(err, unix.ENOBUFS):
		return fmt.Errorf("the kernel's neighbour table is full, raise net.%s.neigh.default.gc_thresh3", key.sysctlFamily())
	}
	return err
}

func toAddr(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

// toMAC returns the zero MAC for anything that is not an Ethernet address.
func toMAC(hardware net.HardwareAddr) (mac lb.MAC) {
	if len(hardware) == len(mac) {
		copy(mac[:], hardware)
	}
	return mac
}
