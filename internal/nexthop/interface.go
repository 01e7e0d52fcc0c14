package nexthop

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrNoInterface is wrapped in the error for a name that no interface has.
var ErrNoInterface = errors.New("no such interface")

// Interface is what decides whether and how XDP can work on a network interface.
type Interface struct {
	Index int
	Name  string
	MAC   lb.MAC // zero for interfaces without Ethernet addresses
	MTU   int    // bytes, without the Ethernet header
	Up    bool
	// Kind is the kernel's IFLA_INFO_KIND: veth, tun, bond, bridge ...; "" for hardware.
	Kind string
	// Driver is ethtool's name of the driver: virtio_net, ixgbe ...; "" if it has none.
	Driver    string
	Addresses []netip.Prefix
	XDP       *AttachedXDP // nil when no XDP program is attached

	// Master is what the interface is a port or member of: a bridge, a bond, a team; nil: of nothing.
	Master *Master
	// VLANs are the names of the VLAN interfaces on top.
	VLANs []string
	// StripsTags: VLAN tags are taken off frames before XDP sees them (rx-vlan-offload).
	StripsTags bool

	// PeerElsewhere: a veth whose other end is in another network namespace.
	PeerElsewhere bool
	// TakesRedirects: the kernel sends what XDP redirects to this veth. It drops
	// that silently when the other end, wherever it is, has neither GRO on nor a
	// native XDP program. Kernels before 6.3 do not tell: true.
	TakesRedirects bool
	// PeerName is the other end of a veth when it is in this namespace.
	PeerName string
	// PeerReceives: the other end, in this namespace, takes frames that XDP sends
	// to it, because it has GRO on or a native XDP program. Without either the
	// kernel drops them.
	PeerReceives bool
}

// Master is the interface that another one is a part of.
type Master struct {
	Name, Kind string
	MAC        lb.MAC
}

// AttachedXDP is an XDP program on an interface.
type AttachedXDP struct {
	ProgramID uint32 // 0 when there are several, in different modes
	Mode      string // native, generic, offload or several
}

// Interface describes the interface with that name, or one of its alternative names,
// in the resolver's network namespace.
func (r *Resolver) Interface(name string) (Interface, error) {
	found, err := r.kernel.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return Interface{}, fmt.Errorf("%w: %s%s", ErrNoInterface, name, r.hintInterfaces())
	}
	if err != nil {
		return Interface{}, fmt.Errorf("look up interface %s: %w", name, err)
	}
	attrs := found.Attrs()
	result := Interface{
		Index: attrs.Index,
		Name:  attrs.Name,
		MAC:   toMAC(attrs.HardwareAddr),
		MTU:   attrs.MTU,
		Up:    attrs.RawFlags&unix.IFF_UP != 0,
		Kind:  kind(found),
		XDP:   attachedXDP(attrs.Xdp),
	}
	if result.Driver, err = r.driver(attrs.Name); err != nil {
		return Interface{}, err
	}
	if result.Addresses, err = r.kernel.addresses(found); err != nil {
		return Interface{}, err
	}
	if err := r.describeVLANs(&result); err != nil {
		return Interface{}, err
	}
	if attrs.MasterIndex != 0 {
		if result.Master, err = r.master(attrs); err != nil {
			return Interface{}, err
		}
	}
	if result.Kind == "veth" {
		if result.TakesRedirects, err = r.kernel.takesRedirects(result.Index); err == nil {
			err = r.describePeer(&result, attrs)
		}
	}
	return result, err
}

// sized is an interface, and how large IP packets on it may be.
type sized struct {
	index, mtu int
}

// MTUs are those of the named interfaces, in bytes of IP packet, by index, as far as there
// are such interfaces and they are known yet. A change is told by Changed.
func (r *Resolver) MTUs(names []string) map[int]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	mtus := map[int]int{}
	for _, name := range names {
		if i, known := r.interfaces[name]; known {
			mtus[i.index] = i.mtu
		}
	}
	return mtus
}

// InterfaceNames lists the interfaces of the resolver's network namespace.
func (r *Resolver) InterfaceNames() ([]string, error) {
	links, err := r.kernel.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := make([]string, len(links))
	for i, l := range links {
		names[i] = l.Attrs().Name
	}
	return names, nil
}

