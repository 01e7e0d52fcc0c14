package daemon

import (
	"fmt"
	"slices"

	"github.com/tinylb/tinylb/internal/datapath"
	"github.com/tinylb/tinylb/internal/lb"
)

// warnOfMergedPackets names the interfaces that packets may come to as the sender's
// kernel (TSO) or ours (GRO) has merged them, though a service needs them one by one.
func (d *daemon) warnOfMergedPackets() {
	attached, err := datapath.Attached(d.pins)
	if err != nil { // the next attempt to attach says so
		return
	}
	services, what := resizing(d.config.Services), "to be encapsulated or translated between IPv4 and IPv6"
	if len(attached) > 1 { // the kernel's redirect in generic mode minds the MTU
		services, what = names(d.config.Services), "to leave by another interface"
	}
	if len(services) == 0 {
		return
	}
	for _, a := range attached {
		if a.Mode == lb.ModeGeneric && a.Alive() {
			d.Log.Warn(fmt.Sprintf("in generic mode the kernel drops merged packets that are %s; "+
				"run: ethtool -K %s gro off, and at the other end of a veth: ethtool -K PEER tso off; or set mode: native", what, a.Name),
				"interface", a.Name, "services", services)
		}
	}
}

func names(services []lb.Service) []string {
	var all []string
	for _, s := range services {
		all = append(all, s.Name)
	}
	return all
}

// resizing names the services that put other headers around or before what packets
// carry.
func resizing(services []lb.Service) []string {
	var names []string
	for _, s := range services {
		otherFamily := func(b lb.Backend) bool { return b.Address.Addr().Is4() != s.Address.Addr.Is4() }
		if s.Forward.Tunnels() || s.Forward == lb.ForwardNAT && slices.ContainsFunc(s.Backends, otherFamily) {
			names = append(names, s.Name)
		}
	}
	return names
}
