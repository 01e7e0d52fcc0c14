package daemon

import (
	"fmt"
	"net"
	"strings"

	"github.com/tinylb/tinylb/internal/lb"
	"github.com/tinylb/tinylb/internal/nexthop"
)

// notice is something that a user should know about an interface with a program.
type notice struct {
	name, text string
}

// tell logs what is to be known of the interfaces, each once for as long as it holds.
func (a *attacher) tell(interfaces []nexthop.Interface) error {
	told := map[notice]bool{}
	for _, i := range interfaces {
		mode, attached := a.attachedMode(i.Index)
		if !attached {
			continue
		}
		texts, err := readNotices(a.resolver, i, mode, a.resolver.Out())
		if err != nil {
			return err
		}
		for _, text := range texts {
			n := notice{i.Name, text}
			if told[n] = true; !a.told[n] {
				a.log.Warn(text, "interface", i.Name)
			}
		}
	}
	a.told = told
	return nil
}

// readNotices is notices, with what the kernel says of the interfaces, by index, that
// packets to backends leave by.
func readNotices(r *nexthop.Resolver, i nexthop.Interface, mode lb.Mode, outs []int) ([]string, error) {
	var others []nexthop.Out
	for _, index := range outs {
		if index == i.Index {
			continue
		}
		out, exists, err := r.OutInterface(index)
		if err != nil {
			return nil, err
		}
		if exists {
			others = append(others, out)
		}
	}
	return notices(i, mode, others), nil
}

// notices say what will not work on an interface as it is now, and what to do about it.
// Outs are the other interfaces that packets to backends leave by.
func notices(i nexthop.Interface, mode lb.Mode, outs []nexthop.Out) []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	switch i.Kind {
	case "bridge":
		add("%s is a bridge: XDP sees the frames that are for the bridge itself, not those that it forwards between its ports", i.Name)
	case "bond":
		add("%s is a bond: native XDP works in its modes balance-rr, active-backup, balance-xor and 802.3ad, where the drivers of all "+
			"members support it and no member has an XDP program of its own", i.Name)
	case "team":
		add("%s is a team: XDP works on it in generic mode only", i.Name)
	}
	if i.Master != nil {
		all = append(all, masterNotice(i))
	}
	if len(i.VLANs) > 0 && i.StripsTags {
		add("%s", tagNotice(i))
	}
	if mode != lb.ModeNative {
		return all
	}
	for _, out := range outs {
		if !out.TakesRedirects {
			add("packets to backends leave by %s, which drops what native XDP sends to it%s; or set mode: generic", out.Name, redirectHint(out))
		}
	}
	return all
}

func masterNotice(i nexthop.Interface) string {
	m := i.Master
	if m.Kind == "bridge" {
		return fmt.Sprintf("%s is a port of the bridge %s: only frames that arrive at this port are balanced, those that are sent to the "+
			"bridge's MAC, %s; packets to backends leave by the bridge, in generic mode only. To balance what arrives at any port, attach to %s",
			i.Name, m.Name, net.HardwareAddr(m.MAC[:]), m.Name)
	}
	return fmt.Sprintf("%s is a member of %s, a %s: only frames that arrive at this member are balanced, and answers to clients leave by it, "+
		"whatever the %s would choose. To balance what arrives at any member, attach to %s", i.Name, m.Name, m.Kind, m.Kind, m.Name)
}

func tagNotice(i nexthop.Interface) string {
	on := strings.Join(i.VLANs, ", ")
	if i.Kind == "veth" {
		peer := i.PeerName
		if peer == "" {
			peer = "PEER"
		}
		return fmt.Sprintf("frames in the VLANs of %s reach XDP without their tags, and are taken for untagged ones; run, at the other end of %s: "+
			"ethtool -K %s txvlan off", on, i.Name, peer)
	}
	return fmt.Sprintf("%s takes the VLAN tags off frames before XDP sees them (rx-vlan-offload), so that those in the VLANs of %s are taken "+
		"for untagged ones; run: ethtool -K %s rxvlan off", i.Name, on, i.Name)
}

func redirectHint(out nexthop.Out) string {
	switch out.Kind {
	case "veth":
		return ": turn GRO on at the other end of this veth (off and on, if it is on)"
	case "":
		return ": many drivers take it only while an XDP program is attached: name it among the interfaces"
	}
	return ": a " + out.Kind + " cannot take it"
}