func (r *Resolver) hintInterfaces() string {
	names, err := r.InterfaceNames()
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (interfaces here: %s)", strings.Join(names, ", "))
}

// master is nil when it has let go of the interface just now.
func (r *Resolver) master(attrs *netlink.LinkAttrs) (*Master, error) {
	found, err := r.kernel.LinkByIndex(attrs.MasterIndex)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up what %s is a part of: %w", attrs.Name, err)
	}
	return &Master{Name: found.Attrs().Name, Kind: kind(found), MAC: toMAC(found.Attrs().HardwareAddr)}, nil
}

// describeVLANs fills in which VLANs there are, and whether XDP sees their tags.
func (r *Resolver) describeVLANs(i *Interface) error {
	links, err := r.kernel.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list interfaces: %w", err)
	}
	i.VLANs = vlansOn(i.Index, links)
	features, err := r.ethtool.Features(i.Name)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("read the offloads of %s: %w", i.Name, err)
	}
	i.StripsTags = features["rx-vlan-hw-parse"]
	return nil
}

// vlansOn are the names of the VLAN interfaces on top of one, in order.
func vlansOn(index int, links []netlink.Link) (names []string) {
	for _, l := range links {
		if tagged, ok := l.(*netlink.Vlan); ok && tagged.ParentIndex == index && tagged.NetNsID == -1 {
			names = append(names, tagged.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Out is an interface that packets leave by though it is not where they have come in.
type Out struct {
	Name           string
	Kind           string // as Interface.Kind
	TakesRedirects bool   // what native XDP sends to it
}

// OutInterface describes one by its index; false: it has just gone.
func (r *Resolver) OutInterface(index int) (out Out, exists bool, err error) {
	found, err := r.kernel.LinkByIndex(index)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return Out{}, false, nil
	}
	if err != nil {
		return Out{}, false, fmt.Errorf("look up interface %d: %w", index, err)
	}
	out = Out{Name: found.Attrs().Name, Kind: kind(found)}
	out.TakesRedirects, err = r.kernel.takesRedirects(index)
	return out, true, err
}

// describePeer fills in what is known about the other end of a veth.
func (r *Resolver) describePeer(i *Interface, attrs *netlink.LinkAttrs) error {
	// IFLA_LINK_NETNSID is there only when the peer's namespace is not this one.
	if i.PeerElsewhere = attrs.NetNsID != -1; i.PeerElsewhere {
		return nil
	}
	peer, err := r.kernel.LinkByIndex(attrs.ParentIndex)
	if err != nil {
		return fmt.Errorf("look up the other end of %s: %w", i.Name, err)
	}
	i.PeerName = peer.Attrs().Name
	xdp := attachedXDP(peer.Attrs().Xdp)
	if xdp != nil && xdp.Mode != "generic" {
		i.PeerReceives = true
		return nil
	}
	features, err := r.ethtool.Features(i.PeerName)
	if err != nil {
		return fmt.Errorf("read the offloads of %s: %w", i.PeerName, err)
	}
	if !features["rx-gro"] {
		return nil
	}
	// GRO that was turned on while the peer was down and this end up counts only
	// once it is turned off and on again.
	i.PeerReceives = i.TakesRedirects
	return nil
}

func (r *Resolver) driver(name string) (string, error) {
	driver, err := r.ethtool.DriverName(name)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the driver of %s: %w", name, err)
	}
	return driver, nil
}

// kind undoes the two names that the netlink package has of its own.
func kind(l netlink.Link) string {
	switch t := l.Type(); t {
	case "device":
		return ""
	case "tuntap":
		return "tun"
	default:
		return t
	}
}

func attachedXDP(x *netlink.LinkXdp) *AttachedXDP {
	if x == nil || !x.Attached {
		return nil
	}
	mode := "several"
	switch x.AttachMode {
	case nl.XDP_ATTACHED_DRV:
		mode = "native"
	case nl.XDP_ATTACHED_SKB:
		mode = "generic"
	case nl.XDP_ATTACHED_HW:
		mode = "offload"
	}
	return &AttachedXDP{ProgramID: x.ProgId, Mode: mode}
}
