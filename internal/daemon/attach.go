package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/nexthop"
)

// ErrIndex says that an interface has too large an index for the flow table.
var ErrIndex = errors.New("the index of the interface is too large")

// chooseMode decides where the program runs on an interface, and says why when
// it is not the faster way.
func chooseMode(wanted lb.Mode, i nexthop.Interface) (mode lb.Mode, why string) {
	switch {
	case wanted != lb.ModeAuto:
		return wanted, ""
	case i.MAC == (lb.MAC{}):
		return lb.ModeGeneric, "it has no Ethernet addresses"
	case i.Master != nil && i.Master.Kind == "bridge":
		return lb.ModeGeneric, fmt.Sprintf("it is a port of %s, a bridge, which takes no frames that native XDP sends", i.Master.Name)
	case i.PeerElsewhere:
		return lb.ModeGeneric, "the other end of this veth is in another network namespace: whether it would " +
			"take frames that native XDP sends cannot be seen from here (it does with GRO on; then set mode: native)"
	case i.PeerName != "" && !i.PeerReceives:
		return lb.ModeGeneric, fmt.Sprintf("the other end of this veth, %s, would drop frames that native XDP sends; "+
			"run: ethtool -K %s gro on (if it is on, turn it off and on)", i.PeerName, i.PeerName)
	}
	return lb.ModeNative, ""
}

// attachment says how the program must treat an interface's packets.
func attachment(i nexthop.Interface, mode lb.Mode) datapath.Attachment {
	return datapath.Attachment{
		Interface: i.Index,
		Name:      i.Name,
		MAC:       hostMAC(i),
		Mode:      mode,
		// neighbours are told what the kernel would tell them
		NeighbourMAC: hostMAC(i),
		// generic XDP runs after GRO, whose packets have partial checksums on any interface
		PartialChecksums: mode == lb.ModeGeneric || i.Kind == "veth" || i.Kind == "tun" || i.Driver == "virtio_net",
		TXByRedirect:     mode == lb.ModeNative && i.Kind == "veth",
	}
}

// hostMAC is what frames for this host that arrive at an interface are sent to. Of a
// bridge or bond the host's addresses are on that, not on its ports and members.
func hostMAC(i nexthop.Interface) lb.MAC {
	if i.Master != nil && i.Master.MAC != (lb.MAC{}) {
		return i.Master.MAC
	}
	return i.MAC
}

// attacher keeps the program on the configured interfaces.
type attacher struct {
	log      *slog.Logger
	datapath *datapath.Datapath
	resolver *nexthop.Resolver
	pinDir   string
	// current is what was asked for, by interface index: a native attachment
	// that became a generic one is not tried again, which would detach that one.
	current map[int]datapath.Attachment
	// interfaces are those that the last Set put the program on.
	interfaces []nexthop.Interface
	told       map[notice]bool // notices that are in the log and still hold
}

// Set puts the program on all the named interfaces and takes it off all others.
func (a *attacher) Set(names []string, wanted lb.Mode) error {
	a.resolver.SetAttached(names)
	var indices []int
	var interfaces []nexthop.Interface
	for _, name := range names {
		i, err := a.resolver.Interface(name)
		if err != nil {
			return err
		}
		if err := a.attach(i, wanted); err != nil {
			return err
		}
		indices, interfaces = append(indices, i.Index), append(interfaces, i)
	}
	attached, err := datapath.Attached(a.pinDir)
	if err != nil {
		return fmt.Errorf("list what is attached: %w", err)
	}
	for _, old := range attached {
		if slices.Contains(indices, old.Index) {
			continue
		}
		if err := datapath.Detach(a.pinDir, old.Index); err != nil {
			return err
		}
		delete(a.current, old.Index)
		a.log.Info("detached", "interface", old.Name)
	}
	a.interfaces = interfaces
	return a.tell(interfaces)
}

func (a *attacher) attach(i nexthop.Interface, wanted lb.Mode) error {
	if i.Index >= 1<<lb.InterfaceBits {
		return fmt.Errorf("interface %s: %w: %d, of at most %d: make it anew with a smaller one (ip link add %s index N)",
			i.Name, ErrIndex, i.Index, 1<<lb.InterfaceBits-1, i.Name)
	}
	mode, why := chooseMode(wanted, i)
	plan := attachment(i, mode)
	if a.current[i.Index] == plan {
		return nil
	}
	if kept, found := a.attachedMode(i.Index); found && wanted == lb.ModeAuto && kept != mode {
		mode, why = kept, "as it is attached already: another mode would interrupt traffic; to change it, name the mode"
	}
	err := a.datapath.Attach(attachment(i, mode))
	if errors.Is(err, datapath.ErrNoNative) && wanted == lb.ModeAuto {
		mode, why = lb.ModeGeneric, err.Error()
		err = a.datapath.Attach(attachment(i, mode))
	}
	switch {
	case errors.Is(err, datapath.ErrOccupied):
		return fmt.Errorf("interface %s: %w (%s); look with: bpftool net show dev %s; another tinylb's goes with its "+
			"tinylb down --pin DIR, one of ip's with: ip link set dev %s xdp off", i.Name, err, occupant(i), i.Name, i.Name)
	case errors.Is(err, datapath.ErrNoNative):
		return fmt.Errorf("interface %s: %w; set mode: auto or mode: generic", i.Name, err)
	case err != nil:
		return fmt.Errorf("interface %s: %w", i.Name, err)
	}
	a.current[i.Index] = plan
	if mode == lb.ModeNative && i.Kind == "veth" && !i.TakesRedirects {
		a.log.Warn("the other end of this veth will drop every frame that native XDP sends: turn GRO on there (off and on, "+
			"if it is on), or set mode: auto", "interface", i.Name)
	}
	attrs := []any{"interface", i.Name, "mode", mode}
	if why != "" {
		attrs = append(attrs, "why", why)
	}
	a.log.Info("attached", attrs...)
	return nil
}

// attachedMode is the mode of our program on an interface, if it is there.
func (a *attacher) attachedMode(index int) (lb.Mode, bool) {
	attached, err := datapath.Attached(a.pinDir)
	if err != nil {
		return "", false
	}
	for _, old := range attached {
		if old.Index == index && old.Alive() {
			return old.Mode, true
		}
	}
	return "", false
}

func occupant(i nexthop.Interface) string {
	if i.XDP == nil {
		return "it came in between"
	}
	return fmt.Sprintf("program id %d, %s", i.XDP.ProgramID, i.XDP.Mode)
}
