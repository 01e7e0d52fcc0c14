package reconcile

import (
	"net/netip"
	"slices"

	"github.com/tinylb/tinylb/internal/lb"
)

// host is what SetHost was told.
type host struct {
	addresses []netip.Addr // sorted, without duplicates
	isNew     bool         // since the last time that the tables followed
}

func newHost(addresses []netip.Addr) *host {
	return &host{addresses: sortedOnce(slices.Clone(addresses)), isNew: true}
}

func (h *host) has(addresses []netip.Addr) bool {
	return slices.Equal(h.addresses, sortedOnce(slices.Clone(addresses)))
}

func (h *host) owns(a netip.Addr) bool {
	_, found := slices.BinarySearchFunc(h.addresses, a, netip.Addr.Compare)
	return found
}

// setForeign says which of the VIPs are no addresses of the host, and what is answered for them.
func (r *Reconciler) setForeign(vips map[netip.Addr]bool) error {
	if r.host == nil {
		return nil
	}
	wanted := func(vip netip.Addr) bool {
		_, exists := vips[vip]
		return exists && !r.host.owns(vip) && r.settings.answers != lb.VIPAnswers{}
	}
	for vip := range r.actual.foreignVIPs {
		if !wanted(vip) {
			if err := drop(r.actual.foreignVIPs, vip, r.tables.DeleteForeignVIP); err != nil {
				return err
			}
		}
	}
	for vip := range vips {
		if wanted(vip) {
			if err := put(r.actual.foreignVIPs, vip, r.settings.answers, same, r.tables.PutForeignVIP); err != nil {
				return err
			}
		}
	}
	return nil
}

// AnsweredVIPs lists the VIPs that the data plane tells neighbours the MAC of, sorted.
func (r *Reconciler) AnsweredVIPs() (vips []netip.Addr) {
	for vip, answers := range r.actual.foreignVIPs {
		if answers.Neighbours {
			vips = append(vips, vip)
		}
	}
	return sortedOnce(vips)
}
